"""Pairing: picks, ties, and an α that no other α beats."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polypref.errors import InternalError
from polypref.maths.pairing import Gathered, best_and_worst, fit_alpha

Prompts = list[list[tuple[float, int, str]]]
"""For each prompt its candidates as (score, length, text)."""


def columns(prompts: Prompts) -> tuple[list[list[float]], list[list[int]], list[list[str]]]:
    return (
        [[s for s, _, _ in p] for p in prompts],
        [[n for _, n, _ in p] for p in prompts],
        [[t for _, _, t in p] for p in prompts],
    )


def fitted(prompts: Prompts) -> float:
    return fit_alpha(*columns(prompts))


def mean_gap(prompts: Prompts, alpha: float) -> tuple[float | None, int]:
    """The mean length gap over the prompts with a pair, None without any, and how many have best = worst."""
    gaps, ties = [], 0
    for scores, lengths, texts in zip(*columns(prompts), strict=True):
        if not scores:
            continue
        best, worst = best_and_worst(scores, lengths, alpha)
        ties += best == worst
        if texts[best] != texts[worst]:
            gaps.append(lengths[best] - lengths[worst])
    return (sum(gaps) / len(gaps) if gaps else None), ties


def best_by_brute_force(prompts: Prompts) -> tuple[float, float]:
    """(|mean gap|, |α|), the least over all crossings of two lines, the midpoints between them, and beyond."""
    crossings = {0.0}
    for prompt in prompts:
        for i, (s, n, _) in enumerate(prompt):
            crossings |= {(s - t) / (n - m) for t, m, _ in prompt[:i] if n != m}
    ends = sorted(crossings)
    tried = crossings | {(a + b) / 2 for a, b in itertools.pairwise(ends)} | {ends[0] - 1, ends[-1] + 1}
    always_tied = sum(len({(s, n) for s, n, _ in p}) == 1 for p in prompts)
    at_zero, _ = mean_gap(prompts, 0.0)
    if at_zero is None:
        return 0.0, 0.0
    best = (abs(at_zero), 0.0)
    for alpha in tried:
        gap, ties = mean_gap(prompts, alpha)
        if gap is not None and ties <= always_tied:
            best = min(best, (abs(gap), abs(alpha)))
    return best


def labelled(prompt: list[tuple[float, int]]) -> list[tuple[float, int, str]]:
    return [(s, n, f"text {i}") for i, (s, n) in enumerate(prompt)]


# Scores are eighths: their differences are exact, so equal crossings are equal in floating point and brute force, which
# meets the same roundings, has no tie of its own.
few_values = st.tuples(st.integers(-4, 4).map(float), st.integers(0, 6))
many_values = st.tuples(st.integers(-800, 800).map(lambda i: i / 8), st.integers(0, 2000))
same_texts = st.tuples(st.integers(-2, 2).map(float), st.integers(1, 4), st.sampled_from("abc"))


def prompts_of(candidate: st.SearchStrategy[tuple[float, int]]) -> st.SearchStrategy[Prompts]:
    return st.lists(st.lists(candidate, max_size=6).map(labelled), min_size=1, max_size=6)


def test_best_is_chosen_and_worst_rejected() -> None:
    assert best_and_worst([0.5, 2.0, -1.0, 1.0], [9, 9, 9, 9]) == (1, 2)


def test_equal_scores_go_to_the_earlier_candidate_at_both_ends() -> None:
    assert best_and_worst([1.0, 2.0, 2.0, 1.0], [5, 6, 7, 8]) == (1, 0)


def test_all_equal_scores_give_one_position_twice() -> None:
    """Trap of the released scripts: ties gave chosen = rejected; here the caller sees it and makes no pair."""
    best, worst = best_and_worst([3.0, 3.0, 3.0], [1, 2, 3])
    assert best == worst == 0


def test_alpha_has_a_sign() -> None:
    """Scores 1, 2 with lengths 10, 30: α = 0.2 gives −1, −4; α = −0.2 gives 3, 8."""
    assert best_and_worst([1.0, 2.0], [10, 30], 0.2) == (0, 1)
    assert best_and_worst([1.0, 2.0], [10, 30], -0.2) == (1, 0)


def test_nothing_to_pick_from_is_an_error_of_ours() -> None:
    with pytest.raises(InternalError, match="0 scores"):
        best_and_worst([], [])


def test_shapes_must_agree() -> None:
    with pytest.raises(InternalError, match="shapes"):
        fit_alpha([[1.0, 2.0]], [[1]])


def test_fits_one_prompt_by_hand() -> None:
    """Lines 3 − 30α, 2 − 10α, 0 − 20α. At α = 0: best 30, worst 20, gap +10. The best passes to the second line at
    α = (3 − 2)/20 = 0.05; the worst passes from the third to the first at α = (3 − 0)/10 = 0.3. So the gap is +10 up
    to 0.05, then 10 − 20 = −10: equal in size, and 0 is the smallest α of them."""
    assert fitted([labelled([(3.0, 30), (2.0, 10), (0.0, 20)])]) == 0.0


def test_a_bias_towards_short_answers_needs_a_negative_alpha() -> None:
    """Trap of the released scripts: their grid holds no negative α. Lines 10 − 10α, 9 − 20α, 0 − 20α: at α = 0 the
    gap is 10 − 20; from the second line's crossing with the first, α = (10 − 9)/(10 − 20) = −0.1, downwards the best
    is 20 long and the gap 0. At −0.1 itself the two tie and the earlier, shorter one wins."""
    prompts = [labelled([(10.0, 10), (9.0, 20), (0.0, 20)])]
    alpha = fitted(prompts)
    assert alpha < -0.1
    assert alpha == pytest.approx(-0.1)
    assert mean_gap(prompts, alpha)[0] == 0


def test_a_tie_at_a_crossing_goes_to_the_earlier_candidate_and_so_may_be_the_best_point() -> None:
    """Lines 5 − 10α and 0 − 0α are the best two and cross at α = 0.5; −90 − 5α is the worst throughout. The gap is
    10 − 5 = +5 below and 0 − 5 = −5 above. A second prompt adds +5, so the mean is 5 below 0.5 and 0 above. At 0.5
    itself the earlier line counts: where that is the short one 0.5 is the smallest α with mean 0, else the answer lies
    just above."""
    long, short, worst = (5.0, 10), (0.0, 0), (-90.0, 5)
    second = labelled([(9.0, 10), (0.0, 5)])
    short_first, long_first = [labelled([short, long, worst]), second], [labelled([long, short, worst]), second]
    assert fitted(short_first) == 0.5
    assert fitted(long_first) > 0.5
    assert fitted(long_first) == pytest.approx(0.5)
    assert mean_gap(short_first, 0.5)[0] == mean_gap(long_first, fitted(long_first))[0] == 0


def test_control_is_left_out_when_the_gap_is_zero_already() -> None:
    assert fitted([labelled([(2.0, 10), (1.0, 10), (1.5, 99)])]) == 0.0


def test_one_language_with_only_ties_needs_no_alpha() -> None:
    """All scores equal, lengths not: any α ≠ 0 would make pairs out of length alone."""
    assert fitted([labelled([(1.0, 10), (1.0, 20), (1.0, 30)])]) == 0.0


def test_an_alpha_that_ties_a_prompt_away_is_passed_over() -> None:
    """Two prompts of two candidates: gaps +10 and +2. At α = 0.1 the first one's scores tie and it would vanish,
    leaving a mean of 2; above 0.1 the gaps are −10 and +2, mean −4, the nearest with both pairs."""
    prompts = [labelled([(1.0, 10), (0.0, 0)]), labelled([(9.0, 2), (0.0, 0)])]
    alpha = fitted(prompts)
    assert alpha > 0.1
    assert mean_gap(prompts, alpha) == (-4.0, 0)


def test_prompts_without_a_pair_do_not_dilute_the_gap() -> None:
    alone = [labelled([(1.0, 50)])]
    twins = [[(2.0, 7, "same"), (1.0, 7, "same")]]
    pair = [labelled([(3.0, 30), (2.0, 10), (0.0, 20)])]
    assert fitted(alone) == fitted(twins) == fitted([]) == fitted([[]]) == 0.0
    assert fitted(alone + twins + pair) == fitted(pair)


def test_large_scores_still_get_an_alpha_that_floating_point_realises() -> None:
    offset = 1e9
    prompts = [labelled([(offset + s, n) for s, n in p]) for p in ([(3.0, 30), (2.9, 10), (0.0, 20)], [(1, 9), (0, 5)])]
    assert abs(mean_gap(prompts, fitted(prompts))[0] or 0.0) == best_by_brute_force(prompts)[0]


def assert_best(prompts: Prompts) -> None:
    alpha = fitted(prompts)
    gap, size = best_by_brute_force(prompts)
    found, _ = mean_gap(prompts, alpha)
    if found is not None:
        assert abs(found) <= gap
        # Brute force looks at midpoints alone, so where the gap is equal its α is never the smaller one.
        assert abs(found) < gap or abs(alpha) <= size + 1e-9
    else:
        assert alpha == 0.0


@settings(max_examples=400, deadline=None)
@given(prompts_of(few_values))
def test_no_alpha_is_better_with_many_ties(prompts: Prompts) -> None:
    assert_best(prompts)


@settings(max_examples=200, deadline=None)
@given(prompts_of(many_values))
def test_no_alpha_is_better_with_few_ties(prompts: Prompts) -> None:
    assert_best(prompts)


@pytest.mark.parametrize("seed", range(5))
def test_no_alpha_is_better_with_scores_as_models_give_them(seed: int) -> None:
    noise = random.Random(seed)
    lengths = [[noise.randint(20, 900) for _ in range(7)] for _ in range(12)]
    assert_best([labelled([(noise.gauss(0, 8) + 0.05 * n * (-1) ** seed, n) for n in row]) for row in lengths])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(same_texts, max_size=5), min_size=1, max_size=5))
def test_no_alpha_is_better_with_duplicates(prompts: Prompts) -> None:
    assert_best(prompts)


@settings(max_examples=100, deadline=None)
@given(prompts_of(few_values), st.lists(st.integers(-40, 40).map(lambda i: i / 8), min_size=2))
def test_each_prompts_gap_never_grows_with_alpha(prompts: Prompts, alphas: Sequence[float]) -> None:
    """The envelope argument: more control makes the best shorter and the worst longer."""
    for scores, lengths, _ in zip(*columns(prompts), strict=True):
        if not scores:
            continue
        gaps = []
        for alpha in sorted(set(alphas)):
            best, worst = best_and_worst(scores, lengths, alpha)
            gaps.append(lengths[best] - lengths[worst])
        assert gaps == sorted(gaps, reverse=True)


@given(prompts_of(same_texts.map(lambda one: one[:2])) | st.lists(st.lists(same_texts, max_size=6), max_size=6))
def test_prompts_gathered_one_by_one_give_the_same_alpha(prompts: Prompts) -> None:
    gathered = Gathered()
    for scores, lengths, texts in zip(*columns(prompts), strict=True):
        gathered.add(scores, lengths, [texts.index(text) for text in texts])
    assert gathered.fit_alpha() == fitted(prompts)


def test_a_gathered_prompt_needs_as_many_of_each() -> None:
    with pytest.raises(InternalError, match="2 scores, 1 lengths and 2 texts"):
        Gathered().add([1.0, 2.0], [1], [0, 1])
