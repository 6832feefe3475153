"""Judgments as sections of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polypref.stages import report_tables as tables
from polypref.stages.judgments import Judgment
from polypref.stages.report_judgment_figures import Board, boards
from polypref.stages.report_judgment_lengths import lengths
from polypref.stages.report_judgment_parts import agreement, head_to_head, ratings, verdicts, win_rates
from polypref.stages.report_section import Part


def section(
    figures: Mapping[str, Any], judgments: Sequence[Judgment] = (), draw: bool = True, judge: str = "judge"
) -> list[Part]:
    """The sections of a run's page: all but the comparisons themselves. That on length needs the judgments; ``judge``
    is the name of the one judge where there are none."""
    found = boards(figures, judgments, judge)
    baselines = baselines_of(judgments, found)
    rates = [win_rates(found, baselines, draw)]
    against_each_other = [ratings(figures.get("ratings"), draw), head_to_head(figures, draw)]
    # What a model won says little where each met others.
    first = [*against_each_other, *rates] if len(baselines) > 1 else [*rates, *against_each_other]
    parts = (
        *first,
        verdicts(found, draw),
        lengths(judgments, found[0].ranked(), draw),
        agreement(figures.get("agreement"), draw),
    )
    return [part for part in parts if part.charts or part.grids]


def baselines_of(judgments: Sequence[Judgment], boards: Sequence[Board]) -> list[str]:
    """Whom the models were held against, in the order of a page: all of them where even a baseline has win rates of its
    own, since every two met then."""
    found = tables.order(j.baseline for j in judgments)
    if any(name in board.models for board in boards for name in found):
        return tables.order(name for j in judgments for name in (j.model, j.baseline))
    return found
