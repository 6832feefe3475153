"""The report's charts: altair specifications, drawn to static SVG so that the page needs no script and no network.

The SVG holds light-theme colours; the page's style sheet maps ``INK``, ``MUTED`` and ``GRID`` to its dark theme.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
COLOURS = ("#8593a3", "#e07b1a", "#2f7fd1", "#17987f", "#9457c9", "#d6456b", "#a3841a", "#4b5bd7")
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")

WIDTH, HEIGHT = 800, 250

LOW, HIGH = (0xE8, 0xF1, 0xFA), (0x0B, 0x3D, 0x70)
"""The ends of a heat map's colours: one hue, so that they are told apart by lightness alone."""
UNDER, EVEN, OVER = (0xB4, 0x53, 0x09), (0xF5, 0xF5, 0xF4), (0x0B, 0x5C, 0x9E)
"""The colours around a middle: two hues, of which the colour-blind see the difference too."""
DARK_TEXT, LIGHT_TEXT, FRAME = "#000000", "#ffffff", "#e07b1a"
"""On tiles, whose colours stay in the page's dark theme."""
MAP_WIDTH, TILE_HEIGHT = 680, 32


@dataclass(frozen=True, slots=True)
class Dot:
    """A value of one series at one place of the x axis, with its interval where it has one."""

    x: str
    series: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """A cell of a heat map: its value, what is printed in it, and whether it is framed (``solid``, ``dashed``)."""

    row: str
    column: str
    value: float
    text: str
    frame: str = ""


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
    key = None if len(series) == 1 else legend(series, width)
    cycle = {"domain": series, "range": [colours[i % len(colours)] for i in range(len(series))]}
    colour = altair.Color("series:N", sort=series, legend=key, scale=altair.Scale(**cycle))
    shape = altair.Shape(
        "series:N",
        sort=series,
        legend=key,
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
    return drawn(altair.layer(*layers).properties(width=width, height=HEIGHT), alt)


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
            color=altair.Color("end:N", sort=list(ends), scale=fill, legend=legend(ends, width)),
            shape=altair.Shape("end:N", sort=list(ends), scale=shape, legend=legend(ends, width)),
        ),
    )
    return drawn(chart.properties(width=width, height=HEIGHT), alt)


def heat_map(
    tiles: Sequence[Tile],
    *,
    alt: str,
    rows: Sequence[str],
    columns: Sequence[str],
    width: int = MAP_WIDTH,
    middle: tuple[float, str] | None = None,
    frame: str = FRAME,
) -> str:
    """Values printed in tiles, darker where they are higher, which a line below them says. An empty name among the rows
    or columns is a gap. Around a ``middle``, such as an even win rate, one colour is above and another below.

    A tile that is not there stays blank.
    """
    import altair

    colour = _shades([tile.value for tile in tiles], middle)
    data = altair.Data(values=[{**_tile(tile), **colour(tile.value)} for tile in tiles])
    base = altair.Chart(data).encode(
        x=altair.X("column:N", title=None, axis=_heads(columns, width), scale=_bands(columns)),
        y=altair.Y(
            "row:N", title=None, axis=altair.Axis(labelFontSize=13, labelColor=INK, labelLimit=240), scale=_bands(rows)
        ),
    )
    layers: list[Any] = [base.mark_rect(cornerRadius=3).encode(fill=altair.Fill("fill:N", scale=None, legend=None))]
    for kind, dash in (("solid", []), ("dashed", [4, 3])):
        framed = base.transform_filter(f"datum.frame == '{kind}'")
        layers.append(framed.mark_rect(filled=False, stroke=frame, strokeWidth=3, strokeDash=dash, cornerRadius=3))
    size = 13 if width / len(columns) >= 44 else 11
    for framed_too, weight in (("!=", "bold"), ("==", "normal")):
        written = base.transform_filter(f"datum.frame {framed_too} ''").mark_text(fontSize=size, fontWeight=weight)
        layers.append(written.encode(text="text:N", color=altair.Color("ink:N", scale=None, legend=None)))
    chart = altair.layer(*layers).properties(width=width, height=TILE_HEIGHT * len(rows), title=_scale(tiles, middle))
    return drawn(chart, alt)


