"""The report's section on the diagnosis: in which languages a reward is worth a training, and on what evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypref.maths.stats import Estimate
from polypref.stages import report_tables as tables
from polypref.stages.report_alignments import EVEN, main
from polypref.stages.report_section import Part
from polypref.stages.report_words import Finding, named

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

VERDICTS = {"go": ("✔ go", "good"), "doubtful": ("? doubtful", ""), "no_go": ("✘ no-go", "watch")}
OUTCOMES = {"for": ("✔", "good"), "unclear": ("?", ""), "against": ("✘", "watch")}
"""What stands in the table, a sign beside its colour: neither is told by colour alone."""
EXPERIMENTS = ("accuracy", "accuracy_on_samples", "best_of_n", "length")
HEADS = {
    ("accuracy", "accuracy"): "Accuracy on labelled answers",
    ("best_of_n", "win_rate"): "Win rate of best-of-n",
    ("best_of_n", "quality"): "Gain in quality by best-of-n",
    ("length", "length_characters"): "Length of best-of-n, times one answer's",
}
"""(experiment, metric) → how it is called; the accuracy on a model's samples has its name."""


def diagnosis(data: ReportData) -> Part:
    """A table a reward, and each verdict's reason."""
    found = data.diagnosis or {}
    part = Part(
        "diagnosis",
        "Diagnosis: where the reward is worth a training",
        "Cheap experiments before a training, with 95% intervals: ✔ speaks for it, ✘ against it, ? neither, since the "
        "interval lies on both sides of the limit.",
        grids=[_grid(reward, entry["languages"], data) for reward, entry in found.items()],
    )
    for reward, entry in found.items():
        whose = f"{tables.name_of(reward)}, " * (len(found) > 1)
        for told in entry["languages"].values():
            kind = VERDICTS[told["verdict"]][1] or "plain"
            part.said.append(Finding(kind, whose + tables.name_of(told["said"])))
    return part


def diagnosis_findings(data: ReportData) -> list[Finding]:
    """One sentence a reward."""
    return [_finding(reward, entry["languages"], data) for reward, entry in (data.diagnosis or {}).items()]


def _finding(reward: str, languages: Mapping[str, Any], data: ReportData) -> Finding:
    told = []
    for verdict in VERDICTS:
        tags = [tag for tag, found in languages.items() if found["verdict"] == verdict]
        if tags:
            told.append(f"{verdict.replace('_', '-')} in {named(tags)}")
    verdicts = {found["verdict"] for found in languages.values()}
    kind = "watch" if "no_go" in verdicts else "good" if verdicts == {"go"} else "plain"
    text = f"Diagnosis of {tables.name_of(reward)}: {'; '.join(told)}."
    rates = _afterwards(reward, data)
    called = [tag for tag, found in languages.items() if found["verdict"] == "go" and tag in rates[1]]
    if called:
        won = [tag for tag in called if (tables.ends(rates[1][tag], True)[0] or 0.0) > EVEN]
        shown = (
            f"shown to win in {len(won)} of {len(called)}" if len(called) > 1 else f"{'not ' * (not won)}shown to win"
        )
        text += f" Where it says go, {tables.name_of(rates[0])} is {shown}."
    return Finding(kind, text)


def _afterwards(reward: str, data: ReportData) -> tuple[str, dict[str, Estimate]]:
    """What the reward made, where the run is about that, and its win rate by language."""
    about = main(data)
    if about is None or (about[0].get("made_by") or {}).get(about[1]) != reward:
        return "", {}
    entry, step = about
    rates = {tag: tables.estimate(figures, entry["metric"]) for tag, figures in entry["matrix"][step].items()}
    return step, {tag: one for tag, one in rates.items() if one}


def _grid(reward: str, languages: Mapping[str, Any], data: ReportData) -> tables.Grid:
    """A row a language; a column for the verdict, each experiment, and what came of the training."""
    name = tables.namer(data.unseen)
    prompts = sorted({int(e["n"]) for found in languages.values() for e in found["evidence"]})
    counted = f"On {prompts[0]:,}{f' to {prompts[-1]:,}' * (len(prompts) > 1)} prompts." if prompts else ""
    grid = tables.Grid(tables.name_of(reward), ["", "verdict"], note=counted)
    for tag, found in languages.items():
        text, kind = VERDICTS[found["verdict"]]
        grid.rows.append([tables.Cell(name(tag)), tables.Cell(text, kind=kind)])
    by_language = [{(e["experiment"], e["metric"]): e for e in found["evidence"]} for found in languages.values()]
    for column in sorted({key for row in by_language for key in row}, key=lambda key: (EXPERIMENTS.index(key[0]), key)):
        share = _in_percent(column[1], data)
        grid.header.append(_head(column, [row[column] for row in by_language if column in row], share))
        for cells, row in zip(grid.rows, by_language, strict=True):
            cells.append(_cell(row[column], share) if column in row else tables.Cell(tables.NOTHING))
    step, rates = _afterwards(reward, data)
    if rates:
        grid.header.append(f"Win rate of {tables.name_of(step)} afterwards, %")
        for cells, tag in zip(grid.rows, languages, strict=True):
            cells.append(tables.cell_of(rates.get(tag), True, 1, counted=False))
    return grid


def _in_percent(metric: str, data: ReportData) -> bool:
    """Whether a figure is told in percent; of a gain in quality, the figures that it is a difference of decide."""
    values = tables.values_of(data.results, metric)
    return tables.is_share(metric, values) and (metric != "quality" or bool(values))


def _head(column: tuple[str, str], told: Sequence[Mapping[str, Any]], share: bool) -> str:
    """What was asked, in which unit, against which limit."""
    text = HEADS.get(column, tables.label_of(column[1])) + ", %" * share
    limits = sorted({tables.number(float(e["threshold"]), share) for e in told}, key=float)
    return f"{text}, limit {limits[0]}" + f" to {limits[-1]}" * (len(limits) > 1)


def _cell(evidence: Mapping[str, Any], share: bool) -> tables.Cell:
    sign, kind = OUTCOMES[evidence["outcome"]]
    values = [float(evidence[end]) for end in ("value", "low", "high")]
    places = tables.decimals(values, share)
    value, low, high = (tables.number(one, share, places=places) for one in values)
    return tables.Cell(f"{sign}{tables.NBSP}{value}{tables.NBSP}[{low},{tables.NBSP}{high}]", kind=kind)
