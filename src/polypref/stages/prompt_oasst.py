"""OpenAssistant's exports: message trees, one tree or one message a line, with replies that people have ranked.

Every message of the ``prompter`` with replies gives one example: its prompt is the whole conversation up to it, its
answers are the assistant's replies. A message that was deleted, refused in review, not reviewed or written by a model
is left out with all that follows it, and so is a tree that is not ``ready_for_export``; each is counted by its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from polypref import languages
from polypref.errors import InputError
from polypref.records import Message
from polypref.stages.prompt_files import Row, Source, broad
from polypref.stages.prompt_labels import NO_LABEL, as_label
from polypref.stages.prompt_rows import Entry, Keys, Labelled, Preference, as_string, shown
from polypref.stages.prompt_turns import EMPTY_TURN, ROLE_ORDER

NO_RANKING: Final = "no_ranking"
NO_REPLY: Final = "no_reply"
NO_PARENT: Final = "no_parent"
OTHER_LANGUAGE: Final = "other_language"
NOT_READY: Final = "tree_not_ready"

_ROLES: Final = {"prompter": "user", "assistant": "assistant"}
_READY: Final = "ready_for_export"
_READ: Final = ("message_id", "parent_id", "text", "role", "lang", "rank", "replies", "labels")


@dataclass(slots=True)
class _Node:
    """One message; ``fault`` is why it is left out."""

    where: str
    id: str
    parent: str | None
    text: str
    role: str
    lang: str
    rank: int | None
    labels: dict[str, Any]
    row: Row
    fault: str | None
    replies: list[_Node] = field(default_factory=list)


def is_oasst(row: Row) -> bool:
    """Whether a row is a message or a tree of an export."""
    return ("message_id" in row and "role" in row) or ("message_tree_id" in row and isinstance(row.get("prompt"), dict))


def oasst_entries(source: Source, keys: Keys) -> Iterator[Entry]:
    """The entries of one export: an entry a pair, or one a prompt with labelled replies or a demonstration.

    Raises:
        InputError: a field is missing or of the wrong kind, an id comes twice, messages answer each other in a ring, or
            no reply has the label that is asked for.
    """
    nodes: dict[str, _Node] = {}
    for where, row in source.open():
        for node in _tree(row, where) if "message_id" not in row else (_node(row, where, row.get("parent_id")),):
            if source.lang is not None and broad(node.lang) != broad(source.lang):
                raise InputError(
                    f"{where}: lang is {node.row['lang']!r}, but the file's name says {source.lang}; rename the "
                    "file, or mend the row"
                )
            if node.id in nodes:
                raise InputError(f"{where}: message {node.id!r} stands already at {nodes[node.id].where}; remove one")
            nodes[node.id] = node
    roots = _planted(nodes)
    if keys.label is not None:
        _refuse_unknown(keys.label, nodes, source)
    for root in roots:
        yield from _below(root, keys)


# --- reading -------------------------------------------------------------------------------------------------------


def _tree(row: Row, where: str) -> Iterator[_Node]:
    """Every message of one tree, a message before its replies."""
    root = row.get("prompt")
    if not isinstance(root, dict):
        raise InputError(
            f"{where}: neither a message (message_id) nor a tree (message_tree_id and prompt); export one of the two"
        )
    waiting: list[tuple[Any, str | None, str]] = [(root, None, "prompt")]
    while waiting:
        found, parent, path = waiting.pop(0)
        if not isinstance(found, dict):
            raise InputError(f"{where}: {path} is {shown(found)}; it must be a message")
        node = _node({"tree_state": row.get("tree_state"), **found}, f"{where}: {path}", parent)
        yield node
        replies = found.get("replies") or []
        if not isinstance(replies, list):
            raise InputError(f"{where}: {path}.replies is {shown(replies)}; it must be a list of messages")
        waiting += [(reply, node.id, f"{path}.replies[{place}]") for place, reply in enumerate(replies)]


def _node(row: Row, where: str, parent: Any) -> _Node:
    for key in ("message_id", "text", "role", "lang"):
        if key not in row:
            raise InputError(f"{where}: {key} is missing; every message needs one")
    name, role, rank = row["message_id"], row["role"], row.get("rank")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: message_id is {shown(name)}; it must be a non-empty string")
    if parent is not None and not isinstance(parent, str):
        raise InputError(f"{where}: parent_id is {shown(parent)}; it must be a string or null")
    if role not in _ROLES:
        raise InputError(f"{where}: role is {shown(role)}; it must be {' or '.join(_ROLES)}")
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 0):
        raise InputError(f"{where}: rank is {shown(rank)}; it must be a whole number from 0, the best, or null")
    try:
        lang = languages.normalise(as_string(row["lang"], "lang", where))
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None
    text = as_string(row["text"], "text", where)
    return _Node(where, name, parent, text, role, lang, rank, _labels(row, where), row, _fault(row, text, where))


def _labels(row: Row, where: str) -> dict[str, Any]:
    """Name → value of a message's labels: an object as exported, or the lists of the data set on the hub."""
    found = row.get("labels") or {}
    if isinstance(found, dict) and isinstance(found.get("name"), list) and isinstance(found.get("value"), list):
        return dict(zip(found["name"], found["value"], strict=False))
    if isinstance(found, dict) and all(isinstance(one, dict) for one in found.values()):
        return {name: one.get("value") for name, one in found.items()}
    raise InputError(f"{where}: labels is {shown(found)}; it must be an object of name: {{value, count}}")


