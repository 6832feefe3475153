"""A whole run that is judged on MGSM as it lies there: gold by position, the number scorer, the off-target rate."""

import json
from pathlib import Path

import pytest
import yaml

from polypref.recipe_file import read_recipe
from polypref.run import run
from polypref.store.parquet import read_rows

LANGUAGES = ["en", "de", "bn", "sw"]


def test_a_run_reports_accuracy_and_off_target_rate_by_language(real_data: Path, tmp_path: Path) -> None:
    """20 questions in four languages for each of three models; half of the policy's answers leave the language."""
    recipe = {
        "name": "reasoning",
        "languages": LANGUAGES,
        "models": {
            "reference": {"path": "fake", "backend": "fake"},
            "policy": {"path": "fake?version=2&stray=0.5", "backend": "fake"},
        },
        "prompts": {"path": str(real_data / "prompts" / "ultrafeedback_1000"), "limit": 6},
        "generate": {"n": 3, "max_tokens": 32},
        "train": {"method": "fake"},
        "rounds": 1,
        "evaluate": {
            "prompts": {
                "path": str(real_data / "mgsm"),
                "id_key": "position",
                "gold_key": "response",
                "limit": 20,
                "instruction": "Answer in {language}, and end with the number after ####.",
            },
            "sampling": {"n": 1, "max_tokens": 32},
            "quality": "number",
            "kl": False,
        },
        "language_identifier": "fake",
    }
    path = tmp_path / "reasoning.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run(read_recipe(path), tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["results"]
    assert set(results) == {"reference", "policy", "reasoning-round-1"}
    for by_language in results.values():
        assert set(by_language) == set(LANGUAGES)
        for figures in by_language.values():
            assert (figures["quality"], figures["quality_stderr"], figures["quality_n"]) == (0.0, 0.0, 20)
            assert 0 < figures["off_target_language_n"] <= 20
            assert figures["off_target_language"] + figures["language_fidelity"] == pytest.approx(1)
    stray = [sum(f["off_target_language"] for f in results[name].values()) for name in ("policy", "reference")]
    assert stray[0] > stray[1] + 1
    asked = [
        row for part in (tmp_path / "run" / "evaluation" / "prompts").glob("*.parquet") for _, row in read_rows(part)
    ]
    assert len(asked) == 20
    assert all(row["gold"].replace(",", "").isdigit() for row in asked)
    assert all("\n\nAnswer in German, and" in row["prompts"]["de"][-1]["content"] for row in asked)
