"""What a reward is judged on: pairs, groups of labelled answers, or labelled answers one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from polypref.errors import InputError
from polypref.records import Candidate, Example
from polypref.stages.evaluate import LABELS

Kind = Literal["pair", "group", "point"]
"""Chosen against rejected; right answers among wrong ones; one answer that is right or wrong."""

Items = Literal["auto", "pairs", "groups", "points"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to get right, in one language.

    ``right`` and ``wrong`` are the scores of those answers, in the order of their ids; empty where a comparer judged,
    or where an answer could not be scored. ``credit``: 1 is right, 0 wrong, between them a tie; None without a verdict.
    ``flipped``: a comparer contradicted itself when the answers changed places; None where that is not known. Lengths
    are characters (Unicode code points).
    """

    example: str
    lang: str
    kind: Kind
    right_ids: tuple[str, ...]
    wrong_ids: tuple[str, ...]
    right_lengths: tuple[int, ...]
    wrong_lengths: tuple[int, ...]
    right: tuple[float, ...] = ()
    wrong: tuple[float, ...] = ()
    credit: float | None = None
    category: str | None = None
    subset: str | None = None
    flipped: bool | None = None

    @property
    def section(self) -> str | None:
        """What figures are grouped by: the category, else the subset."""
        return self.category or self.subset


COLUMNS: Final = tuple(field.name for field in fields(Item))


def to_row(item: Item) -> list[Any]:
    """The item's values in the order of ``COLUMNS``."""
    return [list(v) if isinstance(v, tuple) else v for v in (getattr(item, name) for name in COLUMNS)]


def from_row(row: Sequence[Any], columns: Sequence[str] = COLUMNS) -> Item:
    """The item of ``to_row``."""
    values: dict[str, Any] = dict(zip(columns, row, strict=True))
    return Item(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def items_of(examples: Iterable[Example], items: Items = "auto") -> list[tuple[Example, Item]]:
    """Every item with its example, not yet judged.

    ``auto`` looks at all examples: pairs where any has pairs; else groups where whatever is labelled holds right and
    wrong answers to each prompt; else points. A number as a label is right above ½ and wrong below it; ½ says neither,
    and a group that lacks right or wrong answers is no item.

    Raises:
        InputError: a label is none.
    """
    examples = list(examples)
    kind = _kind(examples) if items == "auto" else items
    return [
        (example, item)
        for example in examples
        for item in (_pairs(example) if kind == "pairs" else _labelled(example, kind))
    ]


def nothing_in(items: Items) -> InputError:
    """There is no item."""
    what = {
        "auto": "neither a pair nor a labelled answer",
        "pairs": "no pair of a chosen and a rejected answer",
        "groups": "no prompt with both right and wrong answers",
        "points": "no labelled answer",
    }[items]
    return InputError(f"the data has {what}; give data that has some (docs/inputs.md)")


def _kind(examples: Sequence[Example]) -> Items:
    if has_pairs(examples):
        return "pairs"
    groups = [group for example in examples for group in _by_language(example).values()]
    return "groups" if groups and all(right and wrong for right, wrong in groups) else "points"


def has_pairs(examples: Iterable[Example]) -> bool:
    return any(example.pairs for example in examples)


def _pairs(example: Example) -> Iterator[Item]:
    for pair in example.pairs:
        chosen, rejected = example.candidate(pair.chosen), example.candidate(pair.rejected)
        yield _item(example, pair.lang, "pair", [chosen], [rejected])


def _labelled(example: Example, kind: Items) -> Iterator[Item]:
    for lang, (right, wrong) in _by_language(example).items():
        if kind == "points":
            yield from (_item(example, lang, "point", [candidate], []) for candidate in right)
            yield from (_item(example, lang, "point", [], [candidate]) for candidate in wrong)
        elif right and wrong:
            yield _item(example, lang, "group", right, wrong)


def _by_language(example: Example) -> dict[str, tuple[list[Candidate], list[Candidate]]]:
    """Language → right and wrong answers."""
    out: dict[str, tuple[list[Candidate], list[Candidate]]] = {}
    for candidate in example.candidates:
        if candidate.label is not None and (good := _good(example, candidate)) is not None:
            out.setdefault(candidate.lang, ([], []))[0 if good else 1].append(candidate)
    return out


def _good(example: Example, candidate: Candidate) -> bool | None:
    label = candidate.label
    value = LABELS.get(label.strip().lower()) if isinstance(label, str) else label
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            f"the label of {candidate.id!r} of example {example.id!r} is {label!r}; "
            f"write true or false, a number from 0 to 1, or one of {', '.join(LABELS)}"
        )
    return None if value == 0.5 else value > 0.5


def _item(example: Example, lang: str, kind: Kind, right: Sequence[Candidate], wrong: Sequence[Candidate]) -> Item:
    return Item(
        example=example.id,
        lang=lang,
        kind=kind,
        right_ids=tuple(c.id for c in right),
        wrong_ids=tuple(c.id for c in wrong),
        right_lengths=tuple(len(c.text) for c in right),
        wrong_lengths=tuple(len(c.text) for c in wrong),
        category=example.category or _field(example, "category", lang),
        subset=_field(example, "subset", lang),
    )


def _field(example: Example, name: str, lang: str) -> str | None:
    """A field of the item's rows: one text, or one a language where they differ."""
    found = example.extra.get(name)
    if isinstance(found, dict):
        found = found.get(lang)
    return found if isinstance(found, str) and found else None
