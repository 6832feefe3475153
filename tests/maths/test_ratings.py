"""Bradley–Terry against statsmodels' logistic regression, Elo against games by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from polypref.errors import InputError
from polypref.maths import ratings

PREFERENCES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
GAMES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), PREFERENCES).filter(lambda game: game[0] != game[1]), min_size=1
)


def table(games: list[tuple[int, int, float]], models: int = 4) -> np.ndarray:
    """[M, M] wins of (first, second, preference)."""
    first, second, preference = (np.array(column) for column in zip(*games, strict=True))
    return ratings.cluster_wins(first, second, preference, models, np.zeros_like(first), 1)[0]


def test_wins_are_counted_by_cluster_and_a_tie_is_half_a_win_of_each():
    games = ([0, 0, 1], [1, 1, 0], [1.0, 0.5, 0.25], [0, 1, 1])
    first, second, preference, clusters = (np.array(column) for column in games)
    found = ratings.cluster_wins(first, second, preference, 2, clusters, 2)
    assert found.tolist() == [[[0, 1], [0, 0]], [[0, 0.5 + 0.75], [0.5 + 0.25, 0]]]


def test_a_model_is_not_compared_with_itself():
    with pytest.raises(InputError, match="comparison 1 is of a model with itself"):
        table([(0, 1, 1.0), (2, 2, 1.0)])
    with pytest.raises(InputError, match="2 first models, 1 second"):
        ratings.cluster_wins(np.array([0, 1]), np.array([1]), np.array([1.0]), 2, np.array([0]), 1)


def test_two_models_differ_by_the_log_odds():
    """Three wins of four: odds 3, 400·log₁₀ 3 = 190.85 points, half of it to each side of 0."""
    found = ratings.bradley_terry(np.array([[0.0, 3.0], [1.0, 0.0]]))
    assert found == pytest.approx([200 * math.log10(3), -200 * math.log10(3)])


def test_ratings_are_the_coefficients_of_a_logistic_regression():
    """statsmodels' GLM of the binomial family: a column a model, 1 for the first and −1 for the second, one model left
    out as the zero. Ties and fractions are fractional responses."""
    noise = np.random.default_rng(0)
    strengths = np.array([0.9, 0.2, -0.3, -0.8])
    games = []
    for _ in range(600):
        a, b = noise.choice(4, 2, replace=False)
        p = special.expit(strengths[a] - strengths[b])
        games.append((int(a), int(b), float(noise.choice([0, 0.25, 0.5, 1], p=[0.6 * (1 - p), 0.2, 0.2, 0.6 * p]))))
    design = np.zeros((600, 4))
    for row, (a, b, _) in zip(design, games, strict=True):
        row[[a, b]] = 1, -1
    fit = GLM(np.array([p for *_, p in games]), design[:, :3], family=Binomial()).fit(tol=1e-12)
    theirs = np.append(fit.params, 0.0)
    found = ratings.bradley_terry(table(games))
    assert found == pytest.approx(ratings.SCALE * (theirs - theirs.mean()), abs=1e-6)


@given(GAMES)
def test_every_models_expected_wins_are_its_wins(games):
    """∂/∂θ_i of the log-likelihood is 0: Σ_j w_ij = Σ_j n_ij σ(θ_i − θ_j); with the ridge it is λθ_i."""
    wins = table(games)
    found = ratings.bradley_terry(wins)
    theta = found / ratings.SCALE
    expected = ((wins + wins.T) * special.expit(theta[:, None] - theta[None, :])).sum(axis=1)
    ridge = 0.0 if ratings.has_maximum(wins) else ratings.RIDGE
    assert wins.sum(axis=1) - expected == pytest.approx(ridge * theta, abs=1e-6)
    assert found.mean() == pytest.approx(0, abs=1e-9)


@given(GAMES, st.permutations(range(4)))
def test_names_do_not_matter(games, order):
    renamed = table([(order[a], order[b], p) for a, b, p in games])
    assert ratings.bradley_terry(renamed)[list(order)] == pytest.approx(ratings.bradley_terry(table(games)), abs=1e-4)


@given(st.lists(GAMES, min_size=1, max_size=5))
def test_a_batch_is_its_members(tables):
    wins = np.stack([table(games) for games in tables])
    assert ratings.bradley_terry(wins) == pytest.approx(
        np.stack([ratings.bradley_terry(one) for one in wins]), abs=1e-6
    )
    assert ratings.has_maximum(wins).tolist() == [bool(ratings.has_maximum(one)) for one in wins]


def test_the_likelihood_has_a_maximum_where_a_way_of_wins_leads_from_each_to_each():
    ring = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert ratings.has_maximum(ring)
    assert ratings.bradley_terry(ring) == pytest.approx([0, 0, 0], abs=1e-6)
    chain = np.array([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert not ratings.has_maximum(chain)


def test_a_model_that_always_wins_stands_where_the_ridge_holds_it():
    """Ten wins of ten: 10·σ(−2θ) = 0.01·θ on both sides of 0, so θ ≈ 2.87 (10/(1 + e^5.74) = 0.0321 = …)."""
    found = ratings.bradley_terry(np.array([[0.0, 10.0], [0.0, 0.0]]))
    theta = found[0] / ratings.SCALE
    assert 10 * special.expit(-2 * theta) == pytest.approx(ratings.RIDGE * theta, abs=1e-8)
    assert found[1] == pytest.approx(-found[0])


def test_one_loss_among_many_wins_is_no_separation():
    found = ratings.bradley_terry(np.array([[0.0, 1e9], [1.0, 0.0]]))
    assert found == pytest.approx([1800, -1800])


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_wins_are_counts(wrong):
    with pytest.raises(InputError, match="counted from 0 up"):
        ratings.bradley_terry(np.array([[0.0, wrong], [1.0, 0.0]]))


def test_models_that_no_comparison_connects_are_told_apart():
    wins = np.zeros((5, 5))
    wins[0, 3] = wins[1, 2] = 1
    assert ratings.components(wins) == [[0, 3], [1, 2], [4]]
    assert ratings.components(np.ones((2, 2))) == [[0, 1]]


def played(games: list[tuple[int, int, float]], counts: list[list[int]], k: float = 16.0, seed: int = 0) -> np.ndarray:
    """Every game is a cluster of its own."""
    first, second, preference = (np.array(column) for column in zip(*games, strict=True))
    own = np.arange(len(games))
    return ratings.elo(first, second, preference, 3, k=k, clusters=own, counts=np.array(counts), seed=seed)


def test_elo_of_games_by_hand():
    """A win between equals moves 16·(1 − ½) = 8 points; a tie then, at 16 points apart, expects
    1/(1 + 10^(−16/400)) = 0.52301 and moves 16·(0.5 − 0.52301) = −0.3682."""
    assert played([(0, 1, 1.0)], [[1]])[0] == pytest.approx([8, -8, 0])
    expected = 1 / (1 + 10 ** (-16 / 400))
    after = 8 + 16 * (1 - expected)
    assert played([(0, 1, 1.0)], [[2]])[0] == pytest.approx([after, -after, 0]), "the same game twice has one order"
    first_then_tie, tie_then_first = 8 + 16 * (0.5 - expected), 8.0
    for seed in range(5):
        (found,) = played([(0, 1, 1.0), (0, 1, 0.5)], [[1, 1]], seed=seed)
        assert found[0] == pytest.approx(first_then_tie) or found[0] == pytest.approx(tie_then_first)


def test_a_game_that_is_drawn_no_time_is_not_played():
    games = [(0, 1, 1.0), (1, 2, 1.0)]
    assert played(games, [[1, 0], [0, 1], [0, 0]]).tolist() == [[8, -8, 0], [0, 8, -8], [0, 0, 0]]


def test_orders_that_do_not_fit_at_once_are_played_in_parts(monkeypatch):
    games = [(0, 1, 1.0), (1, 2, 1.0), (2, 0, 0.0), (0, 2, 0.5)]
    counts = [[1, 2, 0, 1], [1, 1, 1, 1], [3, 0, 0, 1], [0, 0, 4, 0]]
    at_once = played(games, counts)
    monkeypatch.setattr(ratings, "MOST_ORDERED", 5)
    assert played(games, counts).tolist() == at_once.tolist()


def test_elo_over_many_games_is_near_bradley_terry():
    noise = np.random.default_rng(1)
    strengths = np.array([0.6, 0.0, -0.6])
    games = []
    for _ in range(1500):
        a, b = noise.choice(3, 2, replace=False)
        games.append((int(a), int(b), float(noise.random() < special.expit(strengths[a] - strengths[b]))))
    found = played(games, [[1] * 1500] * 50, k=8.0).mean(axis=0)
    assert found == pytest.approx(ratings.bradley_terry(table(games, 3)), abs=12)
