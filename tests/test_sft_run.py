"""The SFT model of a run on the fakes: what it is made of, what a change makes anew, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from polypref.errors import InputError, RecipeError
from polypref.recipe_sft import SFT
from runs import done, stamps, written

SFT_RUN = {
    "name": "sft",
    "languages": ["en", "es"],
    "rounds": 0,
    "evaluate": {"prompts": {"path": "sandbox:test", "limit": 4}, "quality": "fake", "sampling": {"n": 1}},
    "language_identifier": "fake",
    "shard_size": 4,
}
NAME = "fake?version=2&unclosed=0&length=0"
START = {"path": NAME, "backend": "fake"}


def rows(path: Path, langs: tuple[str, ...] = ("en", "es"), n: int = 20, first: int = 0) -> dict[str, str]:
    """A file of prompts with an answer in each language, as the ``data`` of a recipe."""
    told = [
        {
            "id": str(i),
            "prompts": {lang: f"[{lang}] question {i}" for lang in langs},
            "candidates": [
                {"id": lang, "lang": lang, "text": f"[{lang}] answer {i}", "origin": "human"} for lang in langs
            ],
        }
        for i in range(first, first + n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in told), encoding="utf-8")
    return {"path": str(path)}


def recipe(folder: Path, sft: dict, **changes: object) -> Path:
    path = folder / "sft.yaml"
    section = {"start": START, "train": {"method": "fake"}, **sft}
    path.write_text(yaml.safe_dump(SFT_RUN | {"sft": section} | changes), encoding="utf-8")
    return path


def summary(out: Path) -> dict:
    return json.loads((out / "sft" / "checkpoint" / "polypref.json").read_text(encoding="utf-8"))["summary"]


def notes(out: Path) -> str:
    return json.dumps(json.loads((out / "manifest.json").read_text(encoding="utf-8")), ensure_ascii=False)


def test_it_is_trained_once_and_is_the_model_that_everything_is_held_against(tmp_path: Path) -> None:
    path = recipe(tmp_path, {"data": rows(tmp_path / "data.jsonl"), "name": "mine"})
    done(path, tmp_path / "out")
    found = summary(tmp_path / "out")
    assert found["rows"] + found["validation_rows"] == 40
    assert found["languages"]["en"] == found["languages"]["es"]
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["results"]
    assert results["mine"].keys() >= {"en", "es"}
    before = stamps(tmp_path / "out")
    done(path, tmp_path / "out")
    assert not [name for name in written(before, stamps(tmp_path / "out")) if name.startswith("sft/")]


def test_only_what_changes_it_trains_it_again(tmp_path: Path) -> None:
    data = rows(tmp_path / "data.jsonl")
    trained = []
    for sft in ({}, {"train": {"method": "fake", "save_steps": 7}}, {"corrupt": 0.5}, {"languages": ["es"]}):
        done(recipe(tmp_path, {"data": data, **sft}), tmp_path / "out")
        trained.append((tmp_path / "out" / "sft" / "checkpoint" / "polypref.json").stat().st_mtime_ns)
    assert trained[0] == trained[1] < trained[2] < trained[3]
    assert summary(tmp_path / "out")["languages"].keys() == {"es"}


def test_translated_data_trains_the_languages_that_lack_their_own(tmp_path: Path) -> None:
    sft = {"data": rows(tmp_path / "data.jsonl", ("en",)), "translate": {}, "languages": ["es"]}
    done(recipe(tmp_path, sft), tmp_path / "out")
    found = summary(tmp_path / "out")
    assert found["languages"].keys() == {"es"}
    assert found["rows"] + found["validation_rows"] == 20
    assert f"SFT data translated from en by {NAME}, answers: es 20" in notes(tmp_path / "out")
    # A language more translates that language alone.
    before = stamps(tmp_path / "out")
    done(recipe(tmp_path, sft | {"languages": ["es", "de"]}, languages=["en", "es", "de"]), tmp_path / "out")
    assert not [
        name for name in written(before, stamps(tmp_path / "out")) if "source/translate" in name and "/es/" in name
    ]
    assert summary(tmp_path / "out")["languages"].keys() == {"es", "de"}


def test_back_translated_data_replaces_a_languages_own_and_is_kept(tmp_path: Path) -> None:
    sft = {"data": rows(tmp_path / "data.jsonl", ("es",)), "translate": {"back": True}, "languages": ["es"]}
    done(recipe(tmp_path, sft), tmp_path / "out")
    assert f"SFT data translated through en and back by {NAME}, answers: es 20" in notes(tmp_path / "out")
    assert summary(tmp_path / "out")["languages"].keys() == {"es"}
    parts = sorted((tmp_path / "out" / "sft" / "back-translated" / "es").glob("part-*.json"))
    assert len(parts) == 5
    before = stamps(tmp_path / "out")
    parts[2].unlink()
    done(recipe(tmp_path, sft), tmp_path / "out")
    made = [name for name in written(before, stamps(tmp_path / "out")) if "back-translated" in name]
    assert [Path(name).name for name in made] == ["part-00002.json"]
    # The same translations, so the model stands.
    assert not [name for name in written(before, stamps(tmp_path / "out")) if "sft/checkpoint" in name]


def test_validation_of_its_own_is_held_apart(tmp_path: Path) -> None:
    data = rows(tmp_path / "data.jsonl")
    held = rows(tmp_path / "held.jsonl", n=5, first=100)
    done(recipe(tmp_path, {"data": data, "validation": held}), tmp_path / "out")
    found = summary(tmp_path / "out")
    assert (found["rows"], found["validation_rows"]) == (40, 10)
    with pytest.raises(InputError, match="training prompts are also evaluated on"):
        done(recipe(tmp_path, {"data": data, "validation": rows(tmp_path / "held.jsonl", n=5)}), tmp_path / "again")


def test_what_it_lacks_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    english = rows(tmp_path / "data.jsonl", ("en",))
    with pytest.raises(InputError, match=r"no answer to learn from in es \(it has some in en\); add them, name other"):
        done(recipe(tmp_path, {"data": english}), tmp_path / "out")
    with pytest.raises(InputError, match="too small to be split: 1 prompts to train on and 0"):
        done(recipe(tmp_path, {"data": rows(tmp_path / "one.jsonl", n=1)}), tmp_path / "out")
    with pytest.raises(InputError, match="en, the pivot, is the only language"):
        done(recipe(tmp_path, {"data": english, "translate": {}, "languages": ["en"]}), tmp_path / "out")
    sft = {"data": rows(tmp_path / "both.jsonl"), "scorer": {"scorer": "reward_model"}}
    with pytest.raises(RecipeError, match=r"sft\.scorer: reward_model needs a model"):
        done(recipe(tmp_path, sft), tmp_path / "out")
    assert not (tmp_path / "out" / "sft" / "checkpoint").exists()
    with pytest.raises(ValueError, match=r"train\.select is scorer, but no scorer is named"):
        SFT(data={"path": "x"}, start=START, train={"select": "scorer"})


def test_a_figure_of_choice_selects_on_fakes_too(tmp_path: Path) -> None:
    sft = {
        "data": rows(tmp_path / "data.jsonl"),
        "scorer": {"scorer": "fake"},
        "train": {"method": "fake", "select": "scorer"},
    }
    done(recipe(tmp_path, sft), tmp_path / "out")
    (point,) = summary(tmp_path / "out")["checkpoints"]
    assert point.keys() == {"step", "loss", "chrf", "score", "by_language"}
    assert 0 <= point["score"] < 1
    assert summary(tmp_path / "out")["select"] == "scorer"
