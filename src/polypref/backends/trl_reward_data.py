"""Rows of preference data as the token ids that a reward model is trained on.

A sequence is prompt ids + answer ids + end-of-turn: the prompt is the template with its generation prompt, and the
answer is tokenised apart from it, never rendered alone, which would bring a template's default system turn once more.
Of a sequence that is too long the last tokens are kept, so that the answer and its end-of-turn are always there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from polypref.backends.reward_training import PairRow, PointRow, RewardRow, RewardTrainOptions
from polypref.backends.templates import PromptTemplate
from polypref.errors import InputError


@dataclass(slots=True)
class RewardRows:
    """The columns of a dataset, row by row (``chosen_ids``, ``rejected_ids`` and ``margin``, or ``input_ids`` and
    ``label``); ``truncated`` counts sequences, ``dropped`` rows by reason."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    truncated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    longest: int = 0

    @property
    def digest(self) -> str:
        """A hash of the rows: a resume state belongs to these and no others."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def tokenise(
    rows: Sequence[RewardRow], template: PromptTemplate, options: RewardTrainOptions, longest: int
) -> RewardRows:
    """The rows as token ids of at most ``longest`` tokens a sequence.

    A pair goes when its answers are equal, as texts or as what is left of them.

    Raises:
        InputError: a row is not of the loss's kind, or its margin or label cannot be used.
    """
    found = RewardRows()
    kind = PairRow if options.loss == "bradley_terry" else PointRow
    for row in rows:
        if not isinstance(row, kind):
            raise InputError(
                f"row {row.id!r} is {'a pair' if isinstance(row, PairRow) else 'a labelled answer'}, which the loss "
                f"{options.loss} cannot use; set loss to "
                f"{'bradley_terry' if isinstance(row, PairRow) else 'pointwise'}"
            )
        prompt = template.prompt_ids(row.messages)
        texts = (row.chosen, row.rejected) if isinstance(row, PairRow) else (row.text,)
        whole = [[*prompt, *template.answer_ids(text), template.end_of_turn] for text in texts]
        sequences = [ids[-longest:] for ids in whole]
        if isinstance(row, PairRow) and (row.chosen == row.rejected or sequences[0] == sequences[1]):
            found.dropped["same_text" if row.chosen == row.rejected else "same_after_truncation"] += 1
            continue
        found.rows.append(_columns(row, sequences, options.margin))
        found.truncated += sum(len(ids) > longest for ids in whole)
        found.languages[row.lang] += 1
        found.longest = max(found.longest, *map(len, sequences))
    return found


def _columns(row: RewardRow, sequences: list[list[int]], margin: bool) -> dict[str, Any]:
    if isinstance(row, PointRow):
        if not 0 <= row.label <= 1:
            raise InputError(f"the label of row {row.id!r} is {row.label}; it must be a number from 0 to 1")
        return {"input_ids": sequences[0], "label": float(row.label)}
    columns: dict[str, Any] = {"chosen_ids": sequences[0], "rejected_ids": sequences[1]}
    if not margin:
        return columns
    if row.margin is None or not math.isfinite(row.margin):
        has = "no margin" if row.margin is None else f"the margin {row.margin}"
        raise InputError(f"row {row.id!r} has {has}; give every pair a finite one, or set train.margin to false")
    return columns | {"margin": float(row.margin)}
