"""Answers that carry several labels: the one that is asked for is read, and pairs are made of it where they are wanted.

A label is one value, or an object of objectives (``{"faithful": true, "concise": false}``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, Pair, live
from polypref.stages.prompt_labels import NO_LABEL, as_label, says_nothing

STAGE: Final = "prompts"
RULE: Final = "labels"


def objective(
    examples: Iterable[Example], label_key: str | None, *, pair_labels: bool = False, where: str = "the data"
) -> list[Example]:
    """The examples with the label that ``label_key`` names alone, and with pairs of it where ``pair_labels`` says so.

    An answer that the objective says nothing of (null, blank, unsure) keeps its text, loses its label, and has a drop
    that says so. Pairs are each answer to a prompt in a language over each whose label is lower.

    Raises:
        InputError: labels are objects and no objective is named, no answer has the one that is, a label is none, or
            there is none to make pairs of.
    """
    examples = list(examples)
    carried = [c.label for e in examples for c in e.candidates if isinstance(c.label, dict)]
    if carried or label_key is not None:
        known = dict.fromkeys(str(name) for label in carried for name in label)
        if label_key not in known:
            asked = f"label_key: {label_key} is none of them" if label_key else "name one with label_key"
            raise InputError(f"{where}: answers have labels for {', '.join(known) or 'no objective'}; {asked}")
        examples = [_with_objective(example, str(label_key)) for example in examples]
    if not pair_labels:
        return examples
    if not any(c.label is not None for e in examples for c in e.candidates):
        raise InputError(f"{where} has no labels to make pairs of; leave pair_labels out")
    return [replace(example, pairs=[*example.pairs, *_pairs(example)]) for example in examples]


def _with_objective(example: Example, key: str) -> Example:
    candidates, dropped = [], list(example.dropped)
    for candidate in example.candidates:
        found = candidate.label
        if found is not None and not isinstance(found, dict):
            raise InputError(
                f"example {example.id!r}: the label of {candidate.id!r} is one value, where others are objects of "
                f"objectives; write it as {{{key}: …}}"
            )
        label = None
        if found is not None:
            if says_nothing(found.get(key)):
                dropped.append(Drop(STAGE, NO_LABEL, candidate.lang, candidate.id))
            else:
                label = as_label(found[key], key, f"example {example.id!r}, {candidate.id!r}")
        candidates.append(replace(candidate, label=label))
    return replace(example, candidates=candidates, dropped=dropped)


def _pairs(example: Example) -> list[Pair]:
    """In the order of the candidates."""
    by_language: dict[str, list[tuple[float, Candidate]]] = {}
    for candidate in example.candidates:
        if candidate.label is not None and live(candidate):
            value = as_label(candidate.label, "label", f"example {example.id!r}, {candidate.id!r}")
            by_language.setdefault(candidate.lang, []).append((float(value), candidate))
    return [
        Pair(lang, better.id, worse.id, rule=RULE)
        for lang, labelled in by_language.items()
        for high, better in labelled
        for low, worse in labelled
        if high > low
    ]
