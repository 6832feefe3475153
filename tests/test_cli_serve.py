"""``polypref serve best-of-n`` as a process: what clients get, requests at once, mistakes, and how it stops."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import typer

from pages import ROOT, blocks
from polypref import cli_serve
from polypref.backends.base import ModelSpec, Request, Sampling
from polypref.backends.openai import OpenAIGenerator
from polypref.cli import main
from servers import serving

pytest.importorskip("starlette", reason="serving needs the extra serve")
pytest.importorskip("uvicorn", reason="serving needs the extra serve")
pytestmark = pytest.mark.timeout(180)

PAGE = ROOT / "docs/serving.md"
FAKE = ("--model", "fake", "--backend", "fake", "--scorer", "fake", "--n", "4")


@pytest.fixture(scope="module")
def fake() -> Iterator[str]:
    with serving(*FAKE, "--max-samples", "16", "--language", "en", "--language", "es") as (url, _):
        yield url


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60.0) as one:
        yield one


def chat(url: str, client: httpx.Client, text: str = "[es] Hola", **fields: Any) -> httpx.Response:
    body = {"model": "best-of-n", "messages": [{"role": "user", "content": text}], **fields}
    return client.post(f"{url}/chat/completions", json=body)


# --- the wire ------------------------------------------------------------------------------------------------------


def test_a_reply_says_what_was_picked(fake: str, client: httpx.Client) -> None:
    reply = chat(fake, client, seed=3, n=2, best_of=8)
    body = reply.json()
    assert reply.status_code == 200
    assert [choice["best_of"]["n"] for choice in body["choices"]] == [8, 8]
    assert all(0 <= choice["best_of"]["score"] < 1 for choice in body["choices"])
    assert (body["seed"], body["usage"], body["language"]["tag"]) == (3, None, "en")
    again = chat(fake, client, seed=3, n=2, best_of=8).json()
    assert [again[key] for key in ("choices", "system_fingerprint")] == [
        body[key] for key in ("choices", "system_fingerprint")
    ]
    assert chat(fake, client, seed=4, n=2, best_of=8).json()["choices"] != body["choices"]


def test_a_greater_n_scores_higher(fake: str, client: httpx.Client) -> None:
    """The fake scorer is uniform on [0, 1): the best of 16 of the same samples is no worse than the best of 1."""
    for seed in range(5):
        scores = [chat(fake, client, seed=seed, best_of=n).json()["choices"][0]["best_of"]["score"] for n in (2, 16)]
        assert scores[0] <= scores[1]


def test_the_language_is_the_fields_the_headers_or_told_from_the_text(fake: str, client: httpx.Client) -> None:
    assert chat(fake, client, language="Spanish").json()["language"] == {"tag": "es", "from": "request"}
    prompt = "Escribe una lista de los ríos más largos que pasan por las ciudades del norte"
    assert chat(fake, client, prompt).json()["language"] == {"tag": "es", "from": "identified"}
    body = {"model": "best-of-n", "messages": [{"role": "user", "content": "x"}]}
    headers = {"Content-Language": "es"}
    found = client.post(f"{fake}/chat/completions", json=body, headers=headers).json()
    assert found["language"] == {"tag": "es", "from": "request"}


def test_a_stream_ends_with_done(fake: str, client: httpx.Client) -> None:
    reply = chat(fake, client, seed=3, stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    first, done = reply.text.split("\n\n")[:-1]
    assert done == "data: [DONE]"
    told = json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["content"]
    assert told == chat(fake, client, seed=3).json()["choices"][0]["message"]["content"]


def test_mistakes_have_openais_shape(fake: str, client: httpx.Client) -> None:
    replies = {
        400: chat(fake, client, n=5),
        404: client.get(f"{fake}/nowhere"),
        405: client.get(f"{fake}/chat/completions"),
        413: client.post(f"{fake}/chat/completions", content=b" " * (2**22 + 1)),
    }
    for status, reply in replies.items():
        assert (reply.status_code, set(reply.json()["error"])) == (status, {"message", "type", "param", "code"})
    assert chat(fake, client, model="other").json()["error"]["code"] == "model_not_found"


def test_what_the_server_has_is_listed(fake: str, client: httpx.Client) -> None:
    assert [model["id"] for model in client.get(f"{fake}/models").json()["data"]] == ["best-of-n"]
    assert client.get(f"{fake.removesuffix('/v1')}/health").json() == {"status": "ok"}


def test_requests_at_once_get_what_each_gets_alone(fake: str) -> None:
    spec = ModelSpec(path="best-of-n", backend="openai", url=fake, concurrency=16)
    requests = [Request(str(i), [{"role": "user", "content": f"[es] {i}"}]) for i in range(16)]
    together = OpenAIGenerator(spec).generate(requests, Sampling(n=2, seed=5))
    with ThreadPoolExecutor(1) as alone:
        apart = alone.map(lambda one: OpenAIGenerator(spec).generate([one], Sampling(n=2, seed=5))[0], requests)
        assert together == list(apart)
    assert len({c.text for found in together for c in found}) > 16


def test_a_key_is_asked_for_where_one_is_set(client: httpx.Client) -> None:
    with serving(*FAKE, "--api-key-env", "SERVE_KEY", "--name", "mine", SERVE_KEY="secret") as (url, _):
        for header in ({}, {"Authorization": "Bearer wrong"}):
            refused = client.get(f"{url}/models", headers=header)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.get(f"{url}/models", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert chat(url, client, model="mine").status_code == 401


def test_the_model_may_stand_on_another_server(fake: str, client: httpx.Client) -> None:
    """Here on one like it: the best of 2 of the best of 4."""
    behind = ("--model", "best-of-n", "--backend", "openai", "--url", fake, "--scorer", "fake", "--n", "2")
    with serving(*behind) as (url, _):
        first, again = (chat(url, client, seed=3).json() for _ in range(2))
    assert first["choices"] == again["choices"]
    assert (first["choices"][0]["best_of"]["n"], first["usage"]) == (2, None)
    with serving(*behind, "--url", "http://127.0.0.1:9/v1") as (url, _):
        alone = chat(url, client)
    assert alone.status_code == 500
    assert alone.json()["error"]["message"].startswith("no server answers at http://127.0.0.1:9/v1")


# --- the page ------------------------------------------------------------------------------------------------------


def shape(value: object) -> object:
    """The keys at every level, and the kinds of what they hold."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)


