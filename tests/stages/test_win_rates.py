"""Win rates of one step's answers against another's: by scores, by a judge of pairs, and of best-of-n."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Comparer, Comparison, Context, Each, Recall, ScorerSpec, Verdict
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example
from polypref.stages import best_of_n as choosing
from polypref.stages import judged_win_rates
from polypref.stages import win_rates as stage
from polypref.stages.best_of_n import BestOfNOptions
from polypref.stages.evaluate import Evaluation
from polypref.stages.judge_matches import JudgeOptions, judge_matches
from polypref.stages.score import ScorerOptions, by_scorer
from polypref.stages.win_rates import best_of_n_win_rates, win_rates
from polypref.store.atomic import digest

USER = [{"role": "user", "content": "Go."}]
CONTEXT = Context(open=lambda role, spec: FakeLanguageIdentifier(("en", "es")), languages=("en", "es"))


def answer(name: str, quality: float | None = None, lang: str = "es", **rest: Any) -> Candidate:
    scores = {} if quality is None else {"quality": quality}
    return Candidate(name, lang, rest.pop("text", name), **({"origin": "sampled", "scores": scores} | rest))


def failed(name: str, lang: str = "es") -> Candidate:
    return Candidate(name, lang, "", origin="sampled", error="no answer")


def example(*answers: Candidate, name: str = "x", **rest: Any) -> Example:
    return Example(name, {"en": USER, "es": USER}, list(answers), **rest)


# --- by scores -----------------------------------------------------------------------------------------------------


def test_a_prompts_win_rate_is_over_all_pairs_of_answers() -> None:
    """4 beats 1 and 3; 1 ties with 1 and loses to 3: 2.5 of 4. A figure is the mean over prompts: (.625 + 1)/2."""
    before = [example(answer("a", 1.0), answer("b", 3.0)), example(answer("a", 0.0), name="y")]
    after = [example(answer("c", 4.0), answer("d", 1.0)), example(answer("c", 0.5), name="y")]
    found = win_rates(before, after, "quality")
    assert found.values == {"win_rate": {"es": {"x": 0.625, "y": 1.0}}}
    assert found.figures()["es"]["win_rate"] == 0.8125
    assert found.figures()["es"]["win_rate_n"] == 2


def test_languages_are_held_apart_and_the_metric_has_the_name_that_is_asked_for() -> None:
    before = [example(answer("a", 1.0), answer("b", 1.0, "en"))]
    after = [example(answer("a", 2.0), answer("b", 0.0, "en"))]
    found = win_rates(before, after, "quality", metric="win_rate_by_rm")
    assert found.values == {"win_rate_by_rm": {"es": {"x": 1.0}, "en": {"x": 0.0}}}


def test_a_failed_answer_loses_and_two_failures_tie() -> None:
    before = [example(answer("a", -9.0), failed("b"))]
    after = [example(failed("c"), answer("d", -99.0))]
    # c loses to a and ties with b; d loses to a and beats b.
    assert win_rates(before, after, "quality").values["win_rate"]["es"]["x"] == 1.5 / 4


def test_an_answer_that_the_judge_was_silent_on_is_left_out_and_counted() -> None:
    """The scorer's own stage makes the drop; of the four answers of both sides it says nothing of one."""

    class Silent:
        fingerprint = "silent"

        def score(self, answers: Sequence[Any]) -> list[float | None]:
            return [None if a.text == "mute" else float(len(a.text)) for a in answers]

    context = Context(open=lambda role, spec: Silent())
    options = ScorerOptions(scorer="silent", name="quality")
    before = [example(answer("a", text="four"), answer("b", text="fives"))]
    after = [example(answer("c", text="mute"), answer("d", text="sixsix"))]
    sides = [list(by_scorer(side, options, context)) for side in (before, after)]
    found = win_rates(*sides, "quality")
    assert found.values == {"win_rate": {"es": {"x": 1.0}}, "no_verdict_win_rate": {"es": {"x": 0.25}}}


def test_a_silence_of_another_scorer_is_no_failure() -> None:
    muted = [example(answer("c", 2.0, error="not scored"), dropped=[Drop("score", "no_verdict", "es", "c")])]
    assert win_rates([example(answer("a", 1.0))], muted, "quality").values == {"win_rate": {"es": {"x": 1.0}}}


def test_where_all_of_a_side_is_silent_there_is_no_value() -> None:
    muted = [example(answer("c", error="not scored"), dropped=[Drop("score", "no_verdict", "es", "c")])]
    found = win_rates([example(answer("a", 1.0))], muted, "quality")
    assert found.values == {"no_verdict_win_rate": {"es": {"x": 0.5}}}


