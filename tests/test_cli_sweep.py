"""``polypref sweep``: a page and tables for a person, JSON for a machine, mistakes, and runs that fail."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

import pages
from polypref import cli_sweep, quickstart, recipes, reporting
from polypref import sweep as sweeping
from polypref.errors import ModelError, PolyprefError, RecipeError, UserError
from polypref.recipe_file import read_recipe
from polypref.run import run
from polypref.sweep_plan import as_yaml
from runs import fake_model, left_half_written, small

PAGE = pages.ROOT / "docs/sweep.md"
EVALUATED = {"prompts": {"path": "sandbox:test", "limit": 4}, "quality": "fake"}
VARIED = ("--vary", "generate.n=2,3")


@pytest.fixture
def polypref(monkeypatch):
    monkeypatch.setattr(reporting, "render", lambda data: data.name)
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_sweep.add_to(app)

    def call(*words):
        return CliRunner().invoke(app, ["sweep", *map(str, words)], catch_exceptions=False)

    return call


def test_a_sweep_on_a_recipe_from_start_to_page(polypref, tmp_path):
    recipe = small(tmp_path, evaluate=EVALUATED, rounds=1)
    words = (recipe, *VARIED, "--seeds", "3,1", "--set", "prompts.limit=4", "--out", tmp_path / "sweep")
    told = polypref(*words)
    assert told.exit_code == 0
    assert "Quality, %, by generate.n" in told.output
    assert "Difference from 2, points" in told.output
    assert "(mean over English, Spanish; 2 seeds)." in " ".join(told.output.split())
    assert f"{tmp_path}/sweep/sweep.html  the same, to read and to pass on" in told.output
    page = (tmp_path / "sweep/sweep.html").read_text()
    assert (page.count("<svg"), page.count("/report.html")) == (1, 4)

    found = json.loads(polypref(*words, "--json").stdout)
    assert found == json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert found["sweep"]["seeds"] == [3, 1]
    assert [list(point["mean"]["seeds"]) for point in found["points"]] == [["3", "1"], ["3", "1"]]


def test_runs_that_fail_end_the_sweep_with_1_after_its_answer(polypref, tmp_path, monkeypatch, capsys):
    def work(recipe, out, *rest):
        if recipe.generate.n == 3:
            raise ModelError("fake has no head; give it one")
        return run(recipe, out, *rest)

    monkeypatch.setattr(sweeping, "run", work)
    recipe, out = small(tmp_path, evaluate=EVALUATED, rounds=1), tmp_path / "sweep"
    with pytest.raises(
        PolyprefError, match=r"1 of 2 runs failed; .*sweep\.json says why, and the same command"
    ) as error:
        polypref(recipe, *VARIED, "--out", out)
    assert (error.value.exit_status, isinstance(error.value, UserError)) == (1, False)
    states = [
        one["status"] for point in json.loads((out / "sweep.json").read_text())["points"] for one in point["runs"]
    ]
    assert states == ["done", "failed"]
    assert "fake has no head" in (out / "sweep.html").read_text()


def test_an_interrupted_sweep_ends_with_130_and_leaves_no_run_marked(tmp_path):
    out = tmp_path / "sweep"
    words = [sys.executable, "-m", "polypref", "sweep", "smoke", *VARIED, "--set", "prompts.limit=6", "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = out / "2/seed-0/round-1/generate/en/part-00000.parquet"
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "polypref: interrupted; the same command goes on from here\n"
    states = [
        one["status"] for point in json.loads((out / "sweep.json").read_text())["points"] for one in point["runs"]
    ]
    assert states == ["open", "open"]
    assert not left_half_written(out)


def test_a_system_has_its_first_model_made_by_seed(polypref, tmp_path, monkeypatch):
    """The sandbox's training is another test's; here its place is taken by a folder that a fake opens."""
    recipe = small(tmp_path, evaluate=EVALUATED, rounds=1, models={"policy": {"path": "???", "backend": "fake"}}
                   | {"reference": {"path": "fake", "backend": "fake"}})  # fmt: skip
    system = quickstart.System(str(recipe), "models.policy.path", quickstart.SYSTEMS["lidr"].first)
    monkeypatch.setitem(quickstart.SYSTEMS, "lidr", system)
    asked = []

    def checkpoint(cache, seed, *, settings, progress):
        asked.append((seed, settings.steps))
        fake_model(tmp_path / f"sft-{seed}", f"sft-{seed}")
        return tmp_path / f"sft-{seed}"

    monkeypatch.setattr("polypref.sandbox.model.sft_checkpoint", checkpoint)
    told = polypref("--system", "lidr", *VARIED, "--seeds", "5", "--out", tmp_path / "sweep", "--json")
    assert told.exit_code == 0
    assert asked == [(5, 500), (5, 500)]
    config = json.loads((tmp_path / "sweep/3/seed-5/results.json").read_text())["config"]
    assert (config["seed"], config["models"]["policy"]["path"]) == (5, str(tmp_path / "sft-5"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (VARIED, "name a recipe or --system, one of the two"),
        (("smoke", "--system", "icr", *VARIED), "name a recipe or --system, one of the two"),
        (("--system", "icd", *VARIED), "--system is 'icd'; did you mean icr"),
        (("smoek", *VARIED), "did you mean smoke"),
        (("smoke", "--vary", "generate.n=2"), "--vary generate.n has fewer than two values"),
        (("smoke", *VARIED, "--seeds", "0,x"), "--seeds '0,x' are no whole numbers from 0 with commas between"),
        (("smoke", *VARIED, "--seeds", "0,-1"), "are no whole numbers from 0"),
        (("smoke", *VARIED, "--seeds", "0,1,0"), "has a seed twice; keep one"),
        (("smoke", *VARIED, "--seeds", "0", "--set", "seed=1"), "--set seed=… and --seeds both name seeds"),
        (("smoke", "--vary", "genrate.n=2,3"), "did you mean generate"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(polypref, tmp_path, words, said):
    with pytest.raises(RecipeError) as error:
        polypref(*words, "--out", tmp_path / "sweep")
    assert said in str(error.value)
    assert not (tmp_path / "sweep").exists()


def test_the_page_shows_what_its_commands_print(polypref, tmp_path, monkeypatch):
    for block in pages.blocks(PAGE):
        if block.name:
            pages.write_file(block, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    shown = [pair for block in pages.blocks(PAGE) if block.language == "console" for pair in pages.commands(block)]
    assert shown
    for command, expected in shown:
        printed = polypref(*shlex.split(command.removeprefix("polypref sweep "))).stdout
        printed = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        assert pages.fits(expected, printed), printed
    (program,) = [block.text for block in pages.blocks(PAGE) if block.language == "python"]
    exec(compile(program, str(PAGE), "exec"), {})


def test_the_questions_of_the_page_vary_keys_that_there_are():
    section = PAGE.read_text(encoding="utf-8").partition("## Questions")[2].partition("\n## ")[0]
    asked = [sweeping.Vary.of(text) for text in re.findall(r"\| `([\w.]+=[^`]*)` \|", section)]
    assert len(asked) == 7
    for vary in asked:
        with pytest.raises(RecipeError) as error:  # its first model is left open
            read_recipe(recipes.find("quickstart-reuse-rewards"), [f"{vary.key}={as_yaml(vary.values[-1])}"])
        assert "unknown key" not in str(error.value)
