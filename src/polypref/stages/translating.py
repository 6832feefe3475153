"""Texts into translations, as candidates and prompts share it: in pieces that fit, and checked for their language."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from polypref.backends.base import Context, LanguageIdentifier, Options
from polypref.backends.translation import Translation, TranslationRequest, Translator, TranslatorSpec
from polypref.records import Example
from polypref.stages.asked_language import asks_other_language
from polypref.stages.pair_filters import by_script, language_verdict
from polypref.stages.passages import Piece, pieces

STAGE = "translate"
"""The stage that drops are of, whatever was to be translated."""

NUMBERS_LOST = "numbers_lost"
"""Where a translation says which numbers of its source it lacks. It is told, and the translation stands."""

_SHORTEST = 64
"""Characters under which a piece that is still too long for the window is not cut again."""


class TranslatingOptions(Options):
    """Who translates, in how large pieces, and whether the language is checked. Stages' options derive from it."""

    BESIDE = frozenset({"chunk"})

    translator: TranslatorSpec
    language_check: bool = Field(True, description="a translation in another language than asked for is a failure")
    language_identifier: str | None = Field(None, description="left out: the run's own")
    by_paragraph: Literal["auto", "on", "off"] = Field(
        "auto", description="auto: a text goes in pieces where it is too long for the model's window"
    )
    max_characters: int = Field(2000, gt=0, description="of one piece; a longer sentence is not cut")
    chunk: int = Field(256, gt=0, description="examples that are translated at once")


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A text of an example and its way; ``id`` names it in messages."""

    id: str
    text: str
    source: str
    target: str
    example: Example


@dataclasses.dataclass(slots=True)
class _Job:
    """One text on its way: its pieces, and what became of them."""

    asked: Text
    parts: list[Piece] = dataclasses.field(default_factory=list)
    done: list[Translation] = dataclasses.field(default_factory=list)

    @property
    def failed(self) -> Translation | None:
        return next((t for t in self.done if t.error), None)

    def result(self) -> Translation:
        """The pieces put together, or the first of their failures."""
        if failed := self.failed:
            return failed
        sent = iter(self.done)
        text = "".join(str(next(sent).text) if part.prose else part.text for part in self.parts)
        return Translation(text) if text.strip() else Translation(None, "empty")


class Translating:
    """A stage's translator and language check, opened once."""

    def __init__(self, options: TranslatingOptions, context: Context) -> None:
        self._options, self._context = options, context
        self._translator: Translator = context.open("translator", options.translator)
        self._identifier: LanguageIdentifier | None = None
        if options.language_check:
            self._identifier = context.open("language_identifier", options.language_identifier)
        self._told_by_script = by_script(self._identifier)
        self._unchecked: set[str] = set()

    def translate(self, texts: Sequence[Text]) -> list[Translation]:
        """One ``Translation`` a text, in order. Code blocks are not sent and stay as they are.

        A failure has the reason of its first piece that failed, or ``wrong_language``.
        """
        jobs = [_Job(text) for text in texts]
        self._send(jobs)
        return self._judged(texts, [job.result() for job in jobs])

    def _send(self, jobs: Sequence[_Job]) -> None:
        """Translate every job's pieces; what is too long for the window is cut finer and finer, unless that is off."""
        options = self._options
        longest = options.max_characters if options.by_paragraph == "on" else None
        left = list(jobs)
        while left:
            for job in left:
                job.parts = pieces(job.asked.text, longest)
            requests = [
                TranslationRequest(f"{job.asked.id}/{number}", part.text, job.asked.source, job.asked.target)
                for job in left
                for number, part in enumerate(job.parts)
                if part.prose
            ]
            answers = iter(self._translator.translate(requests) if requests else [])
            for job in left:
                job.done = [next(answers) for part in job.parts if part.prose]
            longest = options.max_characters if longest is None else longest // 2
            left = [job for job in left if job.failed is not None and job.failed.reason == "too_long"]
            if options.by_paragraph == "off" or longest < _SHORTEST:
                return

    def _judged(self, texts: Sequence[Text], results: Sequence[Translation]) -> list[Translation]:
        """The results, those in the wrong language as failures."""
        if self._identifier is None:
            return list(results)
        found = self._identifier.identify([result.text or "" for result in results])
        return [
            Translation(None, f"wrong_language: {told.tag}")
            if result.text is not None
            and self._checked(text.target)
            and language_verdict(told.tag, text.target, self._told_by_script) == "wrong"
            and not self._may_hold_another(text)
            else result
            for text, result, told in zip(texts, results, found, strict=True)
        ]

    def _checked(self, target: str) -> bool:
        """The identifier looks among the languages of the context, so it cannot tell any other one."""
        if target in (*self._context.languages, self._context.pivot):
            return True
        if target not in self._unchecked:
            self._unchecked.add(target)
            self._context.warn(
                f"{target} is none of the run's languages, so translations into it are not checked for their language; "
                "name it among them"
            )
        return False

    def _may_hold_another(self, text: Text) -> bool:
        """An answer to "say this in German" is in German, and so is its translation."""
        pivot = self._context.pivot
        return any(asks_other_language(text.example, tag, pivot) for tag in text.example.prompts)
