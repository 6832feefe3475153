"""Transfer of reward models: every model on every language, and which source is best for each target.

Examples are the units throughout, and an example's languages stay together: the same prompts are drawn again for
every model and every target (a joint bootstrap, Efron 1979), so what makes a prompt hard is hard for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polypref.errors import InputError
from polypref.maths.stats import Estimate
from polypref.stages.judge_rewards import Judgement, share_interval

VERSION: int = 2

_CHUNK = 100
"""Resamples that are in memory at once."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Accuracies of sources (models) on targets (languages).

    ``cells``: source → target → accuracy. ``means``: source → its mean over the targets that all sources have, sources
    without a verdict left aside. ``diagonal_mean`` is over the cells whose target the source was trained on,
    ``off_diagonal_mean`` over the others, both of the sources that have cells of either kind, so that the same models
    are compared; None where there is none. ``against_own``: how much a source is ahead of the target's own model (the
    first that was trained on it alone), on average over the targets that it was not trained on and that have one.
    ``best_source``: target → the source of the highest accuracy, of equal ones the first; ``share_best``: target →
    source → in what share of the resamples it was the best one, those that are equally good sharing it.
    """

    sources: list[str]
    targets: list[str]
    trained_on: dict[str, list[str]]
    cells: dict[str, dict[str, Estimate]]
    diagonal_mean: Estimate | None
    off_diagonal_mean: Estimate | None
    means: dict[str, Estimate] = field(default_factory=dict)
    against_own: dict[str, Estimate] = field(default_factory=dict)
    best_source: dict[str, str] = field(default_factory=dict)
    share_best: dict[str, dict[str, float]] = field(default_factory=dict)
    resamples: int = 1000
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """A plain object; ``from_json`` gives the same matrix back."""
        return {
            "version": VERSION,
            "sources": self.sources,
            "targets": self.targets,
            "trained_on": self.trained_on,
            "cells": {s: {t: _cell(cell) for t, cell in row.items()} for s, row in self.cells.items()},
            "means": {source: _cell(estimate) for source, estimate in self.means.items()},
            "diagonal_mean": _plain(self.diagonal_mean),
            "off_diagonal_mean": _plain(self.off_diagonal_mean),
            "against_own": {source: _plain(estimate) for source, estimate in self.against_own.items()},
            "best": {t: {"source": self.best_source[t], "share_best": self.share_best[t]} for t in self.best_source},
            "resamples": self.resamples,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Matrix:
        def estimate(of: Mapping[str, Any] | None, key: str = "value") -> Estimate | None:
            return None if of is None else Estimate(of[key], of["stderr"], of["n"])

        return cls(
            sources=list(value["sources"]),
            targets=list(value["targets"]),
            trained_on={source: list(tags) for source, tags in value["trained_on"].items()},
            cells={
                s: {t: e for t, cell in row.items() if (e := estimate(cell, "accuracy"))}
                for s, row in value["cells"].items()
            },
            means={s: e for s, found in value["means"].items() if (e := estimate(found, "accuracy"))},
            diagonal_mean=estimate(value["diagonal_mean"]),
            off_diagonal_mean=estimate(value["off_diagonal_mean"]),
            against_own={s: e for s, found in value["against_own"].items() if (e := estimate(found))},
            best_source={target: best["source"] for target, best in value["best"].items()},
            share_best={target: dict(best["share_best"]) for target, best in value["best"].items()},
            resamples=value["resamples"],
            seed=value["seed"],
        )


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else {"value": estimate.value, "stderr": estimate.stderr, "n": estimate.n}


def _cell(estimate: Estimate) -> dict[str, Any]:
    low, high = share_interval(estimate)
    return {"accuracy": estimate.value, "stderr": estimate.stderr, "low": low, "high": high, "n": estimate.n}


def matrix(
    judgements: Mapping[str, Judgement],
    trained_on: Mapping[str, Sequence[str]],
    seed: int = 0,
    resamples: int = 1000,
) -> Matrix:
    """The matrix of models that judged the same examples. Items without a verdict are left out of their cell.

    A model that ``trained_on`` does not name, such as one off the shelf, has no language of its own: its cells are on
    neither side of the diagonal. So are those of a model that was trained on every target.

    Raises:
        InputError: there is no model, or none of them reached a verdict.
    """
    tables = _Tables.of(judgements)
    own = {source: list(trained_on.get(source, ())) for source in tables.sources}
    there = {(s, t) for s, t in np.argwhere(tables.items.sum(axis=0) > 0).tolist()}
    judging = sorted({s for s, _ in there})
    common = [t for t in range(len(tables.targets)) if all((s, t) in there for s in judging)]
    diagonal = {(s, t) for s, t in there if tables.targets[t] in own[tables.sources[s]]}
    others = {(s, t) for s, t in there - diagonal if own[tables.sources[s]]}
    both = {s for s, _ in diagonal} & {s for s, _ in others}
    shares = tables.share_best(seed, resamples)
    accuracy = tables.accuracy()
    best = {t: int(np.nanargmax(accuracy[:, t])) for t in sorted({t for _, t in there})}
    return Matrix(
        sources=tables.sources,
        targets=tables.targets,
        trained_on={source: languages for source, languages in own.items() if languages},
        cells={
            source: {target: tables.mean([(s, t)]) for t, target in enumerate(tables.targets) if (s, t) in there}
            for s, source in enumerate(tables.sources)
        },
        means={tables.sources[s]: tables.mean([(s, t) for t in common]) for s in judging if common},
        diagonal_mean=tables.mean_or_none([(s, t) for s, t in sorted(diagonal) if s in both]),
        off_diagonal_mean=tables.mean_or_none([(s, t) for s, t in sorted(others) if s in both]),
        against_own=_against_own(tables, own, there),
        best_source={tables.targets[t]: tables.sources[s] for t, s in best.items()},
        share_best={
            tables.targets[t]: {
                source: float(shares[s, t]) for s, source in enumerate(tables.sources) if (s, t) in there
            }
            for t in best
        },
        resamples=resamples,
        seed=seed,
    )


def _against_own(tables: _Tables, own: Mapping[str, Sequence[str]], there: set[tuple[int, int]]) -> dict[str, Estimate]:
    """Source → its lead over each target's own model, the first that was trained on the target alone."""
    natives: dict[str, int] = {}
    for s, languages in enumerate(own.values()):
        if len(languages) == 1:
            natives.setdefault(languages[0], s)
    out = {}
    for s, source in enumerate(tables.sources):
        pairs = [
            ((s, t), (natives[target], t))
            for t, target in enumerate(tables.targets)
            if target in natives
            and own[source]
            and target not in own[source]
            and {(s, t), (natives[target], t)} <= there
        ]
        if pairs:
            out[source] = tables.mean([first for first, _ in pairs], less=[second for _, second in pairs])
    return out


