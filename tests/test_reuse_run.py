"""A run that uses rewards again, on the fakes: best-of-n, diagnosis, reinforcement, win rates, signs of failure."""

import copy
import json
from statistics import fmean

import pytest

from polypref.backends.base import Completion, ModelSpec
from polypref.backends.fake import FakeGenerator, _share
from polypref.errors import InputError, RecipeError
from polypref.mistakes import checked
from polypref.recipe import Recipe, as_tree
from polypref.run import run

TREE = {
    "name": "reuse",
    "seed": 0,
    "languages": ["en", "es", "de"],
    "models": {"policy": {"path": "fake", "backend": "fake", "name": "sft"}},
    "rewards": {
        "rm-en": {"scorer": "fake", "model": {"path": "fake-en", "backend": "fake"}},
        "rm-es": {"scorer": "fake", "model": {"path": "fake-es", "backend": "fake"}},
    },
    "judge": {
        "data": {"path": "sandbox:preferences-test", "limit": 12},
        "trained_on": {"rm-en": ["en"], "rm-es": ["es"]},
    },
    "diagnose": {"prompts": {"path": "sandbox:train", "limit": 8, "skip": 20}, "limit": 8, "n": 4},
    "best_of_n": {"n": [2, 4], "limit": 6},
    "prompts": {"path": "sandbox:train", "limit": 16},
    "generate": {"n": 4, "temperature": 0.9, "max_tokens": 64},
    "reward": {"by": "model", "model": "rm-en"},
    "train": {"method": "fake_rl", "n": 2, "batch_size": 4, "max_steps": 4},
    "rounds": 1,
    "baselines": [
        {"name": "rl-es", "reward": "rm-es"},
        {"name": "dpo", "reward": "rm-en", "train": {"method": "fake"}},
    ],
    "evaluate": {
        "prompts": {"path": "sandbox:test", "limit": 10},
        "sampling": {"n": 2, "temperature": 0.6, "top_p": 0.9, "max_tokens": 64},
        "quality": "fake",
        "win_rates": ["quality", "rm-es", "second"],
        "judges": {"second": {"scorer": "fake", "model": {"path": "fake-second", "backend": "fake"}}},
        "by_category": True,
    },
    "language_identifier": "fake",
    "shard_size": 4,
}
STEPS = ["reuse-round-1", "rl-es", "dpo", "best-of-4-rm-en", "best-of-4-rm-es"]


def recipe(**changed):
    tree = copy.deepcopy(TREE)
    for key, value in changed.items():
        section, _, name = key.partition("__")
        if name:
            tree[section][name] = value
        else:
            tree[section] = value
    return checked(Recipe, {key: value for key, value in tree.items() if value is not ...})


def told(**changed):
    with pytest.raises(RecipeError) as found:
        recipe(**changed)
    return str(found.value)


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reuse")
    notes = []
    run(recipe(), folder, warn=notes.append)
    return folder, notes


