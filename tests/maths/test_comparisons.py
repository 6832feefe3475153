"""Win rates out of scores, by hand, by brute force and beside scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from polypref.errors import InputError
from polypref.maths.comparisons import expected_win_rate, share_beaten, t_test, win_rate
from polypref.maths.stats import Estimate, mean_stderr, paired_difference

grades = st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=6)
finite = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=6)


def test_a_score_beats_the_lower_ones_and_half_of_its_equals() -> None:
    """Against 1, 2, 2, 5: 0 beats none; 2 beats one and ties with two, (1 + 1)/4; 9 beats all."""
    assert share_beaten([0.0, 2.0, 9.0], [2.0, 1.0, 5.0, 2.0]).tolist() == [0.0, 0.5, 1.0]


def test_the_win_rate_is_over_all_pairs() -> None:
    """(1, 3) against (2, 3): 1 loses twice; 3 wins once and ties once: 1.5 of 4."""
    assert win_rate([1.0, 3.0], [2.0, 3.0]) == 0.375


def test_a_failure_loses_to_every_answer_and_ties_with_a_failure() -> None:
    assert share_beaten([-math.inf, -1e300], [-math.inf, 0.0]).tolist() == [0.25, 0.5]


@given(grades, grades)
def test_the_win_rate_is_scipys_u_over_the_number_of_pairs(mine: list[float], theirs: list[float]) -> None:
    u = scipy_stats.mannwhitneyu(mine, theirs, method="asymptotic").statistic
    assert win_rate(mine, theirs) == pytest.approx(u / (len(mine) * len(theirs)))


@given(grades, grades)
def test_the_two_sides_share_one(mine: list[float], theirs: list[float]) -> None:
    assert win_rate(mine, theirs) + win_rate(theirs, mine) == pytest.approx(1)
    assert win_rate(mine, mine) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6), finite, st.data())
def test_the_expected_win_rate_is_brute_force_over_all_sets(
    answers: list[tuple[int, int]], opponents: list[float], data: st.DataObject
) -> None:
    """Of every set of n the answers with its best score are picked equally often; sets without an answer are left
    out."""
    failed = data.draw(st.integers(0, 2))
    drawn = len(answers) + failed
    n = data.draw(st.integers(1, drawn))
    wins = []
    for members in itertools.combinations([*answers, *[None] * failed], n):
        left = [member for member in members if member is not None]
        if left:
            best = [quality for score, quality in left if score == max(score for score, _ in left)]
            wins.append(np.mean([np.mean([(q > o) + (q == o) / 2 for o in opponents]) for q in best]))
    scores, judged = zip(*answers, strict=True)
    assert expected_win_rate(scores, judged, opponents, n, drawn) == pytest.approx(np.mean(wins))


def test_the_best_of_all_is_the_win_rate_of_the_best() -> None:
    assert expected_win_rate([1.0, 3.0, 2.0], [0.0, 7.0, 9.0], [6.0, 8.0], 3) == 0.5


@pytest.mark.parametrize(
    ("mine", "theirs", "what"), [([], [1.0], "scores is empty"), ([1.0], [], "opponents is empty")]
)
def test_an_answer_of_each_is_needed(mine: list[float], theirs: list[float], what: str) -> None:
    with pytest.raises(InputError, match=what):
        share_beaten(mine, theirs)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_score_that_no_scorer_gives_is_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"scores\[1\] is (nan|inf)"):
        share_beaten([0.0, wrong], [1.0])


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=12))
def test_p_is_that_of_scipys_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    difference = after - before
    if np.ptp(difference) < 1e-6:
        return
    found = t_test(paired_difference(before, after))
    assert found == pytest.approx(scipy_stats.ttest_rel(after, before).pvalue)


def test_where_nothing_varies_there_is_no_test() -> None:
    assert t_test(Estimate(1.0, None, 1)) is None
    assert t_test(mean_stderr([0.5, 0.5])) is None
