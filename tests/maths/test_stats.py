"""Estimates against hand-derived values and statsmodels."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from polypref.errors import InputError
from polypref.maths import stats

numbers = st.floats(-1e3, 1e3)
samples = st.lists(numbers, min_size=2, max_size=30)


def test_the_mean_has_its_standard_error():
    """1 2 3 4: mean 2.5; squared deviations 2.25 + .25 + .25 + 2.25 = 5, s² = 5/3, s/√n = √(5/3)/2 = √(5/12)."""
    found = stats.mean_stderr([1, 2, 3, 4])
    assert found.value == 2.5
    assert found.stderr == pytest.approx(math.sqrt(5 / 12))
    assert found.n == 4


def test_one_value_has_no_standard_error_and_no_interval():
    found = stats.mean_stderr([0.25])
    assert (found.value, found.stderr, found.n) == (0.25, None, 1)
    assert found.interval() is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(InputError):
        stats.mean_stderr(values)


@given(samples)
def test_the_interval_is_students(values):
    """statsmodels' DescrStatsW.tconfint_mean."""
    assume(np.std(values) > 1e-6)
    low, high = stats.mean_stderr(values).interval()
    assert (low, high) == pytest.approx(DescrStatsW(values).tconfint_mean(), abs=1e-8)


@given(samples, numbers)
def test_shifting_values_shifts_the_mean_and_not_the_error(values, shift):
    one, two = stats.mean_stderr(values), stats.mean_stderr([v + shift for v in values])
    assert two.value == pytest.approx(one.value + shift, abs=1e-9)
    assert two.stderr == pytest.approx(one.stderr, abs=1e-9)


@given(st.integers(1, 60), st.data())
def test_a_rate_is_the_mean_of_zeros_and_ones(n, data):
    successes = data.draw(st.integers(0, n))
    found, same = stats.rate(successes, n), stats.mean_stderr([1.0] * successes + [0.0] * (n - successes))
    assert found.value == pytest.approx(same.value)
    assert found.stderr == pytest.approx(same.stderr, abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_rate_is_refused(successes, n):
    with pytest.raises(InputError):
        stats.rate(successes, n)


@given(st.integers(1, 200), st.data())
def test_wilsons_interval(n, data):
    """statsmodels' proportion_confint(method="wilson")."""
    successes = data.draw(st.integers(0, n))
    low, high = stats.wilson_interval(successes, n)
    assert (low, high) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


def test_clusters_by_hand():
    """x = 1 3 | 5, mean 3: cluster sums of deviations −2 and 2, √(2/1 · 8)/3 = 4/3."""
    found = stats.clustered_mean([1, 3, 5], ["a", "a", "b"])
    assert found.value == 3
    assert found.stderr == pytest.approx(4 / 3)
    assert found.n == 2


@given(st.lists(st.tuples(numbers, st.integers(0, 5)), min_size=3, max_size=40))
def test_clusters_against_statsmodels(rows):
    """OLS on a constant with cov_type="cluster", whose correction for one regressor is G/(G − 1)."""
    values, groups = zip(*rows, strict=True)
    assume(len(set(groups)) > 1)
    found = stats.clustered_mean(values, groups)
    fit = OLS(np.array(values), np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": np.array(groups)})
    assert found.value == pytest.approx(fit.params[0], abs=1e-9)
    assert found.stderr == pytest.approx(fit.bse[0], abs=1e-7)


@given(samples)
def test_clusters_of_one_are_no_clusters(values):
    found, same = stats.clustered_mean(values, range(len(values))), stats.mean_stderr(values)
    assert found.stderr == pytest.approx(same.stderr, abs=1e-9)
    assert found.n == same.n


def test_repeating_a_value_in_its_cluster_adds_no_certainty():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert stats.clustered_mean(values * 4, [*range(5)] * 4).stderr == pytest.approx(stats.mean_stderr(values).stderr)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
def test_a_paired_difference_is_the_paired_t_interval(pairs):
    """scipy's ttest_rel(...).confidence_interval()."""
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    assume(np.std(after - before) > 1e-6)
    low, high = stats.paired_difference(before, after).interval()
    expected = scipy.stats.ttest_rel(after, before).confidence_interval()
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_unequal_pairs_are_refused():
    with pytest.raises(InputError, match="2 values and after 1"):
        stats.paired_difference([1, 2], [1])


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=2, max_size=20))
def test_parallel_languages_count_each_prompt_once(rows):
    """With every prompt in every language the mean gain's error is s/√G of the prompts' means over languages."""
    strata = {lang: dict(enumerate(column)) for lang, column in zip("abc", zip(*rows, strict=True), strict=True)}
    found, same = stats.mean_of_means(strata), stats.mean_stderr([sum(row) / 3 for row in rows])
    assert found.value == pytest.approx(same.value, abs=1e-9)
    assert found.stderr == pytest.approx(same.stderr, abs=1e-9)
    assert found.n == len(rows)


def test_copying_a_language_adds_no_certainty():
    one = {f"p{i}": float(i % 3) for i in range(30)}
    alone, five = stats.mean_of_means({"es": one}), stats.mean_of_means(dict.fromkeys(("es", "de", "fr"), one))
    assert five.stderr == pytest.approx(alone.stderr)
    assert five.n == 30


