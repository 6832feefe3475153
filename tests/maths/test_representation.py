"""Figures of hidden states on matrices whose answers are worked by hand, and the laws that they keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.maths import representation as rep


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def rotation(seed: int, size: int) -> np.ndarray:
    return np.linalg.qr(drawn(seed, size, size))[0]


# --- singular value ratio --------------------------------------------------------------------------------------------


def test_languages_on_one_line_have_ratio_one_and_orthogonal_ones_of_equal_length_one_over_l() -> None:
    line = [[1.0, 2.0, 2.0], [2.0, 4.0, 4.0], [-1.0, -2.0, -2.0]]
    axes = [[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]]
    assert rep.singular_value_ratio([line, axes]) == pytest.approx([1.0, 1 / 3])


def test_the_ratio_of_two_by_two_is_that_of_the_hand() -> None:
    """AᵀA of [[3, 0], [4, 5]] is [[25, 20], [20, 25]] with eigenvalues 45 and 5: f = √45 / (√45 + √5) = 3/4."""
    assert rep.singular_value_ratio([[[3.0, 0.0], [4.0, 5.0]]]) == pytest.approx([0.75])


@given(st.integers(0, 50), st.integers(2, 5), st.integers(1, 6), st.floats(0.01, 100))
def test_the_ratio_knows_neither_scale_nor_rotation_nor_order(seed: int, count: int, size: int, scale: float) -> None:
    states = drawn(seed, 3, count, size)
    ratios = rep.singular_value_ratio(states)
    assert (ratios >= 1 / min(count, size) - 1e-12).all()
    assert (ratios <= 1 + 1e-12).all()
    assert rep.singular_value_ratio(scale * states[:, ::-1] @ rotation(seed, size)) == pytest.approx(ratios)


# --- centring --------------------------------------------------------------------------------------------------------


def test_centring_takes_away_the_mean_of_all_or_of_each_language() -> None:
    """Two texts (rows of blocks), two languages: means over all (4, 3), over English (2, 1), over Spanish (6, 5)."""
    states = [[[1.0, 0.0], [5.0, 4.0]], [[3.0, 2.0], [7.0, 6.0]]]
    assert rep.centred(states, "none").tolist() == states
    assert rep.centred(states, "all").tolist() == [[[-3, -3], [1, 1]], [[-1, -1], [3, 3]]]
    assert rep.centred(states, "language").tolist() == [[[-1, -1], [-1, -1]], [[1, 1], [1, 1]]]


# --- cosine and norms ------------------------------------------------------------------------------------------------


def test_cosines_and_norms_are_those_of_the_hand() -> None:
    one, other = [[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]], [[4.0, 3.0], [0.0, 2.0], [-2.0, -2.0]]
    assert rep.cosine(one, other) == pytest.approx([24 / 25, 0.0, -1.0])
    assert rep.norms(one) == pytest.approx([5.0, 1.0, math.sqrt(2)])


def test_the_mean_cosine_is_over_all_pairs_of_languages() -> None:
    """(1, 0), (0, 1) and (3, 4): cosines 0, 0.6 and 0.8."""
    assert rep.mean_cosine([[[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]]) == pytest.approx([1.4 / 3])


@given(st.integers(0, 50), st.integers(2, 5))
def test_the_mean_cosine_is_the_mean_of_the_cosines(seed: int, count: int) -> None:
    states = drawn(seed, 4, count, 3)
    each = [rep.cosine(states[:, i], states[:, j]) for i in range(count) for j in range(i)]
    assert rep.mean_cosine(states) == pytest.approx(np.mean(each, axis=0))


# --- linear CKA ------------------------------------------------------------------------------------------------------


def test_cka_is_that_of_the_hand() -> None:
    """X = (−1, 0, 1), Y = (1, −2, 1): ⟨X, Y⟩² = 0. With Z = (0, 0, 3), centred (−1, −1, 2): ⟨X, Z⟩² / (‖X‖² ‖Z‖²) =
    9 / (2·6) = 3/4."""
    x = [[-1.0], [0.0], [1.0]]
    assert rep.linear_cka(x, [[1.0], [-2.0], [1.0]]) == pytest.approx(0.0)
    assert rep.linear_cka(x, [[0.0], [0.0], [3.0]]) == pytest.approx(0.75)


def test_cka_of_two_dimensions_is_that_of_the_hand() -> None:
    """Centred X with columns (1, −1, 0, 0) and (0, 0, 1, −1), Y the first column alone: ‖YᵀX‖² = 4, ‖XᵀX‖ = √8,
    ‖YᵀY‖ = 2, so 4 / (2√8) = 1/√2."""
    x = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    assert rep.linear_cka(x, [[1.0], [-1.0], [0.0], [0.0]]) == pytest.approx(1 / math.sqrt(2))


@given(st.integers(0, 50), st.integers(3, 8), st.integers(1, 5), st.integers(1, 5), st.floats(1e-3, 1e3))
def test_cka_is_kornblith_s_formula_and_knows_neither_rotation_nor_scale_nor_shift(
    seed: int, texts: int, first: int, second: int, scale: float
) -> None:
    """The independent form: the d × d matrices of §3, with numpy's own norms."""
    x, y = drawn(seed, texts, first), drawn(seed + 1, texts, second)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    plain = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert rep.linear_cka(x, y) == pytest.approx(plain)
    assert rep.linear_cka(y, x) == pytest.approx(plain)
    assert rep.linear_cka(scale * x @ rotation(seed, first) + 7, y) == pytest.approx(plain)
    assert rep.linear_cka(x, scale * x @ rotation(seed, first) - 7) == pytest.approx(1.0)


