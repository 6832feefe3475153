"""``polypref evaluate tasks`` and ``… tax``: two tiny models, local tasks in two languages, through lm-eval."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

pytest.importorskip("lm_eval", reason="needs the extra eval")

from polypref import cli_tasks, registry
from polypref.backends import lm_eval_harness
from polypref.backends.base import ModelSpec
from polypref.errors import InputError, RecipeError
from tiny_training import save_tiny_model

WORDS = ["red", "green", "blue", "uno", "dos", "tres", "name", "say", "count"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The commands, in a folder with the models base and aligned and the tasks words_en and words_es."""
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    # lm-eval's own thousands of task files take seconds to read, and none of them is used here.
    local = functools.partial(lm_eval_harness.LmEvalHarness, built_in=False)
    monkeypatch.setattr(lm_eval_harness, "LmEvalHarness", local)
    for seed, name in enumerate(("base", "aligned")):
        save_tiny_model(tmp_path / name, seed)
    (tmp_path / "local").mkdir()
    for lang in ("en", "es"):
        rows = [
            {"q": f"{lang} {one} {two}", "options": WORDS[i : i + 3], "gold": (i + j) % 3}
            for i, one in enumerate(WORDS[:6])
            for j, two in enumerate(WORDS)
        ]
        Path(f"{lang}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {
            "task": f"words_{lang}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": f"{lang}.jsonl"}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{q}}",
            "doc_to_choice": "options",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        Path(f"local/words_{lang}.yaml").write_text(yaml.safe_dump(task))
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_tasks.add_to(app)

    def call(command: str, *words: str) -> Any:
        given = {"tasks": ["--tasks", "words", "--include-path", "local"], "tax": []}[command]
        found = CliRunner().invoke(app, [command, *given, "--out", "out", *words], catch_exceptions=False)
        assert found.exit_code == 0, found.stderr
        return found

    return call


def both(run: Callable[..., Any], *words: str) -> None:
    for name in ("base", "aligned"):
        run("tasks", "--model", name, "--languages", "en,es", *words)


def samples(model: str, lang: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"out/tasks/{model}/words_{lang}.samples.jsonl").read_text().splitlines()]


def test_figures_are_the_means_of_the_items(run: Callable[..., Any]) -> None:
    found = json.loads(run("tasks", "--model", "base", "--languages", "en,es", "--json").stdout)
    written = json.loads(Path("out/results.json").read_text())
    assert found["results"] == written["results"]
    for lang in ("en", "es"):
        right = [one["acc"] for one in samples("base", lang)]
        figures = found["results"]["base"][lang]
        assert (figures["words_acc"], figures["words_acc_n"]) == (pytest.approx(sum(right) / 54), 54)
    assert written["standard_tasks"]["base"]["words_es"]["num_fewshot"] == {"words_es": 0}
    assert {"config", "versions", "date", "seed", "signature"} <= written.keys()


