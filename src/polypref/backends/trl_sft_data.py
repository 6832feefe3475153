"""Demonstrations as the token ids that supervised fine-tuning reads; every row that cannot be used is counted.

A sequence is prompt ids + answer ids + end-of-turn, prompt and answer tokenised apart as in generation and scoring.
The loss sees the answer and its end-of-turn.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from polypref.backends.sft_training import SFTRow
from polypref.backends.trl_data import IGNORED, Template


@dataclass(slots=True)
class SFTRows:
    """The columns of a dataset, row by row (``input_ids``, ``labels``, ``lang``), and what was left out and why."""

    rows: list[dict[str, Any]] = field(default_factory=list)
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


def tokenise(rows: Sequence[SFTRow], template: Template, longest: int) -> SFTRows:
    """The rows of at most ``longest`` tokens whose answer has a token; longer ones are left out, never cut."""
    found = SFTRows()
    for row in rows:
        prompt = list(template.prompt_ids(row.answer.messages))
        answer = template.answer_tokens(row.answer)[0]
        length = len(prompt) + len(answer)
        if not answer or length > longest:
            found.dropped["too_long" if answer else "empty"] += 1
            continue
        labels = [IGNORED] * len(prompt) + answer
        found.rows.append({"input_ids": prompt + answer, "labels": labels, "lang": row.lang})
        found.languages[row.lang] += 1
        found.longest = max(found.longest, length)
    return found
