"""Pair by language imbalance: what the model says in its stronger language, translated, against what it says in the
weaker one, and the other way round (LIDR, Yang et al. 2024, arXiv 2410.08964, §3).

    target pair  x^ℓ : chosen y^{en→ℓ}, rejected y^ℓ
    pivot pair   x^en: chosen y^en,     rejected y^{ℓ→en}

with y^en and y^ℓ the model's own answers and y^{a→b} its own translations of them. A prompt that is itself about
translation has the untranslated y^en as its target pair's chosen answer. If either direction failed, both pairs go.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Literal

from pydantic import Field, field_validator

from polypref import languages
from polypref.backends.base import Context, batches
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, Pair
from polypref.stages.about_translation import about_translation
from polypref.stages.pair_filters import STAGE, FilterOptions, Filters, Reasons, candidate_languages, competes

VERSION = 1
RULE = "imbalance"
_CHUNK = 512


class ImbalanceOptions(FilterOptions):
    """Which language leads, and how its pairs are counted."""

    pivot: str = Field("en", description="the language whose answers, translated, are chosen")
    translation_prompts: tuple[str, ...] = Field((), description="ids of prompts that are about translation")
    detect_translation_prompts: bool = Field(
        False, description="count the prompts that ask for a translation among them; the pivot's prompt is read"
    )
    pivot_pairs: Literal["all", "one"] = Field(
        "all", description="all: one for each target language, as in the paper; one: that of the last, as released"
    )
    language_check: bool = Field(False, description="drop a language's pairs when an answer in them is off-language")

    @field_validator("pivot")
    @classmethod
    def _tag(cls, value: str) -> str:
        return languages.normalise(value)


def imbalance(
    examples: Iterable[Example], options: ImbalanceOptions, context: Context, found: Counter[str] | None = None
) -> Iterator[Example]:
    """Give every example its target and pivot pairs, or the reasons why it has none; ``pairs`` is replaced.

    An answer is a candidate that is no translation (the first usable one of its language); its translation is the
    candidate of the other language whose ``parent`` it is. Reasons: ``no_prompt``, ``no_answer``, ``no_translation``,
    ``translation_failed``, ``failed``, ``empty``, ``truncated``, ``language``, each counted for the target language
    and for the pivot, since both pairs go; ``duplicate`` for a pair whose two texts are equal, which goes alone; and
    ``no_target`` for a pivot whose answer no other language answers.

    Args:
        found: is told how many prompts are about translation, ``list`` and ``detector``; a listed one is not detected.
    """
    filters = Filters(None, options, dataclasses.replace(context, pivot=options.pivot))
    listed = frozenset(options.translation_prompts)
    found = Counter() if found is None else found
    done = 0
    for chunk in batches(examples, _CHUNK):
        reasons = filters.reasons(chunk)
        for example in chunk:
            source = _about(example, listed, options)
            if source is not None:
                found[source] += 1
            yield _paired(example, options, source is not None, reasons, context.languages)
        done += len(chunk)
        context.progress("pair", done, None)


def _about(example: Example, listed: Collection[str], options: ImbalanceOptions) -> Literal["list", "detector"] | None:
    """What says that a prompt is about translation; None where nothing does."""
    if example.id in listed:
        return "list"
    if options.detect_translation_prompts and about_translation(example, options.pivot):
        return "detector"
    return None


def check_listed(listed: Sequence[str], known: Collection[str], where: str, warn: Callable[[str], None]) -> None:
    """Tell which listed ids no example has. A list made for a whole data set is used on its parts, so some may.

    Args:
        known: the ids of all examples.
        where: what the list is called in the message, a file's name or a key.

    Raises:
        InputError: no example has any of them.
    """
    unknown = [one for one in dict.fromkeys(listed) if one not in known]
    if not unknown:
        return
    total = len(dict.fromkeys(listed))
    named = ", ".join(repr(one) for one in unknown[:3])
    if len(unknown) < total:
        warn(f"{len(unknown)} of {total} ids of {where} are in no example, e.g. {named}; the others count")
        return
    raise InputError(f"none of the {total} ids of {where} is in any example, e.g. {named}; {_likeness(unknown, known)}")


_NUMBER = re.compile(r"0*(\d+)\D*$")


def _likeness(unknown: Sequence[str], known: Collection[str]) -> str:
    """The fix: ids that are the same but for case and space, or for what stands before their number."""
    loose = {one.strip().casefold(): one for one in known}
    numbers = {match[1]: one for one in known if (match := _NUMBER.search(one))}
    for one in unknown:
        match = _NUMBER.search(one)
        other = loose.get(one.strip().casefold()) or (numbers.get(match[1]) if match else None)
        if other is not None:
            return f"did you mean {other!r}? Write the ids as the examples have them"
    return f"the examples have ids such as {next(iter(known), '')!r}: name another list, or leave it out"


def _paired(
    example: Example, options: ImbalanceOptions, untranslated: bool, reasons: Reasons, languages: Sequence[str]
) -> Example:
    pivot = options.pivot
    pairs: list[Pair] = []
    pivot_pairs: list[Pair] = []
    drops: list[Drop] = []
    spoken = candidate_languages(example)
    if options.pivot_pairs == "one":  # the last in the run's order, whatever the example's own
        spoken = sorted(spoken, key=lambda tag: languages.index(tag) if tag in languages else len(languages))
    for lang in spoken:
        if lang == pivot:
            continue
        found = quartet(example, lang, pivot, reasons)
        if isinstance(found, _Missing):
            drops += [Drop(STAGE, found.reason, tag, found.candidate) for tag in (lang, pivot)]
            continue
        chosen = found.pivot_answer if untranslated else found.into_target
        _add(pairs, drops, lang, chosen, found.answer)
        _add(pivot_pairs, drops, pivot, found.pivot_answer, found.into_pivot)
    if pivot in spoken and not any(tag != pivot for tag in spoken):
        drops.append(Drop(STAGE, "no_target", pivot))
    pairs += pivot_pairs if options.pivot_pairs == "all" else pivot_pairs[-1:]
    kept = [drop for drop in example.dropped if drop.stage != STAGE]
    return dataclasses.replace(example, pairs=pairs, dropped=kept + drops)


def _add(pairs: list[Pair], drops: list[Drop], lang: str, chosen: Candidate, rejected: Candidate) -> None:
    if chosen.text == rejected.text:
        drops.append(Drop(STAGE, "duplicate", lang))
    else:
        pairs.append(Pair(lang=lang, chosen=chosen.id, rejected=rejected.id, rule=RULE))


@dataclasses.dataclass(frozen=True, slots=True)
class Quartet:
    """y^en, y^ℓ, y^{en→ℓ}, y^{ℓ→en}."""

    pivot_answer: Candidate
    answer: Candidate
    into_target: Candidate
    into_pivot: Candidate


@dataclasses.dataclass(frozen=True, slots=True)
class _Missing:
    """What of a quartet cannot be used, and why."""

    reason: str
    candidate: str | None = None


def quartet(example: Example, lang: str, pivot: str, reasons: Reasons) -> Quartet | _Missing:
    """The four texts of a language and the pivot, or which of them is missing.

    Args:
        reasons: why candidates may not be used, by (example id, candidate id).
    """
    if lang not in example.prompts or pivot not in example.prompts:
        return _Missing("no_prompt")

    def first(found: Sequence[Candidate]) -> Candidate | None:
        # One that was tried again after a failure stands for both.
        return next((c for c in found if (example.id, c.id) not in reasons), found[0] if found else None)

    answers = {tag: first([c for c in example.candidates if c.lang == tag and _answers(c)]) for tag in (pivot, lang)}
    pivot_answer, answer = answers[pivot], answers[lang]
    if pivot_answer is None or answer is None:
        return _Missing("no_answer")
    into_target = first([c for c in example.candidates if c.lang == lang and c.parent == pivot_answer.id])
    into_pivot = first([c for c in example.candidates if c.lang == pivot and c.parent == answer.id])
    for candidate in (pivot_answer, answer, into_target, into_pivot):
        if candidate is not None and (reason := reasons.get((example.id, candidate.id))):
            translated = candidate.parent is not None
            return _Missing("translation_failed" if translated and reason == "failed" else reason, candidate.id)
    if into_target is None or into_pivot is None:
        return _Missing("no_translation")
    return Quartet(pivot_answer, answer, into_target, into_pivot)


def _answers(candidate: Candidate) -> bool:
    return competes(candidate) and candidate.parent is None
