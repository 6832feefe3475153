"""Preference data before training: mixed by language, split into training and validation, and checked.

A row is what a reward model learns from: a pair of two answers, or one answer with a label. Rows are left out, never
repeated, and every choice among them is by a hash of seed and ids, so that it does not depend on their order.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal

from polypref.backends.base import Tag
from polypref.errors import InputError
from polypref.records import Example, live
from polypref.stages.overlap import Overlap, find_overlap, said_in
from polypref.stages.prompt_instruction import plain

Mix = Literal["natural", "even"] | dict[Tag, float]
"""How many rows of each language: all there are, as many of each, or by weights."""

SHOWN: Final = 3
_PAIRS: Final = "pairs"
_LABELS: Final = "labels"


# --- mixing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MixSummary:
    """By language the rows that are kept, and those that the mix left out."""

    kept: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)

    def remarks(self) -> list[str]:
        """One sentence where rows were left out."""
        told = [f"{tag} {n} of {n + self.kept[tag]}" for tag, n in self.left_out.items()]
        return [f"rows left out to keep the mix of languages: {', '.join(told)}"] if told else []


def mixed(
    examples: Iterable[Example], languages: Sequence[str] = (), mix: Mix = "natural", seed: int = 0
) -> tuple[list[Example], MixSummary]:
    """The examples with rows in ``languages`` (all that have rows when empty) alone, in the proportions of ``mix``.

    Of n rows in a language with weight w, ⌊w·t⌋ are kept, where t is the least n / w of all languages; ``even`` is the
    weight 1 for each. Of a language those with the smallest SHA-256 of (seed, language, ids) stay. What is left out of
    an example are its pairs and labels; an example without any is left out whole. Rows with two equal answers, or with
    one that says nothing, are none. Order is kept.

    Raises:
        InputError: a language has no row, no weight, or a weight that leaves none of its rows.
    """
    rows: dict[str, list[_Row]] = defaultdict(list)
    examples = list(examples)
    for index, example in enumerate(examples):
        for row in _rows(example, index):
            if row.fit:
                rows[row.lang].append(row)
    tags = tuple(languages) or tuple(sorted(rows))
    if absent := [tag for tag in tags if not rows.get(tag)]:
        there = ", ".join(tag for tag in sorted(rows) if rows[tag]) or "none"
        raise InputError(f"there is no pair and no label in {', '.join(absent)}; there are some in {there}")
    shares = _shares({tag: len(rows[tag]) for tag in tags}, mix)
    kept: set[tuple[int, str, int]] = set()
    for tag, n in shares.items():
        kept.update(row.place for row in sorted(rows[tag], key=lambda row: row.hash(seed))[:n])
    chosen = [_with_rows(example, index, kept) for index, example in enumerate(examples)]
    left_out = {tag: len(rows[tag]) - n for tag, n in shares.items() if len(rows[tag]) > n}
    return [example for example in chosen if any(_rows(example))], MixSummary(shares, left_out)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row: where it stands (example, list, index), the ids that name it, its one or two answers, and what it says of
    them (which is better, or the label)."""

    lang: str
    place: tuple[int, str, int]
    ids: tuple[str, ...]
    answers: tuple[str, ...]
    verdict: object

    @property
    def fit(self) -> bool:
        """Whether it can be learned from: its answers say something, and differ."""
        return all(text.strip() for text in self.answers) and len(set(self.answers)) == len(self.answers)

    def hash(self, seed: int) -> tuple[bytes, tuple[int, str, int]]:
        return hashlib.sha256("\0".join((str(seed), self.lang, *self.ids)).encode()).digest(), self.place


def _rows(example: Example, index: int = 0) -> Iterator[_Row]:
    texts = {candidate.id: candidate.text for candidate in example.candidates}
    for number, pair in enumerate(example.pairs):
        better, worse = texts[pair.chosen], texts[pair.rejected]
        ids = (example.id, pair.chosen, pair.rejected)
        yield _Row(pair.lang, (index, _PAIRS, number), ids, (better, worse), better)
    for number, candidate in enumerate(example.candidates):
        if candidate.label is not None and live(candidate):
            place = (index, _LABELS, number)
            yield _Row(candidate.lang, place, (example.id, candidate.id), (candidate.text,), candidate.label)


