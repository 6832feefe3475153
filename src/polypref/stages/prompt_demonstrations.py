"""Rows of demonstrations, as supervised fine-tuning has them: a prompt, and one answer that nobody has judged.

Chats (``messages``, or ShareGPT's ``conversations``), ``prompt`` with ``completion``, and Alpaca's ``instruction`` and
``input`` with ``output``. Of a chat the answer is the last message; what stands before it is the prompt.
"""

from __future__ import annotations

from typing import Final

from polypref.errors import InputError
from polypref.records import Message
from polypref.stages.prompt_files import Row, need
from polypref.stages.prompt_labels import conversation
from polypref.stages.prompt_preferences import alpaca_prompt, system_of
from polypref.stages.prompt_rows import Entry, Fields, as_messages, as_string
from polypref.stages.prompt_turns import fault_of, sharegpt_turns, turns_of

ANSWER_KEYS: Final = ("completion", "output", "response", "targets")
CHAT_KEYS: Final = ("messages", "conversations")
_READ: Final = (*CHAT_KEYS, "system", "history")


def sft_entry(row: Row, where: str, position: int, fields: Fields) -> Entry:
    """One demonstration a row."""
    answer_key = next((key for key in ANSWER_KEYS if key in row), None)
    chat_key = next((key for key in (*CHAT_KEYS, fields.text) if key and isinstance(row.get(key), list)), None)
    if answer_key is None and chat_key is None:
        raise InputError(
            f"{where}: no answer among the fields {', '.join(list(row)[:8])}; demonstrations have one in "
            f"{', '.join(ANSWER_KEYS)} or at the end of {' or '.join(CHAT_KEYS)}"
        )
    if answer_key is None:
        prompt, answer = _chat(row, str(chat_key), where)
    elif isinstance(row[answer_key], list):
        prompt, answer = conversation(row, row[answer_key], answer_key, fields, where)
    else:
        prompt, answer = alpaca_prompt(row, fields, where), as_string(need(row, answer_key, where), answer_key, where)
    lang, rest = fields.language_of(row, where), fields.rest(row, *_READ, answer_key or "")
    entry_id = fields.id_of(row, where, position, lang, prompt)
    if fault := fault_of(prompt, (answer,)):
        return Entry(where, entry_id, lang, None if fault_of(prompt, ()) else prompt, drop=fault, rest=rest)
    return Entry(where, entry_id, lang, prompt, rest=rest, demonstration=answer)


def ends_with_answer(row: Row) -> bool:
    """Whether a row is plainly a chat whose last word is the assistant's."""
    for key in CHAT_KEYS:
        if isinstance(turns := row.get(key), list) and turns and isinstance(last := turns[-1], dict):
            return last.get("role") == "assistant" or last.get("from") == "gpt"
    return False


def _chat(row: Row, key: str, where: str) -> tuple[list[Message], str]:
    found = need(row, key, where)
    turns = sharegpt_turns(found, key, where) if key == "conversations" else turns_of(found, key, where)
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise InputError(f"{where}: {key} must hold a prompt and end with the assistant's answer")
    *before, last = turns
    return [*system_of(row), *as_messages(before, key, where)], str(last["content"])
