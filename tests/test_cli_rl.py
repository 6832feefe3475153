"""``polypref train rl``, with a real policy that takes a moment and with a fake one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from polypref.cli import main
from polypref.sandbox.model import sft_checkpoint
from polypref.sandbox.settings import SftSettings
from polypref.sandbox.world import prompts

TINY = SftSettings(width=32, layers=1, heads=2, steps=3, batch=8)


@pytest.fixture
def polypref(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    rows = [{name: e[name] for name in ("id", "prompts", "gold", "category")} for e in prompts("train", 12, 0)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["train", "rl", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, re.sub(r"\s+", " ", captured.err)

    return call


FAKE = ("--model", "fake-sft", "--prompts", "prompts.jsonl", "--scorer", "fake", "--output", "out")
FAKE = (*FAKE, "--identifier", "fake", "--set", "method=fake", "--set", "max_steps=3")


def test_a_policy_is_trained_and_found_again(polypref, tmp_path):
    model = sft_checkpoint(tmp_path / "cache", 0, settings=TINY)
    arguments = ("--model", model, "--prompts", "prompts.jsonl", "--scorer", "oracle", "--output", "rl", "--json")
    options = ("max_steps=2", "batch_size=4", "n=2", "max_tokens=6", "validation_share=0.3", "eval_steps=2")
    arguments = (*arguments, "--identifier", "sandbox", "--device", "cpu", "--language", "es", "--limit", 10)
    arguments = (*arguments, *(part for option in options for part in ("--set", option)))
    status, out, _ = polypref(*arguments)
    assert status == 0
    summary = json.loads(out)
    assert summary["languages"].keys() == {"es"}
    assert summary["rows"] + summary["validation_rows"] == 10
    assert [entry["step"] for entry in summary["curve"]] == [1, 2]
    assert [entry["step"] for entry in summary["checkpoints"]] == [0, 2]
    assert (tmp_path / "rl" / "model.safetensors").is_file()
    assert json.loads(polypref(*arguments)[1]) | {"seconds": 0} == summary | {"seconds": 0}


def test_it_says_what_was_done_in_a_sentence(polypref):
    status, out, _ = polypref(*FAKE)
    assert status == 0
    assert "out: 3 steps on 55 prompts (de 11, en 11, es 11, fr 11, sw 11); step 3 is kept; reward" in out


def test_a_mistake_is_told_in_a_sentence(polypref):
    assert polypref(*FAKE, "--set", "betta=1")[::2] == (2, "polypref: --set betta: no such option; did you mean beta? ")
    status, _, said = polypref(*FAKE, "--scorer", "pair_judge")
    assert (status, "compares pairs and gives an answer no number; say judge" in said) == (2, True)
    status, _, said = polypref(*FAKE, "--scorer", "reward_model")
    assert (status, "--scorer reward_model: reward_model needs a model" in said) == (2, True)
    status, _, said = polypref(*FAKE, "--language", "it")
    assert status == 2
    assert "it" in said
