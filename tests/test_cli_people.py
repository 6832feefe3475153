"""Comparisons for people on the command line: out, filled in, back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer

from polypref import cli_people
from polypref.errors import InputError, RecipeError, UserError
from polypref.stages.judgments import Judgment, read_judgments, write_judgments


def call(*arguments: object) -> None:
    app = typer.Typer()
    cli_people.add_to(app)
    app([str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A folder of comparisons: 20 in each of two languages; the judge prefers the model in all, and on the first four
    the order of the answers flipped it."""
    rows = [
        Judgment(
            f"q{i}", lang, 0.5 if i < 4 else 1.0, 4, 3, model="icr", baseline="sft", judge="gpt", flipped=i < 4,
            prompt=f"{lang} {i}", model_answer="good", baseline_answer="bad",
        )
        for lang in ("en", "es") for i in range(20)
    ]  # fmt: skip
    write_judgments(tmp_path / "run" / "judgments.jsonl", rows)
    return tmp_path / "run"


def fill(source: Path, target: Path, prefer: str, annotator: str = "", skip: int = 0) -> Path:
    """A person who prefers the answer with these words, and leaves the first few out."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=";")
        writer.writeheader()
        for number, row in enumerate(rows):
            verdict = "" if number < skip else "A" if row["answer_a"] == prefer else "B"
            writer.writerow(row | {"verdict": verdict, "annotator": annotator})
    return target


def test_there_and_back_with_agreement(judged: Path, tmp_path: Path, capsys) -> None:
    """Two people: one prefers the model as the judge does where it did not flip, and skips two; the other the
    baseline. They never agree, and the second never agrees with the judge."""
    out, key = tmp_path / "people", tmp_path / "key.jsonl"
    call("people-export", "--judgments", judged, "--out", out, "--key", key, "--per-language", 10, "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["items"], told["by_language"]) == (20, {"en": 10, "es": 10})
    ana = fill(out / "comparisons.csv", tmp_path / "ana.csv", "good", "ana", skip=2)
    ben = fill(out / "comparisons.csv", tmp_path / "filled.csv", "bad")
    call(
        "people-import", "--verdicts", ana, "--verdicts", f"ben={ben}", "--key", key, "--judgments", judged,
        "--output", tmp_path / "people.jsonl", "--json",
    )  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["by_annotator"] == {"ana": 18, "ben": 20}
    assert (told["unjudged"], told["items_judged"]) == ({"ana": 2}, 20)
    pairs = {tuple(pair["judges"]): pair for pair in told["agreement"]["pairs"]}
    assert pairs["ana", "ben"]["raw"] == 0.0
    assert pairs["ben", "gpt"]["raw"] == 0.0
    assert pairs["ana", "gpt"]["n"] == 18
    people = read_judgments(tmp_path / "people.jsonl")
    assert {judgment.judge: judgment.preference for judgment in people} == {"ana": 1.0, "ben": 0.0}


def test_a_stratified_draw_is_told_and_weighted_back(judged: Path, tmp_path: Path, capsys) -> None:
    """Of each language four of 20 flipped; four drawn are two and two. A person who prefers the model agrees with the
    judge on the agreed ones alone: half of the drawn, and 16 of 20 of all."""
    out, key = tmp_path / "people", tmp_path / "key.jsonl"
    call(
        "people-export", "--judgments", judged, "--out", out, "--key", key, "--per-language", 4,
        "--stratify", "disagreement", "--json",
    )  # fmt: skip
    assert json.loads(capsys.readouterr().out)["strata"] == {"disputed": 4, "agreed": 4}
    filled = fill(out / "comparisons.csv", tmp_path / "filled.csv", "good", "ana")
    arguments = ("people-import", "--verdicts", filled, "--key", key, "--judgments", judged)
    call(*arguments, "--output", tmp_path / "people.jsonl", "--json")
    found = json.loads(capsys.readouterr().out)["agreement"]
    assert found["pairs"][0]["raw"] == 0.5
    assert found["reweighted"][0]["raw"] == pytest.approx(0.8)
    call(*arguments, "--output", tmp_path / "people.jsonl")
    said = capsys.readouterr().out
    assert "8 verdicts (ana 8) on 8 of 8 items" in said
    assert "of all comparisons, not only the drawn ones" in said


def test_the_key_may_not_lie_where_people_look(judged: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="lies in --out, which people are given"):
        call("people-export", "--judgments", judged, "--out", tmp_path / "p", "--key", tmp_path / "p" / "key.jsonl")
    assert not (tmp_path / "p").exists()


def test_no_file_for_people_holds_the_models_names(judged: Path, tmp_path: Path) -> None:
    call("people-export", "--judgments", judged, "--out", tmp_path / "p", "--key", tmp_path / "key.jsonl")
    files = [file for file in (tmp_path / "p").rglob("*") if file.is_file()]
    assert len(files) == 5
    assert not any(name in file.read_text(encoding="utf-8") for file in files for name in ("icr", "sft", "gpt"))


def test_the_same_export_is_written_twice(judged: Path, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        call("people-export", "--judgments", judged, "--out", tmp_path / "p", "--key", tmp_path / "key.jsonl")
        files = [*sorted((tmp_path / "p").rglob("*.*")), tmp_path / "key.jsonl"]
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("changed", "error", "complaint"),
    [
        (("--verdicts", "=x.csv"), RecipeError, "is no NAME=FILE"),
        (("--verdicts", "ana=missing.json"), InputError, "missing.json is no file"),
        (("--annotator", "7"), RecipeError, "--annotator '7' is no ID=NAME"),
    ],
)
def test_a_mistake_writes_nothing(judged: Path, tmp_path: Path, changed, error, complaint) -> None:
    out, key, target = tmp_path / "people", tmp_path / "key.jsonl", tmp_path / "people.jsonl"
    call("people-export", "--judgments", judged, "--out", out, "--key", key)
    filled = fill(out / "comparisons.csv", tmp_path / "filled.csv", "good", "ana")
    with pytest.raises(error, match=complaint):
        call("people-import", "--verdicts", filled, "--key", key, "--output", target, *changed)
    assert not target.exists()


def test_an_unknown_language_or_a_wrong_number_is_a_mistake(judged: Path, tmp_path: Path) -> None:
    arguments = ("people-export", "--judgments", judged, "--out", tmp_path / "p", "--key", tmp_path / "key.jsonl")
    for more in (("--language", "sw"), ("--per-language", 0), ("--stratify", "chance")):
        with pytest.raises(UserError):
            call(*arguments, *more)


def test_answers_that_nobody_has_judged_are_shown_too(tmp_path: Path, capsys) -> None:
    for name, text in (("icr", "good"), ("sft", "bad"), ("other", "good")):
        (tmp_path / name).mkdir()
        rows = [{"id": f"q{i}", "prompt": f"question {i}", "response": text} for i in range(5)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "es.jsonl").write_text(lines, encoding="utf-8")
    named = [part for name in ("icr", "sft", "other") for part in ("--answers", f"{name}={tmp_path / name}")]
    rest = ("--out", tmp_path / "p", "--key", tmp_path / "key.jsonl", "--json")
    call("people-export", *named, "--baseline", "sft", *rest)
    assert json.loads(capsys.readouterr().out)["by_language"] == {"es": 10}
    call("people-export", *named, *rest)
    told = json.loads(capsys.readouterr().out)
    assert (told["by_language"], told["left_out"]) == ({"es": 10}, {"equal answers": 5})
    with pytest.raises(RecipeError, match="name one of the two"):
        call("people-export", *rest)


def test_real_answers_go_through_a_spreadsheet(real_data: Path, tmp_path: Path, capsys) -> None:
    """Two released models' answers to X-AlpacaEval in three languages: every cell is inert, and a person who always
    says A comes back with each model as often as it stood there."""
    folder = real_data / "responses" / "x_alpacaeval"
    named = [
        part
        for name, model in (("mini", "gpt-4o-mini"), ("turbo", "gpt-3.5-turbo-0125"))
        for part in ("--answers", f"{name}={folder / model}")
    ]
    call(
        "people-export", *named, "--prompts", real_data / "prompts" / "x_alpacaeval", "--baseline", "turbo",
        "--language", "de", "--language", "es", "--language", "ru", "--out", tmp_path / "p",
        "--key", tmp_path / "key.jsonl", "--json",
    )  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["items"] + told["left_out"].get("equal answers", 0) == 3 * 805
    with (tmp_path / "p" / "comparisons.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert len(rows) == told["items"]
    assert not any(row[name].startswith(("=", "+", "-", "@")) for row in rows for name in ("answer_a", "answer_b"))
    with (tmp_path / "filled.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"verdict": "a", "annotator": "ana"} for row in rows)
    arguments = ("--key", tmp_path / "key.jsonl", "--output", tmp_path / "people.jsonl")
    call("people-import", "--verdicts", tmp_path / "filled.csv", *arguments, "--json")
    people = read_judgments(tmp_path / "people.jsonl")
    key = [json.loads(line) for line in (tmp_path / "key.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(judgment.preference == 1 for judgment in people) == sum(row["a"] == "model" for row in key)
    assert {(j.id, j.language): j.model_answer for j in people} == {
        (row["id"], row["language"]): row["model_answer"] for row in key
    }
