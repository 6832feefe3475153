"""Translate prompts: an example gets those that it lacks, made from one that it has, where nobody has written them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import Field

from polypref.backends.base import Context, Tag, batches
from polypref.backends.translation import Translation
from polypref.errors import InputError
from polypref.records import Drop, Example, Message
from polypref.stages.passages import lost_numbers
from polypref.stages.prompt_instruction import plain
from polypref.stages.translating import NUMBERS_LOST, STAGE, Text, Translating, TranslatingOptions

VERSION: int = 1

MARK = "translated_prompts"
"""An example's own field: language → ``{"source", "model"}`` of each prompt that was made here."""


_Turns: TypeAlias = Mapping[int, tuple[Text, Translation]]
"""A prompt's turns that were sent, by their place."""


class TranslatePromptsOptions(TranslatingOptions):
    """Who translates the prompts, from which language into which."""

    BESIDE = TranslatingOptions.BESIDE | {"languages"}

    languages: tuple[Tag, ...] = Field(min_length=1, description="that an example is to have a prompt in")
    source: Tag | None = Field(None, description="whose prompt is translated; left out: the pivot's")
    role: str | None = Field(None, description="the model that the prompts are said to be of")


def translate_prompts(
    examples: Iterable[Example], options: TranslatePromptsOptions, context: Context
) -> Iterator[Example]:
    """Add the prompts that an example lacks in ``languages``; one that it has stays.

    Every turn is translated but a tool's and an empty one; an instruction that was put around it is left out, since
    each language has its own. Where a turn fails, the prompt is not made and a drop says
    why: the reasons of ``Translation``, ``wrong_language``, and ``no_prompt`` where there is none in the source. Each
    prompt that is made is noted in the example's ``translated_prompts``, with the numbers that it lacks.

    Raises:
        InputError: an example has a ``translated_prompts`` of another kind.
    """
    source = options.source or context.pivot
    translating = Translating(options, context)
    done = 0
    for chunk in batches(examples, options.chunk):
        texts = {
            (example.id, lang): _texts(example, source, lang)
            for example in chunk
            for lang in dict.fromkeys(options.languages)
            if lang not in example.prompts and source in example.prompts
        }
        asked = [text for turns in texts.values() for text in turns.values()]
        results = iter(translating.translate(asked))
        made = {key: {turn: (text, next(results)) for turn, text in turns.items()} for key, turns in texts.items()}
        for example in chunk:
            yield _with_prompts(example, source, options, made)
        done += len(chunk)
        context.progress(STAGE, done, None)


def _texts(example: Example, source: str, lang: str) -> dict[int, Text]:
    return {
        turn: Text(f"{example.id}/{lang}/{turn}", message["content"], source, lang, example)
        for turn, message in enumerate(plain(example).prompts[source])
        if message["role"] != "tool" and message["content"].strip()
    }


def _with_prompts(
    example: Example, source: str, options: TranslatePromptsOptions, made: Mapping[tuple[str, str], _Turns]
) -> Example:
    prompts, marks = dict(example.prompts), _marks(example)
    drops: list[Drop] = []
    for lang in dict.fromkeys(options.languages):
        if lang in example.prompts:
            continue
        turns = made.get((example.id, lang))
        reason = "no_prompt" if turns is None else next((t.reason for _, t in turns.values() if t.error), None)
        if turns is None or reason is not None:
            drops.append(Drop(STAGE, str(reason), lang))
            continue
        prompts[lang] = _prompt(plain(example).prompts[source], turns)
        marks[lang] = {"source": source, "model": options.role}
        lost = [number for text, result in turns.values() for number in lost_numbers(text.text, str(result.text))]
        if lost:
            marks[lang][NUMBERS_LOST] = list(dict.fromkeys(lost))
    return dataclasses.replace(
        example,
        prompts=prompts,
        dropped=[*example.dropped, *(drop for drop in drops if drop not in example.dropped)],
        extra=example.extra | ({MARK: marks} if marks else {}),
    )


def _prompt(source: Sequence[Message], turns: _Turns) -> list[Message]:
    return [
        {**message, "content": turns[turn][1].text} if turn in turns else dict(message)
        for turn, message in enumerate(source)
    ]


def _marks(example: Example) -> dict[str, Any]:
    found = example.extra.get(MARK) or {}
    if not isinstance(found, dict):
        raise InputError(
            f"the field {MARK} of example {example.id!r} is no object of language: {{source, model}}; rename it"
        )
    return dict(found)
