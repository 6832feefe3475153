"""Failure signatures: each rule where it fires, where it does not, and where its figure is missing.

Figures have n = 101, so that a 95% interval is ± 1.984 standard errors (Student, 100 degrees of freedom).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.stages.signatures import RULES, Signature, SignatureOptions, examined, signatures, subjects

T = 1.984
N = 101


def figures(**values: tuple[float, float]) -> dict[str, Any]:
    """metric=(value, standard error)."""
    return {k: v for m, (value, err) in values.items() for k, v in ((m, value), (f"{m}_stderr", err), (f"{m}_n", N))}


def found(
    name: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reward: dict[str, Any] | None = None,
    **more: Any,
) -> list[Signature]:
    """The signatures of that name in Swahili, of the steps sft, rl and rm."""
    options = SignatureOptions(**more.pop("options", {}))
    results = {
        "sft": {"sw": before or {}},
        "rl": {"sw": after or {}},
        "rm": {"sw": reward or {}, "en": more.pop("english", {})},
        **more.pop("steps", {}),
    }
    raised = signatures(results, options, before="sft", after="rl", reward="rm", pivot="en", **more)
    return [signature for signature in raised if signature.name == name]


def spoken(results: dict[str, Any], **more: Any) -> set[str]:
    """The rules that had a figure in Swahili to look at."""
    asked = {"before": "sft", "after": "rl", "reward": "rm", "pivot": "en"} | more
    found = (check.signature for check in examined(results, SignatureOptions(), **asked))
    return {one.name for one in found if one.lang == "sw"}


# --- win rate and quality ------------------------------------------------------------------------------------------


def test_a_win_rate_whose_interval_touches_even_is_not_above_it() -> None:
    """.55 − 1.984·.03 = .4905 ≤ .5."""
    [one] = found("win_rate_not_above_even", after=figures(win_rate=(0.55, 0.03)))
    assert (one.lang, one.metric, one.figure, one.threshold) == ("sw", "win_rate", 0.55, 0.5)
    assert one.low == pytest.approx(0.55 - T * 0.03, abs=1e-4)
    assert one.said == "Swahili: the win rate against sft, 0.55 [0.49, 0.61], is not shown to be above 0.5."
    assert "judge more prompts" in one.try_this


def test_a_win_rate_above_even_is_no_signature() -> None:
    """.55 − 1.984·.02 = .510 > .5."""
    assert not found("win_rate_not_above_even", after=figures(win_rate=(0.55, 0.02)))


def test_win_rates_in_percent_need_their_own_even() -> None:
    percent = figures(win_rate=(55.0, 3.0))
    with pytest.raises(InputError, match="win_rate of rl in sw is 55, no share; set even to 50"):
        found("win_rate_not_above_even", after=percent)
    [one] = found("win_rate_not_above_even", after=percent, options={"even": 50})
    assert (one.figure, one.threshold) == (55.0, 50.0)


def test_quality_falls_where_the_whole_interval_is_below_zero() -> None:
    """.5 − .6 = −.1; √(.03² + .04²) = .05, and 1.984·.05 = .0992."""
    [one] = found("quality_falls", figures(quality=(0.6, 0.03)), figures(quality=(0.5, 0.04)))
    assert (one.figure, one.threshold) == (pytest.approx(-0.1), 0.0)
    assert one.high == pytest.approx(-0.1 + T * 0.05, abs=1e-5)
    assert one.said == "Swahili: quality falls from sft to rl by 0.1 [0.000801, 0.199]."
    assert not found("quality_not_up", figures(quality=(0.6, 0.03)), figures(quality=(0.5, 0.04)))


def test_quality_that_may_as_well_have_stayed_is_not_up() -> None:
    """The same errors: ±.0992 about −.09 holds 0, and about .09 as well; about .1 it does not."""
    for after in (0.51, 0.69):
        both = figures(quality=(0.6, 0.03)), figures(quality=(after, 0.04))
        assert not found("quality_falls", *both)
        assert len(found("quality_not_up", *both)) == 1
    both = figures(quality=(0.6, 0.03)), figures(quality=(0.7, 0.04))
    assert not found("quality_not_up", *both)
    assert len(found("quality_not_up", *both, options={"min_gain": 0.05})) == 1


def test_a_paired_interval_stands_in_for_that_of_independent_figures() -> None:
    """The two figures alone would not tell; paired by prompt they do."""
    both = figures(quality=(0.6, 0.1)), figures(quality=(0.5, 0.1))
    gain = {"gain": -0.1, "stderr": 0.01, "low": -0.12, "high": -0.08, "n": N}
    comparison = {"from": "sft", "to": "rl", "metric": "quality", "languages": {"sw": gain}}
    assert not found("quality_falls", *both)
    [one] = found("quality_falls", *both, comparisons=[comparison])
    assert (one.figure, one.low, one.high) == (-0.1, -0.12, -0.08)
    assert not found("quality_falls", *both, comparisons=[comparison | {"to": "other"}])


# --- KL, length, language ------------------------------------------------------------------------------------------


def test_kl_is_high_once_its_interval_is_above_the_limit() -> None:
    """11 − 1.984·.5 = 10.008 > 10; with .6 it is 9.81."""
    [one] = found("kl_high", after=figures(kl=(11.0, 0.5)))
    assert (one.figure, one.threshold) == (11.0, 10.0)
    assert not found("kl_high", after=figures(kl=(11.0, 0.6)))
    assert found("kl_high", after=figures(kl=(11.0, 0.6)), options={"max_kl": 9.0})


def test_length_grows_once_the_ratio_is_above_the_limit() -> None:
    """1.25·100 = 125; 140 − 125 = 15 ± 1.984·√(4² + (1.25·4)²) = 12.70, so the ratio is 1.40 [1.273, 1.527]."""
    [one] = found("length_growth", figures(length_characters=(100, 4)), figures(length_characters=(140, 4)))
    assert (one.figure, one.threshold) == (pytest.approx(1.4), 1.25)
    assert one.low == pytest.approx(1.25 + (15 - T * 41**0.5) / 100, abs=1e-4)
    assert not found("length_growth", figures(length_characters=(100, 4)), figures(length_characters=(135, 4)))


def test_answers_leave_their_language_once_more_of_them_are_in_another() -> None:
    """.2 − .1 = .1 ± 1.984·√2·.01 = .028, above .05; with errors of .02 it is .1 ± .056."""
    before, after = figures(off_target_language=(0.1, 0.01)), figures(off_target_language=(0.2, 0.01))
    [one] = found("leaves_language", before, after)
    assert (one.figure, one.threshold) == (pytest.approx(0.1), 0.05)
    before, after = figures(off_target_language=(0.1, 0.02)), figures(off_target_language=(0.2, 0.02))
    assert not found("leaves_language", before, after)


# --- the reward ----------------------------------------------------------------------------------------------------


def test_an_accuracy_that_touches_its_length_baseline_is_low() -> None:
    """.62 − 1.984·.02 = .580: above ½, not above a length baseline of .58."""
    accuracy = figures(accuracy=(0.62, 0.02), majority_baseline=(0.5, 0.0))
    assert not found("accuracy_low", reward=accuracy | figures(length_baseline=(0.55, 0.01)))
    [one] = found("accuracy_low", reward=accuracy | figures(length_baseline=(0.6, 0.01)))
    assert (one.metric, one.figure, one.threshold) == ("accuracy", 0.62, 0.6)


def test_the_interval_that_stands_beside_an_accuracy_is_taken() -> None:
    """Student's lower end would be .461."""
    near = figures(accuracy=(0.56, 0.05))
    assert found("accuracy_low", reward=near)
    assert not found("accuracy_low", reward=near | {"accuracy_low": 0.51, "accuracy_high": 0.61})


