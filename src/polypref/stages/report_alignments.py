"""The report's sections on win rates: each alignment against the model before it, source by target, by category."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_judged import estimate_of
from polypref.stages.report_section import Line, Part, alt, dots

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

WIN_RATE, BY_JUDGE, SCORE_BY, REWARD = "win_rate", "win_rate_by_", "score_by_", "reward"
CATEGORISED = ("win_rate_", "quality_")
EVEN = 0.5
MEAN = "mean"
MOST = 48
"""Points of one chart that can still be told apart."""
OPEN = "†"

Entry = Mapping[str, Any]
"""One of ``ReportData.alignments``."""


def alignments(data: ReportData, draw: bool) -> Iterator[Part]:
    """What came of each alignment."""
    yield _win_rates(data, draw)
    yield _sources(data, draw)


def answers(data: ReportData, draw: bool) -> Iterator[Part]:
    """What judges say of every step's answers, and by category."""
    yield _scores(data)
    yield _categories(data, draw)


def shown(data: ReportData) -> set[str]:
    """The metrics of the results that these sections show."""
    told = {metric for metrics in _categorised(data).values() for metric in metrics.values()}
    return told | {entry["metric"] for entry in data.alignments or ()} | set(_score_metrics(data))


def main(data: ReportData) -> tuple[Entry, str] | None:
    """The alignment and step that the run is about, by its first judge: its last model, else what the reward of the
    pivot made."""
    found = list(data.alignments or ())
    found = [entry for entry in found if entry["judge"] == found[0]["judge"]]
    last = data.rounds[-1].get("model") if data.rounds else None
    for entry in reversed(found):
        if last in entry["matrix"]:
            return entry, str(last)
    return (found[-1], first(found[-1], data)) if found else None


def first(entry: Entry, data: ReportData) -> str:
    """The step that speaks for an alignment: the run's last model, what the pivot's reward made, or the first."""
    last = data.rounds[-1].get("model") if data.rounds else None
    if last in entry["matrix"]:
        return str(last)
    pivot, steps = data.config.get("pivot"), [str(step) for step in entry["matrix"]]
    return next((step for step in steps if entry["sources"].get(step) == [pivot]), steps[0])


def title(entry: Entry) -> str:
    """An alignment as a heading has it."""
    label = tables.name_of(entry["label"])
    return label[:1].upper() + label[1:]


def told(entry: Entry, step: str, name: str | None = None) -> str:
    """A step, or another name for it, with the languages that its reward was trained on."""
    tags = entry["sources"].get(step) or []
    shown_as = tables.name_of(step if name is None else name)
    if not tags:
        return shown_as
    return f"{shown_as} ({tables.language_name(tags[0]) if len(tags) == 1 else f'{len(tags)} languages'})"


def _namer(data: ReportData) -> tables.Namer:
    name = tables.namer(data.unseen)
    return lambda tag: MEAN if tag == MEAN else name(tag)


def _by_judge(data: ReportData) -> dict[tuple[str, str, str], list[Entry]]:
    """(metric, judge, the model before) → the alignments that are judged so."""
    out: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in data.alignments or ():
        out.setdefault((entry["metric"], entry["judge"], entry["against"]), []).append(entry)
    return out


def _lines(entry: Entry) -> list[Line]:
    """A line a step: the mean over languages, then each."""
    metric, out = entry["metric"], list[Line]()
    for step, by_language in entry["matrix"].items():
        mean = (entry.get("mean") or {}).get(step)
        shown_first = {}
        if mean and len(by_language) > 1:
            shown_first[MEAN] = {metric: mean["value"], f"{metric}_stderr": mean["stderr"], f"{metric}_n": mean["n"]}
        out.append((told(entry, step), shown_first | by_language, metric))
    return out


