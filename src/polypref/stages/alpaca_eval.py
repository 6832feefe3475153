"""Models' answers to a set of prompts, joined with them, and the matches that they make.

An answer is joined by its row's id; where it has none, or one that no prompt has, by what its prompt says, as in
AlpacaEval's outputs. Of prompts that say the same the first answer goes to the first, the second to the second.

A prompt that one side has no answer to is not compared, and said. An answer that failed is compared, and loses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from polypref.errors import InputError, did_you_mean
from polypref.records import Example, Message, last_user_text
from polypref.stages.answer_files import ANSWER_KEYS, Reply
from polypref.stages.matches import Match
from polypref.stages.prompt_files import find_sources
from polypref.stages.prompt_rows import ID_KEYS, POSITION, content_id
from polypref.stages.prompt_sources import first_row

Place: TypeAlias = tuple[str, str]
"""(prompt's id, language)."""

Warn: TypeAlias = Callable[[str], None]

PROMPTS: Final = "prompts"
REFERENCES: Final = ("references", "reference", "baseline")
REFERENCE: Final = "reference"
"""How reference answers are called that name no model."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one model: (id, language) → text, None where it failed to answer."""

    name: str
    texts: Mapping[Place, str | None]

    def languages(self) -> set[str]:
        return {lang for _, lang in self.texts}


# --- a folder of prompts and reference answers ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a folder has its prompts and its reference answers (None: nowhere), and how their rows are called."""

    prompts: str
    references: str | None
    id_key: str | None
    category_key: str | None


def layout(folder: str) -> Layout:
    """How a set of prompts lies on disk: a file, a folder with one file a language, or one that has these in
    ``prompts/``. Reference answers stand in ``references/``, or beside the prompts in the same rows.

    Rows of one file need no ids: they are then told apart by their place.

    Raises:
        InputError: there are no prompts, or two folders of references.
    """
    path = Path(folder)
    inner = str(path / PROMPTS) if (path / PROMPTS).is_dir() else folder
    found = [str(path / name) for name in REFERENCES if (path / name).is_dir()]
    if len(found) > 1:
        raise InputError(f"{folder} holds {' and '.join(found)}; name the one to read with --baseline NAME=PATH")
    sources, _ = find_sources(inner.replace("{language}", "{lang}"), None)
    _, row = first_row(sources[0])
    if not found and any(key in row for key in ANSWER_KEYS):
        found = [inner]
    alone = len(sources) == 1 and "prompts" not in row and not any(key in row for key in ID_KEYS)
    category = "dataset" if isinstance(row.get("dataset"), str) and "category" not in row else None
    return Layout(inner, found[0] if found else None, POSITION if alone else None, category)


# --- answers to prompts --------------------------------------------------------------------------------------------


def prompts_of(replies: Iterable[Reply]) -> list[Example]:
    """The prompts that answers carry with them. Those without an id have a hash of what they say for one.

    Raises:
        InputError: an id has two prompts in a language, a language is not told, or no answer has a prompt.
    """
    prompts: dict[str, Example] = {}
    said: set[tuple[str, str]] = set()
    for reply in sorted(replies, key=lambda reply: reply.id is None):  # those with ids first: others may be theirs
        if reply.prompt is None:
            continue
        if reply.language is None:
            raise _no_language(reply)
        text = reply.language, _plain(reply.prompt)
        if reply.id is None and text in said:
            continue
        said.add(text)
        prompt_id = reply.id or content_id(*text)
        example = prompts.setdefault(prompt_id, Example(prompt_id, {}, category=reply.category, gold=reply.gold))
        if example.prompts.setdefault(reply.language, reply.prompt) != reply.prompt:
            raise InputError(
                f"{reply.where}: id {reply.id!r} stands elsewhere with another {reply.language} prompt; answers to the "
                "same prompt have the same id, others have their own"
            )
    if not prompts:
        raise InputError("no answer carries its prompt; name the prompts with --prompts")
    return list(prompts.values())


def joined(name: str, replies: Iterable[Reply], prompts: Sequence[Example], warn: Warn) -> Answers:
    """A model's answers, each to its prompt. Answers to none of the prompts, and further ones of a row, are left
    aside and said.

    Raises:
        InputError: a prompt is answered twice, the language of an answer is not told, or no answer is to any prompt.
    """
    index = _Index(prompts)
    texts: dict[Place, str | None] = {}
    where: dict[Place, str] = {}
    strange: list[str] = []
    further: list[str] = []
    differ: list[str] = []
    for reply in replies:
        place = index.place(reply, texts)
        if place is None:
            strange.append(reply.where)
        elif place not in texts:
            texts[place], where[place] = reply.text, reply.where
            differ += [reply.where] * (not index.same(reply, place))
        elif where[place] == reply.where:
            further.append(reply.where)
        else:
            raise InputError(
                f"{reply.where}: {name} has answered prompt {place[0]!r} in {place[1]} already at {where[place]}; "
                "keep one answer a prompt"
            )
    if not texts:
        raise InputError(f"{name}: {strange[0]} and all other answers are to none of the prompts; do their ids agree?")
    for told, places in (
        ("answers are to none of the prompts and are left aside", strange),
        ("further answers in rows that hold several are left aside", further),
        ("answers were given to a prompt that reads otherwise under the same id", differ),
    ):
        if places:
            warn(f"{name}: {len(places)} {told} (first: {places[0]})")
    return Answers(name, texts)


@dataclass(slots=True)
class _Index:
    """Where a reply belongs."""

    prompts: Sequence[Example]
    by_id: dict[str, Example] = field(default_factory=dict)
    by_text: dict[str, list[Place]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_id = {example.id: example for example in self.prompts}
        for example in self.prompts:
            for lang, prompt in example.prompts.items():
                self.by_text.setdefault(_plain(prompt), []).append((example.id, lang))

    def place(self, reply: Reply, taken: Mapping[Place, str | None]) -> Place | None:
        if reply.id in self.by_id:
            there = self.by_id[reply.id].prompts
            if reply.language is None and len(there) > 1:
                raise _no_language(reply)
            lang = reply.language or next(iter(there))
            return (reply.id, lang) if lang in there else None
        if reply.prompt is None:
            return None
        places = [p for p in self.by_text.get(_plain(reply.prompt), []) if reply.language in (None, p[1])]
        if len({lang for _, lang in places}) > 1:
            raise _no_language(reply)
        return next((place for place in places if place not in taken), places[0] if places else None)

    def same(self, reply: Reply, place: Place) -> bool:
        return reply.prompt is None or _plain(reply.prompt) == _plain(self.by_id[place[0]].prompts[place[1]])


def _plain(prompt: Sequence[Message]) -> str:
    """What a prompt asks, whatever its line breaks and blanks."""
    return " ".join(last_user_text(prompt).split())


def _no_language(reply: Reply) -> InputError:
    return InputError(
        f"{reply.where}: nothing tells which language the answer is in; name the file es.jsonl, add a language column, "
        "or name one language with --languages"
    )


# --- matches -------------------------------------------------------------------------------------------------------


def matches(
    prompts: Sequence[Example], models: Sequence[Answers], baseline: str | None, languages: Sequence[str], warn: Warn
) -> list[Match]:
    """All models against the baseline, or every two of them where none is named: language by language, prompt by
    prompt in the order given.

    Args:
        languages: only these; where none is named, all in which any two that meet have answers.

    Raises:
        InputError: no model is called like the baseline, two that meet share no prompt, in a language that was asked
            for nobody meets, or some prompts alone have a difficulty.
    """
    names = [model.name for model in models]
    if baseline is not None and baseline not in names:
        raise InputError(f"the baseline {baseline} is none of the models; {did_you_mean(baseline, names)}")
    pairs = _pairs(models, baseline)
    if not pairs:
        raise InputError(f"{names[0]} alone has answers; name another model's to hold against them, as NAME=PATH")
    found = [
        match
        for lang in languages or sorted({tag for example in prompts for tag in example.prompts})
        for example in prompts
        if lang in example.prompts
        for one, other in pairs
        if (match := _match(example, lang, one, other))
    ]
    spoken = languages or sorted({match.language for match in found})
    _check(found, [(one.name, other.name) for one, other in pairs], spoken)
    for model in models:
        if lacking := _lacking(model, prompts, spoken):
            warn(f"{model.name} has no answer, so that nothing is compared there, to {lacking}")
    return found


def _check(found: Sequence[Match], pairs: Sequence[tuple[str, str]], languages: Sequence[str]) -> None:
    """Every two that should meet do, somebody meets in every language, and difficulties are whole or absent."""
    met = {(match.model, match.baseline) for match in found}
    for one, other in pairs:
        if (one, other) not in met:
            raise InputError(f"{one} and {other} have no answers to the same prompt; do their ids agree?")
    for lang in languages:
        if not any(match.language == lang for match in found):
            raise InputError(f"nobody can be compared in {lang}: no two that meet have answers in it; leave it out")
    without = [match for match in found if match.difficulty is None]
    if without and len(without) < len(found):
        raise InputError(
            f"prompt {without[0].id!r} has no difficulty in {without[0].language}, but others have; give it to all or "
            "to none"
        )


def _lacking(model: Answers, prompts: Sequence[Example], languages: Sequence[str]) -> str:
    """Where a model has no answers, in words: how many prompts of how many, by language."""
    told = []
    for lang in languages:
        asked = [example.id for example in prompts if lang in example.prompts]
        if lacking := sum((prompt_id, lang) not in model.texts for prompt_id in asked):
            told.append(f"{lacking} of {len(asked)} prompts in {lang}")
    return ", ".join(told)


def _pairs(models: Sequence[Answers], baseline: str | None) -> list[tuple[Answers, Answers]]:
    if baseline is None:
        return list(itertools.combinations(models, 2))
    [held] = [model for model in models if model.name == baseline]
    return [(model, held) for model in models if model.name != baseline]


def _match(example: Example, lang: str, one: Answers, other: Answers) -> Match | None:
    place = example.id, lang
    if place not in one.texts or place not in other.texts:
        return None
    return Match(
        example.id,
        lang,
        example.prompts[lang],
        one.name,
        other.name,
        one.texts[place],
        other.texts[place],
        gold=example.gold,
        category=example.category,
        difficulty=_difficulty(example, lang),
    )


def _difficulty(example: Example, lang: str) -> float | None:
    """The prompt's own ``difficulty``, one for all languages or by language."""
    found: Any = example.extra.get("difficulty")
    found = found.get(lang) if isinstance(found, dict) else found
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def spoken_in(replies: Iterable[Reply], languages: Sequence[str]) -> list[Reply]:
    """The replies in these languages, in all where none is named; one that tells no language is in the only one."""
    alone = languages[0] if len(languages) == 1 else None
    placed = [replace(reply, language=reply.language or alone) for reply in replies]
    return [reply for reply in placed if not languages or reply.language in (None, *languages)]
