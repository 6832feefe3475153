"""Which candidates may compete for a pair, and why the others may not.

Reasons of a dropped candidate: ``failed`` (it has an error, or an earlier stage dropped it), ``empty``, ``truncated``
(it ended at the token limit, so it is no whole answer), ``language`` (it is in another language than its prompt).
A translation is no answer of the model to the prompt in that language: it does not compete, and that is no drop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import Field

from polypref import languages
from polypref.backends.base import Context, LanguageIdentifier, Options
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, live
from polypref.stages.asked_language import asks_other_language

STAGE = "pair"

Verdict = Literal["right", "wrong", "undetermined", "asks_other_language", "unchecked"]
"""What the language check says of an answer; all but ``wrong`` pass."""

Reasons: TypeAlias = dict[tuple[str, str], str]
"""(example id, candidate id): why the candidate may not stand in a pair."""


class FilterOptions(Options):
    """What may not compete. Other stages' options derive from it."""

    language_check: bool = Field(True, description="drop answers in another language than their prompt")
    language_identifier: str | None = Field(None, description="the run's own when left out")
    drop_truncated: bool = Field(True, description="drop answers that ended at the token limit")
    drop_empty: bool = Field(True, description="drop answers without text")


@dataclass(frozen=True, slots=True)
class Contest:
    """One example's candidates of one language: those left after the filters, in the example's order, and the drops.
    ``excluded`` says why nobody could compete at all (``no_prompt``, ``translated``)."""

    example: Example
    lang: str
    candidates: Sequence[Candidate]
    drops: Sequence[Drop]
    excluded: str | None = None


class Filters:
    """The filters of one stage; the language identifier stays open and warnings are given once.

    Args:
        score: the score that every candidate needs, None when the stage looks at none.
    """

    def __init__(self, score: str | None, options: FilterOptions, context: Context) -> None:
        self.score, self.options, self.context = score, options, context
        self._identifier: LanguageIdentifier | None = None
        if options.language_check:
            self._identifier = context.open("language_identifier", options.language_identifier)
        self.told_by_script = by_script(self._identifier)
        self._warned: set[str] = set()

    def contests(self, chunk: Sequence[Example]) -> list[list[Contest]]:
        """For each example its contests, one a language that has candidates; the texts are identified in one batch.

        Raises:
            InputError: a candidate that did not fail lacks the score.
        """
        verdicts = self.verdicts(chunk)
        return [[self._contest(e, lang, verdicts) for lang in candidate_languages(e)] for e in chunk]

    def reasons(self, chunk: Sequence[Example]) -> Reasons:
        """Why candidates may not stand in a pair, by (example id, candidate id); the others are left out."""
        verdicts = self.verdicts(chunk)
        out: Reasons = {}
        for example in chunk:
            earlier = _dropped_before(example)
            for candidate in example.candidates:
                key = (example.id, candidate.id)
                if reason := self._reason(candidate, earlier, verdicts.get(key)):
                    out[key] = reason
        return out

    def _contest(self, example: Example, lang: str, verdicts: Mapping[tuple[str, str], Verdict]) -> Contest:
        if lang not in example.prompts:
            return Contest(example, lang, [], [], "no_prompt")
        competing = [c for c in example.candidates if c.lang == lang and competes(c)]
        earlier = _dropped_before(example)
        kept: list[Candidate] = []
        drops: list[Drop] = []
        for candidate in competing:
            reason = self._reason(candidate, earlier, verdicts.get((example.id, candidate.id)))
            if reason != "failed":
                self._need_score(example, candidate)
            if reason:
                drops.append(Drop(STAGE, reason, lang, candidate.id))
            else:
                kept.append(candidate)
        return Contest(example, lang, kept, drops, None if competing else "translated")

    def _reason(self, candidate: Candidate, earlier: Collection[str], verdict: Verdict | None) -> str | None:
        if not live(candidate) or candidate.id in earlier:
            return "failed"
        if self.options.drop_empty and not candidate.text.strip():
            return "empty"
        if self.options.drop_truncated and candidate.finish_reason == "length":
            return "truncated"
        return "language" if verdict == "wrong" else None

    def _need_score(self, example: Example, candidate: Candidate) -> None:
        if self.score is None or self.score in candidate.scores:
            return
        known = f", or name one that it has: {', '.join(sorted(candidate.scores))}" if candidate.scores else ""
        raise InputError(
            f"candidate {candidate.id!r} of example {example.id!r} has no score {self.score!r}; score it first{known}"
        )

    def verdicts(self, chunk: Sequence[Example]) -> dict[tuple[str, str], Verdict]:
        """What the language check says, by (example id, candidate id); nothing without the check."""
        if self._identifier is None:
            return {}
        checked = [
            (example, candidate)
            for example in chunk
            for candidate in example.candidates
            if live(candidate) and candidate.text.strip() and candidate.lang in example.prompts
        ]
        found = self._identifier.identify([candidate.text for _, candidate in checked])
        asks: dict[tuple[str, str], bool] = {}
        verdicts: dict[tuple[str, str], Verdict] = {}
        for (example, candidate), told in zip(checked, found, strict=True):
            lang = candidate.lang
            if (example.id, lang) not in asks:
                asks[example.id, lang] = asks_other_language(example, lang, self.context.pivot)
            verdicts[example.id, candidate.id] = self._verdict(told.tag, lang, asks[example.id, lang])
        return verdicts

    def _verdict(self, found: str | None, lang: str, asks_other: bool) -> Verdict:
        if lang not in (*self.context.languages, self.context.pivot):
            self._warn(
                f"{lang} is none of the run's languages, so all its answers pass the language check; name it among them"
            )
            return "unchecked"
        if lang in self.told_by_script:
            self._warn(f"the language identifier does not know {lang}: its answers are checked by their script alone")
        if asks_other:
            return "asks_other_language"
        return language_verdict(found, lang, self.told_by_script)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self.context.warn(message)


def language_verdict(found: str | None, lang: str, told_by_script: Collection[str] = ()) -> Verdict:
    """What an identified tag says of an answer in ``lang``: judged by the language (``zh`` fits ``zh-Hans``), or by
    the script for a language that the identifier knows no more of."""
    if found is None:
        return "undetermined"
    if languages.same(found, lang):
        return "right"
    if lang in told_by_script and languages.script(found) == languages.script(lang):
        return "undetermined"
    return "wrong"


def by_script(identifier: LanguageIdentifier | None) -> frozenset[str]:
    """The languages that an identifier tells by their script alone; none unless it says so."""
    return frozenset(getattr(identifier, "by_script", ()))


def candidate_languages(example: Example) -> list[str]:
    """The languages of the candidates: the prompts' order, then those without a prompt."""
    found = dict.fromkeys(candidate.lang for candidate in example.candidates)
    return [lang for lang in example.prompts if lang in found] + [lang for lang in found if lang not in example.prompts]


def _dropped_before(example: Example) -> frozenset[str]:
    return frozenset(drop.candidate for drop in example.dropped if drop.stage != STAGE and drop.candidate is not None)


def competes(candidate: Candidate) -> bool:
    """Whether a candidate is an answer to the prompt in its language: a translation is not."""
    return candidate.origin != "translated"
