"""A run of LIDR on the fakes: which shards it makes, what they hold, and what a change makes anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polypref.errors import InputError, RecipeError
from polypref.reporting import last_pairs, recipe_of
from polypref.stages.dominance import Dominance, sentence
from polypref.store.shards import Track
from runs import IMBALANCE, done, outcome, stamps, written
from runs import imbalance as recipe


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lidr")
    done(recipe(folder), folder / "out")
    return folder / "out"


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def round_one(out: Path) -> list:
    track = Track(out, "prompts", ("en", "es", "de"), "en").over("round-1/generate")
    track = track.over("round-1/translate", "with_pivot").over("round-1/pair", "whole")
    return list(track.examples())


def test_a_unit_of_translations_holds_both_ways_of_one_language(out: Path) -> None:
    folders = {p.name for p in (out / "round-1/translate").iterdir()}
    assert folders == {"es", "de"}
    track = Track(out, "prompts", ("en", "es"), "en").over("round-1/generate").over("round-1/translate", "with_pivot")
    made = [
        c
        for index in range(track.count)
        for _, row in track.rows("round-1/translate", "es", index)
        for c in row.get("candidates") or ()
    ]
    assert {(c["parent"].split("/")[-2], c["lang"]) for c in made} == {("en", "es"), ("es", "en")}


def test_the_pairs_are_those_of_the_rule(out: Path) -> None:
    pairs = 0
    for example in round_one(out):
        for pair in example.pairs:
            chosen, rejected = example.candidate(pair.chosen), example.candidate(pair.rejected)
            pairs += 1
            assert pair.rule == "imbalance"
            if pair.lang == "en":
                assert chosen.parent is None
                assert chosen.lang == "en"
                assert example.candidate(rejected.parent).lang in ("es", "de")
                assert rejected.lang == "en"
            else:
                assert rejected.parent is None
                assert rejected.lang == pair.lang == chosen.lang
                assert example.candidate(chosen.parent).lang == "en"
    told = results(out)["rounds"][0]["summaries"]["pair"]["languages"]
    assert pairs == sum(told[lang]["pairs"] for lang in told) > 20


def test_each_round_starts_from_the_last_and_the_baseline_from_the_first(out: Path) -> None:
    found = results(out)
    assert [r["starts_from"] for r in found["rounds"]] == ["m0", "lidr-round-1"]
    assert all(r["reward"] is None for r in found["rounds"])
    assert set(found["results"]) == {"m0", "sft", "lidr-round-1", "lidr-round-2"}
    assert (out / "round-1/sft/train/checkpoint").is_dir()
    kinds = {(c["kind"], c["from"], c["to"]) for c in found["comparisons"]}
    assert ("baseline", "sft", "lidr-round-1") in kinds
    assert ("whole", "m0", "lidr-round-2") in kinds
    assert "lidr" not in found["signature"]
    assert "rule:imbalance" in found["signature"]


def test_the_unseen_language_is_evaluated_and_not_trained_on(out: Path) -> None:
    found = results(out)
    assert all("quality" in found["results"][name]["fr"] for name in found["results"])
    assert found["unseen"] == ["fr"]
    assert not list(out.glob("round-*/*/fr"))


def test_the_worth_of_the_imbalance_and_of_the_translations_stands_under_the_start(out: Path) -> None:
    found = results(out)["results"]["m0"]
    for lang in ("en", "es", "de"):
        assert 0 <= found[lang]["imbalance_accuracy"] <= 1
        assert found[lang]["own_quality_n"] == found[lang]["imbalance_accuracy_n"] <= 10
    assert found["es"]["round_trip_chrf_n"] + round(found["es"]["translation_failed"] * 10) == 10
    assert "imbalance_accuracy" not in found["fr"]


def test_the_same_run_again_writes_nothing_and_the_export_finds_its_pairs(out: Path, tmp_path: Path) -> None:
    before = stamps(out)
    done(recipe(tmp_path), out)
    assert not written(before, stamps(out))
    assert sum(len(e.pairs) for e in last_pairs(out, recipe_of(out))) > 10


def test_the_resolved_recipe_gives_the_run_again(out: Path) -> None:
    before = stamps(out)
    done(out / "recipe.yaml", out)
    assert not written(before, stamps(out))


def test_another_language_translates_nothing_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    short = {"rounds": 1, "evaluate": None, "baselines": []}
    done(recipe(tmp_path, languages=["en", "es"], **short), out)
    before = stamps(out)
    done(recipe(tmp_path, languages=["en", "es", "de"], **short), out)
    anew = {name for name in written(before, stamps(out)) if name.endswith(".parquet")}
    assert {n for n in anew if "/generate/" in n or "/translate/" in n} == {
        f"round-1/{stage}/de/part-0000{i}.parquet" for stage in ("generate", "translate") for i in range(3)
    } | {n for n in anew if "/generate/de" in n}
    direct = tmp_path / "direct"
    done(recipe(tmp_path, languages=["en", "es", "de"], **short), direct)
    assert outcome(direct) == outcome(out)


def test_a_probe_finds_the_language_that_leads(tmp_path: Path) -> None:
    data = done(
        recipe(tmp_path, rounds=1, pair={"rule": "imbalance", "dominant": "auto", "probe": {"limit": 8}}),
        tmp_path / "out",
    )
    found = data.dominance
    assert found is not None
    assert set(found["figures"]) == {"en", "es", "de"}
    leads = found["language"]
    others = {"en", "es", "de"} - {leads}
    assert {p.name for p in (tmp_path / "out/round-1/translate").iterdir()} == others
    assert sentence(Dominance.from_json(found)) in data.notes
    assert sum(len(e.pairs) for e in last_pairs(tmp_path / "out", recipe_of(tmp_path / "out"))) > 5


def test_a_named_language_leads(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(recipe(tmp_path, rounds=1, evaluate=None, pair={"rule": "imbalance", "dominant": "de"}), out)
    assert {p.name for p in (out / "round-1/translate").iterdir()} == {"en", "es"}


def test_prompts_are_made_by_the_model_where_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(recipe(tmp_path, rounds=1, evaluate=None, translate_prompts={}), out)
    made = list(Track(out, "prompts-translated", ("en", "es", "de"), "en").examples())
    given = list(Track(out, "prompts", ("en",), "en").examples())
    assert all(set(e.prompts) == {"en"} for e in given)
    assert sum("es" in e.prompts for e in made) > 6
    assert any(e.prompts.get("es") and "Ordena" not in str(e.prompts["es"]) for e in made)
    assert sum(len(e.pairs) for e in last_pairs(out, recipe_of(out))) > 5


def test_listed_ids_that_are_nowhere_are_refused(tmp_path: Path) -> None:
    pair = {"rule": "imbalance", "translation_prompts": ["no-such-id"]}
    with pytest.raises(InputError, match=r"none of the 1 ids of pair\.translation_prompts"):
        done(recipe(tmp_path, pair=pair), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generate": {"n": 4}}, "one answer a language"),
        ({"reward": {"beta": 0.2}}, "ask no reward"),
        ({"evaluate": IMBALANCE["evaluate"] | {"reward_accuracy": ["multilingual"]}}, "ask no reward"),
        ({"evaluate": IMBALANCE["evaluate"] | {"quality": "orcale"}}, "which is no scorer; did you mean oracle"),
        ({"languages": ["es", "de"]}, "the pivot en is none of languages"),
        ({"pair": {"rule": "imbalance", "min_margin": 1}}, "min_margin: does not belong to this kind of pair"),
        ({"baselines": [{"name": "sft", "train": {"metod": "fake"}}]}, "did you mean method"),
        ({"pair": {"rule": "imbalence"}}, "pair.rule: must be 'best_worst' or 'imbalance', not 'imbalence'"),
        ({"pair": {"rule": "imbalance", "pivot_pair": "all"}}, "did you mean pivot_pairs"),
        ({"pair": {"rule": "imbalance", "dominant": "auto"}, "evaluate": None}, "give pair.probe.scorer"),
        ({"pair": {"rule": "imbalance", "dominant": "ja"}}, "none of languages"),
        ({"evaluate": IMBALANCE["evaluate"] | {"unseen": ["es"]}}, "which the run trains on"),
        ({"pair": {"rule": "best_worst"}}, "models.reference is missing"),
        ({"baselines": [{"name": "sft", "round": 3, "train": {"method": "fake"}}]}, "a round that is not run"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        done(recipe(tmp_path, **changes), tmp_path / "out")
    assert told in str(error.value)


def test_a_language_that_is_only_evaluated_makes_no_training_step_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    changes = {"rounds": 1, "language_identifier": "lingua", "pair": {"rule": "imbalance", "language_check": True}}
    evaluated = IMBALANCE["evaluate"] | {"unseen": []}
    done(recipe(tmp_path, evaluate=evaluated, **changes), out)
    before = stamps(out)
    done(recipe(tmp_path, **changes), out)
    assert not [name for name in written(before, stamps(out)) if name.startswith("round-1/")]


def test_a_prompt_with_neither_language_of_a_unit_goes_through(tmp_path: Path) -> None:
    rows = [{"id": str(k), "prompts": {"en": f"say {k}", "es": f"di {k}", "de": f"sag {k}"}} for k in range(6)]
    rows.append({"id": "lonely", "prompts": {"de": "sag mehr"}})
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prompts = {"path": str(tmp_path / "p.jsonl"), "require": "any"}
    done(recipe(tmp_path, prompts=prompts, rounds=1, evaluate=None), tmp_path / "out")
    found = {e.id: e for e in last_pairs(tmp_path / "out", recipe_of(tmp_path / "out"))}
    assert list(found["lonely"].prompts) == ["de"]
    assert not found["lonely"].pairs
    assert any(e.pairs for e in found.values())


def test_training_prompts_without_gold_are_told_where_the_held_out_ones_have_it(tmp_path: Path) -> None:
    for name, more in (("train", {}), ("test", {"gold": 3})):
        rows = [{"id": f"{name}{k}", "prompts": {t: f"{name} {t} {k}" for t in ("en", "es", "de")}} for k in range(6)]
        lines = [json.dumps(row | more) + "\n" for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    evaluated = {"prompts": {"path": str(tmp_path / "test.jsonl")}, "quality": "number"}
    given = {"prompts": {"path": str(tmp_path / "train.jsonl")}, "evaluate": evaluated, "rounds": 1}
    data = done(recipe(tmp_path, **given), tmp_path / "out")
    assert any("6 of 6 training prompts have no gold" in note for note in data.notes)
    assert "quality" in data.results["lidr-round-1"]["es"]
    assert "imbalance_accuracy" not in data.results["m0"]["es"]
