"""Reward accuracy, KL, length-controlled win rates and transfer against hand-derived values and published figures."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.regression.linear_model import OLS

from polypref.errors import InputError
from polypref.maths import metrics, stats

scores = st.integers(-4, 4).map(float)


def test_reward_accuracy_by_hand():
    """Right answers score 3 and 1, wrong ones 1 and 0: of the four pairs 3 > 1, 3 > 0, 1 > 0 win and 1 = 1 ties."""
    assert metrics.reward_accuracy([3, 1, 1, 0], [1, 1, 0, 0]) == 3.5 / 4


def test_without_a_right_and_a_wrong_answer_there_is_no_accuracy():
    assert metrics.reward_accuracy([1, 2], [1, 1]) is None
    assert metrics.reward_accuracy([], []) is None


def test_graded_truth_pairs_every_two_grades():
    """Truths 0 ½ 1 with scores 0 2 1: pairs (½, 0) and (1, 0) are right, (1, ½) is wrong."""
    assert metrics.reward_accuracy([0, 2, 1], [0, 0.5, 1]) == pytest.approx(2 / 3)


@given(st.lists(st.tuples(scores, st.booleans()), min_size=2, max_size=30))
def test_reward_accuracy_is_the_mann_whitney_share(rows):
    """scipy's mannwhitneyu: U / (n₁ n₂)."""
    right, wrong = ([s for s, label in rows if label is side] for side in (True, False))
    assume(right and wrong)
    expected = scipy.stats.mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong))
    found = metrics.reward_accuracy([s for s, _ in rows], [float(label) for _, label in rows])
    assert found == pytest.approx(expected)


def test_a_score_without_its_truth_is_refused():
    with pytest.raises(InputError, match="3 scores and 2 truths"):
        metrics.reward_accuracy([1, 2, 3], [0, 1])


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimators_are_unbiased(estimator):
    """Over three outcomes the expectation under π is exact: Σ π log(π/ρ)."""
    policy, reference = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    terms = metrics.kl_terms(np.log(policy), np.log(reference), estimator)
    assert policy @ terms == pytest.approx(policy @ np.log(policy / reference))


@given(st.lists(st.tuples(st.floats(-300, 0), st.floats(-300, 0)), min_size=1, max_size=20))
def test_k3_is_never_negative(pairs):
    policy, reference = zip(*pairs, strict=True)
    assert (metrics.kl_terms(policy, reference, "k3") >= 0).all()


def test_kl_says_what_it_cannot_do():
    with pytest.raises(InputError, match="beyond k3"):
        metrics.kl_terms([-2000.0], [-10.0], "k3")
    with pytest.raises(InputError, match="k1, k3"):
        metrics.kl_terms([0.0], [0.0], "k2")


def test_length_gap_and_agreement():
    """Gaps 10 and −4: mean 3, s/√n = 7. The higher score is longer in one of the two pairs that scores tell apart."""
    gap = metrics.length_gap([30, 6], [20, 10])
    assert (gap.value, gap.stderr, gap.n) == (3, pytest.approx(7), 2)
    assert metrics.length_agreement([2, 1, 1], [30, 20, 40]) == 0.5


# --- win rates -----------------------------------------------------------------------------------------------------


def judged(n=300, seed=0, length=-1.5, difficulty=0.8, intercept=0.3):
    noise = np.random.default_rng(seed)
    model, baseline = noise.integers(50, 3000, n), noise.integers(50, 3000, n)
    hard = noise.normal(size=n)
    delta = (baseline - model).astype(float)
    logit = length * np.tanh(delta / delta.std(ddof=1)) + difficulty * hard + intercept
    preference = np.clip(special.expit(logit) + noise.normal(size=n) * 0.2, 0, 1)
    return preference, model, baseline, hard


def test_held_weights_leave_only_the_intercept():
    """With both weights held at 0 the likeliest b is the logit of the mean, and the controlled rate the raw one."""
    preference, model, baseline, hard = judged()
    found = metrics.win_rate(preference, model, baseline, hard, length_weight=0.0, difficulty_weight=0.0)
    assert found.weights["intercept"] == pytest.approx(special.logit(preference.mean()))
    assert found.controlled.value == pytest.approx(found.raw.value)
    assert found.controlled.stderr == pytest.approx(found.raw.stderr, rel=0.01)


def test_the_fitted_intercept_solves_its_likelihood_equation():
    """∂/∂b Σ [y η − log(1 + e^η)] = 0: fitted shares sum to the preferences."""
    preference, model, baseline, hard = judged()
    found = metrics.win_rate(preference, model, baseline, hard, length_weight=-2.0, difficulty_weight=1.0)
    delta = (baseline - model).astype(float)
    eta = -2 * np.tanh(delta / delta.std(ddof=1)) + hard + found.weights["intercept"]
    assert special.expit(eta).sum() == pytest.approx(preference.sum(), abs=1e-6)
    assert found.controlled.value == pytest.approx(special.expit(hard + found.weights["intercept"]).mean())


