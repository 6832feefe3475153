"""Cohen's κ against hand-made tables and statsmodels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from polypref.errors import InputError
from polypref.maths.agreement import cohen_kappa

verdicts = st.lists(st.tuples(st.sampled_from("rwt"), st.sampled_from("rwt")), min_size=2, max_size=40)


def test_kappa_of_the_textbook_table():
    """Both yes 20, first alone 5, second alone 10, neither 15: p_o = .7, p_e = .5·.6 + .5·.4 = .5, κ = .4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = cohen_kappa(first, second)
    assert (found.value, found.n) == (pytest.approx(0.4), 50)


def test_perfect_agreement_is_one_and_perfect_disagreement_of_even_raters_minus_one():
    assert cohen_kappa([1, 0, 1, 0], [1, 0, 1, 0]).value == pytest.approx(1)
    assert cohen_kappa([1, 0, 1, 0], [0, 1, 0, 1]).value == pytest.approx(-1)


def test_kappa_is_undefined_where_both_raters_always_say_the_same():
    assert cohen_kappa([1, 1, 1], [1, 1, 1]) is None
    assert cohen_kappa([], []) is None
    assert cohen_kappa([1, 1, 1], [0, 0, 0]).value == 0, "one never agrees, and chance would not either"


def test_raters_of_different_items_are_refused():
    with pytest.raises(InputError, match="judged 2 and 1 items"):
        cohen_kappa([1, 0], [1])
    with pytest.raises(InputError, match="needs the same items"):
        cohen_kappa([1, 0], [1, 0], ["one group"])


@given(verdicts)
def test_value_and_error_are_those_of_statsmodels(pairs):
    """Its variance divides by n where ours, as elsewhere, divides by n − 1."""
    first, second = zip(*pairs, strict=True)
    table = np.array([[sum((a, b) == pair for pair in pairs) for b in "rwt"] for a in "rwt"], dtype=float)
    ours = cohen_kappa(first, second)
    if ours is None:
        assert table.max() == table.sum() == table.trace()
        return
    with np.errstate(all="ignore"):
        theirs = cohens_kappa(table)
    n = len(pairs)
    assert ours.value == pytest.approx(theirs.kappa, abs=1e-12)
    assert ours.stderr**2 * (n - 1) / n == pytest.approx(theirs.var_kappa, abs=1e-12)


@given(verdicts)
def test_items_said_twice_in_clusters_change_neither_kappa_nor_its_error(pairs):
    first, second = zip(*pairs, strict=True)
    once = cohen_kappa(first, second)
    twice = cohen_kappa(first * 2, second * 2, list(range(len(pairs))) * 2)
    if once is None:
        assert twice is None
    else:
        assert (twice.value, twice.stderr, twice.n) == (
            pytest.approx(once.value, abs=1e-12),
            pytest.approx(once.stderr, abs=1e-12),
            once.n,
        )
