"""What needs no reward model: the majority of the training labels, and the length of the answer.

Wu et al. 2024 (arXiv 2404.12318) hold every reward model against both; how they fitted them is not published. Here
direction and threshold are those of the best training accuracy, by language, in characters (Unicode code points).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Literal

from polypref.records import Example
from polypref.stages.reward_items import Item, items_of, nothing_in

ALL = "*"
"""The rule of all training languages together, for a language that the training data lacks."""


@dataclass(frozen=True, slots=True)
class LengthRule:
    """Which length is preferred.

    Between answers the ``longer`` (or the shorter) one is, and lengths that differ by ``threshold`` or less count as
    equal. A single answer is called right where it is longer (shorter) than ``threshold``.
    """

    prefer: Literal["longer", "shorter"]
    threshold: float
    accuracy: float
    """On the training data."""

    def credit(self, item: Item) -> float:
        """As ``judge`` gives it: the share of right answers among those that the rule puts first."""
        sign = 1 if self.prefer == "longer" else -1
        right, wrong = ([sign * n for n in lengths] for lengths in (item.right_lengths, item.wrong_lengths))
        if item.kind == "point":
            called_right = (right or wrong)[0] > sign * self.threshold
            return float(called_right == bool(right))
        enough = max(*right, *wrong) - self.threshold
        first = sum(length >= enough for length in right)
        return first / (first + sum(length >= enough for length in wrong))


@dataclass(frozen=True, slots=True)
class Baselines:
    """By language, fitted on training data: rules between answers and of single ones, and the more frequent label.

    A language that is not in the training data has the rule of all of it together.
    """

    between: dict[str, LengthRule] = field(default_factory=dict)
    single: dict[str, LengthRule] = field(default_factory=dict)
    majority: dict[str, float] = field(default_factory=dict)
    """The share of right answers among labelled ones."""

    def length(self, item: Item) -> float | None:
        """The credit of the length baseline; None where the training data was of the other kind."""
        rules = self.single if item.kind == "point" else self.between
        rule = rules.get(item.lang, rules.get(ALL))
        return None if rule is None else rule.credit(item)

    def most_frequent(self, item: Item) -> float | None:
        """The credit of the majority baseline. A pair or a group has no label that could be the more frequent one, so
        it is chance: ½, or the share of right answers."""
        if item.kind != "point":
            return len(item.right_ids) / (len(item.right_ids) + len(item.wrong_ids))
        share = self.majority.get(item.lang, self.majority.get(ALL))
        if share is None:
            return None
        return 0.5 if share == 0.5 else float((share > 0.5) == bool(item.right_ids))

    def to_json(self) -> dict[str, Any]:
        """A plain object; ``from_json`` gives the same baselines back."""
        between, single = ({lang: asdict(rule) for lang, rule in by.items()} for by in (self.between, self.single))
        return {"between": between, "single": single, "majority": dict(self.majority)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Baselines:
        between, single = (
            {lang: LengthRule(**rule) for lang, rule in value[name].items()} for name in ("between", "single")
        )
        return cls(between, single, dict(value["majority"]))


def fit_baselines(examples: Iterable[Example]) -> Baselines:
    """The baselines of training examples, whose pairs, groups or points they learn from (``items_of``'s ``auto``).

    Raises:
        InputError: the examples hold nothing to learn from.
    """
    items = [item for _, item in items_of(examples)]
    if not items:
        raise nothing_in("auto")
    by_language = {lang: [item for item in items if item.lang == lang] for lang in dict.fromkeys(i.lang for i in items)}
    by_language[ALL] = items
    if items[0].kind == "point":
        majority = {lang: sum(bool(i.right_ids) for i in of) / len(of) for lang, of in by_language.items()}
        return Baselines(single={lang: _fit_single(of) for lang, of in by_language.items()}, majority=majority)
    return Baselines(between={lang: _fit_between(of) for lang, of in by_language.items()})


def _fit_between(items: Sequence[Item]) -> LengthRule:
    """The rule of the best mean credit; among equals the longer answer is preferred, by the smallest threshold.

    Only thresholds that equal some difference of lengths change a credit, so those alone are tried.
    """
    found: list[tuple[float, int, float]] = []
    for sign in (1, -1):
        total = 0.0
        changes = sorted(change for item in items for change in _changes(item, sign))
        for threshold, at_once in groupby(changes, key=itemgetter(0)):
            total += math.fsum(change for _, change in at_once)
            found.append((total / len(items), sign, float(threshold)))
    return _best(found)


def _changes(item: Item, sign: int) -> Iterator[tuple[int, float]]:
    """(threshold, by how much the item's credit changes when the threshold reaches it), from the credit at none."""
    lengths = [(sign * n, True) for n in item.right_lengths] + [(sign * n, False) for n in item.wrong_lengths]
    top = max(lengths)[0]
    right = shared = 0
    before = 0.0
    for threshold, at_once in groupby(sorted((top - n, is_right) for n, is_right in lengths), key=itemgetter(0)):
        sides = [is_right for _, is_right in at_once]
        right, shared = right + sum(sides), shared + len(sides)
        yield threshold, right / shared - before
        before = right / shared


def _fit_single(items: Sequence[Item]) -> LengthRule:
    """The rule of the best accuracy; thresholds lie halfway between two lengths, or beyond all of them."""
    labelled = sorted(((i.right_lengths or i.wrong_lengths)[0], bool(i.right_ids)) for i in items)
    # Below all lengths every answer is longer, so that called right is what is right.
    called_longer = sum(is_right for _, is_right in labelled)
    found: list[tuple[float, int, float]] = []
    threshold = labelled[0][0] - 1.0
    lengths = sorted({length for length, _ in labelled})
    bounds = dict(zip(lengths, [*((a + b) / 2 for a, b in pairwise(lengths)), lengths[-1] + 1.0], strict=True))
    for sign in (1, -1):
        hits = called_longer if sign == 1 else len(labelled) - called_longer
        found.append((hits / len(labelled), sign, threshold))
        for length, at_once in groupby(labelled, key=itemgetter(0)):
            hits += sign * sum(-1 if is_right else 1 for _, is_right in at_once)
            found.append((hits / len(labelled), sign, bounds[length]))
    return _best(found)


def _best(found: Sequence[tuple[float, int, float]]) -> LengthRule:
    """Of (accuracy, direction, threshold) the first of the most accurate, but for rounding."""
    most = max(accuracy for accuracy, _, _ in found)
    accuracy, sign, threshold = next(rule for rule in found if rule[0] > most - 1e-12)
    return LengthRule("longer" if sign == 1 else "shorter", threshold, accuracy)
