"""The report's line charts: what changes with the number of samples or the step of training, one line a language."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.stages import report_charts as charts

DASHES: Sequence[Sequence[int]] = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
"""Beside the colours, so that lines are not told apart by colour alone."""
GUTTER, HEIGHT, COLUMNS, BANDS = 70, 210, 3, 8
"""Room for an axis, the height of a panel, panels a row, and lines whose bands are still told apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value of one line at one place of the x axis, with its interval where it has one."""

    series: str
    x: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the charts that stand side by side.

    ``level`` is a y worth a dashed line, such as a coin's 0.5; ``marks`` are (x, what is there), upright lines;
    ``zero``: the y axis begins at 0.
    """

    title: str
    y: str
    points: Sequence[Point]
    percent: bool = False
    level: float | None = None
    marks: Sequence[tuple[float, str]] = ()
    zero: bool = False


def curves(
    panels: Sequence[Panel],
    *,
    alt: str,
    x: str,
    whole: str,
    ticks: Mapping[int, str] | None = None,
    same: bool = False,
    columns: int = COLUMNS,
) -> str:
    """Panels of lines, at most ``columns`` a row, under one legend.

    Args:
        x: the title of the x axis.
        whole: the line that is heavier and in ink: that of all languages.
        ticks: x → the second line of its label; the axis is then logarithmic, with a dot on the line at each x.
        same: one y axis for all panels.
    """
    import altair

    columns = min(columns, len(panels))
    width = charts.WIDTH // columns - GUTTER * (columns > 1)
    look = _Look.of([point.series for panel in panels for point in panel.points], whole)
    domain = _domain(panels) if same else None
    drawn = [_panel(panel, look, _x(x, panel, ticks), domain, ticks is not None, width) for panel in panels]
    rows = [altair.hconcat(*drawn[i : i + columns], spacing=24) for i in range(0, len(drawn), columns)]
    return charts.drawn(altair.vconcat(*rows, spacing=28), alt)


@dataclass(frozen=True, slots=True)
class _Look:
    """How each line is drawn, the same in every panel."""

    series: Sequence[str]
    whole: str

    @classmethod
    def of(cls, series: Sequence[str], whole: str) -> _Look:
        return cls(sorted(dict.fromkeys(series), key=lambda name: name != whole), whole)

    @property
    def lines(self) -> list[str]:
        """All but that of the whole."""
        return [name for name in self.series if name != self.whole]

    def scale(self, values: Sequence[Any], of_whole: Any) -> Any:
        """A value a line, in turn, and the whole's own."""
        import altair

        places = {name: i for i, name in enumerate(self.lines)}
        found = [values[places[name] % len(values)] if name in places else of_whole for name in self.series]
        return altair.Scale(domain=list(self.series), range=found)

    def encoded(self) -> dict[str, Any]:
        """Colour and dash of lines, under one legend."""
        import altair

        legend = charts.legend(self.series, charts.WIDTH) if len(self.series) > 1 else None
        if legend is not None:
            legend.symbolType, legend.symbolSize, legend.symbolStrokeWidth = "stroke", 420, 2.6
        kept: dict[str, Any] = {"sort": list(self.series), "legend": legend}
        return {
            "color": altair.Color("series:N", scale=self.scale(charts.COLOURS[1:], charts.INK), **kept),
            "strokeDash": altair.StrokeDash("series:N", scale=self.scale(DASHES, DASHES[0]), **kept),
        }


def _panel(panel: Panel, look: _Look, x: Any, domain: list[float] | None, dotted: bool, width: int) -> Any:
    import altair

    scale = altair.Scale(domain=domain) if domain else altair.Scale(zero=panel.zero, nice=True, padding=6)
    axis = altair.Axis(format="%" if panel.percent else ",~f", tickCount=5)
    values = [{"series": p.series, "x": p.x, "value": p.value, "low": p.low, "high": p.high} for p in panel.points]
    base = altair.Chart(altair.Data(values=values)).encode(x=x)
    y = altair.Y("value:Q", title=panel.y or None, scale=scale, axis=axis)
    layers = [_rule(panel.level, scale)] if panel.level is not None else []
    layers += [_mark(place, what) for place, what in panel.marks]
    look_of = look.encoded()
    if len(look.lines) <= BANDS:
        band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.11)
        low = altair.Y("low:Q", title=panel.y or None, scale=scale, axis=axis)
        layers.append(band.encode(y=low, y2="high:Q", color=look_of["color"]))
    for same, width_of in (("!=", 1.7), ("==", 3.0)):
        lines = base.transform_filter(f"datum.series {same} {json.dumps(look.whole)}")
        layers.append(lines.mark_line(strokeWidth=width_of).encode(y=y, **look_of))
    if dotted:
        layers.append(base.mark_point(filled=True, size=26, opacity=1).encode(y=y, color=look_of["color"]))
    title = altair.TitleParams(panel.title, anchor="start", fontSize=13, fontWeight="bold", color=charts.INK, offset=8)
    return altair.layer(*layers).properties(width=width, height=HEIGHT, title=title)


def _x(title: str, panel: Panel, ticks: Mapping[int, str] | None) -> Any:
    import altair

    if ticks is None:
        last = max((point.x for point in panel.points), default=1.0)
        return altair.X(
            "x:Q", title=title, scale=altair.Scale(domain=[0, last], nice=False), axis=altair.Axis(tickCount=6)
        )
    label = f"[format(datum.value, ',d'), {json.dumps({str(n): text for n, text in ticks.items()})}[datum.value]]"
    axis = altair.Axis(values=list(ticks), labelExpr=label, labelFontSize=12, labelLineHeight=15)
    scale = altair.Scale(type="log", base=2, domain=[min(ticks), max(ticks)], padding=8)
    return altair.X("x:Q", title=title, scale=scale, axis=axis)


def _rule(level: float, scale: Any) -> Any:
    import altair

    mark = altair.Chart(altair.Data(values=[{"level": level}])).mark_rule(color=charts.MUTED, strokeDash=[5, 4])
    return mark.encode(y=altair.Y("level:Q", scale=scale))


def _mark(place: float, what: str) -> Any:
    """An upright line with its name at its head."""
    import altair

    base = altair.Chart(altair.Data(values=[{"place": place, "what": what}])).encode(x="place:Q")
    rule = base.mark_rule(color=charts.MUTED, strokeWidth=1.4)
    text = base.mark_text(align="right", dx=-4, dy=8, fontSize=11, color=charts.MUTED).encode(
        text="what:N", y=altair.value(0)
    )
    return rule + text


def _domain(panels: Sequence[Panel]) -> list[float]:
    """One y axis for all: from the lowest end of an interval to the highest."""
    ends = [end for panel in panels for p in panel.points for end in (p.value, p.low, p.high) if end is not None] + [
        panel.level for panel in panels if panel.level is not None
    ]
    margin = 0.04 * (max(ends) - min(ends)) or 0.5
    return [min(ends) - margin, max(ends) + margin]
