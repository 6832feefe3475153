"""One folder and several processes: one works, the others are told; a dead one's lock is taken over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from faults.started import program
from faults.table import record, survived
from polypref.errors import RunLockedError
from polypref.recipe_file import read_recipe
from polypref.run import run
from runs import outcome, stamps, written


def test_of_several_runs_on_one_folder_one_works_and_the_others_are_told(smallest, tmp_path):
    found = program("rivals", smallest, tmp_path / "runs", "--times", 2, "--processes", 3)
    well = 0 if found["different"] else found["done"] + found["refused"]
    record(kind="fault", what="several runs on one folder at once", tried=6, survived=well, lost="nothing")
    assert (found["failed"], found["different"]) == (0, 0)
    assert found["done"] >= 2
    assert found["refused"]


def held(recipe, out, *before):
    """A process in the midst of the run; ``before`` are words in front of its command."""
    words = ["run", str(recipe), "--out", str(out), "--set", "models.reference.path=fake?sleep=0.05"]
    process = subprocess.Popen([*before, sys.executable, "-m", "polypref", *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "round-1").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_a_live_processs_lock_is_kept_and_a_dead_ones_is_taken_over(base, tmp_path):
    out = tmp_path / "run"
    process = held(base[0], out)
    try:
        with survived("lock of a live process", lost="nothing"):
            assert json.loads((out / ".lock").read_text())["pid"] == process.pid
            with pytest.raises(RunLockedError, match=f"is being written by process {process.pid}"):
                run(read_recipe(base[0]), out)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with survived("lock left by a killed process", lost="the unit in work"):
        said = []
        run(read_recipe(base[0]), out, warn=said.append)
        assert f"took over the lock of process {process.pid}, which is gone" in said
        assert outcome(out) == outcome(base[1])


def _other_host():
    words = ["unshare", "--uts", "hostname", "elsewhere"]
    return bool(shutil.which("unshare")) and not subprocess.run(words, capture_output=True, check=False).returncode


@pytest.mark.skipif(not _other_host(), reason="a process may be put on another host by name only by root, on Linux")
def test_a_lock_of_another_host_is_left_alone_until_it_is_removed(base, tmp_path):
    """Its kernel lock is not seen across hosts on every file system, so it is gone here, and the name must do."""
    out = tmp_path / "run"
    process = held(base[0], out, "unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with survived("lock of a process on another host", lost="nothing"):
        before, lock = stamps(out), (out / ".lock").read_bytes()
        with pytest.raises(RunLockedError, match="on host elsewhere; wait for it, or if it is dead remove"):
            run(read_recipe(base[0]), out)
        assert (written(before, stamps(out)), (out / ".lock").read_bytes()) == (set(), lock)
        os.unlink(out / ".lock")
        run(read_recipe(base[0]), out)
        assert outcome(out) == outcome(base[1])
