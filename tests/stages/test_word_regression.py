"""A score regressed on words: the figures by hand, and the whole against scikit-learn's own pipeline and folds."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polypref.backends.word_regressor import RidgeOnTerms, pipeline
from polypref.errors import InputError
from polypref.records import Candidate, Example
from polypref.stages.word_regression import (
    Row,
    WordOptions,
    WordRegressor,
    folds,
    length_agreement,
    rows_of,
    word_regression,
)

OPTIONS = WordOptions(score="s", units=("words",), folds=2, resamples=200)


class Mean:
    """A ``WordRegressor`` that predicts the mean of what it has seen; it knows every term."""

    def __call__(self, unit, penalty, texts, scores, others):
        return [float(np.mean(scores))] * len(others), [1.0] * len(others)


class Echo:
    """Predicts the number that a text is, half as large and one higher."""

    def __call__(self, unit, penalty, texts, scores, others):
        return [float(text) / 2 + 1 for text in others], [0.5] * len(others)


def row(prompt: str, score: float, lang: str = "en", text: str = "") -> Row:
    return Row(prompt, lang, text or f"{score}", score)


def test_the_two_are_regressors() -> None:
    regressors: list[WordRegressor] = [Mean(), Echo(), RidgeOnTerms()]
    assert len(regressors) == 3


# --- R² ------------------------------------------------------------------------------------------------------------


def test_r2_is_one_minus_the_error_over_the_spread() -> None:
    """Scores 0, 2, 4, 6 are predicted 1, 2, 3, 4: Σ(y − ŷ)² = 1 + 0 + 1 + 4 = 6, Σ(y − ȳ)² = 9 + 1 + 1 + 9 = 20."""
    rows = [row(f"p{i}", score) for i, score in enumerate((0.0, 2.0, 4.0, 6.0))]
    cell = word_regression(rows, OPTIONS, Echo())["r2"]["words"]["en"]["en"]
    assert cell["r2"] == pytest.approx(1 - 6 / 20)
    assert cell["correlation"] == pytest.approx(1.0)
    assert (cell["r2_n"], cell["correlation_n"], cell["known"], cell["known_stderr"]) == (4, 4, 0.5, 0.0)


def test_a_mean_of_the_other_fold_has_no_correlation_and_an_r2_below_zero() -> None:
    """Two folds with means m₀ and m₁, each predicted by the other's: R² is below 0, as the target's mean is better."""
    rows = [row(f"p{i}", float(i)) for i in range(6)]
    cell = word_regression(rows, OPTIONS, Mean())["r2"]["words"]["en"]["en"]
    fold = folds(sorted(f"p{i}" for i in range(6)), OPTIONS)
    scores, side = np.arange(6.0), np.array([fold[f"p{i}"] for i in range(6)])
    guess = np.where(side == 0, scores[side == 1].mean(), scores[side == 0].mean())
    assert cell["r2"] == pytest.approx(1 - ((scores - guess) ** 2).sum() / 17.5)
    assert cell["r2"] <= 0
    assert (cell["correlation"], cell["correlation_stderr"], cell["correlation_low"]) == (None, None, None)


@pytest.mark.parametrize("value", [1.0, 0.1])
def test_equal_scores_have_no_r2(value: float) -> None:
    cell = word_regression([row(f"p{i}", value) for i in range(7)], OPTIONS, Echo())["r2"]["words"]["en"]["en"]
    assert [cell[name] for name in ("r2", "r2_stderr", "r2_low", "r2_high", "correlation")] == [None] * 5
    assert cell["r2_n"] == 7


def test_a_source_that_lacks_prompts_of_a_fold_to_learn_from_has_no_figures() -> None:
    """Spanish has a single prompt, so that the fold it is in would be predicted by nothing."""
    rows = [row(f"p{i}", float(i)) for i in range(4)] + [row("p0", 1.0, "es"), row("p0", 2.0, "es")]
    found = word_regression(rows, OPTIONS, Echo())["r2"]["words"]
    assert found["es"]["en"]["r2"] is None
    assert found["es"]["en"]["known"] is None
    assert found["en"]["es"]["r2"] is not None
    assert found["en"]["es"]["r2_stderr"] is None  # one prompt tells no error


def test_no_prompt_is_predicted_by_what_has_seen_it() -> None:
    """The texts are their prompts, in two languages."""
    seen: list[tuple[set[str], set[str]]] = []

    class Spy:
        def __call__(self, unit, penalty, texts, scores, others):
            seen.append((set(texts), set(others)))
            return [0.0] * len(others), [0.0] * len(others)

    rows = [row(f"p{i}", float(i), lang, f"p{i}") for i in range(7) for lang in ("en", "es")]
    word_regression(rows, WordOptions(score="s", folds=3, resamples=100), Spy())
    assert len(seen) == 2 * 2 * 3  # units, sources, folds
    assert all(not train & held and train | held == {f"p{i}" for i in range(7)} for train, held in seen)


def test_folds_hold_equally_many_prompts_and_depend_on_the_seed_alone() -> None:
    prompts = [f"p{i}" for i in range(11)]
    found = folds(prompts, WordOptions(score="s", folds=4))
    assert sorted(list(found.values()).count(k) for k in range(4)) == [2, 3, 3, 3]
    assert found == folds(prompts[::-1], WordOptions(score="s", folds=4))
    assert found != folds(prompts, WordOptions(score="s", folds=4, seed=1))
    with pytest.raises(InputError, match="there are 11 prompts for 12 folds"):
        folds(prompts, WordOptions(score="s", folds=12))


def test_the_error_is_that_of_resampled_prompts() -> None:
    """Prompts that are drawn by hand: the same draws, R² computed from the answers themselves."""
    rng = random.Random(0)
    rows = [row(f"p{i}", rng.gauss(0, 1), "en", f"{rng.gauss(0, 1)}") for i in range(12) for _ in range(2)]
    options = WordOptions(score="s", units=("words",), folds=2, resamples=300, seed=3)
    cell = word_regression(rows, options, Echo())["r2"]["words"]["en"]["en"]
    counts = np.random.default_rng(3).multinomial(12, [1 / 12] * 12, 300)
    y = np.array([r.score for r in rows])
    guess = np.array([float(r.text) / 2 + 1 for r in rows])
    again = []
    for drawn in counts:
        weights = np.repeat(drawn, 2)
        centre = (weights * y).sum() / weights.sum()
        again.append(1 - (weights * (y - guess) ** 2).sum() / (weights * (y - centre) ** 2).sum())
    assert cell["r2_stderr"] == pytest.approx(np.std(again, ddof=1))
    assert [cell["r2_low"], cell["r2_high"]] == pytest.approx(list(np.quantile(again, [0.025, 0.975])))


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=4, max_size=12),
    level=st.floats(-1e6, 1e6),
    scale=st.floats(0.5, 50),
)
def test_level_and_scale_of_the_score_change_no_figure(scores: list[float], level: float, scale: float) -> None:
    """A linear regression moves with its scores; here the prediction is a mean, which does exactly that."""
    one, other = (
        word_regression(
            [row(f"p{i}", a * s + b, "en", "x") for i, s in enumerate(scores)], OPTIONS, Mean()
        )["r2"]["words"]["en"]["en"]["r2"]
        for a, b in ((1.0, 0.0), (scale, level))
    )  # fmt: skip
    if one is not None and other is not None and np.std(scores) > 0.1:
        assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


# --- against scikit-learn ------------------------------------------------------------------------------------------

WORDS = {"en": ["good", "bad", "river", "tree", "stone", "cat"], "es": ["bueno", "malo", "río", "tree", "stone", "cat"]}


def drawn(n: int) -> list[Row]:
    """Answers of five words; a score of the first word's presence, of the shared ones, and noise."""
    rng = random.Random(1)
    rows = []
    for i in range(n):
        for lang, known in WORDS.items():
            for _ in range(2):
                words = [rng.choice(known) for _ in range(5)]
                score = 2.0 * (known[0] in words) + words.count("cat") + rng.gauss(0, 0.3)
                rows.append(Row(f"p{i}", lang, " ".join(words), score))
    return rows


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_r2_in_a_language_is_scikit_learns_on_the_same_folds(unit: str) -> None:
    from sklearn.metrics import r2_score
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    rows = drawn(40)
    options = WordOptions(score="s", units=(unit,), folds=4, resamples=100)
    found = word_regression(rows, options, RidgeOnTerms())["r2"][unit]
    fold = folds(sorted({r.prompt for r in rows}), options)
    for lang in WORDS:
        mine = [r for r in rows if r.lang == lang]
        y = np.array([r.score for r in mine])
        split = PredefinedSplit([fold[r.prompt] for r in mine])
        guess = cross_val_predict(pipeline(unit, 1.0), np.array([r.text for r in mine]), y, cv=split)
        assert found[lang][lang]["r2"] == pytest.approx(r2_score(y, guess), abs=1e-9)
        assert found[lang][lang]["r2"] > 0.5
        assert found[lang][lang]["r2_low"] < found[lang][lang]["r2"] < found[lang][lang]["r2_high"]