@pytest.mark.parametrize("with_difficulty", [True, False])
def test_free_weights_are_those_of_a_logistic_regression(with_difficulty):
    """statsmodels' GLM of the binomial family on fractional responses; the ridge shifts weights by less than 10⁻²."""
    preference, model, baseline, hard = judged()
    delta = (baseline - model).astype(float)
    columns = [np.tanh(delta / delta.std(ddof=1)), *([hard] if with_difficulty else []), np.ones(len(hard))]
    fit = GLM(preference, np.column_stack(columns), family=Binomial()).fit()
    found = metrics.win_rate(preference, model, baseline, hard if with_difficulty else None)
    assert [*found.weights.values()] == pytest.approx(fit.params, abs=1e-2)
    even = np.column_stack([np.zeros(len(hard)), *columns[1:]])
    assert found.controlled.value == pytest.approx(special.expit(even @ fit.params).mean(), abs=1e-3)


def test_the_controlled_error_agrees_with_the_bootstrap():
    preference, model, baseline, hard = judged(n=400)
    noise = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        rows = noise.integers(0, 400, 400)
        drawn.append(metrics.win_rate(preference[rows], model[rows], baseline[rows], hard[rows]).controlled.value)
    found = metrics.win_rate(preference, model, baseline, hard)
    assert found.controlled.stderr == pytest.approx(np.std(drawn), rel=0.2)


def test_a_longer_model_gains_nothing_from_length_alone():
    """Preferences that follow length alone: raw far from ½, controlled near ½."""
    noise = np.random.default_rng(0)
    model, baseline = noise.integers(500, 3000, 500), noise.integers(100, 2000, 500)
    delta = (baseline - model).astype(float)
    preference = special.expit(-3 * np.tanh(delta / delta.std(ddof=1)))
    found = metrics.win_rate(preference, model, baseline)
    assert found.raw.value > 0.7
    assert found.controlled.value == pytest.approx(0.5, abs=0.02)


@given(st.integers(0, 10_000))
def test_swapping_the_sides_turns_the_rate_round(seed):
    preference, model, baseline, hard = judged(n=40, seed=seed)
    one = metrics.win_rate(preference, model, baseline, hard)
    other = metrics.win_rate(1 - preference, baseline, model, -hard)
    assert one.controlled.value + other.controlled.value == pytest.approx(1, abs=1e-6)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 50), st.integers(0, 50)), min_size=1))
def test_any_rows_give_a_finite_rate(rows):
    preference, model, baseline = zip(*rows, strict=True)
    found = metrics.win_rate(preference, model, baseline)
    assert 0 <= found.controlled.value <= 1
    assert found.controlled.stderr is None or math.isfinite(found.controlled.stderr)


@pytest.mark.parametrize("n", [6, 200])
def test_separable_rows_give_a_finite_rate(n):
    """The shorter answer always wins: the likelihood alone has no maximum."""
    model = np.arange(n) * 10
    found = metrics.win_rate((model < n * 5).astype(float), model, np.full(n, n * 5))
    assert all(math.isfinite(w) for w in found.weights.values())
    assert 0 <= found.controlled.value <= 1
    assert (found.fallback, found.controlled.stderr) == ("ridge", None)


def test_failed_answers_count_at_their_preference_beside_the_fit_of_the_rest():
    """Of 400 rows the first 50 have a failed answer: they bring their preferences, the others the rate of a fit of
    their own. The error agrees with the bootstrap."""
    preference, model, baseline, hard = judged(n=400)
    failed = np.arange(400) < 50
    preference[failed] = np.arange(50) % 2 / 2
    model[failed] = 0
    found = metrics.win_rate(preference, model, baseline, hard, failed=failed)
    rest = metrics.win_rate(preference[50:], model[50:], baseline[50:], hard[50:])
    assert found.weights == rest.weights
    assert found.controlled.value == pytest.approx((350 * rest.controlled.value + 50 * 0.25) / 400)
    noise = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        rows = noise.integers(0, 400, 400)
        again = metrics.win_rate(preference[rows], model[rows], baseline[rows], hard[rows], failed=failed[rows])
        drawn.append(again.controlled.value)
    assert found.controlled.stderr == pytest.approx(np.std(drawn), rel=0.2)