def _fault(row: Row, text: str, where: str) -> str | None:
    """Why a message is left out by what it says of itself. What an export leaves out says nothing."""
    for key in ("deleted", "synthetic", "review_result"):
        if row.get(key) is not None and not isinstance(row[key], bool):
            raise InputError(f"{where}: {key} is {shown(row[key])}; it must be true, false or null")
    if row.get("tree_state") not in (None, _READY):
        return NOT_READY
    if row.get("deleted"):
        return "deleted"
    if row.get("review_result", True) is not True:
        return "unreviewed" if row["review_result"] is None else "refused_in_review"
    if row.get("synthetic"):
        return "synthetic"
    return None if text.strip() else EMPTY_TURN


# --- the trees -----------------------------------------------------------------------------------------------------


def _planted(nodes: dict[str, _Node]) -> list[_Node]:
    """The messages that answer none, the others in their replies.

    Raises:
        InputError: messages answer each other in a ring.
    """
    roots = []
    for node in nodes.values():
        if node.parent is None:
            node.fault = node.fault or (None if node.role == "prompter" else ROLE_ORDER)
            roots.append(node)
        elif node.parent in nodes:
            nodes[node.parent].replies.append(node)
        else:
            node.fault = node.fault or NO_PARENT
            roots.append(node)
    reached, waiting = set(), list(roots)
    while waiting:
        node = waiting.pop()
        reached.add(node.id)
        waiting += node.replies
    if ring := [node for name, node in nodes.items() if name not in reached]:
        raise InputError(f"{ring[0].where}: message {ring[0].id!r} answers itself by its parents; mend parent_id")
    return roots


def _refuse_unknown(label: str, nodes: dict[str, _Node], source: Source) -> None:
    known = dict.fromkeys(name for node in nodes.values() if node.role == "assistant" for name in node.labels)
    if label not in known:
        raise InputError(f"{source.name}: no reply has the label {label!r}; they have {', '.join(known) or 'none'}")


def _below(root: _Node, keys: Keys) -> Iterator[Entry]:
    """The entries of a tree, a prompt before those that follow it."""
    waiting: list[tuple[_Node, list[Message], str | None]] = [(root, [], root.fault)]
    while waiting:
        node, before, fault = waiting.pop(0)
        if fault is not None:
            yield Entry(node.where, node.id, node.lang, None, drop=fault)
            waiting += [(reply, [], fault) for reply in node.replies]
            continue
        said = [*before, {"role": _ROLES[node.role], "content": node.text}]
        for reply in node.replies:
            wrong = ROLE_ORDER if reply.role == node.role else OTHER_LANGUAGE if reply.lang != node.lang else None
            reply.fault = reply.fault or wrong
            waiting.append((reply, said, reply.fault))
        if node.role == "prompter":
            yield from _answers(node, said, keys)


def _answers(node: _Node, prompt: list[Message], keys: Keys) -> Iterator[Entry]:
    """What the replies to one prompt give."""
    rest = {key: value for key, value in node.row.items() if key not in _READ}
    replies = [reply for reply in node.replies if reply.fault is None]

    def entry(where: str, **answers: Any) -> Entry:
        return Entry(where, node.id, node.lang, prompt, rest=rest, **answers)

    def left_out(where: str, reason: str) -> Entry:
        return Entry(where, node.id, node.lang, None, drop=reason, rest=rest)

    if not replies:
        yield left_out(node.where, NO_REPLY)
        return
    if keys.label is not None:
        told = [reply for reply in replies if reply.labels.get(keys.label) is not None]
        yield from (left_out(reply.where, NO_LABEL) for reply in replies if reply not in told)
        labels = [(reply.text, as_label(reply.labels[keys.label], keys.label, reply.where)) for reply in told]
        if labels:
            yield entry(node.where, labelled=tuple(Labelled(*one) for one in labels))
        return
    ranked = sorted((reply for reply in replies if reply.rank is not None), key=lambda reply: reply.rank or 0)
    if keys.demonstrations:
        best = ranked[0] if ranked else replies[0] if len(replies) == 1 else None
        yield left_out(node.where, NO_RANKING) if best is None else entry(best.where, demonstration=best.text)
        return
    pairs = [
        (better, worse)
        for place, better in enumerate(ranked[:1] if keys.ranked == "best" else ranked)
        for worse in ranked[place + 1 :]
        if better.rank != worse.rank
    ]
    if not pairs:
        yield left_out(node.where, NO_RANKING)
    for better, worse in pairs:
        yield entry(better.where, preference=Preference(better.text, worse.text))
