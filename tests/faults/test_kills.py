"""Processes that are killed: the same command goes on, and the outcome is the same."""

import signal
import time

import pytest

import runs
from faults.kills import Kills
from faults.started import command, program
from faults.table import record, survived
from runs import done, outcome, stamps, written

UNIT = "the unit in work"


def kill_at(recipe, folder, what, *options):
    """A kill at write points; each is another row of the table's counts."""
    found = program("write_points", recipe, folder, *options)
    well = found["tried"] - len(found["different"])
    again = sum(map(len, found["again"].values()))
    record(kind="fault", what=what, tried=found["tried"], survived=well, lost=f"{UNIT}; {again} finished files")
    assert (found["different"], found["again"]) == ([], {})
    assert found["tried"]
    return found


def test_a_run_killed_at_some_of_its_write_points_ends_up_the_same(smallest, tmp_path):
    kill_at(smallest, tmp_path / "runs", "SIGKILL at write points, a few", "--first", 5, "--every", 43)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_run_killed_at_every_write_point_ends_up_the_same(smallest, tmp_path):
    found = kill_at(smallest, tmp_path / "runs", "SIGKILL at every write point of a run of pairs by views")
    assert found["tried"] == found["points"] > 100


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_run_of_pairs_by_imbalance_killed_at_every_write_point_ends_up_the_same(tmp_path):
    changes = {
        "pair": {"rule": "imbalance", "dominant": "auto", "probe": {"limit": 4}},
        "translate_prompts": {},
        "rounds": 1,
        "prompts": {"path": "sandbox:train", "limit": 8},
        "evaluate": {"prompts": {"path": "sandbox:test", "limit": 2}, "quality": "fake"},
    }
    recipe = runs.imbalance(tmp_path, **changes)
    kill_at(recipe, tmp_path / "runs", "SIGKILL at every write point of a run of pairs by imbalance")


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_run_with_a_real_training_killed_at_its_write_points_ends_up_the_same(tiny, tmp_path):
    kill_at(
        tiny,
        tmp_path / "runs",
        "SIGKILL at write points of a run with a real model and training",
        "--every",
        7,
        "--timed",
    )


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_run_killed_at_random_times_ends_up_the_same(base, tmp_path):
    """What ``python -m faults.kills`` does with the sandbox's ICR run, here with the fakes, slowed down."""
    kills = Kills(tmp_path, str(base[0]), ["models.reference.path=fake?sleep=0.01"], seed=0)
    kills.until(8)
    told = kills.told()
    record(kind="fault", what="SIGKILL of the driver of a run on the fakes, 1 to 20 s apart", **told)
    assert told["survived"] == told["tried"] == 8
    assert not any(life["again"] for life in kills.lives)


def test_sigterm_ends_with_130_and_the_same_command_goes_on(base, tmp_path):
    out = tmp_path / "run"
    process = command("run", base[0], "--out", out, "--set", "models.reference.path=fake?sleep=0.02")
    first = out / "round-1/generate/en/part-00000.parquet"
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with survived("SIGTERM", lost=UNIT):
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (130, "polypref: interrupted; the same command goes on from here\n")
        assert not runs.left_half_written(out)
        before = stamps(out)
        assert "results.json" not in before
        done(base[0], out)
        assert str(first.relative_to(out)) not in written(before, stamps(out))
        assert outcome(out) == outcome(base[1])
