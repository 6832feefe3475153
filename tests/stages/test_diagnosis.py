"""The diagnosis before a run: what each experiment says, and the verdict.

Figures have n = 101. Shares have Wilson's interval on p(1 − p)/s² items; Student's is ± 1.984 standard errors.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.maths.stats import wilson_interval
from polypref.stages.diagnosis import VERSION, DiagnosisOptions, diagnose, diagnose_results
from polypref.store.atomic import digest

N = 101
EN = {"for": 0.9, "against": 0.1, "unclear": 0.5}
"""Shares that speak for, against or neither, against ½ with a standard error of .04."""


def figures(**values: float | tuple[float, float]) -> dict[str, Any]:
    """metric = value, or (value, standard error); .04 when left out."""
    out: dict[str, Any] = {}
    for metric, value in values.items():
        number, stderr = value if isinstance(value, tuple) else (value, 0.04)
        out |= {metric: number, f"{metric}_stderr": stderr, f"{metric}_n": N}
    return out


def rows(length: float = 100.0, **last: float) -> list[dict[str, Any]]:
    """One sample, and the best of 16; the greater n first, since no order is asked for."""
    one = figures(length_characters=(100.0, 2.0), quality=(0.5, 0.03), win_rate=0.5)
    best = figures(length_characters=(length, 2.0), **last)
    return [{"n": 16, **best}, {"n": 1, **one}]


def asked(
    of_reward: dict[str, Any] | None = None, curve: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    """The diagnosis of rm in Swahili."""
    limits = DiagnosisOptions(**more.pop("options", {}))
    found = diagnose("rm", {"sw": of_reward or {}}, {"sw": curve or []}, limits, **more)
    return found["languages"]["sw"]


def evidence(found: dict[str, Any], experiment: str) -> dict[str, Any]:
    [one] = [one for one in found["evidence"] if one["experiment"] == experiment]
    return one


# --- experiments ---------------------------------------------------------------------------------------------------


def test_accuracy_is_held_against_the_better_baseline_with_its_own_interval() -> None:
    mine = figures(accuracy=0.8) | {"accuracy_low": 0.7, "accuracy_high": 0.88}
    one = evidence(asked(mine | {"length_baseline": 0.6, "majority_baseline": 0.65}), "accuracy")
    assert one == {
        "experiment": "accuracy",
        "metric": "accuracy",
        "value": 0.8,
        "low": 0.7,
        "high": 0.88,
        "n": N,
        "threshold": 0.65,
        "outcome": "for",
        "said": "the accuracy of rm on labelled answers, 0.8 [0.7, 0.88], is above 0.65",
    }


@pytest.mark.parametrize(
    ("baselines", "threshold"),
    [
        ({}, 0.5),
        ({"length_baseline": 0.6}, 0.6),
        ({"length_baseline": 0.4}, 0.5),  # no majority: a coin
        ({"length_baseline": 0.3, "majority_baseline": 0.4}, 0.4),  # of three answers one is right
    ],
)
def test_chance_stands_in_where_no_majority_does(baselines: dict[str, float], threshold: float) -> None:
    assert evidence(asked(figures(accuracy=0.8) | baselines), "accuracy")["threshold"] == threshold


@pytest.mark.parametrize(("value", "outcome"), [(0.62, "for"), (0.55, "unclear"), (0.45, "unclear"), (0.38, "against")])
def test_a_share_is_decided_by_its_whole_interval(value: float, outcome: str) -> None:
    """With a standard error of .04 the interval is about ± .08."""
    one = evidence(asked(figures(accuracy_on_sft=value)), "accuracy_on_samples")
    effective = value * (1 - value) / 0.04**2
    assert (one["low"], one["high"]) == pytest.approx(wilson_interval(value * effective, effective))
    assert (one["outcome"], one["threshold"], one["metric"]) == (outcome, 0.5, "accuracy_on_sft")


def test_few_prompts_that_all_say_the_same_decide_nothing() -> None:
    """Three of three: Wilson's interval is from 3/(3 + 1.96²) = .44."""
    three = {"win_rate": 1.0, "win_rate_stderr": 0.0, "win_rate_n": 3}
    one = evidence(asked(curve=[{"n": 4, **three}]), "best_of_n")
    assert one["low"] == pytest.approx(3 / (3 + 1.95996**2), abs=1e-4)
    assert one["outcome"] == "unclear"


