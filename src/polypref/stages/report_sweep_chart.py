"""A sweep's chart: a panel for the mean and one for each language, the varied values from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.stages import report_charts as charts

COLUMNS, HEIGHT, GUTTER = 3, 190, 66
"""Panels a row, the height of one, and room for its axis."""
DECADE = 10.0
"""Positive numbers that span as much stand on a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: value's label → ``{"value", "low", "high", "seeds": {seed: value}}``, as of ``sweep_figures``."""

    title: str
    figures: Mapping[str, Mapping[str, Any]]


def sweep_chart(
    panels: Sequence[Panel], *, x: str, labels: Sequence[str], values: Sequence[Any], y: str, percent: bool, alt: str
) -> str:
    """The figure of every value with its interval, and behind it, faintly, that of each seed; one y axis for all.

    Numbers stand where they are on the x axis, joined by lines; other values side by side, in their order.
    """
    import altair

    numeric = numbers(values)
    place = dict(zip(labels, values if numeric else labels, strict=True))
    columns = min(COLUMNS, len(panels))
    width = charts.WIDTH // columns - GUTTER * (columns > 1)
    axis = _x(x, labels, values, numeric)
    up = altair.Axis(format="%" if percent else ",~f", tickCount=5)
    scale = altair.Scale(domain=_domain(panels, percent), nice=False)

    def drawn(panel: Panel) -> Any:
        rows = [
            {"x": place[name], **{end: f[end] for end in ("value", "low", "high")}} for name, f in panel.figures.items()
        ]
        single = [{"x": place[name], "value": v} for name, f in panel.figures.items() for v in f["seeds"].values()]
        figures = altair.Chart(altair.Data(values=[_within(row, percent) for row in rows])).encode(x=axis)
        seeds = altair.Chart(altair.Data(values=single)).encode(x=axis)
        height = altair.Y("value:Q", title=y, scale=scale, axis=up)
        layers = [seeds.mark_point(size=30, opacity=0.55, color=charts.MUTED).encode(y=height)]
        if numeric:
            layers.append(figures.mark_line(color=charts.COLOURS[2], strokeWidth=1.6).encode(y=height))
        interval = figures.transform_filter("isValid(datum.low)").mark_rule(color=charts.COLOURS[2], strokeWidth=2.2)
        layers.append(interval.encode(y=altair.Y("low:Q", title=y, scale=scale, axis=up), y2="high:Q"))
        layers.append(figures.mark_point(filled=True, size=70, opacity=1, color=charts.COLOURS[2]).encode(y=height))
        title = altair.TitleParams(panel.title, anchor="start", fontSize=13, color=charts.INK, offset=8)
        return altair.layer(*layers).properties(width=width, height=HEIGHT, title=title)

    rows = [altair.hconcat(*map(drawn, panels[i : i + columns]), spacing=24) for i in range(0, len(panels), columns)]
    return charts.drawn(altair.vconcat(*rows, spacing=28), alt)


def numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers, so that there is a distance between them."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _within(row: Mapping[str, Any], percent: bool) -> dict[str, Any]:
    """A share's interval is drawn inside 0 and 1."""
    return {
        k: min(1.0, max(0.0, v)) if percent and k in ("low", "high") and v is not None else v for k, v in row.items()
    }


def _x(title: str, labels: Sequence[str], values: Sequence[Any], numeric: bool) -> Any:
    import altair

    if not numeric:
        slanted = sum(7.5 * (len(name) + 1) for name in labels) > charts.WIDTH / COLUMNS - GUTTER
        axis = altair.Axis(labelAngle=-32, labelAlign="right", labelBaseline="middle") if slanted else altair.Axis()
        return altair.X("x:N", title=title, sort=list(labels), scale=altair.Scale(domain=list(labels)), axis=axis)
    log = min(values) > 0 and max(values) >= DECADE * min(values)
    scale = altair.Scale(type="log" if log else "linear", domain=[min(values), max(values)], nice=False, padding=14)
    return altair.X(
        "x:Q", title=title, scale=scale, axis=altair.Axis(values=list(values), labelOverlap="greedy", format=",~g")
    )


def _domain(panels: Sequence[Panel], percent: bool) -> list[float]:
    """From the lowest end of an interval to the highest, with a margin."""
    ends = [
        end
        for panel in panels
        for f in panel.figures.values()
        for end in (f["value"], *_within({k: f[k] for k in ("low", "high")}, percent).values(), *f["seeds"].values())
        if end is not None
    ]
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    return [min(ends) - margin, max(ends) + margin]
