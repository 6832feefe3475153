"""One row as one ``Entry``: the fields that every shape shares, and how they are found, checked and told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from polypref import languages
from polypref.errors import InputError
from polypref.records import Message, parse_messages
from polypref.stages.prompt_files import Row, Source, broad, need, recognise

ID_KEYS = ("id", "instruction_id", "prompt_id")
TEXT_KEYS = ("instruction", "prompt", "question", "query", "text", "messages")
LANGUAGE_KEYS = ("language", "lang")
POSITION = "position"
ANSWERED = ("preference", "hh", "ranking", "pointwise", "labelled", "sft", "oasst", "seahorse")
"""Shapes whose rows hold answers."""


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt. ``scores`` are (chosen, rejected) where the row has both."""

    chosen: str
    rejected: str
    scores: tuple[float, float] | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer, and whether it is right: true or false, or a number from 0 to 1; and what is known of its origin."""

    text: str
    label: bool | float
    origin: str = "human"
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt in one language. ``prompt`` is None where a row has none to give; ``drop`` is why its answers are
    left out. A row has a ``preference``, ``labelled`` answers, a ``demonstration`` (an answer that nobody has judged)
    or none of them."""

    where: str
    id: str
    lang: str
    prompt: list[Message] | None
    preference: Preference | None = None
    drop: str | None = None
    rest: Row = field(default_factory=dict)
    labelled: tuple[Labelled, ...] = ()
    demonstration: str | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """How the user's fields are called, None being found out from the first row; and which answers are read:
    the objective of ``label``, ``ranked`` replies in all pairs or the best one's, or ``demonstrations``."""

    id: str | None = None
    text: str | None = None
    pattern: str | None = None
    languages: tuple[str, ...] = ()
    label: str | None = None
    ranked: Literal["all", "best"] = "all"
    articles: str | None = None
    demonstrations: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one source: fixed by its first row, then every row must have them.

    ``language`` is the column that tells the language, ``lang`` what the source's name or the user says. Where both are
    there, a row's own must not contradict.
    """

    id: str | None
    text: str | None
    input: str | None
    language: str | None
    lang: str | None
    label: str | None = None

    @classmethod
    def of(cls, row: Row, source: Source, keys: Keys, where: str, shape: str, *, content_ids: bool) -> Fields:
        id_key = keys.id or next((key for key in ID_KEYS if key in row), None)
        if id_key is None and not content_ids:
            raise InputError(
                f"{where}: no id among the fields {', '.join(list(row)[:8])}; languages are joined by id: name its "
                f"field with id_key, or say id_key: {POSITION} if the rows of all files stand in the same order"
            )
        text = keys.text or next((key for key in TEXT_KEYS if key in row), None)
        if text is None and shape == "per_language":
            raise InputError(f"{where}: no prompt among the fields {', '.join(list(row)[:8])}; name it with text_key")
        lang, language = source.lang, None
        if lang is None or (shape in ANSWERED and any(recognise(str(row.get(key))) for key in LANGUAGE_KEYS)):
            language = next((key for key in LANGUAGE_KEYS if isinstance(row.get(key), str)), None)
        if lang is None and language is None:
            if len(keys.languages) != 1:
                raise InputError(
                    f"{source.name}: nothing says which language it is in; name the file es.jsonl, add a language "
                    "column, or name one language with languages"
                )
            lang = keys.languages[0]
        return cls(
            id_key, text, "input" if text == "instruction" and keys.text is None else None, language, lang, keys.label
        )

    def language_of(self, row: Row, where: str) -> str:
        if self.language is None:
            return self.lang or ""
        found = need(row, self.language, where)
        if not isinstance(found, str):
            raise InputError(f"{where}: {self.language} is {shown(found)}; it must be a language, such as es")
        try:
            tag = languages.normalise(found)
        except InputError as error:
            raise InputError(f"{where}: {self.language}: {error}") from None
        if self.lang is not None and broad(tag) != broad(self.lang):
            raise InputError(
                f"{where}: {self.language} is {found!r}, but the file's name says {self.lang}; rename the file, or "
                "mend the row"
            )
        return tag

    def id_of(self, row: Row, where: str, position: int, *content: Any) -> str:
        if self.id == POSITION:
            return str(position)
        if self.id is None:
            return content_id(*content)
        return _id(need(row, self.id, where), self.id, where)

    def rest(self, row: Row, *read: str) -> Row:
        """What the row holds beside its id, language and prompt, and beside the fields that the shape has read."""
        known = {self.id, self.text, self.input, self.language, *read}
        return {key: value for key, value in row.items() if key not in known}


def _id(found: Any, key: str, where: str) -> str:
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if isinstance(found, str) and found:
        return found
    raise InputError(f"{where}: {key} is {shown(found)}; it must be a non-empty string or a whole number")


def content_id(*content: Any) -> str:
    """The id of a row that has none: a hash of what it says, so that it does not depend on where it stands."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def as_messages(found: Any, key: str, where: str) -> list[Message]:
    """A prompt as messages; of a struct that a table filled up, the empty fields go."""
    if isinstance(found, list):
        found = [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in found]
    try:
        return parse_messages(found, key)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def as_string(found: Any, key: str, where: str) -> str:
    if not isinstance(found, str):
        raise InputError(f"{where}: {key} is {shown(found)}; it must be a string")
    return found


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "…"


def prompt_of(row: Row, fields: Fields, where: str) -> list[Message]:
    """The row's prompt. Of rows with an ``instruction`` an ``input`` follows on the next line, as in Alpaca's data."""
    if fields.text is None:
        raise InputError(f"{where}: no prompt among the fields {', '.join(list(row)[:8])}; name it with text_key")
    prompt = as_messages(need(row, fields.text, where), fields.text, where)
    extra = row.get(fields.input) if fields.input else None
    if isinstance(extra, str) and extra.strip() and len(prompt) == 1:
        prompt = [{**prompt[0], "content": f"{prompt[0]['content']}\n{extra}"}]
    return prompt
