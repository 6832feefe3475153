"""OpenAIGenerator against a scripted server: what is sent, what comes back, what is tried again and what stops."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from scripted_server import Reply, ScriptedServer

from polypref.backends.asking import StreamingGenerator
from polypref.backends.base import Completion, Generator, ModelSpec, Request, Sampling, Usage
from polypref.backends.openai import OpenAIGenerator, Waits, api_key, base_url, proxy_for
from polypref.backends.openai_wire import (
    Failed,
    Refused,
    read_completions,
    retry_after,
    sample_seed,
    server_message,
)
from polypref.errors import ModelError

KEY = "sk-very-secret-0123456789"
GOOD = Reply.texts("good")
NO_WAITS = Waits(first=0.0, longest=0.0, jitter=0.0, longest_asked=0.0)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def generator(url: str, **spec: Any) -> OpenAIGenerator:
    return OpenAIGenerator(ModelSpec(path="tiny", backend="openai", url=url, **{"attempts": 3, **spec}), NO_WAITS)


def request(text: str = "Hi", id: str | None = None) -> Request:
    return Request(id or f"0/policy/{text}/en", [{"role": "user", "content": text}])


def ask(server: ScriptedServer, *texts: str, sampling: Sampling | None = None, **spec: Any) -> list[list[Completion]]:
    return generator(server.url, **spec).generate([request(t) for t in texts or ["Hi"]], sampling or Sampling())


def echo(body: dict[str, Any]) -> Reply:
    """Every choice repeats the prompt, with its number."""
    prompt = body["messages"][-1]["content"]
    return Reply.texts(*(f"{prompt}/{k}" for k in range(body.get("n", 1))))


# --- what is sent --------------------------------------------------------------------------------------------------


def test_it_is_a_generator() -> None:
    assert isinstance(generator("http://127.0.0.1:1/v1"), Generator)


def test_only_what_the_user_set_is_sent() -> None:
    with ScriptedServer(echo) as server:
        ask(server)
    assert server.paths == ["/v1/chat/completions"]
    [body] = server.bodies
    assert body.pop("seed") == sample_seed(0, "0/policy/Hi/en", 0)
    assert body == {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 512}


def test_every_field_that_the_user_set_is_sent() -> None:
    sampling = Sampling(
        n=2, temperature=0.0, top_p=0.9, top_k=5, repetition_penalty=1.1, max_tokens=7, stop=("\n", "##"), seed=3
    )
    with ScriptedServer(echo) as server:
        ask(server, sampling=sampling, chat_template_kwargs={"enable_thinking": False})
    [body] = server.bodies
    del body["messages"], body["model"], body["seed"]
    assert body == {
        "n": 2,
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 5,
        "repetition_penalty": 1.1,
        "max_tokens": 7,
        "stop": ["\n", "##"],
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_messages_go_as_role_and_content_without_our_own_keys() -> None:
    messages = [{"role": "system", "content": "Be brief.", "note": 1}, {"role": "user", "content": "¿Qué?"}]
    with ScriptedServer(echo) as server:
        generator(server.url).generate([Request("a", messages)], Sampling())
    assert server.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "¿Qué?"},
    ]


def test_what_opens_the_turn_is_a_last_message_to_be_gone_on_from() -> None:
    with ScriptedServer(echo) as server:
        generator(server.url).generate([Request("a", [{"role": "user", "content": "Hi"}], prefill="<x>")], Sampling())
    [body] = server.bodies
    assert body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<x>"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_seeds_depend_on_seed_request_and_call_alone() -> None:
    seeds = [sample_seed(s, i, r) for s in (0, 1) for i in ("a", "b") for r in (0, 1)]
    assert len(set(seeds)) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds == [sample_seed(s, i, r) for s in (0, 1) for i in ("a", "b") for r in (0, 1)]

    def sent(*texts: str) -> dict[str, int]:
        with ScriptedServer(echo) as server:
            ask(server, *texts)
        return dict(zip(server.prompts(), (b["seed"] for b in server.bodies), strict=True))

    assert sent("a", "b", "c")["b"] == sent("b")["b"]


# --- what comes back -----------------------------------------------------------------------------------------------


def test_answers_stand_in_the_order_of_the_requests_whatever_comes_first() -> None:
    """The first request is answered only after the last one."""
    last = threading.Event()

    def script(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if prompt == "first":
            assert last.wait(30)
        if prompt == "last":
            last.set()
        return echo(body)

    with ScriptedServer(script) as server:
        found = ask(server, "first", "second", "last", sampling=Sampling(n=2))
    assert [[c.text for c in one] for one in found] == [[f"{t}/0", f"{t}/1"] for t in ("first", "second", "last")]


def test_no_request_asks_nothing() -> None:
    assert generator("http://127.0.0.1:1/v1").generate([], Sampling()) == []


@pytest.mark.parametrize(
    ("said", "kept"), [("stop", "stop"), ("length", "length"), (None, None), ("eos_token", "stop")]
)
def test_a_finish_reason_that_is_known_is_kept(said: str | None, kept: str | None) -> None:
    with ScriptedServer(Reply.texts("Yes.", finish_reason=said)) as server:
        assert ask(server) == [[Completion("Yes.", finish_reason=kept)]]


def test_a_stop_string_that_the_server_left_in_the_text_is_cut_off_there() -> None:
    """transformers serve leaves it; a server that ignores ``stop`` says length. Without stop strings nothing is cut."""
    with ScriptedServer(Reply.texts("one## two\nthree", "four", finish_reason="length")) as server:
        [found] = ask(server, sampling=Sampling(n=2, stop=("\n", "##")))
        [whole] = ask(server, sampling=Sampling(n=2))
    assert found == [Completion("one"), Completion("four", finish_reason="length")]
    assert whole[0].text == "one## two\nthree"


@pytest.mark.parametrize("said", ["content_filter", "tool_calls", "abort", 7])
def test_another_finish_reason_is_an_error_that_names_it(said: Any) -> None:
    with ScriptedServer(Reply.texts("Yes.", finish_reason=said)) as server:
        [[completion]] = ask(server)
    assert (completion.text, completion.finish_reason) == ("", None)
    assert completion.error == f"finish_reason {json.dumps(said)}"


@pytest.mark.parametrize("content", [None, [{"type": "text", "text": "Yes."}]])
def test_no_text_is_an_error_and_an_empty_text_is_none(content: Any) -> None:
    with ScriptedServer(Reply.texts(content, "")) as server:
        [[without, empty]] = ask(server, sampling=Sampling(n=2))
    assert (without.error, without.text) == ("the server gave no text", "")
    assert (empty.error, empty.text) == (None, "")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_beside_the_text_is_kept_apart(field: str) -> None:
    with ScriptedServer(Reply.texts("4", **{field: "two and two"})) as server:
        assert ask(server) == [[Completion("4", thinking="two and two")]]


def test_reasoning_inside_the_text_is_taken_out() -> None:
    with ScriptedServer(Reply.texts("<think>two and two</think>\n\n4", reasoning_content=None)) as server:
        assert ask(server) == [[Completion("4", thinking="two and two")]]


def test_an_answer_that_ran_out_of_tokens_while_thinking_is_cut_off_and_not_failed() -> None:
    with ScriptedServer(Reply.texts(None, finish_reason="length", reasoning_content="two and")) as server:
        assert ask(server) == [[Completion("", finish_reason="length", thinking="two and")]]


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    """JSON can say \\ud83d alone; a Parquet or UTF-8 file could not hold it. A whole pair is the one character."""
    body = b'{"choices": [{"message": {"content": "a\\ud83d b \\ud83d\\ude00"}, "finish_reason": "stop"}]}'
    assert read_completions(body)[0].text == "a\ufffd b \U0001f600"


# --- tokens and log-probabilities ----------------------------------------------------------------------------------


def first_token(text: str, *top: tuple[Any, Any], chosen: tuple[Any, Any] = ("A", -0.2), **usage: Any) -> Reply:
    """A completion with the log-probabilities of its first token, as OpenAI's servers give them."""
    told = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in (*top, chosen)]
    place = {**told[-1], "top_logprobs": told[:-1]}
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    later = {"token": "!", "logprob": -9.0, "top_logprobs": []}
    return Reply(body={"choices": [choice | {"logprobs": {"content": [place, later]}}]} | usage)


