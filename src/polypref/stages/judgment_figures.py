"""All that a file of judgments tells: win rates, ratings, agreement of judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polypref.stages.comparison_results import win_rates
from polypref.stages.judge_agreement import agreement, shared
from polypref.stages.judgments import Judgment
from polypref.stages.ratings import RatingOptions, ratings


def figures(
    judgments: Sequence[Judgment], options: RatingOptions | None = None, *, both_sides: bool | None = None
) -> dict[str, Any]:
    """``win_rates``; ``ratings`` where verdicts are on at least three models, baselines included, else None;
    ``agreement`` where two judges share a comparison, else None. The shapes are those of docs/win-rates.md.

    Args:
        both_sides: as ``win_rates``.

    Raises:
        InputError: there is no judgment, or as ``win_rates``, ``ratings`` and ``agreement``.
    """
    models = {name for j in judgments if j.preference is not None for name in (j.model, j.baseline)}
    chosen = options or RatingOptions()
    agreeing = len({j.judge for j in judgments}) > 1 and shared(judgments)
    return {
        "win_rates": win_rates(judgments, both_sides=both_sides),
        "ratings": ratings(judgments, chosen) if len(models) > 2 else None,
        "agreement": agreement(judgments, seed=chosen.seed, resamples=chosen.resamples) if agreeing else None,
    }
