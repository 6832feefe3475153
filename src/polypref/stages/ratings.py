"""Ratings of many models by their judgments: Bradley–Terry and Elo, by language, with intervals over prompts.

The dictionaries' shape is told in docs/win-rates.md. Ratings are points on Elo's scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polypref.backends.base import Options
from polypref.errors import InputError
from polypref.maths import ratings as maths
from polypref.maths import stats
from polypref.maths.ratings import Indices
from polypref.maths.stats import Array
from polypref.stages.judgments import Judgment

STANDING = 1000.0
"""Where the anchor stands."""

ORDERS = 100
"""Random orders of the comparisons that an Elo rating is the mean of."""

MOST_PLAYED = 200
"""Resamples that Elo is played through, game by game."""


class RatingOptions(Options):
    """How models are rated."""

    anchor: str | None = Field(None, description="the model that stands at 1000; the mean of all when left out")
    k: float = Field(16.0, gt=0, description="what one comparison moves an Elo rating by at most")
    resamples: int = Field(1000, ge=100, description="of the prompts, for the intervals")
    seed: int = Field(0, ge=0, description="of the resamples and of the orders of Elo")


@dataclass(frozen=True, slots=True)
class _Rated:
    """One kind of rating of M models, [M], and its draws, [R, M]; those of two languages belong together, resample by
    resample."""

    models: list[str]
    values: Array
    draws: Array

    def of(self, names: Sequence[str]) -> _Rated:
        at = [self.models.index(name) for name in names]
        return _Rated(list(names), self.values[at], self.draws[:, at])

    def standing(self, anchors: Sequence[str]) -> _Rated:
        """Moved so that the mean of the anchors is ``STANDING``."""
        at = [self.models.index(name) for name in anchors]
        return dataclasses.replace(
            self,
            values=self.values - self.values[at].mean() + STANDING,
            draws=self.draws - self.draws[:, at].mean(axis=1, keepdims=True) + STANDING,
        )

    def told(self, clusters: int) -> dict[str, dict[str, float | None]]:
        """Model → rating, standard error and interval, the best first."""
        spread = np.full((3, len(self.models)), np.nan)
        if clusters > 1:
            spread[0], spread[1:] = self.draws.std(axis=0, ddof=1), np.quantile(self.draws, [0.025, 0.975], axis=0)
        rows = zip(self.models, self.values, *spread, strict=True)
        told = {
            model: {
                name: None if np.isnan(x) else float(x)
                for name, x in zip(("rating", "stderr", "low", "high"), numbers, strict=True)
            }
            for model, *numbers in rows
        }
        return dict(sorted(told.items(), key=lambda item: -(item[1]["rating"] or 0)))


@dataclass(frozen=True, slots=True)
class _Table:
    """The comparisons of one language, or of all: indices into ``models`` and into the file's prompts."""

    models: list[str]
    first: Indices
    second: Indices
    preferences: Array
    clusters: Indices

    def wins(self, count: int) -> Array:
        """[count, M, M], by prompt."""
        return maths.cluster_wins(self.first, self.second, self.preferences, len(self.models), self.clusters, count)

    def bradley_terry(self, counts: NDArray[np.int64]) -> tuple[_Rated, float]:
        """The ratings, and the share of resamples whose likelihood has no maximum."""
        wins, m = self.wins(counts.shape[1]), len(self.models)
        drawn = (counts @ wins.reshape(-1, m * m)).reshape(-1, m, m)
        rated = _Rated(self.models, maths.bradley_terry(wins.sum(axis=0)), maths.bradley_terry(drawn))
        return rated, float(1 - maths.has_maximum(drawn).mean())

    def elo(self, counts: NDArray[np.int64], options: RatingOptions) -> _Rated:
        """The mean over random orders; a draw is a resample in one order."""
        times = np.concatenate([np.ones((ORDERS, counts.shape[1]), np.int64), counts[:MOST_PLAYED]])
        played = maths.elo(
            self.first,
            self.second,
            self.preferences,
            len(self.models),
            k=options.k,
            clusters=self.clusters,
            counts=times,
            seed=options.seed,
        )
        return _Rated(self.models, played[:ORDERS].mean(axis=0), played[ORDERS:])


