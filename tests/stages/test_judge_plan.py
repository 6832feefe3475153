"""A dry run: what judging would ask, in requests, tokens and cost, without asking."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from polypref import registry
from polypref.backends.base import Comparison, Context, Each, Recall, Request, ScorerSpec, Verdict
from polypref.stages.judge_matches import JudgeOptions, judge_matches
from polypref.stages.judge_plan import Planned, estimate, plan
from polypref.stages.matches import Match
from polypref.store.journal import Journal
from servers import alphabet_model

ON_A_SERVER = {"path": "judge", "backend": "openai", "url": "http://127.0.0.1:9/v1", "price": [2.0, 10.0]}


def options(scorer: str = "pair_judge", model: dict[str, Any] | None = None, **settings: Any) -> JudgeOptions:
    spec = {"scorer": scorer, "model": ON_A_SERVER if model is None else model, "settings": settings}
    return JudgeOptions.model_validate({"name": "judge", "judge": spec})


def match(name: str, mine: str | None, its: str | None, lang: str = "en") -> Match:
    return Match(name, lang, [{"role": "user", "content": "Go on."}], "ours", "theirs", mine, its)


class Bare:
    """A judge whose question is the two answers and nothing else."""

    fingerprint = "bare"
    max_tokens = 20

    def requests(self, asked: Comparison) -> tuple[Request, Request]:
        orders = (asked.first + asked.second, asked.second + asked.first)
        first, second = (Request(text, [{"role": "user", "content": text}]) for text in orders)
        return first, second

    def key(self, request: Request) -> str:
        return request.id

    def compare(
        self, comparisons: Sequence[Comparison], recall: Recall | None = None, each: Each | None = None
    ) -> list[Verdict]:
        raise AssertionError("a dry run asks nobody")


BARE = Context(open=lambda role, spec: Bare())


def test_requests_tokens_and_costs_by_language() -> None:
    """Questions of 100 English letters are 22 tokens, of 10 Chinese ones 7; every order is one, 2 + 2 and 2. An answer
    is at most 20 tokens. In English: 88 tokens asked at 2 a million and 80 answered at 10 cost 0.000976."""
    met = [
        match("a", "a" * 40, "b" * 60),
        match("b", "c" * 40, "d" * 60),
        match("c", "same", "same"),
        match("d", None, "there"),
        match("e", "长江黄河淮", "珠江黑龙江", "zh"),
    ]
    found = plan(met, options(), BARE)
    english, chinese = found.by_language["en"], found.by_language["zh"]
    assert english == Planned(4, 2, 4, 0, 88, 80, 80, pytest.approx(0.000976), pytest.approx(0.000976))
    assert chinese == Planned(1, 0, 2, 0, 14, 40, 40, pytest.approx(0.000428), pytest.approx(0.000428))
    assert found.total == Planned(5, 2, 6, 0, 102, 120, 120, pytest.approx(0.001404), pytest.approx(0.001404))
    assert (found.counted, found.expected) == ("estimated by characters", "20 an answer, a guess")


def test_what_was_answered_is_left_out_and_sets_the_estimates_right(tmp_path: Path) -> None:
    """One order of 100 letters was kept: 33 tokens where 22 were reckoned, and 5 answered. So the three orders that are
    left are 99 and 15."""
    met = [match("a", "a" * 40, "b" * 60), match("b", "c" * 40, "d" * 60)]
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.put("a" * 40 + "b" * 60, [{"text": "[[A]]", "finish_reason": "stop", "usage": [33, 5]}])
        found = plan(met, options(), BARE, journal).total
        assert (found.requests, found.recalled) == (3, 1)
        assert (found.tokens_asked, found.tokens_answered, found.tokens_answered_at_most) == (99, 15, 60)
        assert plan(met, options(), BARE, journal).expected == "as the server counted 1 requests"


def test_what_asks_the_same_is_reckoned_once() -> None:
    """Two models gave the same answer to one prompt, and a third meets both."""
    met = [match("a", "a" * 40, "b" * 60), dataclasses.replace(match("a", "a" * 40, "b" * 60), model="other")]
    found = plan(met, options(), BARE).total
    assert (found.matches, found.requests, found.tokens_asked) == (2, 2, 44)


def test_an_answer_that_the_server_did_not_count_sets_nothing_right(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.put("a" * 40 + "b" * 60, [{"text": "[[A]]", "finish_reason": "stop"}])
        found = plan([match("a", "a" * 40, "b" * 60)], options(), BARE, journal)
    assert (found.total.requests, found.total.recalled, found.total.tokens_asked) == (1, 1, 22)
    assert found.counted == "estimated by characters"


def test_a_language_is_reckoned_by_its_letters() -> None:
    """Tokens a character: English .22, else Latin .27, Cyrillic .30, Han .70; half and half is the mean."""

    def tokens(text: str, lang: str) -> int:
        return estimate([{"role": "user", "content": text}], lang)

    assert [tokens("a" * 100, "en"), tokens("a" * 100, "es"), tokens("я" * 100, "ru")] == [22, 27, 30]
    assert tokens("水" * 50 + "a" * 50, "zh") == 48
    assert tokens("a" * 50 + " " * 50, "en-GB") == 22  # spaces and marks count as the letters about them
    assert (tokens("", "en"), tokens("123", "en")) == (0, 3)


def test_a_judges_own_question_is_counted_whole() -> None:
    """The prompt of the real judge, at a server that is not there: no request leaves."""
    context, opener = registry.context()
    try:
        found = plan([match("a", "x" * 400, "y" * 400)], options(read="verdict", max_tokens=300), context).total
    finally:
        opener.close()
    assert found.requests == 2
    assert 2 * 0.22 * 800 < found.tokens_asked < 2 * 0.22 * 3500
    assert (found.tokens_answered, found.tokens_answered_at_most) == (300, 600)


def test_a_model_whose_folder_is_here_is_counted_by_its_tokenizer(tmp_path: Path) -> None:
    """That tokenizer knows the letters a to z, one token each, and drops all else; its template adds nothing."""
    alphabet_model(tmp_path / "alphabet")
    model = ON_A_SERVER | {"path": str(tmp_path / "alphabet")}
    found = plan([match("a", "abc De", "xyz!")], options(model=model), BARE)
    assert (found.total.tokens_asked, found.counted) == (2 * 7, "by the model's tokenizer")


def test_what_is_planned_is_what_is_asked(tmp_path: Path) -> None:
    """The requests that a run of the real judge makes, before it, in its middle and after it."""
    judge = options(model={"path": "fake?judges=1", "backend": "fake"})
    context, opener = registry.context()
    met = [match(str(number), f"answer {number}", f"other {number}") for number in range(10)]
    planned, asked = [], []
    try:
        for count in (4, 10, 10):
            with Journal(tmp_path / "journal.jsonl") as journal:
                foreseen = plan(met[:count], judge, context, journal).total
                planned.append((foreseen.requests, foreseen.recalled))
                run = judge_matches(met[:count], judge, context, journal)
                list(run)
                asked.append((run.spent.requests, run.spent.recalled))
    finally:
        opener.close()
    assert planned == asked == [(8, 0), (12, 8), (0, 20)]


@pytest.mark.parametrize("spec", [{"scorer": "oracle"}, {"scorer": "reward_model", "model": "some/model"}])
def test_a_scorer_is_not_opened_and_takes_no_request(spec: dict[str, Any]) -> None:
    def never(role: str, spec: ScorerSpec) -> Any:
        raise AssertionError("a dry run opens no model")

    judge = JudgeOptions.model_validate({"name": "judge", "judge": spec})
    found = plan([match("a", "1", "22"), match("b", "1", "1")], judge, Context(open=never)).total
    assert (found.matches, found.unasked, found.requests, found.tokens_asked, found.cost) == (2, 1, 0, 0, None)


def test_a_judge_on_a_server_that_gives_numbers_is_said_not_to_be_planned() -> None:
    said: list[str] = []
    context, opener = registry.context(warn=said.append)
    try:
        assert plan([match("a", "1", "22")], options("judge"), context).total.requests == 0
    finally:
        opener.close()
    assert said == ["what judge will ask is not planned: judge is no judge of pairs"]


def test_it_is_told_to_people_and_to_machines() -> None:
    found = plan([match("a", "a" * 40, "b" * 60), match("c", "same", "same")], options(), BARE)
    assert found.told() == (
        "judge: 2 matches, 1 of them need no judge. 2 requests to ask, 0 were answered before. About 44 tokens asked "
        "(estimated by characters) and 40 answered (20 an answer, a guess), at most 40. Cost about 0.00, at most 0.00."
    )
    told = json.loads(json.dumps(found.to_json()))
    assert told["judge"] == "judge"
    assert told["total"] == told["by_language"]["en"]
    assert (told["total"]["requests"], told["total"]["tokens_answered_at_most"]) == (2, 40)
    unasked = plan([match("c", "same", "same")], options(), BARE)
    assert unasked.told() == "judge: 1 matches, 1 of them need no judge. 0 requests to ask, 0 were answered before."
