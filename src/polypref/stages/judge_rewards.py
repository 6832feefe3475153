"""Judge the judges: how often a reward prefers the answer that is known to be better, item by item.

The cluster of every standard error is the example: its languages, and several items of one prompt, move together.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import Field

from polypref.backends.base import Comparer, Comparison, Options, Progress, Recall, Tag, batches, silent
from polypref.errors import InputError, did_you_mean
from polypref.maths import stats
from polypref.maths.agreement import cohen_kappa
from polypref.records import Candidate, Example, live
from polypref.stages.evaluate import Figures, figure
from polypref.stages.reward_baselines import Baselines
from polypref.stages.reward_items import COLUMNS, Item, Items, from_row, has_pairs, items_of, nothing_in, to_row

VERSION: int = 1

Benchmark = Literal["rewardbench", "m_rewardbench", "rewardbench2", "mm_eval"]
"""Whose sections and averages are made beside polypref's own figures."""

_BATCH = 64
"""Items that a comparer is asked about at once."""


class JudgeOptions(Options):
    """What is judged, and by which score."""

    score: str = Field(min_length=1, description="the score that is judged")
    items: Items = Field(
        "auto",
        description="pairs, groups of labelled answers, or labelled answers one by one (points); auto: what there is",
    )
    threshold: float = Field(0.0, description="points: an answer that scores above it counts as called right")
    benchmark: Benchmark | None = Field(None, description="whose sections and averages are made as well")
    pivot: Tag = Field("en", description="the language that others are compared with")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A reward's items, in the order of the examples."""

    items: list[Item] = field(default_factory=list)

    @property
    def languages(self) -> list[str]:
        """In the order of their first items."""
        return list(dict.fromkeys(item.lang for item in self.items))

    def of(self, lang: str) -> list[Item]:
        """The items of one language."""
        return [item for item in self.items if item.lang == lang]

    def to_json(self) -> dict[str, Any]:
        """A plain object, one list an item; ``from_json`` gives the same judgement back."""
        return {"version": VERSION, "columns": list(COLUMNS), "items": [to_row(item) for item in self.items]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Judgement:
        return cls([from_row(row, value["columns"]) for row in value["items"]])


def judge(examples: Iterable[Example], options: JudgeOptions) -> Judgement:
    """The items of the examples' pairs or labels, judged by a score that the answers have.

    The credit of an item: of a pair 1 where the chosen answer scores higher, ½ where both score the same, else 0. Of
    a group, the share of right answers among those that score highest, so that of one right among three wrong it is 1
    where the right one is strictly best and 1/m where m answers share the best score (RewardBench 2). Of a point, 1
    where it scores on its own side of the threshold, ½ on it. An item with an answer that failed has no verdict.

    Raises:
        InputError: an answer that did not fail lacks the score, there is nothing to judge, or a label is none.
    """
    found = items_of(examples, options.items)
    if not found:
        raise nothing_in(options.items)
    return Judgement([_scored(example, item, options) for example, item in found])


def _scored(example: Example, item: Item, options: JudgeOptions) -> Item:
    sides = [[example.candidate(i) for i in ids] for ids in (item.right_ids, item.wrong_ids)]
    if not all(live(candidate) for side in sides for candidate in side):
        return item
    right, wrong = (tuple(_score(example, candidate, options.score) for candidate in side) for side in sides)
    return replace(item, right=right, wrong=wrong, credit=credit(right, wrong, options.threshold))


def _score(example: Example, candidate: Candidate, name: str) -> float:
    if name not in candidate.scores:
        raise InputError(
            f"the answer {candidate.id!r} of example {example.id!r} has no score {name!r}; score it first "
            f"({did_you_mean(name, candidate.scores) if candidate.scores else 'it has no score at all'})"
        )
    return candidate.scores[name]


def credit(right: Sequence[float], wrong: Sequence[float], threshold: float = 0.0) -> float:
    """What ``judge`` gives for these scores; a point where one side is empty."""
    if not right or not wrong:
        margin = right[0] - threshold if right else threshold - wrong[0]
        return 0.5 if margin == 0 else float(margin > 0)
    best = max(*right, *wrong)
    first = sum(score == best for score in right)
    return first / (first + sum(score == best for score in wrong))


def judge_by_comparer(
    examples: Iterable[Example],
    comparer: Comparer,
    options: JudgeOptions,
    progress: Progress = silent,
    recall: Recall | None = None,
) -> Judgement:
    """The same by a judge of pairs, which is asked in both orders; ``options.score`` is only its name. What ``recall``
    knows is not asked again.

    Every right answer is held against every wrong one. An item's credit is that of its best right answer, whose
    credit is its worst comparison: 1 where it beats all wrong ones. Without a verdict on one comparison the item has
    none. ``flipped`` where any comparison was. Labelled answers are judged in groups; where there is nothing to
    compare, as in a shard of a language that has no pairs there, the judgement is empty.

    Raises:
        InputError: the options ask for points, which have nothing to be compared with, or a label is none.
    """
    examples = list(examples)
    items = options.items
    if items == "points":
        raise InputError("a judge of pairs cannot judge single answers; leave items out, or name a scorer")
    if items == "auto":
        items = "pairs" if has_pairs(examples) else "groups"
    out: list[Item] = []
    for batch in batches(items_of(examples, items), _BATCH):
        asked = [_comparisons(example, item) for example, item in batch]
        # A pair that stands twice is asked once.
        once = {comparison.id: comparison for of_item in asked for comparison in of_item}
        verdicts = dict(zip(once, comparer.compare(list(once.values()), recall), strict=True))
        for (_, item), of_item in zip(batch, asked, strict=True):
            found = [verdicts[comparison.id] for comparison in of_item]
            known = [verdict.flipped for verdict in found if verdict.flipped is not None]
            told = _best([verdict.preference for verdict in found], len(item.wrong_ids))
            out.append(replace(item, credit=told, flipped=any(known) if known else None))
        progress("judge", len(out), None)
    return Judgement(out)


def _comparisons(example: Example, item: Item) -> list[Comparison]:
    if item.lang not in example.prompts:
        raise InputError(f"example {example.id!r} has a pair in {item.lang} but no prompt in it; give the prompt")
    right, wrong = ([example.candidate(i) for i in ids] for ids in (item.right_ids, item.wrong_ids))
    if not all(live(candidate) for candidate in (*right, *wrong)):
        return []
    prompt = example.prompts[item.lang]
    return [
        Comparison(
            f"{example.id}/{good.id}/{bad.id}",
            item.lang,
            prompt,
            good.text,
            bad.text,
            gold=example.gold,
            category=example.category,
        )
        for good in right
        for bad in wrong
    ]


def _best(preferences: Sequence[float | None], wrong: int) -> float | None:
    """The credit of [right × wrong] preferences, right answers outermost; None where one is missing."""
    known = [preference for preference in preferences if preference is not None]
    if not known or len(known) < len(preferences):
        return None
    return max(min(known[start : start + wrong]) for start in range(0, len(known), wrong))


def figures(
    judgement: Judgement,
    *,
    pivot: str = "en",
    training: Judgement | None = None,
    baselines: Baselines | None = None,
) -> Figures:
    """Language → {metric, metric_stderr, metric_n}; n and standard errors count examples.

    ``accuracy``: the mean credit of items with a verdict, with ``accuracy_low`` and ``accuracy_high``, its 95%
    interval (Wilson's, on the number of independent items that has this standard error); ``accuracy_<section>`` by
    category, else subset. ``majority_baseline`` and ``length_baseline``: the mean credit of the baselines on the same
    items. ``kappa``: Cohen's κ of the verdicts with those in the pivot on the same items; None where all verdicts of
    both are the same. ``generalisation_gap``: the accuracy on ``training`` less this one. ``no_verdict``: the share of
    items without one; ``flip_rate``: the share on which a comparer contradicted itself. What cannot be said of a
    language is left out.
    """
    known = {} if training is None else {lang: _decided(training.of(lang)) for lang in training.languages}
    in_pivot = _by_place(judgement.of(pivot))
    out: Figures = {}
    for lang in judgement.languages:
        items = judgement.of(lang)
        decided = _decided(items)
        found = out[lang] = {}
        found |= figure("no_verdict", _mean(items, [float(item.credit is None) for item in items]))
        if flips := [item for item in items if item.flipped is not None]:
            found |= figure("flip_rate", _mean(flips, [float(bool(item.flipped)) for item in flips]))
        if not decided:
            continue
        accuracy = _accuracy(decided)
        low, high = share_interval(accuracy)
        found |= {**figure("accuracy", accuracy), "accuracy_low": low, "accuracy_high": high}
        for section in dict.fromkeys(item.section for item in decided if item.section):
            part = [item for item in decided if item.section == section]
            found |= figure(f"accuracy_{_slug(section)}", _accuracy(part))
        if baselines is not None:
            found |= _baseline("majority_baseline", decided, baselines.most_frequent)
            found |= _baseline("length_baseline", decided, baselines.length)
        if lang != pivot:
            found |= _kappa(_by_place(items), in_pivot)
        if known.get(lang):
            found |= figure("generalisation_gap", _gap(_accuracy(known[lang]), accuracy))
    return out


def share_interval(estimate: stats.Estimate) -> tuple[float, float]:
    """The 95% interval of a share whose units are clusters: Wilson's (1927) on the effective number of independent
    items, p(1 − p)/s² (Kish 1965; Korn and Graubard 1998), which stays within [0, 1]. Where the standard error tells
    nothing (one cluster, all right or all wrong), on the number of clusters."""
    p, s = estimate.value, estimate.stderr
    n = max(1.0, p * (1 - p) / s**2) if s and 0 < p < 1 else estimate.n
    return stats.wilson_interval(p * n, n)


def _decided(items: Iterable[Item]) -> list[Item]:
    return [item for item in items if item.credit is not None]


def _mean(items: Sequence[Item], values: Sequence[float]) -> stats.Estimate:
    return stats.clustered_mean(values, [item.example for item in items])


def _accuracy(decided: Sequence[Item]) -> stats.Estimate:
    return _mean(decided, [item.credit for item in decided if item.credit is not None])


def _baseline(name: str, items: Sequence[Item], credit_of: Callable[[Item], float | None]) -> dict[str, Any]:
    credits = [credit_of(item) for item in items]
    told = [value for value in credits if value is not None]
    return figure(name, _mean(items, told)) if len(told) == len(items) else {}


def _by_place(items: Iterable[Item]) -> dict[tuple[str, int, int], Item]:
    """Items by what is the same in every language: their example, their number in it, and how many it has. Where a
    language lacks one of several items, nothing says which, and none of that example's is compared."""
    items = list(items)
    counts: Counter[str] = Counter(item.example for item in items)
    seen: Counter[str] = Counter()
    out = {}
    for item in items:
        out[item.example, seen[item.example], counts[item.example]] = item
        seen[item.example] += 1
    return out


def _kappa(here: Mapping[tuple[str, int, int], Item], there: Mapping[tuple[str, int, int], Item]) -> dict[str, Any]:
    both = [
        (place, here[place].credit, there[place].credit)
        for place in here
        if place in there and here[place].credit is not None and there[place].credit is not None
    ]
    if not both:
        return {}
    places, first, second = zip(*both, strict=True)
    examples = [example for example, *_ in places]
    found = cohen_kappa(first, second, examples)
    return figure("kappa", found) if found else {"kappa": None, "kappa_stderr": None, "kappa_n": len(set(examples))}


def _gap(training: stats.Estimate, here: stats.Estimate) -> stats.Estimate:
    """The difference of two independent estimates."""
    errors = (training.stderr, here.stderr)
    known = [error for error in errors if error is not None]
    stderr = math.hypot(*known) if len(known) == 2 else None
    return stats.Estimate(training.value - here.value, stderr, training.n + here.n)


def _slug(section: str) -> str:
    """A section's name as part of a metric's; one that would read as a part of accuracy's own is set apart."""
    slug = re.sub(r"\W+", "_", section.lower()).strip("_") or "other"
    return f"section_{slug}" if slug in ("low", "high", "stderr", "n") else slug
