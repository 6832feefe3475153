"""Translate preference and SFT sets: prompts, their answers, and what is known of them, from one language into others.

"Translate-train" of Hong et al. 2024 (arXiv 2410.18027) and of Wu et al. 2024 (arXiv 2404.12318), and the latter's
back-translation, ℓ → pivot → ℓ, in the stead of ℓ's own data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import Field, model_validator

from polypref.backends.base import Context, Tag, batches
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, live
from polypref.stages.carry_over import STAGE, carried_over, follow, sent
from polypref.stages.preference_prompts import BACK_MARK, back_translated_prompts, translated_prompts
from polypref.stages.preference_sets import PreferenceSet, lacking, preference_set
from polypref.stages.translate import with_children
from polypref.stages.translate_prompts import marks_of
from polypref.stages.translating import NUMBERS_LOST, Text, Translating
from polypref.stages.translating import STAGE as TRANSLATE
from polypref.stages.translation_filters import (
    ROUND_TRIP_FAILED,
    TranslationFilterOptions,
    lost_notes,
    refused,
    round_trip_notes,
)
from polypref.stages.translation_quality import METRIC as CHRF

VERSION: int = 1

__all__ = ["STAGE", "VERSION", "TranslatePreferencesOptions", "translate_preferences"]


class TranslatePreferencesOptions(TranslationFilterOptions):
    """Which languages a preference or SFT set is to exist in, who translates it, and what is good enough."""

    languages: tuple[Tag, ...] = Field(
        min_length=1, description="that the set is translated into; with back, those whose own data goes and comes back"
    )
    source: Tag | None = Field(
        None, description="whose data is translated; with back, the language between; left out: the pivot"
    )
    back: bool = Field(False, description="replace the data of languages by its back-translation through source")
    role: str | None = Field(None, description="the model that translations are said to be of")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> TranslatePreferencesOptions:
        if set(self.languages) == {self.source}:
            raise ValueError(f"languages names {self.source} alone, which is the source; name another one")
        return self

    def ways(self, pivot: str) -> dict[str, tuple[str, ...]]:
        """Each language that gets data → the languages from its source to it: ``(source, ℓ)``, or ``(ℓ, source, ℓ)``
        with ``back``. The source itself is passed over.

        Raises:
            InputError: no other language is left.
        """
        source = self.source or pivot
        others = [lang for lang in dict.fromkeys(self.languages) if lang != source]
        if not others:
            raise InputError(f"the set is to be translated from {source} into {source} alone; name another language")
        return {lang: (lang, source, lang) if self.back else (source, lang) for lang in others}


def translate_preferences(
    examples: Iterable[Example], options: TranslatePreferencesOptions, context: Context
) -> Iterator[Example]:
    """Give every example in each language what it has in the source: the prompt, the answers, their pairs and labels.

    Of an example go the answers of its pairs, those with a label, or where it has neither, those that demonstrate
    (origin human, reference or none): an SFT set. What a language has of its own, of the same kind, stays, and it gets
    none. A pair is carried over (rule ``translated``, with score and margin) when both of its answers are; labelled
    answers that differ in their labels are one comparison, and carried over together or not at all; others one by one.
    Where the prompt is lacking and cannot be made, nothing is. Whatever is not carried over is a drop with its reason.
    An answer that a filter refuses keeps its text and has an ``error``.

    With ``back``, each language's own set goes into the source and comes back, and is replaced: its prompt (the old
    one is kept in ``back_translated_prompts``), its pairs (rule ``back_translated``) and labels. Its answers stay as
    the parents of what replaces them, each with a drop that holds its label. What fails leaves the set as well, so
    that it holds back-translations alone.

    What is translated already stays, so running it again adds nothing.

    Raises:
        InputError: there is no language to translate into, or a field that this stage writes is of another kind.
    """
    ways = options.ways(context.pivot)
    translating = Translating(options, context)
    done = 0
    for chunk in batches(examples, options.chunk):
        yield from _Work(options, ways, translating, {e.id: _sets(e, ways) for e in chunk}).done(chunk)
        done += len(chunk)
        context.progress(STAGE, done, None)


def _sets(example: Example, ways: Mapping[str, tuple[str, ...]]) -> dict[str, PreferenceSet]:
    """What each language is to get, where there is anything."""
    found = {}
    for lang, way in ways.items():
        if way[0] != lang:
            found[lang] = lacking(example, way[0], lang)
        elif lang in example.prompts and lang not in marks_of(example, BACK_MARK):
            found[lang] = preference_set(example, lang)
    return {lang: data for lang, data in found.items() if data}


_Made: TypeAlias = tuple[Example, Candidate, Candidate]
"""An example, an answer of it, and the answer's translation."""

