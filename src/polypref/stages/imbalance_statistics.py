"""What pairing by imbalance gave, by language: how many pairs, their lengths, and why the others are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from polypref.maths.stats import mean_stderr
from polypref.records import Example
from polypref.stages.pair_filters import STAGE, candidate_languages


@dataclass(slots=True)
class _Tally:
    prompts: int = 0
    gaps: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def imbalance_statistics(examples: Iterable[Example]) -> dict[str, dict[str, Any]]:
    """Counted from the examples that ``imbalance`` returned. For each language: ``prompts`` (examples with answers in
    it), ``pairs``, the mean ``length_gap`` (chosen − rejected, Unicode code points) with its ``_stderr``,
    ``share_longer`` (pairs whose chosen is the longer), ``length_unit`` and ``without_pair`` (drops by reason). Means
    are None where there is no pair."""
    tallies: dict[str, _Tally] = {}
    for example in examples:
        for lang in candidate_languages(example):
            tallies.setdefault(lang, _Tally()).prompts += 1
        for drop in example.dropped:
            if drop.stage == STAGE and drop.lang is not None:
                tallies.setdefault(drop.lang, _Tally()).dropped[drop.reason] += 1
        texts = {c.id: c.text for c in example.candidates}
        for pair in example.pairs:
            tallies[pair.lang].gaps.append(len(texts[pair.chosen]) - len(texts[pair.rejected]))
    return {lang: _summary(tally) for lang, tally in tallies.items()}


def _summary(tally: _Tally) -> dict[str, Any]:
    gap = mean_stderr([float(gap) for gap in tally.gaps]) if tally.gaps else None
    longer = mean_stderr([float(gap > 0) for gap in tally.gaps]) if tally.gaps else None
    return {
        "prompts": tally.prompts,
        "pairs": len(tally.gaps),
        "length_unit": "characters",
        "length_gap": gap.value if gap else None,
        "length_gap_stderr": gap.stderr if gap else None,
        "share_longer": longer.value if longer else None,
        "without_pair": dict(sorted(tally.dropped.items())),
    }
