"""The report's sections on language imbalance: which language leads, what its lead is worth, what translation costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.dominance import METRIC as QUALITY
from polypref.stages.dominance import Dominance
from polypref.stages.imbalance_analysis import ACCURACY, BETTER, OWN, TRANSLATED, WORSE
from polypref.stages.report_section import Line, Part, alt, dots, round_name
from polypref.stages.translate import STAGE
from polypref.stages.translation_quality import FAILED, signature
from polypref.stages.translation_quality import METRIC as CHRF

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

IMBALANCE = (ACCURACY, BETTER, WORSE, OWN, TRANSLATED)
TRANSLATION = (CHRF, FAILED)


def pivot_of(data: ReportData) -> str | None:
    """The language that a run takes as leading; None where nothing says so."""
    if data.dominance:
        return str(data.dominance["language"])
    named = (data.config.get("pair") or {}).get("dominant", "pivot")
    found = data.config.get("pivot") if named in ("pivot", "auto") else named
    return None if found is None else str(found)


def by_round(data: ReportData, metric: str) -> list[tuple[str, tables.Figures]]:
    """(a name, the figures) of every step that has the metric; the model that a round starts from is named by it."""
    rounds = {r.get("starts_from"): round_name(r, "starts_from") for r in reversed(data.rounds)}
    return [
        (rounds.get(step, step), by_language)
        for step, by_language in data.results.items()
        if tables.values_of({step: by_language}, metric)
    ]


def leading(data: ReportData, draw: bool) -> Part:
    """Which language answers best, and how far the others are behind."""
    part = Part(
        "leading",
        "The leading language",
        "How well the model answers in each language before it is trained: the mean over prompts, and how far the best "
        "language is ahead of each other, prompt by prompt. Where that interval reaches 0 the two cannot be told "
        "apart. The intervals are not corrected for picking the best of several.",
    )
    if data.dominance is None:
        return part
    found = Dominance.from_json(data.dominance)
    name = tables.namer(data.unseen)
    lines: list[Line] = [(tables.label_of(QUALITY), found.figures, QUALITY)]
    share = tables.is_share(QUALITY, tables.values_of({"": found.figures}, QUALITY))
    grid = tables.lines_grid("Quality before training", lines, name)
    gaps = {tag: {**gap, "gain": gap["difference"]} for tag, gap in found.against.items()}
    cells = [
        tables.gain_cell(gaps[tag], share) if tag in gaps else tables.Cell(tables.NOTHING) for tag in found.figures
    ]
    grid.rows.append([tables.Cell(f"{name(found.leader)} is ahead by"), *cells])
    part.grids.append(grid)
    if draw:
        svg = charts.dots(dots(lines, share, name), y="quality", percent=share, alt=alt(part.title, [grid]))
        part.charts.append(("", svg))
    return part


def imbalance(data: ReportData, draw: bool) -> Part:
    """What the preference of one language over another was worth, under the scorer of the evaluation."""
    pivot = pivot_of(data)
    lead = tables.language_name(pivot) if pivot else "the leading language"
    part = Part(
        "imbalance",
        "Language imbalance",
        f"In every other language a round prefers the translation of the answer in {lead} to the language's own; in "
        f"{lead} its own answer to the translations of the others. Both are judged here, on the prompts where all of "
        "them stand. Accuracy is how often the preferred answer is the better one, ties counting half: the dashed "
        "line at 50% is a coin.",
    )
    name = tables.namer(data.unseen)
    steps = by_round(data, OWN)
    part.grids.extend(_judged(title, by, name) for title, by in steps)
    if not draw or not steps:
        return part
    both: dict[str, list[Line]] = {
        title: [("own answer", by, OWN), ("translation", by, TRANSLATED)] for title, by in steps
    }
    share = all(tables.is_share(m, tables.values_of({"": by}, m)) for two in both.values() for _, by, m in two)
    domain = _domain([dot for two in both.values() for dot in dots(two, share)]) if len(both) > 1 else None
    for title, two in both.items():
        svg = charts.dots(
            dots(two, share, name),
            y="quality",
            percent=share,
            domain=domain,
            colours=(charts.COLOURS[0], charts.COLOURS[3]),
            alt=alt(f"Own and translated answers, {title}", [tables.lines_grid("", two, name)]),
        )
        part.charts.append((f"Own and translated answers, {tables.name_of(title)}", svg))
    series: list[Line] = [(title, by, ACCURACY) for title, by in by_round(data, ACCURACY)]
    if series:
        svg = charts.dots(
            dots(series, True, name),
            y="imbalance accuracy",
            rule=0.5,
            percent=True,
            colours=charts.COLOURS[2:],
            alt=alt("Imbalance accuracy", [tables.lines_grid("", series, name)]),
        )
        part.charts.append(("Imbalance accuracy", svg))
    return part


def _judged(title: str, by_language: tables.Figures, name: tables.Namer) -> tables.Grid:
    """One round: how good both answers are, and how often the preferred one is the better."""
    lines: list[Line] = [
        ("own answer", by_language, OWN),
        ("translation", by_language, TRANSLATED),
        ("accuracy", by_language, ACCURACY),
        ("preferred is better", by_language, BETTER),
        ("preferred is worse", by_language, WORSE),
    ]
    return tables.lines_grid(f"Own and translated answers, {tables.name_of(title)}", lines, name)


def translation(data: ReportData, draw: bool) -> Part:
    """What survives translation, and what fails it."""
    pivot = pivot_of(data)
    lead = tables.language_name(pivot) if pivot else "the leading language"
    part = Part(
        "translation",
        "Translation",
        f"Round-trip chrF: answers in {lead}, translated into a language and back, against what they were (0 to 100). "
        "It cannot tell which way lost what, and copying would score best; a round trip that failed either way has "
        "none and is counted apart.",
    )
    name = tables.namer(data.unseen)
    series: list[Line] = [(title, by, CHRF) for title, by in by_round(data, CHRF)]
    if series:
        grid = tables.lines_grid(tables.label_of(CHRF), series, name)
        part.grids.append(tables.Grid(grid.title, grid.header, grid.rows, f"sacrebleu {signature()}."))
        if draw:
            svg = charts.dots(
                dots(series, False, name), y="chrF", colours=charts.COLOURS[2:], alt=alt("Round-trip chrF", [grid])
            )
            part.charts.append(("Round-trip chrF", svg))
    failed: list[Line] = [(title, by, FAILED) for title, by in by_round(data, FAILED)]
    if failed:
        part.grids.append(tables.lines_grid(tables.label_of(FAILED), failed, name))
    tags = tables.order(tag for by_language in data.results.values() for tag in by_language)
    drops = {round_name(r, "starts_from"): (r.get("summaries") or {}).get(STAGE) for r in data.rounds}
    told = {title: summary for title, summary in drops.items() if summary}
    reasons = tables.drop_grid(told, "Translations that failed, by the language translated into", tags)
    if reasons:
        part.grids.append(reasons)
    return part


def _domain(found: list[charts.Dot]) -> tuple[float, float]:
    """One axis for several charts."""
    ends = [end for dot in found for end in (dot.value, dot.low, dot.high) if end is not None]
    margin = 0.05 * (max(ends) - min(ends)) or 0.5
    return min(ends) - margin, max(ends) + margin
