"""Reward models in words: what transfers, what a reader must not take for more than it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from polypref.maths.stats import Estimate
from polypref.stages import report_tables as tables
from polypref.stages.report_imbalance import pivot_of
from polypref.stages.report_judged import (
    ACCURACY,
    BASELINES,
    EQUAL,
    GAP,
    SETTLED,
    Judged,
    estimate_of,
    on_answers,
)
from polypref.stages.report_words import Finding, listed
from polypref.stages.representation import CKA, RATIO_CHANGE, Shift

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

LARGE_GAP = 0.05
"""Points that a model may be better on its training data, where that is shown, before the page points at it."""
OFTEN = 0.1
"""Share of items without a verdict, or with two that contradict each other, from which on the page points at it."""
NAMED = 5
"""Languages that a sentence still lists."""


def reward_headline(data: ReportData) -> Finding | None:
    """The run in one sentence where reward models are what it is about; None where there are none."""
    judged = Judged.of(data)
    if not judged.figures:
        return None
    against = _against_own(data, judged)
    if against:
        return against[0]
    means = judged.matrix.get("means") or {}
    if not means:
        return Finding(
            "plain", f"{len(judged.figures)} reward model{'s were' if len(judged.figures) > 1 else ' was'} judged."
        )
    tags = [
        tag for tag in judged.tags if all(ACCURACY in judged.figures.get(model, {}).get(tag, {}) for model in means)
    ]
    over = f"over {len(tags)} languages" if len(tags) > 1 else f"in {listed(tags)}"
    what = "mean accuracy" if len(tags) > 1 else "accuracy"
    low, high = (end(means, key=lambda model: float(means[model][ACCURACY])) for end in (min, max))
    if len(means) == 1:
        return Finding("plain", f"{judged.told(high)}: {what} {_within(means[high])} {over}.")
    if means[high][ACCURACY] - means[low][ACCURACY] < EQUAL:
        return Finding("plain", f"{len(means)} reward models have the same {what} {over}: {_within(means[high])}.")
    text = f"{len(means)} reward models {over}: {what} from {_within(means[low])} ({judged.told(low)}) "
    return Finding("plain", text + f"to {_within(means[high])} ({judged.told(high)}).")


def _within(found: Mapping[str, float]) -> str:
    """An accuracy of the matrix with its interval."""
    low, high = (tables.number(found[end], True) for end in ("low", "high"))
    return f"{_percent(found[ACCURACY])} [{low}, {high}]"


def reward_findings(data: ReportData) -> list[Finding]:
    """What a reader should not have to look for, the failures included."""
    judged = Judged.of(data)
    out = [*_against_own(data, judged), *_across(judged), *_best(judged), *_baselines(judged)]
    out += [*_gaps(judged), *_verdicts(judged), *_own_answers(data, judged)]
    return out + (_shift(Shift.from_json(data.representation)) if data.representation else [])


def _against_own(data: ReportData, judged: Judged) -> list[Finding]:
    """The pivot's models against the target languages' own, on the same items."""
    pivot, out = pivot_of(data), []
    native = {languages[0] for languages in judged.trained_on.values() if len(languages) == 1}
    for model, found in (judged.matrix.get("against_own") or {}).items():
        if judged.trained_on.get(model) != [pivot]:
            continue
        tags = [tag for tag in judged.tags if tag in native and tag != pivot]
        own = "the language's own model" if len(tags) == 1 else "the languages' own models"
        over = f"in {listed(tags)}" if len(tags) <= NAMED else f"over {len(tags)} languages"
        out.append(_compared(judged.told(model), own, estimate_of(found), over))
    return out


def _compared(model: str, own: str, found: Estimate, over: str) -> Finding:
    ends = found.interval()
    if ends is None:
        signed = tables.number(found.value, True, signed=True)
        return Finding("plain", f"{model} differs from {own} by {signed} points of mean accuracy {over}.")
    size = tables.number(abs(found.value), True)
    size += f"{tables.NBSP}±{tables.NBSP}{tables.number(ends[1] - found.value, True)} points of mean accuracy {over}"
    if ends[0] > 0:
        return Finding("good", f"{model} beats {own} by {size}.")
    if ends[1] < 0:
        return Finding("watch", f"{model} falls behind {own} by {size}.")
    return Finding("plain", f"{model} and {own} cannot be told apart: {'−' if found.value < 0 else '+'}{size}.")


def _across(judged: Judged) -> list[Finding]:
    means = [judged.matrix.get(name) for name in ("diagonal_mean", "off_diagonal_mean")]
    told = []
    for found in means:
        if not found:
            return []
        ends = estimate_of(found).interval()
        within = f" [{tables.number(ends[0], True)}, {tables.number(ends[1], True)}]" if ends else ""
        told.append(_percent(found["value"]) + within)
    whose, who = "their", "the models are"
    if len(judged.judging) == 1:
        whose, who = "its", f"{tables.name_of(judged.judging[0])} is"
    text = f"In the language of {whose} training {who} right in {told[0]}, in others in {told[1]}."
    return [Finding("plain", text)]


def _best(judged: Judged) -> list[Finding]:
    found = {tag: best for tag in judged.tags if (best := judged.best(tag))}
    if not found:
        return []
    counts = Counter(model for best in found.values() for model in best)
    often = max(counts.values())
    first = [model for model, count in counts.items() if count == often]
    open_ = [tag for tag, best in found.items() if max(best.values()) < SETTLED]
    where = f"{often} of {len(found)} languages"
    text = f"{tables.name_of(first[0])} has the highest accuracy in {where}"
    if len(first) > 1:
        text = f"{listed(first, tables.name_of)} each have the highest accuracy in {where}"
    if not open_:
        return [Finding("plain", f"{text}; each best one is settled, in at least {SETTLED:.0%} of the resamples.")]
    few = len(open_) <= NAMED and len(open_) < len(found)
    where = f"in {listed(open_)}" if few else "in any" if len(open_) == len(found) else f"in {len(open_)} of them"
    return [Finding("plain", f"{text}; which one is best is not settled {where}.")]


def _baselines(judged: Judged) -> list[Finding]:
    """Where a reward model is not shown to do more than the answers' length does."""
    below: dict[str, list[str]] = {}
    clear = []
    for model in judged.figures:
        known = {tag: above for tag in judged.tags if (above := judged.above(model, tag)) is not None}
        low = [tag for tag, above in known.items() if not above]
        if low:
            below.setdefault(_where(low, len(known)), []).append(tables.name_of(model))
        elif known:
            clear.append(tables.name_of(model))
    out = []
    if below:
        names = [name.removesuffix("_baseline") for name in BASELINES if judged.baseline(name)]
        what = f"{listed(names, str)} baseline{'s' * (len(names) > 1)}"
        out.append(Finding("watch", f"Accuracy is not shown to be above the {what}: {_grouped(below)}."))
    if clear:
        verb = "is" if len(clear) == 1 else "are"
        out.append(
            Finding(
                "good",
                f"{listed(clear, str)} {verb} above the baselines in every language, each by its own 95% interval.",
            )
        )
    return out


