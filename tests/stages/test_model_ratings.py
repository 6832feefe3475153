"""Ratings of a file of judgments: what is compared with what, where the ratings stand, and what cannot be rated."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.stages.judgments import Judgment
from polypref.stages.ratings import RatingOptions, ratings

STRENGTHS = {"weak": -0.5, "middle": 0.0, "strong": 0.6}
OPTIONS = RatingOptions(resamples=200)


def judgment(id: str, language: str, model: str, baseline: str, preference: float | None) -> Judgment:
    error = "unreadable" if preference is None else None
    return Judgment(id, language, preference, 10, 10, model=model, baseline=baseline, error=error)


def arena(prompts: int = 60, languages: tuple[str, ...] = ("en", "es"), seed: int = 0) -> list[Judgment]:
    """Every two models on every prompt; the languages are noisy copies of each other."""
    noise = np.random.default_rng(seed)
    rows = []
    for i in range(prompts):
        for a, b in combinations(STRENGTHS, 2):
            p = 1 / (1 + math.exp(STRENGTHS[b] - STRENGTHS[a] + noise.normal()))
            rows += [judgment(f"p{i}", tag, a, b, float(noise.random() < p)) for tag in languages]
    return rows


def values(told: dict[str, dict[str, float]], name: str = "rating") -> dict[str, float]:
    return {model: figures[name] for model, figures in told.items()}


def test_two_models_stand_apart_by_their_log_odds():
    """Three wins and a tie of five: odds 3.5 : 1.5, around 1000."""
    rows = [judgment(str(i), "en", "a", "b", p) for i, p in enumerate([1, 1, 1, 0.5, 0])]
    found = ratings(rows, OPTIONS)
    half = 200 * math.log10(3.5 / 1.5)
    assert values(found["bradley_terry"]) == {"a": pytest.approx(1000 + half), "b": pytest.approx(1000 - half)}
    anchored = ratings(rows, RatingOptions(anchor="b", resamples=200))["bradley_terry"]
    assert anchored["a"]["rating"] == pytest.approx(1000 + 2 * half)
    assert anchored["b"] == {"rating": 1000, "stderr": 0, "low": 1000, "high": 1000}
    assert found["n"] == found["prompts"] == 5
    assert "by_language" not in found


def test_models_are_told_the_best_first_by_language_and_as_their_mean():
    found = ratings(arena(), OPTIONS)
    assert found["models"] == ["strong", "middle", "weak"] == list(found["bradley_terry"])
    parts = found["by_language"]
    assert (list(parts), parts["es"]["n"], parts["es"]["prompts"], found["prompts"]) == (["en", "es"], 180, 60, 60)
    for kind in ("bradley_terry", "elo"):
        each = [values(part[kind]) for part in parts.values()]
        mean = values(found["macro_average"][kind])
        assert mean == {m: pytest.approx(sum(e[m] for e in each) / 2) for m in STRENGTHS}
        assert sum(mean.values()) / 3 == pytest.approx(1000)
        assert all(f["low"] < f["rating"] < f["high"] for f in found[kind].values())
    assert (found["macro_average"]["languages"], found["macro_average"]["n"]) == (["en", "es"], 360)
    json.dumps(found, allow_nan=False)


def test_who_is_called_the_baseline_does_not_matter():
    rows = arena()
    turned = [judgment(j.id, j.language, j.baseline, j.model, 1 - (j.preference or 0)) for j in rows]
    assert values(ratings(turned, OPTIONS)["bradley_terry"]) == pytest.approx(
        values(ratings(rows, OPTIONS)["bradley_terry"])
    )


def test_a_language_that_repeats_another_makes_no_interval_narrower():
    one = ratings(arena(languages=("en",)), OPTIONS)["bradley_terry"]
    rows = arena(languages=("en",))
    rows += [judgment(j.id, "es", j.model, j.baseline, j.preference) for j in rows]
    two = ratings(rows, OPTIONS)
    for told in (two["bradley_terry"], two["macro_average"]["bradley_terry"]):
        for name in ("rating", "stderr", "low", "high"):
            assert values(told, name) == pytest.approx(values(one, name), abs=1e-6)


def test_the_intervals_are_those_of_the_seed():
    rows = arena()
    first, again, other = (ratings(rows, RatingOptions(resamples=200, seed=s)) for s in (1, 1, 2))
    assert first == again
    assert first["bradley_terry"] != other["bradley_terry"]
    assert values(first["bradley_terry"]) == values(other["bradley_terry"])


def test_elo_is_about_bradley_terry_with_a_wider_interval():
    """Its draws are in one order each, so they hold the order's noise as well."""
    found = ratings(arena(prompts=300, languages=("en",)), OPTIONS)
    for model in STRENGTHS:
        elo, strength = found["elo"][model], found["bradley_terry"][model]
        assert elo["rating"] == pytest.approx(strength["rating"], abs=20)
        assert elo["stderr"] > strength["stderr"]


