"""Rows of labelled answers: one answer and its label (TRL's unpaired preferences), or right and wrong ones to one
prompt (RewardBench 2). They become labels of candidates, never pairs."""

from __future__ import annotations

import math
from typing import Any

from polypref.errors import InputError
from polypref.records import Message
from polypref.stages.evaluate import LABELS
from polypref.stages.prompt_files import Row, need
from polypref.stages.prompt_join import DUPLICATE
from polypref.stages.prompt_rows import Entry, Fields, Labelled, as_messages, as_string, prompt_of, shown
from polypref.stages.prompt_turns import fault_of, turns_of

_WORDS = LABELS | {"true": 1, "false": 0}


def pointwise_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    """One answer a row: ``prompt``, ``completion`` and ``label``, plain or conversational."""
    completion, label = need(row, "completion", where), _label(need(row, "label", where), where)
    if isinstance(completion, list):
        prompt, answer = _conversation(row, completion, fields, where)
    else:
        prompt, answer = prompt_of(row, fields, where), as_string(completion, "completion", where)
    lang, rest = fields.language_of(row, where), fields.rest(row, "completion", "label")
    entry_id = fields.id_of(row, where, position, lang, prompt)
    if fault := fault_of(prompt, (answer,)):
        return Entry(where, entry_id, lang, None if fault_of(prompt, ()) else prompt, drop=fault, rest=rest)
    return Entry(where, entry_id, lang, prompt, rest=rest, labelled=(Labelled(answer, label),))


def labelled_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    """RewardBench 2's rows: ``chosen`` and ``rejected`` are lists of answers to one ``prompt``."""
    right, wrong = (_texts(need(row, key, where), key, where) for key in ("chosen", "rejected"))
    prompt = prompt_of(row, fields, where)
    lang, rest = fields.language_of(row, where), fields.rest(row, "chosen", "rejected")
    entry_id = fields.id_of(row, where, position, lang, prompt, right, wrong)
    fault = fault_of(prompt, (*right, *wrong)) or (DUPLICATE if set(right) & set(wrong) else None)
    if fault:
        return Entry(where, entry_id, lang, None if fault_of(prompt, ()) else prompt, drop=fault, rest=rest)
    answers = (*(Labelled(text, True) for text in right), *(Labelled(text, False) for text in wrong))
    return Entry(where, entry_id, lang, prompt, rest=rest, labelled=answers)


def _conversation(row: Row, completion: list[Any], fields: Fields, where: str) -> tuple[list[Message], str]:
    """The answer behind an explicit prompt, or a whole conversation that ends with it."""
    turns = turns_of(completion, "completion", where)
    if not turns or turns[-1]["role"] != "assistant":
        raise InputError(f"{where}: completion must end with a message of the assistant")
    *before, last = turns
    given = None if fields.text is None else row.get(fields.text)
    if given is None and not before:
        raise InputError(f"{where}: prompt is missing; add one, or let completion hold the whole conversation")
    prompt = as_messages(before if given is None else given, fields.text or "completion", where)
    if before and before != prompt:
        raise InputError(f"{where}: {fields.text} is not how completion begins; leave one of the two out")
    return prompt, str(last["content"])


def _texts(found: Any, key: str, where: str) -> list[str]:
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise InputError(f"{where}: {key} is {shown(found)}; it must be a list of at least one answer, all strings")
    return found


def _label(found: Any, where: str) -> bool | float:
    """A label as true or false where it is one of two values, else a number from 0 to 1. Tables hold it as text."""
    value = found
    if isinstance(found, str):
        value = _WORDS.get(found.strip().lower(), found)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                value = None
    if isinstance(value, bool | int | float) and math.isfinite(value) and 0 <= value <= 1:
        return bool(value) if value in (0, 1) else float(value)
    raise InputError(
        f"{where}: label is {shown(found)}; it must be true or false, a number from 0 to 1, or one of "
        f"{', '.join(LABELS)}"
    )