def _gaps(judged: Judged) -> list[Finding]:
    """Which models have learnt their training data by heart."""
    large: dict[str, list[str]] = {}
    for model, by_language in judged.figures.items():
        found = {tag: one for tag, f in by_language.items() if (one := tables.estimate(f, GAP))}
        ends = {tag: interval for tag, one in found.items() if (interval := one.interval())}
        tags = [tag for tag, (low, _) in ends.items() if low > LARGE_GAP]
        if tags:
            large.setdefault(_where(tags, len(found)), []).append(tables.name_of(model))
    text = f"More than {100 * LARGE_GAP:.0f} points better on the training data than on these: {_grouped(large)}."
    return [Finding("watch", text)] if large else []


def _where(tags: Sequence[str], of: int) -> str:
    """The languages by name where they are few, or how many of those that were judged."""
    if len(tags) == of > 1:
        return f"in all {of} languages"
    return f"in {listed(tags) if len(tags) <= NAMED else f'{len(tags)} of {of} languages'}"


def _grouped(models: Mapping[str, list[str]]) -> str:
    """Where, and which models."""
    return "; ".join(f"{listed(names, str)} {where}" for where, names in models.items())


def _verdicts(judged: Judged) -> list[Finding]:
    told = {"no_verdict": "gives no verdict on", "flip_rate": "contradicts itself when the order is swapped on"}
    out = []
    if judged.silent:
        names = listed(judged.silent, tables.name_of)
        verb = "gives" if len(judged.silent) == 1 else "give"
        out.append(Finding("watch", f"{names} {verb} no verdict on any item, and so no accuracy."))
    for model in judged.judging:
        by_language = judged.figures[model]
        for metric, what in told.items():
            often = {tag: f[metric] or 0.0 for tag, f in by_language.items() if (f.get(metric) or 0.0) > OFTEN}
            if often:
                worst = max(often, key=often.__getitem__)
                where = f"{_percent(often[worst])} of the items in {tables.language_name(worst)}"
                others = f", and on more than {OFTEN:.0%} in {len(often)} languages" * (len(often) > 1)
                out.append(Finding("watch", f"{tables.name_of(model)} {what} {where}{others}."))
    return out