def asked_for_logprobs(url: str, count: int = 1, **spec: Any) -> list[Completion]:
    asked = [Request(str(k), [{"role": "user", "content": f"Hi {k}"}], top_logprobs=5) for k in range(count)]
    return [completion for [completion] in generator(url, **spec).generate(asked, Sampling(max_tokens=1))]


def test_log_probabilities_are_asked_for_and_told_of_the_first_token() -> None:
    with ScriptedServer(first_token("A", ("A", -0.2), (" B", -1.8), ("The", -9999.0))) as server:
        [completion] = asked_for_logprobs(server.url)
    assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 5)
    assert completion == Completion("A", first_token={"A": -0.2, " B": -1.8, "The": -9999.0})


def test_the_chosen_token_is_told_also_where_it_is_not_among_the_likeliest() -> None:
    with ScriptedServer(first_token("C", ("A", -0.2), chosen=("C", -4.0))) as server:
        assert asked_for_logprobs(server.url)[0].first_token == {"A": -0.2, "C": -4.0}
    with ScriptedServer(first_token("C", chosen=("C", 0.0))) as server:
        assert asked_for_logprobs(server.url)[0].first_token == {"C": 0.0}


def test_a_token_that_cannot_stand_there_is_left_out() -> None:
    """Python's servers write log 0 as -Infinity, which no file of JSON can hold."""
    with ScriptedServer(first_token("A", ("A", -0.2), ("B", -math.inf))) as server:
        assert asked_for_logprobs(server.url)[0].first_token == {"A": -0.2}


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"content": None},
        {"content": []},
        {"content": [None]},
        {"content": [{"token": "A"}]},
        {"content": [{"token": "A", "logprob": "much"}]},
        {"content": [{"token": "A", "logprob": None}]},
        {"content": [{"token": "A", "logprob": 0.8}]},
        {"content": [{"token": "A", "logprob": float("nan")}]},
        {"content": [{"token": 7, "logprob": -1.0}]},
        {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": ["A"]}]},
        {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": [{"token": "B", "logprob": 2}]}]},
        {"tokens": ["A"], "token_logprobs": [-0.1]},
    ],
)
def test_nonsense_in_the_place_of_log_probabilities_is_none(told: Any) -> None:
    """The text is there, so the answer has not failed."""
    choice = {"message": {"content": "A"}, "finish_reason": "stop", "logprobs": told}
    with ScriptedServer(Reply.choices(choice)) as server:
        assert asked_for_logprobs(server.url) == [Completion("A")]
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "logprobs is not supported with this model"),
        (422, "Extra inputs are not permitted: top_logprobs"),
        (400, "max top_logprobs: 3"),
        (403, "You are not allowed to request logprobs from this model"),
    ],
)
def test_a_server_that_refuses_log_probabilities_is_asked_without_and_not_for_them_again(
    status: int, message: str
) -> None:
    def script(body: dict[str, Any]) -> Reply:
        return Reply(status, {"error": {"message": message}}) if "logprobs" in body else Reply.texts("A")

    with ScriptedServer(script) as server:
        assert asked_for_logprobs(server.url, 3, concurrency=1) == [Completion("A")] * 3
    assert ["logprobs" in body for body in server.bodies] == [True, False, False, False]
    assert not any("top_logprobs" in body for body in server.bodies[1:])