def test_the_accuracy_is_that_on_samples_of_the_model_that_is_asked_about() -> None:
    mine = figures(accuracy_on_sft=0.9, accuracy_on_base=0.1)
    assert evidence(asked(mine, model="base"), "accuracy_on_samples")["outcome"] == "against"


def test_best_of_n_is_judged_by_its_win_rate_at_the_greatest_n() -> None:
    one = evidence(asked(curve=rows(win_rate=0.7, quality=0.1), judge="oracle"), "best_of_n")
    assert (one["metric"], one["value"], one["threshold"], one["outcome"]) == ("win_rate", 0.7, 0.5, "for")
    assert one["said"].startswith("the win rate of best of 16 against sft by oracle, 0.7 [0.6")


def test_without_a_win_rate_it_is_the_gain_in_quality_over_one_sample() -> None:
    """.7 − .5 = .2, stderr √(.04² + .03²) = .05, so from .2 − 1.984·.05."""
    one = evidence(asked(curve=rows(quality=0.7)), "best_of_n")
    assert (one["metric"], one["threshold"], one["outcome"], one["n"]) == ("quality", 0.0, "for", N)
    assert (one["low"], one["high"]) == pytest.approx((0.2 - 1.984 * 0.05, 0.2 + 1.984 * 0.05), abs=1e-4)
    assert evidence(asked(curve=rows(quality=0.7), options={"min_gain": 0.15}), "best_of_n")["outcome"] == "unclear"


def test_a_reward_that_judges_itself_is_no_evidence_and_that_is_said() -> None:
    by_itself = asked(curve=rows(win_rate=0.9), judge="rm")
    assert [one["experiment"] for one in by_itself["evidence"]] == ["length"]
    assert by_itself["said"].endswith("rm judging itself is no evidence.")
    other = asked(figures(accuracy_on_sft=0.9), rows(win_rate=0.9, quality=0.9), judge={"sw": "rm"}, quality="oracle")
    assert [(one["experiment"], one["metric"]) for one in other["evidence"]] == [
        ("accuracy_on_samples", "accuracy_on_sft"),
        ("best_of_n", "quality"),
        ("length", "length_characters"),
    ]
    neither = asked(figures(accuracy_on_sft=0.9), rows(win_rate=0.9, quality=0.9), judge="rm", quality="rm")
    assert [one["experiment"] for one in neither["evidence"]] == ["length"]


@pytest.mark.parametrize(("length", "outcome"), [(115.0, "for"), (124.0, "unclear"), (140.0, "against")])
def test_length_is_the_ratio_to_one_samples(length: float, outcome: str) -> None:
    """The excess over 1.25 × 100 has a standard error of √(2² + 2.5²) = 3.2 characters: ± .0635 as a ratio."""
    one = evidence(asked(curve=rows(length)), "length")
    assert one["value"] == pytest.approx(length / 100)
    assert one["high"] - one["value"] == pytest.approx(1.984 * math.hypot(2, 2.5) / 100, abs=1e-4)
    assert (one["outcome"], one["threshold"]) == (outcome, 1.25)


def test_without_a_row_of_one_sample_neither_gain_nor_length_is_told() -> None:
    assert asked(curve=rows(quality=0.9)[:1])["evidence"] == []
    assert [one["experiment"] for one in asked(curve=rows(win_rate=0.9)[:1])["evidence"]] == ["best_of_n"]


def test_one_sample_alone_is_no_best_of_n() -> None:
    assert asked(curve=rows(win_rate=0.9)[1:])["evidence"] == []


def test_figures_without_an_interval_say_nothing() -> None:
    bare = {"n": 16, "quality": 0.9, "quality_stderr": None, "quality_n": 1, "length_characters": 9.0}
    assert asked(curve=[*rows()[1:], bare])["evidence"] == []


# --- verdicts ------------------------------------------------------------------------------------------------------


