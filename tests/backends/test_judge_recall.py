"""What a judge has said is kept order by order as it comes, and not asked again."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import Any

import pytest
from judged_answers import Says, comparison, judged, served, token
from scripted_server import Reply, ScriptedServer

from polypref.backends.base import Comparison, Completion, ModelSpec, Request, Usage, Verdict
from polypref.backends.judge import NumberJudge, PairJudge
from polypref.backends.judging import NumberSettings, PairSettings
from polypref.errors import InputError, ModelError


class Kept(dict[str, Any]):
    """A ``Recall`` that holds JSON."""

    def put(self, key: str, value: Any) -> None:
        assert key not in self
        self[key] = json.loads(json.dumps(value))


def test_what_was_answered_is_not_asked_again_and_costs_nothing() -> None:
    says = Says(lambda request, k: token("A", usage=Usage(300, 1), A=0.9, B=0.1))
    judge, kept = PairJudge(says, PairSettings()), Kept()
    asked = [comparison("a", "b"), comparison("c", "d", "q2")]
    before = judge.compare(asked[:1], kept)
    after = judge.compare(asked, kept)
    assert [request.id for request in says.requests] == ["q1/order-1", "q1/order-2", "q2/order-1", "q2/order-2"]
    assert after[0] == dataclasses.replace(before[0], usage=Usage())
    assert after[1].usage == Usage(600, 2)
    assert list(kept) == [judge.key(request) for one in asked for request in judge.requests(one)]


def test_an_answer_is_kept_by_order() -> None:
    """The second order failed on its way, so it alone is asked again."""
    broken = [True]

    def say(request: Request, k: int) -> Completion:
        failed = request.id.endswith("order-2") and broken[0]
        return Completion("", error="server answered 500 after 5 tries") if failed else token("A", A=0.9, B=0.1)

    says, kept = Says(say), Kept()
    judge = PairJudge(says, PairSettings())
    [half] = judge.compare([comparison("a", "b")], kept)
    assert (half.orders, half.error) == (
        (pytest.approx(0.9), None),
        "with the answers swapped: server answered 500 after 5 tries",
    )
    broken[0] = False
    [whole] = judge.compare([comparison("a", "b")], kept)
    assert whole.orders == pytest.approx((0.9, 0.1))
    assert [request.id for request in says.requests] == ["q1/order-1", "q1/order-2", "q1/order-2"]


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        (Completion("no idea"), True),
        (Completion("A", finish_reason="length"), True),
        (Completion("", error="server answered 400: too long", too_long=True), True),
        (Completion("", error='finish_reason "content_filter"'), False),
    ],
)
def test_words_without_a_verdict_are_kept_and_failures_are_not(said: Completion, stays: bool) -> None:
    says, kept = Says(lambda request, k: said), Kept()
    judge = PairJudge(says, PairSettings())
    once, again = (judge.compare([comparison("a", "b")], kept) for _ in range(2))
    assert once == again
    assert len(says.requests) == (2 if stays else 4)


def test_another_question_or_another_judge_finds_nothing() -> None:
    says, kept = Says(lambda request, k: token("A")), Kept()
    for settings in (
        PairSettings(),
        PairSettings(read="logprobs"),
        PairSettings(temperature=0.5),
        PairSettings(read="verdict"),
    ):
        PairJudge(says, settings).compare([comparison("a", "b")], kept)
    PairJudge(says, PairSettings()).compare([comparison("a", "other")], kept)
    assert len(says.requests) == 10


def test_the_key_is_of_what_is_asked_and_of_whom_alone() -> None:
    """The comparison's name has no part in it; the texts, their order, the prompt and the model have."""
    settings = PairSettings(read="verdict")

    def keys(asked: Comparison, settings: PairSettings = settings, **spec: Any) -> set[str]:
        judge = PairJudge(served("http://localhost:1/v1"), settings, ModelSpec(path="judge", backend="openai", **spec))
        return {judge.key(request) for request in judge.requests(asked)}

    plain = comparison("a", "b")
    known = keys(plain)
    assert len(known) == 2
    assert keys(comparison("a", "b", "q2"), PairSettings(prompt="pair-1")) == known
    assert keys(comparison("b", "a")) == known, "the orders the other way round"
    assert keys(plain, price=(1.0, 2.0), concurrency=3, timeout=9.0) == known
    others = [
        keys(comparison("a", "c")),
        keys(Comparison("q1", "es", plain.messages, "a", "b")),
        keys(Comparison("q1", "en", [{"role": "user", "content": "Why?"}], "a", "b")),
        keys(plain, PairSettings(read="verdict", max_tokens=9)),
        keys(plain, PairSettings(read="verdict", temperature=None)),
        keys(plain, PairSettings(top_logprobs=5)),
        keys(plain, PairSettings(top_logprobs=6)),
        keys(plain, chat_template_kwargs={"enable_thinking": False}),
    ]
    assert len(set.union(known, *others)) == 2 * (len(others) + 1)