UNSUPPORTED = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


def test_a_server_that_names_the_limit_of_tokens_otherwise_is_asked_so_from_then_on() -> None:
    def script(body: dict[str, Any]) -> Reply:
        return Reply(400, {"error": {"message": UNSUPPORTED}}) if "max_tokens" in body else Reply.texts("A")

    with ScriptedServer(script) as server:
        found = asked_for_logprobs(server.url, 3, concurrency=1)
    assert [one.text for one in found] == ["A"] * 3
    assert ["max_tokens" in body for body in server.bodies] == [True, False, False, False]
    assert {body["max_completion_tokens"] for body in server.bodies[1:]} == {server.bodies[0]["max_tokens"]}


def test_a_server_that_knows_neither_name_of_the_limit_has_refused() -> None:
    with ScriptedServer(Reply(400, {"error": {"message": UNSUPPORTED}})) as server:
        [completion] = asked_for_logprobs(server.url)
    assert completion.error == f"server answered 400: {UNSUPPORTED}"
    assert len(server.bodies) == 2


def test_another_refusal_is_one_with_log_probabilities_too() -> None:
    with ScriptedServer(Reply(400, {"error": {"message": "temperature must be positive"}})) as server:
        [completion] = asked_for_logprobs(server.url)
    assert completion.error == "server answered 400: temperature must be positive"
    assert len(server.bodies) == 1


