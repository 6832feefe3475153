"""Estimates with their uncertainty: means, rates, paired differences, by independent unit.

The unit of all of it is the prompt. Answers to one prompt are not independent, and neither are the same prompt's
languages, so a figure's standard error counts prompts (clusters), and ``n`` says how many there were.

Notation: n observations, G clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from polypref.errors import InputError

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its standard error (None where one observation gives none) and the number of independent units."""

    value: float
    stderr: float | None
    n: int

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Student's interval on n − 1 degrees of freedom; None without a standard error."""
        if self.stderr is None:
            return None
        half = t_quantile(0.5 + level / 2, self.n - 1) * self.stderr
        return self.value - half, self.value + half


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution."""
    return float(scipy.special.stdtrit(degrees, probability))


def _finite(values: Sequence[float] | Array, what: str = "values") -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError(f"{what} is empty; an estimate needs at least one number")
    if not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{what}[{index}] is {array[index]}; an estimate needs finite numbers")
    return array


def mean_stderr(values: Sequence[float] | Array) -> Estimate:
    """The mean of [n] independent values with s/√n, s the sample standard deviation.

    Raises:
        InputError: no value, or one that is not finite.
    """
    array = _finite(values)
    n = array.size
    mean = float(array.mean())
    if n == 1:
        return Estimate(mean, None, 1)
    return Estimate(mean, float(array.std(ddof=1)) / math.sqrt(n), n)


def rate(successes: float, n: int) -> Estimate:
    """A share of n trials with the standard error √(p(1 − p)/(n − 1)), which is ``mean_stderr`` of zeros and ones."""
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"{successes} successes in {n} trials is no rate; there must be 0 to n of at least one trial")
    share = successes / n
    return Estimate(share, math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else None, n)


def wilson_interval(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (1927), which stays inside [0, 1] and does not vanish at 0 or n."""
    share = rate(successes, n).value
    z = float(scipy.special.ndtri(0.5 + level / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def share_interval(share: Estimate, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson's interval of an estimated share whose observations are clustered or fractional: inside [0, 1], not empty
    at 0 and 1. None without a standard error.

    The number of trials is the effective one, p(1 − p)/stderr² (Kish 1965), or the number of units where p is 0 or 1;
    the quantile is Student's on n − 1 degrees of freedom (Dean and Pagano 2015). Where the units all say one and the
    same fraction there is no spread, and the interval is that point.
    """
    if share.stderr is None:
        return None
    p, variance = share.value, share.value * (1 - share.value)
    if variance <= 0:
        trials = float(share.n)
    elif share.stderr == 0:
        return p, p
    else:
        trials = variance / share.stderr**2
    t2 = t_quantile(0.5 + level / 2, share.n - 1) ** 2 / trials
    centre, half = (p + t2 / 2) / (1 + t2), math.sqrt(t2 * (variance + t2 / 4)) / (1 + t2)
    return 0.0 if p <= 0 else max(0.0, centre - half), 1.0 if p >= 1 else min(1.0, centre + half)


def clustered_mean(values: Sequence[float] | Array, groups: Sequence[Hashable]) -> Estimate:
    """The mean of [n] values of which those of one group belong together.

    The standard error is the sandwich's, √(G/(G − 1) Σ_g (Σ_{i∈g} (x_i − x̄))²)/n (Liang and Zeger 1986, with the
    usual correction for G); with one value a group it is s/√n. ``Estimate.n`` is G.
    """
    array = _finite(values)
    if len(groups) != array.size:
        raise InputError(f"there are {array.size} values and {len(groups)} groups; each value needs its group")
    mean, index = float(array.mean()), codes(groups)
    sums = cluster_sums(array - mean, index, int(index.max()) + 1)
    return Estimate(mean, _sandwich(sums / array.size), sums.size)


def _sandwich(influence: Array) -> float | None:
    """The standard error of [G] cluster influences, which sum to 0."""
    g = influence.size
    return math.sqrt(g / (g - 1) * float(influence @ influence)) if g > 1 else None


def paired_difference(before: Sequence[float] | Array, after: Sequence[float] | Array) -> Estimate:
    """The mean of after − before over [n] pairs; ``interval`` is then the paired t interval."""
    first, second = _finite(before, "before"), _finite(after, "after")
    if first.size != second.size:
        raise InputError(f"before has {first.size} values and after {second.size}; a paired difference needs the same")
    return mean_stderr(second - first)


def mean_of_means(strata: Mapping[str, Mapping[Hashable, float]]) -> Estimate:
    """The unweighted mean over strata (languages) of each stratum's mean over its units (prompts).

    A unit that is in several strata is one cluster, as a parallel prompt's languages move together: its influence is
    u_g = Σ_s (x_sg − x̄_s)/(S n_s) and the standard error √(G/(G − 1) Σ_g u_g²). Where every unit is in every stratum
    that is s/√G of the units' means over the strata.
    """
    return mean_of_clustered_means({name: (list(units.values()), list(units)) for name, units in strata.items()})


def mean_of_clustered_means(strata: Mapping[str, tuple[Sequence[float] | Array, Sequence[Hashable]]]) -> Estimate:
    """``mean_of_means`` where a unit may have several values in a stratum: (values, the unit of each) by stratum."""
    if not strata or not all(len(values) for values, _ in strata.values()):
        raise InputError("a stratum without values has no mean; leave it out")
    influence: dict[Hashable, float] = {}
    means = []
    for name, (values, units) in strata.items():
        array = _finite(values, str(name))
        means.append(float(array.mean()))
        for unit, value in zip(units, array.tolist(), strict=True):
            influence[unit] = influence.get(unit, 0.0) + (value - means[-1]) / (len(strata) * array.size)
    return Estimate(math.fsum(means) / len(means), _sandwich(np.array(list(influence.values()))), len(influence))


def codes(values: Sequence[Hashable]) -> NDArray[np.intp]:
    """[n]: values as 0, 1, 2, …, equal ones alike, in the order in which they come first."""
    index: dict[Hashable, int] = {}
    return np.array([index.setdefault(value, len(index)) for value in values], dtype=np.intp)


def cluster_sums(rows: Array, clusters: NDArray[np.intp], count: int) -> Array:
    """[count, …]: the sums of [n, …] rows over those of each cluster, which are numbered from 0."""
    sums = np.zeros((count, *rows.shape[1:]))
    np.add.at(sums, clusters, rows)
    return sums


def resample_counts(clusters: int, *, seed: int, resamples: int) -> NDArray[np.int64]:
    """[R, G]: how often each of G clusters is drawn in each of R bootstrap resamples of G clusters (Efron 1979).

    A figure that is a function of ``cluster_sums`` is resampled by ``counts @ sums``. Counts that are drawn once and
    used for several languages keep a parallel prompt's languages together.
    """
    if clusters < 1:
        raise InputError("there is no cluster; a bootstrap needs at least one")
    noise = np.random.default_rng(seed)
    return noise.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)


def bootstrap_interval(
    values: Sequence[Any] | Array,
    statistic: Callable[[Any], float],
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval (Efron 1979) of a statistic of [n, …] rows, which are drawn with replacement."""
    rows = np.asarray(values)
    if not rows.size:
        raise InputError("values is empty; a bootstrap needs at least one row")
    noise = np.random.default_rng(seed)
    drawn = [float(statistic(rows[noise.integers(0, len(rows), len(rows))])) for _ in range(resamples)]
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
