"""The record that flows through polypref: one prompt in all its languages, with its candidates, scores and pairs.

``parse_example`` turns a JSON object into an ``Example`` and refuses what breaks the wire format, naming the field;
``to_json`` turns it back. Unknown keys are kept in ``extra`` at every level and written back unchanged.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from polypref import languages
from polypref.errors import InputError

Message: TypeAlias = dict[str, Any]
"""A chat message, ``{"role": str, "content": str}``; other keys go through unchanged."""

ORIGINS = ("sampled", "translated", "reference", "human")
FINISH_REASONS = ("stop", "length")
LARGEST = 2**63 - 1
"""The largest whole number that Parquet holds."""


@dataclass(slots=True)
class Candidate:
    """One answer in one language. ``text`` is the last assistant message; ``tokens`` counts ``token_ids``."""

    id: str
    lang: str
    text: str
    origin: str | None = None
    parent: str | None = None
    model: str | None = None
    round: int | None = None
    finish_reason: str | None = None
    tokens: int | None = None
    token_ids: list[int] | None = None
    scores: dict[str, float] = field(default_factory=dict)
    label: Any = None
    error: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Pair:
    """A preference between two candidates of one example; ``margin`` is the difference of the named score."""

    lang: str
    chosen: str
    rejected: str
    score: str | None = None
    margin: float | None = None
    rule: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Drop:
    """Why something of an example goes no further: a stage and a reason, always."""

    stage: str
    reason: str
    lang: str | None = None
    candidate: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Example:
    """One prompt in all its languages; ``prompts`` maps a BCP-47 tag to messages that end with a user turn."""

    id: str
    prompts: dict[str, list[Message]]
    candidates: list[Candidate] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    category: str | None = None
    gold: Any = None
    task: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def candidate(self, candidate_id: str) -> Candidate:
        """The candidate of that id; KeyError when there is none."""
        for candidate in self.candidates:
            if candidate.id == candidate_id:
                return candidate
        raise KeyError(candidate_id)


# --- reading -------------------------------------------------------------------------------------------------------

_EXAMPLE_KEYS = frozenset({"id", "prompts", "candidates", "pairs", "dropped", "category", "gold", "task"})
_CANDIDATE_KEYS = frozenset(Candidate.__slots__) - {"extra"}
_PAIR_KEYS = frozenset(Pair.__slots__) - {"extra"}
_DROP_KEYS = frozenset(Drop.__slots__) - {"extra"}


class _Reader:
    """Typed access to one JSON object, with the path of the field in every complaint."""

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{path or 'the line'} is {_kind(value)}, not an object; write {{…}} with named fields")
        self.value, self.path = value, path

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def fail(self, key: str, found: Any, want: str) -> InputError:
        return InputError(f"{self.at(key)} is {_kind(found)}; it must be {want}")

    def text(self, key: str, *, empty: bool = False) -> str:
        found = self.value.get(key)
        if isinstance(found, str) and (found or empty):
            return found
        if key not in self.value:
            raise InputError(f"{self.at(key)} is missing; every {self._what()} needs one")
        raise self.fail(key, found, "a string" if empty else "a non-empty string")

    def optional_text(self, key: str, among: Sequence[str] | None = None) -> str | None:
        found = self.value.get(key)
        if found is None:
            return None
        if not isinstance(found, str) or (not found and among is None):
            raise self.fail(key, found, "a non-empty string or null")
        if among is not None and found not in among:
            raise InputError(f"{self.at(key)} is {found!r}; it must be {', '.join(among)} or null")
        return found

    def optional_integer(self, key: str) -> int | None:
        found = self.value.get(key)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= LARGEST:
            raise self.fail(key, found, "a whole number that is not negative and fits 64 bits, or null")
        return found

    def number(self, key: str, found: Any) -> float:
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self.fail(key, found, "a number")
        try:
            finite = math.isfinite(found)
        except OverflowError:
            finite = False
        if not finite:
            raise InputError(f"{self.at(key)} is {found}; a score must be a finite number")
        return found

    def language(self, key: str, found: Any) -> str:
        if not isinstance(found, str):
            raise self.fail(key, found, "a language code such as es")
        try:
            return languages.normalise(found)
        except InputError as error:
            raise InputError(f"{self.at(key)}: {error}") from None

    def list(self, key: str) -> list[Any]:
        found = self.value.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise self.fail(key, found, "a list or null")
        return found

    def extra(self, known: frozenset[str]) -> dict[str, Any]:
        if self.value.keys() <= known:  # nearly always; files of a million candidates are read
            return {}
        return {key: value for key, value in self.value.items() if key not in known}

    def _what(self) -> str:
        return self.path.rpartition(".")[2].partition("[")[0].rstrip("s") or "example"


def _kind(value: Any) -> str:
    """How a wrong value is named in a message, never longer than a few words."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    shown = json.dumps(value, ensure_ascii=False) if not isinstance(value, float) else repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "…"