def test_the_tokens_that_the_server_counted_come_with_the_first_of_a_calls_choices() -> None:
    """Three choices in two calls, 10 + 5 and 10 + 2 tokens: their sum is what was paid."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    two = Reply(body=Reply.texts("a", "b").body | {"usage": usage})
    one = Reply(body=Reply.texts("c").body | {"usage": usage | {"completion_tokens": 2}})
    with ScriptedServer([two, one]) as server:
        [found] = ask(server, sampling=Sampling(n=3))
    assert [completion.usage for completion in found] == [Usage(10, 5), None, Usage(10, 2)]


@pytest.mark.parametrize(
    "told", [None, [], {}, {"prompt_tokens": 3}, {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": "3"}]
)
def test_what_is_no_count_of_tokens_is_none(told: Any) -> None:
    with ScriptedServer(Reply(body=GOOD.body | {"usage": told})) as server:
        assert ask(server) == [[Completion("good")]]


# --- told as it comes ----------------------------------------------------------------------------------------------


def test_requests_are_told_in_the_order_in_which_they_are_answered() -> None:
    """The first is answered after the second has been told."""
    told: list[int] = []
    second = threading.Event()

    def script(body: dict[str, Any]) -> Reply:
        assert body["messages"][-1]["content"] != "0" or second.wait(30)
        return echo(body)

    def each(index: int, completions: list[Completion]) -> None:
        told.append(index)
        assert completions == [Completion(f"{index}/0")]
        second.set()

    with ScriptedServer(script) as server:
        model = generator(server.url, concurrency=2)
        assert isinstance(model, StreamingGenerator)
        model.stream([request("0"), request("1")], Sampling(), each)
    assert told == [1, 0]


def test_a_request_is_taken_when_there_is_room_for_it() -> None:
    """With one request at a time each is made after the one before was told."""
    course: list[str] = []

    def requests() -> Iterator[Request]:
        for text in ("a", "b"):
            course.append(f"made {text}")
            yield request(text)

    with ScriptedServer(echo) as server:
        generator(server.url, concurrency=1).stream(requests(), Sampling(), lambda k, found: course.append(f"told {k}"))
    assert course == ["made a", "told 0", "made b", "told 1"]


def test_a_mistake_of_who_is_told_ends_the_call_as_it_is() -> None:
    def full(index: int, completions: list[Completion]) -> None:
        raise OSError(28, "No space left on device")

    with ScriptedServer(echo) as server, pytest.raises(OSError, match="No space left") as caught:
        generator(server.url, concurrency=1).stream([request(str(k)) for k in range(50)], Sampling(), full)
    assert type(caught.value) is OSError
    assert len(server.bodies) == 1


# --- fewer choices than asked for ----------------------------------------------------------------------------------


def test_a_server_that_ignores_n_is_asked_again_with_other_seeds() -> None:
    with ScriptedServer(Reply.texts("same")) as server:
        assert ask(server, sampling=Sampling(n=4)) == [[Completion("same")] * 4]
    assert [body.get("n") for body in server.bodies] == [4, 3, 2, None]
    assert len({body["seed"] for body in server.bodies}) == 4


def test_a_server_that_gives_more_is_cut_to_n() -> None:
    with ScriptedServer(Reply.texts("a", "b", "c")) as server:
        assert [c.text for c in ask(server, sampling=Sampling(n=2))[0]] == ["a", "b"]
    assert len(server.bodies) == 1


def test_what_came_before_a_failure_is_kept() -> None:
    script = [Reply.texts("a", "b"), Reply(500)]
    with ScriptedServer(script) as server:
        [found] = ask(server, sampling=Sampling(n=3))
    assert [c.text for c in found] == ["a", "b", ""]
    assert [c.error for c in found] == [None, None, "server answered 500 after 3 tries"]


def test_a_failed_choice_is_not_asked_for_again() -> None:
    good = {"message": {"content": "a"}, "finish_reason": "stop"}
    bad = {"message": {"content": None}, "finish_reason": "content_filter"}
    with ScriptedServer(Reply.choices(good, bad)) as server:
        [found] = ask(server, sampling=Sampling(n=2))
    assert [c.error for c in found] == [None, 'finish_reason "content_filter"']
    assert len(server.bodies) == 1


def test_a_server_that_refuses_n_is_asked_for_one_at_a_time_and_n_is_not_sent_again() -> None:
    def script(body: dict[str, Any]) -> Reply:
        return Reply(400, {"error": {"message": "n must be 1"}}) if "n" in body else echo(body)

    with ScriptedServer(script) as server:
        model = generator(server.url, concurrency=1)
        for text in ("a", "b"):
            [found] = model.generate([request(text)], Sampling(n=3))
            assert [c.error for c in found] == [None] * 3
    assert [body.get("n") for body in server.bodies] == [3] + [None] * 6


# --- tried again ---------------------------------------------------------------------------------------------------

BROKEN = {
    "429": Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"}),
    "500": Reply(500, b"Internal Server Error"),
    "502": Reply(502, b"<html><title>Bad Gateway</title></html>"),
    "503": Reply(503),
    "504": Reply(504),
    "half a body": Reply(body=GOOD.body, cut=20),
    "no body of the announced": Reply(body=GOOD.body, cut=0),
    "no answer": Reply(hang_up=True),
    "empty body": Reply(body=b""),
    "not JSON": Reply(body=b'{"choices": ['),
    "not UTF-8": Reply(body=b'{"choices": "\xff\xfe"}'),
    "not an object": Reply(body=[1]),
    "no choices": Reply(body={"choices": []}),
    "choices of another kind": Reply(body={"choices": ["a"]}),
    "an error with status 200": Reply(body={"error": {"message": "overloaded"}}),
}
REASONS = {
    "429": "server answered 429",
    "half a body": "the connection broke off",
    "no body of the announced": "the connection broke off",
    "no answer": "the connection broke off",
    "empty body": "the server's answer is empty",
    "not JSON": "the server's answer is not JSON",
    "not UTF-8": "the server's answer is not JSON",
    **dict.fromkeys(
        ["not an object", "no choices", "choices of another kind", "an error with status 200"],
        "the server's answer is no chat completion",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_that_passes_leaves_no_trace(fault: str) -> None:
    with ScriptedServer([BROKEN[fault], BROKEN[fault], GOOD]) as server:
        assert ask(server) == [[Completion("good")]]
    assert len(server.bodies) == 3
    assert len({json.dumps(body) for body in server.bodies}) == 1


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_that_stays_fails_its_request_alone(fault: str) -> None:
    """One bad request must not lose the run: the others have their answers."""
    with ScriptedServer(lambda body: BROKEN[fault] if body["messages"][-1]["content"] == "bad" else GOOD) as server:
        found = ask(server, "a", "bad", "b", sampling=Sampling(n=1))
    reason = REASONS.get(fault, f"server answered {fault}")
    assert found == [
        [Completion("good")],
        [Completion("", finish_reason=None, error=f"{reason} after 3 tries")],
        [Completion("good")],
    ]
    assert Counter(server.prompts()) == {"a": 1, "bad": 3, "b": 1}


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cho\r\n',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n{"a":',
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}",
    ],
)
def test_what_is_no_http_fails_its_request_alone(sent: bytes) -> None:
    class Raw(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(sent)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Raw) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        [[completion]] = generator(f"http://127.0.0.1:{server.server_address[1]}/v1").generate([request()], Sampling())
        server.shutdown()
    assert completion == Completion("", finish_reason=None, error="the connection broke off after 3 tries")


def test_a_server_that_says_nothing_runs_into_the_time_out() -> None:
    with ScriptedServer(
        lambda body: Reply(silent=True) if body["messages"][-1]["content"] == "bad" else GOOD
    ) as server:
        found = ask(server, "bad", "a", timeout=1.5, attempts=2)
    assert found[0][0].error == "no answer within 1.5 s after 2 tries"
    assert Counter(server.prompts())["bad"] == 2


def test_one_try_is_called_one_try() -> None:
    with ScriptedServer(Reply(500)) as server:
        assert ask(server, attempts=1)[0][0].error == "server answered 500 after 1 try"


def test_what_the_server_asks_to_wait_is_waited_up_to_the_cap() -> None:
    waits = Waits(first=99.0, longest=99.0, longest_asked=60.0)
    model = OpenAIGenerator(ModelSpec(path="m", url="http://127.0.0.1:1/v1"), waits)
    assert model._retry(Failed("429", wait=2.0)) == 2.0
    assert model._retry(Failed("429", wait=3600.0)) == 60.0
    assert model._retry(Failed("500")) is True
    assert model._retry(Refused("400")) is False


def test_retry_after_of_nought_overrides_a_long_wait() -> None:
    """Our own wait would be ten minutes, the test's limit is five: only the header can make this pass."""
    with ScriptedServer([Reply(429, headers={"Retry-After": "0"}), GOOD]) as server:
        spec = ModelSpec(path="m", url=server.url)
        model = OpenAIGenerator(spec, Waits(first=600, longest=600))
        assert model.generate([request()], Sampling()) == [[Completion("good")]]