def _own_answers(data: ReportData, judged: Judged) -> list[Finding]:
    """Where a reward model is worse on the answers of the last model than on those of the first."""
    out = []
    for model in judged.figures:
        metrics = on_answers(data.results, model)
        if len(metrics) < 2:
            continue
        first, last = metrics[0], metrics[-1]
        worse = []
        for tag, figures in data.results[model].items():
            before, after = (tables.estimate(figures, metric) for metric in (first, last))
            ends = [one.interval() if one else None for one in (before, after)]
            if ends[0] and ends[1] and ends[1][1] < ends[0][0]:
                worse.append(tag)
        if worse:
            names = [tables.name_of(metric.removeprefix(tables.ON_ANSWERS)) for metric in (last, first)]
            text = f"{tables.name_of(model)} tells right from wrong worse in answers of {names[0]} than in those of "
            out.append(Finding("watch", f"{text}{names[1]} {_where(worse, len(data.results[model]))}."))
    return out


def _shift(found: Shift) -> list[Finding]:
    out = []
    for layer in map(str, found.layers):
        where = "" if len(found.layers) == 1 else f" at layer {layer}".replace("-", "−")
        out += [*_collapse(found, layer, where), *_closest(found, layer, where)]
    return out


def _collapse(found: Shift, layer: str, where: str) -> list[Finding]:
    """Which models draw the languages together, push them apart, or are not shown to do either."""
    sides: dict[str, list[str]] = {"closer together": [], "further apart": [], "": []}
    for model in found.models:
        one = tables.estimate(found.overall[model][layer], RATIO_CHANGE)
        ends = one.interval() if one else None
        if one and ends:
            side = "closer together" if ends[0] > 0 else "further apart" if ends[1] < 0 else ""
            change = tables.number(one.value, signed=True, places=3)
            sides[side].append(f"{tables.name_of(model)} {change}" if side else tables.name_of(model))
    base = tables.name_of(str(found.base))
    out = [
        Finding("plain", f"Languages lie {side} than in {base}{where} (change of σ₁/Σσ): {', '.join(told)}.")
        for side, told in sides.items()
        if side and told
    ]
    if sides[""]:
        text = f"No change of σ₁/Σσ from {base} is shown{where} in {listed(sides[''], str)}."
        out.append(Finding("plain", text))
    return out


def _closest(found: Shift, layer: str, where: str) -> list[Finding]:
    gap = found.closest.get(layer)
    if gap is None:
        return []
    base = tables.name_of(str(found.base))
    names = gap["model"], gap["next"]
    first, second = (f"{tables.name_of(name)} ({found.overall[name][layer][CKA]:.3f})" for name in names)
    ends = ", ".join(tables.number(gap[end], signed=True, places=3) for end in ("low", "high"))
    size = f"difference {tables.number(gap['difference'], signed=True, places=3)} [{ends}]"
    if gap["low"] > 0:
        return [Finding("plain", f"By linear CKA {first} stays closest to {base}{where}, before {second}: {size}.")]
    text = f"Which model stays closest to {base}{where} cannot be told by linear CKA: {first} and {second}, {size}."
    return [Finding("plain", text)]


def _percent(value: float) -> str:
    return f"{tables.number(value, True)}%"
