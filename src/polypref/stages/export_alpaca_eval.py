"""Judgments in AlpacaEval's layout, which knows neither languages nor several judges: a folder for each of them.

    <language>/<judge>/leaderboard.csv            a row a model, win rates in percent
    <language>/<judge>/<model>/annotations.json   a row a comparison

``preference`` runs from 1 (output_1, the baseline's, is better) to 2 (output_2, the model's, is better); 1.5 is a tie,
null no verdict. Rows also have ``id`` and ``language``.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from polypref.errors import InputError
from polypref.stages.export_names import file_names
from polypref.stages.judgments import Judgment
from polypref.stages.winrate import winrate
from polypref.store.atomic import write_json, write_text

ANNOTATIONS, LEADERBOARD = "annotations.json", "leaderboard.csv"
COLUMNS: Final = (
    *("", "win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "mode"),
    *("avg_length", "length_controlled_winrate", "lc_standard_error"),
)
MODE: Final = "community"
"""Whose results a leaderboard of AlpacaEval's takes those to be that it did not make itself."""


def write_alpaca_eval(folder: Path, judgments: Sequence[Judgment]) -> list[Path]:
    """Write the files, each at once; gives them.

    Raises:
        InputError: models are held against several baselines, a judgment lacks a text, or two names give one folder.
    """
    baselines = dict.fromkeys(j.baseline for j in judgments)
    if len(baselines) > 1:
        raise InputError(
            f"the models are held against several baselines ({', '.join(baselines)}); AlpacaEval's layout has one, so "
            "name it when you compare: --baseline"
        )
    judges, models = file_names(j.judge for j in judgments), file_names(j.model for j in judgments)
    written = []
    for (lang, judge), of_judge in _parts(judgments, lambda j: (j.language, j.judge)):
        place = folder / lang / judges[judge]
        board = []
        for (model,), rows in _parts(of_judge, lambda j: (j.model,)):
            written.append(place / models[model] / ANNOTATIONS)
            write_json(written[-1], [annotation(judgment) for judgment in rows])
            if any(judgment.preference is not None for judgment in rows):
                board.append(_standing(model, rows))
        board.sort(key=lambda row: -row["length_controlled_winrate"])
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(board)
        written.append(place / LEADERBOARD)
        write_text(written[-1], text.getvalue())
    return written


def _parts(judgments: Iterable[Judgment], key: Any) -> Iterator[tuple[tuple[str, ...], list[Judgment]]]:
    """(key, its judgments), in the order in which they come first."""
    found: dict[tuple[str, ...], list[Judgment]] = {}
    for judgment in judgments:
        found.setdefault(key(judgment), []).append(judgment)
    yield from found.items()


def annotation(judgment: Judgment) -> dict[str, Any]:
    """One row of annotations.json.

    Raises:
        InputError: the prompt, or an answer that did not fail, was not kept.
    """
    answers = []
    for side in ("baseline", "model"):
        text, length = getattr(judgment, f"{side}_answer"), getattr(judgment, f"{side}_length")
        if judgment.prompt is None or (text is None and length):
            raise InputError(
                f"the judgment of {judgment.id!r} in {judgment.language} was kept without prompt and answers, which "
                "AlpacaEval's layout holds; export the judgments.jsonl of polypref evaluate compare or alpaca"
            )
        answers.append(text or "")
    return {
        "instruction": judgment.prompt,
        "output_1": answers[0],
        "generator_1": judgment.baseline,
        "output_2": answers[1],
        "generator_2": judgment.model,
        "dataset": judgment.category,
        "annotator": judgment.judge,
        "preference": None if judgment.preference is None else 1 + judgment.preference,
        "id": judgment.id,
        "language": judgment.language,
    }


def _standing(model: str, rows: Sequence[Judgment]) -> dict[str, Any]:
    """A model's row of the leaderboard; as AlpacaEval counts, a preference above a half is a win."""
    block = winrate(rows)
    told = [judgment.preference for judgment in rows if judgment.preference is not None]
    wins, draws = sum(p > 0.5 for p in told), sum(p == 0.5 for p in told)
    return {
        "": model,
        "win_rate": block["win_rate"],
        "standard_error": block["win_rate_stderr"],
        "n_wins": wins,
        "n_wins_base": len(told) - wins - draws,
        "n_draws": draws,
        "n_total": len(told),
        "discrete_win_rate": 100 * (wins + draws / 2) / len(told),
        "mode": MODE,
        "avg_length": int(math.fsum(judgment.model_length for judgment in rows) / len(rows)),
        "length_controlled_winrate": block["length_controlled_win_rate"],
        "lc_standard_error": block["length_controlled_win_rate_stderr"],
    }