def parse_messages(value: Any, path: str) -> list[Message]:
    """A prompt on the wire (a string, or a list of role–content messages) as messages that end with a user turn."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise InputError(f"{path} is {_kind(value)}; it must be a string or a non-empty list of messages")
    for index, message in enumerate(value):
        reader = _Reader(message, f"{path}[{index}]")
        reader.text("role")
        reader.text("content", empty=True)
    if value[-1]["role"] != "user":
        raise InputError(f"{path} ends with a turn of {value[-1]['role']!r}; a prompt must end with the user's turn")
    return value


def _parse_candidate(value: Any, path: str) -> Candidate:
    reader = _Reader(value, path)
    scores = reader.value.get("scores")
    if scores is None:
        scores = {}
    if not isinstance(scores, dict):
        raise reader.fail("scores", scores, "an object of numbers")
    for name, score in scores.items():
        if not (type(score) is float and math.isfinite(score)):
            _Reader(scores, reader.at("scores")).number(name, score)
    ids = reader.value.get("token_ids")
    if ids is not None and not (
        isinstance(ids, list) and all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i <= LARGEST for i in ids)
    ):
        raise reader.fail("token_ids", ids, "a list of token ids or null")
    if "lang" not in reader.value:
        raise InputError(f"{reader.at('lang')} is missing; every candidate needs one")
    return Candidate(
        id=reader.text("id"),
        lang=reader.language("lang", reader.value["lang"]),
        text=reader.text("text", empty=True),
        origin=reader.optional_text("origin", ORIGINS),
        parent=reader.optional_text("parent"),
        model=reader.optional_text("model"),
        round=reader.optional_integer("round"),
        finish_reason=reader.optional_text("finish_reason", FINISH_REASONS),
        tokens=reader.optional_integer("tokens"),
        token_ids=ids,
        scores=scores,
        label=reader.value.get("label"),
        error=reader.optional_text("error"),
        extra=reader.extra(_CANDIDATE_KEYS),
    )


def _parse_pair(value: Any, path: str) -> Pair:
    reader = _Reader(value, path)
    margin = reader.value.get("margin")
    return Pair(
        lang=reader.language("lang", reader.value.get("lang")),
        chosen=reader.text("chosen"),
        rejected=reader.text("rejected"),
        score=reader.optional_text("score"),
        margin=None if margin is None else reader.number("margin", margin),
        rule=reader.optional_text("rule"),
        extra=reader.extra(_PAIR_KEYS),
    )


def _parse_drop(value: Any, path: str) -> Drop:
    reader = _Reader(value, path)
    lang = reader.value.get("lang")
    return Drop(
        stage=reader.text("stage"),
        reason=reader.text("reason"),
        lang=None if lang is None else reader.language("lang", lang),
        candidate=reader.optional_text("candidate"),
        extra=reader.extra(_DROP_KEYS),
    )


def parse_example(value: Any) -> Example:
    """An ``Example`` of one JSON object of the wire format.

    Raises:
        InputError: a field is missing, of the wrong kind, or names something that is not there. The message begins
            with the path of the field (``candidates[1].scores.implicit``); the caller puts file and line before it.
    """
    reader = _Reader(value, "")
    example_id = reader.text("id")
    if "prompts" not in reader.value:
        raise InputError("prompts is missing; every example needs an object of language: prompt")
    found = reader.value["prompts"]
    if not isinstance(found, dict) or not found:
        raise reader.fail("prompts", found, "an object of language: prompt with at least one language")
    prompts: dict[str, list[Message]] = {}
    inner = _Reader(found, "prompts")
    for code, prompt in found.items():
        tag = inner.language(code, code)
        if tag in prompts:
            raise InputError(f"prompts.{code} is the language {tag} a second time; keep one of the two")
        prompts[tag] = parse_messages(prompt, f"prompts.{code}")
    example = Example(
        id=example_id,
        prompts=prompts,
        candidates=[_parse_candidate(c, f"candidates[{i}]") for i, c in enumerate(reader.list("candidates"))],
        pairs=[_parse_pair(p, f"pairs[{i}]") for i, p in enumerate(reader.list("pairs"))],
        dropped=[_parse_drop(d, f"dropped[{i}]") for i, d in enumerate(reader.list("dropped"))],
        category=reader.optional_text("category"),
        gold=reader.value.get("gold"),
        task=reader.optional_text("task"),
        extra=reader.extra(_EXAMPLE_KEYS),
    )
    _check_references(example)
    return example


def _check_references(example: Example) -> None:
    ids: set[str] = set()
    for index, candidate in enumerate(example.candidates):
        if candidate.id in ids:
            raise InputError(f"candidates[{index}].id is {candidate.id!r} a second time; ids are unique in an example")
        ids.add(candidate.id)
    for index, candidate in enumerate(example.candidates):
        if candidate.parent is not None and (candidate.parent not in ids or candidate.parent == candidate.id):
            raise InputError(f"candidates[{index}].parent names {candidate.parent!r}, which is no other candidate here")
    for index, pair in enumerate(example.pairs):
        for side in ("chosen", "rejected"):
            if getattr(pair, side) not in ids:
                raise InputError(f"pairs[{index}].{side} names {getattr(pair, side)!r}, which is no candidate here")


# --- writing -------------------------------------------------------------------------------------------------------

_READ = {
    kind: (names, operator.attrgetter(*names))
    for kind in (Example, Candidate, Pair, Drop)
    for names in [[name for name in kind.__slots__ if name != "extra"]]
}


def _fields(record: Example | Candidate | Pair | Drop) -> dict[str, Any]:
    names, values = _READ[type(record)]
    out = dict(zip(names, values(record), strict=True))
    out.update(record.extra)
    return out


def to_json(example: Example) -> dict[str, Any]:
    """The example as a JSON object of the wire format; ``parse_example`` gives the same example back.

    Every known key is written, null where there is nothing, so that every line has the same columns.
    """
    out = _fields(example)
    out["candidates"] = [_fields(c) for c in example.candidates]
    out["pairs"] = [_fields(p) for p in example.pairs]
    out["dropped"] = [_fields(d) for d in example.dropped] or None
    return out


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)


def dumps(value: Mapping[str, Any]) -> str:
    """One line of JSON: UTF-8 as it is, floats in full precision, no NaN."""
    return _ENCODER.encode(value)


def live(candidate: Candidate) -> bool:
    """Whether the candidate may be scored, chosen or rejected: one that failed may not."""
    return candidate.error is None


def last_user_text(messages: Sequence[Message]) -> str:
    """The text of the last user turn."""
    return str(messages[-1]["content"])


def with_prefix(messages: Sequence[Message], prefix: str) -> list[Message]:
    """The conversation with ``prefix`` before its last user turn."""
    *before, last = messages
    return [*before, {**last, "content": prefix + last["content"]}]


def with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """The conversation after a system prompt; one that begins with its own keeps it."""
    if system is None or messages[0]["role"] == "system":
        return list(messages)
    return [{"role": "system", "content": system}, *messages]
