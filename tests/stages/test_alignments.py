"""Alignment across languages: the matrix, its means, own against other sources, and rank agreement with accuracy."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from polypref.errors import InputError
from polypref.stages.alignments import alignment, own_against_others
from polypref.stages.evaluate import Evaluation

SOURCES = {"bon-en": ["en"], "bon-es": ["es"], "bon-both": ["en", "es"]}


def step(**languages: list[float]) -> Evaluation:
    """Prompt k of a language has its k-th value."""
    return Evaluation(
        {"win_rate": {lang: {f"p{k}": v for k, v in enumerate(values)} for lang, values in languages.items()}}
    )


def made(steps: dict[str, Evaluation], sources: Any = None, **more: Any) -> dict[str, Any]:
    asked = {"judge": "quality", "against": "sft"} | more
    return alignment("best_of_n", "best of 64", steps, SOURCES if sources is None else sources, **asked)


TWO = {
    "bon-en": step(en=[1.0, 0.5, 0.6], es=[0.5, 0.7, 0.0]),
    "bon-es": step(en=[0.4, 0.6, 0.2], es=[0.8, 0.8, 0.5]),
}


def test_an_entry_says_what_was_aligned_how_and_by_whom() -> None:
    found = made(TWO)
    told = {name: found[name] for name in ("method", "label", "metric", "judge", "against", "sources")}
    assert told == {
        "method": "best_of_n",
        "label": "best of 64",
        "metric": "win_rate",
        "judge": "quality",
        "against": "sft",
        "sources": {"bon-en": ["en"], "bon-es": ["es"]},
    }
    json.dumps(found, allow_nan=False)


def test_the_matrix_is_the_figures_of_every_cell() -> None:
    """.5, .7, 0: mean .4; deviations .1, .3, −.4: s² = .26/2, so s/√3 = √(.13/3)."""
    cell = made(TWO)["matrix"]["bon-en"]["es"]
    assert cell["win_rate"] == pytest.approx(0.4)
    assert cell["win_rate_stderr"] == pytest.approx(math.sqrt(0.13 / 3))
    assert cell["win_rate_n"] == 3


def test_a_steps_mean_gives_each_language_the_same_weight_and_is_clustered_by_prompt() -> None:
    """By prompt (.75, .6, .3): mean .55, the standard error that of these three numbers."""
    mean = made(TWO)["mean"]["bon-en"]
    assert mean["value"] == pytest.approx(0.55)
    assert mean["stderr"] == pytest.approx(scipy_stats.sem([0.75, 0.6, 0.3]))
    assert mean["n"] == 3


def test_means_are_over_the_languages_that_all_steps_have() -> None:
    found = made({"bon-en": step(en=[1.0], es=[0.0], sw=[0.0]), "bon-es": step(en=[0.2], es=[0.4])})
    assert found["mean_over"] == ["en", "es"]
    assert [found["mean"][name]["value"] for name in ("bon-en", "bon-es")] == pytest.approx([0.5, 0.3])
    apart = made({"bon-en": step(en=[1.0]), "bon-es": step(es=[0.4])})
    assert (apart["mean_over"], apart["mean"]) == ([], {})


def test_the_diagonal_is_the_cells_that_a_reward_was_trained_on() -> None:
    """Diagonal (.7 + .7)/2, off it (.4 + .4)/2; by prompt (1 + .8)/2 and so on."""
    found = made(TWO)
    assert found["diagonal"]["value"] == pytest.approx((0.7 + 0.7) / 2)
    assert found["diagonal"]["stderr"] == pytest.approx(scipy_stats.sem([0.9, 0.65, 0.55]))
    assert found["off_diagonal"]["value"] == pytest.approx((0.4 + 0.4) / 2)
    assert found["off_diagonal"]["stderr"] == pytest.approx(scipy_stats.sem([0.45, 0.65, 0.1]))
    assert found["diagonal"]["n"] == found["off_diagonal"]["n"] == 3


def test_steps_that_have_cells_of_one_kind_alone_are_on_neither_side() -> None:
    more = {**TWO, "bon-both": step(en=[0.0, 0.0, 0.0], es=[0.0, 0.0, 0.0]), "shelf": step(en=[0.9], es=[0.9])}
    found = made(more)
    assert found["diagonal"]["value"] == pytest.approx(0.7)
    assert found["off_diagonal"]["value"] == pytest.approx(0.4)
    assert "shelf" not in found["sources"]
    alone = made({"bon-both": more["bon-both"]})
    assert (alone["diagonal"], alone["off_diagonal"]) == (None, None)


# --- monolingual against cross-lingual -----------------------------------------------------------------------------


def test_own_against_others_is_paired_by_prompt() -> None:
    """In Spanish .8 − .5, .8 − .7, .5 − 0 = .3, .1, .5: gain .3, s = .2, t = .3/(.2/√3)."""
    spanish = own_against_others(TWO, SOURCES)["languages"]["es"]
    assert spanish["gain"] == pytest.approx(0.3)
    assert spanish["stderr"] == pytest.approx(0.2 / math.sqrt(3))
    assert spanish["p"] == pytest.approx(scipy_stats.ttest_rel([0.8, 0.8, 0.5], [0.5, 0.7, 0.0]).pvalue)
    half = scipy_stats.t.ppf(0.975, 2) * 0.2 / math.sqrt(3)
    assert (spanish["low"], spanish["high"]) == pytest.approx((0.3 - half, 0.3 + half))
    assert spanish["n"] == 3


def test_other_sources_are_averaged_before_they_are_compared() -> None:
    """Own .9 and .5 against the mean of .2 and .6, and of .4 and .2: .5 and .2."""
    steps = {"es": step(es=[0.9, 0.5]), "en": step(es=[0.2, 0.4]), "sw": step(es=[0.6, 0.2])}
    found = own_against_others(steps, {"es": ["es"], "en": ["en"], "sw": ["sw"]})
    assert list(found["languages"]) == ["es"]
    assert found["gain"] == pytest.approx(0.35)


def test_a_bilingual_source_and_one_off_the_shelf_are_neither() -> None:
    more = {**TWO, "bon-both": step(en=[0.0] * 3, es=[0.0] * 3), "shelf": step(en=[0.0] * 3, es=[0.0] * 3)}
    assert own_against_others(more, SOURCES) == own_against_others(TWO, SOURCES)


def test_a_bilingual_source_is_another_in_a_third_language() -> None:
    steps = {"sw": step(sw=[0.9, 0.6]), "bon-both": step(sw=[0.4, 0.5])}
    found = own_against_others(steps, {**SOURCES, "sw": ["sw"]})
    assert found["languages"]["sw"]["gain"] == pytest.approx(0.3)


def test_without_an_own_source_or_without_another_there_is_no_comparison() -> None:
    assert own_against_others({"bon-en": TWO["bon-en"]}, SOURCES) is None
    assert made({"bon-en": TWO["bon-en"]})["monolingual_against_cross_lingual"] is None


def test_prompts_that_one_source_lacks_are_left_out() -> None:
    steps = {"bon-en": step(es=[0.5, 0.7, 0.0, 0.0]), "bon-es": step(es=[0.8, 0.8, 0.5])}
    assert own_against_others(steps, SOURCES)["n"] == 3


rates = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@given(rates, rates, rates, rates)
def test_the_whole_is_scipys_paired_t_test_of_the_prompts_means_over_languages(
    en_en: list[float], en_es: list[float], es_en: list[float], es_es: list[float]
) -> None:
    """Where every prompt is in every language, clustering by prompt is averaging over languages first."""
    steps = {"bon-en": step(en=en_en, es=en_es), "bon-es": step(en=es_en, es=es_es)}
    own, others = (np.array(first) + np.array(second) for first, second in ((en_en, es_es), (es_en, en_es)))
    if np.ptp(own - others) < 1e-6:
        return
    found = own_against_others(steps, SOURCES)
    assert found["gain"] == pytest.approx(np.mean(own - others) / 2)
    assert found["p"] == pytest.approx(scipy_stats.ttest_rel(own, others).pvalue)


def test_languages_that_say_the_same_add_no_certainty() -> None:
    """Three languages that are copies of each other, each with an own source and another one."""
    steps = {
        s: step(**{t: [0.8, 0.7, 0.9] if s == t else [0.5, 0.6, 0.3] for t in ("en", "es", "sw")})
        for s in ("en", "es", "sw")
    }
    found = own_against_others(steps, {s: [s] for s in steps})
    assert found["p"] == pytest.approx(found["languages"]["es"]["p"])


# --- accuracy against win rate -------------------------------------------------------------------------------------


def test_tau_is_scipys_by_target_and_averaged() -> None:
    """In English the ranks agree (τ 1), in Spanish all three couples are opposed (τ −1): 0."""
    steps = {"a": step(en=[0.1], es=[0.1]), "b": step(en=[0.2], es=[0.2]), "c": step(en=[0.3], es=[0.3])}
    accuracies = {"a": {"en": 0.5, "es": 0.9}, "b": {"en": 0.6, "es": 0.8}, "c": {"en": 0.7, "es": 0.6}}
    assert made(steps, {}, accuracies=accuracies)["tau"] == {"value": 0.0, "n": 2, "by_target": {"en": 1.0, "es": -1.0}}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=6))
def test_tau_counts_ties_as_scipy_does(cells: list[tuple[int, int]]) -> None:
    steps = {f"s{k}": step(es=[rate / 4]) for k, (_, rate) in enumerate(cells)}
    accuracies = {f"s{k}": {"es": accuracy / 4, "xx": 0.0} for k, (accuracy, _) in enumerate(cells)}
    found = made(steps, {}, accuracies={**accuracies, "not a step": {"es": 1.0}})["tau"]
    tau = scipy_stats.kendalltau(*zip(*cells, strict=True)).statistic
    assert (None if math.isnan(tau) else pytest.approx(tau)) == (found and found["value"])


def test_without_accuracies_there_is_no_tau() -> None:
    assert made(TWO)["tau"] is None
    assert made(TWO, accuracies={"bon-en": {"es": 0.7}})["tau"] is None


# --- mistakes ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(InputError, match="there is no step to compare"):
        made({})
    with pytest.raises(InputError, match="the step 'bon-en' has no win_rates; did you mean win_rate"):
        made(TWO, metric="win_rates")
    with pytest.raises(InputError, match="the step 'x' has no win_rate; it has no figure at all"):
        made({"x": Evaluation()})
