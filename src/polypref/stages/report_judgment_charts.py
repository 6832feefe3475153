"""The chart of length against preference: what a model wins where its answer is shorter, and where it is longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polypref.stages import report_charts as charts


@dataclass(frozen=True, slots=True)
class Bin:
    """Comparisons of one model whose length ratios lie beside each other: the middle ratio (model to baseline), the
    mean preference for the model and its interval."""

    series: str
    ratio: float
    value: float
    low: float | None
    high: float | None


def length_chart(bins: Sequence[Bin], *, alt: str) -> str:
    """Preference by length ratio, a line a model; the ratio is on a logarithmic axis, and the crossed rules say equal
    lengths and an even preference."""
    import altair

    series = list(dict.fromkeys(one.series for one in bins))
    colours = [charts.COLOURS[1:][i % (len(charts.COLOURS) - 1)] for i in range(len(series))]
    shapes = [charts.SHAPES[i % len(charts.SHAPES)] for i in range(len(series))]
    key = charts.legend(series, charts.WIDTH) if len(series) > 1 else None
    ratios = [one.ratio for one in bins]
    ends = [min(0.5, *ratios), max(2.0, *ratios)]
    places = [2.0**power for power in range(-6, 7) if ends[0] <= 2.0**power <= ends[1]]
    across = altair.Scale(type="log", base=2, domain=ends, nice=False, padding=14)
    x = altair.X(
        "ratio:Q",
        title="length of the model's answer to the baseline's",
        scale=across,
        axis=altair.Axis(values=places, labelExpr="(datum.value < 1 ? '1/' + 1 / datum.value : datum.value) + '×'"),
    )
    words = "preference for the model"
    scale, axis = altair.Scale(domain=[0, 1]), altair.Axis(format="%", tickCount=5)
    values = [
        {"series": one.series, "ratio": one.ratio, "value": one.value, "low": one.low, "high": one.high} for one in bins
    ]
    base = altair.Chart(altair.Data(values=values)).encode(
        x=x,
        color=altair.Color("series:N", sort=series, scale=altair.Scale(domain=series, range=colours), legend=key),
    )
    y = altair.Y("value:Q", title=words, scale=scale, axis=axis)
    even = altair.Chart(altair.Data(values=[{"even": 0.5, "equal": 1.0}])).mark_rule(
        color=charts.MUTED, strokeDash=[5, 4]
    )
    chart = altair.layer(
        even.encode(y=altair.Y("even:Q", scale=scale)),
        even.encode(x=altair.X("equal:Q", scale=across)),
        base.mark_line(strokeWidth=1.4, opacity=0.6).encode(y=y),
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.8)
        .encode(y=altair.Y("low:Q", title=words, scale=scale, axis=axis), y2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(
            y=y,
            shape=altair.Shape("series:N", sort=series, scale=altair.Scale(domain=series, range=shapes), legend=key),
        ),
    )
    return charts.drawn(chart.properties(width=charts.WIDTH, height=charts.HEIGHT), alt)
