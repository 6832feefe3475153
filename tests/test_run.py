"""The run loop: everything done once, nothing twice, and a change recomputes what it touches."""

import json
import shutil

import pytest

import runs
import stage_outputs
from polypref import registry, reporting
from polypref.backends.base import Logprob
from polypref.backends.fake import FakeLogprobs
from polypref.errors import InputError, ModelError, RunLockedError, UserError
from polypref.recipe_file import read_recipe
from polypref.reporting import again, last_pairs
from polypref.run import run
from polypref.store.lock import locked
from runs import done, outcome, small, smoke, stamps, written

RENDER = reporting.render


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch):
    """Drawing the page takes longer than the rest of a small run; two tests draw it."""
    monkeypatch.setattr(reporting, "render", lambda data: data.name)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small run and its recipe; tests copy it."""
    folder = tmp_path_factory.mktemp("base")
    recipe = small(folder)
    done(recipe, folder / "run")
    return recipe, folder / "run"


@pytest.fixture
def copy(base, tmp_path):
    shutil.copytree(base[1], tmp_path / "run")
    return base[0], tmp_path / "run"


def test_smoke_does_every_step_and_a_second_start_finds_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "render", RENDER)
    out = tmp_path / "smoke"
    data = smoke(out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert all(step["done"] for step in manifest["steps"].values())
    some = {"prompts", "round-1/generate", "round-2/train", "evaluation/smoke-round-2/figures"}
    assert some <= manifest["steps"].keys()
    results = json.loads((out / "results.json").read_text())
    assert list(results["results"]) == ["reference", "policy", "smoke-round-1", "smoke-round-2"]
    cell = results["results"]["smoke-round-1"]["es"]
    assert {"quality", "quality_stderr", "quality_n", "reward_accuracy_cross_lingual", "kl"} <= cell.keys()
    assert cell["quality_n"] == 12
    assert [c["from"] + "→" + c["to"] for c in results["comparisons"]][-1] == "policy→smoke-round-2"
    before, kept = stamps(out), outcome(out)
    second = smoke(out)
    assert written(before, stamps(out)) == set()
    assert outcome(out) == kept
    assert second == data  # the same report, its date and times included


def test_the_manifest_says_what_the_run_is_made_of(base):
    manifest = json.loads((base[1] / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert {"python", "polypref", "torch", "transformers"} <= manifest["versions"].keys()
    assert set(manifest["models"]) == {"fake", "fake?version=2", "small-round-1"}
    assert all(found.startswith("fake-") for found in manifest["models"].values())
    prompts = manifest["steps"]["prompts"]
    assert (prompts["examples"], len(prompts["content"])) == (10, 64)
    assert manifest["steps"]["round-1/generate"]["units"] == 6
    assert all(step["seconds"] >= 0 for step in manifest["steps"].values())


def test_the_resolved_recipe_gives_this_run_again(base, tmp_path):
    done(base[1] / "recipe.yaml", tmp_path / "again")
    assert outcome(tmp_path / "again") == outcome(base[1])


ANSWERS = ["prompts/", "round-1/generate/"]
SCORES, PAIRS = "round-1/score-", "round-1/pair/"
LAYERS = ("generate/", "score-cross_lingual/", "pair/", "train/")
BUT_SCORES = ["prompts/", *(f"round-{n}/{layer}" for n in (1, 2) for layer in LAYERS)]


@pytest.mark.parametrize(
    ("override", "left_alone", "written_anew"),
    [
        ("pair.min_margin=1.5", [*ANSWERS, SCORES], [PAIRS, "round-2/pair/"]),
        ("reward.beta=0.2", ANSWERS, [SCORES, PAIRS]),
        ("reward.prefix='Answer in {language}: '", ANSWERS, [SCORES, PAIRS]),
        ("train.epochs=2", [*ANSWERS, SCORES, PAIRS], ["round-1/train/"]),
        ("rounds=3", ["prompts/", "round-1/", "round-2/"], ["round-3/pair/"]),
        ("models.policy.path=fake?version=3", ["prompts/"], ["round-1/generate/", SCORES]),
        ("reward.views=[cross_lingual, multilingual]", BUT_SCORES, ["round-1/score-multilingual/"]),
        ("models.policy.batch_tokens=7", ["prompts/", "round-1/", "round-2/"], []),
    ],
)
def test_a_changed_option_recomputes_what_it_touches_and_nothing_else(
    copy, tmp_path, override, left_alone, written_anew
):
    recipe, out = copy
    before = stamps(out)
    done(recipe, out, override)
    names = {name for name in written(before, stamps(out)) if name not in ("results.json", "report.html")}
    for layer in left_alone:
        assert not [name for name in names if name.startswith(layer)], layer
    for layer in written_anew:
        assert [name for name in names if name.startswith(layer)], layer
    done(recipe, tmp_path / "fresh", override)
    fresh = outcome(tmp_path / "fresh")
    assert {name: value for name, value in outcome(out).items() if name in fresh} == fresh


def test_a_new_language_adds_files(copy, tmp_path):
    recipe, out = copy
    before = stamps(out)
    done(recipe, out, "languages=[en, es, de]")
    names = written(before, stamps(out))
    assert {f"round-1/generate/de/part-0000{i}.parquet" for i in range(3)} <= names
    old = (
        "round-1/generate/en",
        "round-1/generate/es",
        "round-1/score-cross_lingual/en",
        "round-1/score-cross_lingual/es",
    )
    assert not [name for name in names if name.startswith(old)]
    done(recipe, tmp_path / "fresh", "languages=[en, es, de]")
    assert outcome(out) == outcome(tmp_path / "fresh")


def test_fewer_prompts_take_stale_shards_away_and_keep_the_others(copy, tmp_path):
    recipe, out = copy
    before = stamps(out)
    done(recipe, out, "prompts.limit=6")  # 10 prompts are shards of 4, 4, 2; 6 are 4, 2
    assert not list(out.rglob("part-00002.parquet"))
    names = written(before, stamps(out))
    assert "round-1/generate/es/part-00000.parquet" not in names
    assert "round-1/generate/es/part-00001.parquet" in names
    done(recipe, tmp_path / "fresh", "prompts.limit=6")
    assert outcome(out) == outcome(tmp_path / "fresh")


def test_fewer_rounds_are_exported_and_reported_as_such(copy):
    recipe, out = copy
    done(recipe, out, "rounds=1")
    exported = list(last_pairs(out, read_recipe(out / "recipe.yaml")))
    assert {c.round for e in exported for c in e.candidates} == {1}
    assert {pair.lang for e in exported for pair in e.pairs} == {"en", "es"}
    assert not [name for name in json.loads((out / "manifest.json").read_text())["steps"] if name.startswith("round-2")]


def test_a_model_folder_that_changes_is_another_model(tmp_path):
    folder = tmp_path / "policy"

    recipe = small(tmp_path)
    runs.fake_model(folder, "fake-one")
    done(recipe, tmp_path / "run", f"models.policy.path={folder}")
    before = stamps(tmp_path / "run")
    runs.fake_model(folder, "fake-two")
    done(recipe, tmp_path / "run", f"models.policy.path={folder}")
    assert "round-1/generate/en/part-00000.parquet" in written(before, stamps(tmp_path / "run"))


def test_α_is_the_same_when_a_single_shard_is_paired_again(copy):
    """One α a language over all shards: a shard that is lost must not be paired by an α of its own."""
    recipe, out = copy
    kept = outcome(out)
    (out / "round-1/pair/es/part-00001.parquet").unlink()
    (out / "round-1/pair/summary.json").unlink()
    done(recipe, out)
    assert outcome(out) == kept
    summary = json.loads((out / "round-1/pair/summary.json").read_text())["content"]
    assert summary["es"]["alpha"], "there is no length bias, so the test could not fail"


def test_the_page_is_made_again_without_the_models(tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "render", RENDER)
    folder = tmp_path / "policy"
    runs.fake_model(folder, "fake-one")
    out = tmp_path / "run"
    data = done(small(tmp_path), out, f"models.policy.path={folder}")
    page = (out / "report.html").read_bytes()
    shutil.rmtree(folder)
    (out / "report.html").unlink()
    assert again(out) == data
    assert (out / "report.html").read_bytes() == page
    (out / "results.json").unlink()
    with pytest.raises(InputError, match=r"holds no results yet; finish it with: polypref run .*recipe\.yaml"):
        again(out)
    with pytest.raises(InputError, match=r"is no run's folder"):
        again(tmp_path)


def test_what_a_step_had_to_say_stays_in_the_report(tmp_path):
    """A second start that reads nothing anew says the same."""
    train = tmp_path / "train.jsonl"
    rows = [{"id": str(i), "prompts": {"en": f"Say {i}.", "es": f"Di {i}."}} for i in range(5)]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = small(tmp_path, prompts={"path": str(train), "limit": 9})
    said = []
    run(read_recipe(recipe), tmp_path / "run", warn=said.append)
    assert said == [f"{train}: 9 prompts asked for, 5 there"]
    assert said[0] in done(recipe, tmp_path / "run").notes


def test_standard_tasks_stay_in_the_results_of_a_run_while_the_model_is_the_same(copy):
    """A training of two epochs makes another round's model, and the same policy."""
    recipe, out = copy
    file = out / "results.json"
    models = json.loads((out / "manifest.json").read_text())["models"]
    found = json.loads(file.read_text())
    for name, who in (("policy", models["fake?version=2"]), ("small-round-1", models["small-round-1"])):
        found["results"].setdefault(name, {})["es"] = {"arc_acc": 0.25, "arc_acc_stderr": 0.1, "arc_acc_n": 20}
        task = {"model": who, "language": "es", "family": "arc", "metrics": ["arc_acc"]}
        found["standard_tasks"] = (found["standard_tasks"] or {}) | {name: {"arc_es": task}}
    file.write_text(json.dumps(found | {"alignment_tax": [{"from": "policy", "to": "small-round-1"}]}))
    done(recipe, out, "report_samples=1")
    again = json.loads(file.read_text())
    assert {step: by["es"]["arc_acc"] for step, by in again["results"].items()} == {
        "policy": 0.25,
        "small-round-1": 0.25,
    }
    assert again["alignment_tax"] == [{"from": "policy", "to": "small-round-1"}]
    said = []
    run(read_recipe(recipe, ["train.epochs=2"]), out, warn=said.append)
    later = json.loads(file.read_text())
    assert list(later["standard_tasks"]) == list(later["results"]) == ["policy"]
    assert later["alignment_tax"] is None
    assert [sentence for sentence in said if sentence.startswith("small-round-1 is another model than the one")]


