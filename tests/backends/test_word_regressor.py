"""Ridge regression on terms: against its normal equations, and the terms themselves."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.word_regressor import RidgeOnTerms, characters, words
from polypref.errors import InputError

TEXTS = ["good cat", "bad cat", "good good tree", "stone", "bad stone tree"]
SCORES = [2.0, -1.0, 3.0, 0.5, -0.5]


def by_hand(texts: list[str], others: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """tf·idf with idf = log((1 + n)/(1 + df)) + 1, rows of length 1 (scikit-learn's documented defaults)."""
    terms = sorted({term for text in texts for term in text.split()})
    df = np.array([sum(term in text.split() for text in texts) for term in terms])
    idf = np.log((1 + len(texts)) / (1 + df)) + 1

    def rows(given: list[str]) -> np.ndarray:
        counts = np.array([[text.split().count(term) for term in terms] for text in given], dtype=float) * idf
        norms = np.linalg.norm(counts, axis=1, keepdims=True)
        return counts / np.where(norms > 0, norms, 1)

    return rows(texts), rows(others)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_predictions_solve_the_normal_equations(penalty: float) -> None:
    """w = (X̃ᵀX̃ + penalty·I)⁻¹X̃ᵀỹ on centred columns, b = ȳ − x̄·w."""
    others = ["good stone", "bad bad cat", "unheard of", "tree"]
    x, z = by_hand(TEXTS, others)
    y = np.array(SCORES)
    centred = x - x.mean(0)
    weights = np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - y.mean()))
    expected = z @ weights + y.mean() - x.mean(0) @ weights
    found, known = RidgeOnTerms()("words", penalty, TEXTS, SCORES, others)
    assert found == pytest.approx(expected.tolist(), abs=1e-7)
    assert known == [1.0, 1.0, 0.0, 1.0]


def test_the_known_share_counts_words_as_often_as_they_stand() -> None:
    _, [share, none] = RidgeOnTerms()("words", 1.0, TEXTS, SCORES, ["cat cat dog cat", "!"])
    assert (share, none) == (0.75, 0.0)


def test_an_answer_is_the_same_alone_and_among_others() -> None:
    alone = [RidgeOnTerms()("words", 1.0, TEXTS, SCORES, [text])[0][0] for text in TEXTS]
    assert RidgeOnTerms()("words", 1.0, TEXTS, SCORES, TEXTS)[0] == alone


def test_words_keep_the_marks_of_their_script_and_lose_their_case() -> None:
    assert words("Good, bad; 3 CATS!") == ["good", "bad", "3", "cats"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words(unicodedata.normalize("NFD", "Río")) == ["río"]


def test_runs_of_characters_have_two_to_four() -> None:
    assert characters("Ab  cd") == ["ab", "b ", " c", "cd", "ab ", "b c", " cd", "ab c", "b cd"]


@given(st.text(max_size=30))
def test_case_and_composition_change_no_term(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))
    assert all(2 <= len(run) <= 4 for run in characters(text))


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="no terms 'letters'; known: characters, words"):
        RidgeOnTerms()("letters", 1.0, TEXTS, SCORES, TEXTS)
    with pytest.raises(InputError, match="no answer holds a letter or a digit"):
        RidgeOnTerms()("words", 1.0, ["…", "?"], [1.0, 2.0], ["a"])
