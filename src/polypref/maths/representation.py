"""How texts lie in a model's space: how far their languages collapse together, and how near two models are.

Notation: N texts, L languages, d the size of a hidden state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polypref.errors import InputError
from polypref.maths.stats import Estimate

Array: TypeAlias = NDArray[np.float64]
Centre: TypeAlias = Literal["none", "all", "language"]

ALIKE = "the states do not differ between texts, so nothing can be aligned; try a later layer or mean pooling"
TINY = 1e-12
"""What is left of equal states of unit size is rounding, and may not be blown up."""


def centred(hidden: ArrayLike, how: Centre) -> Array:
    """The states [N, L, d] as they are, less their mean over all texts and languages, or each less its language's.

    ``all`` takes away the direction that every state of a model shares, ``language`` also what a language has for all
    of its texts, so that only what tells texts apart is left.
    """
    states = _finite(hidden, 3)
    if how == "none":
        return states
    return np.asarray(states - states.mean(axis=(0, 1) if how == "all" else 0, keepdims=True))


def singular_value_ratio(hidden: ArrayLike) -> Array:
    """f = σ₁ / Σσ of each text's states [N, L, d]: [N], between 1/min(L, d) and 1 (Hong et al. 2024, arXiv 2410.18027).

    At 1 all languages of a text lie on one line, at 1/L they are orthogonal and of equal length.

    Raises:
        InputError: all states of a text are zero.
    """
    values = np.linalg.svd(_finite(hidden, 3), compute_uv=False)
    sums = values.sum(axis=-1)
    _refuse_zero(sums, "a text whose states are all zero has no singular value ratio")
    return np.asarray(values[:, 0] / sums)


def cosine(one: ArrayLike, other: ArrayLike) -> Array:
    """⟨x, y⟩ / (‖x‖ ‖y‖) of states [N, d] row by row: [N].

    Raises:
        InputError: a state is zero, or the two are not of one shape.
    """
    x, y = _finite(one, 2), _finite(other, 2)
    if x.shape != y.shape:
        raise InputError(f"states of shape {x.shape} and {y.shape} have no cosine; give two of one shape")
    sizes = norms(x) * norms(y)
    _refuse_zero(sizes, "a state that is zero has no cosine")
    return np.asarray(np.clip((x * y).sum(axis=1) / sizes, -1.0, 1.0))


def mean_cosine(hidden: ArrayLike) -> Array:
    """The mean cosine between the languages of each text's states [N, L, d], over their L(L − 1)/2 pairs: [N].

    Raises:
        InputError: a state is zero, or there is one language only.
    """
    states = _finite(hidden, 3)
    count = states.shape[1]
    if count < 2:
        raise InputError("one language has no cosine with others; give two or more")
    sizes = np.linalg.norm(states, axis=2, keepdims=True)
    _refuse_zero(sizes.min(axis=(1, 2)), "a state that is zero has no cosine")
    # ‖Σ u‖² = L + 2 Σ_{i<j} ⟨u_i, u_j⟩ of unit vectors u
    return np.asarray((((states / sizes).sum(axis=1) ** 2).sum(axis=1) - count) / (count * (count - 1)))


def norms(hidden: ArrayLike) -> Array:
    """The Euclidean length of states [N, d]: [N]."""
    return np.asarray(np.linalg.norm(_finite(hidden, 2), axis=1))


@dataclass(frozen=True, slots=True)
class Similarity:
    """A similarity of two sets of N states, and what it is without each of the texts [N]."""

    value: float
    without: Array

    def estimate(self) -> Estimate:
        """With the jackknife's standard error, √((N − 1)/N Σ_i (θ_(i) − θ̄_(·))²) (Tukey 1958)."""
        return jackknife(self.value, self.without)