def test_only_prompts_that_both_answered_are_compared_and_only_their_own_answers() -> None:
    before = [example(answer("a", 1.0)), example(answer("a", 1.0), name="only before")]
    given = answer("b", 99.0, origin="reference")
    translated = answer("c", 99.0, origin="translated")
    after = [example(answer("d", 0.0), given, translated), example(answer("a", 2.0), name="only after")]
    assert win_rates(before, after, "quality").values == {"win_rate": {"es": {"x": 0.0}}}


def test_each_language_may_be_judged_by_a_score_of_its_own() -> None:
    def both(es: float, en: float) -> list[Example]:
        spanish = answer("a", scores={"rm-es": es, "rm-en": -es})
        return [example(spanish, answer("b", lang="en", scores={"rm-en": en}))]

    before, after = both(1.0, 1.0), both(2.0, 0.0)
    found = win_rates(before, after, {"es": "rm-es", "en": "rm-en"})
    assert found.values["win_rate"] == {"es": {"x": 1.0}, "en": {"x": 0.0}}
    assert win_rates(before, after, {"es": "rm-es"}).values["win_rate"] == {"es": {"x": 1.0}}
    assert win_rates(before, after, {}).values == {}


def test_a_missing_score_and_an_id_that_comes_twice_are_refused() -> None:
    fine, lacking = [example(answer("a", 1.0))], [example(answer("a"))]
    with pytest.raises(InputError, match="'a' of example 'x' has no score 'quality'; score it first"):
        win_rates(fine, lacking, "quality")
    with pytest.raises(InputError, match="'x' comes a second time in before"):
        win_rates(fine * 2, fine, "quality")
    with pytest.raises(InputError, match="'x' comes a second time in after"):
        win_rates(fine, fine * 2, "quality")


def test_nothing_that_is_given_is_changed() -> None:
    muted = example(answer("c", error="not scored"), dropped=[Drop("score", "no_verdict", "es", "c")])
    sides = [[example(answer("a", 1.0))], [muted]]
    kept = copy.deepcopy(sides)
    win_rates(*sides, "quality")
    win_rates_by_comparer(*sides, Longest())
    assert sides == kept


# --- by a judge of pairs -------------------------------------------------------------------------------------------


class Longest:
    """Prefers the longer text; says nothing of a text with a question mark, contradicts itself on equal lengths."""

    fingerprint = "longest"

    def __init__(self) -> None:
        self.asked: list[Comparison] = []

    def compare(
        self, comparisons: Sequence[Comparison], recall: Recall | None = None, each: Each | None = None
    ) -> list[Verdict]:
        self.asked += comparisons
        found = [self._verdict(c.first, c.second) for c in comparisons]
        for index, verdict in enumerate(found):
            if each is not None:
                each(index, verdict)
        return found

    @staticmethod
    def _verdict(first: str, second: str) -> Verdict:
        if "?" in first + second:
            return Verdict(None, None, "no verdict")
        equal = len(first) == len(second)
        return Verdict(0.5 if equal else float(len(first) > len(second)), equal)


def win_rates_by_comparer(
    before: list[Example], after: list[Example], judge: Longest, metric: str = "win_rate"
) -> Evaluation:
    """Matches to judgments to figures."""
    met = judged_win_rates.matches(before, after, model="after", baseline="before")
    context = Context(open=lambda role, spec: judge)
    told = judge_matches(met, JudgeOptions(name="longest", judge=ScorerSpec(scorer="pair_judge")), context)
    return judged_win_rates.win_rates(told, metric=metric)


def texts(*found: str, name: str = "x") -> list[Example]:
    return [example(*(answer(f"{k}", text=text) for k, text in enumerate(found)), name=name)]


def test_the_judge_holds_the_kth_answers_against_each_other() -> None:
    """aaa beats b; c loses to dd: ½, though the pairs across would say otherwise."""
    judge = Longest()
    assert isinstance(judge, Comparer)
    found = win_rates_by_comparer(texts("b", "dd"), texts("aaa", "c"), judge)
    assert found.values == {
        "win_rate": {"es": {"x": 0.5}},
        "no_verdict_win_rate": {"es": {"x": 0.0}},
        "flip_rate_win_rate": {"es": {"x": 0.0}},
    }
    assert [(c.first, c.second, c.lang, c.messages) for c in judge.asked] == [
        ("aaa", "b", "es", USER),
        ("c", "dd", "es", USER),
    ]
    assert len({c.id for c in judge.asked}) == 2


