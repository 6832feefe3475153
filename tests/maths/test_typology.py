"""Comparisons of groups, corrections and correlations: by hand, and as scipy and statsmodels have them."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttest_ind as statsmodels_ttest

from polypref.errors import InputError
from polypref.maths import typology

rates = st.integers(0, 1000).map(lambda n: n / 10)
groups = st.lists(rates, min_size=2, max_size=12)
probabilities = st.lists(st.floats(0, 1), max_size=30)


def test_a_comparison_by_hand():
    """Means 4 and 1, pooled variance 2/2, t = 3/√(½ + ½) = 3; with 2 degrees P(T > t) = ½ − t/(2√(2 + t²))."""
    found = typology.compare([3, 5], [1, 1])
    assert found is not None
    assert (found.difference, found.t, found.degrees) == (3, pytest.approx(3), 2)
    assert found.p == pytest.approx(0.5 - 3 / (2 * math.sqrt(11)))
    assert (found.shared.n, found.other.value) == (2, 1)


@given(groups, groups, st.booleans())
def test_comparisons_are_those_of_statsmodels_and_scipy(shared, other, pooled):
    assume(np.ptp(shared) > 0 and np.ptp(other) > 0)
    found = typology.compare(shared, other, pooled=pooled)
    t, p, degrees = statsmodels_ttest(shared, other, alternative="larger", usevar="pooled" if pooled else "unequal")
    assert (found.t, found.p, found.degrees) == (pytest.approx(t), pytest.approx(p), pytest.approx(degrees))
    oracle = scipy_stats.ttest_ind(shared, other, equal_var=pooled, alternative="greater")
    assert (found.t, found.p) == (oracle.statistic, oracle.pvalue)


def test_groups_that_do_not_vary_have_no_test_and_single_values_none_either():
    assert typology.compare([3, 3], [1, 1]) is None
    with pytest.raises(InputError, match="groups of 1 and 2 values"):
        typology.compare([3], [1, 1])


def test_corrections_by_hand():
    """m = 4: Bonferroni is 4p; Benjamini–Hochberg 4p/rank, and never above that of a greater p."""
    p = [0.01, 0.04, 0.03, 0.5]
    assert typology.bonferroni(p) == pytest.approx([0.04, 0.16, 0.12, 1])
    assert typology.benjamini_hochberg(p) == pytest.approx([0.04, 4 * 0.04 / 3, 4 * 0.04 / 3, 0.5])


@given(probabilities)
def test_corrections_are_those_of_statsmodels(p):
    strict, lenient = typology.bonferroni(p), typology.benjamini_hochberg(p)
    if p:
        assert strict == pytest.approx(multipletests(p, method="bonferroni")[1])
        assert lenient == pytest.approx(multipletests(p, method="fdr_bh")[1])
    assert len(strict) == len(lenient) == len(p)
    assert (lenient <= strict + 1e-15).all()


@pytest.mark.parametrize("p", [[1.1], [-0.1], [math.nan], [[0.5]]])
def test_what_is_no_probability_is_refused(p):
    for correct in (typology.bonferroni, typology.benjamini_hochberg):
        with pytest.raises(InputError, match="numbers from 0 to 1"):
            correct(p)


@pytest.mark.parametrize(
    ("x", "y", "method", "value"),
    [
        ([1, 2, 3], [1, 3, 2], "pearson", 0.5),
        ([1, 2, 30], [1, 3, 2], "spearman", 0.5),
        ([0, 0, 1], [1, 2, 3], "spearman", 1.5 / math.sqrt(1.5 * 2)),
        ([1, 2, 4], [-1, -2, -4], "pearson", -1),
        ([1, 1, 1], [1, 2, 3], "pearson", None),
        ([1, 2], [1, 2], "spearman", None),
        ([1e-300, 2e-300, 3e-300], [1e200, 3e200, 2e200], "pearson", 0.5),
    ],
)
def test_correlations_by_hand(x, y, method, value):
    found = typology.correlation(x, y, method)
    assert found == (None if value is None else pytest.approx(value))


@given(st.lists(st.tuples(rates, rates), min_size=3, max_size=20))
def test_correlations_are_those_of_scipy(rows):
    x, y = map(list, zip(*rows, strict=True))
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    assert typology.correlation(x, y, "pearson") == pytest.approx(scipy_stats.pearsonr(x, y).statistic, abs=1e-9)
    assert typology.correlation(x, y, "spearman") == pytest.approx(scipy_stats.spearmanr(x, y).statistic, abs=1e-9)


def test_lengths_and_numbers_must_fit():
    with pytest.raises(InputError, match="3 predictors and 2 figures"):
        typology.correlation([1, 2, 3], [1, 2], "pearson")
    with pytest.raises(InputError, match="finite"):
        typology.correlation([1, 2, math.inf], [1, 2, 3], "pearson")
    with pytest.raises(InputError, match="1 pairs, 2 predictors"):
        typology.language_bootstrap([1, 2], [1, 2], [("a", "b")], "pearson", seed=0)


def test_fishers_interval_is_scipys_and_bonett_and_wrights_by_hand():
    """For ρ = ½ and n = 12 the spread of artanh ρ is √((1 + ⅛)/9)."""
    x, y = [1, 2, 3, 4, 5, 6, 7], [2, 1, 4, 3, 7, 5, 6]
    oracle = scipy_stats.pearsonr(x, y)
    assert typology.fisher_interval(oracle.statistic, 7, "pearson", 0.9) == pytest.approx(
        tuple(oracle.confidence_interval(0.9))
    )
    half = scipy_stats.norm.ppf(0.975) * math.sqrt(1.125 / 9)
    centre = math.atanh(0.5)
    expected = (math.tanh(centre - half), math.tanh(centre + half))
    assert typology.fisher_interval(0.5, 12, "spearman") == pytest.approx(expected)
    assert typology.fisher_interval(1.0, 9, "pearson") == (1, 1)
    assert typology.fisher_interval(0.5, 3, "pearson") is None


def drawn_one_by_one(x, y, pairs, method, seed, resamples):
    """Languages are drawn into a list; every two places of it that hold different languages are a pair."""
    cells = {pair: (a, b) for pair, a, b in zip(pairs, x, y, strict=True)}
    known = sorted({name for pair in pairs for name in pair})
    noise = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = [known[i] for i in noise.integers(0, len(known), len(known))]
        rows = [cells[s, t] for i, s in enumerate(drawn) for j, t in enumerate(drawn) if i != j and (s, t) in cells]
        if len(set(map(id, rows))) >= 3 and all(len({row[k] for row in rows}) > 1 for k in (0, 1)):
            correlate = scipy_stats.spearmanr if method == "spearman" else scipy_stats.pearsonr
            found.append(correlate(*zip(*rows, strict=True)).statistic)
    return found


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_languages_are_drawn_not_pairs(method):
    known = "abcdef"
    pairs = [(s, t) for s in known for t in known if s != t and (s, t) != ("a", "b")]
    noise = np.random.default_rng(7)
    x = noise.normal(size=len(pairs))
    y = x + noise.normal(size=len(pairs))
    expected = drawn_one_by_one(x, y, pairs, method, seed=3, resamples=200)
    found = typology.language_bootstrap(x, y, pairs, method, seed=3, resamples=200)
    assert found is not None
    assert found.defined == len(expected)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))


def test_a_pair_of_a_language_with_itself_comes_as_often_as_the_language():
    """Three such pairs have a correlation where all three languages are drawn: in 6 of 27 resamples, too few."""
    pairs = [("a", "a"), ("b", "b"), ("c", "c")]
    assert typology.language_bootstrap([1, 2, 3], [1, 3, 2], pairs, "pearson", seed=0, resamples=300) is None


def test_a_predictor_that_hangs_on_one_language_has_no_interval():
    """Without f, which (5/6)^6 = 33% of the resamples lack, nothing varies."""
    pairs = [(s, t) for s in "abcdef" for t in "abcdef" if s != t]
    x = [float("f" not in pair) for pair in pairs]
    y = list(range(len(pairs)))
    assert typology.correlation(x, y, "spearman") is not None
    assert typology.language_bootstrap(x, y, pairs, "spearman", seed=0, resamples=300) is None


def test_two_languages_that_stand_apart_are_enough_for_an_interval():
    """Nothing varies without e and f, (4/6)^6 = 9%, or with them alone, (2/6)^6 = 0.1%."""
    pairs = [(s, t) for s in "abcdef" for t in "abcdef" if s != t]
    x = [float((s in "ef") == (t in "ef")) for s, t in pairs]
    found = typology.language_bootstrap(x, list(range(len(pairs))), pairs, "spearman", seed=0, resamples=1000)
    assert found is not None
    assert found.defined / 1000 == pytest.approx(0.91, abs=0.03)
