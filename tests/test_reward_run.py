"""A run of reward models on the fakes: what it makes, what a change makes anew, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from polypref.errors import InputError, RecipeError
from polypref.recipe import Recipe
from polypref.reporting import last_pairs, recipe_of
from runs import done, outcome, stamps, written

REWARDS = {
    "name": "transfer",
    "languages": ["en", "es", "de"],
    "models": {"policy": {"path": "fake?version=2", "backend": "fake", "name": "sft"}},
    "reward_models": {
        "data": {"path": "sandbox:preferences-train", "limit": 40},
        "train": {"method": "fake"},
    },
    "judge": {"data": {"path": "sandbox:preferences-test", "limit": 20}, "resamples": 50},
    "representation": {},
    "prompts": {"path": "sandbox:train", "limit": 10},
    "generate": {"n": 3, "max_tokens": 32},
    "reward": {"by": "model", "model": "rm-en"},
    "train": {"method": "fake"},
    "rounds": 1,
    "evaluate": {"prompts": {"path": "sandbox:test", "limit": 6}, "quality": "fake", "sampling": {"n": 3}},
    "language_identifier": "fake",
    "shard_size": 8,
}


def recipe(folder: Path, **changes: object) -> Path:
    path = folder / "transfer.yaml"
    path.write_text(yaml.safe_dump(REWARDS | changes), encoding="utf-8")
    return path


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    done(recipe(folder), folder / "out")
    return folder / "out"


def test_one_reward_model_a_language_is_judged_on_every_language(out: Path) -> None:
    found = results(out)
    rewards = found["rewards"]
    assert rewards["trained_on"] == {"rm-en": ["en"], "rm-es": ["es"], "rm-de": ["de"]}
    for name in rewards["trained_on"]:
        assert (out / "rewards" / name / "checkpoint").is_dir()
        assert {"en", "es", "de"} <= found["results"][name].keys()
        for lang in ("en", "es", "de"):
            figures = found["results"][name][lang]
            assert figures["accuracy_n"] == 20
            assert {"accuracy", "accuracy_stderr", "length_baseline", "majority_baseline"} <= figures.keys()
    assert set(rewards["matrix"]["cells"]) == set(rewards["trained_on"])
    assert found["representation"]["texts"] == 20
    assert "rm:fake" in found["signature"]


def test_every_item_is_kept(out: Path) -> None:
    lines = (out / "judge/data/rm-en/items.jsonl").read_text(encoding="utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    assert len(items) == 20 * 3
    assert {item["lang"] for item in items} == {"en", "es", "de"}
    figures = results(out)["results"]["rm-en"]["es"]
    credits = [item["credit"] for item in items if item["lang"] == "es"]
    assert figures["accuracy"] == pytest.approx(sum(credits) / 20)


def test_the_pairs_of_the_round_are_by_the_reward_model(out: Path) -> None:
    pairs = [p for e in last_pairs(out, recipe_of(out)) for p in e.pairs]
    assert len(pairs) > 10
    assert {p.score for p in pairs} == {"rm-en"}
    for example in last_pairs(out, recipe_of(out)):
        for pair in example.pairs:
            chosen, rejected = (example.candidate(name).scores["rm-en"] for name in (pair.chosen, pair.rejected))
            assert pair.margin == chosen - rejected > 0
    found = results(out)
    assert found["rounds"][0]["reward"] == {"model": "rm-en"}
    assert {"sft", "transfer-round-1"} <= found["results"].keys()
    assert "accuracy_on_transfer-round-1" in found["results"]["rm-en"]["es"]


def test_a_second_run_does_nothing(out: Path) -> None:
    before = stamps(out)
    done(out / "recipe.yaml", out)
    assert not written(before, stamps(out))


def test_a_further_source_trains_itself_alone(out: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(out, tmp_path / "out")
    before = stamps(tmp_path / "out")
    sources = {"rm-en": ["en"], "rm-es": ["es"], "rm-de": ["de"], "rm-en-es": ["en", "es"]}
    section = REWARDS["reward_models"] | {"sources": sources}
    done(recipe(tmp_path, reward_models=section), tmp_path / "out")
    new = written(before, stamps(tmp_path / "out"))
    assert any(name.startswith("rewards/rm-en-es/") for name in new)
    assert not [name for name in new if name.startswith(("rewards/rm-es/", "round-1/", "judge/data/rm-es/score"))]


def test_without_rounds_nothing_is_asked_of_a_policy(tmp_path: Path) -> None:
    left = {
        key: value for key, value in REWARDS.items() if key not in ("models", "prompts", "reward", "representation")
    }
    path = tmp_path / "rewards.yaml"
    path.write_text(yaml.safe_dump(left | {"rounds": 0, "evaluate": None}), encoding="utf-8")
    done(path, tmp_path / "out")
    assert set(results(tmp_path / "out")["results"]) == {"rm-en", "rm-es", "rm-de"}
    assert (tmp_path / "out/report.html").stat().st_size > 10_000


def test_data_that_exists_in_one_language_is_translated(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"the river and {i} birds",
            "chosen": f"birds follow the river {i} times",
            "rejected": f"some of the sea {i}",
        }
        for i in range(30)
    ]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    section = {
        "data": {"path": str(tmp_path / "en.jsonl")},
        "translate": {"language_check": False, "max_length_ratio": 5},
        "train": {"method": "fake"},
    }
    path = recipe(tmp_path, reward_models=section, rounds=0, representation=None, judge={})
    done(path, tmp_path / "out")
    found = results(tmp_path / "out")
    assert set(found["rewards"]["matrix"]["cells"]) == {"rm-en", "rm-es", "rm-de"}
    accuracies = {lang: found["results"]["rm-en"][lang]["accuracy_n"] for lang in ("en", "es", "de")}
    assert accuracies["en"] >= accuracies["es"] > 0
    before = stamps(tmp_path / "out")
    done(path, tmp_path / "out")
    assert not written(before, stamps(tmp_path / "out"))
    assert any("translated from en" in note for note in found["notes"])


def test_a_reward_that_is_brought_is_judged_beside_the_others(tmp_path: Path) -> None:
    path = recipe(tmp_path, rounds=0, rewards={"mine": {"scorer": "fake"}}, representation=None)
    done(path, tmp_path / "out")
    found = results(tmp_path / "out")
    assert set(found["results"]) == {"mine", "rm-en", "rm-es", "rm-de"}
    assert "mine" in found["rewards"]["matrix"]["sources"]


def test_a_run_that_was_stopped_comes_to_the_same(out: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path)
    done(path, tmp_path / "out", "rounds=0")
    done(path, tmp_path / "out")
    assert outcome(tmp_path / "out") == outcome(out)


def test_training_prompts_among_those_that_judge_are_refused(tmp_path: Path) -> None:
    path = recipe(tmp_path, judge={"data": {"path": "sandbox:preferences-train", "limit": 20}})
    with pytest.raises(InputError, match="overlap"):
        done(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reward": {"by": "model", "model": "rm-fr"}}, "did you mean rm-"),
        ({"rewards": {"rm-en": {"scorer": "fake"}}}, "stands in rewards and in reward_models"),
        ({"rewards": {"x": {"scorer": "implicit"}}}, "implicit needs a model"),
        ({"rewards": {"x": {"scorer": "judg", "model": "y"}}}, "did you mean judge"),
        ({"rewards": {"x": {"scorer": "judge", "model": "y", "settings": {"scal": [1, 5]}}}}, "did you mean scale"),
        ({"rewards": {"x": {"scorer": "fake", "settings": {"a": 1}}}}, "has no settings"),
        ({"reward_models": None, "judge": {}, "representation": None, "reward": {}}, "nothing to judge"),
        ({"prompts": None}, "prompts must be given"),
        ({"rounds": 0, "reward_models": None, "judge": None, "representation": None, "reward": {}}, "nothing to do"),
        (
            {"reward": {"by": "model", "model": "p"}, "rewards": {"p": {"scorer": "pair_judge", "model": "y"}}},
            "a judge of pairs",
        ),
        ({"evaluate": {"reward_accuracy": ["cross_lingual"]}}, "implicit reward"),
        ({"reward_models": REWARDS["reward_models"] | {"sources": {"x": ["fr"]}}}, "none of languages"),
        ({"reward_models": REWARDS["reward_models"] | {"sources": {"sft": ["en"]}}}, "of a reward and of a model"),
        ({"reward_models": REWARDS["reward_models"] | {"mix": "even"}}, "mixes nothing"),
        (
            {"reward_models": REWARDS["reward_models"] | {"sources": {"x": ["en", "es"]}, "mix": {"en": 2}}},
            "no weight for es, of x",
        ),
        ({"rewards": {"x": {"scorer": "oracle"}}, "judge": None, "representation": None}, "used by nothing"),
        ({"judge": {"data": {"path": "sandbox:preferences-test", "languages": ["fr"]}}}, "none of languages"),
        ({"translate": {"method": "tagged"}}, "translate is for views"),
    ],
)
def test_what_does_not_fit_together_is_told(changes: dict, told: str, tmp_path: Path) -> None:
    from polypref.recipe_file import read_recipe

    with pytest.raises(RecipeError, match=told):
        read_recipe(recipe(tmp_path, **changes))


def test_all_data_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    path = recipe(tmp_path, prompts={"path": str(tmp_path / "none.jsonl")})
    with pytest.raises(InputError, match=r"none\.jsonl"):
        done(path, tmp_path / "out")
    assert not (tmp_path / "out/rewards").exists()


def test_a_language_without_rows_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    rows = [{"id": i, "prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(20)]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    section = {"data": {"path": str(tmp_path / "en.jsonl")}, "train": {"method": "fake"}}
    with pytest.raises(InputError, match=r"no pairs in es, which rm-es is trained on \(it has en \d+\)"):
        done(recipe(tmp_path, reward_models=section), tmp_path / "out")
    assert not (tmp_path / "out/rewards").exists()


def test_a_brought_reward_has_no_gap_on_anothers_training_data(tmp_path: Path) -> None:
    judge = REWARDS["judge"] | {"trained_on": {"mine": ["en"]}}
    done(recipe(tmp_path, rounds=0, rewards={"mine": {"scorer": "fake"}}, judge=judge), tmp_path / "out")
    found = results(tmp_path / "out")["results"]
    assert "generalisation_gap" in found["rm-en"]["en"]
    assert "generalisation_gap" not in found["mine"]["en"]


class Silent:
    """A judge on a server that gives every fourth answer no score while it is down."""

    down = True
    asked: list[str] = []  # noqa: RUF012
    fingerprint = "silent"

    def __init__(self, model: object) -> None:
        pass

    def score(self, answers: list) -> list:
        self.asked.extend(answer.id for answer in answers)
        return [None if self.down and i % 4 == 1 else float(len(a.text)) for i, a in enumerate(answers)]


def test_a_judge_that_was_silent_is_asked_again_about_those_answers_alone(tmp_path: Path) -> None:
    model = {"path": "m", "backend": "openai", "url": "http://127.0.0.1:9/v1"}
    section = {"scorer": "test_reward_run:Silent", "model": model}
    path = recipe(tmp_path, rounds=0, reward_models=None, representation=None, rewards={"judge": section}, reward={})
    Silent.down = True
    done(path, tmp_path / "out")
    first = len(Silent.asked)
    assert results(tmp_path / "out")["results"]["judge"]["es"]["no_verdict"] > 0
    Silent.down = False
    done(path, tmp_path / "out")
    assert results(tmp_path / "out")["results"]["judge"]["es"]["no_verdict"] == 0
    assert len(Silent.asked) == first + first // 4
    before = stamps(tmp_path / "out")
    done(path, tmp_path / "out")
    assert not written(before, stamps(tmp_path / "out"))


def test_scores_that_came_with_the_data_are_not_taken_for_the_rewards_own(tmp_path: Path) -> None:
    """The file says 9 of every rejected answer, under the reward's own name."""
    rows = [
        {
            "id": str(i),
            "prompts": {"en": f"question {i}"},
            "candidates": [
                {"id": "a", "lang": "en", "text": f"good {i}", "scores": {"mine": 1.0}},
                {"id": "b", "lang": "en", "text": f"bad {i}", "scores": {"mine": 9.0}},
            ],
            "pairs": [{"lang": "en", "chosen": "a", "rejected": "b"}],
        }
        for i in range(8)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tree = {
        "rounds": 0,
        "rewards": {"mine": {"scorer": "fake"}},
        "judge": {"data": {"path": str(tmp_path / "data.jsonl")}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    done(tmp_path / "own.yaml", tmp_path / "out")
    items = (tmp_path / "out/judge/data/mine/items.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [score for item in map(json.loads, items) for score in (*item["right"], *item["wrong"])]
    assert len(scores) == 16
    assert max(scores) < 1


def test_the_sections_have_defaults() -> None:
    assert Recipe.model_validate(REWARDS).reward_models.languages_of(("en", "sw")) == {
        "rm-en": ("en",),
        "rm-sw": ("sw",),
    }


def test_a_judge_of_pairs_is_judged_and_its_answers_are_kept(tmp_path: Path) -> None:
    """Nothing of it is asked again by a second run, not even where its verdicts are to be counted anew."""
    judge = {"scorer": "pair_judge", "model": {"path": "fake-judge?judges=1", "backend": "fake"}}
    changed = recipe(tmp_path, rewards={"pairs": judge})
    done(changed, tmp_path / "out")
    figures = results(tmp_path / "out")["results"]["pairs"]["es"]
    assert (figures["accuracy_n"], figures["flip_rate"], figures["no_verdict"]) == (20, 0.0, 0.0)
    [journal] = (tmp_path / "out").rglob("journal.jsonl")
    answered = journal.read_bytes()
    for part in journal.parent.glob("verdicts/*/*.json"):
        part.unlink()
    done(changed, tmp_path / "out")
    assert journal.read_bytes() == answered
    assert results(tmp_path / "out")["results"]["pairs"]["es"] == figures
