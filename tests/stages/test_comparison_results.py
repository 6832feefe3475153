"""Judgments as results of models: shares by language, further judges, and models seen from either side."""

import dataclasses
import math
import random

import pytest

from polypref.errors import ModelError
from polypref.stages.comparison_results import results_of, seen_from, swapped, win_rates
from polypref.stages.judgments import Judgment
from polypref.stages.winrate import winrate


def judgment(id, preference, language="es", **more):
    fields = {"model": "mine", "baseline": "theirs", "judge": "gpt", "model_answer": "xy", "baseline_answer": "xyz"}
    return Judgment(id, language, preference, 2, 3, **fields | more)


def test_a_comparison_seen_from_the_other_side():
    """With mine first it wins for certain; with theirs first neither does, and that is the first order of theirs."""
    one = judgment("a", 0.75, orders=(1.0, 0.5), flipped=False, said=("mine first", "theirs first"))
    other = swapped(one)
    assert (other.model, other.baseline, other.preference, other.orders) == ("theirs", "mine", 0.25, (0.5, 0.0))
    assert other.said == ("theirs first", "mine first")
    assert (other.model_length, other.baseline_length, other.model_answer) == (3, 2, "xyz")
    assert swapped(other) == one
    failed = judgment("b", None, error="timeout", orders=(None, 1.0))
    assert (swapped(failed).preference, swapped(failed).orders) == (None, (0.0, None))
    lost = judgment("c", 0.0, failed="model", difficulty=0.5)
    assert (swapped(lost).failed, swapped(lost).difficulty) == ("baseline", 0.5)
    assert seen_from("theirs", [one], both_sides=True) == [other]
    assert seen_from("theirs", [one], both_sides=False) == []


def test_results_are_shares_by_language_with_n_prompts():
    """Of four verdicts in Spanish two are won, one is tied and one is lost: 2.5 of 4. One judgment has no verdict, so
    that is 1 of 5. The two orders contradicted each other in 1 of 4."""
    rows = [
        judgment(str(i), p, flipped=flipped)
        for i, (p, flipped) in enumerate([(1.0, False), (1.0, False), (0.5, True), (0.0, False)])
    ]
    rows += [judgment("4", None, error="timeout"), judgment("0", 1.0, "de"), judgment("1", 0.0, "de")]
    found = results_of(rows, "theirs")
    es = found.by_model["mine"]["es"]
    assert list(found.by_model) == ["mine"]
    assert (es["win_rate"], es["win_rate_n"]) == (0.625, 4)
    assert (es["tie_rate"], es["tie_rate_n"]) == (0.25, 4)
    assert (es["flip_rate"], es["no_verdict"]) == pytest.approx((0.25, 0.2))
    assert (es["length_characters"], es["length_characters_n"]) == (2, 5)
    assert found.macro_average["mine"]["win_rate"] == pytest.approx((0.625 + 0.5) / 2)


def test_failed_answers_and_verdicts_of_one_order_are_metrics():
    """Of four answers of mine one failed, and of two verdicts that tell their orders one rests on one."""
    rows = [
        judgment("a", 1.0, orders=(1.0, 1.0)),
        judgment("b", 1.0, orders=(1.0, None)),
        judgment("c", 0.0, failed="model", model_answer=None),
        judgment("d", 1.0, failed="baseline", baseline_answer=None),
    ]
    es = results_of(rows, "theirs").by_model["mine"]["es"]
    assert (es["failed"], es["failed_n"], es["one_order"], es["one_order_n"]) == (0.25, 4, 0.5, 2)
    assert (es["length_characters"], es["length_characters_n"]) == (2, 3)
    theirs = results_of(rows, None).by_model["theirs"]["es"]
    assert (theirs["failed"], theirs["length_characters"]) == (0.25, 3)


def test_a_prompts_difficulty_weighs_the_same_from_either_side():
    """300 prompts, on which mine wins with logit p = 0.3 + difficulty; every other one has theirs in the model's place,
    and the prompt's difficulty as it is. Seen from mine both weights are found again, and so are those of rows that
    all have mine in the model's place."""
    noise = random.Random(0)
    straight = []
    for i in range(300):
        hard = noise.gauss(0, 1)
        won = float(noise.random() < 1 / (1 + math.exp(-0.3 - hard)))
        lengths = {"model_length": noise.randint(50, 500), "baseline_length": noise.randint(50, 500)}
        straight.append(dataclasses.replace(judgment(str(i), won, "en", difficulty=hard), **lengths))
    mixed = [
        dataclasses.replace(
            one,
            preference=1 - one.preference,
            model="theirs",
            baseline="mine",
            model_length=one.baseline_length,
            baseline_length=one.model_length,
        )
        if number % 2
        else one
        for number, one in enumerate(straight)
    ]
    found = winrate(seen_from("mine", mixed, both_sides=True))
    assert found == winrate(straight)
    assert found["weights"]["difficulty"] == pytest.approx(1, abs=0.3)
    assert found["weights"]["intercept"] == pytest.approx(0.3, abs=0.3)