def test_an_error_by_clusters_is_the_sandwich_of_statsmodels():
    """Without difficulties the controlled rate is σ(b), whose error is σ(b)(1 − σ(b)) times that of b: statsmodels'
    covariance of clusters, with ours' correction G/(G − 1) alone."""
    preference, model, baseline, _ = judged()
    groups = np.arange(300) // 3
    delta = (baseline - model).astype(float)
    design = np.column_stack([np.tanh(delta / delta.std(ddof=1)), np.ones(300)])
    fit = GLM(preference, design, family=Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    found = metrics.win_rate(preference, model, baseline, groups=groups.tolist())
    share = special.expit(fit.params[1])
    assert found.controlled.stderr == pytest.approx(share * (1 - share) * fit.bse[1] * math.sqrt(100 / 99), rel=1e-3)
    ols = OLS(preference, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    assert found.raw.stderr == pytest.approx(ols.bse[0] * math.sqrt(100 / 99))
    assert (found.raw.n, found.controlled.n) == (100, 100)


def test_the_influences_of_one_fit_give_its_error():
    preference, model, baseline, hard = judged()
    found = metrics.win_rate(preference, model, baseline, hard)
    alone = stats.mean_stderr(found.influence)
    assert alone.value == pytest.approx(found.controlled.value, abs=1e-4)
    assert alone.stderr == pytest.approx(found.controlled.stderr)


def test_where_the_model_cannot_be_had_the_fallback_is_told():
    preference, model, baseline, hard = judged()
    won = (preference > 0.5).astype(float)
    assert metrics.win_rate(preference, model, baseline, hard).fallback is None
    assert metrics.win_rate(won, model, baseline).fallback is None
    assert metrics.win_rate(np.ones(300), model, baseline).fallback == "raw"
    assert metrics.win_rate(preference, baseline - 10, baseline).fallback == "no_length"
    shorter = (model < baseline).astype(float)
    assert metrics.win_rate(shorter, model, baseline).fallback == "ridge"
    shorter[np.argmax(np.abs(model - baseline))] = 0.5
    assert metrics.win_rate(shorter, model, baseline, length_weight=-3.0).fallback is None, "nothing but b is fitted"


@given(st.integers(0, 500))
def test_few_rows_that_nothing_separates_do_not_lean_on_the_ridge(seed):
    """Twelve rows, of each length difference one won and one lost: the likelihood has its maximum at a weight of 0."""
    model = np.random.default_rng(seed).integers(1, 1000, 6).repeat(2)
    assume(len(set(model.tolist())) > 1)
    found = metrics.win_rate([1.0, 0.0] * 6, model, np.full(12, 500))
    assert found.fallback is None
    assert found.controlled.value == pytest.approx(0.5)


@pytest.mark.parametrize("weight", [-40.0, 40.0])
def test_an_extreme_held_weight_is_still_fitted(weight):
    preference, model, baseline, _ = judged()
    found = metrics.win_rate(preference, model, baseline, length_weight=weight)
    delta = (baseline - model).astype(float)
    eta = weight * np.tanh(delta / delta.std(ddof=1)) + found.weights["intercept"]
    assert special.expit(eta).sum() == pytest.approx(preference.sum(), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_always_or_never_winning_is_all_or_nothing(value):
    found = metrics.win_rate([value] * 5, [1, 2, 3, 4, 5], [5, 5, 5, 5, 5])
    assert found.controlled == found.raw
    assert found.raw.value == value


@pytest.mark.parametrize("held", [None, -2.0])
def test_one_length_difference_for_all_leaves_the_length_term_out(held):
    found = metrics.win_rate([1, 0, 1, 1], [150] * 4, [100] * 4, length_weight=held)
    assert found.controlled.value == pytest.approx(0.75, abs=1e-6)


# --- transfer --------------------------------------------------------------------------------------------------------


def test_transfer_by_hand():
    """Sources a b on target a: accuracies 60 70, win rates 55 50 (τ −1); on target b: 60 70, 40 45 (τ 1)."""
    accuracy = {("a", "a"): 60.0, ("b", "a"): 70.0, ("a", "b"): 60.0, ("b", "b"): 70.0}
    win_rates = {("a", "a"): 55.0, ("b", "a"): 50.0, ("a", "b"): 40.0, ("b", "b"): 45.0}
    found = metrics.transfer(accuracy, win_rates)
    assert (found.cross_mean, found.mono_mean, found.below_even) == (45, 50, 2)
    assert found.best_source == {"a": "a", "b": "b"}
    assert found.kendall_tau_by_target == {"a": pytest.approx(-1), "b": pytest.approx(1)}
    assert found.kendall_tau == pytest.approx(0)


def test_a_target_that_cannot_be_ranked_has_no_tau():
    found = metrics.transfer({("a", "a"): 60.0, ("b", "a"): 60.0}, {("a", "a"): 55.0, ("b", "a"): 50.0})
    assert found.kendall_tau is None
    assert metrics.transfer({("a", "b"): 1.0}, {("a", "b"): 55.0}).mono_mean is None


def test_a_win_rate_without_accuracy_is_refused():
    with pytest.raises(InputError, match="b on a has no accuracy"):
        metrics.transfer({("a", "a"): 60.0}, {("a", "a"): 55.0, ("b", "a"): 50.0})
