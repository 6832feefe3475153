"""Reward models on the command line, with a real one that takes a moment: bag of words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from polypref.cli import main

WORDS = {"en": ("good", "bad"), "es": ("bueno", "malo")}


@pytest.fixture
def polypref(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, re.sub(r"\s+", " ", captured.err)

    return call


def preferences(path: Path, first: int, n: int, langs: tuple[str, ...] = ("en", "es")) -> Path:
    """Rows of several languages in one file; the chosen answer has the good word in it."""
    rows = [
        {
            "id": f"{lang}-{i}",
            "language": lang,
            "prompt": f"{lang} question {i}",
            "chosen": f"{WORDS[lang][0]} answer {i}" + " indeed" * (i % 3),
            "rejected": f"{WORDS[lang][1]} answer {i}" + " indeed" * ((i + 1) % 3),
        }
        for lang in langs
        for i in range(first, first + n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def trained(polypref, tmp_path) -> Path:
    data = preferences(tmp_path / "train.jsonl", 0, 40)
    for lang in ("en", "es"):
        status, out, _ = polypref(
            "train", "reward", "--input", data, "--output", f"rm-{lang}", "--language", lang,
            "--set", "method=bag_of_words", "--json",
        )  # fmt: skip
        assert status == 0
        assert json.loads(out)["languages"] == {lang: json.loads(out)["rows"]}
    return tmp_path


def test_a_reward_model_scores_answers(polypref, trained):
    example = {
        "id": "1",
        "prompts": {"en": "question"},
        "candidates": [{"id": k, "lang": "en", "text": f"{k} answer"} for k in ("good", "bad")],
    }
    (trained / "answers.jsonl").write_text(json.dumps(example) + "\n", encoding="utf-8")
    status, _, _ = polypref(
        "score", "scorer", "--scorer", "bag_of_words", "--model", "rm-en", "--as", "rm",
        "--input", "answers.jsonl", "--output", "scored.jsonl",
    )  # fmt: skip
    assert status == 0
    found = json.loads((trained / "scored.jsonl").read_text(encoding="utf-8"))
    good, bad = (c["scores"]["rm"] for c in found["candidates"])
    assert good > 0 > bad


def test_rewards_are_judged_in_every_language(polypref, trained):
    test = preferences(trained / "test.jsonl", 100, 30)
    arguments = [
        "evaluate", "rewards", "--input", test,
        "--reward", "en=bag_of_words:rm-en", "--reward", "es=bag_of_words:rm-es",
        "--train", "train.jsonl", "--trained-on", "en=en", "--trained-on", "es=es", "--out", "judged", "--json",
    ]  # fmt: skip
    status, out, _ = polypref(*arguments)
    assert status == 0
    found = json.loads(out)
    assert found["results"]["en"]["en"]["accuracy"] == found["results"]["es"]["es"]["accuracy"] == 1.0
    assert found["results"]["en"]["en"]["accuracy_n"] == 30
    assert 0 <= found["results"]["en"]["en"]["length_baseline"] <= 1
    assert found["rewards"]["matrix"]["cells"]["en"]["en"]["accuracy"] == 1.0
    assert (trained / "judged/report.html").exists()
    before = (trained / "judged/report.html").stat().st_mtime_ns
    assert polypref(*arguments)[1] == out
    assert (trained / "judged/report.html").stat().st_mtime_ns == before


def test_another_evaluation_is_not_written_over(polypref, trained):
    first, second = (preferences(trained / f"{n}.jsonl", n, 30) for n in (100, 200))
    asked = ["--reward", "en=bag_of_words:rm-en", "--out", "judged"]
    assert polypref("evaluate", "rewards", "--input", first, *asked)[0] == 0
    status, _, err = polypref("evaluate", "rewards", "--input", second, *asked)
    assert (status, "other data or settings" in err) == (2, True)
    status, _, err = polypref(
        "evaluate", "rewards", "--input", first, "--reward", "es=bag_of_words:rm-es", "--out", "judged"
    )
    assert (status, "of the reward en" in err) == (2, True)
    more = [*asked, "--reward", "es=bag_of_words:rm-es"]
    assert polypref("evaluate", "rewards", "--input", first, *more)[0] == 0


def test_pairs_are_scored_as_they_are(polypref, trained):
    status, out, _ = polypref(
        "score", "scorer", "--scorer", "bag_of_words", "--model", "rm-en", "--shape", "auto", "--json",
        "--input", preferences(trained / "test.jsonl", 100, 5), "--output", "scored.jsonl",
    )  # fmt: skip
    assert (status, json.loads(out)) == (0, {"scored": 20, "no_verdict": 0})


def test_the_tables_are_for_people(polypref, trained):
    test = preferences(trained / "test.jsonl", 100, 30)
    status, out, _ = polypref(
        "evaluate", "rewards", "--input", test, "--reward", "en=bag_of_words:rm-en", "--out", "judged"
    )
    assert status == 0
    assert "Spanish" in out
    assert "judged/report.html" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "reward", "--input", "train.jsonl", "--output", "x"], "--model is missing"),
        (["train", "reward", "--input", "none.jsonl", "--output", "x", "--model", "y"], "none.jsonl"),
        (["train", "reward", "--input", "train.jsonl", "--output", "x", "--set", "los=1"], "did you mean loss?"),
        (["evaluate", "rewards", "--input", "train.jsonl"], "--reward is missing"),
        (["evaluate", "rewards", "--input", "train.jsonl", "--reward", "rm-en"], "is no NAME=MODEL"),
        (["evaluate", "rewards", "--input", "train.jsonl", "--reward", "a=./none"], "no folder ./none"),
        (["evaluate", "rewards", "--input", "train.jsonl", "--reward", "a=bagofwords:x"], "did you mean bag_of_words"),
        (["train", "reward", "--input", "train.jsonl", "--output", "x", "--adapter", "y"], "--model, which is missing"),
        (["score", "scorer", "--scorer", "pair_judge", "--input", "a", "--output", "b"], "say judge"),
        (["score", "scorer", "--scorer", "judge", "--input", "a", "--output", "b"], "judge needs a model"),
    ],
)
def test_mistakes_are_told(polypref, tmp_path, arguments, said):
    preferences(tmp_path / "train.jsonl", 0, 40)
    status, out, err = polypref(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "chosen": "a"}, "rejected"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, "rejected"),
        ({"prompt": "p"} | {k: [{"role": "user", "content": k}] for k in ("chosen", "rejected")}, "assistant"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_its_line_and_nothing_is_written(polypref, tmp_path, row, said):
    path = preferences(tmp_path / "train.jsonl", 0, 5, ("en",))
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "bad", "language": "en", **row}) + "\n")
    status, _, err = polypref(
        "train", "reward", "--input", path, "--output", "x", "--set", "method=bag_of_words", "--language", "en"
    )
    assert status == 2
    assert "train.jsonl:6" in err
    assert said in err
    assert not (tmp_path / "x").exists()