def test_retry_after_is_read_as_number_or_date() -> None:
    now = datetime(2025, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after("1.5", now) == 1.5
    assert retry_after("Wed, 01 Jan 2025 12:00:30 GMT", now) == 30.0
    assert retry_after("Wed, 01 Jan 2025 11:00:00 GMT", now) == 0.0
    assert [retry_after(v, now) for v in (None, "soon", "nan", "inf", "")] == [None] * 5
    assert retry_after("-3", now) == 0.0


# --- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 422, 451])
def test_a_refusal_is_recorded_with_the_servers_words_and_not_tried_again(status: int) -> None:
    refusal = Reply(status, {"error": {"message": "temperature\n must be\tpositive " + "x" * 500}})
    with ScriptedServer(lambda body: refusal if body["messages"][-1]["content"] == "bad" else GOOD) as server:
        [[bad], [good]] = ask(server, "bad", "a")
    assert good == Completion("good")
    assert bad.error is not None
    assert bad.error.startswith(f"server answered {status}: temperature must be positive xxx")
    assert len(bad.error) < 250
    assert "\n" not in bad.error
    assert not bad.too_long
    assert Counter(server.prompts())["bad"] == 1


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 2500 tokens (2300 in messages).",
        "The decoder prompt (length 5000) is longer than the maximum model length of 2048.",
        "the request exceeds the available context size, try increasing it",
        "The input (5000 tokens) is longer than the model's context length (2048 tokens).",
        "'max_tokens' is too large: 512. This model's maximum context length is 2048 tokens and your request has 1900",
    ],
)
def test_a_prompt_beyond_the_window_is_too_long(message: str) -> None:
    with ScriptedServer(Reply(400, {"error": {"message": message}})) as server:
        [found] = ask(server, sampling=Sampling(n=2))
    assert [c.too_long for c in found] == [True, True]
    assert len(server.bodies) == 1


