"""Ratings of many models by comparisons of two: Bradley–Terry (1952) and Elo (1978).

Notation: M models, n comparisons, R resamples or orders. Ratings are on Elo's scale: 400 points are odds of ten to one.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from polypref.errors import InputError
from polypref.maths.stats import Array

SCALE = 400 / math.log(10)
"""Points for one unit of log-odds."""

RIDGE = 1e-2
"""The penalty λ/2·Σθ² on strengths whose likelihood has no maximum."""

MOST_ORDERED = 20_000_000
"""Games of all orders that are held at once, 80 MB."""

Indices: TypeAlias = NDArray[np.intp]


def cluster_wins(
    first: Indices, second: Indices, preferences: Array, models: int, clusters: Indices, count: int
) -> Array:
    """[count, M, M]: by cluster, a row's wins over a column. A comparison adds its preference to the wins
    of the first (1 a win, ½ a tie, fractions as they are) and the rest to those of the second.

    Args:
        first, second: [n] models, numbered from 0.
        preferences: [n], in [0, 1].
        clusters: [n], numbered from 0 to count − 1.

    Raises:
        InputError: a model is compared with itself, or the arrays differ in length.
    """
    if not first.shape == second.shape == preferences.shape == clusters.shape:
        raise InputError(
            f"there are {first.size} first models, {second.size} second ones, {preferences.size} preferences"
        )
    if (same := np.flatnonzero(first == second)).size:
        raise InputError(f"comparison {int(same[0])} is of a model with itself; leave it out")
    wins = np.zeros((count, models, models))
    np.add.at(wins, (clusters, first, second), preferences)
    np.add.at(wins, (clusters, second, first), 1 - preferences)
    return wins


def components(wins: Array) -> list[list[int]]:
    """The groups of models that comparisons connect, of [M, M] wins; ratings need one group."""
    count, group = scipy.sparse.csgraph.connected_components(wins + wins.T > 0, directed=False)
    return [np.flatnonzero(group == g).tolist() for g in range(count)]


def has_maximum(wins: Array) -> NDArray[np.bool_]:
    """[…]: whether the likelihood of […, M, M] wins has a maximum: whoever is split off from the others has won
    something from them and lost something to them, so that a way of wins leads from each to each (Ford 1957)."""
    models = wins.shape[-1]
    reach = ((wins > 0) | np.eye(models, dtype=bool)).astype(np.float32)
    for _ in range(max(1, math.ceil(math.log2(models)))):
        reach = (reach @ reach > 0).astype(np.float32)
    return np.asarray(reach.all(axis=(-2, -1)))


def bradley_terry(wins: Array, steps: int = 100) -> Array:
    """[…, M] ratings with mean 0 of […, M, M] wins: P(i beats j) = 1/(1 + 10^((r_j − r_i)/400)), of the greatest
    likelihood (Bradley and Terry 1952), a tie being half a win of each. Where ``has_maximum`` is false, θ = r/SCALE
    bears the penalty ``RIDGE``/2·Σθ², which keeps it finite.

    Raises:
        InputError: a number of wins is negative or not finite.
    """
    if not (np.isfinite(wins).all() and (wins >= 0).all()):
        raise InputError("a number of wins is negative or not finite; wins are counted from 0 up")
    shape, models = wins.shape[:-2], wins.shape[-1]
    won = wins.reshape(-1, models, models)
    ridge = np.where(has_maximum(won), 0.0, RIDGE)
    games = won + won.swapaxes(1, 2)
    theta = np.zeros((len(won), models))
    open_ = np.arange(len(won))  # those that still move

    def loss(theta: Array, rows: NDArray[np.intp]) -> Array:
        gaps = theta[:, :, None] - theta[:, None, :]
        likelihood = -(won[rows] * scipy.special.log_expit(gaps)).sum(axis=(1, 2))
        return np.asarray(likelihood + 0.5 * ridge[rows] * (theta * theta).sum(axis=1))

    for _ in range(steps):
        at = theta[open_]
        share = scipy.special.expit(at[:, :, None] - at[:, None, :])
        gradient = (games[open_] * share - won[open_]).sum(axis=2) + ridge[open_, None] * at
        curvature = games[open_] * share * (1 - share)
        hessian = -curvature
        hessian[:, range(models), range(models)] += curvature.sum(axis=2) + ridge[open_, None]
        # The likelihood is flat along (1, …, 1); the strengths' mean stays 0.
        step = np.linalg.solve(hessian + 1.0, gradient[..., None])[..., 0]
        moving = np.abs(step).max(axis=1) > 1e-10
        open_, at, step = open_[moving], at[moving], step[moving]
        if not open_.size:
            break
        before, size = loss(at, open_), np.ones(len(open_))
        for _ in range(40):
            worse = loss(at - size[:, None] * step, open_) > before + 1e-12 * np.abs(before)
            if not worse.any():
                break
            size[worse] /= 2
        theta[open_] = at - size[:, None] * step
    theta -= theta.mean(axis=1, keepdims=True)
    return SCALE * theta.reshape(*shape, models)


def elo(
    first: Indices,
    second: Indices,
    preferences: Array,
    models: int,
    *,
    k: float,
    clusters: Indices,
    counts: NDArray[np.int64],
    seed: int,
) -> Array:
    """[R, M] ratings with mean 0 after playing comparisons one by one from 0: r_i += k·(preference − expected), with
    expected = 1/(1 + 10^((r_j − r_i)/400)) (Elo 1978).

    Row r plays the comparisons of cluster g ``counts[r, g]`` times, all of them in a random order of its own. Elo
    depends on the order and, with few comparisons, on the start; Bradley–Terry on neither.

    Args:
        first, second, preferences, clusters: [n], as in ``cluster_wins``.
        counts: [R, G].
    """
    noise = np.random.default_rng(seed)
    played = counts @ np.bincount(clusters, minlength=counts.shape[1])
    longest = int(played.max(initial=0))
    at_once = max(1, MOST_ORDERED // max(1, longest))
    ratings = np.zeros((len(counts), models))
    for start in range(0, len(counts), at_once):
        rows = range(start, min(start + at_once, len(counts)))
        order = np.full((longest, len(rows)), first.size, dtype=np.int32)  # a row that is done has no game
        for lane, row in enumerate(rows):
            order[: played[row], lane] = noise.permutation(np.repeat(np.arange(first.size), counts[row][clusters]))
        ratings[rows.start : rows.stop] = _played(first, second, preferences, order, models, k)
    return ratings


def _played(
    first: Indices, second: Indices, preferences: Array, order: NDArray[np.int32], models: int, k: float
) -> Array:
    """[lanes, M]: ratings after comparisons in the order of [games, lanes]; n stands for no game."""
    lanes = np.arange(order.shape[1]) * models
    rating = np.zeros(lanes.size * models)
    a, b = np.append(first, 0), np.append(second, 1)
    won, stake = np.append(k * preferences, 0.0), np.append(np.full(first.size, k), 0.0)
    for start in range(0, len(order), 1000):  # looked up in blocks, since a game alone is too little work for a call
        block = order[start : start + 1000]
        for i, j, gain, most in zip(a[block] + lanes, b[block] + lanes, won[block], stake[block], strict=True):
            x, y = rating[i], rating[j]
            change = gain - most * scipy.special.expit((x - y) / SCALE)
            rating[i] = x + change
            rating[j] = y - change
    return rating.reshape(-1, models)
