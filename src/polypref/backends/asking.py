"""Asks a generator for what is not known yet, and keeps what it says as soon as it is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from polypref.backends.base import Completion, Generator, Recall, Request, Sampling
from polypref.errors import InputError

Heard = Callable[[int, list[Completion]], None]
"""``heard(index, completions)``: told of every request as its completions come, in any order, never two at once."""


@runtime_checkable
class StreamingGenerator(Protocol):
    """A ``Generator`` that can tell of each request as soon as it is answered."""

    fingerprint: str

    def stream(self, requests: Iterable[Request], sampling: Sampling, each: Heard) -> None:
        """Ask all requests, each taken when there is room for it, and tell ``each`` in the order in which the answers
        come. What ``each`` or the iterable raises ends it."""
        ...


def key_of(fingerprint: str, request: Request) -> str:
    """What a request is kept under: a digest of who is asked and how (``fingerprint``), and of what."""
    asked = json.dumps([fingerprint, list(request.messages), request.prefill], sort_keys=True)
    return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def ask(
    generator: Generator | StreamingGenerator,
    requests: Iterable[Request],
    sampling: Sampling,
    fingerprint: str,
    recall: Recall | None,
    heard: Heard,
) -> None:
    """Tell ``heard`` the completions of every request; those that ``recall`` holds are not asked for.

    A request whose completions are all there is put into ``recall`` at once, before ``heard`` is told; one that failed
    is not, since it may succeed another time, except where its prompt is beyond the model's window. A request that asks
    the same as one on its way waits for its completions, as it would find them in ``recall`` afterwards. What was not
    asked has cost nothing, so it has no ``usage``.

    Raises:
        InputError: ``recall`` holds something else under a key.
    """
    places: list[tuple[int, str]] = []
    """Of every request that is asked: its index, and its key."""
    waiting: dict[str, list[int]] = {}
    """Key of a request on its way → the indices of those that ask the same."""

    def missing() -> Iterator[Request]:
        for index, request in enumerate(requests):
            key = ""
            if recall is not None:
                key = key_of(fingerprint, request)
                if (kept := recall.get(key)) is not None:
                    heard(index, _thawed(kept))
                    continue
                if key in waiting:
                    waiting[key].append(index)
                    continue
                waiting[key] = []
            places.append((index, key))
            yield request

    def arrived(place: int, completions: list[Completion]) -> None:
        index, key = places[place]
        if recall is not None and all(one.error is None or one.too_long for one in completions):
            recall.put(key, [_frozen(one) for one in completions])
        heard(index, completions)
        for same in waiting.pop(key, ()):
            heard(same, [replace(one, usage=None) for one in completions])

    if isinstance(generator, StreamingGenerator):
        generator.stream(missing(), sampling, arrived)
    elif asked := list(missing()):
        for place, completions in enumerate(generator.generate(asked, sampling)):
            arrived(place, completions)


def _frozen(said: Completion) -> dict[str, Any]:
    """A completion as JSON, without what is absent."""
    kept: dict[str, Any] = {"text": said.text, "finish_reason": said.finish_reason}
    if said.error is not None:
        kept |= {"error": said.error, "too_long": said.too_long}
    if said.first_token is not None:
        kept["first_token"] = dict(said.first_token)
    if said.usage is not None:
        kept["usage"] = [said.usage.asked, said.usage.answered]
    return kept


def _thawed(kept: Any) -> list[Completion]:
    try:
        return [
            Completion(
                one["text"],
                finish_reason=one["finish_reason"],
                error=one.get("error"),
                too_long=one.get("too_long", False),
                first_token=one.get("first_token"),
            )
            for one in kept
        ]
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"what was kept of an answer is {kept!r:.60}, not what a judge keeps; move the file that holds it away"
        ) from None