def case(**outcomes: str) -> dict[str, Any]:
    """Experiments by what they are to say; those that are not named are not made."""
    names = {"accuracy": "accuracy", "accuracy_on_samples": "accuracy_on_sft"}
    mine = figures(**{metric: EN[outcomes[name]] for name, metric in names.items() if name in outcomes})
    if "best_of_n" not in outcomes and "length" not in outcomes:
        return asked(mine)
    length = {"for": 100.0, "unclear": 125.0, "against": 200.0}[outcomes.get("length", "for")]
    rate = {"win_rate": EN[outcomes["best_of_n"]]} if "best_of_n" in outcomes else {}
    curve = rows(length, **rate)
    return asked(mine, curve if "length" in outcomes else curve[:1])


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ({"best_of_n": "for"}, "go"),
        ({"accuracy_on_samples": "for"}, "go"),
        ({"best_of_n": "for", "accuracy": "unclear", "length": "unclear"}, "go"),
        ({"best_of_n": "for", "accuracy_on_samples": "unclear"}, "go"),
        ({"best_of_n": "unclear", "accuracy_on_samples": "for"}, "doubtful"),  # what it picks decides
        ({"accuracy": "for"}, "doubtful"),  # no experiment of outcome
        ({"accuracy": "for", "best_of_n": "unclear"}, "doubtful"),
        ({"best_of_n": "for", "length": "against"}, "doubtful"),
        ({"best_of_n": "for", "accuracy": "against"}, "doubtful"),
        ({"best_of_n": "against"}, "no_go"),
        ({"best_of_n": "for", "accuracy_on_samples": "against"}, "no_go"),
        ({"best_of_n": "against", "accuracy": "for", "accuracy_on_samples": "for", "length": "for"}, "no_go"),
        ({"accuracy": "against"}, "no_go"),
        ({"accuracy": "against", "best_of_n": "unclear"}, "doubtful"),  # what would be optimised counts
        ({"length": "against"}, "doubtful"),
        ({}, "doubtful"),
    ],
)
def test_the_verdict(outcomes: dict[str, str], verdict: str) -> None:
    found = case(**outcomes)
    assert {one["experiment"]: one["outcome"] for one in found["evidence"]} == outcomes
    assert found["verdict"] == verdict


def test_accuracy_under_a_baseline_and_above_chance_is_no_no_go() -> None:
    """.7 against a length baseline of .9: worse than counting letters, better than a coin."""
    found = asked(figures(accuracy=0.7) | {"length_baseline": 0.9, "majority_baseline": 0.5})
    assert (evidence(found, "accuracy")["outcome"], found["verdict"]) == ("against", "doubtful")


ORDER = ["no_go", "doubtful", "go"]
spoken = st.dictionaries(
    st.sampled_from(["accuracy", "accuracy_on_samples", "best_of_n", "length"]),
    st.sampled_from(["for", "against", "unclear"]),
)


@given(spoken)
def test_better_evidence_never_makes_the_verdict_worse(outcomes: dict[str, str]) -> None:
    was = ORDER.index(case(**outcomes)["verdict"])
    for name, outcome in outcomes.items():
        if outcome != "for":
            assert ORDER.index(case(**{**outcomes, name: "for"})["verdict"]) >= was


def test_there_is_no_go_without_an_experiment_of_outcome() -> None:
    for accuracy, length in itertools.product(EN, EN):
        assert case(accuracy=accuracy, length=length)["verdict"] != "go"


# --- what is said --------------------------------------------------------------------------------------------------


def test_a_go_is_told_with_what_speaks_for_it() -> None:
    """.9·.1/.04² = 56.25 items: (.9 + 1.9208/56.25 ± 1.96·√(.0016 + .9604/56.25²))/(1 + 3.8415/56.25)."""
    found = case(accuracy="for", accuracy_on_samples="unclear", best_of_n="for", length="for")
    assert found["said"] == "Swahili: go. The win rate of best of 16 against sft, 0.9 [0.794, 0.954], is above 0.5."


