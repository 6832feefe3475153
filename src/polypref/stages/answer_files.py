"""Models' answers as users have them, each row read into a ``Reply``.

A path is a file, a folder with one file a language, or a path with ``{language}`` in it. Its rows are

    AlpacaEval's outputs   {"instruction", "output", "generator"}
    rows with ids          {"id", "response"}, and "language" where the file's name does not tell it
    the wire format        {"id", "prompts", "candidates"}

An answer that is null, or beside an ``error``, has failed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from polypref import languages
from polypref.errors import InputError
from polypref.records import Message, live, parse_example
from polypref.stages.prompt_files import Row, Source, find_sources
from polypref.stages.prompt_rows import ID_KEYS, LANGUAGE_KEYS, as_messages, shown

ANSWER_KEYS: Final = ("output", "response", "completion", "answer")
PROMPT_KEYS: Final = ("instruction", "prompt", "question")
MODEL_KEYS: Final = ("generator", "model")
CATEGORY_KEYS: Final = ("category", "dataset")


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer to one prompt: ``text`` is None where it failed. ``id``, ``language`` and ``prompt`` are None
    where the row does not tell them. Replies of the same ``where`` stand in one row, the first first."""

    where: str
    id: str | None
    language: str | None
    prompt: list[Message] | None
    text: str | None
    model: str | None = None
    gold: Any = None
    category: str | None = None


def read_replies(path: str, name: str | None = None, spoken: Collection[str] = ()) -> list[Reply]:
    """All answers of a path, in the order of its files and rows.

    Args:
        name: the model's, which picks among several models of one path.
        spoken: the languages of the prompts. The name of a single file tells its language only where it is one of them
            (``my_answers.jsonl`` is not in Burmese).

    Raises:
        InputError: nothing is there, a row is no answer (``file:line``), or none of several models is the one named.
    """
    sources, _ = find_sources(path.replace("{language}", "{lang}"), None)
    alone = len(sources) == 1 and "{lang" not in path
    found = [reply for source in sources for reply in _replies(source, _language(source, alone, spoken))]
    if not found:
        raise InputError(f"{path} is empty: it holds no answer")
    models = dict.fromkeys(reply.model for reply in found)
    if len(models) == 1 or name is None:
        return found
    if name not in models:
        there = ", ".join(str(model) for model in models if model)
        raise InputError(
            f"{path} holds answers of several models ({there}), none called {name}; give one of these names"
        )
    return [reply for reply in found if reply.model == name]


def _language(source: Source, alone: bool, spoken: Collection[str]) -> str | None:
    return None if alone and spoken and source.lang not in spoken else source.lang


def _replies(source: Source, lang: str | None) -> Iterator[Reply]:
    for where, row in source.open():
        if isinstance(row.get("prompts"), dict):
            yield from _of_example(row, where)
        else:
            yield _of_row(row, where, lang)


def _of_row(row: Row, where: str, lang: str | None) -> Reply:
    key = next((key for key in ANSWER_KEYS if key in row), None)
    if key is None:
        raise InputError(
            f"{where}: no answer among the fields {', '.join(list(row)[:8])}; an answer stands in "
            f"{', '.join(ANSWER_KEYS)}"
        )
    text = row[key]
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where}: {key} is {shown(text)}; an answer is a text, or null where the model failed")
    prompt_key = next((key for key in PROMPT_KEYS if row.get(key) is not None), None)
    prompt = None if prompt_key is None else as_messages(row[prompt_key], prompt_key, where)
    reply_id = _id(row, where)
    if reply_id is None and prompt is None:
        raise InputError(
            f"{where}: nothing tells which prompt is answered; add an id ({', '.join(ID_KEYS)}) or the prompt "
            f"({', '.join(PROMPT_KEYS)})"
        )
    model, category = (
        next((row[key] for key in keys if isinstance(row.get(key), str)), None) for keys in (MODEL_KEYS, CATEGORY_KEYS)
    )
    failed = row.get("error") is not None
    tag = _own_language(row, where, lang)
    return Reply(where, reply_id, tag, prompt, None if failed else text, model, row.get("gold"), category)


def _id(row: Row, where: str) -> str | None:
    key = next((key for key in ID_KEYS if row.get(key) is not None), None)
    if key is None:
        return None
    found = row[key]
    if isinstance(found, bool) or not isinstance(found, int | str) or found == "":
        raise InputError(f"{where}: {key} is {shown(found)}; it must be a non-empty string or a whole number")
    return str(found)


def _own_language(row: Row, where: str, lang: str | None) -> str | None:
    """The language that the row tells, which must not contradict its file's name."""
    key = next((key for key in LANGUAGE_KEYS if isinstance(row.get(key), str)), None)
    if key is None:
        return lang
    try:
        tag = languages.normalise(row[key])
    except InputError as error:
        raise InputError(f"{where}: {key}: {error}") from None
    if lang is not None and tag != lang:
        raise InputError(f"{where}: {key} is {row[key]!r}, but the file's name says {lang}; rename it, or mend the row")
    return tag


def _of_example(row: Row, where: str) -> Iterator[Reply]:
    try:
        example = parse_example(row)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    for candidate in example.candidates:
        text = candidate.text if live(candidate) else None
        prompt = example.prompts.get(candidate.lang)
        told = candidate.model, example.gold, example.category
        yield Reply(where, example.id, candidate.lang, prompt, text, *told)
