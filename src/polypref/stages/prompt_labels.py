"""Rows of labelled answers: one answer and its label (TRL's unpaired preferences), or right and wrong ones to one
prompt (RewardBench 2). They become labels of candidates, never pairs. Where a row has labels for several objectives,
``label_key`` says which is read: a column of that name, or a key of ``label``."""

from __future__ import annotations

import math
from typing import Any, Final

from polypref.errors import InputError
from polypref.records import Message
from polypref.stages.evaluate import LABELS
from polypref.stages.prompt_files import Row, need
from polypref.stages.prompt_join import DUPLICATE
from polypref.stages.prompt_rows import Entry, Fields, Labelled, as_messages, as_string, prompt_of, shown
from polypref.stages.prompt_turns import fault_of, turns_of

NO_LABEL: Final = "no_label"

_WORDS: Final = LABELS | {"true": 1, "false": 0, "yes": 1, "no": 0}
_NOTHING: Final = frozenset({"", "unsure", "n/a", "none", "null"})


def pointwise_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    """One answer a row: ``prompt``, ``completion`` and ``label``, plain or conversational."""
    completion, label = need(row, "completion", where), _label(row, fields.label, where)
    prompt, answer = conversation(row, completion, "completion", fields, where)
    lang, rest = fields.language_of(row, where), fields.rest(row, "completion", "label", fields.label or "label")
    entry_id = fields.id_of(row, where, position, lang, prompt)
    if label is None:
        return Entry(where, entry_id, lang, None, drop=NO_LABEL, rest=rest)
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


def conversation(row: Row, answer: Any, key: str, fields: Fields, where: str) -> tuple[list[Message], str]:
    """The prompt and the answer of a row whose ``key`` holds ``answer``: a text, the assistant's message behind an
    explicit prompt, or a whole conversation that ends with it."""
    if not isinstance(answer, list):
        return prompt_of(row, fields, where), as_string(answer, key, where)
    turns = turns_of(answer, key, where)
    if not turns or turns[-1]["role"] != "assistant":
        raise InputError(f"{where}: {key} must end with a message of the assistant")
    *before, last = turns
    given = None if fields.text in (None, key) else row.get(fields.text)
    if given is None and not before:
        raise InputError(f"{where}: prompt is missing; add one, or let {key} hold the whole conversation")
    prompt = as_messages(before if given is None else given, fields.text or key, where)
    if before and before != prompt:
        raise InputError(f"{where}: {fields.text} is not how {key} begins; leave one of the two out")
    return prompt, str(last["content"])


def _texts(found: Any, key: str, where: str) -> list[str]:
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise InputError(f"{where}: {key} is {shown(found)}; it must be a list of at least one answer, all strings")
    return found


def _label(row: Row, key: str | None, where: str) -> bool | float | None:
    """The row's label; of an objective that is asked for by its ``key``, None where the row says nothing of it."""
    if key is None:
        found = need(row, "label", where)
        if isinstance(found, dict):
            raise InputError(f"{where}: label holds {', '.join(map(str, found))}; name one with label_key")
        return as_label(found, "label", where)
    carried = row["label"] if isinstance(row.get("label"), dict) else {}
    found = carried[key] if key in carried and key not in row else need(row, key, where)
    return None if says_nothing(found) else as_label(found, key, where)


def says_nothing(found: Any) -> bool:
    """Whether an annotator left a question open: null, blank or unsure."""
    return found is None or (isinstance(found, str) and found.strip().lower() in _NOTHING)


def as_label(found: Any, key: str, where: str) -> bool | float:
    """A label as true or false where it is one of two values, else a number from 0 to 1. Tables hold it as text.

    Raises:
        InputError: it is none.
    """
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
        f"{where}: {key} is {shown(found)}; it must be true or false, a number from 0 to 1, or one of "
        f"{', '.join(LABELS)}"
    )
