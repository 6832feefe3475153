"""Win rates of a file of judgments: raw and length-controlled, by language, in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from polypref.errors import InputError
from polypref.maths import metrics
from polypref.stages.judgments import Judgment, parse_judgment


def winrate(
    rows: Iterable[Judgment | dict[str, Any]],
    *,
    length_weight: float | None = None,
    difficulty_weight: float | None = None,
) -> dict[str, Any]:
    """What ``polypref evaluate winrate --json`` prints, in percent: ``win_rate``, ``length_controlled_win_rate``,
    each with ``_stderr``, ``n``, the ``weights`` of the length-controlled model, and ``by_language`` where there are
    several, each fitted by itself. See ``maths.metrics.win_rate`` for the model.

    Raises:
        InputError: a row is wrong, no row is there, only some rows have a difficulty, or a weight is given for none.
    """
    judgments = [
        row if isinstance(row, Judgment) else parse_judgment(row, f"row {number}") for number, row in enumerate(rows, 1)
    ]
    if not judgments:
        raise InputError("there is no judgment; a win rate needs at least one")
    lacking = [j.id for j in judgments if j.difficulty is None]
    if lacking and len(lacking) < len(judgments):
        raise InputError(
            f"difficulty is missing in {len(lacking)} of {len(judgments)} judgments (first: {lacking[0]!r}); "
            "give it to all or to none"
        )
    if lacking and difficulty_weight is not None:
        raise InputError("a difficulty weight is given but no judgment has a difficulty; leave the weight out")
    out = _figures(judgments, length_weight, difficulty_weight)
    tags = sorted({j.language for j in judgments})
    if len(tags) > 1:
        out["by_language"] = {
            tag: _figures([j for j in judgments if j.language == tag], length_weight, difficulty_weight) for tag in tags
        }
    return out


def _figures(
    judgments: Sequence[Judgment], length_weight: float | None, difficulty_weight: float | None
) -> dict[str, Any]:
    difficulties = [j.difficulty for j in judgments if j.difficulty is not None]
    found = metrics.win_rate(
        [j.preference for j in judgments],
        [j.model_length for j in judgments],
        [j.baseline_length for j in judgments],
        difficulties or None,
        [j.id for j in judgments],
        length_weight=length_weight,
        difficulty_weight=difficulty_weight,
    )
    return {
        "win_rate": 100 * found.raw.value,
        "win_rate_stderr": _percent(found.raw.stderr),
        "length_controlled_win_rate": 100 * found.controlled.value,
        "length_controlled_win_rate_stderr": _percent(found.controlled.stderr),
        "n": len(judgments),
        "weights": found.weights,
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
