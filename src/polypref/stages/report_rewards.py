"""The report's sections on reward models: every model in every language, beside what needs no model at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polypref.maths.stats import Estimate
from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_judged import (
    ACCURACY,
    BASELINES,
    GAP,
    KAPPA,
    SETTLED,
    Judged,
    estimate_of,
    interval,
    on_answers,
)
from polypref.stages.report_section import Line, Part, alt, dots
from polypref.stages.report_words import listed

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

SCORE = "score"
"""What a benchmark's sections make together."""
DOTS = 48
"""Points of one chart that can still be told apart; beyond them the heat map says it better."""
FEW = 3
"""Languages whose sections are all shown at once."""
BELOW = "†"
BASELINE_WORDS = {
    "length_baseline": "The length baseline prefers by the answers' length alone; its direction and threshold come "
    "from training data.",
    "majority_baseline": "The majority baseline says of every answer what most training labels say; of pairs and "
    "groups, where no label is the more frequent one, it is chance.",
}
NO_TRAINING = "No baselines: training data is not given (--train, or judge.training in a recipe)."
NOT_OF_A_KIND = "No baselines: the training data is of another kind than what is judged here."


def rewards(data: ReportData, draw: bool) -> Iterator[Part]:
    """The sections on reward models; without any there is nothing in them."""
    judged = Judged.of(data)
    yield _transfer(judged, draw)
    yield _beside(judged, draw)
    yield from _sections(judged)
    yield _agreement(judged)
    yield _on_answers(data, judged, draw)
    yield _categories(judged)


def _transfer(judged: Judged, draw: bool) -> Part:
    part = Part(
        "transfer",
        "Reward models across languages",
        "Accuracy in percent: how often the better answer scores higher, ties counting half. Darker is higher."
        + any(map(judged.best, judged.tags))
        * " An orange frame marks the best model of a language: full where it is "
        f"the best in at least {SETTLED:.0%} of the resamples of prompts, dashed where another often takes its place, "
        "so that which one is best is not settled."
        + (f" Without any verdict, and so not here: {listed(judged.silent, tables.name_of)}." if judged.silent else ""),
    )
    if draw and ACCURACY in judged.metrics:
        part.charts.append(("", _map(judged)))
    part.grids.extend(grid for grid in (_best(judged), _means(judged), _leads(judged)) if grid)
    return part


def _map(judged: Judged) -> str:
    """The heat map: models × languages, lying on its side where there are many languages."""
    names = {model: judged.told(model) for model in judged.judging}
    tiles = []
    for model in names:
        for tag, figures in judged.figures[model].items():
            value = figures.get(ACCURACY)
            if value is not None:
                share = judged.best(tag).get(model)
                frame = "" if share is None else "solid" if share >= SETTLED else "dashed"
                tiles.append((names[model], tables.language_name(tag), float(value), frame))
    rows = [*names.values()]
    for name in BASELINES:
        by_language = judged.baseline(name)
        if by_language:
            rows += [] if "" in rows else [""]
            rows.append(tables.label_of(name))
            tiles.extend(
                (rows[-1], tables.language_name(tag), float(f[name] or 0.0), "") for tag, f in by_language.items()
            )
    columns = [tables.language_name(tag) for tag in judged.tags]
    told = "; ".join(f"{row}, {column}: {tables.number(value, True)}" for row, column, value, _ in tiles)
    if len(columns) > max(12, len(rows)):
        tiles = [(column, row, value, frame) for row, column, value, frame in tiles]
        rows, columns = columns, rows
    return charts.heat_map(
        [charts.Tile(row, column, value, tables.number(value, True), frame) for row, column, value, frame in tiles],
        rows=rows,
        columns=columns,
        alt=f"Accuracy in percent. {told}",
    )


def _best(judged: Judged) -> tables.Grid | None:
    tags = [tag for tag in judged.tags if judged.best(tag)]
    if not tags:
        return None
    grid = tables.Grid(
        "The best model of each language",
        ["", *map(tables.language_name, tags)],
        note="Share of resamples: prompts are drawn with replacement, the same for all models and languages.",
    )
    found = [judged.best(tag) for tag in tags]
    grid.rows.append([tables.Cell("best"), *(tables.Cell(", ".join(map(tables.name_of, best))) for best in found)])
    shares = (", ".join(f"{100 * share:.0f}" for share in best.values()) for best in found)
    grid.rows.append([tables.Cell("in % of resamples"), *map(tables.Cell, shares)])
    return grid


