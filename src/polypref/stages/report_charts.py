"""The report's charts: altair specifications, drawn to static SVG so that the page needs no script and no network.

The SVG holds light-theme colours; the page's style sheet maps ``INK``, ``MUTED`` and ``GRID`` to its dark theme.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
COLOURS = ("#8593a3", "#e07b1a", "#2f7fd1", "#17987f", "#9457c9", "#d6456b", "#a3841a", "#4b5bd7")
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")

WIDTH, HEIGHT = 800, 250


@dataclass(frozen=True, slots=True)
class Dot:
    """A value of one series at one place of the x axis, with its interval where it has one."""

    x: str
    series: str
    value: float
    low: float | None = None
    high: float | None = None


def dots(
    rows: Sequence[Dot],
    *,
    y: str,
    alt: str,
    rule: float | None = None,
    percent: bool = False,
    domain: tuple[float, float] | None = None,
    colours: Sequence[str] = COLOURS,
    width: int = WIDTH,
) -> str:
    """Dots with intervals, the series side by side at each x, both in the order in which they come."""
    import altair

    xs, series = _order(row.x for row in rows), _order(row.series for row in rows)
    data = altair.Data(values=[_record(row) for row in rows])
    crowded = len(xs) * len(series) > 28
    scale = altair.Scale(domain=xs, paddingInner=0.25, paddingOuter=0.12)
    x = altair.X("x:N", sort=xs, title=None, scale=scale, axis=_names(xs, width))
    offset = altair.XOffset("series:N", sort=series, scale=altair.Scale(domain=series))
    legend = None if len(series) == 1 else _legend(series, width)
    cycle = {"domain": series, "range": [colours[i % len(colours)] for i in range(len(series))]}
    colour = altair.Color("series:N", sort=series, legend=legend, scale=altair.Scale(**cycle))
    shape = altair.Shape(
        "series:N",
        sort=series,
        legend=legend,
        scale=altair.Scale(domain=series, range=[SHAPES[i % len(SHAPES)] for i in range(len(series))]),
    )
    scale = altair.Scale(domain=list(domain)) if domain else altair.Scale(zero=False, nice=True, padding=8)
    axis = altair.Axis(format="%" if percent else ",~f", tickCount=6)
    base = altair.Chart(data).encode(x=x, xOffset=offset)
    layers: list[Any] = []
    if rule is not None:
        mark = altair.Chart(altair.Data(values=[{"rule": rule}])).mark_rule(color=MUTED, strokeDash=[5, 4])
        layers.append(mark.encode(y=altair.Y("rule:Q", scale=scale)))
    layers.append(
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.6 if crowded else 2.2)
        .encode(y=altair.Y("low:Q", title=y, scale=scale, axis=axis), y2="high:Q", color=colour)
    )
    layers.append(
        base.mark_point(filled=True, size=42 if crowded else 78, opacity=1).encode(
            y=altair.Y("value:Q", title=y, scale=scale, axis=axis), color=colour, shape=shape
        )
    )
    return _svg(altair.layer(*layers).properties(width=width, height=HEIGHT), alt)


def dumbbells(
    rows: Sequence[tuple[str, float, float]],
    *,
    y: str,
    alt: str,
    ends: tuple[str, str],
    width: int = WIDTH,
    domain: tuple[float, float] | None = None,
) -> str:
    """(x, before, after) as a hollow and a full dot on one line, with a rule at 0."""
    import altair

    xs = _order(x for x, _, _ in rows)
    lines = altair.Data(values=[{"x": x, "before": before, "after": after} for x, before, after in rows])
    points = altair.Data(
        values=[{"x": x, "end": end, "value": v} for x, *both in rows for end, v in zip(ends, both, strict=True)]
    )
    place = altair.X("x:N", sort=xs, title=None, scale=altair.Scale(domain=xs), axis=_names(xs, width))
    scale = altair.Scale(domain=list(domain)) if domain else altair.Scale(zero=True, nice=True, padding=8)
    fill = altair.Scale(domain=list(ends), range=[COLOURS[0], COLOURS[2]])
    shape = altair.Scale(domain=list(ends), range=["circle", "diamond"])
    zero = altair.Chart(altair.Data(values=[{"rule": 0}])).mark_rule(color=MUTED, strokeDash=[5, 4])
    chart = altair.layer(
        zero.encode(y=altair.Y("rule:Q", scale=scale)),
        altair.Chart(lines).mark_rule(color=COLOURS[0], strokeWidth=2).encode(x=place, y="before:Q", y2="after:Q"),
        altair.Chart(points)
        .mark_point(filled=True, size=78, opacity=1)
        .encode(
            x=place,
            y=altair.Y("value:Q", title=y, scale=scale, axis=altair.Axis(format=",~f", tickCount=6)),
            color=altair.Color("end:N", sort=list(ends), scale=fill, legend=_legend(ends, width)),
            shape=altair.Shape("end:N", sort=list(ends), scale=shape, legend=_legend(ends, width)),
        ),
    )
    return _svg(chart.properties(width=width, height=HEIGHT), alt)


def _names(xs: Sequence[str], width: int) -> Any:
    """The x axis: what is in brackets under the name, and all aslant where they would run into each other."""
    import altair

    longest = max(len(line) for x in xs for line in x.split(" ("))
    if 7.5 * (longest + 1) < width / len(xs):
        return altair.Axis(labelExpr="split(datum.label, regexp(' (?=[(])'))")
    return altair.Axis(labelAngle=-32, labelAlign="right", labelBaseline="middle")


def _legend(series: Sequence[str], width: int) -> Any:
    """The legend, in columns where one row would be wider than the chart."""
    import altair

    widths = [40 + 7.5 * len(name) for name in series]
    if sum(widths) <= width:
        return altair.Legend(title=None)
    return altair.Legend(title=None, columns=max(1, int(width // max(widths))))


def _order(items: Any) -> list[str]:
    return list(dict.fromkeys(items))


def _record(row: Dot) -> dict[str, Any]:
    return {"x": row.x, "series": row.series, "value": row.value, "low": row.low, "high": row.high}


_CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "font": "Liberation Sans, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "gridColor": GRID,
        "domain": False,
        "ticks": False,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelPadding": 8,
        "titlePadding": 10,
    },
    "axisX": {"labelAngle": 0, "labelColor": INK, "labelFontSize": 13, "grid": False, "labelLimit": 200},
    "legend": {
        "orient": "top",
        "labelColor": INK,
        "labelFontSize": 13,
        "symbolSize": 90,
        "symbolOpacity": 1,
        "labelLimit": 260,
        "columnPadding": 18,
        "rowPadding": 6,
        "offset": 14,
    },
}


def _svg(chart: Any, alt: str) -> str:
    """The chart as an SVG element with its text for those who do not see it."""
    import vl_convert

    spec = chart.configure(**_CONFIG).to_dict()
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    inner = re.sub(r"^<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 role="img" aria-label="{alt}">', svg, count=1)
    return inner.replace("{alt}", html.escape(alt), 1)