@given(st.integers(0, 50), st.integers(4, 9), st.integers(1, 4))
def test_what_cka_is_without_each_text_is_what_it_is_of_the_others(seed: int, texts: int, size: int) -> None:
    x, y = drawn(seed, texts, size), drawn(seed + 1, texts, 3) + drawn(seed, texts, 3)
    found = rep.linear_cka_without_each(x, y)
    assert found.value == pytest.approx(rep.linear_cka(x, y))
    kept = [np.delete(np.arange(texts), i) for i in range(texts)]
    assert found.without == pytest.approx([rep.linear_cka(x[rows], y[rows]) for rows in kept])


def test_the_jackknife_of_a_mean_has_the_mean_s_own_standard_error() -> None:
    """Of a mean the jackknife is s/√n (Efron and Tibshirani 1993, §11.2)."""
    values = drawn(3, 12)
    without = (values.sum() - values) / 11
    found = rep.jackknife(float(values.mean()), without)
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(12))
    assert found.n == 12


def test_the_mean_of_similarities_leaves_each_text_out_of_all_of_them() -> None:
    one = rep.Similarity(0.5, np.array([0.4, 0.6]))
    other = rep.Similarity(1.0, np.array([1.0, 0.8]))
    mean = rep.mean_similarity([one, other])
    assert (mean.value, mean.without.tolist()) == (0.75, pytest.approx([0.7, 0.7]))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rep.singular_value_ratio([[[1.0]], [[0.0]]]), "all zero has no singular value ratio (text 1)"),
        (lambda: rep.cosine([[1.0], [0.0]], [[1.0], [1.0]]), "zero has no cosine (text 1)"),
        (lambda: rep.cosine([[1.0, 2.0]], [[1.0]]), "shape (1, 2) and (1, 1)"),
        (lambda: rep.mean_cosine([[[1.0, 2.0]]]), "one language"),
        (lambda: rep.mean_cosine([[[1.0], [0.0]]]), "zero has no cosine (text 0)"),
        (lambda: rep.norms([[float("nan")]]), "not finite"),
        (lambda: rep.norms([1.0]), "must have 2 dimensions"),
        (lambda: rep.linear_cka([[1.0], [2.0]], [[1.0]]), "of 2 and of 1 texts"),
        (lambda: rep.linear_cka([[1.0]], [[1.0]]), "at least two texts"),
        (lambda: rep.linear_cka([[0.1]] * 3, [[1.0], [2.0], [3.0]]), "do not differ between texts"),
        (lambda: rep.linear_cka_without_each([[1.0], [2.0]], [[1.0], [3.0]]), "at least three"),
        (lambda: rep.linear_cka_without_each([[1.0], [1.0], [2.0]], [[1.0], [3.0], [0.0]]), "do not differ"),
    ],
)
def test_what_has_no_answer_is_refused(call, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as error:
        call()
    assert says in str(error.value)
