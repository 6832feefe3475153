"""The report's section on best-of-n: what every n is worth, by reward and language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypref.stages import report_tables as tables
from polypref.stages.report_curves import BANDS, Panel, Point, curves
from polypref.stages.report_section import Line, Part, alt
from polypref.stages.report_words import Finding, listed, named

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

WIN_RATE, QUALITY, SCORE, LENGTH = "win_rate", "quality", "score", "length_characters"
DRAWN = (WIN_RATE, QUALITY, SCORE)
SHORT = (WIN_RATE, QUALITY, LENGTH)
"""Metrics whose first and last n are read in every report."""
MEAN = "mean"
NAMES = {SCORE: "reward", WIN_RATE: "win rate"}

Row = Mapping[str, Any]
Curve = Mapping[str, Sequence[Row]]
"""A reward's rows by language, the mean of all among them."""


def best_of_n(data: ReportData, draw: bool) -> Iterator[Part]:
    """The curves, and below the page every figure of theirs."""
    found = data.best_of_n
    if not found or not found.get("rewards"):
        return
    rewards = {reward: _curve(entry) for reward, entry in found["rewards"].items()}
    model, samples = tables.name_of(found["model"]), int(found["samples"])
    tags = {tag for curve in rewards.values() for tag in curve if tag != MEAN}
    bands = "Bands are 95% intervals over prompts. " * (len(tags) <= BANDS)
    part = Part(
        "best-of-n",
        "Best-of-n: what more samples are worth",
        f"Of n answers of {model} the one with the highest reward, in expectation over the sets of n among {samples} "
        f"samples a prompt. The KL from {model} is at most log n − (n − 1)/n nats, written below each n. {bands}"
        "Where the reward rises and the judge does not follow, it is being exploited.",
    )
    known = {metric for curve in rewards.values() for rows in curve.values() for row in rows for metric in row}
    name = _namer(data)
    part.grids.extend(_ends(rewards, metric, name) for metric in SHORT if metric in known)
    if draw:
        drawn = [metric for metric in DRAWN if metric in known]
        part.charts.extend((_caption(metric, found), _chart(rewards, metric, data, part.grids)) for metric in drawn)
    yield part
    every = Part("best-of-n-figures", "Best-of-n at every n", "", folded=True)
    for reward, curve in rewards.items():
        for metric in tables.metrics_of({reward: {lang: row for lang, rows in curve.items() for row in rows}}):
            if metric not in ("n", "kl_bound"):
                lines = [(f"n = {n}", by, metric) for n, by in _by_n(curve).items()]
                title = f"{tables.name_of(reward)}: {_label(metric)}"
                every.grids.append(tables.lines_grid(title, lines, name))
    yield every


def best_of_n_findings(data: ReportData) -> list[Finding]:
    """Where more samples are shown to be worse than fewer."""
    out = []
    for reward, entry in ((data.best_of_n or {}).get("rewards") or {}).items():
        for metric in (QUALITY, WIN_RATE):
            tags = [tag for tag, rows in (entry.get("curves") or {}).items() if _falls(rows, metric)]
            if tags:
                what = f"Best-of-n by {tables.name_of(reward)} has its highest {NAMES.get(metric, metric)} before the "
                out.append(Finding("watch", f"{what}greatest n in {named(tags)}: more samples exploit the reward."))
                break
    return out


def _falls(rows: Sequence[Row], metric: str) -> bool:
    """Whether the interval at the greatest n lies below the highest value of a smaller n."""
    found = [one for row in rows if (one := tables.estimate(row, metric))]
    ends = found[-1].interval() if found else None
    return ends is not None and ends[1] < max(one.value for one in found)


def _curve(entry: Mapping[str, Any]) -> Curve:
    by_language = dict(entry.get("curves") or {})
    return ({MEAN: entry["mean"]} if entry.get("mean") and len(by_language) > 1 else {}) | by_language


def _by_n(curve: Curve) -> dict[int, dict[str, Row]]:
    """n → language → row."""
    out: dict[int, dict[str, Row]] = {}
    for lang, rows in curve.items():
        for row in rows:
            out.setdefault(int(row["n"]), {})[lang] = row
    return dict(sorted(out.items()))


def _namer(data: ReportData) -> tables.Namer:
    name = tables.namer(data.unseen)
    return lambda tag: MEAN if tag == MEAN else name(tag)


def _label(metric: str) -> str:
    return "Reward" if metric == SCORE else tables.label_of(metric)


def _ends(rewards: Mapping[str, Curve], metric: str, name: tables.Namer) -> tables.Grid:
    """The least and the greatest n of every reward; the least, which nothing picks, once where all share it."""
    first: list[Line] = []
    last: list[Line] = []
    for reward, curve in rewards.items():
        by_n = _by_n(curve)
        low, high = min(by_n), max(by_n)
        alone = low == 1 and all(_same(by_n[1], _by_n(other).get(1, {}), metric) for other in rewards.values())
        if not (alone and first):
            first.append((f"n = {low}" if alone else f"n = {low}, {tables.name_of(reward)}", by_n[low], metric))
        last.append((f"n = {high}, {tables.name_of(reward)}", by_n[high], metric))
    return tables.lines_grid(_label(metric), [*first, *last], name)


def _same(one: Mapping[str, Row], other: Mapping[str, Row], metric: str) -> bool:
    values = [{lang: row.get(metric) for lang, row in by.items()} for by in (one, other)]
    return values[0].keys() == values[1].keys() and all(
        a is b is None or (a is not None and b is not None and abs(a - b) < 1e-9)
        for a, b in ((values[0][lang], values[1][lang]) for lang in values[0])
    )


def _caption(metric: str, found: Mapping[str, Any]) -> str:
    if metric == SCORE:
        return "The reward that picks, each in its own unit"
    return f"{tables.label_of(metric)} of the picked answer" + (
        f", against {tables.name_of(found['model'])}" if metric == WIN_RATE else ""
    )


def _chart(rewards: Mapping[str, Curve], metric: str, data: ReportData, grids: Sequence[tables.Grid]) -> str:
    name = _namer(data)
    values = [
        v for curve in rewards.values() for by in _by_n(curve).values() for v in tables.values_of({"": by}, metric)
    ]
    share = tables.is_share(metric, values)
    trained = {reward: entry.get("trained_on") or [] for reward, entry in (data.best_of_n or {})["rewards"].items()}
    panels = []
    for reward, curve in rewards.items():
        points = [
            Point(name(lang), float(row["n"]), one.value, *tables.ends(one, share))
            for lang, rows in curve.items()
            for row in rows
            if (one := tables.estimate(row, metric))
        ]
        if points:
            told = f" ({listed(trained[reward])})" if len(trained[reward]) == 1 else ""
            level = 0.5 if metric == WIN_RATE else None
            panels.append(Panel(f"{tables.name_of(reward)}{told}", NAMES.get(metric, metric), points, share, level))
    bounds = {
        int(row["n"]): row.get("kl_bound") for curve in rewards.values() for rows in curve.values() for row in rows
    }
    ticks = {n: "" if bound is None else f"{bound:.1f}" for n, bound in sorted(bounds.items())}
    shown = [grid for grid in grids if grid.title.startswith(tables.label_of(metric))] or [_ends(rewards, metric, name)]
    return curves(
        panels,
        alt=alt("Best-of-n", shown),
        x="n (below it: KL bound, nats)",
        whole=MEAN,
        ticks=ticks,
        same=metric != SCORE,
    )
