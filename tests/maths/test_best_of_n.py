"""Best-of-n from one sample set, against brute force over all its subsets."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.maths.best_of_n import (
    expected_best,
    expected_value,
    kl_bound,
    kl_terms,
    pick_chances,
    soft_chances,
    soft_choice,
    weighted,
)

few = st.sampled_from([-1.5, 0.0, 0.25, 0.25000000000000006, 1.0, 1e6])  # ties are frequent, and near ties are none


@st.composite
def samples(draw):
    """Scores with ties, values, drawn ≥ scores, and n ≤ drawn."""
    scores = draw(st.lists(few, min_size=1, max_size=7))
    values = draw(st.lists(st.floats(-100, 100), min_size=len(scores), max_size=len(scores)))
    drawn = len(scores) + draw(st.integers(0, 3))
    return scores, values, drawn, draw(st.integers(1, drawn))


def sets(scores, drawn, n):
    """All sets of n of the drawn answers, as indices of those that may be given; sets without one are left out."""
    for members in combinations(range(drawn), n):
        if given_ones := [i for i in members if i < len(scores)]:
            yield given_ones


@given(samples())
def test_the_expected_best_is_the_mean_over_all_subsets(case):
    scores, _, drawn, n = case
    best = [max(scores[i] for i in members) for members in sets(scores, drawn, n)]
    assert expected_best(scores, n, drawn) == pytest.approx(math.fsum(best) / len(best), rel=1e-12, abs=1e-9)


@given(samples())
def test_the_expected_value_of_the_picked_answer_is_the_mean_over_all_subsets(case):
    """Within a set, answers that share the highest score share the pick."""
    scores, values, drawn, n = case
    picked = []
    for members in sets(scores, drawn, n):
        top = max(scores[i] for i in members)
        best = [values[i] for i in members if scores[i] == top]
        picked.append(math.fsum(best) / len(best))
    assert expected_value(scores, values, n, drawn) == pytest.approx(math.fsum(picked) / len(picked), abs=1e-9)


@given(samples(), st.floats(0.05, 10))
def test_soft_chances_are_the_mean_softmax_over_all_subsets(case, temperature):
    scores, _, drawn, n = case
    sums, count = np.zeros(len(scores)), 0
    for members in sets(scores, drawn, n):
        weights = np.array([(scores[i] - max(scores[j] for j in members)) / temperature for i in members])
        sums[members] += np.exp(weights) / np.exp(weights).sum()
        count += 1
    assert soft_chances(scores, n, temperature, drawn) == pytest.approx(sums / count, abs=1e-12)


def test_three_answers_by_hand():
    """1, 2, 3 hold {1, 2}, {1, 3}, {2, 3}: best 2, 3, 3. With 1, 3, 3 the two share every set."""
    assert pick_chances([3.0, 1.0, 2.0], 2) == pytest.approx([2 / 3, 0, 1 / 3])
    assert expected_best([3.0, 1.0, 2.0], 2) == pytest.approx(8 / 3)
    assert pick_chances([1.0, 3.0, 3.0], 2) == pytest.approx([0, 0.5, 0.5])
    assert expected_value([1.0, 3.0, 3.0], [9.0, 0.0, 1.0], 2) == pytest.approx(0.5)


def test_answers_that_cannot_be_given_count_as_drawn():
    """1 and 2 of three drawn, x may not be given: {1, 2}, {1, x}, {2, x} give 2, 1, 2; at n = 1, x gives no answer."""
    assert pick_chances([1.0, 2.0], 2, 3) == pytest.approx([1 / 3, 2 / 3])
    assert pick_chances([1.0, 2.0], 1, 3) == pytest.approx([0.5, 0.5])
    assert pick_chances([1.0, 2.0], 3, 3) == pytest.approx([0, 1])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_one_answer_is_the_mean_and_all_of_them_the_maximum(scores):
    assert expected_best(scores, 1) == pytest.approx(np.mean(scores), abs=1e-6)
    assert expected_best(scores, len(scores)) == pytest.approx(max(scores), abs=1e-6)


@given(st.lists(few, min_size=2, max_size=30))
def test_more_samples_never_expect_less(scores):
    curve = [expected_best(scores, n) for n in range(1, len(scores) + 1)]
    assert all(after >= before - 1e-9 for before, after in pairwise(curve))


@pytest.mark.parametrize(("total", "n"), [(5000, 64), (5000, 2500), (5000, 5000), (100_000, 64)])
def test_many_samples_are_exact(total, n):
    """The best of n of 1 … N is n(N + 1)/(n + 1) on average; C(5000, 2500) has 1504 digits and is never computed."""
    scores = np.arange(1, total + 1, dtype=float)
    assert expected_best(scores, n) == pytest.approx(n * (total + 1) / (n + 1), rel=1e-12)


def test_the_kl_bound_is_its_formula():
    """n = 64, the paper's: log 64 − 63/64 = 4.158883 − 0.984375."""
    assert [kl_bound(1), kl_bound(2)] == [0.0, math.log(2) - 0.5]
    assert kl_bound(64) == pytest.approx(3.174508, abs=1e-6)


