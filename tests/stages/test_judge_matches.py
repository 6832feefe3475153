"""Matches before a judge: one judgment each, in order, and an account of what it took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref import registry
from polypref.backends.base import Comparison, Context, Each, Judged, Recall, Usage, Verdict
from polypref.backends.scorer_comparer import ScorerComparer
from polypref.stages import judge_matches as stage
from polypref.stages.judge_matches import JudgeOptions, Spent, judge_matches
from polypref.stages.judgments import Judgment
from polypref.stages.matches import Match
from polypref.store.journal import Journal

ASKED = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Name a river."},
]
OPTIONS = JudgeOptions.model_validate(
    {"name": "longer", "judge": {"scorer": "pair_judge", "model": {"path": "m", "price": [2.0, 10.0]}}}
)


def match(name: str, mine: str | None, its: str | None, lang: str = "es", **rest: Any) -> Match:
    return Match(name, lang, ASKED, rest.pop("model", "ours"), "theirs", mine, its, **rest)


class Longer:
    """Prefers the longer answer; says nothing of one that holds a question mark. An order is 10 tokens and 1."""

    fingerprint = "longer"
    max_tokens = 1

    def __init__(self) -> None:
        self.batches: list[list[Comparison]] = []

    def compare(
        self, comparisons: Sequence[Comparison], recall: Recall | None = None, each: Each | None = None
    ) -> list[Verdict]:
        self.batches.append(list(comparisons))
        verdicts = [self.verdict(comparison, recall) for comparison in comparisons]
        for index in reversed(range(len(verdicts))):  # in any order but that of the comparisons
            if each is not None:
                each(index, verdicts[index])
        return verdicts

    def verdict(self, asked: Comparison, recall: Recall | None) -> Verdict:
        usage = Usage()
        for order in ("straight", "swapped"):
            key = json.dumps([asked.first, asked.second, order])
            if recall is None or recall.get(key) is None:
                usage += Usage(10, 1)
                if recall is not None and "?" not in asked.first + asked.second:
                    recall.put(key, order)
        if "?" in asked.first + asked.second:
            return Verdict(None, error="the judge said nothing", usage=usage)
        won = float(len(asked.first) > len(asked.second))
        return Verdict(won, False, orders=(won, won), said=("I see", "I see"), usage=usage)


def judged(matches: Sequence[Match], judge: Any, **rest: Any) -> list[Judgment]:
    return list(judge_matches(matches, OPTIONS, Context(open=lambda role, spec: judge), **rest))


def test_a_judgment_holds_what_was_said_and_what_it_is_about() -> None:
    """Lengths are code points: the flag is two, the é one."""
    [found] = judged([match("x", "é🇪🇸ab", "no", category="maps", difficulty=0.5)], Longer())
    assert found == Judgment(
        "x", "es", 1.0, 5, 2, 0.5, model="ours", baseline="theirs", judge="longer", orders=(1.0, 1.0), flipped=False,
        category="maps", prompt="Name a river.", model_answer="é🇪🇸ab", baseline_answer="no", said=("I see", "I see"),
    )  # fmt: skip


def test_who_has_failed_loses_and_equal_answers_tie_without_a_judge() -> None:
    judge = Longer()
    met = [match("a", None, "ok"), match("b", "ok", None), match("c", None, None), match("d", "same", "same")]
    found = judged(met, judge)
    assert [one.preference for one in found] == [0.0, 1.0, 0.5, 0.5]
    assert [(one.orders, one.flipped, one.error) for one in found] == [(None, None, None)] * 4
    assert [(one.model_length, one.baseline_length) for one in found] == [(0, 2), (2, 0), (0, 0), (4, 4)]
    assert [one.failed for one in found] == ["model", "baseline", "both", None]
    assert judge.batches == []


def test_an_empty_answer_is_an_answer() -> None:
    found = judged([match("a", "", "ok"), match("b", "", None)], Longer())
    assert [(one.preference, one.failed) for one in found] == [(0.0, None), (1.0, "baseline")]


def test_a_judge_that_says_nothing_leaves_the_reason() -> None:
    [found] = judged([match("a", "really?", "ok")], Longer())
    assert (found.preference, found.error, found.orders) == (None, "the judge said nothing", None)


answers = st.sampled_from([None, "", "a", "bb", "ccc", "really?"])


@given(answers=st.lists(st.tuples(answers, answers), max_size=12), size=st.integers(1, 5))
def test_every_match_has_one_judgment_in_its_place_however_batches_are_cut(
    answers: list[tuple[str | None, str | None]], size: int
) -> None:
    met = [match(str(number), *pair) for number, pair in enumerate(answers)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "BATCH", size)
        judge = Longer()
        found = judged(met, judge)
    assert [(one.id, one.model_answer, one.baseline_answer) for one in found] == [
        (one.id, one.model_answer, one.baseline_answer) for one in met
    ]
    asked = [question for batch in judge.batches for question in batch]
    assert len(asked) == sum(None not in pair and pair[0] != pair[1] for pair in answers)
    assert len({question.id for question in asked}) == len(asked)


def test_the_judge_is_asked_what_the_match_holds() -> None:
    judge = Longer()
    judged([match("a", "mine", "its", gold={"right": "its"}, category="maps")], judge)
    [[asked]] = judge.batches
    assert (asked.lang, asked.messages, asked.first, asked.second) == ("es", ASKED, "mine", "its")
    assert (asked.gold, asked.category) == ({"right": "its"}, "maps")


def test_a_comparisons_id_is_made_of_the_match_and_not_of_its_place() -> None:
    """A request's noise comes from its id. Two answers of one model to one prompt are two comparisons."""
    judge = Longer()
    met = [match("a", "1", "22"), match("a", "1", "22", model="other"), match("a", "333", "22")]
    judged(met, judge)
    judged(met[1:], judge)
    first, second = [[question.id for question in batch] for batch in judge.batches]
    assert first == ['["a", "es", "ours", "theirs", 1]', '["a", "es", "other", "theirs", 1]',
                     '["a", "es", "ours", "theirs", 2]']  # fmt: skip
    assert second[0] == first[1]


