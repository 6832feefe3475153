"""Translate prompts: an example gets those that it lacks, made from one that it has, where nobody has written them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        yield from with_prompts(chunk, source, lambda example: options.languages, translating, options.role)
        done += len(chunk)
        context.progress(STAGE, done, None)


def with_prompts(
    chunk: Sequence[Example],
    source: str,
    languages: Callable[[Example], Sequence[str]],
    translating: Translating,
    role: str | None,
) -> list[Example]:
    """The examples with the prompts that they lack in their ``languages``, all asked for at once; see
    ``translate_prompts``.

    Args:
        role: the model that the prompts are said to be of.
    """
    lacking = [[lang for lang in dict.fromkeys(languages(e)) if lang not in e.prompts] for e in chunk]
    asked = [
        (example, lang, turns_of(plain(example).prompts[source], f"{example.id}/{lang}", source, lang, example))
        for example, langs in zip(chunk, lacking, strict=True)
        for lang in langs
        if source in example.prompts
    ]
    results = iter(translating.translate([text for _, _, turns in asked for text in turns.values()]))
    made = {
        (example.id, lang): {turn: (text, next(results)) for turn, text in turns.items()}
        for example, lang, turns in asked
    }
    return [_with_prompts(example, source, langs, made, role) for example, langs in zip(chunk, lacking, strict=True)]


def turns_of(messages: Sequence[Message], name: str, source: str, lang: str, example: Example) -> dict[int, Text]:
    """A prompt's turns that are translated, by their place: all but a tool's and empty ones."""
    return {
        turn: Text(f"{name}/{turn}", message["content"], source, lang, example)
        for turn, message in enumerate(messages)
        if message["role"] != "tool" and message["content"].strip()
    }


def _with_prompts(
    example: Example, source: str, languages: Sequence[str], made: Mapping[tuple[str, str], _Turns], role: str | None
) -> Example:
    prompts, marks = dict(example.prompts), marks_of(example)
    drops: list[Drop] = []
    for lang in languages:
        turns = made.get((example.id, lang))
        reason = "no_prompt" if turns is None else next((t.reason for _, t in turns.values() if t.error), None)
        if turns is None or reason is not None:
            drops.append(Drop(STAGE, str(reason), lang))
            continue
        prompts[lang] = rebuilt(plain(example).prompts[source], {turn: str(t.text) for turn, (_, t) in turns.items()})
        marks[lang] = {"source": source, "model": role}
        lost = [number for text, result in turns.values() for number in lost_numbers(text.text, str(result.text))]
        if lost:
            marks[lang][NUMBERS_LOST] = list(dict.fromkeys(lost))
    return dataclasses.replace(
        example,
        prompts=prompts,
        dropped=[*example.dropped, *(drop for drop in drops if drop not in example.dropped)],
        extra=example.extra | ({MARK: marks} if marks else {}),
    )


def rebuilt(messages: Sequence[Message], texts: Mapping[int, str]) -> list[Message]:
    """The messages with other contents, by place."""
    return [
        {**message, "content": texts[turn]} if turn in texts else dict(message) for turn, message in enumerate(messages)
    ]


def marks_of(example: Example, field: str = MARK) -> dict[str, Any]:
    """What an example notes of the prompts that were made, by language.

    Raises:
        InputError: its field of that name is of another kind.
    """
    found = example.extra.get(field) or {}
    if not isinstance(found, dict):
        raise InputError(
            f"the field {field} of example {example.id!r} is no object of language: {{source, model}}; rename it"
        )
    return dict(found)
