"""A sweep: every point a run that is done once, failures that cost the others nothing, a kill that costs a unit."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

import runs
from polypref import recipes, reporting
from polypref import sweep as sweeping
from polypref.errors import InputError, ModelError, RecipeError, RunLockedError
from polypref.recipe import as_tree
from polypref.recipe_file import read_recipe
from polypref.run import run
from polypref.store.atomic import write_json
from polypref.store.lock import locked
from polypref.store.manifest import versions
from polypref.sweep import Sweep, Vary, figures_of, sweep
from runs import NO_SLEEP, outcome, stamps, written

SMALL = ("prompts.limit=6", "evaluate.prompts.limit=4", "rounds=1", "evaluate.reward_accuracy=[]", "languages=[en, es]")


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch):
    """Drawing pages takes longer than small runs; one test draws the sweep's."""
    monkeypatch.setattr(reporting, "render", lambda data: data.name)
    monkeypatch.setattr(sweeping, "render_sweep", lambda found: found["sweep"]["key"])


def plan(vary="generate.n=2,3", *overrides, recipe="smoke", **changes):
    """A sweep of the smoke recipe, made small."""
    changes = {"overrides": (*NO_SLEEP, *SMALL, *overrides), **changes}
    return Sweep(recipes.find(recipe), Vary.of(vary), **changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A sweep of two values and two seeds; tests copy it."""
    out = tmp_path_factory.mktemp("base") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "render", lambda data: data.name)
        patch.setattr(sweeping, "render_sweep", lambda found: found["sweep"]["key"])
        found = sweep(plan(seeds=(0, 1)), out)
    return found, out


@pytest.fixture
def copy(base, tmp_path):
    shutil.copytree(base[1], tmp_path / "sweep")
    return tmp_path / "sweep"


@pytest.fixture
def started(monkeypatch):
    """The folders of the runs that are started, in order."""
    folders = []
    monkeypatch.setattr(sweeping, "run", lambda recipe, out, *rest: folders.append(out) or run(recipe, out, *rest))
    return folders


def pretended(monkeypatch):
    """Runs that write their results at once; gives the recipes and folders of those that are started."""
    recipes_and_folders = []

    def work(recipe, out, *rest):
        recipes_and_folders.append((recipe, out))
        results = {"smoke-round-1": {"en": {"quality": 0.5, "quality_stderr": 0.1, "quality_n": 9}}}
        told = {"rounds": [{"model": "smoke-round-1"}], "signature": "polypref:0|a:1", "date": "2026-01-01"}
        write_json(
            out / "results.json", {"results": results, "config": as_tree(recipe), "versions": versions(), **told}
        )

    monkeypatch.setattr(sweeping, "run", work)
    return recipes_and_folders


# --- what is run -----------------------------------------------------------------------------------------------------


def test_every_point_is_a_run_like_any_other(base, tmp_path):
    found, out = base
    assert [one["folder"] for point in found["points"] for one in point["runs"]] == [
        "2/seed-0", "2/seed-1", "3/seed-0", "3/seed-1",
    ]  # fmt: skip
    recipe = read_recipe(recipes.find("smoke"), [*NO_SLEEP, *SMALL, "seed=1", "generate.n=3"])
    run(recipe, tmp_path / "alone")
    assert outcome(out / "3/seed-1") == outcome(tmp_path / "alone")
    assert (recipe.train.seed, recipe.prompts.seed) == (1, 1)  # the seed is that of everything


def test_the_figures_are_those_of_the_runs_last_models(base):
    found, out = base
    assert found == json.loads((out / "sweep.json").read_text())
    results = {seed: json.loads((out / f"3/seed-{seed}/results.json").read_text()) for seed in (0, 1)}
    cells = {seed: results[seed]["results"]["smoke-round-1"] for seed in (0, 1)}
    spanish = found["points"][1]["languages"]["es"]
    assert spanish["seeds"] == {str(seed): cells[seed]["es"]["quality"] for seed in (0, 1)}
    assert spanish["value"] == pytest.approx((cells[0]["es"]["quality"] + cells[1]["es"]["quality"]) / 2)
    mean = [(cells[seed]["en"]["quality"] + cells[seed]["es"]["quality"]) / 2 for seed in (0, 1)]
    assert found["points"][1]["mean"]["seeds"] == {"0": pytest.approx(mean[0]), "1": pytest.approx(mean[1])}
    one = found["points"][1]["runs"][0]
    assert (one["status"], one["step"], one["said"]) == ("done", "smoke-round-1", None)
    assert one["figures"]["en"] == {
        "value": cells[0]["en"]["quality"],
        "stderr": cells[0]["en"]["quality_stderr"],
        "n": 4,
    }
    assert one["signature"] == results[0]["signature"]


def test_the_signature_holds_what_the_runs_share_and_the_sweep_adds(base):
    parts = dict(part.split(":", 1) for part in base[0]["signature"].split("|"))
    assert (parts["sweep"], parts["seed"], parts["metric"], parts["recipe"]) == (
        "generate.n",
        "0+1",
        "quality",
        "smoke",
    )
    assert parts["beta"] == "0.1"
    assert "n" not in parts  # it is what is varied


def test_the_seed_makes_the_first_model_too(tmp_path, monkeypatch):
    made, begun = [], pretended(monkeypatch)
    asked = plan(
        seeds=(4, 5), first=("models.policy.path", lambda seed: made.append(seed) or tmp_path / f"first-{seed}")
    )
    sweep(asked, tmp_path / "sweep")
    assert made == [4, 4, 5, 5]
    models = [(recipe.generate.n, recipe.seed, recipe.models.policy.path) for recipe, _ in begun]
    assert models == [(n, seed, f"{tmp_path}/first-{seed}") for seed in (4, 5) for n in (2, 3)]


# --- what is done once -----------------------------------------------------------------------------------------------


def test_a_second_start_opens_no_run_and_finds_the_same(base, copy, started):
    before = stamps(copy)
    assert sweep(plan(seeds=(0, 1)), copy) == base[0]
    assert started == []
    assert written(before, stamps(copy)) == {"sweep.json", "sweep.html"}


def test_more_values_and_seeds_run_what_is_new_alone(copy, monkeypatch):
    begun = pretended(monkeypatch)
    found = sweep(plan("generate.n=4,2,3", seeds=(1, 2)), copy)
    assert [str(out.relative_to(copy)) for _, out in begun] == ["4/seed-1", "4/seed-2", "2/seed-2", "3/seed-2"]
    assert [point["label"] for point in found["points"]] == ["4", "2", "3"]
    assert list(found["points"][1]["mean"]["seeds"]) == ["1", "2"]
    assert (copy / "3/seed-0/results.json").exists()


def test_another_metric_is_read_off_the_same_runs(copy, started):
    found = sweep(plan(seeds=(0, 1), metric="length_characters", step="policy"), copy)
    assert started == []
    assert {one["step"] for point in found["points"] for one in point["runs"]} == {"policy"}
    assert found["points"][0]["mean"]["value"] > 5


def test_a_changed_setting_runs_every_point_again(copy, monkeypatch):
    begun = pretended(monkeypatch)
    sweep(plan("generate.n=2,3", "pair.min_margin=0.5", seeds=(0, 1)), copy)
    assert len(begun) == 4


def test_results_of_other_versions_are_not_taken_for_these(copy, started):
    path = copy / "2/seed-0/results.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "versions": {**found["versions"], "torch": "1.0"}}))
    sweep(plan(seeds=(0, 1)), copy)
    assert [str(folder.relative_to(copy)) for folder in started] == ["2/seed-0"]


KILLED = """
import sys
from pathlib import Path
from polypref import recipes, reporting, sweep
reporting.render = lambda data: data.name
sweep.render_sweep = lambda found: "page"
plan = sweep.Sweep(recipes.find("smoke"), sweep.Vary.of(sys.argv[1]), (0, 1), tuple(sys.argv[3:]))
sweep.sweep(plan, Path(sys.argv[2]))
"""


def test_a_killed_sweep_goes_on_where_it_stopped(base, tmp_path, started):
    """Killed within its third run: the first two are read, the third goes on, the fourth is begun."""
    asked, out = (*NO_SLEEP, *SMALL), tmp_path / "sweep"
    process = subprocess.Popen([sys.executable, "-c", KILLED, "generate.n=2,3", str(out), *asked])
    first = out / "2/seed-1/round-1/generate/en/part-00000.parquet"
    deadline = time.monotonic() + 200
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    states = [one["status"] for p in json.loads((out / "sweep.json").read_text())["points"] for one in p["runs"]]
    assert states == ["done", "open", "done", "open"]
    assert not (out / "2/seed-1/results.json").exists()
    before = stamps(out)

    found = sweep(plan(seeds=(0, 1)), out)
    assert [str(folder.relative_to(out)) for folder in started] == ["2/seed-1", "3/seed-1"]
    again = written(before, stamps(out))
    assert not [name for name in again if "/seed-0/" in name]
    assert str(first.relative_to(out)) not in again
    for folder in ("2/seed-0", "2/seed-1", "3/seed-0", "3/seed-1"):
        assert outcome(out / folder) == outcome(base[1] / folder)
    figures = [{k: v for k, v in point.items() if k != "runs"} for point in found["points"]]
    assert figures == [{k: v for k, v in point.items() if k != "runs"} for point in base[0]["points"]]
    assert not runs.left_half_written(out)


# --- what fails ------------------------------------------------------------------------------------------------------


def failing(monkeypatch, error, where="3/seed-0"):
    """Runs that fail at one point."""

    def work(recipe, out, *rest):
        if str(out).endswith(where):
            raise error
        return run(recipe, out, *rest)

    monkeypatch.setattr(sweeping, "run", work)


def test_a_failing_point_is_told_and_the_others_go_on(base, copy, monkeypatch):
    for folder in ("3/seed-0", "3/seed-1"):
        (copy / folder / "results.json").unlink()
    warned = []
    with monkeypatch.context() as patch:
        failing(patch, ModelError("fake has no head; give it one"))
        found = sweep(plan(seeds=(0, 1)), copy, warn=warned.append)
    states = [(one["status"], one["said"]) for point in found["points"] for one in point["runs"]]
    assert states == [("done", None), ("done", None), ("failed", "fake has no head; give it one"), ("done", None)]
    assert warned == ["3, seed 0: fake has no head; give it one"]
    assert list(found["points"][1]["mean"]["seeds"]) == ["1"]
    assert (found["points"][1]["mean"]["over"], found["points"][0]["mean"]["over"]) == ("prompts", "seeds")
    mended = sweep(plan(seeds=(0, 1)), copy)["points"]
    assert [{**point, "runs": []} for point in mended] == [{**point, "runs": []} for point in base[0]["points"]]


def test_a_fault_at_a_point_leaves_its_traceback(copy, monkeypatch):
    (copy / "3/seed-0/results.json").unlink()
    with monkeypatch.context() as patch:
        failing(patch, MemoryError("too large"))
        found = sweep(plan(seeds=(0, 1)), copy)
    said = found["points"][1]["runs"][0]["said"]
    assert said == f"MemoryError: too large; the traceback is in {copy}/3/seed-0.error.txt"
    assert "Traceback" in (copy / "3/seed-0.error.txt").read_text()
    sweep(plan(seeds=(0, 1)), copy)
    assert not (copy / "3/seed-0.error.txt").exists()


def test_an_interrupt_is_no_failure_of_a_point(tmp_path, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt(), "2/seed-0")
    with pytest.raises(KeyboardInterrupt):
        sweep(plan(), tmp_path / "sweep")


def test_a_point_that_lacks_the_metric_is_told(copy):
    found = sweep(plan(seeds=(0, 1), metric="qualty"), copy)
    said = [one["said"] for point in found["points"] for one in point["runs"]]
    assert said == ["no step has qualty; did you mean quality?"] * 4
    assert [point["mean"] for point in found["points"]] == [None, None]


def test_wrong_recipes_are_told_before_anything_is_run(tmp_path, started):
    with pytest.raises(RecipeError, match=r"generate\.n: .*greater than 0"):
        sweep(plan("generate.n=2,0"), tmp_path / "sweep")
    with pytest.raises(RecipeError, match="did you mean generate"):
        sweep(plan("genrate.n=2,3"), tmp_path / "sweep")
    with pytest.raises(RecipeError, match=r"models\.policy: no folder \./nowhere"):
        sweep(plan("models.policy={path: ./nowhere},{path: fake, backend: fake}"), tmp_path / "sweep")
    assert (started, (tmp_path / "sweep").exists()) == ([], False)


def test_a_folder_of_something_else_is_refused(copy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt and is no sweep's folder; choose another --out"):
        sweep(plan(), tmp_path)
    with pytest.raises(InputError, match=r"holds a sweep of generate\.n; choose another --out for one of rounds"):
        sweep(plan("rounds=1,2"), copy)


def test_one_process_writes_a_sweep(tmp_path):
    with locked(tmp_path, print), pytest.raises(RunLockedError, match="is being written by process"):
        sweep(plan(), tmp_path)


# --- whose figure ----------------------------------------------------------------------------------------------------

ACCURACY = {lang: {"accuracy": 0.7, "accuracy_stderr": 0.1, "accuracy_n": 9} for lang in ("en", "es")}
QUALITY = {"en": {"quality": 0.5, "quality_stderr": None, "quality_n": 1}}


def test_last_is_the_last_round_s_model_whatever_comes_after_it():
    found = {
        "results": {"m-round-1": QUALITY, "m-round-2": QUALITY, "sft": QUALITY},
        "rounds": [{"model": "m-round-2"}],
    }
    assert figures_of(found, "quality", "last")[0] == "m-round-2"
    assert figures_of(found, "quality", "sft")[0] == "sft"


def test_last_is_the_one_step_that_has_the_metric_where_the_last_model_has_not():
    found = {"results": {"m-round-1": QUALITY, "rm-en": ACCURACY}, "rounds": [{"model": "m-round-1"}]}
    step, figures = figures_of(found, "accuracy", "last")
    assert (step, figures["es"].value, figures["es"].n) == ("rm-en", 0.7, 9)


def test_of_several_steps_one_must_be_named():
    found = {"results": {"rm-en": ACCURACY, "rm-es": ACCURACY}, "rounds": []}
    with pytest.raises(InputError, match="accuracy is a figure of rm-en, rm-es; say which with --step"):
        figures_of(found, "accuracy", "last")
    with pytest.raises(InputError, match="the step 'rm-ez' has no accuracy; did you mean rm-es"):
        figures_of(found, "accuracy", "rm-ez")