def test_what_is_done_is_not_put_again(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    both(run, "--limit", "9")
    before = Path("out/results.json").read_bytes()
    asked = []
    monkeypatch.setattr(lm_eval_harness.lm_eval, "evaluate", lambda **words: asked.append(words))
    said = run("tasks", "--model", "base", "--languages", "en,es", "--limit", "9", "--batch-size", "3").stdout
    assert asked == []
    assert json.loads(Path("out/results.json").read_bytes()) == json.loads(before)
    assert "words_acc" in said


def test_the_tax_is_one_table_and_is_kept(run: Callable[..., Any]) -> None:
    both(run)
    found = json.loads(run("tax", "--before", "base", "--after", "aligned", "--json").stdout)
    for row in found["rows"]:
        right = [[one["acc"] for one in samples(model, row["language"])] for model in ("base", "aligned")]
        assert row["difference"] == pytest.approx((sum(right[1]) - sum(right[0])) / 54)
        assert row["stderr"] > 0
    assert found["macro"]["n"] == 54  # the two languages' items are the same ones
    assert json.loads(Path("out/results.json").read_text())["alignment_tax"] == [found]
    shown = run("tax", "--before", "base", "--after", "aligned").stdout
    assert shown.count("words_acc") == 3
    assert len(json.loads(Path("out/results.json").read_text())["alignment_tax"]) == 1
    both(run, "--limit", "9")
    assert json.loads(Path("out/results.json").read_text())["alignment_tax"] == []


def test_figures_join_a_runs_results(run: Callable[..., Any]) -> None:
    Path("out").mkdir()
    told = {"config": {"name": "mine"}, "date": "2026-01-02", "seed": 0, "signature": "polypref:0"}
    of_run = {"results": {"base": {"es": {"quality": 0.25}}}, **told, "key": "abc", "samples": []}
    Path("out/results.json").write_text(json.dumps(of_run))
    Path("out/report.html").write_text("the page of the run")
    run("tasks", "--model", "base", "--languages", "es", "--limit", "3")
    found = json.loads(Path("out/results.json").read_text())
    page = Path("out/report.html").read_text()
    assert "Standard tasks" in page
    assert "The alignment tax" not in page
    run("tasks", "--model", "aligned", "--languages", "es", "--limit", "3")
    run("tax", "--before", "base", "--after", "aligned")
    assert "The alignment tax" in Path("out/report.html").read_text()
    assert found["results"]["base"]["es"]["quality"] == 0.25
    assert found["results"]["base"]["es"]["words_acc_n"] == 3
    assert (found["config"], found["key"]) == ({"name": "mine"}, "abc")


def test_a_runs_own_model_has_the_runs_name(run: Callable[..., Any]) -> None:
    """Every checkpoint of a run lies in a folder of the same name."""
    Path("out").mkdir()
    models = {"mine-round-1": registry.fingerprint(ModelSpec(path="base")), "unmeasured": "another"}
    Path("out/manifest.json").write_text(json.dumps({"models": models}))
    Path("out/results.json").write_text(json.dumps({"results": {"mine-round-1": {}}, "samples": []}))
    run("tasks", "--model", "base", "--languages", "es", "--limit", "3")
    run("tasks", "--model", "aligned", "--languages", "es", "--limit", "3")
    assert list(json.loads(Path("out/results.json").read_text())["standard_tasks"]) == ["mine-round-1", "aligned"]


def test_mistakes_are_told_before_a_model_is_opened(run: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match="there is no words in de; there is en, es"):
        run("tasks", "--model", "absent", "--languages", "de")
    with pytest.raises(InputError, match="holds no tasks of 'base'"):
        run("tax", "--before", "base", "--after", "aligned")
    with pytest.raises(RecipeError, match="both name base; name two models"):
        run("tax", "--before", "base", "--after", "base")
    with pytest.raises(RecipeError, match="--limit"):
        run("tasks", "--model", "base", "--languages", "es", "--limit", "0")
    with pytest.raises(RecipeError, match="system is a turn of the chat template"):
        run("tasks", "--model", "base", "--languages", "es", "--system", "Be brief.")
    Path("out/results.json").write_text('{"results": {}, "kind": "comparison"}')
    with pytest.raises(InputError, match="out holds judgments of answers; name another folder"):
        run("tasks", "--model", "base", "--languages", "es")
    Path("out/results.json").unlink()
    Path("out/manifest.json").write_text("{}")
    with pytest.raises(RecipeError, match="is not finished"):
        run("tasks", "--model", "base", "--languages", "es")


def test_a_changed_model_needs_a_name_of_its_own(run: Callable[..., Any]) -> None:
    run("tasks", "--model", "base", "--languages", "es", "--limit", "3")
    shutil.rmtree("base")
    save_tiny_model(Path("base"), 7)
    with pytest.raises(InputError, match="holds tasks of another model"):
        run("tasks", "--model", "base", "--languages", "es", "--limit", "3")
    run("tasks", "--model", "base", "--name", "later", "--languages", "es", "--limit", "3")
    assert list(json.loads(Path("out/results.json").read_text())["results"]) == ["base", "later"]