def _shares(counts: Mapping[str, int], mix: Mix) -> dict[str, int]:
    """How many rows of each language are kept."""
    if mix == "natural":
        return dict(counts)
    weights = dict.fromkeys(counts, Fraction(1)) if mix == "even" else _weights(counts, mix)
    scale = min((Fraction(n) / weights[tag] for tag, n in counts.items()), default=Fraction(0))
    shares = {tag: math.floor(weights[tag] * scale) for tag in counts}
    if none := [tag for tag, n in shares.items() if n == 0]:
        raise InputError(f"the weight of {', '.join(none)} leaves none of its rows; give it more, or leave it out")
    return shares


def _weights(tags: Iterable[str], mix: Mix) -> dict[str, Fraction]:
    assert isinstance(mix, dict)
    weights = {}
    for tag in tags:
        weight = mix.get(tag)
        if weight is None or not (math.isfinite(weight) and weight > 0):
            raise InputError(f"the weight of {tag} is {weight}; give every language of the mix a number above 0")
        weights[tag] = Fraction(str(weight))  # as it is written: 0.3 is three times 0.1
    return weights


def _with_rows(example: Example, index: int, kept: set[tuple[int, str, int]]) -> Example:
    """The example without the pairs and labels that are not kept; its answers stay."""
    return replace(
        example,
        pairs=[pair for number, pair in enumerate(example.pairs) if (index, _PAIRS, number) in kept],
        candidates=[
            candidate if candidate.label is None or (index, _LABELS, number) in kept else replace(candidate, label=None)
            for number, candidate in enumerate(example.candidates)
        ],
    )


# --- splitting -----------------------------------------------------------------------------------------------------


