"""Translation: what a translator is, and the model itself as one (LIDR, Yang et al. 2024, arXiv 2410.08964, §3).

The model is shown the text between ``<sentence>`` tags and asked for the translation between ``<translated>`` tags,
the first of which already opens its turn. A translation whose closing tag is missing is none: what stands there may be
half of it, a refusal or small talk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field, field_validator, model_validator

from polypref import languages
from polypref.backends.base import Completion, Generator, ModelSpec, Options, Request, Sampling, Tag

SOURCE_TAG = "sentence"
TRANSLATED_TAG = "translated"
PROMPT = (
    "Please translate from {source} into {target} whatever stands between the <sentence> tags. It is a text to be "
    "translated, not a question to you: do not answer it, explain it or add to it. Keep its meaning, its tone, its "
    "lines and lists, its markup and its numbers. Write the translation, and nothing else, between <translated> tags."
    "\n\n<sentence>{text}</sentence>"
)


class TranslatorOptions(Options):
    """How a model translates."""

    method: Literal["tagged", "seq2seq"] = Field(
        "tagged", description="tagged: a chat model asked in words; seq2seq: MADLAD-400, NLLB, M2M-100"
    )
    prompt: str = Field(PROMPT, description="of tagged; {text} and, where wanted, {source} and {target} are filled in")
    prefill: bool | None = Field(
        None, description="open the model's turn with <translated>; left out: yes, but not on a server"
    )
    max_tokens: int = Field(4096, gt=0, description="tokens of one translation; one that is cut there is a failure")
    repetition_penalty: float | None = Field(None, gt=0, description="1 is none")
    beams: int = Field(1, gt=0, description="of seq2seq; 1 is greedy")
    codes: dict[Tag, str] = Field(
        default_factory=dict, description="of seq2seq: how the model writes a language, where it is not found"
    )

    @field_validator("prompt")
    @classmethod
    def _fields(cls, value: str) -> str:
        try:
            shown = value.format(source="Spanish", target="English", text="\0")
        except (KeyError, IndexError, ValueError):
            raise ValueError(
                "may hold {source}, {target} and {text} and no other braces; write {{ for a brace"
            ) from None
        if shown.count("\0") != 1:
            raise ValueError("must hold {text}, once: where the text to be translated stands")
        return value


class TranslatorSpec(TranslatorOptions):
    """Who translates, and how."""

    model: ModelSpec = Field(description="a generator for method tagged; a folder or hub name for seq2seq")

    @model_validator(mode="after")
    def _method_has_a_backend(self) -> TranslatorSpec:
        if self.method == "seq2seq" and self.model.backend != "hf":
            raise ValueError(f"method seq2seq runs in transformers alone, not in {self.model.backend}; say backend: hf")
        if self.method == "seq2seq" and self.model.adapter is not None:
            raise ValueError(f"method seq2seq opens no adapter, such as {self.model.adapter}; merge it into the model")
        return self

    @property
    def opens_turn(self) -> bool:
        """Whether the model's turn is opened with the tag."""
        return self.model.backend != "openai" if self.prefill is None else self.prefill


@dataclass(frozen=True, slots=True)
class TranslationRequest:
    """A text and its way, as BCP-47 tags; ``id`` names it in messages."""

    id: str
    text: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Translation:
    """A translation, or ``text`` None and why there is none.

    ``error`` is a reason in one word, and after a colon whatever else is known: ``no_closing_tag``,
    ``no_opening_tag``, ``empty``, ``truncated``, ``holds_tags`` (the text to be translated itself), ``too_long`` (for
    the model's window) or ``failed``.
    """

    text: str | None
    error: str | None = None

    @property
    def reason(self) -> str | None:
        """The error's first word."""
        return None if self.error is None else self.error.partition(":")[0]


@runtime_checkable
class Translator(Protocol):
    """Translates texts."""

    fingerprint: str

    def translate(self, requests: Sequence[TranslationRequest]) -> list[Translation]:
        """One ``Translation`` per request, in order."""
        ...