def test_max_tokens_that_fill_the_window_stop_the_stage() -> None:
    message = (
        "'max_tokens' is too large: 4000. This model's maximum context length is 2048 tokens and your request has 9"
    )
    with (
        ScriptedServer(Reply(400, {"error": {"message": message}})) as server,
        pytest.raises(ModelError, match=r"max_tokens 4000 leaves no room .* window is 2048 tokens; lower max_tokens"),
    ):
        ask(server, sampling=Sampling(max_tokens=4000))


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"error": {"message": "no"}}, "no"),
        ({"error": "no"}, "no"),
        ({"object": "error", "message": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"detail": [{"loc": ["body"], "msg": "no"}]}, '[{"loc": ["body"], "msg": "no"}]'),
        (b"plain words", "plain words"),
        (b"<html>\n<body>oops</body></html>", ""),
        (b"", ""),
        ({"error": None}, ""),
    ],
)
def test_the_servers_words_are_found_in_every_usual_shape(body: Any, line: str) -> None:
    assert server_message(Reply(400, body).content, SecretStr("")) == line


# --- what stops the stage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(401), r"does not accept the key in the environment variable OPENAI_API_KEY \(401\)"),
        (Reply(402, {"error": {"message": "pay"}}), r"no credit left \(402: pay\)"),
        (Reply(429, {"error": {"message": "x", "code": "insufficient_quota"}}), r"no credit left"),
        (Reply(403, {"error": {"message": "region"}}), r"denies access to model 'tiny' \(403: region\)"),
        (Reply(404, {"error": {"message": "The model `tiny` does not exist."}}), r"no model 'tiny' .*does not exist"),
        (Reply(404, {"detail": "Not Found"}), r"no chat completions \(404: Not Found\); mend .* url"),
        (Reply(405), r"not the base URL of an OpenAI-compatible server"),
        (Reply(307, headers={"Location": "https://elsewhere/v1"}), r"not the base URL of an OpenAI-compatible server"),
    ],
)
def test_what_every_request_would_meet_stops_the_stage_in_one_sentence(reply: Reply, words: str) -> None:
    with ScriptedServer(reply) as server, pytest.raises(ModelError, match=words) as caught:
        ask(server, *(f"p{k}" for k in range(50)), concurrency=2)
    assert len(server.bodies) <= 4
    assert "\n" not in str(caught.value)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_no_server_at_all_stops_the_stage() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(ModelError, match=f"no server answers at {url} .*; start it, or mend the model's url"):
        generator(url).generate([request(f"p{k}") for k in range(5)], Sampling())


