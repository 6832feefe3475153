"""Turns of a conversation: read, parted into a prompt and two answers, and what makes them unfit to learn from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from polypref.errors import InputError
from polypref.records import Message
from polypref.stages.prompt_rows import shown

DIVERGES: Final = "diverges_before_last_turn"
EMPTY_TURN: Final = "empty_turn"
ROLE_ORDER: Final = "role_order"

_SPOKEN: Final = ("user", "assistant")
_SPEAKER: Final = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES: Final = {"Human": "user", "Assistant": "assistant"}
_SHAREGPT: Final = {"human": "user", "gpt": "assistant"}


def turns_of(value: Sequence[Any], key: str, where: str) -> list[Message]:
    """A list of messages as it is; of a struct that a table filled up, the empty fields go."""
    for index, message in enumerate(value):
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise InputError(f"{where}: {key}[{index}] must be a message with a role and a content, both strings")
    return [{k: v for k, v in message.items() if v is not None} for message in value]


def sharegpt_turns(found: Any, key: str, where: str) -> list[Message]:
    """A list of ShareGPT's turns as messages."""
    if not isinstance(found, list) or not found:
        raise InputError(f"{where}: {key} is {shown(found)}; it must be a list of turns")
    return [sharegpt_turn(turn, f"{key}[{index}]", where) for index, turn in enumerate(found)]


def sharegpt_turn(turn: Any, key: str, where: str) -> Message:
    """``{"from": "human", "value": …}`` as a message; a message stays as it is."""
    if isinstance(turn, dict):
        for role, content in (("from", "value"), ("role", "content")):
            if isinstance(turn.get(role), str) and isinstance(turn.get(content), str):
                return {"role": _SHAREGPT.get(turn[role], turn[role]), "content": turn[content]}
    raise InputError(f"{where}: {key} must be a turn with from and value, both strings")


def is_transcript(text: Any) -> bool:
    """Whether a text is a conversation in one string, as hh-rlhf writes them."""
    return isinstance(text, str) and _SPEAKER.match(text) is not None


def transcript(text: str, key: str, where: str) -> list[Message]:
    """The turns of ``\\n\\nHuman: … \\n\\nAssistant: …``, each without the white space around it.

    Raises:
        InputError: the text does not begin with a speaker.
    """
    if not is_transcript(text):
        raise InputError(f"{where}: {key} is no transcript; it must begin with Human: or Assistant:")
    _, *found = _SPEAKER.split(text)
    return [
        {"role": _ROLES[speaker], "content": said.strip()}
        for speaker, said in zip(found[::2], found[1::2], strict=True)
    ]


def parted(
    chosen: Sequence[Message], rejected: Sequence[Message]
) -> tuple[list[Message] | None, tuple[str, str] | None, str | None]:
    """Two whole conversations as what they share, the last turn of each, and why they make no pair.

    An answer is the last assistant message, so two that part before it have none. Where there is no pair, the prompt
    is how both begin, up to a turn of the user, or None.
    """
    sides = (list(chosen), list(rejected))
    if any(_wrong_order(side) or side[-1]["role"] != "assistant" for side in sides):
        return None, None, ROLE_ORDER
    shared = 0
    while shared < min(map(len, sides)) and sides[0][shared] == sides[1][shared]:
        shared += 1
    if sides[0] == sides[1]:
        shared -= 1
    prompt = sides[0][:shared]
    while prompt and prompt[-1]["role"] != "user":
        prompt = prompt[:-1]
    if prompt and all(side[:-1] == prompt for side in sides):
        return prompt, (sides[0][-1]["content"], sides[1][-1]["content"]), None
    return prompt or None, None, DIVERGES


def fault_of(prompt: Sequence[Message], answers: Sequence[str]) -> str | None:
    """Why answers to a prompt are left out: roles in a wrong order, or a turn that says nothing, else None.

    A prompt whose last turn is blank is another matter: it is counted as an empty prompt, whatever its answers.
    """
    if _wrong_order(prompt):
        return ROLE_ORDER
    said = [str(turn["content"]) for turn in prompt[:-1] if turn["role"] in _SPOKEN]
    return EMPTY_TURN if any(not text.strip() for text in (*said, *answers)) else None


def _wrong_order(turns: Sequence[Message]) -> bool:
    """Whether the user does not speak first, or the user or the assistant speaks twice in a row."""
    roles = [turn["role"] for turn in turns]
    first = next((role for role in roles if role in _SPOKEN), None)
    return first != "user" or any(one == other and one in _SPOKEN for one, other in pairwise(roles))
