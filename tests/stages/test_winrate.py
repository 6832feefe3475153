"""Win rates of judgments: what is refused, and AlpacaEval 2's published leaderboard."""

import csv
import json
import math
import random

import pytest

from polypref.errors import InputError
from polypref.stages.judgments import read_judgments
from polypref.stages.winrate import winrate


def judgment(**rest):
    row = {"id": "a", "language": "en", "preference": 1, "model_length": 10, "baseline_length": 20}
    return row | rest


def test_a_win_rate_is_told_in_percent_and_by_language():
    noise = random.Random(0)
    rows = [
        judgment(
            id=f"{lang}{i}",
            language=lang,
            preference=noise.choice([0, 0.5, 1]),
            model_length=noise.randint(1, 99),
            baseline_length=noise.randint(1, 99),
        )
        for lang in ("en", "Spanish")
        for i in range(50)
    ]
    found = winrate(rows)
    mean = sum(r["preference"] for r in rows) / 100
    stderr = math.sqrt(sum((r["preference"] - mean) ** 2 for r in rows) / 99 / 100)
    assert (found["win_rate"], found["n"]) == (pytest.approx(100 * mean), 100)
    assert found["win_rate_stderr"] == pytest.approx(100 * stderr)
    assert set(found["by_language"]) == {"en", "es"}
    alone = winrate([r for r in rows if r["language"] == "Spanish"])
    assert "by_language" not in alone
    assert found["by_language"]["es"] == alone
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (judgment(preference=None), "preference is missing"),
        (judgment(preference=2), "preference is 2.0; it must lie between 0"),
        (judgment(preference=True), "preference is True; it must be a number"),
        (judgment(preference="1"), "preference is '1'"),
        (judgment(model_length=-1), "model_length is -1"),
        (judgment(baseline_length=math.nan), "baseline_length is nan"),
        (judgment(difficulty="hard"), "difficulty is 'hard'"),
        (judgment(language="klingonese?"), "language: 'klingonese"),
        (judgment(id=7), "id is 7"),
        ([1], "the row is no object"),
    ],
)
def test_a_wrong_judgment_is_told_with_row_and_field(row, says):
    with pytest.raises(InputError, match=r"^row 2: ") as error:
        winrate([judgment(), row])
    assert says in str(error.value)


def test_judgments_are_told_with_file_and_line(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps(judgment()) + "\n\n" + json.dumps(judgment(preference=-1)) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"^j\.jsonl:3: preference is -1"):
        read_judgments(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is empty"):
        read_judgments(path)


def test_difficulties_are_for_all_or_for_none():
    with pytest.raises(InputError, match=r"missing in 1 of 2 judgments \(first: 'b'\)"):
        winrate([judgment(difficulty=1.0), judgment(id="b")])
    with pytest.raises(InputError, match="no judgment has a difficulty"):
        winrate([judgment()], difficulty_weight=1.0)
    with pytest.raises(InputError, match="at least one"):
        winrate([])


def published_judgments(folder, name):
    difficulty = [*json.loads((folder / "instruction_difficulty.json").read_text(encoding="utf-8")).values()]
    lines = (folder / "annotations" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    for i, (line, hard) in enumerate(zip(lines, difficulty, strict=True)):
        row = json.loads(line)
        preference = row["preference"] - 1 if row["preference"] else 0.5
        yield judgment(
            id=str(i),
            preference=preference,
            model_length=row["model_chars"],
            baseline_length=row["baseline_chars"],
            difficulty=hard,
        )


def test_win_rates_of_the_alpacaeval_leaderboard(real_data):
    """Published raw rates to 10⁻⁴ points, length-controlled ones within 0.15 under the published weights."""
    folder = real_data / "alpaca_eval"
    with (folder / "published.csv").open(encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    assert len(published) == 6
    for row in published:
        found = winrate(
            published_judgments(folder, row["model"]),
            length_weight=float(row["glm_w_length"]),
            difficulty_weight=float(row["glm_w_difficulty"]),
        )
        assert found["win_rate"] == pytest.approx(float(row["win_rate"]), abs=1e-4)
        assert found["length_controlled_win_rate"] == pytest.approx(float(row["length_controlled_winrate"]), abs=0.15)
        assert found["weights"]["intercept"] == pytest.approx(float(row["glm_w_model"]), abs=0.02)