def test_chance_is_a_half_only_where_no_majority_is_known() -> None:
    """One right answer among four: ¼ is chance, and .4 is above it."""
    group = figures(accuracy=(0.4, 0.02))
    assert found("accuracy_low", reward=group)
    assert not found("accuracy_low", reward=group | figures(majority_baseline=(0.25, 0.0)))


def test_accuracy_on_the_answers_of_before_counts_as_well() -> None:
    """.55 ± .0992 touches ½, however good the accuracy on judged data."""
    reward = figures(accuracy=(0.9, 0.02), accuracy_on_sft=(0.55, 0.05), accuracy_on_rl=(0.3, 0.05))
    [one] = found("accuracy_low", reward=reward)
    assert (one.metric, one.threshold) == ("accuracy_on_sft", 0.5)


def test_the_accuracy_of_an_implicit_reward_is_that_of_its_view() -> None:
    view = "reward_accuracy_cross_lingual"
    [one] = found("accuracy_low", reward=figures(**{view: (0.55, 0.05), f"{view}_reference_samples": (0.55, 0.05)}))
    assert one.metric == view
    assert not found("accuracy_low", reward=figures(**{view: (0.65, 0.05)}))


def test_the_gap_to_the_languages_own_reward() -> None:
    """.95 − .70 = .25 ± 1.984·√(.01² + .04²) = .0818: above .15; with .74 it is .128."""
    own = {"rm-sw": {"sw": figures(accuracy=(0.95, 0.01))}}
    [one] = found("transfer_gap", reward=figures(accuracy=(0.7, 0.04)), steps=own, own={"sw": ["rm-sw"]})
    assert (one.metric, one.figure, one.threshold) == ("accuracy", pytest.approx(0.25), 0.15)
    assert not found("transfer_gap", reward=figures(accuracy=(0.74, 0.04)), steps=own, own={"sw": ["rm-sw"]})