@dataclass(frozen=True, slots=True)
class _Tables:
    """``credit`` and ``items`` [E, S, T]: the sum of credits, and their number, of E examples by S sources on T
    targets."""

    sources: list[str]
    targets: list[str]
    credit: Array
    items: Array

    @classmethod
    def of(cls, judgements: Mapping[str, Judgement]) -> _Tables:
        if not judgements:
            raise InputError("there is no reward to compare; name at least one")
        decided = [(s, item) for s, j in enumerate(judgements.values()) for item in j.items if item.credit is not None]
        if not decided:
            raise InputError(f"none of {', '.join(judgements)} reached a verdict, so there is nothing to compare")
        # Sorted, so that the order of the examples changes nothing, the bootstrap included.
        examples = {name: i for i, name in enumerate(sorted({item.example for _, item in decided}))}
        targets = {name: i for i, name in enumerate(dict.fromkeys(item.lang for _, item in decided))}
        credit, items = np.zeros((2, len(examples), len(judgements), len(targets)))
        for s, item in decided:
            place = examples[item.example], s, targets[item.lang]
            credit[place] += item.credit or 0.0
            items[place] += 1
        return cls(list(judgements), list(targets), credit, items)

    def accuracy(self, weights: Array | None = None) -> Array:
        """[…, S, T], NaN where there is no item; ``weights`` [R, E]: how often each example was drawn."""
        shape = self.items.shape[1:]
        drawn = np.ones((1, len(self.items))) if weights is None else weights
        credit, items = (drawn @ table.reshape(len(table), -1) for table in (self.credit, self.items))
        with np.errstate(invalid="ignore"):
            found = (credit / items).reshape(-1, *shape)
        return found[0] if weights is None else found

    def mean(self, cells: Sequence[tuple[int, int]], less: Sequence[tuple[int, int]] = ()) -> Estimate:
        """The unweighted mean over cells of their accuracies, less that of the cells ``less``.

        An example's influence is u_e = Σ_cells ±(Σ_i (x_i − x̄))/(C n), its items in the cell summed; the standard
        error is √(G/(G − 1) Σ_e u_e²) over the G examples in any of the cells.
        """
        influence = np.zeros(len(self.items))
        touched = np.zeros(len(self.items), dtype=bool)
        total = 0.0
        for sign, group in ((1.0, cells), (-1.0, less)):
            for s, t in group:
                credit, items = self.credit[:, s, t], self.items[:, s, t]
                n = items.sum()
                share = float(credit.sum() / n)
                total += sign * share / len(group)
                influence += sign * (credit - share * items) / (n * len(group))
                touched |= items > 0
        g = int(touched.sum())
        return Estimate(total, math.sqrt(g / (g - 1) * float(influence @ influence)) if g > 1 else None, g)

    def mean_or_none(self, cells: Sequence[tuple[int, int]]) -> Estimate | None:
        return self.mean(cells) if cells else None

    def share_best(self, seed: int, resamples: int) -> Array:
        """[S, T]: in what share of the resamples of examples a source is the best one, equals sharing it."""
        noise = np.random.default_rng(seed)
        n = len(self.items)
        shares = np.zeros(self.items.shape[1:])
        counted = np.zeros(self.items.shape[2])
        for start in range(0, resamples, _CHUNK):
            size = min(_CHUNK, resamples - start)
            weights = np.stack([np.bincount(noise.integers(0, n, n), minlength=n) for _ in range(size)]).astype(float)
            accuracy = self.accuracy(weights)
            # Sums of credits that are equal may differ in their last bit.
            lead = np.nan_to_num(accuracy, nan=-1.0)
            best = (lead >= lead.max(axis=1, keepdims=True) - 1e-12) & ~np.isnan(accuracy)
            held = best.sum(axis=1, keepdims=True)
            shares += np.divide(best, held, out=np.zeros(best.shape), where=held > 0).sum(axis=0)
            counted += (held[:, 0] > 0).sum(axis=0)
        return np.divide(shares, counted, out=np.zeros(shares.shape), where=counted > 0)
