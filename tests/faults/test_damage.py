"""What stands on the disk and is not what was written: made again, and said; the outcome is the same."""

import json
import os
import random
import shutil

import pytest

import runs
from faults.digests import differences
from faults.table import record, survived
from polypref.errors import ModelError
from polypref.recipe_file import read_recipe
from polypref.run import run
from polypref.store.atomic import write_json
from runs import done, outcome, stamps, written

SMALL_POLICY = {"path": "fake?version=2", "backend": "fake"}
LOST = "the damaged file, and what was made of it where it came out otherwise"


@pytest.mark.parametrize(
    "name",
    [
        "prompts/part-00001.parquet",
        "round-1/generate/es/part-00001.parquet",
        "round-1/score-cross_lingual/en/part-00000.parquet",
        "round-2/pair/es/part-00002.parquet",
        "round-1/train/checkpoint/config.json",
        "round-1/pair/summary.json",
        "manifest.json",
        "results.json",
    ],
)
def test_a_file_that_was_cut_or_lost_is_made_again(copy, name):
    recipe, out = copy
    whole, path = outcome(out), out / name
    with survived("file cut off", lost=LOST):
        path.write_bytes(path.read_bytes()[:-9])
        done(recipe, out)
        assert outcome(out) == whole
    if name != "manifest.json":  # a folder without one is not taken for a run's
        with survived("file lost", lost=LOST):
            path.unlink()
            done(recipe, out)
            assert outcome(out) == whole


def computed(out):
    """The files that hold what was computed."""
    made = (path for path in sorted(out.rglob("*")) if path.is_file())
    return [path for path in made if path.suffix == ".parquet" or "checkpoint" in path.parts]


def flip(path, chance):
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def flipped_one_by_one(recipe, out, every, flips=1):
    """The names of the files of which a flipped bit was neither told nor mended."""
    whole, chance, tried, missed = outcome(out), random.Random(0), 0, []
    for path in computed(out)[::every]:
        for _ in range(flips):
            flip(path, chance)
            said = []
            run(read_recipe(recipe), out, warn=said.append)
            name = str(path.relative_to(out))
            tried += 1
            told = path.suffix != ".parquet" or any(name in message for message in said)
            if outcome(out) != whole or not told:
                missed.append(name)
    record(kind="fault", what="one bit of a file flipped", tried=tried, survived=tried - len(missed), lost=LOST)
    return missed


def test_a_flipped_bit_is_found_and_the_file_made_again(copy):
    assert flipped_one_by_one(*copy, every=9) == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_flipped_bit_of_any_file_is_found_and_the_file_made_again(copy):
    assert flipped_one_by_one(*copy, every=1, flips=2) == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_flipped_bit_of_real_weights_is_found_and_the_training_done_again(tiny, tmp_path):
    out = tmp_path / "run"
    done(tiny, tmp_path / "whole")
    done(tiny, out)
    for name in ("model.safetensors", "tokenizer.json"):
        with survived("one bit of real weights flipped", lost="the training"):
            flip(out / "round-1/train/checkpoint" / name, random.Random(0))
            done(tiny, out)
            assert differences(tmp_path / "whole", out) == []


def test_a_run_that_was_finished_elsewhere_goes_on_where_it_is_copied_to(copy):
    """Nothing in a key says where the run stands, so a moved folder is not computed again."""
    recipe, out = copy
    moved = out.parent / "moved"
    shutil.copytree(out, moved, copy_function=shutil.copy2)
    before = stamps(moved)
    done(recipe, moved)
    assert written(before, stamps(moved)) == set()


def test_a_manifest_that_is_no_object_is_begun_anew(copy):
    recipe, out = copy
    write_json(out / "manifest.json", ["not", "a", "manifest"])
    done(recipe, out)
    steps = json.loads((out / "manifest.json").read_text())["steps"]
    assert all(step["done"] for step in steps.values())


def test_a_clock_that_jumps_backwards_changes_nothing(copy, monkeypatch):
    """Half of the run stands with tomorrow's times, and the clock of the other half goes backwards, call by call."""
    import time

    recipe, out = copy
    whole = outcome(out)
    shutil.rmtree(out / "round-2")
    for path in out.rglob("*"):
        stat = path.stat()
        os.utime(path, (stat.st_atime + 86400, stat.st_mtime + 86400))
    kept = {name: stamp for name, stamp in stamps(out).items() if name.endswith(".parquet")}
    now, calls = time.time(), iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: now - 3600.0 * next(calls))
    with survived("clock that jumps backwards", lost="nothing"):
        done(recipe, out)
        assert outcome(out) == whole
        assert {name: stamps(out)[name] for name in kept} == kept
        seconds = json.loads((out / "manifest.json").read_text())["steps"]
        assert all(step["seconds"] >= 0 for step in seconds.values())


def changed(folder, version):
    """Another model under the same path, in a file of the same size."""
    runs.fake_model(folder, "model")
    config = json.loads((folder / "config.json").read_text())
    config["options"]["version"] = version
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("step", ["round-1/pair", "round-2/generate"])
def test_a_model_that_changes_in_a_run_is_told_and_never_mixed_with_the_one_before(tmp_path, step):
    """Whichever step it is behind: the run says so and ends, and the same command makes again what the model made."""
    folder, out = tmp_path / "model", tmp_path / "run"
    changed(folder, 1.0)
    models = {"reference": {"path": str(folder), "backend": "fake"}, "policy": SMALL_POLICY}
    recipe = runs.small(tmp_path, models=models, prompts={"path": "sandbox:train", "limit": 4}, rounds=2)

    def progress(name, done, total):
        if name == step and done == total:
            changed(folder, 2.0)

    with survived("model folder that changes between two rounds", lost="what the model before made"):
        with pytest.raises(ModelError, match="changed while the run was using it"):
            run(read_recipe(recipe), out, progress)
        done(recipe, out)
        done(recipe, tmp_path / "fresh")
        assert outcome(out) == outcome(tmp_path / "fresh")