def test_without_an_own_reward_the_gap_is_to_the_pivot() -> None:
    english = figures(accuracy=(0.95, 0.01))
    [one] = found("transfer_gap", reward=figures(accuracy=(0.7, 0.04)), english=english)
    assert one.said.startswith("Swahili: accuracy of rm is 0.25 [0.168, 0.332] higher in English")
    assert not found("transfer_gap", reward=figures(accuracy=(0.7, 0.04)), english=english, own={"sw": ["rm"]})


def test_the_gap_between_policies_is_in_win_rate_and_quality() -> None:
    """60 − 40 = 20 ± 2.8 percent is above .15 of the scale of 100."""
    own = {"rl-sw": {"sw": figures(win_rate=(60, 1), quality=(0.6, 0.01))}}
    after = figures(win_rate=(40, 1), quality=(0.55, 0.01))
    [one] = found("transfer_gap", after=after, steps=own, own={"sw": ["rl-sw"]}, options={"even": 50})
    assert (one.metric, one.threshold) == ("win_rate", 15.0)


def test_hacking_is_a_reward_that_rises_while_the_judge_falls() -> None:
    up, down = {"reward": (1.0, 0.1)}, {"reward": (2.0, 0.1)}
    [one] = found("reward_hacking", figures(quality=(0.6, 0.01), **up), figures(quality=(0.5, 0.01), **down))
    assert (one.metric, one.figure, one.threshold) == ("reward", 1.0, 0.0)
    assert "reward rises by 1 [0.719, 1.28] while quality changes by −0.1 [−0.128, −0.0719]" in one.said
    assert not found("reward_hacking", figures(quality=(0.6, 0.01), **up), figures(quality=(0.59, 0.01), **down))
    assert not found("reward_hacking", figures(quality=(0.6, 0.01), **up), figures(quality=(0.5, 0.01), **up))


def test_a_win_rate_below_even_is_a_judge_that_falls() -> None:
    """.4 + 1.984·.02 = .44 < .5; quality is unknown."""
    before, after = figures(reward=(1.0, 0.1)), figures(reward=(2.0, 0.1))
    assert found("reward_hacking", before, after | figures(win_rate=(0.4, 0.02)))
    assert not found("reward_hacking", before, after | figures(win_rate=(0.48, 0.02)))


def test_a_blind_spot_is_accuracy_lost_on_the_policys_own_answers() -> None:
    """.8 − .6 = .2 ± 1.984·√2·.03 = .0842: above .1; with .65 it is .066."""
    [one] = found("blind_spot", reward=figures(accuracy_on_sft=(0.8, 0.03), accuracy_on_rl=(0.6, 0.03)))
    assert (one.metric, one.figure, one.threshold) == ("accuracy_on_rl", pytest.approx(0.2), 0.1)
    assert not found("blind_spot", reward=figures(accuracy_on_sft=(0.8, 0.03), accuracy_on_rl=(0.65, 0.03)))
    view = "reward_accuracy_multilingual"
    assert found("blind_spot", reward=figures(**{view: (0.8, 0.03), f"{view}_policy_samples": (0.6, 0.03)}))


# --- missing figures -----------------------------------------------------------------------------------------------

WHOLE = {
    "sft": figures(
        quality=(0.6, 0.01), reward=(1.0, 0.1), length_characters=(100, 2), off_target_language=(0.0, 0.0)
    ),
    "rl": figures(
        quality=(0.5, 0.01), reward=(2.0, 0.1), length_characters=(190, 2), off_target_language=(0.3, 0.01),
        kl=(20.0, 1.0), win_rate=(0.4, 0.02),
    ),
    "rm": figures(accuracy=(0.5, 0.02), accuracy_on_sft=(0.8, 0.02), accuracy_on_rl=(0.5, 0.02)),
}  # fmt: skip
ENGLISH = figures(accuracy=(0.9, 0.01))
NEEDS = {
    "win_rate_not_above_even": ["rl.win_rate"],
    "quality_falls": ["sft.quality"],
    "quality_not_up": ["rl.quality"],
    "kl_high": ["rl.kl"],
    "accuracy_low": ["rm.accuracy", "rm.accuracy_on_sft"],
    "transfer_gap": ["rm.accuracy"],
    "length_growth": ["sft.length_characters"],
    "leaves_language": ["rl.off_target_language"],
    "reward_hacking": ["sft.reward"],
    "blind_spot": ["rm.accuracy_on_rl"],
}