def ratings(judgments: Sequence[Judgment], options: RatingOptions) -> dict[str, Any]:
    """What ``polypref evaluate ratings --json`` prints: Bradley–Terry and Elo ratings of all models, baselines too,
    with intervals over resampled prompts (``id``), by language and as the mean over languages. Judgments without a
    verdict are left out. Where comparisons do not connect all models there are no ratings, and a warning.

    Raises:
        InputError: no judgment has a verdict, one is of a model with itself, or the anchor is no model's name.
    """
    told = [j for j in judgments if j.preference is not None]
    if not told:
        raise InputError("no judgment has a verdict; ratings need at least one")
    for j in told:
        if j.model == j.baseline:
            raise InputError(f"the judgment {j.id!r} ({j.language}) is of {j.model!r} with itself; leave it out")
    names = _names(told)
    if options.anchor is not None and options.anchor not in names:
        raise InputError(f"the anchor {options.anchor!r} is none of the models; they are {', '.join(names)}")
    prompts = stats.codes([j.id for j in told])
    counts = stats.resample_counts(int(prompts.max()) + 1, seed=options.seed, resamples=options.resamples)
    tags = sorted({j.language for j in told})
    languages = {tag: [i for i, j in enumerate(told) if j.language == tag] for tag in tags}
    common = [name for name in names if all(name in _names([told[i] for i in rows]) for rows in languages.values())]
    anchors = [options.anchor] if options.anchor is not None else common

    def rated(rows: Sequence[int]) -> tuple[dict[str, Any], dict[str, _Rated]]:
        return _rated([told[i] for i in rows], prompts[list(rows)], counts, anchors, options)

    whole, _ = rated(range(len(told)))
    best = list(whole["bradley_terry"] or names)
    anchor = "mean" if options.anchor is None else options.anchor
    out: dict[str, Any] = {
        "models": best,
        **whole,
        "signature": f"anchor:{anchor}|cluster:id|interval:0.95|k:{options.k:g}|orders:{ORDERS}|"
        f"resamples:{options.resamples}|scale:400/log10|seed:{options.seed}",
    }
    if len(languages) > 1:
        parts = {tag: rated(rows) for tag, rows in languages.items()}
        out["by_language"] = {tag: figures for tag, (figures, _) in parts.items()}
        kinds = {tag: kind for tag, (_, kind) in parts.items() if kind}
        rows = [i for tag in kinds for i in languages[tag]]
        out["macro_average"] = {
            **_macro_average(list(kinds.values()), common, len(set(prompts[rows].tolist()))),
            "languages": list(kinds),
            "n": len(rows),
            "prompts": len(set(prompts[rows].tolist())),
        }
    return out


def _names(judgments: Sequence[Judgment]) -> list[str]:
    return sorted({name for j in judgments for name in (j.model, j.baseline)})


def _rated(
    judgments: Sequence[Judgment],
    clusters: Indices,
    counts: NDArray[np.int64],
    anchors: Sequence[str],
    options: RatingOptions,
) -> tuple[dict[str, Any], dict[str, _Rated]]:
    """The figures of some judgments, and their draws; none where the models are not connected."""
    models = _names(judgments)
    table = _Table(
        models,
        np.array([models.index(j.model) for j in judgments], np.intp),
        np.array([models.index(j.baseline) for j in judgments], np.intp),
        np.array([j.preference for j in judgments], np.float64),
        clusters,
    )
    size = len(set(clusters.tolist()))
    figures = {"n": len(judgments), "prompts": size}
    wins = table.wins(counts.shape[1]).sum(axis=0)
    anchors = anchors or models
    if reason := _unrated(models, wins, anchors):
        return {"bradley_terry": None, "elo": None, **figures, "warning": reason}, {}
    bradley_terry, separable = table.bradley_terry(counts)
    kinds = {
        "bradley_terry": bradley_terry.standing(anchors),
        "elo": table.elo(counts, options).standing(anchors),
    }
    told = {kind: rated.told(size) for kind, rated in kinds.items()}
    return {**told, **figures, "warning": _leaning(wins, separable)}, kinds


def _unrated(models: Sequence[str], wins: Array, anchors: Sequence[str]) -> str | None:
    """Why the models cannot be rated."""
    groups = maths.components(wins)
    if len(groups) > 1:
        told = "; ".join(", ".join(models[i] for i in group) for group in groups)
        return f"no comparison connects these models: {told}; compare one of each group, or rate them apart"
    if not set(anchors) <= set(models):
        return f"the anchor {anchors[0]!r} is not compared here, so the ratings would stand nowhere"
    return None


def _leaning(wins: Array, separable: float) -> str | None:
    """What a reader should know of ratings that a ridge keeps finite."""
    if not maths.has_maximum(wins):
        return (
            "some models won or lost all comparisons with the others, so the likelihood has no maximum: the "
            f"Bradley–Terry ratings rest on a ridge of {maths.RIDGE:g} on the log-odds"
        )
    if separable > 0.025:
        return (
            f"in {separable:.0%} of the resamples some models won or lost all comparisons with the others: the ends of "
            f"the Bradley–Terry intervals rest on a ridge of {maths.RIDGE:g} on the log-odds"
        )
    return None


def _macro_average(languages: Sequence[dict[str, _Rated]], common: Sequence[str], prompts: int) -> dict[str, Any]:
    """The mean over languages of the models that all of them have."""
    if not (languages and common):
        return {"bradley_terry": None, "elo": None}
    out = {}
    for kind in languages[0]:
        each = [kinds[kind].of(common) for kinds in languages]
        values, draws = (np.mean([getattr(e, name) for e in each], axis=0) for name in ("values", "draws"))
        out[kind] = _Rated(list(common), values, draws).told(prompts)
    return out
