"""Judgments as results of models: shares by language, further judges, and models seen from either side."""

import pytest

from polypref.errors import ModelError
from polypref.stages.comparison_results import results_of, seen_from, seen_from_both_sides, swapped
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
    found = seen_from_both_sides({"win_rates": winrate(rows), "ratings": None}, rows)
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


def test_a_judge_that_gave_no_verdict_at_all_is_told_with_its_reason():
    with pytest.raises(ModelError, match=r"gpt gave no verdict on any of the 1 comparisons of mine \(first: refused\)"):
        results_of([judgment("a", None, error="refused")], "theirs")
