"""Agreement beyond chance: Cohen's κ (1960) of two raters, Krippendorff's α (2011) of any number.

Notation: n items, G clusters of them, p_k and q_k the shares of category k by the first and the second rater.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polypref.errors import InputError
from polypref.maths.stats import Array, Estimate, cluster_sums, codes, resample_counts


def cohen_kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], groups: Sequence[Hashable] | None = None
) -> Estimate | None:
    """κ = (p_o − p_e)/(1 − p_e) of two [n] lists of categories: p_o the share of items on which they agree,
    p_e = Σ_k p_k q_k the share that chance would give. None where it is undefined: no item, or p_e = 1 (both raters
    give one and the same category throughout).

    The standard error is the delta method's (Fleiss, Cohen and Everitt 1969), over clusters of items that belong
    together where ``groups`` names them: u_i = [(a_i − p_o)(1 − p_e) − (1 − p_o)(q_{x_i} + p_{y_i} − 2p_e)]/(1 − p_e)²
    with a_i whether the two agree on item i, x_i and y_i their categories; √(G/(G − 1) Σ_g (Σ_{i∈g} u_i)²)/n.
    ``Estimate.n`` is G.

    Raises:
        InputError: the lists differ in length.
    """
    n = len(first)
    if len(second) != n or (groups is not None and len(groups) != n):
        raise InputError(f"the raters judged {n} and {len(second)} items; agreement needs the same items of both")
    if not n:
        return None
    x, y = codes(list(first) + list(second)).reshape(2, n)
    shares = np.stack([np.bincount(codes, minlength=int(max(x.max(), y.max())) + 1) / n for codes in (x, y)])
    agree = (x == y).astype(np.float64)
    observed, chance = float(agree.mean()), float(shares[0] @ shares[1])
    if chance >= 1:
        return None
    kappa = (observed - chance) / (1 - chance)
    expected = shares[1][x] + shares[0][y] - 2 * chance
    influence = ((agree - observed) * (1 - chance) - (1 - observed) * expected) / (1 - chance) ** 2
    clusters = codes(list(range(n)) if groups is None else list(groups))
    sums = np.bincount(clusters, weights=influence)
    g = sums.size
    return Estimate(kappa, math.sqrt(g / (g - 1) * float(sums @ sums)) / n if g > 1 else None, g)


Level = Literal["nominal", "ordinal", "interval"]

MOST_VALUES = 100
"""Distinct values that nominal and ordinal α are computed for: the coincidences are a table of values × values."""


@dataclass(frozen=True, slots=True)
class Alpha:
    """Krippendorff's α with its interval (None where resamples give none), and the number of units that at least
    two raters rated."""

    value: float
    low: float | None
    high: float | None
    n: int


def krippendorff_alpha(
    units: Sequence[Sequence[float | None]],
    level: Level,
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Alpha | None:
    """α = 1 − D_o/D_e of what raters said of each unit, None standing for a rater who said nothing (Krippendorff 2011,
    "Computing Krippendorff's Alpha-Reliability"). D_o is the mean difference of two values of one unit, D_e that of
    two values of any; ``nominal`` counts whether they differ, ``ordinal`` how many values lie between, ``interval``
    squares their distance. A unit with one value has no part in it.

    The interval is the percentile one (95%) over resampled ``groups`` of units (left out: units); resamples in which
    α is undefined are passed over.

    Returns:
        None where α is undefined: no unit with two values, or all values the same.

    Raises:
        InputError: there are more than ``MOST_VALUES`` values for a nominal or ordinal α, or one that is not finite.
    """
    told = [[value for value in unit if value is not None] for unit in units]
    kept = [i for i, unit in enumerate(told) if len(unit) > 1]
    values = np.array([value for i in kept for value in told[i]], dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("a rating is not a finite number; leave it out as None")
    if not kept:
        return None
    unit = np.repeat(np.arange(len(kept)), [len(told[i]) for i in kept])
    of, parts = (
        (_of_moments, _moments(values, unit)) if level == "interval" else (_of_table(level), _table(values, unit))
    )
    value = float(of(parts.sum(axis=0)))
    if math.isnan(value):
        return None
    clusters = codes(kept if groups is None else [groups[i] for i in kept])
    count = int(clusters.max()) + 1
    sums = cluster_sums(parts, clusters, count)
    drawn = of(np.tensordot(resample_counts(count, seed=seed, resamples=resamples), sums, axes=1))
    defined = drawn[~np.isnan(drawn)]
    if count == 1 or not defined.size:
        return Alpha(value, None, None, len(kept))
    low, high = np.quantile(defined, [0.025, 0.975])
    return Alpha(value, float(low), float(high), len(kept))


def _moments(values: Array, unit: NDArray[np.intp]) -> Array:
    """[U, 4]: m, Σx, Σx² and Σ_{i≠j}(x_i − x_j)²/(m − 1) of the m values of each unit."""
    m, total, squares = (np.bincount(unit, weights=values**power) for power in (0, 1, 2))
    within = 2 * np.maximum(m * squares - total**2, 0) / (m - 1)
    return np.stack([m, total, squares, within], axis=1)


def _of_moments(sums: Array) -> Array:
    """Interval α of [..., 4] sums of ``_moments``; NaN where all values are the same."""
    n, total, squares, within = np.moveaxis(sums, -1, 0)
    between = 2 * (n * squares - total**2)
    undefined = between <= 1e-12 * n * squares
    return np.asarray(np.where(undefined, np.nan, 1 - (n - 1) * within / np.where(undefined, 1, between)))


def _table(values: Array, unit: NDArray[np.intp]) -> Array:
    """[U, V, V]: how often each two of the V values stand in a unit together, every value weighing one in all."""
    known, place = np.unique(values, return_inverse=True)
    if known.size > MOST_VALUES:
        raise InputError(f"there are {known.size} different ratings; a nominal or ordinal α takes {MOST_VALUES}")
    counts = np.zeros((int(unit[-1]) + 1, known.size))
    np.add.at(counts, (unit, place), 1)
    pairs = counts[:, :, None] * (counts[:, None, :] - np.eye(known.size))
    return np.asarray(pairs / (counts.sum(axis=1) - 1)[:, None, None])


def _of_table(level: Level) -> Callable[[Array], Array]:
    """Nominal or ordinal α of [..., V, V] coincidences, values in ascending order; NaN where all are the same."""

    def alpha(table: Array) -> Array:
        sizes = table.sum(axis=-1)
        n = sizes.sum(axis=-1)
        if level == "ordinal":
            middle = np.cumsum(sizes, axis=-1) - sizes / 2  # Σ_{g=c…k} n_g − (n_c + n_k)/2 is a difference of these
            apart = (middle[..., :, None] - middle[..., None, :]) ** 2
        else:
            apart = np.broadcast_to(1 - np.eye(sizes.shape[-1]), table.shape)
        within = (table * apart).sum(axis=(-2, -1))
        between = (sizes[..., :, None] * sizes[..., None, :] * apart).sum(axis=(-2, -1))
        undefined = between <= 0
        return np.asarray(np.where(undefined, np.nan, 1 - (n - 1) * within / np.where(undefined, 1, between)))

    return alpha
