"""What is known of reward models that were judged, as the report's tables, charts and words ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polypref.maths.stats import Estimate
from polypref.stages import report_tables as tables

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

ACCURACY, KAPPA, GAP = "accuracy", "kappa", "generalisation_gap"
BASELINES = ("length_baseline", "majority_baseline")
EQUAL = 1e-12
"""Means of the same credits in another order differ by no more."""
SETTLED = 0.95
"""Share of resamples in which the best source must be the best, to be called so without a doubt."""


@dataclass(frozen=True, slots=True)
class Judged:
    """``ReportData.rewards``, read with the names that the page uses."""

    figures: Mapping[str, tables.Figures]
    trained_on: Mapping[str, list[str]]
    matrix: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    fitted: bool
    """Whether there was training data to fit baselines to."""

    @classmethod
    def of(cls, data: ReportData) -> Judged:
        """Of a run without reward models everything is empty."""
        found = data.rewards or {}
        sections = {
            model: {tag: {name: _section(one) for name, one in of.items()} for tag, of in by.items()}
            for model, by in (found.get("sections") or {}).items()
        }
        figures, trained_on, matrix = (found.get(part) or {} for part in ("figures", "trained_on", "matrix"))
        return cls(figures, trained_on, matrix, sections, bool(found.get("baselines")))

    @property
    def tags(self) -> list[str]:
        """The languages that were judged."""
        return tables.order(tag for by in self.figures.values() for tag in by)

    @property
    def metrics(self) -> set[str]:
        """All that was measured of the models."""
        return {metric for by in self.figures.values() for figures in by.values() for metric in figures}

    @property
    def judging(self) -> list[str]:
        """The models that reached a verdict in some language."""
        return [model for model, by in self.figures.items() if any(f.get(ACCURACY) is not None for f in by.values())]

    @property
    def silent(self) -> list[str]:
        """The models that reached none."""
        return [model for model in self.figures if model not in self.judging]

    def told(self, model: str) -> str:
        """A model with the languages that it was trained on."""
        tags = self.trained_on.get(model) or []
        if not tags:
            return tables.name_of(model)
        told = tables.language_name(tags[0]) if len(tags) == 1 else f"{len(tags)} languages"
        return f"{tables.name_of(model)} ({told.replace(' (', ', ').rstrip(')')})"

    def baseline(self, name: str) -> tables.Figures:
        """A baseline by language: of one run it is the same for every model, whose items are the same."""
        return {
            tag: figures
            for by in reversed(list(self.figures.values()))
            for tag, figures in by.items()
            if figures.get(name) is not None
        }

    def better_baseline(self, model: str, tag: str) -> tuple[str, float] | None:
        """Which baseline is the better one in a language, and its accuracy."""
        figures = self.figures[model].get(tag, {})
        known = {name: float(figures[name] or 0.0) for name in BASELINES if figures.get(name) is not None}
        return max(known.items(), key=lambda entry: entry[1]) if known else None

    def interval(self, model: str, tag: str) -> tuple[float, float] | None:
        """The 95% interval of an accuracy: its own where it has one, else Student's."""
        return interval(self.figures[model].get(tag, {}))

    def above(self, model: str, tag: str) -> bool | None:
        """Whether the interval lies above the better baseline; None where one of them is not known."""
        baseline, ends = self.better_baseline(model, tag), self.interval(model, tag)
        return None if baseline is None or ends is None else ends[0] > baseline[1]

    def best(self, tag: str) -> dict[str, float]:
        """The best model of a language, or all that are equally good, and in which share of the resamples each is the
        best. One model alone is not the best of anything."""
        found = (self.matrix.get("best") or {}).get(tag)
        if not found or len(self.judging) < 2:
            return {}
        first, cells = found["source"], self.matrix.get("cells") or {}
        reached = {model: float(row[tag]["accuracy"]) for model, row in cells.items() if tag in row}
        best = [model for model, value in reached.items() if abs(value - reached[first]) < EQUAL] or [first]
        return {model: float(found["share_best"].get(model, 0.0)) for model in best}


def interval(figures: Mapping[str, float | int | None]) -> tuple[float, float] | None:
    """The 95% interval of an accuracy, inside 0 and 1."""
    ends = figures.get(f"{ACCURACY}_low"), figures.get(f"{ACCURACY}_high")
    if ends[0] is not None and ends[1] is not None:
        return float(ends[0]), float(ends[1])
    found = tables.estimate(figures, ACCURACY)
    inside = found.interval() if found else None
    return None if inside is None else (max(0.0, inside[0]), min(1.0, inside[1]))


def estimate_of(found: Mapping[str, Any]) -> Estimate:
    """A mean of the matrix."""
    return Estimate(float(found["value"]), found.get("stderr"), int(found.get("n") or 0))


def _section(found: float | Mapping[str, Any]) -> Estimate:
    """A section's figure; a share alone has no error."""
    return estimate_of(found) if isinstance(found, Mapping) else Estimate(float(found), None, 0)


def on_answers(results: Mapping[str, tables.Figures], model: str) -> list[str]:
    """The metrics that say how a reward model fares on each model's own answers, in their order."""
    return [m for m in tables.metrics_of({model: results.get(model, {})}) if m.startswith(tables.ON_ANSWERS)]
