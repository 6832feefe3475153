"""Scorers and judges as the command line names them."""

import json
from pathlib import Path

import pytest

from pages import blocks
from polypref.cli_specs import judges_of, spec_of, specs_of
from polypref.errors import RecipeError

URL = "http://127.0.0.1:8000/v1"


def test_a_name_is_a_scorer_or_else_a_reward_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert spec_of("models/rm", None, "--judge") == {"scorer": "reward_model", "model": {"path": "models/rm"}}
    assert spec_of("oracle", None, "--judge") == {"scorer": "oracle"}
    assert spec_of("implicit:models/a", URL, "--judge") == {"scorer": "implicit", "model": {"path": "models/a"}}
    (tmp_path / "oracle").mkdir()
    assert spec_of("oracle", None, "--judge")["scorer"] == "reward_model"


def test_a_judge_is_asked_at_the_server():
    found = spec_of("pair_judge:org/model:free", URL, "--judge")
    assert found["model"] == {"path": "org/model:free", "backend": "openai", "url": URL}
    assert spec_of("pair_judge:models/judge", None, "--judge")["model"] == {"path": "models/judge"}


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_a_file_holds_a_whole_spec(tmp_path, suffix):
    """JSON is YAML, too. A server that the file names stays; --url is for those that name none."""
    path = tmp_path / f"judge{suffix}"
    spec = {"scorer": "pair_judge", "model": {"path": "gpt", "price": [1, 2]}, "settings": {"read": "verdict"}}
    path.write_text(json.dumps(spec), encoding="utf-8")
    [(name, found)] = judges_of([f"gpt={path}"], URL).items()
    assert (name, found.model.url, found.model.backend, found.model.price) == ("gpt", URL, "openai", (1.0, 2.0))
    assert found.settings == {"read": "verdict"}
    spec["model"] |= {"backend": "openai", "url": "http://other/v1"}
    path.write_text(json.dumps(spec), encoding="utf-8")
    assert judges_of([f"gpt={path}"], URL)["gpt"].model.url == "http://other/v1"


def test_a_setting_is_laid_over_the_judge_that_it_names():
    judges = judges_of(["a=pair_judge:x", "b=pair_judge:x"], URL, ["b.model.concurrency=64", "b.settings.read=verdict"])
    assert (judges["a"].model.concurrency, judges["b"].model.concurrency) == (32, 64)
    assert judges["b"].settings == {"read": "verdict"}


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("pair_judge:x", ["j.settings.red=verdict"], "--judge j: settings: red: unknown key; did you mean read"),
        ("pair_judge:x", ["j.modle.path=y"], "--judge j: modle: unknown key; did you mean model"),
        ("pair_judge", [], "--judge j: pair_judge needs a model"),
        ("bad.yaml", [], "bad.yaml cannot be read"),
        ("list.yaml", [], "list.yaml holds no scorer"),
    ],
)
def test_a_wrong_judge_is_told_by_its_name(tmp_path, monkeypatch, text, overrides, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("scorer: [", encoding="utf-8")
    (tmp_path / "list.yaml").write_text("- scorer", encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        judges_of([f"j={text}"], URL, overrides)


def test_rewards_are_named_the_same_way():
    assert specs_of(["en=models/rm-en", "j=judge:gpt"], URL) == {
        "en": {"scorer": "reward_model", "model": {"path": "models/rm-en"}},
        "j": {"scorer": "judge", "model": {"path": "gpt", "backend": "openai", "url": URL}},
    }
    for entries, said in (
        (["en"], "--reward 'en' is no NAME=MODEL"),
        (["en=a", "en=b"], "--reward names en twice"),
        ([], "--reward is missing"),
    ):
        with pytest.raises(RecipeError, match=said):
            specs_of(entries)


def test_the_spec_that_the_page_shows_is_one(tmp_path):
    page = Path(__file__).parent.parent / "docs/comparisons.md"
    [block] = [block for block in blocks(page) if block.language == "yaml"]
    (tmp_path / "judge.yaml").write_text(block.text, encoding="utf-8")
    found = judges_of([f"gpt={tmp_path / 'judge.yaml'}"])["gpt"]
    assert (found.model.path, found.model.price) == ("gpt-4o-mini", (0.15, 0.6))
