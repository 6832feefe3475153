"""How far people agree with each other and with the judges, on what people were asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from polypref.errors import InputError
from polypref.stages.judge_agreement import agreement
from polypref.stages.judgments import Judgment
from polypref.stages.people import KeyRow

Place = tuple[str, str, str, str, int]
"""Id, language, model, baseline and sample of a comparison."""


def people_agreement(
    people: Sequence[Judgment], judges: Iterable[Judgment], key: Mapping[str, KeyRow], *, seed: int = 0
) -> dict[str, Any] | None:
    """``judge_agreement.agreement`` of people and judges on the comparisons that people judged; None where one person
    judged and no judge is given.

    Where hard comparisons were drawn more often than others (``stratify: disagreement``), plain figures are those of
    the drawn ones; ``reweighted`` then holds the raw agreement of all comparisons, each drawn one counting for as many
    as it stands for: ``{"judges", "n", "raw", "raw_stderr"}`` for every person and judge.

    Raises:
        InputError: a person is called like a judge, or the judges judged none of these comparisons.
    """
    asked = {_place(judgment) for judgment in people}
    others = list(judges)
    shared = [judgment for judgment in others if _place(judgment) in asked]
    persons = list(dict.fromkeys(judgment.judge for judgment in people))
    if both := set(persons) & {judgment.judge for judgment in others}:
        raise InputError(f"{min(both)} is the name of a person and of a judge; call the person otherwise")
    if others and not shared:
        raise InputError("the judges judged none of the comparisons that people did; give the judgments exported from")
    if len({judgment.judge for judgment in (*people, *shared)}) < 2:
        return None
    found = agreement([*people, *shared], seed=seed)
    if len({row.stratum for row in key.values()}) > 1:
        weights = {_place(row): row.weight for row in key.values()}
        found["reweighted"] = [
            pair
            for person in persons
            for judge in dict.fromkeys(judgment.judge for judgment in shared)
            if (pair := _reweighted(people, shared, person, judge, weights))
        ]
    return found


def _place(one: Judgment | KeyRow) -> Place:
    return one.id, one.language, one.model, one.baseline, one.sample


def _side(judgment: Judgment) -> int | None:
    preference = judgment.preference
    return None if preference is None else (preference > 0.5) - (preference < 0.5)


def _reweighted(
    people: Sequence[Judgment], judges: Sequence[Judgment], person: str, judge: str, weights: Mapping[Place, float]
) -> dict[str, Any] | None:
    """Σ w·a / Σ w with a whether the two agree, and its standard error over prompts (linearised ratio)."""
    theirs = {_place(j): side for j in judges if j.judge == judge and (side := _side(j)) is not None}
    rows = [j for j in people if j.judge == person and _place(j) in theirs]
    if not rows:
        return None
    w = np.array([weights[_place(j)] for j in rows])
    agree = np.array([float(_side(j) == theirs[_place(j)]) for j in rows])
    raw = float(w @ agree / w.sum())
    clusters: dict[str, float] = {}
    for j, influence in zip(rows, w * (agree - raw) / w.sum(), strict=True):
        clusters[j.id] = clusters.get(j.id, 0.0) + float(influence)
    g = len(clusters)
    spread = sum(value**2 for value in clusters.values())
    stderr = float(np.sqrt(g / (g - 1) * spread)) if g > 1 else None
    return {"judges": [person, judge], "n": len(rows), "raw": raw, "raw_stderr": stderr}
