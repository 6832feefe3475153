"""Win rates, ratings and agreement on the command line: the machine's answer, and a person's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from polypref import cli_judgments
from polypref.errors import InputError, RecipeError, UserError
from polypref.stages.comparison_results import win_rates
from polypref.stages.judge_agreement import agreement
from polypref.stages.judgments import Judgment, write_judgments
from polypref.stages.ratings import RatingOptions, ratings
from polypref.stages.winrate import winrate


def call(*arguments: object) -> str:
    """What a command prints on stdout; its error is raised."""
    app = typer.Typer()
    cli_judgments.add(app)
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"}, catch_exceptions=True)
    if isinstance(done.exception, UserError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


ROWS = [
    Judgment(
        f"p{i}",
        language,
        float((i + len(model) + len(judge)) % 3) / 2,
        100.0 + 7 * i,
        150.0 + 3 * i * i,
        model=model,
        baseline="base",
        judge=judge,
        flipped=i % 5 == 0,
    )
    for i in range(20)
    for language in ("en", "es")
    for model in ("one", "three")
    for judge in ("gpt", "oracle")
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "judgments.jsonl"
    write_judgments(path, ROWS)
    return path


def test_json_is_what_the_stages_give(file: Path) -> None:
    assert json.loads(call("winrate", "--judgments", file, "--json")) == winrate(ROWS)
    held = json.loads(call("winrate", "--judgments", file, "--json", "--length-weight", "-0.5"))
    assert held == winrate(ROWS, length_weight=-0.5)
    options = RatingOptions(anchor="base", k=8, resamples=200, seed=3)
    found = call(
        *("ratings", "--judgments", file, "--anchor", "base"), *("--k", 8, "--resamples", 200, "--seed", 3, "--json")
    )
    assert json.loads(found) == ratings(ROWS, options)
    found = call("agreement", "--judgments", file, "--resamples", 200, "--seed", 3, "--json")
    assert json.loads(found) == agreement(ROWS, resamples=200, seed=3)


def test_a_person_is_told_every_part_of_the_win_rates(file: Path) -> None:
    told = call("winrate", "--judgments", file)
    figures = winrate(ROWS)
    lines = {line.split("  ")[0]: line for line in told.splitlines()}
    assert f"{figures['win_rate']:.1f} ± {figures['win_rate_stderr']:.1f}" in lines["all"]
    for name in ("all · es", "all · macro-average", "one", "one · en", "gpt", "gpt · three · es"):
        assert name in lines
    part = figures["by_judge"]["gpt"]["by_model"]["three"]["by_language"]["es"]
    assert f"{part['wins']}/{part['ties']}/{part['losses']}" in lines["gpt · three · es"]
    assert f"{part['flip_rate']:.1f}%" in lines["gpt · three · es"]


def test_no_name_and_no_figure_is_cut_on_a_narrow_terminal(file: Path) -> None:
    wide = [" ".join(line.split()) for line in call("winrate", "--judgments", file).splitlines()]
    app = typer.Typer()
    cli_judgments.add(app)
    done = CliRunner().invoke(app, ["winrate", "--judgments", str(file)], env={"COLUMNS": "40"})
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == wide


def test_a_person_is_told_ratings_and_agreement(file: Path) -> None:
    told = call("ratings", "--judgments", file, "--resamples", 200)
    best = ratings(ROWS, RatingOptions(resamples=200))["models"][0]
    assert told.splitlines()[1].startswith(best)
    assert f"es · {best}" in told
    assert f"macro-average · {best}" in told
    told = call("agreement", "--judgments", file, "--resamples", 200)
    assert "gpt and oracle" in told
    assert "es · all judges" in told


def test_pairs_of_models_are_told_where_there_are_several_baselines(tmp_path: Path) -> None:
    rows = [
        Judgment(str(i), "en", float(i % 2), 10.0 + i, 12.0, model=m, baseline=b)
        for m, b in ("ab", "bc")
        for i in range(9)
    ]
    write_judgments(tmp_path / "arena.jsonl", rows)
    told = call("winrate", "--judgments", tmp_path / "arena.jsonl")
    assert "a : b" in told
    assert "b : c" in told
    names = [line.split("  ")[0] for line in told.splitlines()[1:]]
    assert names == ["a", "b", "c", "a : b", "b : c"], "a line that pools models which are also baselines"
    figures = win_rates(rows)
    assert json.loads(call("winrate", "--judgments", tmp_path / "arena.jsonl", "--json")) == figures
    assert f"{figures['by_model']['b']['win_rate']:.1f} ± " in told.splitlines()[2]


def test_a_folder_of_judgments_is_read_by_every_command(file: Path) -> None:
    for command in (("winrate",), ("ratings", "--resamples", 100), ("agreement", "--resamples", 100)):
        assert call(*command, "--judgments", file.parent) == call(*command, "--judgments", file)


def test_a_rate_without_a_standard_error_has_none_in_the_table(tmp_path: Path) -> None:
    rows = [Judgment(str(i), "en", float(i > 9), float(i), 10.0) for i in range(20)]
    write_judgments(tmp_path / "ridge.jsonl", rows)
    [_, line] = call("winrate", "--judgments", tmp_path / "ridge.jsonl").splitlines()[:2]
    assert line.count("±") == 1
    assert f"{winrate(rows)['length_controlled_win_rate']:.1f}" in line


def test_what_could_not_be_had_is_said_beside_the_table(tmp_path: Path) -> None:
    write_judgments(tmp_path / "won.jsonl", [Judgment(str(i), "en", 1.0, 10.0, 12.0) for i in range(4)])
    app = typer.Typer()
    cli_judgments.add(app)
    done = CliRunner().invoke(app, ["winrate", "--judgments", str(tmp_path / "won.jsonl")])
    assert "all comparisons went the same way" in done.stderr
    assert "100.0" in done.stdout


def test_a_comparison_that_one_judge_judged_twice_is_said_where_it_counts_twice(tmp_path: Path) -> None:
    """``ab`` and the other judge's row are no repetition; of three equal rows two are."""
    rows = [Judgment("ab", "en", 0.0, 10.0, 12.0), *[Judgment("a", "en", 1.0, 10.0, 12.0)] * 3]
    rows += [Judgment("a", "en", 1.0, 10.0, 12.0, judge="other"), Judgment("a", "en", 1.0, 10.0, 12.0, sample=1)]
    write_judgments(tmp_path / "twice.jsonl", rows)
    app = typer.Typer()
    cli_judgments.add(app)
    done = CliRunner().invoke(app, ["winrate", "--judgments", str(tmp_path / "twice.jsonl"), "--json"])
    assert (
        "2 of 6 judgments are of a comparison that the same judge has judged before (first: 'a' in en)" in done.stderr
    )
    assert json.loads(done.stdout)["n"] == 6
    write_judgments(tmp_path / "once.jsonl", rows[:2])
    done = CliRunner().invoke(app, ["winrate", "--judgments", str(tmp_path / "once.jsonl"), "--json"])
    assert "judged before" not in done.stderr


def test_mistakes_are_told(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl does not exist"):
        call("winrate", "--judgments", tmp_path / "none.jsonl")
    with pytest.raises(RecipeError, match="--k"):
        call("ratings", "--judgments", file, "--k", 0)
    with pytest.raises(InputError, match="the anchor 'nobody' is none of the models"):
        call("ratings", "--judgments", file, "--anchor", "nobody")
    apart = [Judgment("1", "en", 1.0, 1.0, 1.0, model=m, baseline=b) for m, b in ("ab", "cd")]
    write_judgments(tmp_path / "apart.jsonl", apart)
    with pytest.raises(InputError, match="no comparison connects these models: a, b; c, d"):
        call("ratings", "--judgments", tmp_path / "apart.jsonl")
    with pytest.raises(InputError, match="agreement needs two judges"):
        call("agreement", "--judgments", tmp_path / "apart.jsonl")
    app = typer.Typer()
    cli_judgments.add(app)
    for command in ("ratings", "agreement"):
        done = CliRunner().invoke(app, [command, "--judgments", str(file), "--resamples", "-1"])
        assert (done.exit_code, "--resamples" in done.output) == (2, True)
