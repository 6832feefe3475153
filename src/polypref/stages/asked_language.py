"""Whether a prompt asks for an answer in another language than its own ("Translate into German", "en francés").

A small reader, not an understanding one: it looks for the name of another language where an instruction would put it.
It errs towards yes, since a yes only means that the answers to that prompt pass the language check.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final

from polypref import languages
from polypref.records import Example
from polypref.stages.prompt_instruction import plain

NAMED: Final = (
    "af am ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gu ha he hi hr hu hy id ig is it ja jv ka kk "
    "km ko ku la lo lt lv mk ml mn mr ms my nb ne nl no pa pl ps pt ro ru sa sk sl so sq sr sv sw ta te th tl tr uk ur "
    "uz vi xh yi yo zh zu"
)
"""Languages whose names are looked for."""

ENGLISH_NOUN: Final = (
    r"(?=\s*(?:$|[^\w\s]|(?:and|or|to|for|please|using|with|that|about|then|so|as|instead|only|could|can|but|because|language|translation|"
    r"version|words?|sentences?|text|grammar|vocabulary|lessons?|speak\w*)\b))"
)
"""English names of languages are adjectives too, so what follows counts: "in French cuisine" asks for no French."""

_ENGLISH: Final = (
    r"\b(?:in|into|to|using|speak\w*|learn\w*|teach\w*|practi[cs]\w*|study\w*|[A-Za-z]*translat\w*)"
    r"\s+(?:the\s+)?(?:(?:[a-z]+|Modern|Simplified|Traditional|Brazilian|Old|Middle|British|American)\s+)?(?:{names})\b"
    + ENGLISH_NOUN
)

_PATTERNS: Final[Mapping[str, str]] = {
    "ar": r"(?:ب|إلى |اللغة )(?:{names})",
    "bn": r"(?:{names})(?:তে|য়| ভাষা)",
    "de": r"(?<!\w)(?:auf|ins|in) (?:{names})(?!\w)",
    "es": r"(?<!\w)(?:en|al|hablar|aprender|traduc\w+ a) (?:{names})(?!\w)",
    "fr": r"(?<!\w)(?:en|au|parler|apprendre l[e’']) ?(?:{names})(?!\w)",
    "it": r"(?<!\w)(?:in|parlare) (?:{names})(?!\w)",
    "ja": r"(?:{names})",
    "ko": r"(?:{names})",
    "nl": r"(?<!\w)(?:in het|naar het|in) (?:{names})(?!\w)",
    "pt": r"(?<!\w)(?:em|para o|para) (?:{names})(?!\w)",
    "ru": r"(?<!\w)(?:на|по)[ -](?:{names})",
    "sw": r"(?<!\w)(?:{names})(?!\w)",
    "th": r"ภาษา(?:{names})",
    "zh": r"(?:{names})",
}
"""How other languages ask for one. A language without an entry is read in the pivot's prompt alone."""

_ANY_OTHER: Final = re.compile(
    r"\b(?:another|a second|second|different|foreign|other|multiple|several|two|three|many)\s+languages?\b", re.I
)


def asks_other_language(example: Example, lang: str, pivot: str) -> bool:
    """Whether the prompt in ``lang``, or the same prompt in the pivot, names another language as one would ask for it.

    Only what the user says is read, in every turn; an instruction that the run put there ("answer in English") is not.
    """
    example = plain(example)
    return any(
        _asks(str(message["content"]), tag, lang)
        for tag in dict.fromkeys((lang, pivot))
        for message in example.prompts.get(tag, ())
        if message["role"] == "user"
    )


def _asks(text: str, written_in: str, lang: str) -> bool:
    own = languages.primary(lang)
    if languages.primary(written_in) == "en" and _ANY_OTHER.search(text):
        return True
    pattern, codes = _pattern(languages.primary(written_in))
    return pattern is not None and any(codes[match.lastgroup or ""] != own for match in pattern.finditer(text))


@functools.cache
def _pattern(written_in: str) -> tuple[re.Pattern[str] | None, dict[str, str]]:
    """What finds a language that is asked for in a text of ``written_in``, and the code of each of its groups."""
    import langcodes

    form = _ENGLISH if written_in == "en" else _PATTERNS.get(written_in)
    if form is None:
        return None, {}
    named = {f"l_{code}": langcodes.Language.get(code).display_name(written_in) for code in NAMED.split()}
    if written_in == "ru":
        # Adjectives: «на французском», «по-французски».
        named = {group: name.removesuffix("ий") for group, name in named.items() if name.endswith("ский")}
    names = "|".join(f"(?P<{group}>{re.escape(name)})" for group, name in named.items())
    return re.compile(form.replace("{names}", names), 0 if written_in == "en" else re.I), {g: g[2:] for g in named}