def test_the_request_of_the_page_gets_a_reply_of_its_shape(fake: str, client: httpx.Client) -> None:
    """But for the usage, which a fake does not know."""
    request, reply = (json.loads(block.text) for block in blocks(PAGE) if block.language == "json")
    found = client.post(f"{fake}/chat/completions", json=request)
    assert found.status_code == 200
    assert shape(found.json() | {"usage": None}) == shape(reply | {"usage": None})
    assert {key: found.json()[key] for key in ("seed", "language")} == {key: reply[key] for key in ("seed", "language")}


def test_the_pages_python_runs() -> None:
    (program,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    exec(compile(program, str(PAGE), "exec"), {})


def test_every_option_is_on_the_page_and_every_default_is_so() -> None:
    command = typer.main.get_command(cli_serve.serve).commands["best-of-n"]  # type: ignore[attr-defined]
    told = PAGE.read_text(encoding="utf-8").partition("## A request")[0]
    beside = {"--dtype", "--device", "--trust-remote-code", "--help"}
    assert {option for p in command.params for option in p.opts if f"`{option}`" not in told} <= beside
    for parameter in command.params:
        if isinstance(parameter.default, int | float) and parameter.opts[0] not in beside:
            (row,) = [line for line in told.splitlines() if line.startswith("|") and f"`{parameter.opts[0]}`" in line]
            assert str(parameter.default) in row.split("|")[2], parameter.opts


# --- how it stops, and what does not start -------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered_before_the_server_stops(sign: signal.Signals) -> None:
    slow = ("--model", "fake?sleep=2", "--backend", "fake", "--scorer", "fake", "--n", "4")
    with (
        serving(*slow) as (url, process),
        ThreadPoolExecutor(1) as pool,
        httpx.Client(trust_env=False, timeout=60.0) as client,
    ):
        assert not _busy(process.pid)
        reply = pool.submit(chat, url, client)
        while not _busy(process.pid):
            assert not reply.done()
        process.send_signal(sign)
        assert reply.result(60).status_code == 200
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")


def _busy(pid: int) -> bool:
    """Whether the server's thread for batches has begun: it does with the first request."""
    import psutil

    return psutil.Process(pid).num_threads() > 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scorer", "reward_model"), "--scorer reward_model: reward_model needs a model"),
        (("--scorer", "pair_judge"), "compares pairs and gives an answer no number; say judge"),
        (("--n", "64", "--max-samples", "32"), "--max-samples 32 is below --n 64"),
        (("--temperature", "0"), "--temperature"),
        (("--language", "nowhere-ish!"), "is no language"),
        (("--language-check", "perhaps"), "--language-check is 'perhaps'; say on or off"),
        (("--api-key-env", "NO_SUCH_VARIABLE"), "--api-key-env NO_SUCH_VARIABLE: the environment variable is empty"),
        (("--host", "no such host"), "port 8000 of no such host cannot be listened on"),
        (("--model", "nothing", "--port", "0"), "'nothing' is no fake model"),
    ],
)
def test_a_mistake_is_told_before_anything_is_served(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["serve", "best-of-n", *FAKE, *arguments])
    told = capsys.readouterr()
    assert (stop.value.code, told.out) == (2, "")
    assert says in told.err