def written(folder):
    """Every file but the manifest's kind, with the time of its last writing."""
    kinds = {".parquet", ".json", ".safetensors"}
    files = [path for path in folder.rglob("*") if path.suffix in kinds and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def test_every_way_of_using_a_reward_is_a_step_of_its_own(done):
    found = results(done[0])["results"]
    assert {"sft", *STEPS} <= found.keys()
    for step in STEPS:
        for lang in TREE["languages"]:
            figures = found[step][lang]
            assert {"win_rate", "win_rate_by_rm-es", "win_rate_by_second"} <= figures.keys()
            assert {"quality", "length_characters"} <= figures.keys()
            assert 0 <= figures["win_rate"] <= 1
    assert "win_rate" not in found["sft"]["en"]


def test_a_step_is_told_by_the_score_of_the_reward_that_made_it_and_by_the_judges(done):
    found = results(done[0])["results"]
    assert {"score_by_rm-en", "score_by_rm-es", "score_by_second", "reward"} <= found["sft"]["en"].keys()
    assert "score_by_rm-en" in found["best-of-4-rm-en"]["en"]
    assert "score_by_rm-en" not in found["best-of-4-rm-es"]["en"]
    assert found["reuse-round-1"]["de"]["reward"] == found["reuse-round-1"]["de"]["score_by_rm-en"]
    assert "reward" not in found["rl-es"]["de"]


def test_the_pick_of_the_greatest_n_has_the_highest_reward_that_the_curve_expects(done):
    found = results(done[0])
    [one, two, four] = found["best_of_n"]["rewards"]["rm-en"]["curves"]["es"]
    assert [row["n"] for row in (one, two, four)] == [1, 2, 4]
    assert one["score"] < two["score"] < four["score"]
    assert four["score"] == pytest.approx(found["results"]["best-of-4-rm-en"]["es"]["reward"])
    assert four["win_rate"] == pytest.approx(found["results"]["best-of-4-rm-en"]["es"]["win_rate"])


def test_samples_of_best_of_n_are_other_ones_than_their_opponents(done):
    from polypref.store.shards import Track

    folder = done[0]
    own = Track(folder, "best-of-n/prompts", ("en",), "en").over("best-of-n/generate")
    other = Track(folder, "evaluation/prompts", ("en",), "en").over("evaluation/sft/generate")
    texts = {e.id: {c.text for c in e.candidates} for e in other.examples()}
    assert any(candidate.text not in texts[e.id] for e in own.examples() for candidate in e.candidates)


def test_alignments_are_told_by_method_and_judge(done):
    entries = results(done[0])["alignments"]
    assert {(entry["method"], entry["judge"]) for entry in entries} == {
        (method, judge) for method in ("best_of_n", "fake_rl", "fake") for judge in ("quality", "rm-es", "second")
    }
    best = next(entry for entry in entries if entry["method"] == "best_of_n" and entry["judge"] == "quality")
    assert best["sources"] == {"best-of-4-rm-en": ["en"], "best-of-4-rm-es": ["es"]}
    own = best["monolingual_against_cross_lingual"]["languages"]
    assert own.keys() == {"en", "es"}
    rl = next(entry for entry in entries if entry["method"] == "fake_rl")
    assert rl["made_by"] == {"reuse-round-1": "rm-en", "rl-es": "rm-es"}


def test_the_diagnosis_looks_at_prompts_that_are_not_evaluated(done):
    found = results(done[0])["diagnosis"]
    assert found.keys() == {"rm-en"}
    for lang in TREE["languages"]:
        entry = found["rm-en"]["languages"][lang]
        assert entry["verdict"] in ("go", "doubtful", "no_go")
        assert {one["experiment"] for one in entry["evidence"]} >= {"accuracy", "best_of_n", "length"}


def test_signs_of_failure_are_raised_by_the_run_and_read_again_from_its_results(done):
    from polypref.stages import signatures
    from polypref.stages.signature_figures import SignatureOptions

    found = results(done[0])
    raised = {(entry["step"], entry["name"], entry["lang"]) for entry in found["signatures"]["raised"]}
    again = {
        (about["after"], one.name, one.lang)
        for about in signatures.all_subjects(found)
        for one in signatures.signatures(found["results"], SignatureOptions(), **about)
    }
    assert raised == again
    assert {step for step, _, _ in raised} <= {"reuse-round-1", "best-of-4-rm-en"}
    assert found["signatures"]["examined"]["win_rate_not_above_even"] == TREE["languages"]


def test_a_finished_run_is_diagnosed_by_its_own_thresholds(done, tmp_path, capsys):
    from polypref.cli_diagnose import diagnose

    found = results(done[0])
    (tmp_path / "results.json").write_text(json.dumps(found), encoding="utf-8")
    found["config"]["diagnose"]["even"] = 0.875
    (tmp_path / "own.json").write_text(json.dumps(found), encoding="utf-8")

    def evens(name, **more):
        diagnose(input_=tmp_path / name, as_json=True, **more)
        told = json.loads(capsys.readouterr().out)["rm-en"]["languages"].values()
        return {one["threshold"] for entry in told for one in entry["evidence"] if one["experiment"] == "best_of_n"}

    assert evens("results.json") == {0.5}
    assert evens("own.json") == {0.875}
    assert evens("own.json", set_=["even=0.625"]) == {0.625}


def test_a_second_run_does_nothing_again(done):
    folder, _ = done
    before = written(folder)
    run(recipe(), folder)
    assert written(folder) == before


def test_a_further_baseline_draws_no_samples_again(tmp_path):
    small = {"best_of_n": ..., "diagnose": ..., "evaluate__win_rates": ["quality"], "evaluate__judges": {}}
    run(recipe(**small, baselines=[]), tmp_path)
    before = written(tmp_path)
    run(recipe(**small), tmp_path)
    after = written(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {"results.json"}
    new = {name.rpartition("/train/")[0] for name in after.keys() - before.keys()}
    assert {"round-1/rl-es", "round-1/dpo"} <= new


def test_best_of_n_stands_without_rounds(tmp_path):
    found = recipe(rounds=0, train=..., reward=..., baselines=[], generate=..., diagnose=...)
    run(found, tmp_path)
    told = results(tmp_path)
    assert not told["rounds"]
    assert {"sft", "best-of-4-rm-en", "best-of-4-rm-es"} <= told["results"].keys()
    assert (tmp_path / "report.html").exists()


def test_a_judge_of_pairs_gives_win_rates(tmp_path):
    judges = {"pairs": {"scorer": "pair_judge", "model": {"path": "fake-judge?judges=1", "backend": "fake"}}}
    changed = recipe(evaluate__win_rates=["pairs"], evaluate__judges=judges, best_of_n=..., diagnose=..., baselines=[])
    run(changed, tmp_path)
    page = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
    assert "The judge is pairs. Every comparison with the judge's words: judgments.html." in page.replace("&#39;", "'")
    assert (tmp_path / "judgments.html").exists()
    figures = results(tmp_path)["results"]["reuse-round-1"]["es"]
    kept = [json.loads(path.read_text()) for path in (tmp_path / "win-rates/pairs/reuse-round-1/es").iterdir()]
    rows = [row for part in kept for row in part["content"]["judgments"]]
    by_prompt = {row["id"]: [r["preference"] for r in rows if r["id"] == row["id"]] for row in rows}
    assert figures["win_rate"] == pytest.approx(fmean(fmean(told) for told in by_prompt.values()))
    assert (figures["win_rate_n"], figures["no_verdict_win_rate"], figures["flip_rate_win_rate"]) == (10, 0, 0)
    asked = [row for row in rows if row["model_answer"] != row["baseline_answer"]]
    fingerprint = FakeGenerator(ModelSpec(**judges["pairs"]["model"])).fingerprint
    for row in asked:  # the fake judge likes the answer of the higher hash, in either order
        better = _share(fingerprint, row["model_answer"]) > _share(fingerprint, row["baseline_answer"])
        assert row["preference"] == better
        assert row["orders"] == [better, better]
    journal = tmp_path / "win-rates/pairs/reuse-round-1/journal.jsonl"
    before = journal.read_bytes()
    run(changed, tmp_path)
    assert journal.read_bytes() == before


def test_an_order_that_was_not_answered_is_asked_again_by_the_next_run(tmp_path, monkeypatch):
    """A verdict that rests on one order has a preference, and is not done."""
    judges = {"pairs": {"scorer": "pair_judge", "model": {"path": "fake-judge?judges=1", "backend": "fake"}}}
    changed = recipe(evaluate__win_rates=["pairs"], evaluate__judges=judges, best_of_n=..., diagnose=..., baselines=[])

    def rows():
        kept = (tmp_path / "win-rates/pairs/reuse-round-1/es").iterdir()
        found = [row for path in kept for row in json.loads(path.read_text())["content"]["judgments"]]
        return [row for row in found if row["model_answer"] != row["baseline_answer"]]

    generate = FakeGenerator.generate

    def failing(self, requests, sampling):
        said = generate(self, requests, sampling)
        lost = [Completion("", error="server answered 500")]
        return [lost if r.id.endswith("/order-2") else one for r, one in zip(requests, said, strict=True)]

    with monkeypatch.context() as patch:
        patch.setattr(FakeGenerator, "generate", failing)
        run(changed, tmp_path)
    assert {row["error"] for row in rows()} == {"with the answers swapped: server answered 500"}
    assert all(row["preference"] == row["orders"][0] for row in rows())
    run(changed, tmp_path)
    assert not any("error" in row or None in row["orders"] for row in rows())


def test_pairs_of_the_best_against_the_worst_train_as_rejection_sampling(tmp_path):
    changed = recipe(
        train={"method": "fake"},
        pair={"rule": "best_of_n"},
        baselines=[{"name": "by-es", "reward": "rm-es"}],
        best_of_n=...,
        diagnose=...,
    )
    run(changed, tmp_path)
    found = results(tmp_path)
    assert found["rounds"][0]["summaries"]["pair"]["languages"]["es"]["pairs"] > 0
    assert {sample["round"] for sample in found["samples"]} == {1}
    assert {"reuse-round-1", "by-es"} <= found["results"].keys()


def test_what_is_no_go_can_be_left_out(tmp_path):
    # A win rate above 1 is asked for, so that every language is no-go.
    with pytest.raises(InputError, match="no-go in every language"):
        run(recipe(diagnose__no_go="leave_out", diagnose__even=0.999), tmp_path)


def test_the_resolved_recipe_reads_as_itself(tmp_path):
    tree = as_tree(recipe())
    assert "pair" not in tree
    assert as_tree(checked(Recipe, tree)) == tree


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"pair": {}}, "makes no pairs; leave the section pair out"),
        ({"reward": {"views": ["cross_lingual"]}, "diagnose": ...}, "scores answers as they are"),
        ({"baselines": [{"name": "other"}]}, "is the round itself; give it another train, or another reward"),
        ({"baselines": [{"name": "other", "reward": "rm-xx"}]}, "baseline other: reward names 'rm-xx'"),
        ({"baselines": [{"name": "other", "train": {"method": "fake"}}]}, "trained with pairs and the round without"),
        ({"best_of_n__rewards": ["rm-xx"]}, "best_of_n.rewards names 'rm-xx'"),
        ({"evaluate__win_rates": ["target"]}, "names target, but the run trains no reward_models"),
        ({"evaluate__win_rates": ["qualty"]}, "evaluate.win_rates names 'qualty'; did you mean quality?"),
        ({"evaluate__quality": None, "diagnose": ..., "best_of_n": ...}, "evaluate.quality names no scorer"),
        ({"diagnose__judge": "third"}, "diagnose.judge names 'third'"),
        ({"sft": {"data": {"path": "x"}, "start": "y"}}, "one of the three, not models.policy and sft"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told(changed, sentence):
    assert sentence in told(**changed)
