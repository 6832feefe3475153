"""Data that is made worse on purpose, in a known share of it: what the quality of data is worth can then be measured.

Which rows are hit is told by a hash of (seed, language, ids): of n rows in a language the ⌊share·n + ½⌋ of the smallest
hash. So the rows of a lower share are among those of a higher one, and their order in the data has no say.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from polypref.errors import InputError
from polypref.records import Candidate, Example, live
from polypref.stages.evaluate import LABELS

_Place: TypeAlias = tuple[int, int]
"""An example, and which of its pairs or candidates."""


def corrupt_answers(examples: Iterable[Example], share: float, seed: int = 0) -> tuple[list[Example], dict[str, int]]:
    """The examples with a share of their answers under another prompt, and how many are, by language.

    The answers that are hit change places within their language: it keeps its answers, and they stand under wrong
    prompts. One that meets its own text all the same, or has no other prompt to go to, is not counted.

    Raises:
        InputError: the share is not from 0 to 1, or leaves a language a single answer, which has none to change with.
    """
    examples = list(examples)
    rows = [
        (candidate.lang, (index, number), (example.id, candidate.id))
        for index, example in enumerate(examples)
        for number, candidate in enumerate(example.candidates)
        if live(candidate)
    ]
    new: dict[_Place, Candidate] = {}
    counts = {}
    for lang, hit in _hits(rows, share, seed).items():
        if len(hit) == 1:
            raise InputError(
                f"a share of {share} leaves one answer in {lang} to corrupt, which has none to change places with; "
                "raise the share, or give more data"
            )
        counts[lang] = 0
        for place, donor in _circle(hit):
            own, other = (examples[index].candidates[number] for index, number in (place, donor))
            new[place] = replace(other, id=own.id, parent=own.parent)
            counts[lang] += own.text != other.text
    return [
        replace(example, candidates=[new.get((index, number), c) for number, c in enumerate(example.candidates)])
        for index, example in enumerate(examples)
    ], counts


def _circle(places: Sequence[_Place]) -> list[tuple[_Place, _Place]]:
    """(place, whose answer it gets): answers of one example stand side by side, and all move on by as many as the
    largest example has, so that none gets another of its own prompt where there are others."""
    first: dict[int, int] = {}
    for rank, (index, _) in enumerate(places):
        first.setdefault(index, rank)
    circle = sorted(places, key=lambda place: first[place[0]])
    step = max(Counter(index for index, _ in places).values(), default=0)
    return [(place, circle[(rank + step) % len(circle)]) for rank, place in enumerate(circle)]


def flip_pairs(examples: Iterable[Example], share: float, seed: int = 0) -> tuple[list[Example], dict[str, int]]:
    """The examples with chosen and rejected changed in a share of the pairs, and how many are, by language.

    A flipped pair says so (``flipped``) and keeps its margin: who errs, errs about that too.

    Raises:
        InputError: the share is not from 0 to 1.
    """
    examples = list(examples)
    rows = [
        # Both answers in one order, so that the hash is of the comparison and not of its outcome.
        (pair.lang, (index, number), (example.id, *sorted((pair.chosen, pair.rejected))))
        for index, example in enumerate(examples)
        for number, pair in enumerate(example.pairs)
    ]
    hits = _hits(rows, share, seed)
    hit = {place for places in hits.values() for place in places}
    return [
        replace(
            example,
            pairs=[
                replace(pair, chosen=pair.rejected, rejected=pair.chosen, extra=pair.extra | {"flipped": True})
                if (index, number) in hit
                else pair
                for number, pair in enumerate(example.pairs)
            ],
        )
        for index, example in enumerate(examples)
    ], {lang: len(places) for lang, places in hits.items()}


def flip_labels(examples: Iterable[Example], share: float, seed: int = 0) -> tuple[list[Example], dict[str, int]]:
    """The examples with the opposite label, 1 − z, on a share of the labelled answers, and how many have it, by
    language.

    Raises:
        InputError: the share is not from 0 to 1, or a label has no opposite.
    """
    examples = list(examples)
    rows = [
        (candidate.lang, (index, number), (example.id, candidate.id))
        for index, example in enumerate(examples)
        for number, candidate in enumerate(example.candidates)
        if candidate.label is not None and live(candidate)
    ]
    hits = _hits(rows, share, seed)
    hit = {place for places in hits.values() for place in places}
    return [
        replace(
            example,
            candidates=[
                replace(candidate, label=_opposite(example, candidate)) if (index, number) in hit else candidate
                for number, candidate in enumerate(example.candidates)
            ],
        )
        for index, example in enumerate(examples)
    ], {lang: len(places) for lang, places in hits.items()}


def _opposite(example: Example, candidate: Candidate) -> bool | float:
    label = candidate.label
    value = LABELS.get(label.strip().lower()) if isinstance(label, str) else label
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            f"the label of {candidate.id!r} of example {example.id!r} is {label!r}, which has no opposite; write true "
            f"or false, a number from 0 to 1, or one of {', '.join(LABELS)}"
        )
    return not value if isinstance(value, bool) else 1 - value


def _hits(rows: Iterable[tuple[str, _Place, tuple[str, ...]]], share: float, seed: int) -> dict[str, list[_Place]]:
    """Language → the places that are hit, in the order of their hash. A row is its language, place and ids."""
    if not 0 <= share <= 1:
        raise InputError(f"the share is {share}; it must be from 0 to 1")
    by_language: dict[str, list[tuple[bytes, _Place]]] = defaultdict(list)
    for lang, place, ids in rows:
        by_language[lang].append((hashlib.sha256("\0".join((str(seed), lang, *ids)).encode()).digest(), place))
    return {
        lang: [place for _, place in sorted(found)[: math.floor(share * len(found) + 0.5)]]
        for lang, found in sorted(by_language.items())
    }