def test_a_server_that_goes_away_is_recorded() -> None:
    """The first request is answered, and the listener closes before the second is sent."""
    with ScriptedServer(lambda body: _answer_and_close(server, body)) as server:
        found = ask(server, "a", "b", concurrency=1)
    assert found[0] == [Completion("good")]
    assert found[1][0].error is not None
    assert found[1][0].error.startswith("no connection: ")
    assert found[1][0].error.endswith("after 3 tries")


def test_a_server_that_stays_away_stops_the_stage() -> None:
    """One answer, then nobody: the sixteenth request in a row that finds no server is the last."""
    with ScriptedServer(lambda body: _answer_and_close(server, body)) as server:
        heard: list[int] = []
        asked = generator(server.url, concurrency=1)
        with pytest.raises(ModelError, match=r"has gone: 16 requests in a row found none .*the same command goes on"):
            asked.stream([request(f"p{k}") for k in range(40)], Sampling(), lambda index, _: heard.append(index))
    assert heard == list(range(16))  # the answer, and fifteen failures that are recorded


def _answer_and_close(server: ScriptedServer, body: dict[str, Any]) -> Reply:
    server._http.socket.close()
    return Reply(body=GOOD.body, headers={"Connection": "close"})


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("_no_proxy")
def test_a_proxy_of_the_environment_is_asked_for_other_machines_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A key in a netrc file, which some clients would send instead of ours, is not looked at."""
    (tmp_path / "netrc").write_text("machine judge.invalid login me password other")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with ScriptedServer(echo) as server:
        monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
        assert generator("http://judge.invalid/v1").generate([request()], Sampling()) == [[Completion("Hi/0")]]
        assert (server.paths, server.headers[0]["authorization"]) == (
            ["http://judge.invalid/v1/chat/completions"],
            "Bearer none",
        )
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        assert ask(server) == [[Completion("Hi/0")]]
        with pytest.raises(ModelError, match=r"no server answers at http://judge\.invalid/v1"):
            generator("http://judge.invalid/v1").generate([request()], Sampling())


@pytest.mark.usefixtures("_no_proxy")
def test_a_proxy_that_speaks_no_http_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:secret@proxy.invalid")
    with pytest.raises(ModelError, match=r"names a proxy for judge.invalid that is no http:// proxy") as caught:
        generator("https://judge.invalid/v1").generate([request()], Sampling())
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "judge.invalid")
    assert proxy_for(base_url("https://judge.invalid/v1")) is None


# --- how many at once, from where, and the end of it ---------------------------------------------------------------


def test_as_many_requests_as_allowed_are_in_flight_and_never_more() -> None:
    """Each answer waits until four requests are open, so fewer would hang; the server counts the most it saw."""
    together = threading.Barrier(4, timeout=30)

    def script(body: dict[str, Any]) -> Reply:
        together.wait()
        return echo(body)

    with ScriptedServer(script) as server:
        found = ask(server, *(f"p{k}" for k in range(12)), concurrency=4)
    assert [c.text for [c] in found] == [f"p{k}/0" for k in range(12)]
    assert server.most_at_once == 4


def test_it_works_inside_a_running_event_loop() -> None:
    async def inside(server: ScriptedServer) -> list[list[Completion]]:
        return ask(server, "a")

    with ScriptedServer(echo) as server:
        assert asyncio.run(inside(server)) == [[Completion("a/0")]]


def test_it_works_in_another_thread_and_twice() -> None:
    found: list[list[Completion]] = []
    with ScriptedServer(echo) as server:
        model = generator(server.url)

        def work() -> None:
            for text in ("a", "b"):
                found.extend(model.generate([request(text)], Sampling()))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    assert found == [[Completion("a/0")], [Completion("b/0")]]


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started deaf to it
from polypref.backends.base import ModelSpec, Request, Sampling
from polypref.backends.openai import OpenAIGenerator
generator = OpenAIGenerator(ModelSpec(path="tiny", url=sys.argv[1]))
try:
    generator.generate([Request(str(k), [{"role": "user", "content": "Hi"}]) for k in range(9)], Sampling())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_cancels_what_is_in_flight() -> None:
    """The server never answers and a time-out is ten minutes: the process ends only if its requests are cancelled."""
    with ScriptedServer(Reply(silent=True)) as server:
        command = [sys.executable, "-W", "error", "-c", INTERRUPTED, server.url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert server.asked.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)


# --- keys ----------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_none_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(echo) as server:
        ask(server)
        monkeypatch.setenv("MY_KEY", f" {KEY}\n")
        ask(server, api_key_env="MY_KEY")
    assert [h["authorization"] for h in server.headers] == ["Bearer none", f"Bearer {KEY}"]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 500])
def test_the_key_is_nowhere_but_in_the_header(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server throws the key back at us, once whole and once across the place where messages are cut."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echoed = {"error": {"message": f"bad key {KEY} " + "x" * 155 + KEY}}
    with ScriptedServer(Reply(status, echoed)) as server:
        model = generator(server.url)
        try:
            seen = repr(model.generate([request()], Sampling()))
        except ModelError as mistake:
            chain = [mistake, mistake.__cause__, mistake.__context__]
            seen = "".join(repr(e) + repr(getattr(e, "__dict__", "")) for e in chain)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    seen += model.fingerprint + repr(vars(model)) + caplog.text + "".join(repr(r.__dict__) for r in caplog.records)
    seen += "".join(capfd.readouterr())
    assert len(seen) > 500
    for part in (KEY, KEY[:10], KEY[-10:]):
        assert part not in seen


def test_retries_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer([Reply(500), GOOD]) as server:
        ask(server)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("key", ["sk-añb", "sk-a\nb"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", key)
    with pytest.raises(ModelError, match="environment variable K holds characters") as caught:
        api_key("K")
    assert "sk-" not in str(caught.value)


# --- the spec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("https://example.org/api/v1", "https://example.org/api/v1"),
        ("https://example.org/v1beta/openai/", "https://example.org/v1beta/openai"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_the_base_url_is_taken_as_it_is_and_a_bare_host_gets_v1(url: str, base: str) -> None:
    assert str(base_url(url)) == base


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "localhost:8000",
        "ftp://localhost/v1",
        "http://",
        "http://localhost:port/v1",
        "http://localhost/v1/chat/completions",
        "http://me:secret@localhost/v1",
        "http://localhost/v1?key=secret",
    ],
)
def test_a_url_that_is_none_is_refused_with_the_fix(url: str | None) -> None:
    with pytest.raises(ModelError, match=r"http://localhost:8000/v1 \(a bare http://localhost:8000 is read") as caught:
        OpenAIGenerator(ModelSpec(path="m", url=url))
    assert "secret" not in str(caught.value)


def test_an_adapter_is_the_servers_affair() -> None:
    with pytest.raises(ModelError, match="start the server with it"):
        OpenAIGenerator(ModelSpec(path="m", url="http://h/v1", adapter="lora"))


def test_template_arguments_that_are_no_json_are_refused() -> None:
    with pytest.raises(ModelError, match="chat_template_kwargs cannot be written as JSON"):
        OpenAIGenerator(ModelSpec(path="m", url="http://h/v1", chat_template_kwargs={"today": datetime.now(UTC)}))


def test_the_fingerprint_tells_models_apart_and_needs_no_server() -> None:
    def fingerprint(**spec: Any) -> str:
        return OpenAIGenerator(ModelSpec(**{"path": "m", "url": "http://h:1/v1", **spec})).fingerprint

    same = [fingerprint(), fingerprint(url="http://h:1"), fingerprint(concurrency=1, timeout=1, attempts=1)]
    assert len(set(same)) == 1
    assert same[0].startswith("openai:h:m:")
    others = [{"path": "m2"}, {"url": "http://h:2/v1"}, {"revision": "b"}, {"chat_template_kwargs": {"a": 1}}]
    assert len({same[0], *(fingerprint(**other) for other in others)}) == 5
