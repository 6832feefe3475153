"""Agreement of two raters beyond chance: Cohen's κ (1960).

Notation: n items, G clusters of them, p_k and q_k the shares of category k by the first and the second rater.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from polypref.errors import InputError
from polypref.maths.stats import Estimate


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
    x, y = _codes(list(first) + list(second)).reshape(2, n)
    shares = np.stack([np.bincount(codes, minlength=int(max(x.max(), y.max())) + 1) / n for codes in (x, y)])
    agree = (x == y).astype(np.float64)
    observed, chance = float(agree.mean()), float(shares[0] @ shares[1])
    if chance >= 1:
        return None
    kappa = (observed - chance) / (1 - chance)
    expected = shares[1][x] + shares[0][y] - 2 * chance
    influence = ((agree - observed) * (1 - chance) - (1 - observed) * expected) / (1 - chance) ** 2
    clusters = _codes(list(range(n)) if groups is None else list(groups))
    sums = np.bincount(clusters, weights=influence)
    g = sums.size
    return Estimate(kappa, math.sqrt(g / (g - 1) * float(sums @ sums)) / n if g > 1 else None, g)


def _codes(values: Sequence[Hashable]) -> NDArray[np.intp]:
    index = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return np.array([index[value] for value in values], dtype=np.intp)
