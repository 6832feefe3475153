"""Supervised fine-tuning on the command line, of a model of a few thousand parameters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from polypref.cli import main
from tiny_training import WORDS, save_tiny_model


@pytest.fixture
def polypref(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    save_tiny_model(tmp_path / "tiny")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["train", "sft", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, re.sub(r"\s+", " ", captured.err)

    return call


def demonstrations(path: Path, n: int = 10) -> Path:
    """Each prompt in two languages, with an answer in each."""
    rows = [
        {
            "id": str(i),
            "prompts": {lang: f"say {WORDS[i]} {word}" for lang, word in (("en", "one"), ("es", "uno"))},
            "candidates": [
                {"id": lang, "lang": lang, "text": f"{WORDS[i + 1]} {word}", "origin": "human"}
                for lang, word in (("en", "two"), ("es", "dos"))
            ],
        }
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


FEW = ("--set", "batch_size=4", "--set", "max_steps=2", "--set", "evaluations=2", "--set", "learning_rate=1e-3")


def test_the_best_checkpoint_is_kept_and_told(polypref, tmp_path):
    data = demonstrations(tmp_path / "data.jsonl")
    asked = ("--model", "tiny", "--input", data, "--output", "sft", "--validation-share", 0.3, *FEW)
    status, out, _ = polypref(*asked, "--select", "chrf", "--scorer", "fake", "--set", "max_tokens=4", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["rows"] + found["validation_rows"] == 20
    assert [point["step"] for point in found["checkpoints"]] == [1, 2]
    best = max(found["checkpoints"], key=lambda point: point["chrf"])
    assert (found["select"], found["selected"]) == ("chrf", best["step"])
    assert best["by_language"].keys() == {"en", "es"}
    assert best.keys() == {"step", "loss", "chrf", "score", "by_language"}
    assert (tmp_path / "sft" / "model.safetensors").is_file()
    status, out, _ = polypref(*asked[:5], "again", *asked[6:], "--language", "es", "--corrupt", 0.5)
    assert status == 0
    rows = found["rows"] // 2
    told = (
        rf"again: trained on {rows} demonstrations \(es {rows}\); step [12] is kept: loss [\d.]+ on \d validation rows"
    )
    assert re.fullmatch(told, out.strip())


def test_chosen_answers_and_data_of_its_own_for_validation(polypref, tmp_path):
    rows = [
        {"prompt": f"say {WORDS[i]}", "chosen": WORDS[i + 1], "rejected": "red"}
        for i in range(12)
        if WORDS[i + 1] != "red"
    ]
    for name, part in (("pairs", rows[:6]), ("held", rows[6:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    asked = ("--model", "tiny", "--input", "pairs.jsonl", "--output", "sft", *FEW)
    status, out, _ = polypref(*asked, "--validation", "held.jsonl", "--by", "chosen", "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["rows"], found["validation_rows"]) == (6, len(rows) - 6)
    status, _, err = polypref(*asked)
    assert status == 2
    assert "set by to chosen" in err
    status, _, err = polypref(*asked, "--validation", "pairs.jsonl", "--by", "chosen")
    assert status == 2
    assert "training prompts are also evaluated on" in err


@pytest.mark.parametrize("kind", ["messages", "completion", "alpaca"])
def test_plain_rows_of_demonstrations_are_learned_from(polypref, tmp_path, kind):
    def row(i: int) -> dict:
        prompt, answer = f"say {WORDS[i]}", WORDS[i + 1]
        if kind == "messages":
            return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}
        return (
            {"prompt": prompt, "completion": answer}
            if kind == "completion"
            else {"instruction": prompt, "output": answer}
        )

    (tmp_path / "es.jsonl").write_text("".join(json.dumps(row(i)) + "\n" for i in range(8)))
    status, out, _ = polypref("--model", "tiny", "--input", "es.jsonl", "--output", "sft", *FEW, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["languages"] == {"es": found["rows"]}
    assert found["rows"] + found["validation_rows"] == 8


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--select", "bleu"), "--select"),
        (("--select", "scorer"), "no scorer is named"),
        (("--scorer-model", "rm"), "--scorer-model is the model of --scorer, which is missing"),
        (("--scorer", "reward_model"), "--scorer reward_model: reward_model needs a model"),
        (("--set", "beta=1"), "--set beta: no such option"),
        (("--set", "select=last"), "--set select: no such option"),
        (("--language", "de"), "de"),
        (("--corrupt", "2"), "--corrupt"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(polypref, tmp_path, asked, said):
    data = demonstrations(tmp_path / "data.jsonl")
    status, _, err = polypref("--model", "tiny", "--input", data, "--output", "sft", *asked)
    assert status == 2
    assert said in err
    assert not (tmp_path / "sft").exists()
