"""What a stage added to an example, so that each text is written once, where it was made.

``difference(before, after)`` is a row of the wire format's JSON shape with only what is new: whole candidates that were
not there, for known candidates their id and the changed fields, new drops, prompts in new languages, and the pairs when
they changed, or only those that were put behind others.
``apply(before, difference(before, after)) == after``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from polypref.errors import InternalError
from polypref.records import Candidate, Example, parse_example, to_json

MORE_PAIRS = "more_pairs"
_FIXED = ("id", "category", "gold", "task", "extra")
_CANDIDATE_FIELDS = tuple(
    field.name for field in dataclasses.fields(Candidate) if field.name not in ("scores", "extra")
)


def difference(before: Example, after: Example) -> dict[str, Any]:
    """What ``after`` has beyond ``before``, as a partial row.

    Raises:
        InternalError: a stage changed what it may not: a prompt that stood, or the candidates' order or number.
    """
    changed = any(getattr(before, name) != getattr(after, name) for name in _FIXED)
    if changed or any(after.prompts.get(tag) != prompt for tag, prompt in before.prompts.items()):
        raise InternalError(f"a stage changed the prompts or fields of example {before.id!r}")
    known = [c.id for c in before.candidates]
    if [c.id for c in after.candidates[: len(known)]] != known:
        raise InternalError(f"a stage removed or moved a candidate of example {before.id!r}")
    row: dict[str, Any] = {"id": after.id}
    if after.prompts.keys() - before.prompts.keys():
        row["prompts"] = {tag: prompt for tag, prompt in to_json(after)["prompts"].items() if tag not in before.prompts}
    changes = [c for old, new in zip(before.candidates, after.candidates, strict=False) if (c := _change(old, new))]
    changes += to_json(dataclasses.replace(after, candidates=after.candidates[len(known) :]))["candidates"]
    if changes:
        row["candidates"] = changes
    if before.pairs and after.pairs[: len(before.pairs)] == before.pairs:
        # Other units of the example put theirs behind the same ones.
        if new_pairs := after.pairs[len(before.pairs) :]:
            row[MORE_PAIRS] = to_json(dataclasses.replace(after, pairs=new_pairs))["pairs"]
    elif after.pairs != before.pairs:
        row["pairs"] = to_json(after)["pairs"]
    if after.dropped[: len(before.dropped)] != before.dropped:
        raise InternalError(f"a stage took back a drop of example {before.id!r}")
    if new := after.dropped[len(before.dropped) :]:
        row["dropped"] = to_json(dataclasses.replace(after, dropped=new))["dropped"]
    return row


def _change(old: Candidate, new: Candidate) -> dict[str, Any]:
    if old == new:
        return {}
    change = {name: getattr(new, name) for name in _CANDIDATE_FIELDS if getattr(old, name) != getattr(new, name)}
    if None in change.values() or old.scores.keys() - new.scores.keys() or old.extra.keys() - new.extra.keys():
        raise InternalError(f"a stage took something away from candidate {old.id!r}")
    change |= {k: v for k, v in new.extra.items() if k not in old.extra or old.extra[k] != v}
    scores = {k: v for k, v in new.scores.items() if k not in old.scores or old.scores[k] != v}
    return {"id": old.id, **change, **({"scores": scores} if scores else {})}


def apply(before: Example, row: Mapping[str, Any]) -> Example:
    """``before`` with a partial row laid over it."""
    value = to_json(before)
    value["prompts"] |= row.get("prompts") or {}
    places = {c["id"]: i for i, c in enumerate(value["candidates"])}
    for change in row.get("candidates") or ():
        change = {k: v for k, v in change.items() if v is not None or k not in Candidate.__slots__}
        if change["id"] in places:
            known = value["candidates"][places[change["id"]]]
            value["candidates"][places[change["id"]]] = (
                known | change | {"scores": known["scores"] | change.get("scores", {})}
            )
        else:
            value["candidates"].append(change)
    if row.get("pairs") is not None:
        value["pairs"] = row["pairs"]
    value["pairs"] = [*(value["pairs"] or ()), *(row.get(MORE_PAIRS) or ())]
    value["dropped"] = [*(value["dropped"] or ()), *(row.get("dropped") or ())]
    if value["prompts"]:
        return parse_example(value)
    # A language's part of an example that has no prompt in it, nor in the pivot, has none; a whole example has one.
    return dataclasses.replace(parse_example({**value, "prompts": {"en": ""}}), prompts={})


def project(example: Example, lang: str, pivot: str) -> Example:
    """One language's part of an example: the prompts in it and in the pivot, its candidates with what was made of them,
    its pairs and its drops."""
    return dataclasses.replace(
        example,
        prompts={tag: prompt for tag, prompt in example.prompts.items() if tag in (lang, pivot)},
        candidates=[c for c in example.candidates if _root(example, c).lang == lang],
        pairs=[p for p in example.pairs if p.lang == lang],
        dropped=[d for d in example.dropped if d.lang == lang],
    )


def _root(example: Example, candidate: Candidate) -> Candidate:
    for _ in example.candidates:
        if candidate.parent is None:
            break
        candidate = example.candidate(candidate.parent)
    return candidate


def join(example: Example, parts: Iterable[Example]) -> Example:
    """The whole example of its languages' parts, in their order; ``example`` gives the prompts that no part has made,
    and the other fields."""
    parts = list(parts)
    made = {tag: prompt for part in parts for tag, prompt in part.prompts.items() if tag not in example.prompts}
    return dataclasses.replace(
        example,
        prompts=example.prompts | made,
        candidates=[c for part in parts for c in part.candidates],
        pairs=[p for part in parts for p in part.pairs],
        dropped=[d for d in example.dropped if d.lang is None] + [d for part in parts for d in part.dropped],
    )