def linear_cka(one: ArrayLike, other: ArrayLike) -> float:
    """Linear centred kernel alignment of states [N, d₁] and [N, d₂] of the same texts, between 0 and 1.

    ‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) with columns centred (Kornblith et al. 2019, arXiv 1905.00414, §3): 1 where one is the
    other up to rotation and scale. With fewer texts than dimensions it is biased upwards, towards 1.

    Raises:
        InputError: fewer than two texts, a different number of them, or states that do not differ between texts.
    """
    x, y = _paired(one, other)
    kernels = [states @ states.T for states in (x, y)]
    return _alignment(*(float((a * b).sum()) for a, b in (kernels, kernels[:1] * 2, kernels[1:] * 2)))


def linear_cka_without_each(one: ArrayLike, other: ArrayLike) -> Similarity:
    """``linear_cka`` and what it is without each text, of which there must be three, in O(N² d) for all of them."""
    x, y = _paired(one, other)
    if len(x) < 3:
        raise InputError(f"the jackknife of {len(x)} texts leaves fewer than two; give at least three")
    k, m = x @ x.T, y @ y.T
    parts = [_products(a, b) for a, b in ((k, m), (k, k), (m, m))]
    value = _alignment(*(whole for whole, _ in parts))
    without = np.array([_alignment(*each) for each in zip(*(rest for _, rest in parts), strict=True)])
    return Similarity(value, without)


def mean_similarity(each: Sequence[Similarity]) -> Similarity:
    """The mean of several similarities of the same texts, such as of their languages."""
    value = sum(one.value for one in each) / len(each)
    return Similarity(value, np.mean([one.without for one in each], axis=0))


def jackknife(value: float, without: Array) -> Estimate:
    """A figure of N texts with the jackknife's standard error from what it is without each of them [N]."""
    n = len(without)
    return Estimate(value, math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum())), n)


def _products(k: Array, m: Array) -> tuple[float, Array]:
    """tr(kHmH) of two kernels [N, N] whose rows sum to 0, H centring, and the same without each text [N].

    tr(kHmH) = Σ k∘m − (2/n) Σ_j k_j m_j + k.. m../n², with k_j the sum of row j and k.. of all rows. Without text i,
    of the n = N − 1 that are left row j sums to −k_ij and all rows to k_ii.
    """
    both = k * m
    by_row = both.sum(axis=1)
    n = len(k) - 1
    own = np.diagonal(both)
    inner = by_row.sum() - 2 * by_row + own  # Σ k∘m without row and column i
    rows = by_row - own  # Σ_{j≠i} k_ij m_ij
    return float(by_row.sum()), inner - 2 / n * rows + own / n**2


def _alignment(shared: float, one: float, other: float) -> float:
    if min(one, other) <= TINY:
        raise InputError(ALIKE)
    return min(1.0, max(0.0, shared / math.sqrt(one * other)))


def _paired(one: ArrayLike, other: ArrayLike) -> tuple[Array, Array]:
    """Two sets of states of the same texts, their columns centred and scaled to unit size, which CKA does not see."""
    x, y = _finite(one, 2), _finite(other, 2)
    if len(x) != len(y):
        raise InputError(f"there are states of {len(x)} and of {len(y)} texts; alignment needs the same texts")
    if len(x) < 2:
        raise InputError("alignment needs at least two texts; give more")
    both = []
    for states in (x, y):
        moved = states - states.mean(axis=0)
        size = np.linalg.norm(moved)
        if size <= TINY * np.linalg.norm(states):
            raise InputError(ALIKE)
        both.append(moved / size)
    return both[0], both[1]


def _finite(hidden: ArrayLike, dimensions: int) -> Array:
    array = np.asarray(hidden, dtype=np.float64)
    if array.ndim != dimensions or not array.size:
        raise InputError(f"states of shape {array.shape} were given; it must have {dimensions} dimensions, none empty")
    if not np.isfinite(array).all():
        raise InputError("a state is not finite; the model is damaged or its dtype too small")
    return array


def _refuse_zero(sizes: Array, what: str) -> None:
    if (sizes == 0).any():
        raise InputError(f"{what} (text {int(np.flatnonzero(sizes == 0)[0])}); leave it out")
