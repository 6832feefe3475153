"""What is asked of every answer beside the prompt itself: "Think step by step. Answer in German."

The instruction becomes part of the last user turn, so answers are drawn and models trained under it. How many of the
turn's characters it put before and after the prompt is kept in the example (``instructed``), so that whoever looks for
the user's own words, such as a wish for another language, takes it off again with ``plain``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator

from polypref import languages
from polypref.backends.base import Tag
from polypref.errors import InputError, did_you_mean
from polypref.records import Example

PROMPT = "prompt"
PLACES = (PROMPT, "language", "language_native")
MARK = "instructed"
_PLACE = re.compile(r"\\[A-Za-z]+\{[^{}]*\}|\{([A-Za-z_]+)\}")
"""A name in braces. What TeX takes as an argument, as in \\boxed{answer}, is none, and stays."""


def _checked(value: str | dict[str, str]) -> str | dict[str, str]:
    for tag, text in {"": value}.items() if isinstance(value, str) else value.items():
        where = f"{tag}: " if tag else ""
        found = [name for name in _PLACE.findall(text) if name]
        for name in found:
            if name not in PLACES:
                raise ValueError(f"{where}{{{name}}} is no place of an instruction; {did_you_mean(name, PLACES)}")
        if found.count(PROMPT) > 1:
            raise ValueError(f"{where}{{prompt}} stands twice; the prompt goes in once")
        if not _filled(text, dict.fromkeys(PLACES, "")).strip():
            raise ValueError(f"{where}the instruction says nothing; leave it out")
    return value


Instruction = Annotated[str | dict[Tag, str], AfterValidator(_checked)]
"""A text for all languages, or one for each. ``{language}`` is the prompt's language in English, ``{language_native}``
in itself, ``{prompt}`` the prompt; without ``{prompt}`` the text follows it after a blank line."""


def instructed(examples: Iterable[Example], instruction: str | Mapping[str, str] | None) -> list[Example]:
    """The examples with the instruction in the last user turn of every prompt, in an earlier one's stead; as they are
    where it is None.

    Raises:
        InputError: there is no instruction for a language of a prompt.
    """
    return list(examples) if instruction is None else [_with(plain(example), instruction) for example in examples]


def _with(example: Example, instruction: str | Mapping[str, str]) -> Example:
    prompts, marks = {}, {}
    for tag, (*turns, last) in example.prompts.items():
        text = instruction if isinstance(instruction, str) else instruction.get(tag)
        if text is None:
            known = ", ".join(instruction)
            raise InputError(f"instruction has a text for {known}, but none for {tag}; add one, or leave {tag} out")
        before, after = _around(text, tag)
        prompts[tag] = [*turns, {**last, "content": f"{before}{last['content']}{after}"}]
        marks[tag] = [len(before), len(after)]
    return replace(example, prompts=prompts, extra={**example.extra, MARK: marks})


def _around(text: str, tag: str) -> tuple[str, str]:
    """What stands before the prompt and what after it, filled in."""
    import langcodes

    names = {"language": languages.name(tag), "language_native": langcodes.Language.get(tag).autonym()}
    place = next((found for found in _PLACE.finditer(text) if found[1] == PROMPT), None)
    if place is None:
        return "", f"\n\n{_filled(text, names)}"
    return _filled(text[: place.start()], names), _filled(text[place.end() :], names)


def _filled(text: str, names: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda found: names[found[1]] if found[1] else found[0], text)


def plain(example: Example) -> Example:
    """The example without what ``instructed`` put around its prompts: the user's own words."""
    marks = _marks(example)
    if not marks:
        return example
    prompts = dict(example.prompts)
    for tag, (before, after) in marks.items():
        if tag in prompts:
            *turns, last = prompts[tag]
            said = str(last["content"])
            prompts[tag] = [*turns, {**last, "content": said[before : len(said) - after]}]
    return replace(example, prompts=prompts, extra={k: v for k, v in example.extra.items() if k != MARK})


def _marks(example: Example) -> dict[str, tuple[int, int]]:
    found = example.extra.get(MARK) or {}
    try:
        return {str(tag): (int(before), int(after)) for tag, (before, after) in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"example {example.id!r}: {MARK} is {found!r}; it holds the characters that an instruction put before and "
            'after each language\'s prompt, as in {"en": [0, 42]}; rename a field of your own'
        ) from None