def test_fewer_answers_come_again_from_the_first() -> None:
    judge = Longest()
    win_rates_by_comparer(texts("a", "b"), texts("1", "2", "3"), judge)
    assert [(c.first, c.second) for c in judge.asked] == [("1", "a"), ("2", "b"), ("3", "a")]


def test_comparisons_without_a_verdict_are_left_out_and_counted_and_flips_are_told() -> None:
    """Of four: a win, a tie by a flip, none, none. (1 + ½)/2; 2 of 4 without; 1 flip of the 2 read."""
    found = win_rates_by_comparer(texts("a", "b", "c", "d?"), texts("aa", "x", "c?", "e"), Longest())
    assert found.values == {
        "win_rate": {"es": {"x": 0.75}},
        "no_verdict_win_rate": {"es": {"x": 0.5}},
        "flip_rate_win_rate": {"es": {"x": 0.5}},
    }


def test_a_prompt_without_any_verdict_has_no_win_rate_and_is_counted() -> None:
    found = win_rates_by_comparer(texts("?"), texts("!?"), Longest())
    assert found.values == {"no_verdict_win_rate": {"es": {"x": 1.0}}}


def test_the_judge_is_not_asked_about_failures_and_equal_texts() -> None:
    """Both the same: ½. after failed: 0. before failed: 1. Both failed: ½."""
    judge = Longest()
    before = [example(answer("a", text="same"), answer("b"), failed("c"), failed("d"))]
    after = [example(answer("a", text="same"), failed("b"), answer("c"), failed("d"))]
    found = win_rates_by_comparer(before, after, judge)
    assert judge.asked == []
    assert found.values == {"win_rate": {"es": {"x": 0.5}}, "no_verdict_win_rate": {"es": {"x": 0.0}}}


def test_verdicts_find_their_prompts_over_batches() -> None:
    """130 prompts are three batches; after is longer in every third."""
    before = [e for i in range(130) for e in texts("bb", name=str(i))]
    after = [e for i in range(130) for e in texts("aaa" if i % 3 == 0 else "a", name=str(i))]
    told = win_rates_by_comparer(before, after, Longest(), metric="m").values["m"]["es"]
    assert told == {str(i): float(i % 3 == 0) for i in range(130)}


def test_a_judge_needs_the_prompt() -> None:
    bare = Example("x", {"en": USER}, [answer("a", text="b")])
    with pytest.raises(InputError, match="'x' has answers in es but no prompt in it"):
        win_rates_by_comparer(texts("aa"), [bare], Longest())


# --- of best-of-n --------------------------------------------------------------------------------------------------


def sampled(*pairs: tuple[float, float], name: str = "x") -> Example:
    """Samples with (reward, quality)."""
    return example(*(answer(f"s{k}", scores={"rm": rm, "quality": q}) for k, (rm, q) in enumerate(pairs)), name=name)


def test_best_of_n_against_before_is_the_mean_over_all_sets() -> None:
    """Qualities by rising reward: 1, 5, 0. Against 1 and 4 they win ¼, 1 and 0.

    n = 1: 1.25/3. n = 2: of the three sets one picks the second, two the third: 1/3. n = 3: the third, 0.
    """
    before = [example(answer("a", 1.0), answer("b", 4.0))]
    samples = [sampled((3.0, 0.0), (1.0, 1.0), (2.0, 5.0))]
    options = BestOfNOptions(score="rm", n=(1, 2, 3))
    found = best_of_n_win_rates(before, samples, options, "quality", CONTEXT)
    rates = {n: evaluation.values["win_rate"]["es"]["x"] for n, evaluation in found.items()}
    assert rates == pytest.approx({1: 1.25 / 3, 2: 1 / 3, 3: 0.0})


scores = st.integers(-2, 2).map(float)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=5), st.lists(scores, min_size=1, max_size=3), st.data())
def test_it_is_the_win_rate_of_the_picked_over_all_sets(
    pairs: list[tuple[float, float]], opponents: list[float], data: st.DataObject
) -> None:
    """Held against the stage that serves the picked ones: every order of n of the samples, picked by best_of_n and
    judged by win_rates."""
    n = data.draw(st.integers(1, len(pairs)))
    before = [example(*(answer(f"b{k}", q) for k, q in enumerate(opponents)))]
    options = BestOfNOptions(score="rm", n=(n,), keep="picked")
    served = []
    for members in itertools.permutations(pairs, n):
        picked = list(choosing.best_of_n([sampled(*members)], options, CONTEXT))
        served.append(win_rates(before, picked, "quality").values["win_rate"]["es"]["x"])
    found = best_of_n_win_rates(before, [sampled(*pairs)], options, "quality", CONTEXT)
    assert found[n].values["win_rate"]["es"]["x"] == pytest.approx(np.mean(served))