def test_the_metrics_of_further_judges_bear_their_names():
    rows = [judgment("a", 1.0), judgment("b", 1.0), judgment("a", 0.0, judge="rm"), judgment("b", 0.0, judge="rm")]
    es = results_of(rows, "theirs").by_model["mine"]["es"]
    assert (es["win_rate"], es["win_rate_by_rm"], es["win_rate_by_rm_n"]) == (1.0, 0.0, 2)
    assert "length_characters_by_rm" not in es


def test_without_a_baseline_every_model_is_seen_in_all_its_comparisons():
    """one beats two and three, two beats three."""
    rows = [
        judgment("a", 1.0, model="one", baseline="two"),
        judgment("a", 1.0, model="one", baseline="three"),
        judgment("a", 1.0, model="two", baseline="three"),
    ]
    found = results_of(rows, None)
    rates = {model: figures["es"]["win_rate"] for model, figures in found.by_model.items()}
    assert rates == {"one": 1.0, "two": 0.5, "three": 0.0}


def test_the_figures_of_an_arena_tell_of_every_model_from_both_sides():
    """As above; the second judge says the contrary throughout."""
    pairs = (("one", "two"), ("one", "three"), ("two", "three"))
    rows = [
        judgment("a", preference, model=model, baseline=baseline, judge=judge)
        for judge, preference in (("gpt", 1.0), ("rm", 0.0))
        for model, baseline in pairs
    ]
    found = {"win_rates": win_rates(rows, both_sides=True), "ratings": None}
    by_judge = found["win_rates"]["by_judge"]
    assert {name: block["win_rate"] for name, block in by_judge["gpt"]["by_model"].items()} == {
        "one": 100,
        "two": 50,
        "three": 0,
    }
    assert [block["win_rate"] for block in by_judge["rm"]["by_model"].values()] == [0, 50, 100]
    assert [block["win_rate"] for block in found["win_rates"]["by_model"].values()] == [50, 50, 50]
    assert found["win_rates"]["head_to_head"] == winrate(rows)["head_to_head"]
    assert "head_to_head" not in found["win_rates"]["by_model"]["one"]


def test_models_that_are_also_baselines_are_told_as_results_tell_them():
    """Two judges, three models that all meet, two languages: the shares of each judge's results by model, nothing that
    pools models, and what does not depend on the side as ever."""
    noise = random.Random(1)
    rows = [
        judgment(
            str(i), noise.choice([0.0, 0.5, 1.0]), lang, model=model, baseline=baseline, judge=judge, flipped=i < 3
        )
        for i in range(10)
        for lang in ("en", "es")
        for model, baseline in (("one", "two"), ("one", "three"), ("two", "three"))
        for judge in ("gpt", "rm")
    ]
    found = win_rates(rows)
    results = results_of(rows, None).by_model
    for judge, ending in (("gpt", ""), ("rm", "_by_rm")):
        by_model = found["by_judge"][judge]["by_model"]
        assert list(by_model) == ["one", "two", "three"]
        for model, block in by_model.items():
            for lang, part in block["by_language"].items():
                assert part["win_rate"] / 100 == pytest.approx(results[model][lang][f"win_rate{ending}"])
    assert found["by_model"]["two"] == win_rates(rows, both_sides=True)["by_model"]["two"]
    plain = winrate(rows)
    assert found["head_to_head"] == plain["head_to_head"]
    for pooled in (found, found["by_language"]["en"], found["by_judge"]["gpt"]):
        assert not {"win_rate", "wins", "length_controlled_win_rate_low", "macro_average", "model_length"} & set(pooled)
    assert found["flip_rate"] == plain["flip_rate"] == 30
    held = win_rates(rows, length_weight=-0.5)["by_model"]["one"]
    assert held["weights"]["length"] == -0.5


def test_models_that_are_held_against_baselines_are_told_as_they_stand():
    rows = [judgment("a", 1.0, baseline=baseline) for baseline in ("theirs", "others")]
    assert win_rates(rows) == winrate(rows)
    itself = [judgment("a", 0.5, model="theirs"), judgment("a", 1.0)]
    assert win_rates(itself) == winrate(itself)


def test_a_judge_that_gave_no_verdict_at_all_is_told_with_its_reason():
    with pytest.raises(ModelError, match=r"gpt gave no verdict on any of the 1 comparisons of mine \(first: refused\)"):
        results_of([judgment("a", None, error="refused")], "theirs")
