"""Cohen's κ against hand-made tables and statsmodels, Krippendorff's α against his table and the definition."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from polypref.errors import InputError
from polypref.maths.agreement import MOST_VALUES, cohen_kappa, krippendorff_alpha

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


# --- Krippendorff's α ------------------------------------------------------------------------------------------------

_ = None
FOUR_RATERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]
"""Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: four raters, twelve units, gaps."""

ratings = st.lists(
    st.lists(st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=4), min_size=1, max_size=12
)
LEVELS = ["nominal", "ordinal", "interval"]


def alpha_by_definition(units, level):
    """1 − D_o/D_e by every pair of values, without a table: D_o over the pairs in a unit, each weighing 1/(m − 1), D_e
    over all pairs of values that stand in units of two or more. The ordinal difference of c ≤ k is the number of values
    from c to k, those at both ends counting half."""
    told = [[v for v in unit if v is not None] for unit in units]
    told = [unit for unit in told if len(unit) > 1]
    values = [v for unit in told for v in unit]

    def apart(c, k):
        if level == "nominal":
            return float(c != k)
        if level == "interval":
            return (c - k) ** 2
        low, high = min(c, k), max(c, k)
        return (sum(low <= v <= high for v in values) - (values.count(low) + values.count(high)) / 2) ** 2

    observed = sum(apart(c, k) / (len(unit) - 1) for unit in told for c, k in itertools.permutations(unit, 2)) / max(
        1, len(values)
    )
    expected = sum(apart(c, k) for c, k in itertools.permutations(values, 2))
    if not expected:
        return None
    return 1 - observed / (expected / (len(values) * (len(values) - 1)))


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorffs_table(level, value):
    units = list(zip(*FOUR_RATERS, strict=True))
    found = krippendorff_alpha(units, level)
    assert found.value == pytest.approx(value, abs=5e-4)
    assert found.value == pytest.approx(alpha_by_definition(units, level), abs=1e-12)
    assert found.n == 11, "the last unit has one value, and so no part in it"
    assert found.low < found.value < found.high <= 1


@given(ratings, st.sampled_from(LEVELS))
def test_alpha_is_that_of_its_definition(units, level):
    found, right = krippendorff_alpha(units, level, resamples=10), alpha_by_definition(units, level)
    if right is None:
        assert found is None
    else:
        assert found.value == pytest.approx(right, abs=1e-9)


@given(ratings)
def test_of_two_values_all_levels_are_one(units):
    """With two values every difference is the same one, which cancels."""
    two = [[value if value is None else float(value > 0.3) for value in unit] for unit in units]
    found = [krippendorff_alpha(two, level, resamples=10) for level in LEVELS]
    if found[0] is not None:
        assert [f.value for f in found[1:]] == pytest.approx([found[0].value] * 2, abs=1e-9)


def test_alpha_of_agreement_and_of_its_opposite():
    """Two raters always apart on 10 units: D_o = 1, D_e = 2·10·10/(20·19), α = 1 − 19/10 = −0.9."""
    assert krippendorff_alpha([[1, 1], [0, 0], [1, 1]], "nominal").value == 1
    assert krippendorff_alpha([[1, 0]] * 10, "nominal").value == pytest.approx(-0.9)


@pytest.mark.parametrize("level", LEVELS)
def test_alpha_is_undefined_where_all_values_are_the_same_or_none_can_be_paired(level):
    assert krippendorff_alpha([[0.3, 0.3], [0.3, 0.3, 0.3]], level) is None
    assert krippendorff_alpha([[1, None], [None, 0]], level) is None
    assert krippendorff_alpha([], level) is None


def test_one_cluster_gives_alpha_no_interval():
    found = krippendorff_alpha([[1, 1], [0, 1]], "nominal", ["a", "a"])
    assert (found.low, found.high, found.n) == (None, None, 2)


def test_units_of_a_prompt_are_resampled_together():
    """Said twice in clusters, the interval stays; said twice as if they were others, it narrows by about √2."""
    noise = np.random.default_rng(0)
    units = [[a, a if noise.random() < 0.7 else 1 - a] for a in noise.integers(0, 2, 200).tolist()]
    once = krippendorff_alpha(units, "nominal", range(200))
    together = krippendorff_alpha(units * 2, "nominal", [*range(200)] * 2)
    apart = krippendorff_alpha(units * 2, "nominal")
    width = [found.high - found.low for found in (once, together, apart)]
    assert width[1] == pytest.approx(width[0], rel=0.01)
    assert width[2] == pytest.approx(width[0] / math.sqrt(2), rel=0.1)


def test_the_interval_is_that_of_the_seed():
    units = [[1, 1], [0, 1], [0, 0], [1, 0], [1, 1]]
    first, again = (krippendorff_alpha(units, "ordinal", seed=3) for _ in range(2))
    assert first == again


def test_a_rating_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="not a finite number"):
        krippendorff_alpha([[1, math.nan]], "interval")
    many = [[i, i + 0.5] for i in range(MOST_VALUES)]
    with pytest.raises(InputError, match="200 different ratings"):
        krippendorff_alpha(many, "ordinal")
    assert krippendorff_alpha(many, "interval").value == pytest.approx(1, abs=0.01)
