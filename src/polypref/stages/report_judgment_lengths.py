"""The report's section on length: does the judge prefer the longer answer?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from polypref.maths.stats import clustered_mean, mean_of_means, share_interval
from polypref.stages import report_tables as tables
from polypref.stages.judgments import Judgment, by_judge
from polypref.stages.report_judgment_charts import Bin, length_chart
from polypref.stages.report_judgment_figures import MEAN, place
from polypref.stages.report_section import Line, Part, alt

LONGER, LENGTH = "share_longer", "length_characters"
BINS, FEWEST = 8, 10
"""Points of a line, and comparisons that a point needs."""
MOST = 8
"""Lines of one chart that can still be told apart."""


def lengths(judgments: Sequence[Judgment], order: Sequence[str], draw: bool = True) -> Part:
    """Preference by length ratio, how often the longer answer is preferred, and the mean lengths.

    Comparisons without a verdict or with an empty answer say nothing, and those of equal lengths do not say which is
    longer. Lengths are in characters; their ratio is what compares between languages.

    Args:
        order: of the models.
    """
    part = Part(
        "lengths",
        "Length against preference",
        "Where a judge likes long answers the line rises: the longer a model's answer is beside the other, the more "
        "it is preferred. Each point is a share of the comparisons with its 95% interval; the crossed lines are equal "
        "lengths and an even preference.",
    )
    whole = [j for j in judgments if j.model_length > 0 and j.baseline_length > 0]
    judges = [(judge, _by_model(theirs, order)) for judge, theirs in by_judge(whole)]
    several = len(judges) > 1
    longer: list[Line] = [
        (f"{model} · {judge}" if several else model, _longer(theirs), LONGER)
        for judge, models in judges
        for model, theirs in models.items()
    ]
    grid = tables.lines_grid("The longer answer is preferred", longer, place)
    if grid.rows:
        part.grids.append(replace(grid, note="50% is no pull of length. Answers of equal length are left out."))
    means = _mean_lengths(whole, order)
    if means.rows:
        part.grids.append(means)
    for judge, models in judges if draw else []:
        bins = [b for model in list(models)[:MOST] for b in binned(models[model], tables.name_of(model))]
        if bins:
            caption = f"Judged by {tables.name_of(judge)}" if several else ""
            part.charts.append((caption, length_chart(bins, alt=alt(part.title, part.grids[:1]))))
    return part


def binned(judgments: Sequence[Judgment], series: str) -> list[Bin]:
    """Groups of comparisons that have a verdict by the ratio of their lengths, at most ``BINS`` with as many in each;
    the interval of a group is clustered by prompt."""
    told = [(j.model_length / j.baseline_length, j.preference, j.id) for j in judgments if j.preference is not None]
    if not told:
        return []
    told.sort(key=lambda one: one[0])
    out = []
    for group in np.array_split(np.arange(len(told)), max(1, min(BINS, len(told) // FEWEST))):
        ratios, preferences, ids = zip(*(told[i] for i in group), strict=True)
        found = clustered_mean(preferences, ids)
        out.append(Bin(series, float(np.median(ratios)), found.value, *(share_interval(found) or (None, None))))
    return out


def _longer(judgments: Sequence[Judgment]) -> dict[str, dict[str, float | int | None]]:
    """How often the longer answer is preferred."""
    told = [j for j in judgments if j.preference is not None and j.model_length != j.baseline_length]
    values = [(j.preference or 0.0) if j.model_length > j.baseline_length else 1 - (j.preference or 0.0) for j in told]
    return _figures(LONGER, told, values)


def _mean_lengths(judgments: Sequence[Judgment], order: Sequence[str]) -> tables.Grid:
    """Of every model and baseline, each answer once, whoever judges it."""
    answers: dict[str, dict[tuple[str, str], tuple[Judgment, float]]] = {name: {} for name in order}
    for j in judgments:
        for name, length in ((j.model, j.model_length), (j.baseline, j.baseline_length)):
            answers.setdefault(name, {})[j.id, j.language] = j, length
    lines: list[Line] = [
        (name, _figures(LENGTH, [j for j, _ in found.values()], [length for _, length in found.values()]), LENGTH)
        for name, found in answers.items()
        if found
    ]
    return tables.lines_grid("Mean length, characters", lines, place)


def _figures(
    metric: str, judgments: Sequence[Judgment], values: Sequence[float]
) -> dict[str, dict[str, float | int | None]]:
    """The mean over prompts by language, and over languages where there are several."""
    found: dict[str, dict[Hashable, list[float]]] = {}
    for j, value in zip(judgments, values, strict=True):
        found.setdefault(j.language, {}).setdefault(j.id, []).append(value)
    strata: dict[str, Mapping[Hashable, float]] = {
        tag: {one: math.fsum(all_) / len(all_) for one, all_ in by.items()} for tag, by in found.items()
    }
    estimates = {tag: mean_of_means({tag: by}) for tag, by in strata.items()}
    if len(strata) > 1:
        estimates = {MEAN: mean_of_means(strata)} | estimates
    return {tag: {metric: e.value, f"{metric}_stderr": e.stderr, f"{metric}_n": e.n} for tag, e in estimates.items()}


def _by_model(judgments: Sequence[Judgment], order: Sequence[str]) -> dict[str, list[Judgment]]:
    out: dict[str, list[Judgment]] = {name: [] for name in order}
    for j in judgments:
        out.setdefault(j.model, []).append(j)
    return {name: theirs for name, theirs in out.items() if theirs}