@given(
    st.lists(
        st.tuples(numbers, st.integers(0, 2), st.integers(0, 6)), min_size=6, max_size=40, unique_by=lambda r: r[1:]
    )
)
def test_unbalanced_languages_against_statsmodels(rows):
    """OLS on language dummies, the contrast of equal weights, clustered covariance without its (n − 1)/(n − k)."""
    groups = [prompt for _, _, prompt in rows]
    langs = sorted({lang for _, lang, _ in rows})
    n, k, g = len(rows), len(langs), len(set(groups))
    assume(g > 1 and n > k)
    strata = {str(lang): {p: v for v, other, p in rows if other == lang} for lang in langs}
    found = stats.mean_of_means(strata)
    dummies = np.array([[float(lang == other) for other in langs] for _, lang, _ in rows])
    fit = OLS(np.array([v for v, _, _ in rows]), dummies).fit(cov_type="cluster", cov_kwds={"groups": np.array(groups)})
    contrast = np.full(k, 1 / k)
    error = math.sqrt(contrast @ fit.cov_params() @ contrast * (n - k) / (n - 1))
    assert found.value == pytest.approx(contrast @ fit.params, abs=1e-8)
    assert found.stderr == pytest.approx(error, abs=1e-6)


def test_a_stratum_without_values_is_refused():
    with pytest.raises(InputError):
        stats.mean_of_means({"es": {"p": 1.0}, "de": {}})


def test_the_bootstrap_is_the_same_for_the_same_seed_and_near_students_interval():
    values = np.random.default_rng(0).normal(size=400)
    interval = stats.bootstrap_interval(values, np.mean, seed=1)
    assert interval == stats.bootstrap_interval(values, np.mean, seed=1)
    assert interval != stats.bootstrap_interval(values, np.mean, seed=2)
    assert interval == pytest.approx(stats.mean_stderr(values).interval(), abs=0.02)


# --- shares and clusters ---------------------------------------------------------------------------------------------


@given(st.integers(0, 400), st.integers(1, 400))
def test_the_interval_of_independent_wins_is_wilsons_of_one_trial_less(wins, losses):
    """s² = np(1 − p)/(n − 1), so the effective number of trials is n − 1; a normal quantile where n is large, here the
    t's, which statsmodels takes as a level of its own."""
    n = wins + losses
    share = stats.rate(wins, n)
    assume(n > 2 and wins)
    level = scipy.stats.t(n - 1).cdf(-stats.t_quantile(0.975, n - 1))
    z = stats.t_quantile(0.975, n - 1)
    alpha = 2 * scipy.stats.norm.sf(z)
    assert level == pytest.approx(0.025)
    low, high = proportion_confint(share.value * (n - 1), n - 1, alpha=alpha, method="wilson")
    assert stats.share_interval(share) == pytest.approx((low, high), abs=1e-9)


def test_the_interval_of_all_wins_is_not_a_point():
    """n = 4, t₃ = 3.182, t² = 10.13: low = 1/(1 + t²/n) = 1/(1 + 2.532) = 0.2831."""
    low, high = stats.share_interval(stats.mean_stderr([1.0] * 4))
    assert (low, high) == (pytest.approx(0.2831, abs=1e-4), 1.0)
    assert stats.share_interval(stats.mean_stderr([0.0] * 4)) == pytest.approx((0.0, 1 - low))
    assert stats.share_interval(stats.mean_stderr([0.5] * 4)) == (0.5, 0.5), "units that all say one fraction"
    assert stats.share_interval(stats.mean_stderr([1.0])) is None


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=40), st.integers(1, 10))
def test_the_interval_of_a_share_holds_it_and_stays_a_share(values, clusters):
    found = stats.clustered_mean(values, [i % clusters for i in range(len(values))])
    interval = stats.share_interval(found)
    if interval is None:
        assert found.n == 1
        return
    low, high = interval
    assert 0 <= low <= found.value + 1e-12 <= high + 2e-12 <= 1 + 2e-12
    mirrored = stats.share_interval(stats.Estimate(1 - found.value, found.stderr, found.n))
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_a_unit_with_several_values_in_a_stratum_is_one_cluster():
    """en: a 1, a 0, b 1, mean 2/3; es: a 1, mean 1. Influences: a (1/3 − 2/3)/6 + 0 = −1/18, b (1/3)/6 = 1/18;
    √(2·2/18²) = 2/18."""
    found = stats.mean_of_clustered_means({"en": ([1.0, 0.0, 1.0], ["a", "a", "b"]), "es": ([1.0], ["a"])})
    assert (found.value, found.n) == (pytest.approx(5 / 6), 2)
    assert found.stderr == pytest.approx(2 / 18)


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=12))
def test_a_mean_over_complete_strata_is_the_mean_of_the_units_means(rows):
    strata = {str(s): ([row[s] for row in rows], range(len(rows))) for s in range(3)}
    found, plain = stats.mean_of_clustered_means(strata), stats.mean_stderr([math.fsum(row) / 3 for row in rows])
    assert (found.value, found.stderr) == (pytest.approx(plain.value), pytest.approx(plain.stderr, abs=1e-9))


def test_codes_number_values_as_they_come():
    assert stats.codes(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
    assert stats.codes([]).tolist() == []


def test_sums_by_cluster_keep_the_rows_shape():
    rows = np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    assert stats.cluster_sums(rows, np.array([0, 2, 0]), 3).tolist() == [[101, 202], [0, 0], [10, 20]]


def test_a_resample_draws_as_many_clusters_as_there_are():
    counts = stats.resample_counts(20, seed=1, resamples=500)
    assert counts.shape == (500, 20)
    assert set(counts.sum(axis=1).tolist()) == {20}
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.15)
    assert stats.resample_counts(20, seed=1, resamples=500).tolist() == counts.tolist()
    with pytest.raises(InputError, match="at least one"):
        stats.resample_counts(0, seed=0, resamples=5)


def test_resampled_sums_give_the_bootstrap_of_a_mean():
    """The standard deviation of resampled means is √(Σ(x − x̄)²)/n."""
    values = np.random.default_rng(0).normal(size=200)
    drawn = stats.resample_counts(200, seed=0, resamples=4000) @ values / 200
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.05)