_Wanted: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]
"""By example and candidate, the languages that one step translates it into."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Work:
    """A chunk's work; ``sets`` holds by example and language what is translated."""

    options: TranslatePreferencesOptions
    ways: Mapping[str, tuple[str, ...]]
    translating: Translating
    sets: Mapping[str, Mapping[str, PreferenceSet]]

    def done(self, chunk: Sequence[Example]) -> Iterator[Example]:
        """The examples with prompts, then answers, then what is known of these."""
        for example in self._judged(self._with_answers(self._with_prompts(chunk))):
            for lang, data in self.sets[example.id].items():
                example = carried_over(example, data, self.ways[lang], prompted=self._prompted(example, lang))
            yield example

    def _with_prompts(self, chunk: Sequence[Example]) -> list[Example]:
        source = next(iter(self.ways.values()))[-2]
        make = back_translated_prompts if self.options.back else translated_prompts
        return make(chunk, source, lambda e: [*self.sets[e.id]], self.translating, self.options.role, self.options)

    def _prompted(self, example: Example, lang: str) -> bool:
        """Whether the prompt of the translations is there: with ``back``, whether the old one was replaced."""
        stands = self.options.back and "failed" in marks_of(example, BACK_MARK)[lang]
        return lang in example.prompts and not stands

    def _with_answers(self, chunk: Sequence[Example]) -> Sequence[Example]:
        for step in range(1, len(next(iter(self.ways.values())))):
            wanted = {example.id: self._wanted(example, step) for example in chunk}

            def targets(example: Example, candidate: Candidate, wanted: _Wanted = wanted) -> Sequence[str]:
                return wanted[example.id].get(candidate.id, ())

            chunk = with_children(chunk, targets, self.translating, self.options.role)
        return chunk

    def _wanted(self, example: Example, step: int) -> dict[str, list[str]]:
        """Which candidates a step of the ways translates, and into what."""
        out: dict[str, list[str]] = {}
        for lang, data in self.sets[example.id].items():
            way = self.ways[lang]
            for answer in sent(example, data, way[0]) if self._prompted(example, lang) else ():
                arrived = follow(example, answer, way[1:step])
                if arrived is not None:
                    out.setdefault(arrived.id, []).append(way[step])
        return out

    def _judged(self, chunk: Sequence[Example]) -> list[Example]:
        """The examples with notes on their translated answers, and an error on those that are refused."""
        made = [made for example in chunk for made in self._made(example)]
        noted = self._notes(made)
        new: dict[tuple[str, str], Candidate] = {}
        drops: dict[str, list[Drop]] = {}
        for example, answer, child in made:
            extra = noted.get((example.id, child.id), child.extra)
            why = refused(answer.text, child.text, (answer.lang, child.lang), extra, self.options)
            new[example.id, child.id] = dataclasses.replace(child, extra=extra, error=why)
            if why:
                drop = Drop(TRANSLATE, why.partition(":")[0], child.lang, child.id)
                drops.setdefault(example.id, []).append(drop)
        return [
            dataclasses.replace(
                example,
                candidates=[new.get((example.id, c.id), c) for c in example.candidates],
                dropped=[*example.dropped, *drops.get(example.id, ())],
            )
            for example in chunk
        ]

    def _made(self, example: Example) -> Iterator[_Made]:
        for lang, data in self.sets[example.id].items():
            way = self.ways[lang]
            for answer in sent(example, data, way[0]) if self._prompted(example, lang) else ():
                child = follow(example, answer, way[1:])
                if child is not None and live(child):
                    yield example, answer, child

    def _notes(self, made: Sequence[_Made]) -> dict[tuple[str, str], dict[str, Any]]:
        """What is noted of the translations anew, by example and translation."""
        if self.options.back:
            # What the way back lost of the way there says little; what both lost of the original does.
            return {
                (e.id, c.id): _without(c.extra, NUMBERS_LOST)
                | lost_notes(a.text, c.text)
                | round_trip_notes(a.text, c.text)
                for e, a, c in made
            }
        if not self.options.round_trip and self.options.min_chrf is None:
            return {}
        asked = [(e, a, c) for e, a, c in made if CHRF not in c.extra]
        back = self.translating.translate([Text(f"{c.id}>{a.lang}", c.text, c.lang, a.lang, e) for e, a, c in asked])
        return {
            (e.id, c.id): _without(c.extra, ROUND_TRIP_FAILED)
            | round_trip_notes(a.text, returned.text, returned.reason)
            for (e, a, c), returned in zip(asked, back, strict=True)
        }


def _without(extra: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in extra.items() if key != name}