def test_what_asks_the_same_is_asked_once_and_gets_one_answer() -> None:
    """Three comparisons of the same two texts, the last the other way round: two requests, told to all three."""
    said = iter("AB")
    says, kept = Says(lambda request, k: token(next(said), usage=Usage(300, 1))), Kept()
    judge = PairJudge(says, PairSettings(temperature=1.0))
    asked = [comparison("a", "b", "q1"), comparison("a", "b", "q2"), comparison("b", "a", "q3")]
    once = judge.compare(asked, kept)
    assert [request.id for request in says.requests] == ["q1/order-1", "q1/order-2"]
    assert [verdict.preference for verdict in once] == [1.0, 1.0, 0.0]
    assert [verdict.usage for verdict in once] == [Usage(600, 2), Usage(), Usage()]
    again = judge.compare(asked, kept)
    assert [verdict.preference for verdict in again] == [1.0, 1.0, 0.0]
    assert len(says.requests) == 2


def test_what_asks_the_same_as_a_request_that_fails_has_its_reason() -> None:
    says, kept = Says(lambda request, k: Completion("", error="server answered 500")), Kept()
    judge = PairJudge(says, PairSettings())
    found = judge.compare([comparison("a", "b", "q1"), comparison("a", "b", "q2")], kept)
    assert [verdict.error for verdict in found] == [
        "server answered 500; with the answers swapped: server answered 500"
    ] * 2
    assert (len(says.requests), kept) == (2, {})


def test_something_else_under_a_key_is_told() -> None:
    judge, kept = PairJudge(Says(lambda request, k: token("A")), PairSettings()), Kept()
    kept.put(judge.key(judge.requests(comparison("a", "b"))[0]), {"answer": "A"})
    with pytest.raises(InputError, match="not what a judge keeps; move the file that holds it away"):
        judge.compare([comparison("a", "b")], kept)


def test_ratings_are_kept_as_well() -> None:
    says, kept = Says(lambda request, k: Completion("[[7]]", usage=Usage(9, 4))), Kept()
    judge = NumberJudge(says, NumberSettings(samples=2, temperature=1.0))
    once, again = (judge.rate([judged("42")], kept)[0] for _ in range(2))
    assert (once.value, once.usage, again.value, again.usage) == (7.0, Usage(18, 8), 7.0, Usage())
    assert len(says.requests) == 1


def test_every_verdict_is_told_once_as_it_comes() -> None:
    """The second comparison is answered while the first still waits; what is told is what is returned."""
    second = threading.Event()

    def script(body: dict[str, Any]) -> Reply:
        if "\nslow\n" in body["messages"][-1]["content"]:
            assert second.wait(30)
        return Reply.texts("A")

    told: list[tuple[int, Verdict]] = []

    def each(index: int, verdict: Verdict) -> None:
        told.append((index, verdict))
        if index == 1:
            second.set()

    kept = Kept()
    with ScriptedServer(script) as server:
        judge = PairJudge(served(server.url), PairSettings())
        asked = [comparison("slow", "b"), comparison("c", "d", "q2")]
        verdicts = judge.compare(asked, kept, each)
        assert told == [(1, verdicts[1]), (0, verdicts[0])]
        told.clear()
        assert judge.compare(asked, kept, each) == verdicts
        assert told == list(enumerate(verdicts))
        assert len(server.bodies) == 4


def test_a_generator_that_tells_all_in_the_end_has_its_verdicts_told_then() -> None:
    told: list[int] = []
    judge = PairJudge(Says(lambda request, k: token("A")), PairSettings())
    judge.compare([comparison("a", "b"), comparison("c", "d", "q2")], each=lambda index, verdict: told.append(index))
    assert told == [0, 1]


def test_what_came_before_the_server_went_away_is_kept() -> None:
    """After three answers the key is refused, which stops the judge; the three are not asked for again."""
    open_for = [3]

    def script(body: dict[str, Any]) -> Reply:
        open_for[0] -= 1
        return Reply.texts("A") if open_for[0] >= 0 else Reply(401)

    kept = Kept()
    asked = [comparison(f"a{k}", "b", str(k)) for k in range(4)]
    with ScriptedServer(script) as server:
        judge = PairJudge(served(server.url, concurrency=1), PairSettings())
        with pytest.raises(ModelError, match="does not accept the key"):
            judge.compare(asked, kept)
        assert len(kept) == 3
        open_for[0] = 100
        server.bodies.clear()
        verdicts = judge.compare(asked, kept)
        assert len(server.bodies) == 5
    assert [verdict.preference for verdict in verdicts] == [0.5] * 4
