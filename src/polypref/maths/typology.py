"""Whether what two languages have in common goes with how well rewards transfer between them.

The unit is a pair of a source and a target language with one figure (a win rate). Pairs that have a language in common
are not independent. The t-tests and Fisher's interval take them as if they were; the bootstrap over languages does not.

Notation: n pairs, L languages; x a predictor of a pair, y its figure; r a correlation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import scipy

from polypref.errors import InputError
from polypref.maths.stats import Array, Estimate, mean_stderr

Method: TypeAlias = Literal["pearson", "spearman"]
Values: TypeAlias = Sequence[float] | Array

LEAST_PAIRS = 3
"""Two pairs always correlate at 1 or −1."""
LEAST_DEFINED = 0.8
"""Share of resamples that must have a correlation; of four languages about 66% do, at most 67% where one is apart."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The one-sided t-test of two groups: H₁ says that the first group's mean is greater."""

    shared: Estimate
    other: Estimate
    t: float
    degrees: float
    p: float

    @property
    def difference(self) -> float:
        """Mean of the pairs that share a feature less the mean of those that do not."""
        return self.shared.value - self.other.value


def compare(shared: Values, other: Values, *, pooled: bool = True) -> Comparison | None:
    """Whether the mean of ``shared`` [n₁] is greater than that of ``other`` [n₂].

    Student's t on n₁ + n₂ − 2 degrees of freedom with a pooled variance, else Welch's (1947). None where neither
    group varies, since t is then undefined.

    Raises:
        InputError: a group has fewer than two values, or one that is not finite.
    """
    from scipy.stats import ttest_ind

    first, second = mean_stderr(shared), mean_stderr(other)
    if first.stderr is None or second.stderr is None:
        raise InputError(f"groups of {first.n} and {second.n} values cannot be compared; each needs two")
    if np.ptp(shared) == np.ptp(other) == 0:
        return None
    with warnings.catch_warnings():
        # scipy warns of a group whose values are all equal; a pooled variance can be had of the other alone.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = ttest_ind(shared, other, equal_var=pooled, alternative="greater")
    return Comparison(first, second, float(found.statistic), float(found.df), float(found.pvalue))


def bonferroni(p: Values) -> Array:
    """p-values [m] of m tests, each times m and at most 1: below α they keep P(any false finding) ≤ α."""
    values = _probabilities(p)
    return np.minimum(1.0, values * values.size)


def benjamini_hochberg(p: Values) -> Array:
    """p-values [m] adjusted by Benjamini & Hochberg (1995): min over j with p_j ≥ p_i of p_j·m/rank_j, at most 1.

    Those below α hold the expected share of false findings at α, where tests are independent or positively dependent.
    """
    from scipy.stats import false_discovery_control

    values = _probabilities(p)
    adjusted: Array = np.asarray(false_discovery_control(values, method="bh")) if values.size else values
    return adjusted


def _probabilities(p: Values) -> Array:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError("p-values must be a list of numbers from 0 to 1")
    return values


def correlation(x: Values, y: Values, method: Method) -> float | None:
    """Pearson's r of [n] pairs, or Spearman's ρ, which is r of the ranks (ties share their mean rank).

    None with fewer than three pairs, or where x or y is the same throughout.

    Raises:
        InputError: the lengths differ, or a value is not finite.
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"there are {first.size} predictors and {second.size} figures; each pair needs both")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("a correlation needs finite numbers")
    return _correlation(first, second, method)


def _correlation(x: Array, y: Array, method: Method) -> float | None:
    if x.size < LEAST_PAIRS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    if method == "spearman":
        from scipy.stats import rankdata

        x, y = rankdata(x), rankdata(y)
    # Scaled by the largest deviation first, so that squares neither overflow nor vanish.
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / math.sqrt(float(x @ x) * float(y @ y)), -1.0, 1.0))


def fisher_interval(r: float, n: int, method: Method, level: float = 0.95) -> tuple[float, float] | None:
    """tanh(artanh r ± z·s), s = 1/√(n − 3) for r (Fisher 1921) and √((1 + ρ²/2)/(n − 3)) for ρ (Bonett & Wright 2000).

    It takes the n pairs as independent. None with fewer than four pairs.
    """
    if n <= LEAST_PAIRS:
        return None
    if abs(r) == 1:
        return r, r
    spread = math.sqrt((1 + r * r / 2 if method == "spearman" else 1.0) / (n - 3))
    half = float(scipy.special.ndtri(0.5 + level / 2)) * spread
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A percentile interval, and in how many of the resamples there was a correlation at all."""

    low: float
    high: float
    defined: int


def language_bootstrap(
    x: Values,
    y: Values,
    pairs: Sequence[tuple[str, str]],
    method: Method,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Bootstrap | None:
    """The percentile interval of a correlation over [n] pairs when languages, not pairs, are drawn with replacement.

    L languages are drawn from L; a pair of two languages comes as often as the product of how often both were drawn,
    a pair of a language with itself as often as the language: the vertex bootstrap of Snijders & Borgatti (1999,
    Connections 22(2)), without pairs between two copies of one language, for which there is no figure. A resample in
    which a side does not vary has no correlation. None where too few have one (``LEAST_DEFINED``).
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not len(pairs) == first.size == second.size:
        raise InputError(f"there are {len(pairs)} pairs, {first.size} predictors and {second.size} figures")
    places = {name: i for i, name in enumerate(sorted({name for pair in pairs for name in pair}))}
    source = np.array([places[s] for s, _ in pairs], dtype=np.intp)
    target = np.array([places[t] for _, t in pairs], dtype=np.intp)
    noise = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        counts = np.bincount(noise.integers(0, len(places), len(places)), minlength=len(places))
        times = np.where(source == target, counts[source], counts[source] * counts[target])
        if np.count_nonzero(times) >= LEAST_PAIRS:
            found = _correlation(np.repeat(first, times), np.repeat(second, times), method)
            if found is not None:
                drawn.append(found)
    if len(drawn) < LEAST_DEFINED * resamples:
        return None
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Bootstrap(float(low), float(high), len(drawn))
