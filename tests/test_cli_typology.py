"""``polypref evaluate typology``: options, both kinds of answer, mistakes."""

import json
import shlex

import pytest
import typer
from typer.testing import CliRunner

from pages import ROOT, blocks, commands, write_file
from polypref import cli_typology
from polypref.errors import InputError, RecipeError

PAGE = ROOT / "docs/typology.md"

WIN_RATES = "source_language,target_language,win_rate\n" + "".join(
    f"{source},{target},{50 + 3 * i + 2 * j * j}\n"
    for i, source in enumerate(("de", "en", "es", "tr"))
    for j, target in enumerate(("de", "en", "es", "tr"))
)
FEATURES = "language,order,tone\nde,SOV,no\nen,SVO,no\nes,SVO,no\ntr,SOV,no\n"
CULTURE = "source_language,target_language,value\nde,en,1\nen,de,1\nde,es,2\nes,de,\nde,tr,4\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"w.csv": WIN_RATES, "f.csv": FEATURES, "c.csv": CULTURE}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_typology.add_to(app)

    def call(*words):
        return CliRunner().invoke(app, ["typology", "--win-rate", "w.csv", *words], catch_exceptions=False)

    return call


def test_a_machine_gets_everything(run):
    found = json.loads(run("--features", "f.csv", "--predictor", "culture=c.csv", "--min-pairs", "3", "--json").stdout)
    assert (found["pairs"], found["tested"], found["untested"]["one_value"]) == (12, 1, ["tone"])
    assert (found["features"][0]["shared_pairs"], found["features"][0]["other_pairs"]) == (4, 8)
    assert (found["predictors"]["culture"]["n"], found["predictors"]["culture"]["missing_pairs"]) == (4, 8)
    assert found["options"]["min_pairs"] == 3
    assert len(found["sentences"]) == 3


def test_a_person_gets_features_sentences_and_notes(run):
    told = run("--features", "f.csv")
    heading, row, *_ = told.stdout.splitlines()
    assert (heading.split()[0], heading.split()[-1], row.split()[-1]) == ("difference", "feature", "order")
    assert "Of 1 tested feature none goes significantly with a higher win_rate" in told.stdout
    assert told.stdout.endswith("\nnote: 1 of 2 features are not tested: 1 because every pair shares the value\n")


def test_a_predictor_may_be_symmetric(run):
    near = json.loads(run("--predictor", "culture=c.csv", "--symmetric", "culture", "--json").stdout)
    assert near["predictors"]["culture"]["n"] == 6  # de with en, es and tr; es on tr is in no row
    assert near["options"]["symmetric"] == ["culture"]


def test_without_features_predictors_stand_alone(run):
    assert run().stdout.startswith("shared_script: no correlation")


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        (("--predictor", "c.csv"), RecipeError, "--predictor 'c.csv' is no NAME=FILE.csv"),
        (("--predictor", "a=c.csv", "--predictor", "a=f.csv"), RecipeError, "names a twice"),
        (("--variances", "equal"), RecipeError, "--variances: "),
        (("--min-pairs", "1"), RecipeError, "--min-pairs: "),
        (("--figure", "gain"), InputError, "w.csv:1: the column gain is missing"),
        (("--features", "none"), InputError, "none does not exist"),
        (("--features", "."), InputError, "lacks languages.csv, parameters.csv, codes.csv, values.csv"),
    ],
)
def test_mistakes_are_told(run, words, kind, says):
    with pytest.raises(kind, match=says):
        run(*words)


@pytest.fixture
def page_folder(tmp_path, monkeypatch):
    """The files of docs/typology.md, in the working directory."""
    for block in blocks(PAGE):
        if block.name:
            write_file(block, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_shows_what_the_command_prints(page_folder):
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_typology.add_to(app)
    shown = [pair for block in blocks(PAGE) if block.language == "console" for pair in commands(block)]
    assert shown
    for command, expected in shown:
        words = shlex.split(command.removeprefix("polypref evaluate "))
        assert CliRunner().invoke(app, words, catch_exceptions=False).output == expected


def test_the_pages_python_runs(page_folder):
    (program,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    exec(compile(program, str(PAGE), "exec"), {})