def split(examples: Iterable[Example], share: float, seed: int = 0) -> tuple[list[Example], list[Example]]:
    """(training, validation), some ``share`` of the examples for validation.

    Examples whose prompts are equal in any language (as ``normalise_text`` compares) are one group and stay on one
    side. A group is held out where the smallest SHA-256 of (seed, id) among its ids is below the share, so that
    further examples move none of the others; where that holds none out, the group of the smallest hash is, and where
    it holds all out, the one of the largest is not. Order is kept; a side is empty where there are not two groups.

    Raises:
        InputError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"the share for validation is {share}; it must be between 0 and 1")
    examples = list(examples)
    groups = _groups(examples)
    places = [min(_hash(seed, examples[index].id) for index in group) for group in groups]
    order = sorted(range(len(groups)), key=places.__getitem__)
    chosen = [g for g in order if int.from_bytes(places[g]) < share * 2**256]
    chosen = (chosen or order[:1])[: len(groups) - 1]
    held = {index for g in chosen for index in groups[g]}
    sides: tuple[list[Example], list[Example]] = ([], [])
    for index, example in enumerate(examples):
        sides[index in held].append(example)
    return sides


def _hash(seed: int, example_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{example_id}".encode()).digest()


def _groups(examples: Sequence[Example]) -> list[list[int]]:
    """The examples' indices, those together that a chain of equal prompts connects."""
    leader = list(range(len(examples)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first: dict[str, int] = {}
    for index, example in enumerate(examples):
        for prompt in plain(example).prompts.values():
            if text := said_in(prompt):
                leader[find(index)] = find(first.setdefault(text, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(examples)):
        groups[find(index)].append(index)
    return list(groups.values())


# --- checking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """How often something stands in the rows of each language, in how many examples, and the ids of the first, each
    with that of the example it is compared with (``2 and 1``) where that is another."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: int = 0
    ids: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        told = ", ".join(f"{tag} {n}" for tag, n in self.counts.items())
        return f"{told} (ids {', '.join(self.ids)}{', …' if self.examples > len(self.ids) else ''})"


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What one side holds, by language. ``repeated`` rows say again what one before them says of the same answers to
    the same prompt; ``contradicted`` rows say another thing of them; ``unfit`` rows have two equal answers, or one that
    says nothing, and count for nothing else; ``undecided`` labels are ½."""

    pairs: dict[str, int]
    labels: dict[str, int]
    repeated: Found
    contradicted: Found
    unfit: Found
    undecided: Found

    @property
    def languages(self) -> frozenset[str]:
        """Those with at least one row."""
        return frozenset(self.pairs) | frozenset(self.labels)


@dataclass(frozen=True, slots=True)
class PreferenceSummary:
    """What training and validation hold, and the prompts that they share (``leaks``, in any language)."""

    training: RowCounts
    validation: RowCounts
    leaks: Overlap

    def remarks(self) -> list[str]:
        """One sentence for everything that is not as it should be."""
        said = []
        for name, side in (("training", self.training), ("validation", self.validation)):
            found = {
                "rows say again what an earlier one says": side.repeated,
                "rows contradict an earlier one on the same answers": side.contradicted,
                "rows are left out, with two equal answers or one that says nothing": side.unfit,
            }
            said += [f"{name} {what}: {where}" for what, where in found.items() if where]
            if side.undecided:
                said.append(
                    f"{name} labels of 0.5, neither right nor wrong: {side.undecided}; they stay in the loss and are "
                    "left aside by every accuracy"
                )
        if self.leaks:
            ids = sorted(self.leaks.train_ids)
            more = ", …" if len(ids) > SHOWN else ""
            said.append(
                f"training prompts that validation has too: {len(ids)} ({len(self.leaks.ids)} by id, "
                f"{len({shared.train_id for shared in self.leaks.texts})} by text; ids {', '.join(ids[:SHOWN])}{more})"
            )
        unseen = sorted(self.training.languages - self.validation.languages)
        if unseen and self.validation.languages:
            said.append(f"languages of training that validation has no rows in: {', '.join(unseen)}")
        return said


def check(training: Iterable[Example], validation: Iterable[Example] = ()) -> PreferenceSummary:
    """Rows by language, repetitions and contradictions on each side, and prompts that are on both.

    Prompts are compared as ``normalise_text`` has them, without system messages; answers as they are.
    """
    training, validation = list(training), list(validation)
    return PreferenceSummary(_counted(training), _counted(validation), find_overlap(training, validation))


def _counted(examples: Sequence[Example]) -> RowCounts:
    counts: dict[str, Counter[str]] = {_PAIRS: Counter(), _LABELS: Counter()}
    said: dict[tuple[object, ...], dict[object, str]] = defaultdict(dict)
    repeated: dict[str, list[str]] = defaultdict(list)
    contradicted: dict[str, list[str]] = defaultdict(list)
    unfit: dict[str, list[str]] = defaultdict(list)
    undecided: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        prompts = {tag: said_in(prompt) for tag, prompt in plain(example).prompts.items()}
        for row in _rows(example):
            if not row.fit:
                unfit[row.lang].append(example.id)
                continue
            counts[row.place[1]][row.lang] += 1
            if row.place[1] == _LABELS and row.verdict == 0.5:
                undecided[row.lang].append(example.id)
            before = said[row.lang, prompts.get(row.lang), *sorted(row.answers)]
            if row.verdict in before:
                repeated[row.lang].append(_both(example.id, before[row.verdict]))
            elif before:
                contradicted[row.lang].append(_both(example.id, next(iter(before.values()))))
            before.setdefault(row.verdict, example.id)
    pairs, labels = (dict(sorted(by.items())) for by in counts.values())
    return RowCounts(pairs, labels, *map(_found, (repeated, contradicted, unfit, undecided)))


def _both(later: str, earlier: str) -> str:
    return later if later == earlier else f"{later} and {earlier}"


def _found(ids: Mapping[str, Sequence[str]]) -> Found:
    first = dict.fromkeys(example_id for tag in sorted(ids) for example_id in ids[tag])
    return Found({tag: len(ids[tag]) for tag in sorted(ids)}, len(first), tuple(first)[:SHOWN])