def test_r2_across_languages_is_scikit_learns() -> None:
    """Fitted on English of the other folds, scored on Spanish: half of what matters are shared words."""
    from sklearn.metrics import r2_score

    rows = drawn(40)
    options = WordOptions(score="s", units=("words",), folds=4, resamples=100)
    found = word_regression(rows, options, RidgeOnTerms())["r2"]["words"]
    fold = folds(sorted({r.prompt for r in rows}), options)
    y, guess = [], []
    for k in range(4):
        train = [r for r in rows if r.lang == "en" and fold[r.prompt] != k]
        held = [r for r in rows if r.lang == "es" and fold[r.prompt] == k]
        model = pipeline("words", 1.0).fit([r.text for r in train], [r.score for r in train])
        y += [r.score for r in held]
        guess += list(model.predict([r.text for r in held]))
    assert found["en"]["es"]["r2"] == pytest.approx(r2_score(y, guess), abs=1e-9)
    assert found["en"]["es"]["r2"] < found["es"]["es"]["r2"]
    assert found["en"]["es"]["known"] < found["en"]["en"]["known"] == 1.0


# --- length --------------------------------------------------------------------------------------------------------


def test_length_agreement_is_how_often_the_longer_answer_scores_higher() -> None:
    """p0: the longer one is preferred (1); p1: the shorter one (0); p2: of three pairs two (⅔); p3: a tie in score
    says nothing; p4: a tie in length is ½. The mean of 1, 0, ⅔ and ½ is 13/24."""
    answers = {
        "p0": [("a", 0.0), ("bb", 1.0)],
        "p1": [("a", 1.0), ("bb", 0.0)],
        "p2": [("a", 0.0), ("bb", 2.0), ("ccc", 1.0)],
        "p3": [("a", 1.0), ("bb", 1.0)],
        "p4": [("aa", 1.0), ("bb", 0.0)],
    }
    rows = [Row(prompt, "en", text, score) for prompt, of in answers.items() for text, score in of]
    found = length_agreement(rows)["en"]
    values = np.array([1, 0, 2 / 3, 0.5])
    assert found["length_agreement"] == pytest.approx(13 / 24)
    assert found["length_agreement_stderr"] == pytest.approx(values.std(ddof=1) / 2)
    assert found["length_agreement_n"] == 4
    half = 3.182446 * values.std(ddof=1) / 2  # Student's t, 3 degrees of freedom
    assert found["length_agreement_low"] == pytest.approx(13 / 24 - half, abs=1e-5)
    assert found["length_agreement_high"] == pytest.approx(13 / 24 + half, abs=1e-5)


def test_one_answer_a_prompt_tells_nothing_of_length() -> None:
    found = length_agreement([row("p0", 1.0), row("p1", 2.0)])["en"]
    assert found == {
        "length_agreement": None,
        "length_agreement_stderr": None,
        "length_agreement_n": 0,
        "length_agreement_low": None,
        "length_agreement_high": None,
    }


# --- rows ----------------------------------------------------------------------------------------------------------


def example(*candidates: Candidate) -> Example:
    return Example("1", {"en": [{"role": "user", "content": "?"}]}, list(candidates))


def test_answers_that_failed_are_left_aside_and_those_without_a_score_refused() -> None:
    good = Candidate("a", "en", "yes", scores={"rm": 1.0})
    failed = Candidate("b", "en", "", error="timeout")
    assert rows_of([example(good, failed)], "rm") == [Row("1", "en", "yes", 1.0)]
    with pytest.raises(InputError, match=r"the answer 'a' of example '1' has no score 'r'; score it first .*rm"):
        rows_of([example(good)], "r")
    with pytest.raises(InputError, match="no answer that did not fail"):
        rows_of([example(failed)], "rm")