def test_a_model_that_always_wins_has_a_rating_and_a_warning():
    rows = [judgment(str(i), "en", "a", "b", 1.0) for i in range(10)]
    found = ratings(rows, OPTIONS)
    assert "ridge of 0.01" in found["warning"]
    assert math.isfinite(found["bradley_terry"]["a"]["rating"])
    nearly = ratings([*rows, judgment("x", "en", "a", "b", 0.0)], OPTIONS)
    assert "of the resamples" in nearly["warning"], "a third of them leave out the one loss"
    assert ratings(arena(), OPTIONS)["warning"] is None


def test_models_that_no_comparison_connects_are_not_rated():
    apart = [judgment(str(i), "en", *pair, i % 2) for pair in (("a", "b"), ("c", "d")) for i in range(4)]
    found = ratings(apart, OPTIONS)
    assert (found["bradley_terry"], found["elo"]) == (None, None)
    assert found["warning"].startswith("no comparison connects these models: a, b; c, d;")
    joined = ratings([*apart, *(judgment(str(i), "es", "a", "c", i % 2) for i in range(30))], OPTIONS)
    assert joined["bradley_terry"] is not None
    assert joined["by_language"]["en"]["bradley_terry"] is None
    assert joined["by_language"]["es"]["warning"] is None
    assert joined["macro_average"]["languages"] == ["es"]
    assert joined["macro_average"]["bradley_terry"].keys() == {"a", "c"}


def test_the_mean_of_languages_is_over_the_models_that_all_of_them_have():
    rows = [*arena(), *(judgment(f"p{i}", "en", "new", "strong", i % 3 / 2) for i in range(60))]
    found = ratings(rows, OPTIONS)
    assert found["macro_average"]["bradley_terry"].keys() == STRENGTHS.keys()
    for part in (found, *found["by_language"].values(), found["macro_average"]):
        common = [part["bradley_terry"][model]["rating"] for model in STRENGTHS]
        assert sum(common) / 3 == pytest.approx(1000)
    assert "new" in found["bradley_terry"]


def test_an_anchor_that_a_language_lacks_leaves_the_language_unrated():
    rows = [*arena(), *(judgment(f"p{i}", "en", "new", "strong", i % 3 / 2) for i in range(60))]
    found = ratings(rows, RatingOptions(anchor="new", resamples=200))
    assert found["bradley_terry"]["new"]["rating"] == 1000
    assert found["by_language"]["es"]["warning"].startswith("the anchor 'new' is not compared here")
    assert found["macro_average"]["languages"] == ["en"]


def test_one_prompt_gives_no_interval():
    rows = [judgment("a", tag, "x", "y", p) for tag, p in (("en", 1.0), ("es", 0.0), ("de", 1.0))]
    found = ratings(rows, OPTIONS)["bradley_terry"]["x"]
    assert (found["stderr"], found["low"], found["high"]) == (None, None, None)


def test_what_cannot_be_rated_is_refused():
    with pytest.raises(InputError, match="no judgment has a verdict"):
        ratings([judgment("a", "en", "x", "y", None)], OPTIONS)
    with pytest.raises(InputError, match=r"'a' \(en\) is of 'x' with itself"):
        ratings([judgment("a", "en", "x", "x", 1.0)], OPTIONS)
    with pytest.raises(InputError, match="anchor 'z' is none of the models; they are x, y"):
        ratings([judgment("a", "en", "x", "y", 1.0)], RatingOptions(anchor="z"))


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("pq"),
            st.sampled_from(["en", "es"]),
            st.sampled_from(["ab", "ba", "bc", "cd", "de"]),
            st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_no_file_gives_a_rating_that_is_no_number(rows: list[tuple[str, str, str, float]]) -> None:
    found = ratings([judgment(i, lang, *pair, p) for i, lang, pair, p in rows], RatingOptions(resamples=100))
    json.dumps(found, allow_nan=False)
    assert (found["bradley_terry"] is None) == (found["elo"] is None)
    assert (found["bradley_terry"] is None) <= ("no comparison connects" in (found["warning"] or ""))