def divergence(probabilities, n):
    """KL(best-of-n ‖ policy) over answers in rising order of score, none alike: best-of-n gives F^n − (F − p)^n."""
    p = np.asarray(probabilities, dtype=float) / np.sum(probabilities)
    below = np.concatenate([[0.0], np.cumsum(p)])
    best = np.diff(below**n)
    return float(np.sum(best[best > 0] * np.log(best[best > 0] / p[best > 0])))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=20), st.integers(1, 64))
def test_the_kl_bound_is_never_exceeded(probabilities, n):
    assert divergence(probabilities, n) <= kl_bound(n) + 1e-9


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_kl_bound_is_reached_where_no_answer_is_likely(n):
    assert divergence(np.ones(200_000), n) == pytest.approx(kl_bound(n), abs=1e-3)


@pytest.mark.parametrize("n", [1, 2, 8, 64])
@pytest.mark.parametrize("likely", [0.01, 0.3, 0.9])
def test_kl_terms_are_the_divergence_where_one_likely_answer_is_the_best(n, likely):
    """200,000 unlikely answers under one of probability ε: what the formula describes, summed term by term."""
    exact = divergence([*[(1 - likely) / 200_000] * 200_000, likely], n)
    assert kl_terms(n, [math.log(likely)])[0] == pytest.approx(exact, abs=1e-3)


@given(st.integers(1, 1000))
def test_kl_terms_go_from_the_bound_to_nothing(n):
    unlikely, small, certain = kl_terms(n, [-5000.0, -40.0, 0.0])
    assert (unlikely, small) == (pytest.approx(kl_bound(n), abs=1e-12), pytest.approx(kl_bound(n), abs=1e-12))
    assert certain == 0


@given(st.integers(1, 1000), st.lists(st.floats(-800, 0), min_size=1, max_size=20))
def test_kl_terms_are_divergences_within_the_bound(n, logprobs):
    found = kl_terms(n, logprobs)
    assert (found >= 0).all()
    assert (found <= kl_bound(n) + 1e-9).all()


def test_a_softmax_by_hand():
    """s = 0 and log 3 at T = 1: ¼ and ¾; at T = ½ the odds are squared."""
    assert soft_choice([0.0, math.log(3)], 1.0) == pytest.approx([0.25, 0.75])
    assert soft_choice([0.0, math.log(3)], 0.5) == pytest.approx([0.1, 0.9])
    assert soft_choice([-1e300, 1e300], 1e-300) == pytest.approx([0, 1])


def test_soft_chances_lie_between_any_answer_and_the_best():
    scores = [0.3, -1.0, 2.0, 0.7]
    assert soft_chances(scores, 2, 1e9) == pytest.approx([0.25] * 4)
    assert soft_chances(scores, 2, 1e-9) == pytest.approx(pick_chances(scores, 2))


def test_drawn_sets_estimate_what_all_sets_give():
    """C(16, 4) = 1820 sets; of 1000 drawn ones a chance's standard error is under ½/√1000 = 0.016."""
    scores = np.linspace(-1, 1, 12)
    exact = soft_chances(scores, 4, 0.5, 16, sets=2000)
    assert soft_chances(scores, 4, 0.5, 16, sets=1000, seed=3) == pytest.approx(exact, abs=0.06)
    again = [soft_chances(scores, 4, 0.5, 16, sets=50, seed=seed).tolist() for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_where_hardly_a_set_has_an_answer_each_answer_is_as_likely():
    assert soft_chances([0.0, 5.0], 1, 1.0, 10**5, sets=1).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: pick_chances([1.0, 2.0], 3), "n is 3 and there are 2 answers; n must be from 1 to that, or draw more"),
        (lambda: pick_chances([1.0, 2.0], 0), "n is 0"),
        (lambda: pick_chances([1.0, 2.0], 1, 1), "drawn is 1, fewer than the 2 scores"),
        (lambda: pick_chances([], 1), "scores is empty"),
        (lambda: pick_chances([1.0, math.nan], 1), r"scores\[1\] is nan"),
        (lambda: expected_value([1.0, 2.0], [1.0], 1), "2 scores and 1 values"),
        (lambda: weighted(np.array([1.0]), [math.inf]), r"values\[0\] is inf"),
        (lambda: soft_choice([1.0], 0.0), "temperature is 0.0"),
        (lambda: soft_chances([1.0], 1, -1.0), "temperature is -1.0"),
        (lambda: soft_chances([1.0], 1, 1.0, sets=0), "sets is 0"),
        (lambda: kl_bound(0), "n is 0"),
        (lambda: kl_terms(2, [0.1]), "logprobs has 0.1"),
    ],
)
def test_what_has_no_answer_is_refused(call, told):
    with pytest.raises(InputError, match=told):
        call()
