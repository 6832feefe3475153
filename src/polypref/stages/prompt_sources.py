"""What rows mean: the shapes in which users hold prompts and preferences, each read into ``Entry`` after ``Entry``.

    wire           {"id", "prompts": {lang: prompt}, …}                        polypref's own format
    per_language   one file a language, rows {id, prompt text}; or one file with a language column
    columns        one row a prompt, one column a language (en, es, …, or prompt_{lang})
    preference     TRL rows: prompt (or none, when chosen and rejected begin alike), chosen, rejected
    hh             hh-rlhf rows: chosen and rejected, each a transcript in one string
    ranking        LLaMA-Factory rows: conversations, or instruction and input; chosen, rejected
    pointwise      TRL's unpaired rows: prompt, completion, label
    labelled       RewardBench 2's rows: prompt, and lists of chosen and rejected answers
    sft            rows of demonstrations: messages, prompt and completion, or instruction and output
    oasst          OpenAssistant's exports: message trees, or one message a row, with ranked replies
    seahorse       Seahorse's rows: gem_id, worker_lang, summary, model, question1 to question6

An ``Entry`` is one prompt in one language, with the answers that came with it, if any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from polypref import languages
from polypref.errors import InputError
from polypref.stages.prompt_demonstrations import ANSWER_KEYS, ends_with_answer, sft_entry
from polypref.stages.prompt_files import Row, Source, need, pattern_regex, recognise
from polypref.stages.prompt_labels import labelled_entry, pointwise_entry
from polypref.stages.prompt_oasst import is_oasst, oasst_entries
from polypref.stages.prompt_preferences import hh_entry, preference_entry, ranking_entry
from polypref.stages.prompt_rows import (
    ANSWERED,
    ID_KEYS,
    LANGUAGE_KEYS,
    TEXT_KEYS,
    Entry,
    Fields,
    Keys,
    as_messages,
    prompt_of,
)
from polypref.stages.prompt_seahorse import is_seahorse, seahorse_entries
from polypref.stages.prompt_turns import is_transcript

SHAPES = ("wire", "per_language", "columns", *ANSWERED)
TELL_LANGUAGES = ("oasst", "seahorse")
"""Shapes whose rows always say which language they are in."""


def detect(source: Source, keys: Keys) -> str:
    """The shape of a source, by its first row.

    Raises:
        InputError: it is empty, or no shape fits; the message says what was found and what would fit.
    """
    where, row = first_row(source)
    if is_oasst(row):
        return "oasst"
    if is_seahorse(row):
        return "seahorse"
    if "prompts" in row:
        return "wire"
    if "chosen" in row and "rejected" in row:
        return _pairwise(row, keys)
    if "completion" in row and ("label" in row or keys.label in row):
        return "pointwise"
    if ends_with_answer(row) or (keys.demonstrations and any(key in row for key in ANSWER_KEYS)):
        return "sft"
    if keys.text is None and language_columns(row, keys, where):
        return "columns"
    if keys.text in row or any(key in row for key in TEXT_KEYS):
        return "per_language"
    raise InputError(
        f"{where}: no prompt found among the fields {', '.join(list(row)[:8])}; name it with text_key, or the "
        "languages' columns with pattern"
    )


def _pairwise(row: Row, keys: Keys) -> str:
    """The shape of a row with chosen and rejected answers."""
    if "conversations" in row or "instruction" in row:
        return "ranking"
    if isinstance(row["chosen"], list) and all(isinstance(answer, str) for answer in row["chosen"]):
        return "labelled"
    prompt = row.get(keys.text or "prompt")
    if is_transcript(prompt) and prompt.rstrip().endswith("Assistant:"):
        return "hh"
    return "hh" if prompt is None and is_transcript(row["chosen"]) else "preference"


def in_pivot(sources: Sequence[Source], shape: str, keys: Keys, pivot: str) -> list[Source]:
    """The one source of answers whose language nothing tells, as one in the pivot; all others as they are."""
    answered = shape in ANSWERED and shape not in TELL_LANGUAGES
    if not answered or len(sources) != 1 or sources[0].lang or pivot not in (keys.languages or (pivot,)):
        return list(sources)
    _, row = first_row(sources[0])
    told = len(keys.languages) == 1 or any(isinstance(row.get(key), str) for key in LANGUAGE_KEYS)
    return list(sources) if told else [replace(sources[0], lang=pivot)]


def first_row(source: Source) -> tuple[str, Row]:
    """The first row of a source; an empty one is refused."""
    for where, row in source.open():
        return where, row
    raise InputError(f"{source.name} is empty: it holds no row")


def entries(sources: Sequence[Source], shape: str, keys: Keys) -> Iterator[Entry]:
    """The entries of all sources, in their order.

    Raises:
        InputError: a field is missing or of the wrong kind (``file:line`` and field).
    """
    if shape == "columns":
        for source in sources:
            yield from _columns(source, keys)
        return
    if shape == "seahorse":
        yield from seahorse_entries(sources, keys)
        return
    if shape == "oasst":
        for source in sources:
            yield from oasst_entries(source, keys)
        return
    alone = len(sources) == 1 and (sources[0].lang is not None or len(keys.languages) == 1)
    for source in sources:
        where, row = first_row(source)
        fields = Fields.of(row, source, keys, where, shape, content_ids=alone or shape != "per_language")
        read = _READERS[shape]
        for position, (where, row) in enumerate(source.open(), 1):
            yield read(row, where, position, fields)


def _prompt_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    prompt = prompt_of(row, fields, where)
    lang = fields.language_of(row, where)
    return Entry(where, fields.id_of(row, where, position, lang, prompt), lang, prompt, rest=fields.rest(row))


_READERS = {
    "per_language": _prompt_entry,
    "preference": preference_entry,
    "hh": hh_entry,
    "ranking": ranking_entry,
    "pointwise": pointwise_entry,
    "labelled": labelled_entry,
    "sft": sft_entry,
}


def language_columns(row: Row, keys: Keys, where: str) -> dict[str, str]:
    """{column: language} of a row with a column a language; empty when it has none.

    Raises:
        InputError: two columns of one language, or several groups of columns and none is plainly the prompt.
    """
    if keys.pattern:
        matches = {name: m["lang"] for name in row if (m := pattern_regex(keys.pattern).fullmatch(name))}
        found = {name: languages.normalise(word) for name, word in matches.items()}
    else:
        found = _guessed_columns(row, keys, where)
    twice = [tag for tag in found.values() if list(found.values()).count(tag) > 1]
    if twice:
        names = ", ".join(name for name, tag in found.items() if tag == twice[0])
        raise InputError(f"{where}: the columns {names} are all in {twice[0]}; say which with pattern")
    return found


def _guessed_columns(row: Row, keys: Keys, where: str) -> dict[str, str]:
    groups: dict[str, dict[str, str]] = {}
    wanted = keys.languages
    for name in row:
        if name in ID_KEYS or name == keys.id:
            continue
        if tag := recognise(name):
            groups.setdefault("{lang}", {})[name] = tag
            continue
        for match in re.finditer(r"[_.\- ]", name):
            before, after = name[: match.start()], name[match.end() :]
            if tag := recognise(after):
                groups.setdefault(f"{before}{match[0]}{{lang}}", {})[name] = tag
            elif tag := recognise(before):
                groups.setdefault(f"{{lang}}{match[0]}{after}", {})[name] = tag
    groups = {pattern: group for pattern, group in groups.items() if len(group) > 1 or {*group.values()} == {*wanted}}
    if len(groups) > 1 and "{lang}" not in groups:
        named = {p: g for p, g in groups.items() if re.sub(r"[_.\- ]?\{lang\}[_.\- ]?", "", p) in TEXT_KEYS}
        if len(named) != 1:
            raise InputError(f"{where}: prompts could be in {' or '.join(sorted(groups))}; say which with pattern")
        groups = named
    return groups.get("{lang}") or next(iter(groups.values()), {})


def _columns(source: Source, keys: Keys) -> Iterator[Entry]:
    where, row = first_row(source)
    found = language_columns(row, keys, where)
    if not found:
        raise InputError(
            f"{where}: no column among {', '.join(list(row)[:8])} is called like a language; name them with pattern"
        )
    id_key = keys.id or next((key for key in ID_KEYS if key in row), None)
    fields = Fields(id_key, None, None, None, None)
    for position, (where, row) in enumerate(source.open(), 1):
        prompts = {
            tag: None if need(row, name, where) is None else as_messages(row[name], name, where)
            for name, tag in found.items()
        }
        row_id = fields.id_of(row, where, position, prompts)
        rest = {key: value for key, value in fields.rest(row).items() if key not in found}
        for tag, prompt in prompts.items():
            yield Entry(where, row_id, tag, prompt, rest=rest)
