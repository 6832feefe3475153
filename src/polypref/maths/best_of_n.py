"""Best-of-n from one set of samples: who is picked how often, what that is worth, how far it is from the policy.

Best-of-n draws n answers and gives the one with the highest score (Stiennon et al. 2020, arXiv 2009.01325;
across languages Wu et al. 2024, arXiv 2404.12318, §3, with n = 64). N ≥ n answers hold C(N, n) sets of n. The mean over
all of them is unbiased for every n at once, and has less variance than cutting the N into N/n groups (Nakano et al.
2021, arXiv 2112.09332; Hilton and Gao 2022, "Measuring Goodhart's law"). So one sample set gives the whole curve.

Notation: N answers drawn, of which K may be given (the others failed, or were cut short: they count as drawn and never
win); a set without any of the K gives no answer and is left out of the mean; w the chance to be picked, [K].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from polypref.errors import InputError

Array: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = Sequence[float] | Array


def pick_chances(scores: Numbers, n: int, drawn: int | None = None) -> Array:
    """w [K]: the share of the sets of n, of those that give an answer, in which each answer is picked.

    The answer at place r of all N in rising order (those that cannot win come first) is the best of
    C(r − 1, n − 1) of the C(N, n) sets. These shares are built from w_N = n/N by w_{r−1} = w_r (r − n)/(r − 1), factors
    between 0 and 1, so no binomial is computed. Answers with the same score share their places' chances equally, as
    they do over random orders of drawing.

    Args:
        scores: of the answers that may be given, [K], in any order.
        n: answers a set.
        drawn: N; K when left out.

    Raises:
        InputError: no score, one that is not finite, n < 1 or n > N, or N < K.
    """
    array, total = _checked(scores, n, drawn)
    order = np.argsort(array, kind="stable")
    chances = _place_chances(total, n)[total - array.size :]
    groups = np.unique(array[order], return_inverse=True)[1]
    shared = np.bincount(groups, weights=chances) / np.bincount(groups)
    out = np.empty_like(array)
    out[order] = shared[groups]
    return np.asarray(out / out.sum(), dtype=np.float64)


def _place_chances(total: int, n: int) -> Array:
    """C(r − 1, n − 1)/C(N, n) for r = 1 … N."""
    places = np.arange(total, n, -1, dtype=np.float64)
    falling = np.cumprod(np.concatenate([[n / total], (places - n) / (places - 1)]))
    return np.concatenate([np.zeros(n - 1), falling[::-1]])


def expected_best(scores: Numbers, n: int, drawn: int | None = None) -> float:
    """The mean over all sets of n of their highest score, in the scores' unit; see ``pick_chances``."""
    return expected_value(scores, scores, n, drawn)


def expected_value(scores: Numbers, values: Numbers, n: int, drawn: int | None = None) -> float:
    """The mean over all sets of n of a second number (a judge's quality) of the answer that the score picks.

    Answers with the same score are picked equally often, so their values are averaged.

    Raises:
        InputError: as ``pick_chances``, or there are not as many values as scores.
    """
    return weighted(pick_chances(scores, n, drawn), values)


def weighted(chances: Array, values: Numbers) -> float:
    """Σ w_i x_i of chances [K] and values [K]: the expected value of the answer that is picked.

    Raises:
        InputError: the lengths differ, or a value is not finite.
    """
    array = _finite(values, "values")
    if array.size != chances.size:
        raise InputError(f"there are {chances.size} scores and {array.size} values; each answer needs both")
    return float(chances @ array)


def soft_choice(scores: Numbers, temperature: float) -> Array:
    """softmax(s/T) of one set's scores [n]: with which chance soft best-of-n gives each of them.

    T → 0 is best-of-n, T → ∞ gives any answer (Verdun et al. 2025, arXiv 2505.03156).

    Raises:
        InputError: no score, one that is not finite, or T ≤ 0.
    """
    _positive(temperature)
    return _softmax(_finite(scores, "scores"), temperature)


