"""The report's section on representation shift: what reward training did to the hidden states of parallel texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_judged import Judged
from polypref.stages.report_rewards import DOTS
from polypref.stages.report_section import Line, Part, alt, dots
from polypref.stages.representation import (
    BETWEEN,
    CKA,
    COSINE,
    NORM,
    PIVOT_COSINE,
    RATIO,
    RATIO_CHANGE,
    Metrics,
    Shift,
)

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

REASONS = {
    "missing_language": "without every language",
    "no_answer": "without a preferred answer in every language",
    "over_limit": "beyond the limit",
}


def representation(data: ReportData, draw: bool) -> Iterator[Part]:
    """What is seen in every report, and what is folded away."""
    part = Part(
        "shift",
        "What training did to the representation",
        "One text in all its languages, as hidden states of a model: the singular value ratio σ₁/Σσ is 1 where the "
        "languages collapse onto one line, and least where they lie at right angles. Linear CKA is 1 where a "
        "language's texts still lie to each other as in the base; with fewer texts than dimensions it errs towards 1.",
    )
    folded = Part("shift-figures", "Norms and cosines of hidden states", "", folded=True)
    if data.representation is not None:
        found = Shift.from_json(data.representation)
        judged = Judged.of(data)
        for layer in map(str, found.layers):
            _layer(part, folded, found, layer, judged, draw)
    yield part
    yield folded


def _layer(part: Part, folded: Part, found: Shift, layer: str, judged: Judged, draw: bool) -> None:
    title = "" if len(found.layers) == 1 else f", layer {layer}".replace("-", "−")
    grid = _overall(found, layer, judged, f"Over all languages{title}")
    part.grids.append(grid)
    for metric in (CKA, NORM, PIVOT_COSINE, COSINE):
        of_one = _each(found, layer, metric, f"{tables.label_of(metric)}{title}")
        if of_one.rows:
            (part if metric in (CKA, NORM) else folded).grids.append(of_one)
    if not draw:
        return
    caption = f"Singular value ratio σ₁/Σσ{title}"
    svg = charts.dots(_ratios(found, layer, judged), y="σ₁/Σσ", colours=charts.COLOURS[2:], alt=alt(caption, [grid]))
    part.charts.append((caption, svg))
    if found.base:
        caption = f"Linear CKA with {tables.name_of(found.base)}{title}"
        part.charts.append((caption, _by_language(found, layer, judged, alt(caption, [_each(found, layer, CKA, "")]))))


def _each(found: Shift, layer: str, metric: str, title: str) -> tables.Grid:
    """One figure: a row a model, a column a language."""
    known = {tag for model in found.models for tag, f in found.languages[model][layer].items() if metric in f}
    tags = [tag for tag in found.tags if tag in known]
    grid = tables.Grid(title, ["", *map(tables.language_name, tags)])
    by_model = {model: found.languages[model][layer] for model in found.models}
    places = None if metric == NORM else 3
    if places is None:
        places = tables.decimals(tables.values_of(by_model, metric))
    for model, by_language in by_model.items():
        cells = [_cell(by_language[tag], metric, places) for tag in tags]
        if any(cell.text != tables.NOTHING for cell in cells):
            grid.rows.append([tables.Cell(tables.name_of(model)), *cells])
    return grid


def _name(model: str, found: Shift, judged: Judged) -> str:
    return f"{tables.name_of(model)} (base)" if model == found.base else judged.told(model)


def _ratios(found: Shift, layer: str, judged: Judged) -> list[charts.Dot]:
    out = []
    for model in found.models:
        one = tables.estimate(found.overall[model][layer], RATIO)
        if one is not None:
            low, high = one.interval() or (None, None)
            out.append(charts.Dot(_name(model, found, judged), tables.label_of(RATIO), one.value, low, high))
    return out


def _by_language(found: Shift, layer: str, judged: Judged, told: str) -> str:
    """CKA by language: dots with intervals, or a heat map where they would be too many."""
    models = [model for model in found.models if model != found.base]
    lines: list[Line] = [(judged.told(model), found.languages[model][layer], CKA) for model in models]
    points = dots(lines, share=True)
    if len(points) <= DOTS:
        return charts.dots(points, y="linear CKA", colours=charts.COLOURS[1:], alt=told)
    rows, columns = [tables.language_name(tag) for tag in found.tags], [name for name, _, _ in lines]
    tiles = [charts.Tile(point.x, point.series, point.value, f"{point.value:.2f}") for point in points]
    return charts.heat_map(tiles, rows=rows, columns=columns, alt=told)


def _overall(found: Shift, layer: str, judged: Judged, title: str) -> tables.Grid:
    """A row a model, a column a figure."""
    known = {metric for model in found.models for metric in found.overall[model][layer]}
    metrics = [metric for metric in (RATIO, RATIO_CHANGE, BETWEEN, CKA, COSINE) if metric in known]
    grid = tables.Grid(title, ["", *map(tables.label_of, metrics)], note=_note(found))
    for model in found.models:
        figures = found.overall[model][layer]
        cells = [_change(figures) if metric == RATIO_CHANGE else _cell(figures, metric, 3) for metric in metrics]
        grid.rows.append([tables.Cell(_name(model, found, judged)), *cells])
    return grid


def _cell(figures: Metrics, metric: str, places: int) -> tables.Cell:
    one = tables.estimate(figures, metric)
    if one is None or one.stderr is None:
        return tables.Cell(tables.NOTHING)
    return tables.Cell(f"{tables.number(one.value, places=places)} ± {tables.number(one.stderr, places=places)}")


def _change(figures: Metrics) -> tables.Cell:
    one = tables.estimate(figures, RATIO_CHANGE)
    ends = one.interval() if one else None
    if one is None or ends is None:
        return tables.Cell(tables.NOTHING)
    value, low, high = (tables.number(x, signed=True, places=3) for x in (one.value, *ends))
    return tables.Cell(f"{value}{tables.NBSP}[{low},{tables.NBSP}{high}]")


def _note(found: Shift) -> str:
    """What the figures are of."""
    what = {"prompt": "prompts alone", "chosen": "prompts with their preferred answers"}[found.text]
    centre = {
        "none": "not centred",
        "all": "less the mean of all texts and languages",
        "language": "less each language's mean",
    }[found.centre]
    pooled = {"last": "the last token's state", "mean": "the mean over tokens"}[found.pooling]
    layers = ", ".join(map(str, found.layers)).replace("-", "−")
    text = f"{found.texts} texts ({what}) in {len(found.tags)} languages; layer {layers}, {pooled}, {centre}. "
    text += "± is the standard error over texts, of CKA the jackknife's; brackets are 95% intervals, text by text."
    told = [f"{count} {REASONS.get(reason, reason)}" for reason, count in found.left_out.items()]
    return text + (f" Left out: {'; '.join(told)}." if told else "")
