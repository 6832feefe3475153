"""Win rates out of scores, how often an answer of one model scores higher than one of another; and a paired test.

Notation: K answers of the one, M answers of the other, to one prompt. An answer that failed scores −∞: it loses to
every answer, and ties with another that failed.
"""

from __future__ import annotations

import numpy as np
import scipy

from polypref.errors import InputError
from polypref.maths.best_of_n import Array, Numbers, pick_chances, weighted
from polypref.maths.stats import Estimate


def share_beaten(scores: Numbers, opponents: Numbers) -> Array:
    """[K]: for each answer the share of the M opponents that score lower, ties counting half.

    Its mean is P(one scores higher than the other) + ½ P(tie) over all K·M pairs, which is the Mann–Whitney U of the
    scores over K·M (Mann and Whitney 1947).

    Raises:
        InputError: no score or no opponent, or a score that is NaN or +∞.
    """
    mine, theirs = _told(scores, "scores"), np.sort(_told(opponents, "opponents"))
    lower, no_higher = (np.searchsorted(theirs, mine, side=side) for side in ("left", "right"))
    return np.asarray((lower + no_higher) / (2 * theirs.size), dtype=np.float64)


def win_rate(scores: Numbers, opponents: Numbers) -> float:
    """The mean of ``share_beaten``: one answer of each drawn at random, which scores higher.

    Raises:
        InputError: as ``share_beaten``.
    """
    return float(share_beaten(scores, opponents).mean())


def expected_win_rate(scores: Numbers, judged: Numbers, opponents: Numbers, n: int, drawn: int | None = None) -> float:
    """The win rate of best-of-n: the mean, over all sets of n answers, of ``share_beaten`` of the one that is picked.

    A set in which no answer may be given is left out, as in ``best_of_n.pick_chances``.

    Args:
        scores: by which best-of-n picks, of the answers that may be given, [K].
        judged: the judge's scores of the same answers, [K].
        opponents: the judge's scores of the other model's answers, [M].
        n: answers a set.
        drawn: answers that the sets are taken of; K when left out.

    Raises:
        InputError: as ``pick_chances`` and ``share_beaten``, or there are not as many judged scores as scores.
    """
    return weighted(pick_chances(scores, n, drawn), share_beaten(judged, opponents))


def _told(values: Numbers, what: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError(f"{what} is empty; a win rate needs an answer of each")
    if (wrong := np.isnan(array) | (array == np.inf)).any():
        index = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{what}[{index}] is {array[index]}; a win rate needs finite scores, or −inf for a failure")
    return array


def t_test(difference: Estimate) -> float | None:
    """The two-sided p-value of Student's t-test that a mean difference is 0, on n − 1 degrees of freedom: of paired
    differences the paired t-test. None without a standard error, or where it is 0, which leaves nothing to test by."""
    if not difference.stderr:
        return None
    return float(2 * scipy.special.stdtr(difference.n - 1, -abs(difference.value / difference.stderr)))
