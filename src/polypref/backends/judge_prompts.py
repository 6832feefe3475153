"""What a judge is asked: versioned prompts, and fences that no text between them can close.

A prompt is a text file with fields. ``{conversation}`` and the answers are filled in between marks that carry a code.
The code is made of the texts themselves and stands in none of them, so no answer can close its own fence and go on as
the judge's instructions. It is the same for both orders of two answers, which then differ in nothing but their order.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polypref import languages
from polypref.errors import RecipeError, did_you_mean
from polypref.records import Message

Kind = Literal["number", "pair"]
FOLDER = Path(__file__).with_name("judge_templates")
DEFAULTS: dict[str, str] = {"number": "number-1", "pair": "pair-1", "token": "pair-token-1"}
"""By what is asked for: a number, a comparison in words, a comparison in one token.

A changed prompt is a new file with a higher number, so that a name means the same text for ever.
"""
ANSWERS: dict[Kind, dict[str, str]] = {
    "number": {"answer": "answer"},
    "pair": {"first": "answer A", "second": "answer B"},
}
"""Field of an answer → what its marks call it."""
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
TOLD: dict[Kind, frozenset[str]] = {
    "number": frozenset({"language", "code", "lowest", "highest"}),
    "pair": frozenset({"language", "code"}),
}

# How the templates of common families write their control tokens. A tokenizer reads one in running text as the token
# itself: an answer could end the user's turn with it and speak as the judge.
_CONTROL = re.compile(
    r"<(?=(?i:[|｜]|/?[\w-]+[|｜]>|<?/?SYS>>"
    r"|/?(?:s|bos|eos|pad|unk|sep|cls|mask|sop|eop|eod|think|start_of_turn|end_of_turn|start_of_image)>))"
    r"|\[(?=(?i:\||g?MASK\]|IMG_BREAK\]|IMG_END\]"
    r"|/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|ARGS|CALL_ID|IMG)\]))"
)
_LETTERS = re.compile(r"\bA\b.*\bB\b", re.DOTALL)
_ZERO_WIDTH_SPACE = "\u200b"


@dataclass(frozen=True)
class JudgePrompt:
    """A prompt by its name and text; equal texts ask the same."""

    kind: Kind
    name: str
    template: str

    @property
    def bracketed(self) -> bool:
        """Whether the verdict is asked for in double square brackets, else as the first token."""
        return "[[" in self.template

    def filled(self, messages: Sequence[Message], lang: str, answers: Mapping[str, str], **told: str) -> str:
        """The whole text for a judge.

        Args:
            answers: by the fields of ``ANSWERS``.
            told: what else the prompt names (``lowest`` and ``highest`` of a scale).
        """
        turns = [(_role(str(message["role"])), _harmless(str(message["content"]))) for message in messages]
        texts = {field: _harmless(text) for field, text in answers.items()}
        code = fence_code((*(part for turn in turns for part in turn), *texts.values()))
        names = ANSWERS[self.kind]
        return self.template.format(
            conversation="\n\n".join(_fenced(role, text, code) for role, text in turns),
            language=languages.name(lang),
            code=code,
            **{field: _fenced(names[field], text, code) for field, text in texts.items()},
            **told,
        )


def judge_prompt(kind: Kind, name: str | None) -> JudgePrompt:
    """A prompt of polypref's by its name, or a user's own text file.

    Raises:
        RecipeError: there is no such prompt, or it lacks a field, has an unknown one, or asks for no verdict in double
            square brackets.
    """
    name = name or DEFAULTS[kind]
    own = FOLDER / f"{name}.txt"
    path = own if "/" not in name and own.is_file() else Path(name).expanduser()
    try:
        template = path.read_text(encoding="utf-8")
    except OSError:
        known = sorted(file.stem for file in FOLDER.glob("*.txt"))
        raise RecipeError(f"{name!r} is no judge prompt and no file; {did_you_mean(name, known)}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"judge prompt {name!r} is not UTF-8 text; save it as such") from None
    _check(kind, name, template)
    return JudgePrompt(kind, name, template)


def _check(kind: Kind, name: str, template: str) -> None:
    required = {"conversation", *ANSWERS[kind]}
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        raise RecipeError(f"judge prompt {name!r} has an open brace; write {{{{ for a brace") from None
    fields = {field for _, field, _, _ in parts if field is not None}
    plain = all(not form and not conversion for _, _, form, conversion in parts)
    if missing := sorted(required - fields):
        raise RecipeError(f"judge prompt {name!r} has no {_shown(missing)}; a {kind} judge must be shown it")
    if not plain or (unknown := sorted(fields - required - TOLD[kind])):
        what = "a formatted field" if not plain else _shown(unknown)
        raise RecipeError(
            f"judge prompt {name!r} has {what}; it may hold {_shown(sorted(required | TOLD[kind]))}, "
            "and {{ for a brace"
        )
    if "[[" not in template and not (kind == "pair" and _LETTERS.search(template)):
        verdict = "[[A]], [[B]] or [[C]] on the last line, or as A or B alone"
        verdict = verdict if kind == "pair" else "[[number]] on the last line"
        raise RecipeError(f"judge prompt {name!r} must ask for the verdict as {verdict}")


def _shown(fields: Sequence[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in fields)


def fence_code(texts: Sequence[str]) -> str:
    """A code that stands in none of the texts, whatever their order: the first of a row of hashes of them all.

    32 bits: nobody meets one by chance, and one that was met on purpose is passed over, however it is spelled: in
    capitals, in full-width digits, or with characters between that nobody sees.
    """
    return _code(tuple(sorted(texts)))


@functools.lru_cache(maxsize=8)
def _code(texts: tuple[str, ...]) -> str:
    """Kept for a moment: the two orders of a comparison have the same."""
    seed = json.dumps(texts)
    plain = [_plain(text) for text in texts]
    codes = (hashlib.sha256(f"{number}\0{seed}".encode()).hexdigest()[:8] for number in itertools.count())
    return next(code for code in codes if not any(code in text for text in plain))


def _plain(text: str) -> str:
    """What is left of ``text`` for a reader who looks for hexadecimal digits."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).encode("ascii", "ignore").decode()
    return text.casefold()


def _role(role: str) -> str:
    """What the marks of a turn call it; a role of somebody's own could pass for an answer."""
    return role if role in ROLES else "turn"


def _fenced(name: str, text: str, code: str) -> str:
    return f"<{name} {code}>\n{text}\n</{name} {code}>"


@functools.lru_cache(maxsize=32)
def _harmless(text: str) -> str:
    """``text`` with a zero-width space in what a chat template would read as a control token."""
    return _CONTROL.sub(lambda opening: opening[0] + _ZERO_WIDTH_SPACE, text)
