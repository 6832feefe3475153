"""Entries become examples: joined by id, with the pairs that came along, and every contradiction refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, Message, Pair
from polypref.stages.prompt_files import need
from polypref.stages.prompt_rows import Entry

DUPLICATE = "duplicate"
EMPTY = "empty_prompt"
REPEATED = "repeated"
PLACES = 3
_SINGLE = frozenset({"category", "gold", "task"})
_WIRE_KEYS = frozenset({"id", "prompts", "candidates", "pairs", "dropped"}) | _SINGLE


@dataclass(slots=True)
class _Joined:
    """One id while its languages are gathered; ``shared`` is how transcripts begin that have no pair."""

    prompts: dict[str, list[Message]] = field(default_factory=dict)
    shared: dict[str, list[Message]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    rest: dict[str, dict[str, Any]] = field(default_factory=dict)
    candidates: dict[tuple[Any, ...], Candidate] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Join:
    """The examples by id; by language how many rows said again what stood before; by reason of a drop, and
    for those (``REPEATED``), where the first ``PLACES`` rows stand."""

    examples: list[Example]
    duplicates: Counter[str] = field(default_factory=Counter)
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)


def join(
    found: Iterable[Entry],
    *,
    by_position: bool = False,
    gold_key: str | None = None,
    category_key: str | None = None,
) -> Join:
    """The entries as examples.

    Raises:
        InputError: an id comes twice in a language with different prompts, rows joined by position do not match up, or
            a row has no ``category_key``.
    """
    joined: dict[str, _Joined] = {}
    rows: Counter[str] = Counter()
    duplicates: Counter[str] = Counter()
    places: dict[str, tuple[str, ...]] = {}
    for entry in found:
        rows[entry.lang] += 1
        if category_key is not None and entry.prompt is not None:
            need(entry.rest, category_key, entry.where)
        example = joined.setdefault(entry.id, _Joined())
        if reason := _reason(entry):
            places[reason] = (*places.get(reason, ()), entry.where)[:PLACES]
        if entry.drop is not None:
            example.dropped.append(Drop("prompts", entry.drop, entry.lang))
            if entry.prompt is not None:
                example.shared.setdefault(entry.lang, entry.prompt)
        elif entry.prompt is not None:
            before = example.prompts.setdefault(entry.lang, entry.prompt)
            first = example.where.setdefault(entry.lang, entry.where)
            if before != entry.prompt:
                raise InputError(
                    f"{entry.where}: id {entry.id!r} stands already at {first} with another {entry.lang} prompt; "
                    "an id has one prompt a language"
                )
            if first != entry.where and not _new(example, entry):
                duplicates[entry.lang] += 1
                places[REPEATED] = (*places.get(REPEATED, ()), entry.where)[:PLACES]
                continue
            if first != entry.where and len(entry.labelled) > 1:
                raise InputError(
                    f"{entry.where}: id {entry.id!r} stands already at {first} with other answers; an id has one list "
                    "of right and wrong answers a language"
                )
        example.rest.setdefault(entry.lang, entry.rest)
        _add_preference(example, entry)
        _add_labelled(example, entry)
        if entry.demonstration is not None:
            _add(example, entry, text=entry.demonstration)
    if by_position and len(set(rows.values())) > 1:
        told = ", ".join(f"{tag} {n}" for tag, n in rows.items())
        raise InputError(f"joined by position, but the languages have different numbers of rows ({told}); add ids")
    special = (gold_key or "gold", category_key or "category")
    examples = [_example(example_id, example, *special) for example_id, example in joined.items()]
    return Join(examples, duplicates, places)


def _reason(entry: Entry) -> str | None:
    """Why something of the row is left out."""
    if entry.drop is None and entry.prompt is not None and blank(entry.prompt):
        return EMPTY
    equal = entry.preference is not None and entry.preference.chosen == entry.preference.rejected
    return entry.drop or (DUPLICATE if equal else None)


def _new(example: _Joined, entry: Entry) -> bool:
    """Whether the row has a pair, a label or a demonstration that none before it has."""
    if entry.demonstration is not None:
        known = {(c.lang, c.text) for c in example.candidates.values() if c.label is None}
        return (entry.lang, entry.demonstration) not in known
    if entry.labelled:
        labels = Counter((c.lang, c.text, c.label) for c in example.candidates.values())
        return not Counter((entry.lang, one.text, one.label) for one in entry.labelled) <= labels
    if entry.preference is None:
        return False
    texts = {c.id: c.text for c in example.candidates.values()}
    new = (entry.lang, entry.preference.chosen, entry.preference.rejected)
    return new not in {(pair.lang, texts[pair.chosen], texts[pair.rejected]) for pair in example.pairs}


def blank(prompt: Sequence[Message]) -> bool:
    """Whether the user's last turn says nothing."""
    return not str(prompt[-1]["content"]).strip()


def _add_preference(example: _Joined, entry: Entry) -> None:
    given = entry.preference
    if given is None:
        return
    if given.chosen == given.rejected:
        example.dropped.append(Drop("prompts", DUPLICATE, entry.lang))
        return
    ids = []
    for text, score in zip((given.chosen, given.rejected), given.scores or (None, None), strict=True):
        key = (entry.lang, text, score)
        if key not in example.candidates:
            number = sum(known[0] == entry.lang for known in example.candidates)
            example.candidates[key] = Candidate(
                id=f"{entry.id}/{entry.lang}/{number}",
                lang=entry.lang,
                text=text,
                origin="human",
                scores={} if score is None else {"given": score},
            )
        ids.append(example.candidates[key].id)
    score_name = "given" if given.scores else None
    example.pairs.append(Pair(entry.lang, ids[0], ids[1], score_name, given.margin, "given"))


def _add_labelled(example: _Joined, entry: Entry) -> None:
    """Every labelled answer is a candidate of its own: two that read the same count twice, as their file has them."""
    for answer in entry.labelled:
        _add(example, entry, text=answer.text, origin=answer.origin, model=answer.model, label=answer.label)


def _add(example: _Joined, entry: Entry, **fields: Any) -> None:
    """One more candidate in the entry's language; people's unless ``fields`` say otherwise."""
    number = sum(key[0] == entry.lang for key in example.candidates)
    name = f"{entry.id}/{entry.lang}/{number}"
    example.candidates[entry.lang, number, None] = Candidate(
        **{"id": name, "lang": entry.lang, "origin": "human"} | fields
    )


def _example(example_id: str, joined: _Joined, gold_key: str, category_key: str) -> Example:
    """Other fields of the rows are kept: as they are where all languages agree, else as {language: value}."""
    keys = dict.fromkeys(key for rest in joined.rest.values() for key in rest if key not in _WIRE_KEYS - _SINGLE)
    values: dict[str, Any] = {}
    for key in keys:
        by_language = {tag: rest[key] for tag, rest in joined.rest.items() if key in rest}
        first = next(iter(by_language.values()))
        values[key] = first if all(value == first for value in by_language.values()) else by_language
    told = {"category": category_key, "task": "task"}
    texts = {name: values[key] for name, key in told.items() if isinstance(values.get(key), str) and values[key]}
    gold = values.pop(gold_key, None)
    taken = {told[name] for name in texts}
    extra = {key: value for key, value in values.items() if key not in _WIRE_KEYS | taken}
    return Example(
        id=example_id,
        prompts=joined.shared | joined.prompts,
        candidates=list(joined.candidates.values()),
        pairs=joined.pairs,
        dropped=joined.dropped,
        category=texts.get("category"),
        gold=gold,
        task=texts.get("task"),
        extra=extra,
    )
