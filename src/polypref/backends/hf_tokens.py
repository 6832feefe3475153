"""Answers to tokens, a window ahead of the model, and once for models that read them alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from polypref.backends.base import Answer
from polypref.backends.templates import PromptTemplate
from polypref.errors import ModelError

WINDOW = 4096
"""Answers that are sorted by length and run before the next are waited for."""


class Tokens(NamedTuple):
    """A prompt, an answer under it, and whether the answer's own token ids could be used."""

    prompt: list[int]
    answer: list[int]
    kept: bool


_last: list[tuple[str, list[Answer], list[list[Tokens]]]] = []
"""At most one: a policy's tokens, kept for its reference, which is asked the same next."""


def reading(template: PromptTemplate) -> str | None:
    """What the tokens of a conversation depend on, as a hash; None for a tokenizer that cannot be written down."""
    tokenizer = template.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    special = tokenizer.all_special_ids, template.end_of_turn, tokenizer.special_tokens_map
    told = json.dumps([tokenizer.get_chat_template(), template.arguments, special], default=str, sort_keys=True)
    return hashlib.sha256(f"{backend.to_str()}\0{told}".encode()).hexdigest()


def tokenised(template: PromptTemplate, key: str | None, answers: Sequence[Answer]) -> Iterator[list[Tokens]]:
    """The tokens of all answers, ``WINDOW`` of them at a time; a thread makes the next while these are used.

    Args:
        key: ``reading(template)``; where the last answers that were asked for are the same, under the same key, their
            tokens are not made again.

    Raises:
        ModelError: a conversation cannot be rendered; the message names the answer's id.
    """
    answers = list(answers)
    if key is not None and _last and _last[0][0] == key and _last[0][1] == answers:
        yield from _last.pop()[2]
        return
    _last.clear()
    known: dict[str, list[int]] = {}
    windows: list[list[Tokens]] = []
    with ThreadPoolExecutor(1) as pool:
        parts = [answers[first : first + WINDOW] for first in range(0, len(answers), WINDOW)]
        coming = pool.submit(_tokens, template, parts[0], known) if parts else None
        for part in [*parts[1:], None]:
            if coming is None:
                break
            windows.append(coming.result())
            coming = pool.submit(_tokens, template, part, known) if part is not None else None
            yield windows[-1]
    if key is not None:
        _last[:] = [(key, answers, windows)]


def _tokens(template: PromptTemplate, answers: Sequence[Answer], known: dict[str, list[int]]) -> list[Tokens]:
    """``known`` holds the prompts so far."""
    out = []
    for answer in answers:
        conversation = repr(list(answer.messages))
        if conversation not in known:
            try:
                known[conversation] = template.prompt_ids(answer.messages)
            except ModelError as error:
                raise ModelError(f"{answer.id}: {error}") from None
        out.append(Tokens(known[conversation], *template.answer_tokens(answer)))
    return out
