"""Requests that wait together are answered together; one's fault is not the others'. No clock decides anything here."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from polypref.backends.base import Sampling
from polypref.backends.serving import Batcher, address, bound
from polypref.backends.serving_wire import Asked, Choice, Refusal, Served
from polypref.errors import ModelError, UserError


def asked(text: str) -> Asked:
    return Asked([{"role": "user", "content": text}], Sampling(), 1, 1, 0)


def served(text: str) -> Served:
    return Served([Choice(text, "stop", 0.0, 0, 1)], "en", "default")


class Answerer:
    """Echoes; the first batch waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, batch: Sequence[Asked]) -> list[Served | Refusal]:
        texts = [str(one.messages[-1]["content"]) for one in batch]
        self.batches.append(texts)
        self.threads.add(threading.get_ident())
        if len(self.batches) == 1:
            self.begun.set()
            assert self.go.wait(30)
        if "broken" in texts:
            raise ModelError("the model is broken; mend it")
        if "bug" in texts:
            raise ZeroDivisionError("secret")
        if "few" in texts:
            return []
        return [Refusal(400, "no") if text == "refused" else served(text) for text in texts]


async def outcomes(answer: Answerer, texts: Sequence[str], most: int = 64, leave: Sequence[str] = ()) -> list[object]:
    """What each request gets: ``first`` is in the model while the others come, and those that ``leave`` go again."""
    batcher = Batcher(answer, window=0.0, most=most)
    running = asyncio.create_task(batcher.run())
    first = asyncio.create_task(batcher.ask(asked("first")))
    await asyncio.to_thread(answer.begun.wait, 30)
    others = {text: asyncio.create_task(batcher.ask(asked(text))) for text in texts}
    await asyncio.sleep(0)  # each has taken its place
    for text in leave:
        others[text].cancel()
    answer.go.set()
    found = await asyncio.gather(first, *others.values(), return_exceptions=True)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return list(found)


def test_what_waits_while_a_batch_is_answered_is_the_next_batch() -> None:
    answer = Answerer()
    found = asyncio.run(outcomes(answer, ["a", "b", "c"]))
    assert answer.batches == [["first"], ["a", "b", "c"]]
    assert found == [served(text) for text in ("first", "a", "b", "c")]
    assert len(answer.threads) == 1


def test_a_batch_holds_no_more_than_its_most() -> None:
    answer = Answerer()
    asyncio.run(outcomes(answer, list("abcde"), most=2))
    assert answer.batches == [["first"], ["a", "b"], ["c", "d"], ["e"]]


def test_a_batch_that_fails_is_answered_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    answer = Answerer()
    found = asyncio.run(outcomes(answer, ["a", "broken", "bug", "refused"]))
    assert answer.batches[1:] == [["a", "broken", "bug", "refused"], ["a"], ["broken"], ["bug"], ["refused"]]
    assert found[1] == served("a")
    told = [(error.status, error.message) for error in found[2:] if isinstance(error, Refusal)]
    assert told == [
        (500, "the model is broken; mend it"),
        (500, "the server failed at this request; its log says why"),
        (400, "no"),
    ]
    assert "ZeroDivisionError: secret" in caplog.text


def test_a_missing_answer_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    found = asyncio.run(outcomes(Answerer(), ["few", "a"]))
    assert [isinstance(one, Refusal) for one in found] == [False, True, False]
    assert "1 requests have 0 answers" in caplog.text


def test_a_client_that_left_is_not_answered() -> None:
    answer = Answerer()
    found = asyncio.run(outcomes(answer, ["a", "gone", "b"], leave=["gone"]))
    assert answer.batches == [["first"], ["a", "b"]]
    assert isinstance(found[2], asyncio.CancelledError)


def test_a_port_that_is_taken_is_told() -> None:
    with bound("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        assert address(first) == f"http://127.0.0.1:{port}/v1"
        with pytest.raises(UserError, match=rf"port {port} of 127.0.0.1 cannot be listened on \(.*in use"):
            bound("127.0.0.1", port)
    with pytest.raises(UserError, match="choose another with --host"):
        bound("no such host", 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_stands_in_brackets() -> None:
    try:
        listening = bound("::1", 0)
    except UserError:
        pytest.skip("this machine has no IPv6 loopback")
    with listening:
        assert address(listening) == f"http://[::1]:{listening.getsockname()[1]}/v1"