def _win_rates(data: ReportData, draw: bool) -> Part:
    part = Part(
        "win-rates",
        "Win rates against the model before",
        "How often an answer is judged better than one of the model before it was aligned, to the same prompt, ties "
        "counting half. The dashed line at 50% is even: a 95% interval that reaches it shows no gain. The mean weighs "
        "all languages alike and is clustered by prompt.",
    )
    name = _namer(data)
    for (_, judge, against), entries in _by_judge(data).items():
        lines = [line for entry in entries for line in _lines(entry)]
        caption = f"Win rate against {tables.name_of(against)}, judged by {tables.name_of(judge)}"
        grid = tables.lines_grid(caption, lines, name)
        part.grids.append(grid)
        points = dots(lines, True, name)
        if draw and len(points) <= MOST:
            text = alt(part.title, [grid])
            colours = charts.COLOURS[1:]
            svg = charts.dots(points, y="win rate", rule=EVEN, percent=True, colours=colours, alt=text)
            part.charts.append((caption, svg))
    return part


def _sources(data: ReportData, draw: bool) -> Part:
    part = Part(
        "source-target",
        "From which language to which",
        "Win rates in percent: a row is what a reward made, with the language of its preferences; a column is the "
        "language of the prompts. A frame marks a reward of the language itself. "
        f"{OPEN} The 95% interval reaches 50%, so that neither side is shown to win.",
    )
    entries = [entry for entry in data.alignments or () if len(entry["matrix"]) > 1]
    if draw:
        part.charts.extend((_judged(entry, data), _map(entry)) for entry in entries)
    part.grids.extend(grid for grid in (_own_against_others(entries, data), _means(entries, data)) if grid.rows)
    return part


def _judged(entry: Entry, data: ReportData) -> str:
    """An alignment, with its judge where there are several."""
    several = len({other["judge"] for other in data.alignments or ()}) > 1
    return f"{title(entry)}, judged by {tables.name_of(entry['judge'])}" if several else title(entry)


def _map(entry: Entry) -> str:
    tiles = []
    for step, by_language in entry["matrix"].items():
        for tag, figures in by_language.items():
            one = tables.estimate(figures, entry["metric"])
            if one is not None:
                low, high = tables.ends(one, True)
                open_ = low is not None and high is not None and low <= EVEN <= high
                text = tables.number(one.value, True) + OPEN * open_
                frame = "solid" if tag in entry["sources"].get(step, ()) else ""
                tiles.append(charts.Tile(told(entry, step), tables.language_name(tag), one.value, text, frame))
    rows, columns = (tables.order(getattr(tile, side) for tile in tiles) for side in ("row", "column"))
    each = "; ".join(f"{tile.row}, {tile.column}: {tile.text}" for tile in tiles)
    if len(columns) > max(12, len(rows)):
        tiles = [replace(tile, row=tile.column, column=tile.row) for tile in tiles]
        rows, columns = columns, rows
    return charts.heat_map(
        tiles,
        rows=rows,
        columns=columns,
        middle=(EVEN, f"{EVEN:.0%}"),
        frame=charts.INK,
        alt=f"{title(entry)}, win rates in percent. {each}",
    )


def _own_against_others(entries: Sequence[Entry], data: ReportData) -> tables.Grid:
    """What a reward of the language itself is worth over one of another, prompt by prompt."""
    found = {_judged(entry, data): entry.get("monolingual_against_cross_lingual") for entry in entries}
    compared = {words: gains for words, gains in found.items() if gains}
    name = tables.namer(data.unseen)
    tags = tables.order(tag for gains in compared.values() for tag in gains["languages"])
    grid = tables.Grid(
        "A reward of the language itself over those of others, points",
        ["", MEAN, *map(name, tags)],
        note="On the same prompts, against the mean of the other sources, with 95% intervals; the mean is clustered by "
        "prompt. p is of the paired t-test, not corrected for the number of languages.",
    )
    for words, gains in compared.items():
        each = [gains, *(gains["languages"].get(tag) for tag in tags)]
        grid.rows.append(
            [tables.Cell(words), *(tables.gain_cell(one, True) if one else tables.Cell(tables.NOTHING) for one in each)]
        )
        grid.rows.append([tables.Cell("p"), *(_p(one or {}) for one in each)])
    return grid


def _p(gain: Mapping[str, Any]) -> tables.Cell:
    value = gain.get("p")
    if value is None:
        return tables.Cell(tables.NOTHING)
    return tables.Cell("< 0.001" if value < 0.001 else f"{value:.3f}", gain.get("n"))


