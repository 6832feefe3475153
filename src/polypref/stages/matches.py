"""Two models' answers to one prompt, to be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polypref.records import Message


@dataclass(frozen=True, slots=True)
class Match:
    """The answers of a model and of the baseline that it is held against, to one prompt in one language.

    ``id`` is the prompt's, the same in all its languages and for all models: it is the cluster of every standard error.
    An answer that is None has failed. ``difficulty`` is the prompt's, where a length-controlled model knows one.
    ``sample`` tells several comparisons of the same two models on one prompt apart.
    """

    id: str
    language: str
    messages: Sequence[Message]
    model: str
    baseline: str
    model_answer: str | None
    baseline_answer: str | None
    gold: Any = None
    category: str | None = None
    difficulty: float | None = None
    sample: int = 0
