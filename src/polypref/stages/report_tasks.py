"""The report's sections on standard tasks: the figures by language and step, and what alignment cost in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_judgment_parts import MOST
from polypref.stages.report_section import Part, alt
from polypref.stages.standard_tasks import FAMILIES, metric_name

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

PLACES = 1
"""Of figures in percent."""


def shown(data: ReportData) -> set[str]:
    """The metrics of results.json that this section shows, so that no other does."""
    return {metric for tasks in (data.standard_tasks or {}).values() for t in tasks.values() for metric in t["metrics"]}


def standard_tasks(data: ReportData, draw: bool) -> Iterator[Part]:
    """The figures that papers report, the others folded away, and a table of the tax for every two models."""
    known = shown(data)
    if not known:
        return
    read = _headline(data)
    grids = {metric: _grid(data, metric) for metric in tables.metrics_of(data.results) if metric in known}
    yield Part(
        "tasks",
        "Standard tasks",
        "Means over items ± standard error, as lm-eval scores them. English is the original of most tasks, so compare "
        "a language with itself.",
        grids=[grid for metric, grid in grids.items() if metric in read],
    )
    yield _tax(data, draw)
    yield Part(
        "tasks-figures",
        "Standard tasks: other figures",
        "",
        grids=[grid for metric, grid in grids.items() if metric not in read],
        folded=True,
    )


def _headline(data: ReportData) -> set[str]:
    """The figure that papers report of a family; of one that is not ours, all."""
    read: set[str] = set()
    for tasks in (data.standard_tasks or {}).values():
        for task in tasks.values():
            family = FAMILIES.get(task["family"])
            own = metric_name(task["family"], family.metric) if family else None
            read.update([own] if own in task["metrics"] else task["metrics"])
    return read


def _grid(data: ReportData, metric: str) -> tables.Grid:
    """A row a step, a column a language; in percent where every value lies in [0, 1]."""
    name = tables.namer(data.unseen)
    values = tables.values_of(data.results, metric)
    share = all(0 <= value <= 1 for value in values)
    places = PLACES if share else tables.decimals(values)
    rows = {step: by for step, by in data.results.items() if any(metric in figures for figures in by.values())}
    tags = tables.order(tag for by in rows.values() for tag, figures in by.items() if metric in figures)
    grid = tables.Grid(tables.name_of(metric) + ", %" * share, ["", *map(name, tags)])
    for step, by in rows.items():
        cells = (tables.cell_of(tables.estimate(by.get(tag, {}), metric), share, places) for tag in tags)
        grid.rows.append([tables.Cell(tables.name_of(step)), *cells])
    return grid


def _tax(data: ReportData, draw: bool) -> Part:
    part = Part(
        "tax",
        "The alignment tax",
        "The same items before and after; a negative difference is a cost. Differences with 95% intervals and the "
        "two-sided p of the paired t-test; means are clustered by item. Of 20 rows, one p below .05 is what chance "
        "alone gives: read the mean of all first.",
    )
    name = tables.namer(data.unseen)
    for table in data.alignment_tax or ():
        named = [(f"{tables.name_of(row['metric'])}, {name(row['language'])}", row) for row in table["rows"]]
        means = [(f"{tables.name_of(row['metric'])}, mean", row) for row in table["by_metric"]]
        rows = [("all, mean", table["macro"]), *means, *named]
        share = all(0 <= row[side] <= 1 for _, row in rows for side in ("before", "after"))
        sides = [tables.name_of(table[side]) for side in ("from", "to")]
        title = f"{sides[0]} → {sides[1]}" + ", % and points" * share
        grid = tables.Grid(title, ["", *sides, "difference", "p", "items"])
        grid.rows.extend([tables.Cell(called), *_cells(row, share)] for called, row in rows)
        part.grids.append(grid)
        if draw and len(table["rows"]) <= MOST:
            by = 100.0 if share else 1.0
            dots = [
                charts.Dot(
                    tables.name_of(row["metric"]),
                    name(row["language"]),
                    by * row["difference"],
                    *(None if row[end] is None else by * row[end] for end in ("low", "high")),
                )
                for row in table["rows"]
            ]
            said = alt(part.title, [grid])
            svg = charts.dots(dots, y="difference" + ", points" * share, rule=0, colours=charts.COLOURS[1:], alt=said)
            part.charts.append((f"{sides[0]} → {sides[1]}", svg))
    return part


def _cells(row: Mapping[str, Any], share: bool) -> list[tables.Cell]:
    places = PLACES if share else 3
    before, after = (tables.Cell(tables.number(row[side], share, places=places)) for side in ("before", "after"))
    gain = tables.gain_cell({"gain": row["difference"], "low": row["low"], "high": row["high"]}, share)
    p = row["p"]
    chance = tables.NOTHING if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return [before, after, gain, tables.Cell(chance), tables.Cell(f"{row['n']:,}")]
