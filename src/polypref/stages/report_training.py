"""The report's section on training by reinforcement: reward, KL, length and language, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypref.stages import report_tables as tables
from polypref.stages.report_curves import Panel, Point, curves
from polypref.stages.report_section import Part, alt
from polypref.stages.report_words import Finding, method_name

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

WATCHED = {
    "reward": "Reward",
    "kl": "KL from the start, nats an answer",
    "length_tokens": "Answer length, tokens",
    "off_target_language": "Answers in another language",
}
LOSS = {"loss": "Loss"}
"""Drawn where nothing else was logged."""
ALL = "all languages"
WINDOWS = 10
"""Lines are means over a tenth of the steps: single steps are too noisy to be read."""
FROM_ZERO = ("kl", "off_target_language")

Rows = Sequence[Mapping[str, Any]]


def training(data: ReportData, draw: bool) -> Iterator[Part]:
    """A chart and a table for each training that was logged; its checkpoints are below the page."""
    found = trainings(data)
    part = Part(
        "training",
        "Training, step by step",
        "What was measured on the answers that each step samples to learn from, against the model that the training "
        "starts from.",
    )
    folded = Part("checkpoints", "Checkpoints of the trainings", "", folded=True)
    for model, entry in found.items():
        metrics = _metrics(entry)
        if not metrics:
            continue
        title = f"{tables.name_of(model)} ({method_name(entry['method'])})"
        grid = _grid(title, entry, metrics, data)
        part.grids.append(grid)
        if draw:
            part.charts.append((title, _chart(entry, metrics, data, grid)))
        if checkpoints := _checkpoints(f"Checkpoints of {title}", entry):
            folded.grids.append(checkpoints)
    yield part
    yield folded


def training_findings(data: ReportData) -> list[Finding]:
    """Where a training was stopped, and which checkpoint it came to."""
    out = []
    for model, entry in trainings(data).items():
        stopped, selected = entry.get("stopped"), entry.get("selected")
        taken = (
            f"; the weights of step {selected:,} were taken." if selected else "; the weights of the start were kept."
        )
        taken = "." if selected is None else taken
        steps = [int(row["step"]) for row in entry.get("curve") or ()]
        if stopped:
            why = tables.name_of(stopped["said"]).rstrip(".")
            text = f"The training of {tables.name_of(model)} stopped at step {stopped['step']:,}: {why}{taken}"
            out.append(Finding("watch", text))
        elif selected is not None and steps and selected < max(steps):
            out.append(Finding("plain", f"{tables.name_of(model)} was trained for {max(steps):,} steps{taken}"))
    return out


def trainings(data: ReportData) -> dict[str, Mapping[str, Any]]:
    """Every training of the rounds, by the model that it made."""
    return {model: entry for r in data.rounds for model, entry in (r.get("trainings") or {}).items()}


def _metrics(entry: Mapping[str, Any]) -> dict[str, str]:
    known = {metric for row in entry.get("curve") or () for metric, value in row.items() if value is not None}
    return {m: label for m, label in WATCHED.items() if m in known} or {m: v for m, v in LOSS.items() if m in known}


def _series(entry: Mapping[str, Any], data: ReportData) -> dict[str, Rows]:
    """The rows of all languages, then those of each; with one language alone it is the whole."""
    by_language = entry.get("by_language") or {}
    name = tables.namer(data.unseen)
    if len(by_language) == 1:
        return {name(tag): entry["curve"] for tag in by_language}
    return {ALL: entry["curve"]} | {name(tag): rows for tag, rows in by_language.items()}


def _window(entry: Mapping[str, Any]) -> int:
    return max(1, round(len(entry["curve"]) / WINDOWS))


def _smooth(rows: Rows, metric: str, window: int) -> list[tuple[int, float]]:
    """(step, the mean of the last ``window`` steps at it)."""
    known = [(int(row["step"]), float(row[metric])) for row in rows if row.get(metric) is not None]
    tails = ([value for _, value in known[max(0, i + 1 - window) : i + 1]] for i in range(len(known)))
    return [(step, sum(tail) / len(tail)) for (step, _), tail in zip(known, tails, strict=True)]


def _chart(entry: Mapping[str, Any], metrics: Mapping[str, str], data: ReportData, grid: tables.Grid) -> str:
    window, series = _window(entry), _series(entry, data)
    marks = _marks(entry)
    panels = []
    for metric, label in metrics.items():
        points = [
            Point(line, float(step), value)
            for line, rows in series.items()
            for step, value in _smooth(rows, metric, window)
        ]
        share, zero = metric == "off_target_language", metric in FROM_ZERO
        panels.append(Panel(label, "", points, share, marks=marks, zero=zero))
    x = "step" if window == 1 else f"step; lines are means over the last {window} steps"
    return curves(panels, alt=alt("Training", [grid]), x=x, whole=next(iter(series)), columns=2)


def _marks(entry: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Where it stopped by a rule, and which checkpoint was taken."""
    last = max(int(row["step"]) for row in entry["curve"])
    stopped = (entry.get("stopped") or {}).get("step")
    selected = entry.get("selected")
    if stopped is not None and stopped == selected:
        return [(stopped, "stopped and taken")]
    marks = [(float(selected), "taken")] if selected is not None and selected != last else []
    return marks + ([(float(stopped), "stopped")] if stopped is not None else [])


def _grid(title: str, entry: Mapping[str, Any], metrics: Mapping[str, str], data: ReportData) -> tables.Grid:
    """Where each language began and ended."""
    window = _window(entry)
    over = "step" if window == 1 else f"{window} steps"
    grid = tables.Grid(
        title,
        [""],
        note=f"Means of the first {over} → of the last {over}, on the training's own samples.".replace(" 1 ", " "),
    )
    series = _series(entry, data)
    grid.rows.extend([tables.Cell(line)] for line in series)
    for metric, label in metrics.items():
        share = metric == "off_target_language"
        known = [[float(row[metric]) for row in rows if row.get(metric) is not None] for rows in series.values()]
        ends = [(_mean(v[:window]), _mean(v[-window:])) if v else None for v in known]
        places = tables.decimals([end for both in ends if both for end in both], share)
        grid.header.append(label + ", %" * share)
        for row, both in zip(grid.rows, ends, strict=True):
            told = both and f"{tables.NBSP}→{tables.NBSP}".join(
                tables.number(end, share, places=places) for end in both
            )
            row.append(tables.Cell(told or tables.NOTHING))
    return grid


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _checkpoints(title: str, entry: Mapping[str, Any]) -> tables.Grid | None:
    rows = entry.get("checkpoints") or []
    columns = [metric for metric in tables.order(key for row in rows for key in row) if metric != "step"]
    columns = [metric for metric in columns if all(isinstance(row.get(metric), int | float | None) for row in rows)]
    if not columns:
        return None
    shares = [metric in tables.SHARES for metric in columns]
    heads = [tables.label_of(metric) + ", %" * share for metric, share in zip(columns, shares, strict=True)]
    grid = tables.Grid(title, ["step", *heads])
    for row in rows:
        taken = " (taken)" if row["step"] == entry.get("selected") else ""
        values = zip((row.get(metric) for metric in columns), shares, strict=True)
        told = (tables.NOTHING if value is None else tables.number(float(value), share) for value, share in values)
        grid.rows.append([tables.Cell(f"{row['step']:,}{taken}"), *map(tables.Cell, told)])
    return grid
