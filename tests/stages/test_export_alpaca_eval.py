"""AlpacaEval's layout: what its own reader makes of a row, and its published figures from its published rows."""

import csv
import json

import pytest

from polypref.errors import InputError
from polypref.stages.export_alpaca_eval import annotation, write_alpaca_eval
from polypref.stages.judgments import Judgment


def judgment(id="1", preference=0.75, language="es", **more):
    fields = {
        "model": "org/mine",
        "baseline": "gpt4",
        "judge": "gpt",
        "prompt": "Di no.",
        "model_answer": "No.",
        "baseline_answer": "¡No!",
        "category": "koala",
    } | more
    length = len(fields["model_answer"] or "")
    return Judgment(id, language, preference, length, len(fields["baseline_answer"] or ""), **fields)


def board(path):
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_a_row_is_an_annotation_with_the_model_second():
    """In AlpacaEval 2 is the model's, 1 the baseline's: 0.75 is 1.75."""
    assert annotation(judgment()) == {
        "instruction": "Di no.",
        "output_1": "¡No!",
        "generator_1": "gpt4",
        "output_2": "No.",
        "generator_2": "org/mine",
        "dataset": "koala",
        "annotator": "gpt",
        "preference": 1.75,
        "id": "1",
        "language": "es",
    }
    assert annotation(judgment(preference=None, error="cut"))["preference"] is None
    assert annotation(judgment(model_answer=None, error="cut"))["output_2"] == ""


def test_each_language_and_judge_has_its_leaderboard(tmp_path):
    """Three comparisons 1, 0.5, 0.25: a win, a draw, a loss; win rate 7/12, the sample's s/√3 beside it."""
    rows = [judgment(str(i), p) for i, p in enumerate((1.0, 0.5, 0.25, None))]
    rows += [judgment("1", 1.0, "de"), judgment("1", 0.0, "de", judge="rm")]
    paths = [path.relative_to(tmp_path).as_posix() for path in write_alpaca_eval(tmp_path, rows)]
    assert paths == [
        "es/gpt/org__mine/annotations.json",
        "es/gpt/leaderboard.csv",
        "de/gpt/org__mine/annotations.json",
        "de/gpt/leaderboard.csv",
        "de/rm/org__mine/annotations.json",
        "de/rm/leaderboard.csv",
    ]
    [row] = board(tmp_path / "es/gpt/leaderboard.csv")
    counts = (row["n_wins"], row["n_wins_base"], row["n_draws"], row["n_total"], row["avg_length"], row["mode"])
    assert (row[""], *counts) == ("org/mine", "1", "1", "1", "3", "3", "community")
    assert float(row["win_rate"]) == pytest.approx(700 / 12)
    assert float(row["standard_error"]) == pytest.approx(100 * (0.4375 / 3 / 3) ** 0.5)
    assert float(row["discrete_win_rate"]) == pytest.approx(50)
    kept = json.loads((tmp_path / "es/gpt/org__mine/annotations.json").read_text(encoding="utf-8"))
    assert [row["preference"] for row in kept] == [2.0, 1.5, 1.25, None]


def test_the_best_stands_first(tmp_path):
    rows = [judgment(str(i), p, model=model) for i in range(3) for model, p in (("worse", 0.25), ("better", 1.0))]
    write_alpaca_eval(tmp_path, rows)
    assert [row[""] for row in board(tmp_path / "es/gpt/leaderboard.csv")] == ["better", "worse"]


def test_published_annotations_give_the_published_leaderboard(real_data, tmp_path):
    """AlpacaEval's own rows of claude-2.1, written as ours and summed up again."""
    lines = (real_data / "alpaca_eval/annotations/claude-2.1.jsonl").read_text(encoding="utf-8").splitlines()
    rows = []
    for number, row in enumerate(map(json.loads, lines)):
        told = 0.5 if row["preference"] == 0 else row["preference"] - 1
        answers = {"model_answer": "x" * row["model_chars"], "baseline_answer": "x" * row["baseline_chars"]}
        rows.append(judgment(str(number), told, "en", prompt=row["instruction"], model="claude-2.1", **answers))
    write_alpaca_eval(tmp_path, rows)
    [ours] = board(tmp_path / "en/gpt/leaderboard.csv")
    # The row of claude-2.1 in AlpacaEval 2's leaderboard.
    assert float(ours["win_rate"]) == pytest.approx(15.733506736409938, abs=1e-9)
    assert float(ours["standard_error"]) == pytest.approx(1.120315865445773, abs=1e-9)
    counts = tuple(int(ours[name]) for name in ("n_wins", "n_wins_base", "n_draws", "n_total", "avg_length"))
    assert counts == (115, 688, 2, 805, 1096)
    assert float(ours["discrete_win_rate"]) == pytest.approx(14.409937888198757, abs=1e-9)


def test_what_the_layout_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"several baselines \(gpt4, other\)"):
        write_alpaca_eval(tmp_path, [judgment(), judgment(baseline="other")])
    with pytest.raises(InputError, match="the judgment of '7' in es was kept without prompt and answers"):
        annotation(Judgment("7", "es", 1.0, 100, 120))
