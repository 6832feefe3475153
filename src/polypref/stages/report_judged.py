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
SETTLED = 0.95
"""Share of resamples in which the best source must be the best, to be called so without a doubt."""


@dataclass(frozen=True, slots=True)
class Judged:
    """``ReportData.rewards``, read with the names that the page uses."""

    figures: Mapping[str, tables.Figures]
    trained_on: Mapping[str, list[str]]
    matrix: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Mapping[str, float]]]

    @classmethod
    def of(cls, data: ReportData) -> Judged:
        """Of a run without reward models everything is empty."""
        found = data.rewards or {}
        parts = ("trained_on", "matrix", "sections")
        return cls(found.get("figures") or {}, *(found.get(part) or {} for part in parts))

    @property
    def tags(self) -> list[str]:
        """The languages that were judged."""
        return tables.order(tag for by in self.figures.values() for tag in by)

    @property
    def metrics(self) -> set[str]:
        """All that was measured of the models."""
        return {metric for by in self.figures.values() for figures in by.values() for metric in figures}

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

    def best(self, tag: str) -> tuple[str, float] | None:
        """The best model of a language, and in which share of the resamples it is the best."""
        found = (self.matrix.get("best") or {}).get(tag)
        return None if not found else (found["source"], float(found["share_best"].get(found["source"], 0.0)))


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


def on_answers(results: Mapping[str, tables.Figures], model: str) -> list[str]:
    """The metrics that say how a reward model fares on each model's own answers, in their order."""
    return [m for m in tables.metrics_of({model: results.get(model, {})}) if m.startswith(tables.ON_ANSWERS)]
