"""polypref estimate: text, JSON, and mistakes; docs/scale.md shows what it prints."""

import json
import shlex
from pathlib import Path

import pytest

import pages
import runs
from polypref.cli import main

PAPER = ["icr", "--prompts", "100", "--languages", "5", "--parameters", "8B"]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["estimate", *arguments])
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def test_a_recipe_is_planned_on_paper_though_it_leaves_its_models_open(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = told(capsys, *PAPER, "--price", "2", "--held-out", "10")
    assert status == 0
    head, *rest = out.splitlines()
    assert head == "icr: models of 8B, 1 × h100. 100 prompts in 5 languages, as told."
    (row,) = [line for line in rest if line.startswith("round-1/generate ")]
    assert row.split()[1:5] == ["500", "5", "k", "75"]
    assert any(line.startswith("Bottleneck: decoding answers") for line in rest)
    assert any(line.startswith("Too small: training all weights") for line in rest)
    assert any("answer_tokens" in line for line in rest)


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = told(capsys, *PAPER, "--price", "2", "--json", "--assume", "answer_tokens=100")
    found = json.loads(out)
    assert status == 0
    rounds = {step["stage"]: step for step in found["steps"]}
    assert rounds["round-1/generate"]["tokens_out"] == 100 * 5 * 10 * 100
    for name in ("gpu_hours", "tokens_out", "disk_bytes"):
        assert found["total"][name] == pytest.approx(sum(step[name] for step in found["steps"]))
    assert found["total"]["cost"] == pytest.approx(2 * found["total"]["gpu_hours"])
    assert found["assumed"]["answer_tokens"] == 100
    assert found["gpu"]["source"].startswith("NVIDIA H100")


def test_data_that_is_there_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """24 prompts of the sandbox in 3 languages, 4 answers; a set value is the recipe's."""
    status, out, _ = told(capsys, "smoke", "--parameters", "1B", "--set", "generate.n=5", "--json")
    found = json.loads(out)
    steps = {step["stage"]: step for step in found["steps"]}
    assert status == 0
    assert (steps["round-1/generate"]["requests"], steps["round-1/generate"]["sequences"]) == (72, 360)
    assert found["counted"].startswith("data read, tokens by characters")


def test_a_finished_run_is_the_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same recipe with 4 times the prompts: 4 times the answers of round 1 (one step alone has no fixed seconds
    that could be told), at the seconds a token of the run."""
    path = runs.small(tmp_path, rounds=1)
    runs.done(path, tmp_path / "probe", "prompts.limit=5")
    asked = [str(path), "--calibrate", str(tmp_path / "probe"), "--set", "prompts.limit=20"]
    status, out, _ = told(capsys, *asked, "--json")
    found = json.loads(out)
    (step,) = [step for step in found["steps"] if step["stage"] == "round-1/generate"]
    took = json.loads((tmp_path / "probe/manifest.json").read_text())["steps"]["round-1/generate"]["seconds"]
    assert status == 0
    assert (step["sequences"], step["bound"]) == (120, "measured")
    assert 3600 * step["gpu_hours"] == pytest.approx(4 * took, rel=0.1)
    _, out, _ = told(capsys, *asked)
    assert f"as measured in {tmp_path / 'probe'}" in out
    assert any(line.startswith("  generate: 0.00 s a step") for line in out.splitlines())


def test_tasks_are_put_to_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = told(capsys, *PAPER, "--task-requests", "1000", "--json")
    steps = [step for step in json.loads(out)["steps"] if step["stage"].startswith("evaluate tasks")]
    assert [(step["sequences"], step["tokens_in"]) for step in steps] == [(1000, 150_000)] * 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["icr"], "say how large the models are"),
        ([*PAPER, "--gpu", "h10"], "--gpu 'h10' is not known; did you mean h100?"),
        (["icr", "--parameters", "8", "--languages", "3"], "--languages tells of data that is not read"),
        ([*PAPER[:-1], "eight"], "write 8B"),
        ([*PAPER, "--assume", "answer_token=3"], "did you mean answer_tokens?"),
        ([*PAPER, "--assume", "answer_tokens=many"], "write answer_tokens=NUMBER"),
        ([*PAPER, "--calibrate", "nowhere"], "--calibrate: nowhere holds no manifest.json of a run"),
        ([*PAPER, "--tokenizer", "nowhere"], "--tokenizer nowhere is no folder"),
        (["icr", "--parameters", "8B"], "models.policy: is to be given"),
        (["ikr", *PAPER[1:]], "ikr does not exist"),
    ],
)
def test_mistakes_are_told_in_a_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    status, out, err = told(capsys, *arguments)
    assert (status, out) == (2, "")
    assert said in err


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = pages.ROOT / "docs" / "scale.md"
    shown = [found for block in pages.blocks(page) if block.language == "console" for found in pages.commands(block)]
    assert len(shown) >= 4
    for command, printed in shown:
        words = shlex.split(command.replace("\\\n", " "))
        assert words[:2] == ["polypref", "estimate"]
        status, out, err = told(capsys, *words[2:])
        assert status == 0, err
        plain = "\n".join(line.rstrip() for line in out.splitlines()) + "\n"
        assert pages.fits(printed, plain), (
            f".venv/bin/python tests/pages.py docs/scale.md shows the page now: {command}"
        )