def soft_chances(
    scores: Numbers,
    n: int,
    temperature: float,
    drawn: int | None = None,
    *,
    sets: int = 256,
    seed: int | Sequence[int] = 0,
) -> Array:
    """w [K] of soft best-of-n: the mean of ``soft_choice`` over all sets of n, which has no closed form.

    Exact where there are at most ``sets`` of them, else over that many sets drawn at random, which is unbiased where
    every set gives an answer.

    Raises:
        InputError: as ``pick_chances``, T ≤ 0 or ``sets`` < 1.
    """
    array, total = _checked(scores, n, drawn)
    _positive(temperature)
    if sets < 1:
        raise InputError(f"sets is {sets}; the mean needs at least one set of answers")
    padded = np.full(total, -np.inf)
    padded[: array.size] = array
    if math.comb(total, n) <= sets:
        members = np.array(list(combinations(range(total), n)))
    else:
        noise = np.random.default_rng(seed).random((sets, total))
        members = np.argpartition(noise, n - 1, axis=1)[:, :n]
    found = padded[members]
    with_answer = np.isfinite(found).any(axis=1)
    if not with_answer.any():  # where that is so rare, a set with an answer has one alone
        return np.full(array.size, 1 / array.size)
    members, found = members[with_answer], found[with_answer]
    out = np.bincount(members.ravel(), _softmax(found, temperature).ravel(), minlength=total)[: array.size]
    return np.asarray(out / len(members), dtype=np.float64)


def _softmax(scores: Array, temperature: float) -> Array:
    """Over the last axis, which holds a finite score at least."""
    with np.errstate(over="ignore"):  # a difference beyond the range is −∞, whose chance is 0
        raised = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float64)


def kl_bound(n: int) -> float:
    """log n − (n − 1)/n, in nats: KL(best-of-n ‖ policy) where no two answers score the same and none is likely
    (Stiennon et al. 2020, appendix G.3), and never less than it (Beirami et al. 2024, arXiv 2401.01879, §3).

    It bounds every way of giving one of n independent answers, soft best-of-n too: the chance that the answer lies in
    a set of probability a is at most 1 − (1 − a)^n, which best-of-n attains for every a where scores are continuous.

    Raises:
        InputError: n < 1.
    """
    if n < 1:
        raise InputError(f"n is {n}; best-of-n needs at least one answer")
    return math.log(n) - (n - 1) / n


def kl_terms(n: int, logprobs: Numbers) -> Array:
    """[K] terms whose mean over picked answers estimates KL(best-of-n ‖ policy), in nats (Beirami et al. 2024, §4).

    An answer of probability ε = exp(log π(y)) is taken as the best there is, the rest of the policy as continuous:

        (1 − ε)^n [log n + (n − 1) log(1 − ε) − (n − 1)/n] + (1 − (1 − ε)^n) log[(1 − (1 − ε)^n)/ε].

    ε → 0 gives ``kl_bound(n)``, ε = 1 gives 0: likely answers are drawn again and again, and bring best-of-n closer to
    the policy than the bound says.

    Args:
        n: answers a set.
        logprobs: log π(y) of answers, by the policy that they were drawn from, [K].

    Raises:
        InputError: n < 1, or a log-probability that is above 0 or not finite.
    """
    bound = kl_bound(n)
    array = _finite(logprobs, "logprobs")
    if (array > 0).any():
        raise InputError(f"logprobs has {array.max()}; the logarithm of a probability is at most 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        miss = np.log1p(-np.exp(array))  # log(1 − ε), −∞ at ε = 1
        none = np.exp(n * miss)
        hit = -np.expm1(n * miss)
        rest = np.where(none > 0, none * (bound + (n - 1) * miss), 0.0)
        # An ε that underflows is drawn once in n: hit/ε = n.
        top = np.where(hit > 0, hit * (np.log(hit) - array), 0.0)
    return np.asarray(np.maximum(rest + top, 0.0), dtype=np.float64)  # rounding can leave a term at −1e-17


def _checked(scores: Numbers, n: int, drawn: int | None) -> tuple[Array, int]:
    array = _finite(scores, "scores")
    total = array.size if drawn is None else drawn
    if total < array.size:
        raise InputError(f"drawn is {total}, fewer than the {array.size} scores; it counts every answer that was drawn")
    if not 1 <= n <= total:
        raise InputError(f"n is {n} and there are {total} answers; n must be from 1 to that, or draw more answers")
    return array, total


def _finite(values: Numbers, what: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError(f"{what} is empty; best-of-n needs at least one number")
    if not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{what}[{index}] is {array[index]}; best-of-n needs finite numbers")
    return array


def _positive(temperature: float) -> None:
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature is {temperature}; it must be a number above 0, and best-of-n itself has none")