def _means(judged: Judged) -> tables.Grid | None:
    """What transfer costs in the mean."""
    rows = {
        "in the language of their training": judged.matrix.get("diagonal_mean"),
        "in the other languages": judged.matrix.get("off_diagonal_mean"),
    }
    grid = tables.Grid(
        "Mean accuracy of the trained models, %",
        ["", "mean", "95% interval", "prompts"],
        note="Of those that were judged both in a language of their training and in another.",
    )
    for name, found in rows.items():
        if found:
            grid.rows.append([tables.Cell(name), *_estimated(found)])
    return grid if grid.rows else None


def _leads(judged: Judged) -> tables.Grid | None:
    """How far each model is ahead of the languages' own ones."""
    grid = tables.Grid(
        "Lead over the languages' own models, points",
        ["", "mean", "95% interval", "prompts"],
        note="On the same items, in the mean over the languages that have a model of their own and that this one was "
        "not trained on.",
    )
    for model, found in (judged.matrix.get("against_own") or {}).items():
        grid.rows.append([tables.Cell(judged.told(model)), *_estimated(found, signed=True)])
    return grid if grid.rows else None


def _estimated(found: Mapping[str, Any], signed: bool = False) -> list[tables.Cell]:
    """A mean, its interval, in percent or points, and the number of prompts."""
    one = estimate_of(found)
    ends = one.interval()
    told = tables.NOTHING if ends is None else " to ".join(tables.number(end, True, signed) for end in ends)
    return [tables.Cell(tables.number(one.value, True, signed)), tables.Cell(told), tables.Cell(f"{one.n:,}")]


def _beside(judged: Judged, draw: bool) -> Part:
    drawn = draw and len(judged.judging) * len(judged.tags) <= DOTS
    known = [name for name in BASELINES if judged.baseline(name)]
    rule = _level(judged)
    if known:
        told = [BASELINE_WORDS[name] for name in known]
        told.append("An accuracy that is not above that is no sign that the model reads the language.")
        if drawn and rule is not None:
            told.append(f"The dashed line is the majority baseline, {tables.number(rule, True)}%.")
        part = Part("beside", "Beside what needs no reward model", " ".join(told))
    else:
        part = Part("beside", "Accuracy by language", NOT_OF_A_KIND if judged.fitted else NO_TRAINING)
    if not judged.judging:
        return part
    tags = judged.tags
    grid = tables.Grid("Accuracy, %", ["", *map(tables.language_name, tags)])
    marked = False
    for model in judged.judging:
        cells = []
        for tag in tags:
            below = judged.above(model, tag) is False
            cells.append(_accuracy(judged.figures[model].get(tag, {}), BELOW * below))
            marked |= below
        grid.rows.append([tables.Cell(tables.name_of(model)), *cells])
    for name in known:
        cells = [_plain(judged.baseline(name).get(tag, {}), name) for tag in tags]
        grid.rows.append([tables.Cell(tables.label_of(name)), *cells])
    note = "95% intervals, clustered by prompt."
    if marked:
        note += f" {BELOW} The interval is not above the better baseline as it is on these items."
    part.grids.append(replace(grid, note=note))
    if drawn:
        part.charts.append(("", _dots(judged, rule, alt(part.title, [grid]))))
    return part


def _level(judged: Judged) -> float | None:
    """The majority baseline where it is one and the same in every language, as chance is among pairs or groups."""
    found = {round(float(f["majority_baseline"] or 0.0), 9) for f in judged.baseline("majority_baseline").values()}
    return found.pop() if len(found) == 1 else None


def _accuracy(figures: Mapping[str, float | int | None], mark: str) -> tables.Cell:
    value, ends = figures.get(ACCURACY), interval(figures)
    if value is None:
        return tables.Cell(tables.NOTHING)
    text = tables.number(float(value), True) + mark
    if ends:
        low, high = (tables.number(end, True) for end in ends)
        text += f"{tables.NBSP}[{low},{tables.NBSP}{high}]"
    n = figures.get(f"{ACCURACY}_n")
    return tables.Cell(text, None if n is None else int(n))


def _plain(figures: Mapping[str, float | int | None], metric: str) -> tables.Cell:
    value, n = figures.get(metric), figures.get(f"{ACCURACY}_n")
    if value is None:
        return tables.Cell(tables.NOTHING)
    return tables.Cell(tables.number(float(value), True), None if n is None else int(n))


def _dots(judged: Judged, rule: float | None, told: str) -> str:
    """Every accuracy with its interval, and the baselines; the majority's as a line where it is one."""
    found = []
    for name in BASELINES if rule is None else BASELINES[:1]:
        for tag, figures in judged.baseline(name).items():
            share = float(figures[name] or 0.0)
            found.append(charts.Dot(tables.language_name(tag), tables.label_of(name).lower(), share))
    grey = bool(found)
    for model, by_language in judged.figures.items():
        for tag, figures in by_language.items():
            value = figures.get(ACCURACY)
            if value is not None:
                low, high = interval(figures) or (None, None)
                name = tables.language_name(tag)
                found.append(charts.Dot(name, tables.name_of(model), float(value), low, high))
    colours = charts.COLOURS if grey else charts.COLOURS[2:]
    return charts.dots(found, y="accuracy", rule=rule, percent=True, colours=colours, alt=told)