def test_it_merges_with_the_curve() -> None:
    samples = [sampled((1.0, 1.0), (2.0, 0.0))]
    options = BestOfNOptions(score="rm", n=(1, 2), quality="quality")
    rates = best_of_n_win_rates([example(answer("a", 0.5))], samples, options, "quality", CONTEXT)
    curve = choosing.evaluations(samples, options, CONTEXT)
    rows = choosing.rows({n: curve[n].merge(rates[n]) for n in curve})["es"]
    assert [(row["n"], row["score"], row["quality"], row["win_rate"]) for row in rows] == [
        (1, 1.5, 0.5, 0.5),
        (2, 2.0, 0.0, 0.0),
    ]


def test_win_rates_ask_for_no_log_probabilities() -> None:
    """The options of a curve with its KL serve, though these samples have none."""
    options = BestOfNOptions(score="rm", n=(2,), policy_logprob="log_policy", reference_logprob="log_reference")
    samples = [sampled((1.0, 1.0), (2.0, 0.0))]
    [found] = best_of_n_win_rates([example(answer("a", 0.5))], samples, options, "quality", CONTEXT).values()
    assert found.values == {"win_rate": {"es": {"x": 0.0}}}


def test_prompts_and_languages_that_before_did_not_answer_are_left_out() -> None:
    english = [answer(f"e{k}", lang="en", scores={"rm": 1.0}) for k in range(2)]  # no judge's score, and none is asked
    both = example(*sampled((1.0, 1.0), (2.0, 2.0)).candidates, *english)
    samples = [both, sampled((0.0, 9.0), (1.0, 9.0), name="y")]
    options = BestOfNOptions(score="rm", n=(2,))
    [found] = best_of_n_win_rates([example(answer("a", 1.5))], samples, options, "quality", CONTEXT).values()
    assert found.values == {"win_rate": {"es": {"x": 1.0}}}


def test_only_the_samples_of_the_named_model_need_the_judge() -> None:
    mine = [answer(f"m{k}", model="sft", scores={"rm": float(k), "quality": float(k)}) for k in range(2)]
    samples = [example(*mine, answer("other", model="base", scores={}))]
    options = BestOfNOptions(score="rm", n=(2,), model="sft")
    [found] = best_of_n_win_rates([example(answer("a", 0.5))], samples, options, "quality", CONTEXT).values()
    assert found.values["win_rate"]["es"] == {"x": 1.0}


def test_a_language_without_a_judge_of_its_own_leaves_the_evaluation_empty() -> None:
    options = BestOfNOptions(score="rm", n=(1, 2))
    samples = [sampled((1.0, 1.0), (2.0, 0.0))]
    found = best_of_n_win_rates([example(answer("a", 0.5))], samples, options, {"en": "quality"}, CONTEXT)
    assert {n: evaluation.values for n, evaluation in found.items()} == {1: {}, 2: {}}


def test_samples_without_the_judges_score_are_refused() -> None:
    samples = [example(answer("s", scores={"rm": 1.0}))]
    options = BestOfNOptions(score="rm", n=(1,))
    with pytest.raises(InputError, match="'s' of example 'x' has no score 'quality'"):
        best_of_n_win_rates([example(answer("a", 0.5))], samples, options, "quality", CONTEXT)


def test_the_win_rates_are_what_they_were_under_this_version() -> None:
    noise = np.random.default_rng(0)

    def side() -> list[Example]:
        return [sampled(*np.round(noise.normal(size=(4, 2)), 1).tolist(), name=str(i)) for i in range(8)]

    before, after = side(), side()
    before[0].candidates[0].error = after[1].candidates[2].error = "no answer"
    curve = best_of_n_win_rates(before, after, BestOfNOptions(score="rm", n=(1, 3)), "quality", CONTEXT)
    made = [win_rates(before, after, "quality"), win_rates_by_comparer(before, after, Longest()), *curve.values()]
    told = [[f"{v:.9g}" for by in e.values.values() for v in by["es"].values()] for e in made]
    assert (stage.VERSION, digest(told)[:16]) == (1, "af4bc21863649dbd")
