"""``polypref evaluate distance``: a tiny model's distances, the table that typology reads, and mistakes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from polypref import cli_distance, cli_typology
from polypref.backends.base import ModelSpec, Text
from polypref.backends.hf_hidden import HFHiddenStates
from polypref.errors import InputError, RecipeError
from tiny_training import save_tiny_model

PROMPTS = [
    {"id": str(i), "prompts": {"en": f"name {word}", "es": f"say {word} {word}", "de": f"count {word} a"}}
    for i, word in enumerate(("red", "green", "blue", "uno", "dos", "tres"))
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "model")
    lines = [*PROMPTS, {"id": "alone", "prompts": {"en": "name one"}}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_distance.add_to(app)
    cli_typology.add_to(app)

    def call(command: str, *words: str) -> Any:
        given = {"distance": ["--model", "model", "--input", "prompts.jsonl"], "typology": []}[command]
        return CliRunner().invoke(app, [command, *given, *words], catch_exceptions=False)

    return call


def test_a_models_distances_are_those_of_its_states(run: Callable[..., Result], tmp_path: Path) -> None:
    """Against numpy on the states of layer 1 of 2, the mean over tokens less the mean of all."""
    found = json.loads(run("distance", "--json").stdout)
    assert (found["layer"], found["pooling"], found["centre"]) == (1, "mean", "all")
    assert (found["texts"], found["left_out"]) == (6, {"missing_language": 1})
    model = HFHiddenStates(ModelSpec(path=str(tmp_path / "model")))
    tags = ("en", "es", "de")
    texts = [Text("t", [{"role": "user", "content": p["prompts"][tag]}]) for p in PROMPTS for tag in tags]
    states = np.asarray(model.hidden(texts, [1], "mean")[0], dtype=float).reshape(6, 3, -1)
    states -= states.mean(axis=(0, 1))
    states /= np.linalg.norm(states, axis=2, keepdims=True)
    for row in found["distances"]:
        i, j = (tags.index(row[f"{side}_language"]) for side in ("source", "target"))
        assert row["value"] == pytest.approx(np.mean(1 - (states[:, i] * states[:, j]).sum(axis=1)), abs=1e-5)


def test_the_table_goes_into_typology(run: Callable[..., Result], tmp_path: Path) -> None:
    told = run("distance", "--output", "distance.csv", "--layer", "-1", "--language", "en", "--language", "es")
    first, pair = told.stdout.splitlines()
    assert first == "6 texts, layer 2, pooling mean, centre all, 1 left out: missing_language"
    assert pair.startswith("en – es: ")
    with (tmp_path / "distance.csv").open(encoding="utf-8") as file:
        assert [(r["source_language"], r["target_language"]) for r in csv.DictReader(file)] == [
            ("en", "en"), ("en", "es"), ("es", "en"), ("es", "es"),
        ]  # fmt: skip
    (tmp_path / "w.csv").write_text("source_language,target_language,win_rate\nen,es,60\nes,en,55\nen,en,70\n")
    same = ("--win-rate", "w.csv", "--predictor", "distance=distance.csv", "--same-language", "--json")
    assert json.loads(run("typology", *same).stdout)["predictors"]["distance"]["missing_pairs"] == 0


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        (("--pooling", "first"), RecipeError, "--pooling: "),
        (("--limit", "2"), RecipeError, "--limit: "),
        (("--language", "en", "--language", "fr"), InputError, "fr"),
        (("--input", "none.jsonl"), InputError, "none.jsonl"),
    ],
)
def test_mistakes_are_told_and_leave_no_table(
    run: Callable[..., Result], tmp_path: Path, words: tuple[str, ...], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        run("distance", "--output", "distance.csv", *words)
    assert not (tmp_path / "distance.csv").exists()
