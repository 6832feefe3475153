"""Generators that say what a test wants, and what they are asked about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from polypref.backends.base import Comparison, Completion, Judged, ModelSpec, Request, Sampling, Usage
from polypref.backends.openai import OpenAIGenerator, Waits

NO_WAITS = Waits(first=0.0, longest=0.0, jitter=0.0, longest_asked=0.0)
QUESTION = [{"role": "user", "content": "What is 40 + 2?"}]


class Says:
    """A generator that says what a function says; it keeps what it was asked."""

    fingerprint = "says:1"

    def __init__(self, say: Callable[[Request, int], str | Completion]) -> None:
        self.say, self.requests, self.samplings = say, list[Request](), list[Sampling]()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        self.requests += requests
        self.samplings.append(sampling)
        return [[self._completion(self.say(request, k)) for k in range(sampling.n)] for request in requests]

    def _completion(self, said: str | Completion) -> Completion:
        return Completion(said) if isinstance(said, str) else said


def judged(text: str, id: str = "q1/en/0", lang: str = "en") -> Judged:
    return Judged(id, lang, QUESTION, text)


def comparison(first: str, second: str, id: str = "q1") -> Comparison:
    return Comparison(id, "en", QUESTION, first, second)


def served(url: str, **spec: Any) -> OpenAIGenerator:
    return OpenAIGenerator(ModelSpec(path="judge", backend="openai", url=url, **{"attempts": 2, **spec}), NO_WAITS)


def token(text: str, *, usage: Usage | None = None, **shares: float) -> Completion:
    first = {letter: math.log(share) for letter, share in shares.items()} or None
    return Completion(text, usage=usage, first_token=first)