def _means(entries: Sequence[Entry], data: ReportData) -> tables.Grid:
    """The mean where the reward is the language's own, where it is another's, and what accuracy foretells."""
    named = {"own": "diagonal", "another's": "off_diagonal"}
    grid = tables.Grid("Mean win rate, %", ["", "reward", MEAN, "95% interval", "prompts"])
    taus = []
    for entry in entries:
        for words, key in named.items():
            if entry.get(key):
                one = estimate_of(entry[key])
                low, high = tables.ends(one, True)
                within = tables.NOTHING
                if low is not None and high is not None:
                    within = f"{tables.number(low, True)} to {tables.number(high, True)}"
                value = tables.number(one.value, True)
                cells = (_judged(entry, data), words, value, within, f"{one.n:,}")
                grid.rows.append([tables.Cell(cell) for cell in cells])
        tau = entry.get("tau")
        if tau and tau.get("value") is not None:
            value = tables.number(float(tau["value"]), places=2)
            over = f"{len(entry['matrix'])} rewards, mean over {tau['n']} language{'s' * (tau['n'] > 1)}"
            taus.append(f"{value} ({_judged(entry, data)}, {over})")
    if not taus:
        return grid
    text = "Kendall's τ-b of the rewards' accuracy with their win rates: 1 where the more accurate reward always wins "
    return replace(grid, note=f"{text}more, 0 where accuracy foretells nothing. It is {'; '.join(taus)}.")


def _score_metrics(data: ReportData) -> list[str]:
    """Scores by judges, and the run's own reward beside them."""
    metrics = tables.metrics_of(data.results)
    found = [metric for metric in metrics if metric.startswith(SCORE_BY)]
    return [*found, *([REWARD] if REWARD in metrics and (found or data.alignments) else [])]


def _scores(data: ReportData) -> Part:
    part = Part(
        "scores",
        "What judges and rewards give",
        "Mean scores of the answers, in the unit of whoever gives them. The run's own reward is no judge: it rises by "
        "design.",
    )
    name = tables.namer(data.unseen)
    part.grids.extend(tables.metric_grid(data.results, metric, name) for metric in _score_metrics(data))
    return part


def _categorised(data: ReportData) -> dict[str, dict[str, str]]:
    """Win rate or quality → category → its metric."""
    out: dict[str, dict[str, str]] = {}
    for metric in tables.metrics_of(data.results):
        for start in CATEGORISED:
            if metric.startswith(start) and not metric.startswith(BY_JUDGE):
                out.setdefault(start.rstrip("_"), {})[metric.removeprefix(start)] = metric
    return out


def _categories(data: ReportData, draw: bool) -> Part:
    part = Part("by-category", "By category of prompt", "Means over the prompts of a category.", short=False)
    name = tables.namer(data.unseen)
    about = main(data)
    for what, metrics in _categorised(data).items():
        for category, metric in metrics.items():
            grid = tables.metric_grid(data.results, metric, name)
            label = f"{tables.label_of(what)}, {tables.name_of(category).replace('_', ' ')}"
            part.grids.append(replace(grid, title=label + ", %" * grid.title.endswith("%")))
        if draw and about and what == WIN_RATE:
            by_language = data.results.get(about[1], {})
            part.charts.extend(_drawn(part, by_language, metrics.items(), about[1], name))
    return part


def _drawn(
    part: Part, by_language: tables.Figures, metrics: Iterable[tuple[str, str]], step: str, name: tables.Namer
) -> Iterator[tuple[str, str]]:
    """The win rates of one step by category."""
    lines: list[Line] = [(category.replace("_", " "), by_language, metric) for category, metric in metrics]
    points = dots(lines, True, name)
    if points and len(points) <= MOST:
        caption = f"Win rate of {tables.name_of(step)}"
        text = alt(f"{part.title}: {caption}", [tables.lines_grid("", lines, name)])
        svg = charts.dots(points, y="win rate", rule=EVEN, percent=True, colours=charts.COLOURS[2:], alt=text)
        yield caption, svg
