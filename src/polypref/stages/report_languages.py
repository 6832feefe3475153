"""The report's section on language fidelity: pass rates, and what was asked in one language and answered in which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from polypref.stages import language_fidelity as fidelity
from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_section import Part, alt

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

LABELS: Final[Mapping[str, str]] = {
    fidelity.LINE: "Line pass rate",
    fidelity.WORD: "Word pass rate",
    fidelity.BOTH: "LCPR",
    fidelity.SWITCHING: "Code-switching",
    fidelity.UNJUDGED: "No judged line",
}
"""The rates of a terminal's table."""
TITLES: Final[Mapping[str, str]] = {
    fidelity.LINE: "Line pass rate: answers with every line in the wanted language",
    fidelity.WORD: "Word pass rate: of those, answers without an English word (scripts other than Latin)",
    fidelity.BOTH: "Language confusion pass rate: harmonic mean of the two",
    fidelity.SWITCHING: "Code-switching: answers in more than one language or script",
    fidelity.UNJUDGED: "Answers without a line that could be judged",
    fidelity.ASKS_OTHER: "Answers left out, since their prompt asks for another language",
}
READ: Final = (fidelity.LINE, fidelity.WORD, fidelity.BOTH, fidelity.SWITCHING)
"""Rates that are read in every report; the others are folded away."""
SETTINGS: Final = ("", fidelity.CROSSLINGUAL)
COLUMNS: Final = 14
"""Of a heat map; rarer languages of answers share the last one."""
OTHERS, UNDETERMINED = "others", "cannot be told"

Figures = tables.Figures


def shown(data: ReportData) -> set[str]:
    """The metrics of results.json that this section shows, so that no other does."""
    rates = {prefix + rate for prefix in SETTINGS for rate in fidelity.RATES}
    known = tables.metrics_of(data.results)
    return {m for m in known if m in rates or any(_answered_in(m, prefix) for prefix in SETTINGS)}


def languages_answered(data: ReportData, draw: bool) -> Iterator[Part]:
    """What was asked in one language and answered in which; nothing where it was not measured."""
    known = shown(data)
    if not known:
        return
    part = Part(
        "languages",
        "Does it answer in the language that it is asked in?",
        "As the Language Confusion Benchmark counts: a line is judged where it has enough words and its language can "
        "be told. Means over prompts ± standard error.",
        short=False,
    )
    details = Part("languages-figures", "Language of the answers in full", "", folded=True)
    for prefix in SETTINGS:
        told = ", crosslingual" * bool(prefix)
        for rate in fidelity.RATES:
            if prefix + rate in known:
                grid = _rates(data, prefix + rate, TITLES[rate] + told)
                (part if rate in READ else details).grids.append(grid)
        matrices = {step: rows for step, by in data.results.items() if (rows := _matrix(by, prefix))}
        grids = {step: _grid(f"{tables.name_of(step)}{told}", rows, data) for step, rows in matrices.items()}
        details.grids.extend(grids.values())
        if draw:
            for step in _ends(list(matrices)):
                svg = _map(matrices[step], data, alt("Asked and answered", [grids[step]]))
                part.charts.append((grids[step].title, svg))
    yield part
    yield details


def _answered_in(metric: str, prefix: str) -> str | None:
    """The language that a metric counts answers in; None where it is another metric."""
    start = prefix + fidelity.ANSWERED
    return metric.removeprefix(start) if metric.startswith(start) else None


def _rates(data: ReportData, metric: str, title: str) -> tables.Grid:
    """A row a step, a column a language, in percent."""
    name = tables.namer(data.unseen)
    rows = {step: by for step, by in data.results.items() if any(f.get(metric) is not None for f in by.values())}
    tags = tables.order(tag for by in rows.values() for tag, f in by.items() if f.get(metric) is not None)
    grid = tables.Grid(f"{title}, %", ["", *map(name, tags)])
    for step, by in rows.items():
        cells = [tables.cell_of(tables.estimate(by.get(tag, {}), metric), True, 1) for tag in tags]
        grid.rows.append([tables.Cell(tables.name_of(step)), *cells])
    return grid


def _matrix(by_language: Figures, prefix: str) -> dict[str, dict[str, float]]:
    """Asked language → language of the answer → share."""
    found: dict[str, dict[str, float]] = {}
    for lang, figures in by_language.items():
        for metric, value in figures.items():
            tag = _answered_in(metric, prefix)
            if tag is not None and value is not None and not metric.endswith(("_stderr", "_n")):
                found.setdefault(lang, {})[tag] = float(value)
    return found


def _columns(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The asked languages, the others by how often they were answered in, and ``und`` last."""
    own = tables.order(lang.partition("-")[0] for lang in rows)
    share: dict[str, float] = {}
    for row in rows.values():
        for tag, value in row.items():
            share[tag] = share.get(tag, 0.0) + value
    rest = sorted(share.keys() - {*own, fidelity.UNDETERMINED}, key=lambda tag: (-share[tag], tag))
    return [*own, *rest, *([fidelity.UNDETERMINED] if fidelity.UNDETERMINED in share else [])]


def _name(tag: str) -> str:
    return UNDETERMINED if tag == fidelity.UNDETERMINED else tables.language_name(tag)


def _grid(title: str, rows: Mapping[str, Mapping[str, float]], data: ReportData) -> tables.Grid:
    name, columns = tables.namer(data.unseen), _columns(rows)
    grid = tables.Grid(f"{title}: asked (rows) and answered (columns), % of answers", ["", *map(_name, columns)])
    for lang, row in rows.items():
        cells = [
            tables.Cell(tables.number(row[tag], share=True) if row.get(tag) else tables.NOTHING) for tag in columns
        ]
        grid.rows.append([tables.Cell(name(lang)), *cells])
    return grid


def _ends(steps: Sequence[str]) -> list[str]:
    """The first step and the last: before and after."""
    return list(dict.fromkeys((steps[0], steps[-1]))) if steps else []


def _map(rows: Mapping[str, Mapping[str, float]], data: ReportData, told: str) -> str:
    name, columns = tables.namer(data.unseen), _columns(rows)
    kept = [tag for tag in columns if tag != fidelity.UNDETERMINED][:COLUMNS]
    heads: dict[str, list[str]] = {_name(tag): [tag] for tag in kept}
    if rest := [tag for tag in columns if tag not in (*kept, fidelity.UNDETERMINED)]:
        heads[OTHERS] = rest
    if fidelity.UNDETERMINED in columns:
        heads[UNDETERMINED] = [fidelity.UNDETERMINED]
    tiles = [
        charts.Tile(name(lang), head, value, tables.number(value, share=True), _frame(lang, tags))
        for lang, row in rows.items()
        for head, tags in heads.items()
        if (value := sum(row.get(tag, 0.0) for tag in tags))
    ]
    return charts.heat_map(tiles, alt=told, rows=[name(lang) for lang in rows], columns=list(heads))


def _frame(lang: str, tags: Sequence[str]) -> str:
    """The wanted language is framed."""
    return "solid" if tags == [lang.partition("-")[0]] else ""
