"""Rows of preferences: TRL's (plain or conversational, prompt given or implied), transcripts in one string as in
hh-rlhf, and LLaMA-Factory's ranking rows."""

from __future__ import annotations

import math
import re
from typing import Any

from polypref.errors import InputError
from polypref.records import Message
from polypref.stages.prompt_files import Row, need
from polypref.stages.prompt_rows import Entry, Fields, Preference, as_messages, as_string, prompt_of, shown
from polypref.stages.prompt_turns import (
    fault_of,
    is_transcript,
    parted,
    sharegpt_turn,
    sharegpt_turns,
    transcript,
    turns_of,
)

_READ = ("chosen", "rejected", "score_chosen", "score_rejected", "margin", "conversations", "system", "history")


def preference_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    """TRL's rows: ``chosen`` and ``rejected``, plain or conversational, with ``prompt`` or with what they share."""
    chosen, rejected = need(row, "chosen", where), need(row, "rejected", where)
    explicit = None if fields.text is None else row.get(fields.text)
    if isinstance(chosen, list) != isinstance(rejected, list):
        raise InputError(f"{where}: chosen and rejected must both be strings, or both lists of messages")
    fault = None
    if isinstance(chosen, list):
        prompt, answers, fault = _conversation(explicit, chosen, rejected, fields.text or "prompt", where)
    elif explicit is not None:
        prompt = prompt_of(row, fields, where)
        answers = (as_string(chosen, "chosen", where), as_string(rejected, "rejected", where))
    else:
        prompt, answers = _plain(as_string(chosen, "chosen", where), as_string(rejected, "rejected", where), where)
    return _preferred(row, where, position, fields, prompt, answers, fault)


def hh_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    """hh-rlhf's rows: two transcripts; or the transcript up to ``Assistant:`` as ``prompt``, and two answers."""
    start = as_string(row.get("prompt") or "", "prompt", where)
    sides = []
    for key in ("chosen", "rejected"):
        text = as_string(need(row, key, where), key, where)
        whole = text if text.lstrip().startswith(start.strip()) else start + text
        sides.append(transcript(whole, key, where))
    return _preferred(row, where, position, fields, *parted(sides[0], sides[1]))


def _preferred(
    row: Row,
    where: str,
    position: int,
    fields: Fields,
    prompt: list[Message] | None,
    answers: tuple[str, str] | None,
    fault: str | None = None,
) -> Entry:
    """One pair as an entry. ``fault`` is why there is none; a prompt goes along where it is itself without fault."""
    lang, rest = fields.language_of(row, where), fields.rest(row, *_READ)
    entry_id = fields.id_of(row, where, position, lang, prompt or [row["chosen"], row["rejected"]])
    fault = fault or fault_of(prompt or (), answers or ())
    if fault or answers is None:
        sound = prompt if prompt and not fault_of(prompt, ()) else None
        return Entry(where, entry_id, lang, sound, drop=fault, rest=rest)
    numbers = [_number(row.get(key), key, where) for key in ("score_chosen", "score_rejected", "margin")]
    scores = None if numbers[0] is None or numbers[1] is None else (numbers[0], numbers[1])
    margin = scores[0] - scores[1] if numbers[2] is None and scores else numbers[2]
    return Entry(where, entry_id, lang, prompt, Preference(*answers, scores, margin), rest=rest)


def _conversation(
    explicit: Any, chosen: list[Any], rejected: list[Any], key: str, where: str
) -> tuple[list[Message] | None, tuple[str, str] | None, str | None]:
    """TRL's conversational rows: the answer alone behind an explicit prompt, or two transcripts that begin alike."""
    sides = [turns_of(chosen, "chosen", where), turns_of(rejected, "rejected", where)]
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        if not side or side[-1]["role"] != "assistant":
            raise InputError(f"{where}: {name} must end with a message of the assistant")
    if explicit is not None and all(len(side) == 1 for side in sides):
        return as_messages(explicit, key, where), (sides[0][0]["content"], sides[1][0]["content"]), None
    if explicit is not None:
        given = as_messages(explicit, key, where)
        if given[-1]["content"] not in [message["content"] for message in sides[0] if message["role"] == "user"]:
            raise InputError(f"{where}: {key} is no turn of chosen; the two must tell of the same conversation")
    return parted(sides[0], sides[1])


def _number(found: Any, key: str, where: str) -> float | None:
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise InputError(f"{where}: {key} is {shown(found)}; it must be a finite number or null")
    return float(found)


def _plain(chosen: str, rejected: str, where: str) -> tuple[list[Message], tuple[str, str]]:
    """Plain rows without a prompt: what both texts begin with, in whole words, is the prompt (TRL's rule)."""
    if is_transcript(chosen) or re.match(r"\s*H: ", chosen):
        raise InputError(
            f"{where}: chosen is a transcript (Human: … Assistant: …); say shape: hh, or write it as a list of "
            "role–content messages"
        )
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    if not chosen[:shared].strip():
        raise InputError(f"{where}: prompt is missing, and chosen and rejected do not begin alike; add a prompt")
    prompt: list[Message] = [{"role": "user", "content": chosen[:shared].rstrip()}]
    return prompt, (chosen[shared:], rejected[shared:])


def ranking_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    """LLaMA-Factory's rows: sharegpt (``conversations``) or alpaca (``instruction``, ``input``, ``history``)."""
    answers = tuple(_answer(need(row, key, where), key, where) for key in ("chosen", "rejected"))
    if "conversations" in row:
        said = sharegpt_turns(need(row, "conversations", where), "conversations", where)
        prompt = [*system_of(row), *as_messages(said, "conversations", where)]
    else:
        prompt = alpaca_prompt(row, fields, where)
    return _preferred(row, where, position, fields, prompt, (answers[0], answers[1]))


def alpaca_prompt(row: Row, fields: Fields, where: str) -> list[Message]:
    """``system``, ``history`` (pairs of a prompt and its answer), then ``instruction`` and ``input``."""
    prompt = system_of(row)
    for index, turn in enumerate(row.get("history") or []):
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise InputError(f"{where}: history[{index}] must be a pair of a prompt and its answer")
        for role, text in zip(("user", "assistant"), turn, strict=True):
            prompt.append({"role": role, "content": as_string(text, f"history[{index}]", where)})
    return prompt + prompt_of(row, fields, where)


def system_of(row: Row) -> list[Message]:
    """The row's ``system`` text as a message, where it has one."""
    system = row.get("system")
    return [{"role": "system", "content": system}] if isinstance(system, str) and system else []


def _answer(found: Any, key: str, where: str) -> str:
    if isinstance(found, str):
        return found
    turn = sharegpt_turn(found, key, where)
    if turn["role"] != "assistant":
        raise InputError(f"{where}: {key} is a turn of {turn['role']!r}; it must be the assistant's (gpt)")
    return str(turn["content"])