def test_a_no_go_is_told_with_what_speaks_against_it() -> None:
    said = case(accuracy="for", accuracy_on_samples="unclear", best_of_n="against", length="for")["said"]
    assert said == "Swahili: no-go. The win rate of best of 16 against sft, 0.1 [0.0455, 0.206], is below 0.5."


def test_a_doubtful_one_is_told_with_what_is_unclear_and_what_is_missing() -> None:
    said = case(accuracy="for", accuracy_on_samples="unclear")["said"]
    assert said == (
        "Swahili: doubtful. The accuracy of rm on samples of sft, 0.5 [0.423, 0.577], is not shown to be on either "
        "side of 0.5. Not looked at: best-of-n by another judge, length under best-of-n."
    )
    assert case()["said"].startswith("Swahili: doubtful. Not looked at: accuracy on labelled answers, accuracy on the")


def test_languages_are_those_of_any_figure_or_those_that_are_asked_for() -> None:
    options = DiagnosisOptions()
    mine, curves = {"es": figures(accuracy=0.9)}, {"sw": rows(win_rate=0.9)}
    assert list(diagnose("rm", mine, curves, options)["languages"]) == ["es", "sw"]
    found = diagnose("rm", mine, curves, options, languages=["sw", "de"])["languages"]
    assert {lang: one["verdict"] for lang, one in found.items()} == {"sw": "go", "de": "doubtful"}


def test_the_entry_is_plain_json_and_names_its_limits() -> None:
    found = diagnose("rm", {"es": figures(accuracy=0.9)}, {}, DiagnosisOptions(even=0.55))
    assert found["options"] == {"even": 0.55, "min_gain": 0.0, "chance": 0.5, "max_length_growth": 1.25}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# --- of a run ------------------------------------------------------------------------------------------------------


def run(**more: Any) -> dict[str, Any]:
    return {
        "results": {
            "sft": {"es": figures(quality=0.5)},
            "rm-en": {"es": figures(accuracy=0.9, accuracy_on_sft=0.9), "sw": figures(accuracy=0.5)},
        },
        **more,
    }


BEST = {
    "model": "sft",
    "judge": "oracle",
    "metric_of_quality": "quality",
    "rewards": {"rm-en": {"curves": {"sw": rows(win_rate=0.1)}}, "rm-es": {"curves": {"sw": rows(win_rate=0.9)}}},
}


def verdicts(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        reward: {lang: one["verdict"] for lang, one in entry["languages"].items()}
        for reward, entry in diagnose_results(found, DiagnosisOptions()).items()
    }


def test_a_run_is_diagnosed_from_its_results_alone() -> None:
    assert verdicts(run(best_of_n=BEST)) == {"rm-en": {"es": "go", "sw": "no_go"}, "rm-es": {"sw": "go"}}


def test_a_run_without_best_of_n_is_diagnosed_from_what_it_has() -> None:
    rounds = [{"model": "round-1", "starts_from": "sft", "reward": {"model": "rm-en"}}]
    assert verdicts(run(rounds=rounds)) == {"rm-en": {"es": "go", "sw": "doubtful"}}
    assert verdicts(run(rounds=[{**rounds[0], "starts_from": "base"}])) == {
        "rm-en": {"es": "doubtful", "sw": "doubtful"}
    }


def test_the_judge_of_a_run_is_no_evidence_for_itself() -> None:
    judged = run(best_of_n={**BEST, "judge": "rm-es"})
    assert verdicts(judged) == {"rm-en": {"es": "go", "sw": "no_go"}, "rm-es": {"sw": "doubtful"}}


def test_results_without_a_reward_are_refused() -> None:
    with pytest.raises(InputError, match="the results hold no reward"):
        diagnose_results({"results": {"sft": {"es": figures(quality=0.5)}}}, DiagnosisOptions())


def test_the_diagnosis_is_what_it_was_under_this_version() -> None:
    cases = [
        case(**dict(zip(("accuracy", "accuracy_on_samples", "best_of_n", "length"), outcomes, strict=True)))
        for outcomes in itertools.product(EN, repeat=4)
    ]
    told = [[found["verdict"], found["said"], *(one["said"] for one in found["evidence"])] for found in cases]
    assert (VERSION, digest(told)[:16]) == (2, "403469fef37859b9")
