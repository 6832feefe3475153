"""The wire of a best-of-n server: what is read, what is refused and how, and what goes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polypref.backends.base import ModelSpec, Request, Sampling
from polypref.backends.openai_wire import read_completions, request_body
from polypref.backends.serving_wire import (
    Asked,
    Choice,
    Limits,
    Refusal,
    Served,
    events,
    read_request,
    reply_body,
)

LIMITS = Limits("best", n=4, samples=16, max_tokens=50)
USER = [{"role": "user", "content": "Hola"}]


def read(headers: dict[str, str] | None = None, **fields: Any) -> Asked:
    body = {"model": "best", "messages": USER, **fields}
    return read_request(json.dumps(body).encode(), headers or {}, LIMITS)


def refusal(**fields: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        read(**fields)
    return refused.value


def test_what_a_request_leaves_out_is_the_servers() -> None:
    asked = read(seed=3)
    assert asked == Asked(USER, Sampling(n=4, temperature=1.0, max_tokens=50), choices=1, best_of=4, seed=3)


def test_every_field_is_read() -> None:
    asked = read(
        n=2, best_of=3, temperature=0.5, top_p=0.9, top_k=7, repetition_penalty=1.1, max_tokens=9, stop=["a", "b"],
        seed=-5, stream=True, stream_options={"include_usage": True}, language="Spanish",
    )  # fmt: skip
    assert asked.sampling == Sampling(
        n=6, temperature=0.5, top_p=0.9, top_k=7, repetition_penalty=1.1, max_tokens=9, stop=("a", "b")
    )
    assert (asked.choices, asked.best_of, asked.seed, asked.lang) == (2, 3, -5, "es")
    assert (asked.stream, asked.stream_usage) == (True, True)
    assert read(stop="x").sampling.stop == ("x",)
    assert read(max_completion_tokens=7, max_tokens=9).sampling.max_tokens == 7


def test_a_request_without_a_seed_gets_one_of_its_own() -> None:
    seeds = {read().seed for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_what_our_own_client_sends_is_read_back() -> None:
    """Every field that ``backends.openai`` can send but for a prefill and template arguments, which are refused."""
    sampling = Sampling(n=2, temperature=0.7, top_p=0.9, top_k=5, repetition_penalty=1.2, max_tokens=9, stop=("x",))
    request = Request("q", USER)
    body = request_body(ModelSpec(path="best", backend="openai", url="http://h"), request, sampling, 2, 0)
    asked = read_request(json.dumps(body).encode(), {}, LIMITS)
    assert asked.sampling == sampling.model_copy(update={"n": 8})
    assert (asked.messages, asked.seed) == (USER, body["seed"])
    begun = request_body(ModelSpec(path="best"), Request("q", USER, prefill="Yes,"), sampling, 1, 0)
    with pytest.raises(Refusal, match="is not supported"):
        read_request(json.dumps(begun).encode(), {}, LIMITS)


def test_the_language_is_the_fields_or_else_the_headers() -> None:
    assert read({"content-language": "de"}).lang == "de"
    assert read({"content-language": "de"}, language="zh-Hans").lang == "zh-Hans"
    assert read().lang is None


def test_parts_of_text_are_joined_and_null_is_as_left_out() -> None:
    parts = [{"type": "text", "text": "Ho"}, {"type": "text", "text": "la"}]
    turn = {"role": "user", "content": parts, "name": None}
    assert read(messages=[turn], seed=1, tools=None) == read(seed=1)


def test_fields_that_change_nothing_are_taken() -> None:
    neutral = {"presence_penalty": 0, "logprobs": False, "tools": [], "response_format": {"type": "text"}, "user": "me"}
    assert read(seed=1, **neutral) == read(seed=1)


@pytest.mark.parametrize(
    ("fields", "status", "param", "says"),
    [
        ({"model": "gpt"}, 404, "model", "there is no model 'gpt' here; this server gives best"),
        ({"messages": []}, 400, "messages", "messages: list should have at least 1 item"),
        ({"messages": "Hola"}, 400, "messages", "messages: input should be a valid list"),
        ({"messages": [{"role": "tool", "content": ""}]}, 400, "messages.0.role", "'system', 'user' or 'assistant'"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content", "messages.0.content is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]},
            400,
            "messages.0.content.0.type",
            "should be 'text'",
        ),
        ({"messages": [*USER, {"role": "assistant", "content": "Ho"}]}, 400, "messages", "must end with the user's"),
        ({"n": 5}, 400, "n", "5 × best of 4 is 20 samples and this server draws at most 16"),
        ({"best_of": 17}, 400, "best_of", "1 × best of 17 is 17 samples"),
        ({"n": 0}, 400, "n", "greater than 0"),
        ({"n": True}, 400, "n", "valid integer"),
        ({"temperature": -1}, 400, "temperature", "greater than or equal to 0"),
        ({"temperature": 0}, 400, "temperature", "there is nothing to choose from; give a temperature above 0"),
        ({"temperature": "hot"}, 400, "temperature", "valid number"),
        ({"top_p": 0}, 400, "top_p", "greater than 0"),
        ({"stop": [""]}, 400, "stop.0", "at least 1 character"),
        ({"seed": 1.5}, 400, "seed", "valid integer"),
        ({"language": "nowhere-ish!"}, 400, "language", "is no language"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "tools is not supported by this server; leave it out"),
        ({"logprobs": True}, 400, "logprobs", "not supported"),
        ({"temprature": 1}, 400, "temprature", "not supported"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_its_name(
    fields: dict[str, Any], status: int, param: str, says: str
) -> None:
    refused = refusal(**fields)
    assert (refused.status, refused.param) == (status, param)
    assert says in refused.message


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"temperature": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal, match="the body is no"):
        read_request(body, {}, LIMITS)


def test_greedy_is_answered_where_nothing_is_to_be_chosen() -> None:
    assert read(temperature=0, best_of=1).sampling.temperature == 0


def test_a_refusal_has_openais_shape() -> None:
    assert Refusal(400, "why", "n", "c").body() == {
        "error": {"message": "why", "type": "invalid_request_error", "param": "n", "code": "c"}
    }
    kinds = [Refusal(status, "").body()["error"]["type"] for status in (401, 404, 413, 500)]
    assert kinds == ["authentication_error", "not_found_error", "invalid_request_error", "server_error"]


SERVED = Served(
    [Choice("Hola", "stop", 1.5, 2, 4), Choice("Ho", "length", 0.5, 0, 0, thinking="hm")], "es", "request", 7, 40
)


def test_an_answer_holds_the_picks_the_seed_and_the_usage() -> None:
    asked = read(seed=3, n=2)
    body = reply_body(asked, SERVED, LIMITS, "f")
    assert (body["object"], body["model"], body["system_fingerprint"], body["seed"]) == (
        "chat.completion", "best", "f", 3,
    )  # fmt: skip
    assert body["language"] == {"tag": "es", "from": "request"}
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 40, "total_tokens": 47}
    assert body["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "Hola"},
        "logprobs": None,
        "finish_reason": "stop",
        "best_of": {"n": 4, "score": 1.5, "sample": 2, "left": 4},
    }
    assert body["choices"][1]["message"]["reasoning_content"] == "hm"
    read_back = read_completions(json.dumps(body).encode())
    assert [(c.text, c.finish_reason, c.thinking) for c in read_back] == [
        ("Hola", "stop", None),
        ("Ho", "length", "hm"),
    ]


def test_usage_is_null_where_the_tokens_are_not_known() -> None:
    for served in (Served([], "es", "default", None, 40), Served([], "es", "default", 7, None)):
        assert reply_body(read(), served, LIMITS, "f")["usage"] is None


def test_a_stream_is_a_choice_an_event() -> None:
    asked = read(n=2, seed=3, stream=True, stream_options={"include_usage": True})
    body = reply_body(asked, SERVED, LIMITS, "f")
    *told, done = "".join(events(asked, body)).split("\n\n")[:-1]
    assert done == "data: [DONE]"
    first, second, usage = (json.loads(event.removeprefix("data: ")) for event in told)
    assert {event["id"] for event in (first, second, usage)} == {body["id"]}
    assert first["object"] == "chat.completion.chunk"
    assert [event["choices"][0]["delta"]["content"] for event in (first, second)] == ["Hola", "Ho"]
    assert (second["choices"][0]["finish_reason"], second["choices"][0]["index"]) == ("length", 1)
    assert (usage["choices"], usage["usage"]) == ([], body["usage"])
    silent = "".join(events(read(n=2, stream=True), body))
    assert silent.count("data: ") == 3