def test_what_it_took_is_counted_while_it_runs() -> None:
    """Three are asked, two orders each: 60 tokens at 2 and 6 at 10 a million are 0.00018."""
    shown: list[tuple[int, int]] = []
    bars: list[tuple[str, int, int | None]] = []
    context = Context(open=lambda role, spec: Longer(), progress=lambda *told: bars.append(told))
    met = [match("a", "1", "22"), match("b", "1", "1"), match("c", "?", "22"), match("d", "333", "22")]
    run = judge_matches(met, OPTIONS, context, shown=lambda spent: shown.append((spent.matches, spent.usage.asked)))
    assert len(list(run)) == 4
    assert shown == [(1, 0), (2, 20), (3, 40), (4, 60)]
    assert bars == [("judged by longer", done, 4) for done in (1, 2, 3, 4)]
    spent = run.spent
    assert (spent.matches, spent.unasked, spent.failed, spent.requests, spent.recalled) == (4, 1, 1, 4, 0)
    assert spent.usage == Usage(60, 6)
    assert spent.cost == pytest.approx(0.00018)
    assert spent.told() == "4 requests, 60 + 6 tokens, cost 0.00, 1 without a verdict"


def test_without_a_price_there_is_no_cost() -> None:
    spent = Spent(usage=Usage(1_000_000, 5), requests=1200, recalled=3)
    assert spent.cost is None
    assert spent.told() == "1,200 requests, 3 recalled, 1,000,000 + 5 tokens"
    assert spent.to_json()["cost"] is None


def test_a_second_run_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    met = [match("a", "1", "22"), match("b", "333", "22"), match("c", "?", "22")]
    runs = []
    for asked in (met[:1], met, met):
        with Journal(tmp_path / "journal.jsonl") as journal:
            run = judge_matches(asked, OPTIONS, Context(open=lambda role, spec: Longer()), journal)
            runs.append((list(run), run.spent))
    (_, first), (second_told, second), (third_told, third) = runs
    assert [(spent.requests, spent.recalled) for spent in (first, second, third)] == [(2, 0), (2, 2), (0, 4)]
    assert [spent.usage for spent in (first, second, third)] == [Usage(20, 2), Usage(40, 4), Usage(20, 2)]
    assert second_told == third_told


def test_matches_may_come_one_by_one() -> None:
    bars: list[tuple[str, int, int | None]] = []
    context = Context(open=lambda role, spec: Longer(), progress=lambda *told: bars.append(told))
    met = (match(name, "1", "22") for name in "abc")
    assert [one.id for one in judge_matches(met, OPTIONS, context)] == ["a", "b", "c"]
    assert bars[-1] == ("judged by longer", 3, None)


def test_a_scorer_stands_in_the_judges_place_and_is_not_counted() -> None:
    class Length:
        fingerprint = "length"

        def score(self, answers: Sequence[Judged]) -> list[float | None]:
            return [None if "?" in answer.text else float(len(answer.text)) for answer in answers]

    context = Context(open=lambda role, spec: ScorerComparer(Length()))
    met = [match("a", "333", "22"), match("b", "22", "11"), match("c", "?", "22")]
    run = judge_matches(met, OPTIONS, context)
    assert [(one.preference, one.flipped, one.error) for one in run] == [
        (1.0, False, None), (0.5, False, None), (None, None, "no score for the first answer"),
    ]  # fmt: skip
    assert (run.spent.requests, run.spent.usage) == (0, Usage())


def test_a_judge_of_pairs_on_a_fake_model_through_the_registry(tmp_path: Path) -> None:
    """The real way: the same answers in the other places get the opposite verdict, and the journal knows them all."""
    options = JudgeOptions.model_validate(
        {"name": "fake", "judge": {"scorer": "pair_judge", "model": {"path": "fake?judges=1", "backend": "fake"}}}
    )
    context, opener = registry.context()
    met = [match(str(number), f"answer {number}", f"other {number}") for number in range(20)]
    swapped = [match(str(number), f"other {number}", f"answer {number}") for number in range(20)]
    try:
        with Journal(tmp_path / "journal.jsonl") as journal:
            first, second = judge_matches(met, options, context, journal), judge_matches(swapped, options, context)
            forth, back = [one.preference for one in first], [one.preference for one in second]
            again = judge_matches(met, options, context, journal)
            assert [one.preference for one in again] == forth
    finally:
        opener.close()
    assert set(forth) == {0.0, 1.0}
    assert back == [1.0 - preference for preference in forth if preference is not None]
    assert (first.spent.requests, again.spent.requests, again.spent.recalled) == (40, 0, 40)
