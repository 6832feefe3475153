"""The figures of a sweep: one thing of a recipe varied, each value run over several seeds.

A value's figure is the mean over its runs with the standard error over seeds, s/√S. The seed is the unit: it stands for
all that chance has a hand in (data drawn, training, samples), of which the prompts of one run are a part alone. One run
has no such error; its figure keeps the error over the prompts, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polypref.maths import stats
from polypref.stages.evaluate import Gain

VERSION: int = 1

Over = Literal["seeds", "prompts"]
"""What an interval is over."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of a sweep: which of the values it had, its seed, and its figure by language."""

    value: int
    seed: int
    figures: Mapping[str, stats.Estimate]


def sweep_figures(runs: Sequence[Run], values: int) -> list[dict[str, Any]]:
    """For each of the ``values`` the figure by language and the unweighted mean over languages.

    ``{"languages": {lang: Figure}, "mean": Figure | None, "against_first": {"languages": {lang: Gain}, "mean": Gain} |
    None}``. A Figure is ``{"value", "stderr", "low", "high", "n", "over", "seeds": {seed: value}}``, n seeds or prompts
    as ``over`` says, the interval Student's at 95%. A Gain is the mean difference to the first value over the seeds
    that both have, ``{"gain", "stderr", "low", "high", "n"}``: what a seed brings to both values falls out of it.

    The mean is over the languages that every run has (``languages_of``), since means over others cannot be compared.
    """
    shared = languages_of(runs)
    by_value = [{run.seed: run.figures for run in runs if run.value == index} for index in range(values)]
    out: list[dict[str, Any]] = []
    for by_seed in by_value:
        tags = dict.fromkeys(lang for figures in by_seed.values() for lang in figures)
        by_language = {lang: {s: f[lang] for s, f in by_seed.items() if lang in f} for lang in tags}
        means = {seed: _mean([figures[lang] for lang in shared]) for seed, figures in by_seed.items()} if shared else {}
        out.append(
            {
                "languages": {lang: _figure(found) for lang, found in by_language.items()},
                "mean": _figure(means) if means else None,
            }
        )
    for entry in out:
        entry["against_first"] = None if entry is out[0] else _against(out[0], entry)
    return out


def languages_of(runs: Sequence[Run]) -> list[str]:
    """The languages that every run has a figure in, in the order of the first run."""
    return [lang for lang in (runs[0].figures if runs else ()) if all(lang in run.figures for run in runs)]


def _mean(of_languages: Sequence[stats.Estimate]) -> stats.Estimate:
    """The unweighted mean over one run's languages.

    Languages share their prompts, and results.json does not say how they vary together. Whatever it is, the standard
    error of a mean is at most the mean of the standard errors (Cauchy–Schwarz), which is taken.
    """
    errors = [found.stderr for found in of_languages if found.stderr is not None]
    return stats.Estimate(
        math.fsum(found.value for found in of_languages) / len(of_languages),
        math.fsum(errors) / len(errors) if len(errors) == len(of_languages) else None,
        min(found.n for found in of_languages),
    )


def _figure(by_seed: Mapping[int, stats.Estimate]) -> dict[str, Any]:
    found = list(by_seed.values())
    over: Over = "seeds" if len(found) > 1 else "prompts"
    estimate = stats.mean_stderr([one.value for one in found]) if len(found) > 1 else found[0]
    low, high = (estimate.interval() if estimate.n > 1 else None) or (None, None)
    return {
        "value": estimate.value,
        "stderr": estimate.stderr,
        "low": low,
        "high": high,
        "n": estimate.n,
        "over": over,
        "seeds": {str(seed): one.value for seed, one in by_seed.items()},
    }


def _against(first: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gains over the first value, paired by seed; None where no seed has both."""
    languages = {
        lang: gain
        for lang, figure in entry["languages"].items()
        if lang in first["languages"] and (gain := _gain(first["languages"][lang], figure))
    }
    mean = _gain(first["mean"], entry["mean"]) if first["mean"] and entry["mean"] else None
    return {"languages": languages, "mean": mean} if languages else None


def _gain(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    seeds = [seed for seed in after["seeds"] if seed in before["seeds"]]
    if not seeds:
        return None
    found = stats.paired_difference([before["seeds"][s] for s in seeds], [after["seeds"][s] for s in seeds])
    return Gain.of(found).to_json()
