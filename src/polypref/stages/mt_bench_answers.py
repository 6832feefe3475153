"""A model's answers to the questions of MT-Bench: turn after turn, the second seeing the answer to the first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from polypref.backends.asking import ask, key_of
from polypref.backends.base import (
    Completion,
    Context,
    Generator,
    ModelSpec,
    Options,
    Recall,
    Request,
    Sampling,
    batches,
)
from polypref.records import Message
from polypref.stages.mt_bench import OTHER_TEMPERATURE, TEMPERATURES, Answered, Question

VERSION = 1
"""Raised when the same questions are asked differently; part of what an answer is kept under."""


class AnswerOptions(Options):
    """Who answers, and how."""

    BESIDE = frozenset({"chunk"})

    name: str = Field(min_length=1, description="of the model in answers and figures")
    model: ModelSpec = Field(description="who answers")
    temperature: float | None = Field(None, ge=0, description="MT-Bench's own by category when left out")
    max_tokens: int = Field(1024, gt=0, description="tokens of one turn")
    top_p: float | None = Field(None, gt=0, le=1, description="share of the probability that is kept")
    seed: int = Field(0, ge=0, description="of the samples' noise")
    chunk: int = Field(256, gt=0, description="questions that are answered at once")


def answered(
    questions: Sequence[Question], options: AnswerOptions, context: Context, recall: Recall | None = None
) -> Iterator[Answered]:
    """The answers to every question, in order. A turn that fails ends its question: the later ones are not asked.

    With ``recall`` what was answered before is not asked again; a failure is not kept.
    """
    generator: Generator = context.open("generator", options.model)
    done = 0
    for chunk in batches(questions, options.chunk):
        yield from _chunk(chunk, options, generator, recall)
        done += len(chunk)
        context.progress(f"answers of {options.name}", done, len(questions))


def unanswered(
    questions: Sequence[Question],
    options: AnswerOptions,
    fingerprint: Callable[[ModelSpec], str],
    recall: Recall | None = None,
) -> int:
    """How many turns ``answered`` would ask for; with a first turn that is not known its second counts too. Opens no
    model: ``fingerprint`` says who one is."""
    who = _identity(options, fingerprint)
    count = 0
    for question in questions:
        said: list[str | None] = []
        for turn in range(len(question.turns)):
            request = _request(question, turn, said)
            key = key_of(_fingerprint(who, _sampling(question, options)), request)
            kept = None if recall is None else recall.get(key)
            if kept is None:
                count += len(question.turns) - turn
            if kept is None or kept[0].get("error") is not None:
                break
            said.append(kept[0]["text"])
    return count


def _chunk(
    questions: Sequence[Question], options: AnswerOptions, generator: Generator, recall: Recall | None
) -> Iterator[Answered]:
    who = _identity(options, lambda spec: generator.fingerprint)
    said: list[list[str | None]] = [[] for _ in questions]
    errors: list[str | None] = [None] * len(questions)
    for turn in range(max(len(question.turns) for question in questions)):
        asked: dict[Sampling, list[tuple[int, Request]]] = {}
        for index, question in enumerate(questions):
            if turn < len(question.turns) and errors[index] is None:
                entry = index, _request(question, turn, said[index])
                asked.setdefault(_sampling(question, options), []).append(entry)
        for sampling, entries in asked.items():
            found = _said(entries, generator, sampling, _fingerprint(who, sampling), recall)
            for index, completion in found.items():
                errors[index] = completion.error
                said[index].append(None if completion.error is not None else completion.text)
    for question, turns, error in zip(questions, said, errors, strict=True):
        padded = (*turns, *[None] * (len(question.turns) - len(turns)))
        yield Answered(question.id, question.language, options.name, padded, error)


def _said(
    entries: Sequence[tuple[int, Request]],
    generator: Generator,
    sampling: Sampling,
    fingerprint: str,
    recall: Recall | None,
) -> dict[int, Completion]:
    """The completion of each index. Equal conversations are asked once, as they are kept once: so a run that goes on
    from what is kept gives what one in a single piece gives."""
    same: dict[str, list[int]] = {}
    requests = []
    for index, request in entries:
        indexes = same.setdefault(key_of(fingerprint, request), [])
        if not indexes:
            requests.append(request)
        indexes.append(index)
    places = list(same.values())
    found: dict[int, Completion] = {}

    def heard(place: int, completions: list[Completion]) -> None:
        found.update(dict.fromkeys(places[place], completions[0]))

    ask(generator, requests, sampling, fingerprint, recall, heard)
    return found


def _request(question: Question, turn: int, said: Sequence[str | None]) -> Request:
    """The question's turns up to ``turn``, with the answers to those before it."""
    messages: list[Message] = []
    for text, answer in zip(question.turns[:turn], said[:turn], strict=True):
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": str(answer)}]
    messages.append({"role": "user", "content": question.turns[turn]})
    return Request(f"mt-bench/{question.id}/turn-{turn + 1}/{question.language}", messages)


def _sampling(question: Question, options: AnswerOptions) -> Sampling:
    own = TEMPERATURES.get(question.category, OTHER_TEMPERATURE)
    return Sampling(
        temperature=own if options.temperature is None else options.temperature,
        top_p=options.top_p,
        max_tokens=options.max_tokens,
        seed=options.seed,
    )


def _identity(options: AnswerOptions, fingerprint: Callable[[ModelSpec], str]) -> dict[str, Any]:
    """Who answers: the model's files, and how it is opened where that changes what it says."""
    return options.model.identity(fingerprint)


def _fingerprint(who: Mapping[str, Any], sampling: Sampling) -> str:
    """All that an answer depends on beside its conversation."""
    return json.dumps([VERSION, who, sampling.model_dump(mode="json")], sort_keys=True)