def _scale(tiles: Sequence[Tile], middle: tuple[float, str] | None = None) -> Any:
    """What light and dark mean."""
    import altair

    low, high = (end(tiles, key=lambda tile: tile.value).text for end in (min, max))
    text = f"Lightest: {low}, the lowest value here. Darkest: {high}, the highest."
    if middle is not None:
        text = f"Blue is above {middle[1]}, orange below it; the darker, the further away."
    look = {"fontSize": 12, "fontWeight": "normal", "color": MUTED}
    return altair.TitleParams(text, orient="bottom", anchor="start", frame="group", offset=12, **look)


def _tile(tile: Tile) -> dict[str, Any]:
    return {"row": tile.row, "column": tile.column, "text": tile.text, "frame": tile.frame}


def _bands(names: Sequence[str]) -> Any:
    import altair

    return altair.Scale(domain=list(names), paddingInner=0.08, paddingOuter=0.06)


def _heads(columns: Sequence[str], width: int) -> Any:
    """The names above a heat map, aslant where they would run into each other."""
    import altair

    if max(7.5 * (len(line) + 1) for name in columns for line in name.split(" (")) < width / len(columns):
        lines = max(1 + name.count(" (") for name in columns)
        break_ = "split(datum.label, regexp(' (?=[(])'))"
        return altair.Axis(orient="top", labelExpr=break_, labelPadding=8 + 15 * (lines - 1))
    return altair.Axis(orient="top", labelAngle=-38, labelAlign="left", labelBaseline="middle")


FURTHEST = 0.3


def _shades(values: Sequence[float], middle: tuple[float, str] | None = None) -> Callable[[float], dict[str, str]]:
    """Fill and ink of a tile by its value, the whole range of values over the whole range of colours; around a middle
    a value FURTHEST from it has the full colour of its side, so that several maps compare."""
    low, high = min(values), max(values)
    furthest = max(FURTHEST, *(abs(value - middle[0]) for value in values)) if middle is not None else 0.0

    def colours(value: float) -> dict[str, str]:
        ends, place = (LOW, HIGH), (value - low) / (high - low) if high > low else 0.5
        if middle is not None:
            ends = EVEN, OVER if value > middle[0] else UNDER
            place = abs(value - middle[0]) / furthest if furthest else 0.0
        fill = [round(a + place * (b - a)) for a, b in zip(*ends, strict=True)]
        return {
            "fill": "#" + "".join(f"{part:02x}" for part in fill),
            "ink": LIGHT_TEXT if contrast(fill, (255, 255, 255)) >= contrast(fill, (0, 0, 0)) else DARK_TEXT,
        }

    return colours


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """The contrast of two sRGB colours, 1 to 21 (WCAG 2.1); text needs 4.5."""

    def luminance(colour: Sequence[int]) -> float:
        parts = (part / 255 for part in colour)
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _names(xs: Sequence[str], width: int) -> Any:
    """The x axis: what is in brackets under the name, and all aslant where they would run into each other."""
    import altair

    longest = max(len(line) for x in xs for line in x.split(" ("))
    if 7.5 * (longest + 1) < width / len(xs):
        return altair.Axis(labelExpr="split(datum.label, regexp(' (?=[(])'))")
    return altair.Axis(labelAngle=-32, labelAlign="right", labelBaseline="middle")


def legend(series: Sequence[str], width: int) -> Any:
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


def drawn(chart: Any, alt: str) -> str:
    """The chart as an SVG element with its text for those who do not see it."""
    import vl_convert

    spec = chart.configure(**_CONFIG).to_dict()
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    inner = re.sub(r"^<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 role="img" aria-label="{alt}">', svg, count=1)
    return inner.replace("{alt}", html.escape(alt), 1)
