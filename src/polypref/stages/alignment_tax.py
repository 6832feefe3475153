"""What alignment cost in knowledge and reasoning: standard tasks before and after, paired item by item.

A difference is after − before, so a tax is negative. The standard error of a row is that of the items' differences and
its test the paired t-test. A mean over languages is clustered by item, since parallel languages share their items
(Liang and Zeger 1986), with Student's t on G − 1 degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import scipy

from polypref.errors import InputError
from polypref.maths import stats
from polypref.stages.evaluate import Evaluation
from polypref.stages.standard_tasks import Done, evaluation_of, headline


def alignment_tax(
    before: Sequence[Done], after: Sequence[Done], names: tuple[str, str], metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """The table: ``rows`` by metric and language, ``by_metric`` the mean over a metric's languages, ``macro`` the mean
    over all rows. Each has before, after, difference, stderr, low, high (95%), t, p (two-sided) and n, the items.

    Without a standard error (a single item, or differences that are all alike) t and p are None. ``alone`` names the
    tasks that only one of the two was put.

    Args:
        metrics: those of the table; the headline metric of each family when left out.

    Raises:
        InputError: a task was put to the two in different ways or over different items, they share none, or there is no
            such metric.
    """
    old, new = ({one.task: one for one in done} for done in (before, after))
    shared = [task for task in old if task in new]
    if not shared:
        raise InputError(f"{names[0]} and {names[1]} share no task; run the same --tasks for both")
    for task in shared:
        if old[task].asked != new[task].asked or _places(old[task]) != _places(new[task]):
            raise InputError(
                f"{task} was put to {names[0]} and {names[1]} with different settings, versions or items; run it for "
                "both alike"
            )
    first, second = (evaluation_of(done[task] for task in shared) for done in (old, new))
    chosen = list(metrics) or headline(old[task] for task in shared)
    for metric in chosen:
        if metric not in first.values:
            raise InputError(f"there is no metric {metric!r}; there is {', '.join(sorted(first.values))}")
    cells = {(metric, lang): None for metric in chosen for lang in first.values[metric]}
    return {
        "from": names[0],
        "to": names[1],
        "rows": [{"metric": m, "language": lang, **_compared(first, second, [(m, lang)])} for m, lang in cells],
        "by_metric": [
            {"metric": metric, "languages": langs, **_compared(first, second, [(metric, lang) for lang in langs])}
            for metric in chosen
            for langs in [list(first.values[metric])]
        ],
        "macro": {"metrics": chosen, **_compared(first, second, list(cells))},
        "alone": {
            name: sorted(mine.keys() - theirs.keys())
            for name, mine, theirs in zip(names, (old, new), (new, old), strict=True)
        },
    }


def _places(done: Done) -> Mapping[str, set[str]]:
    return {metric: set(values) for metric, values in done.items.items()}


def _compared(before: Evaluation, after: Evaluation, cells: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The unweighted mean over cells (metric, language) before, after, and of the items' differences."""
    old, new = ({cell: side.values[cell[0]][cell[1]] for cell in cells} for side in (before, after))
    strata = {str(cell): {item: new[cell][item] - value for item, value in old[cell].items()} for cell in cells}
    found = stats.mean_of_means(strata)
    means = [stats.mean_of_means({str(cell): values for cell, values in side.items()}).value for side in (old, new)]
    told = {"before": means[0], "after": means[1], "difference": found.value}
    if not found.stderr:
        return {**told, "stderr": found.stderr, "low": None, "high": None, "t": None, "p": None, "n": found.n}
    low, high = found.interval() or (None, None)
    t = found.value / found.stderr
    p = 2 * float(scipy.special.stdtr(found.n - 1, -abs(t)))
    return {**told, "stderr": found.stderr, "low": low, "high": high, "t": t, "p": p, "n": found.n}