def _sections(judged: Judged) -> Iterator[Part]:
    """A benchmark's sections and their mean; section by section below the page where there are many languages."""
    found = {model: by for model, by in judged.sections.items() if model not in judged.silent}
    tags = tables.order(tag for by in found.values() for tag in by)
    part = Part(
        "sections",
        "By section of the benchmark",
        "Accuracy in percent ± its standard error over prompts, averaged as the benchmark does.",
    )
    if len(tags) > 1:
        grid = tables.Grid("Mean of the sections, %", ["", *map(tables.language_name, tags)])
        for model, by in found.items():
            cells = (_share(by.get(tag, {}).get(SCORE)) for tag in tags)
            grid.rows.append([tables.Cell(tables.name_of(model)), *cells])
        part.grids.append(grid)
    apart = part if len(tags) <= FEW else Part("each-section", "Sections of the benchmark", "", folded=True)
    for tag in tags:
        of_models = {model: by[tag] for model, by in found.items() if tag in by}
        names = tables.order(name for sections in of_models.values() for name in sections)
        grid = tables.Grid(f"{tables.language_name(tag)}, %", ["", *(_section(name) for name in names)])
        for model, sections in of_models.items():
            cells = (_share(sections.get(name)) for name in names)
            grid.rows.append([tables.Cell(tables.name_of(model)), *cells])
        apart.grids.append(grid)
    yield part
    if apart is not part:
        yield apart


def _section(name: str) -> str:
    return tables.name_of(name) if name != SCORE else "mean of the sections"


def _share(found: Estimate | None) -> tables.Cell:
    cell = tables.cell_of(found, True, 1)
    return cell if cell.n else replace(cell, n=None)


def _agreement(judged: Judged) -> Part:
    part = Part(
        "agreement",
        "Agreement with the pivot, and with the training data",
        "Cohen's κ of a model's verdicts in a language with its verdicts on the same prompts in the pivot: 1 is full "
        "agreement, 0 is what chance would give. The generalisation gap is the accuracy on training examples less "
        "that on these: what was learnt by heart.",
    )
    for metric in (KAPPA, GAP, "no_verdict", "flip_rate"):
        lines: list[Line] = [
            (tables.name_of(model), by, metric)
            for model, by in judged.figures.items()
            if metric in (KAPPA, GAP) or any(tables.values_of({model: by}, metric))
        ]
        grid = tables.lines_grid(tables.label_of(metric), lines)
        if grid.rows:
            title = grid.title.replace(", %", ", points") if metric == GAP else grid.title
            part.grids.append(replace(grid, title=title))
    return part


def _on_answers(data: ReportData, judged: Judged, draw: bool) -> Part:
    """What a policy has learnt that its reward does not see."""
    part = Part(
        "own-answers",
        "On the models' own answers",
        "How often a right answer scores above a wrong one among one model's answers to a prompt. Where that falls "
        "from the first model to the one that was trained with the reward, the policy has found what the reward does "
        "not see. The dashed line at 50% is a coin.",
    )
    name = tables.namer(data.unseen)
    for model in judged.figures:
        lines: list[Line] = [
            (metric.removeprefix(tables.ON_ANSWERS), data.results[model], metric)
            for metric in on_answers(data.results, model)
        ]
        grid = tables.lines_grid(f"Accuracy of {tables.name_of(model)} on answers of", lines, name)
        if grid.rows:
            part.grids.append(grid)
            if draw:
                told, colours = alt(grid.title, [grid]), charts.COLOURS[2:]
                svg = charts.dots(
                    dots(lines, True, name), y="accuracy", rule=0.5, percent=True, colours=colours, alt=told
                )
                part.charts.append((grid.title.removesuffix(", %"), svg))
    return part


def _categories(judged: Judged) -> Part:
    """Accuracy by category, model by model."""
    part = Part("categories", "Accuracy of the reward models by category", "", folded=True)
    ends = tuple(f"{ACCURACY}{end}" for end in ("_low", "_high", "_stderr", "_n"))
    for model, by_language in judged.figures.items():
        lines: list[Line] = [
            (metric.removeprefix(f"{ACCURACY}_"), by_language, metric)
            for metric in tables.metrics_of({model: by_language})
            if metric.startswith(f"{ACCURACY}_") and not metric.endswith(ends)
        ]
        if lines:
            part.grids.append(tables.lines_grid(tables.name_of(model), lines))
    return part
