"""Words and signatures on the command line, on files of their own and on the page's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import pages
from polypref import cli_diagnoses
from polypref.errors import InputError, RecipeError, UserError

PAGE = pages.ROOT / "docs" / "diagnoses.md"


def call(*arguments: object) -> str:
    """What a command prints on stdout; its error is raised."""
    app = typer.Typer()
    cli_diagnoses.add_to(app)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
    if isinstance(done.exception, UserError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Twelve prompts in two languages; the score likes "good", and "bueno" in Spanish, which are the longer answers."""
    words = {"en": ("good", "bad"), "es": ("bueno", "malo")}
    rows = []
    for i in range(12):
        candidates = [
            {"id": f"{lang}/{k}", "lang": lang, "text": f"{word} {i}", "scores": {"rm": float(1 - k)}}
            for lang, pair in words.items()
            for k, word in enumerate(pair)
        ]
        rows.append({"id": f"p{i}", "prompts": {"en": "?", "es": "¿?"}, "candidates": candidates})
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_words_tell_a_score_in_a_language_and_not_across(answers: Path) -> None:
    found = json.loads(call("words", "--score", "rm", "--input", answers, "--unit", "words", "--json"))
    r2 = found["r2"]["words"]
    assert r2["en"]["en"]["r2"] > 0.8
    assert r2["en"]["es"]["r2"] < 0.2  # the digits alone are shared
    assert r2["en"]["en"]["r2_n"] == 12
    assert found["length_agreement"]["es"]["length_agreement"] == 1.0


def test_words_are_told_in_lines(answers: Path) -> None:
    lines = call("words", "--score", "rm", "--input", answers).splitlines()
    assert lines[0] == "en: prefers the longer answer in 1.000 [1.000, 1.000] (n 12)"
    assert len(lines) == 2 + 2 * 4
    assert lines[2].startswith("en → en, words: R² 0.")


def test_wrong_options_of_words_are_told(answers: Path) -> None:
    with pytest.raises(RecipeError, match="--unit: "):
        call("words", "--score", "rm", "--input", answers, "--unit", "letters")
    with pytest.raises(InputError, match="12 prompts for 20 folds"):
        call("words", "--score", "rm", "--input", answers, "--folds", 20)


# --- signatures ----------------------------------------------------------------------------------------------------


def run(**more: Any) -> dict[str, Any]:
    def quality(value: float) -> dict[str, float | int]:
        return {"quality": value, "quality_stderr": 0.01, "quality_n": 101}

    return {
        "results": {
            "sft": {"en": quality(0.5), "sw": quality(0.5)},
            "rl": {"en": quality(0.9), "sw": quality(0.3)},
            "rm": {"sw": {"accuracy": 0.5, "accuracy_stderr": 0.02, "accuracy_n": 101}},
        },
        "config": {"pivot": "en"},
        "rounds": [{"model": "rl", "starts_from": "sft", "reward": {"model": "rm"}}],
        **more,
    }


def write(folder: Path, found: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_a_run_raises_its_signatures_by_itself(tmp_path: Path) -> None:
    path = write(tmp_path, run())
    found = json.loads(call("signatures", "--input", path, "--json"))
    assert [(one["name"], one["lang"]) for one in found["signatures"]] == [
        ("quality_falls", "sw"),
        ("accuracy_low", "sw"),
    ]
    assert (found["before"], found["after"], found["reward"], found["pivot"]) == ("sft", "rl", "rm", "en")
    assert found["examined"]["quality_falls"] == ["en", "sw"]
    assert found["examined"]["kl_high"] == []
    assert json.loads(call("signatures", "--input", tmp_path, "--json")) == found


def test_signatures_are_told_with_what_to_try_and_what_was_not_examined(tmp_path: Path) -> None:
    told = call("signatures", "--input", write(tmp_path, run()))
    assert "quality_falls: Swahili: quality falls from sft to rl by 0.2 [0.172, 0.228].\n    try: keep" in told
    assert "not examined, since their figures are missing: win_rate_not_above_even, kl_high" in told


def test_steps_and_limits_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, run(rounds=[]))
    with pytest.raises(RecipeError, match="name the steps with --before and --after, or --reward"):
        call("signatures", "--input", path)
    named = ("signatures", "--input", path, "--before", "sft", "--after", "rl")
    assert "quality_not_up" not in call(*named).partition("not examined")[0]
    assert "quality_not_up: English" in call(*named, "--set", "min_gain=0.5")
    assert "accuracy_low" in call("signatures", "--input", path, "--reward", "rm")
    with pytest.raises(InputError, match="no step 'rll'; did you mean rl"):
        call(*named[:-1], "rll")
    with pytest.raises(RecipeError, match="max_kll: no such option; did you mean max_kl"):
        call(*named, "--set", "max_kll=1")


def test_nothing_wrong_is_said_as_well(tmp_path: Path) -> None:
    path = write(tmp_path, run())
    told = call(
        "signatures", "--input", path, "--before", "sft", "--after", "sft", "--set", "min_gain=0", "--reward", "sft"
    )
    assert "quality_not_up" in told  # nothing has changed, so no gain is shown
    healthy = run()
    healthy["results"]["rl"]["sw"] = healthy["results"]["rl"]["en"]
    healthy["results"]["rm"] = {}
    assert call("signatures", "--input", write(tmp_path, healthy)).startswith("no failure signature\n")
    empty = {"results": {"sft": {}, "rl": {}}, "rounds": [{"model": "rl", "starts_from": "sft"}]}
    assert call("signatures", "--input", write(tmp_path, empty)).startswith("nothing could be examined\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON that can be read"),
        ("[]", "has no results; name a run's results.json"),
        ('{"results": {"a": 1}}', "results.a is not language → figures"),
        ('{"results": {"a": {"en": 1}}}', "results.a is not language → figures"),
        ('{"results": {"a": {"en": {"kl": "x"}}}}', "results.a.en.kl is x; write a finite number or null"),
        ('{"results": {"a": {"en": {"kl": NaN}}}}', "results.a.en.kl is nan; write a finite number or null"),
    ],
)
def test_a_file_that_is_no_results_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        call("signatures", "--input", path)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json does not exist; name the folder of a finished run"):
        call("signatures", "--input", tmp_path)


# --- the page ------------------------------------------------------------------------------------------------------


def test_the_commands_of_the_page_print_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = 0
    for block in pages.blocks(PAGE):
        if block.name:
            pages.write_file(block, tmp_path)
        if block.language == "console":
            for command, printed in pages.commands(block):
                shown += 1
                words = command.replace("\\\n", " ").split()
                assert words[:2] == ["polypref", "evaluate"]
                assert pages.fits(printed, call(*words[2:])), call(*words[2:])
    assert shown == 2


def test_the_python_of_the_page_runs() -> None:
    programs = [block.text for block in pages.blocks(PAGE) if block.language == "python"]
    assert len(programs) == 3
    for program in programs:
        exec(compile(program, str(PAGE), "exec"), {})