def whole(*without: str, end: str = "") -> dict[str, Any]:
    steps = {step: {"sw": dict(of)} for step, of in WHOLE.items()}
    steps["rm"]["en"] = dict(ENGLISH)
    for path in without:
        step, metric = path.split(".")
        steps[step]["sw"][metric + end] = None
    return steps


def test_every_rule_has_its_name_and_speaks_where_its_figures_stand() -> None:
    assert [rule.__name__ for rule in RULES] == list(NEEDS)
    assert spoken(whole()) == set(NEEDS)
    raised = signatures(whole(), SignatureOptions(), before="sft", after="rl", reward="rm", pivot="en")
    assert {one.name for one in raised} == set(NEEDS) - {"quality_not_up"}  # it falls
    assert all(one.lang == "sw" for one in raised)


@pytest.mark.parametrize("end", ["", "_stderr"])
@pytest.mark.parametrize("name", NEEDS)
def test_a_rule_without_its_figure_or_its_error_says_nothing(name: str, end: str) -> None:
    assert name not in spoken(whole(*NEEDS[name], end=end))


def test_hacking_needs_someone_who_judges() -> None:
    assert "reward_hacking" in spoken(whole("sft.quality"))
    assert "reward_hacking" not in spoken(whole("sft.quality", "rl.win_rate"))


def test_a_figure_of_one_prompt_says_nothing() -> None:
    results = whole()
    results["rl"]["sw"] |= {"kl_stderr": None, "kl_n": 1}
    assert "kl_high" not in spoken(results)


def test_without_steps_to_compare_only_the_reward_is_looked_at() -> None:
    assert spoken(whole(), before=None, after=None) == {"accuracy_low", "transfer_gap"}
    assert not {"accuracy_low", "transfer_gap", "blind_spot"} & spoken(whole(), reward=None)


def test_a_step_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="the results have no step 'rll'; did you mean rl"):
        spoken(whole(), after="rll")


@given(
    value=st.floats(-10, 10),
    stderr=st.floats(0, 5),
    limit=st.floats(0.01, 10),
    higher=st.floats(0.01, 10),
)
def test_a_higher_limit_never_raises_more(value: float, stderr: float, limit: float, higher: float) -> None:
    after = figures(kl=(value, stderr))
    few = found("kl_high", after=after, options={"max_kl": limit + higher})
    many = found("kl_high", after=after, options={"max_kl": limit})
    assert len(few) <= len(many)
    assert all(one.low > one.threshold for one in many)


# --- what a run is about -------------------------------------------------------------------------------------------


def test_the_steps_of_a_run_are_read_off_its_rounds() -> None:
    run = {
        "results": {"sft": {}, "r1": {}, "r2": {}, "rm-en": {}, "rm-sw": {}, "both": {}},
        "config": {"pivot": "en"},
        "rounds": [
            {"model": "r1", "starts_from": "sft", "reward": {"model": "both"}},
            {"model": "r2", "starts_from": "r1", "reward": {"model": "rm-en"}},
        ],
        "rewards": {"trained_on": {"rm-en": ["en"], "rm-sw": ["sw"], "both": ["en", "sw"], "gone": ["de"]}},
    }
    about = subjects(run)
    assert (about["before"], about["after"], about["reward"], about["pivot"]) == ("sft", "r2", "rm-en", "en")
    assert about["own"] == {"en": ["rm-en"], "sw": ["rm-sw"]}


def test_an_implicit_reward_is_its_policys_step() -> None:
    run = {"results": {"dpo": {}}, "rounds": [{"model": "r", "starts_from": "dpo", "reward": {"policy": "dpo"}}]}
    assert subjects(run)["reward"] == "dpo"


def test_rewards_alone_have_no_steps_to_compare() -> None:
    run = {"results": {"rm": {}}, "rewards": {"trained_on": {"rm": ["en"]}}, "rounds": []}
    about = subjects(run)
    assert (about["before"], about["after"], about["reward"]) == (None, None, "rm")


def test_a_signature_is_plain_json() -> None:
    [one] = found("kl_high", after=figures(kl=(11.0, 0.5)))
    assert json.loads(json.dumps(one.to_json()))["name"] == "kl_high"