# --- what a run refuses --------------------------------------------------------------------------------------------


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "recipe.yaml").write_text("# mine\n")
    (tmp_path / ".tmp-mine").write_text("")
    with pytest.raises(UserError, match=r"holds recipe\.yaml and is no run's folder; choose another --out"):
        done(small(tmp_path.parent, name=f"{tmp_path.name}.yaml"), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tmp-mine", "recipe.yaml"]


def test_one_writer_at_a_time(base):
    with locked(base[1], lambda message: None), pytest.raises(RunLockedError, match="is being written by process"):
        done(base[0], base[1])


def test_prompts_that_are_trained_on_are_not_evaluated_on(tmp_path):
    recipe = small(tmp_path, evaluate={"prompts": {"path": "sandbox:train", "limit": 5}, "quality": "fake"})
    with pytest.raises(InputError, match="5 training prompts are also evaluated on"):
        done(recipe, tmp_path / "run")
    done(recipe, tmp_path / "run", "evaluate.prompts.allow_overlap=true")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["results"]["policy"]["en"]["quality_n"] == 5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("languages=[en, ru]", r"sandbox:train has no prompts in ru; it has en, "),
        ("prompts.path=sandbox:trian", r"is no part of the sandbox; did you mean train\?"),
        ("prompts.limit=1000000000", r"sandbox:train: the sandbox has .* ask for fewer with limit"),
        ("pair.min_margin=1e9", r"round-1 gives no pair in any language \(16 pair: margin"),
        ("prompts.path=none.jsonl", r"none\.jsonl"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_sentence(tmp_path, override, said):
    with pytest.raises(InputError, match=said) as found:
        done(small(tmp_path), tmp_path / "run", override)
    assert "\n" not in str(found.value)
    assert not runs.left_half_written(tmp_path)


class NanLogprobs(FakeLogprobs):
    """A model that breaks on one word."""

    def logprobs(self, answers):
        return [
            Logprob(float("nan"), 1) if "casa" in a.text else p
            for a, p in zip(answers, super().logprobs(answers), strict=True)
        ]


def test_a_nan_score_stops_the_stage_and_names_the_example(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.BACKENDS, ("logprobs", "fake"), f"{__name__}:NanLogprobs")
    with pytest.raises(ModelError, match=r"candidate '(.*)/en/\d' of example '\1' scores nan"):
        done(small(tmp_path), tmp_path / "run")
    monkeypatch.undo()
    done(small(tmp_path), tmp_path / "run")  # what was finished stays, the rest goes on
    done(small(tmp_path), tmp_path / "fresh")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "fresh")


# --- where prompts and preferences come from -----------------------------------------------------------------------


def test_answers_beside_the_prompts_are_neither_paired_nor_evaluated(tmp_path):
    """A file that generate wrote has candidates under the very ids that a run gives to its own."""
    rows = [
        {
            "id": str(i),
            "prompts": {"en": f"Say {i}.", "es": f"Di {i}."},
            "candidates": [{"id": f"{i}/es/0", "lang": "es", "text": "[es] old", "origin": "human", "error": None}],
        }
        for i in range(12)
    ]
    for name, part in (("train", rows[:6]), ("test", rows[6:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    recipe = small(
        tmp_path,
        prompts={"path": str(tmp_path / "train.jsonl")},
        evaluate={"prompts": {"path": str(tmp_path / "test.jsonl")}},
    )
    data = done(recipe, tmp_path / "run")
    drawn = [c for e in last_pairs(tmp_path / "run", read_recipe(recipe)) for c in e.candidates]
    assert len(drawn) == 6 * 2 * 3
    assert not [c for c in drawn if c.origin != "sampled"]
    assert any("6 answers are left aside" in note for note in data.notes)


def test_an_alignment_learns_from_pairs_in_the_pivot_alone(tmp_path):
    rows = [
        {
            "id": f"p{i}",
            "prompts": {"en": f"Praise {i}."},
            "candidates": [{"id": "a", "lang": "en", "text": f"good {i}"}, {"id": "b", "lang": "en", "text": "bad"}],
            "pairs": [{"lang": "en", "chosen": "a", "rejected": "b"}],
        }
        for i in range(4)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = small(
        tmp_path,
        models={"reference": runs.SMALL["models"]["reference"]},
        alignment={"name": "dpo-en", "prompts": {"path": str(tmp_path / "pairs.jsonl")}, "train": {"method": "fake"}},
        rounds=1,
    )
    done(recipe, tmp_path / "run")
    steps = json.loads((tmp_path / "run" / "manifest.json").read_text())["steps"]
    assert steps["alignment/train"]["rows"] == 4
    assert "alignment/generate" not in steps


def test_an_alignment_answers_prompts_and_labels_the_answers(tmp_path):
    section = {"prompts": {"path": "sandbox:train", "limit": 6}, "scorer": "fake", "train": {"method": "fake"}}
    models = {"reference": runs.SMALL["models"]["reference"]}
    recipe = small(tmp_path, models=models, alignment=section | {"generate": {"n": 2}}, rounds=1)
    done(recipe, tmp_path / "run")
    assert (tmp_path / "run/alignment/generate/en/part-00000.parquet").exists()
    assert not (tmp_path / "run/alignment/generate/es").exists()
    without = small(
        tmp_path, name="b.yaml", models=models, alignment={k: v for k, v in section.items() if k != "scorer"}
    )
    with pytest.raises(UserError, match=r"alignment\.scorer is missing"):
        done(without, tmp_path / "other")


# --- versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", stage_outputs.STAGES)
def test_a_stage_that_gives_something_else_has_another_version(stage, stages_now):
    """A finished shard is taken as it stands while its stage's VERSION is the same."""
    golden = json.loads(stage_outputs.GOLDEN.read_text(encoding="utf-8"))[stage]
    now = stages_now[stage]
    if now["version"] == golden["version"]:
        assert now["output"] == golden["output"], f"raise VERSION of stages/{stage}.py: what it gives has changed"
    assert now == golden, "VERSION was raised: write the outputs anew with python tests/stage_outputs.py"


@pytest.fixture(scope="module")
def stages_now():
    return stage_outputs.outputs()