class TaggedTranslator:
    """A ``Translator`` that asks a ``Generator`` in words, greedily; its turn is opened with the tag."""

    def __init__(self, generator: Generator, spec: TranslatorSpec) -> None:
        self._generator, self._spec = generator, spec
        self._sampling = Sampling(
            n=1, temperature=0.0, max_tokens=spec.max_tokens, repetition_penalty=spec.repetition_penalty
        )
        asked = json.dumps([spec.prompt, spec.opens_turn, spec.max_tokens, spec.repetition_penalty])
        digest = hashlib.sha256(asked.encode()).hexdigest()[:12]
        self.fingerprint: str = f"tagged:{digest}:{generator.fingerprint}"

    def translate(self, requests: Sequence[TranslationRequest]) -> list[Translation]:
        """One ``Translation`` per request, in order. A text that holds one of the tags cannot be asked for in them."""
        out = [Translation(None, "holds_tags: the text itself") if _tagged(r.text) else None for r in requests]
        asked = [r for r, done in zip(requests, out, strict=True) if done is None]
        answers = iter(self._generator.generate([self._request(r) for r in asked], self._sampling) if asked else [])
        return [done or read_tagged(next(answers)[0], opened=self._spec.opens_turn) for done in out]

    def _request(self, request: TranslationRequest) -> Request:
        prompt = self._spec.prompt.format(
            source=languages.name(request.source), target=languages.name(request.target), text=request.text
        )
        return Request(
            id=f"{request.id}/{request.target}",
            messages=[{"role": "user", "content": prompt}],
            prefill=f"<{TRANSLATED_TAG}>" if self._spec.opens_turn else "",
        )


def _tagged(text: str) -> bool:
    return any(f"<{slash}{tag}>" in text for tag in (SOURCE_TAG, TRANSLATED_TAG) for slash in ("", "/"))


def read_tagged(completion: Completion, *, opened: bool) -> Translation:
    """What a completion translates to: the text up to the first closing tag, and from the first opening one.

    Args:
        opened: the opening tag stood in the prompt; the model may still repeat it at its start. Otherwise it must
            write it, and what it says before is no translation.
    """
    if completion.error is not None:
        kind = "too_long" if completion.too_long else "failed"
        return Translation(None, f"{kind}: {completion.error}")
    opening, closing = f"<{TRANSLATED_TAG}>", f"</{TRANSLATED_TAG}>"
    text = completion.text
    if opened and text.lstrip().startswith(opening):
        text = text.lstrip()[len(opening) :]
    elif not opened:
        _, found, text = text.partition(opening)
        if not found:
            return Translation(None, "truncated" if completion.finish_reason == "length" else "no_opening_tag")
    text, closed, _ = text.partition(closing)
    if not closed:
        return Translation(None, "truncated" if completion.finish_reason == "length" else "no_closing_tag")
    text = text.strip()
    return Translation(text) if text else Translation(None, "empty")


class RememberingTranslator:
    """A ``Translator`` that asks another for each (text, language pair) once.

    ``memory`` may be shared and outlive the translators; it holds whole translations alone, so that what failed is
    asked for again by a later call, and grows no further than ``characters``.
    """

    def __init__(self, translator: Translator, memory: Memory | None = None) -> None:
        self._translator = translator
        self._memory = memory if memory is not None else Memory()
        self.fingerprint: str = translator.fingerprint

    def translate(self, requests: Sequence[TranslationRequest]) -> list[Translation]:
        """One ``Translation`` per request, in order; equal requests have equal ones."""
        keys = [(self.fingerprint, r.source, r.target, r.text) for r in requests]
        new: dict[tuple[str, str, str, str], TranslationRequest] = {}
        for key, request in zip(keys, requests, strict=True):
            if key not in self._memory:
                new.setdefault(key, request)
        fresh = dict(zip(new, self._translator.translate(list(new.values())) if new else [], strict=True))
        found = [fresh.get(key) or Translation(self._memory[key]) for key in keys]
        for key, translation in fresh.items():
            if translation.text is not None:
                self._memory.keep(key, translation.text)
        return found


class Memory(dict[tuple[str, str, str, str], str]):
    """(translator's fingerprint, source, target, text): translation; up to so many characters of text."""

    def __init__(self, characters: int = 2**26) -> None:
        super().__init__()
        self._left = characters

    def keep(self, key: tuple[str, str, str, str], translation: str) -> None:
        """Remember a translation while there is room."""
        self._left -= len(key[3]) + len(translation)
        if self._left >= 0:
            self[key] = translation
