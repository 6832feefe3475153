"""One of two training processes is killed: the launch ends, and the same command goes on from the last save."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

import launched
from faults.digests import differences
from faults.table import survived

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "polypref"]
TRAIN = {"method": "dpo", "learning_rate": 1e-3, "batch_size": 4, "optimizer": "sgd", "max_steps": 12, "save_steps": 1}


def begun(recipe, out):
    """The run, begun in two processes."""
    words = [sys.executable, *LAUNCH, "run", str(recipe), "--out", str(out)]
    return subprocess.Popen(words, env=launched.environment())


def rank_of(process):
    try:
        return process.environ().get("RANK")
    except psutil.Error:
        return None


def killed_in_the_training(recipe, out, rank):
    """Begin the run in two processes, and kill one of them once the training has saved its second step."""
    launcher = begun(recipe, out)
    deadline = time.monotonic() + 600
    while not list(out.glob("round-1/train/.unfinished-*/.resume/checkpoint-[2-9]")) and time.monotonic() < deadline:
        assert launcher.poll() is None, "the launch ended before its training had saved"
        time.sleep(0.01)
    children = psutil.Process(launcher.pid).children()
    [victim] = [child for child in children if rank_of(child) == str(rank)]
    victim.send_signal(signal.SIGKILL)
    assert launcher.wait(300)
    assert not (out / "results.json").exists()


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_training_of_two_processes_of_which_one_is_killed_ends_up_the_same(tmp_path, rank):
    recipe = launched.icr(tmp_path, train=TRAIN, rounds=1)
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert begun(recipe, whole).wait() == 0
    with survived(f"SIGKILL of rank {rank} of two training processes", lost="the steps since the last save"):
        killed_in_the_training(recipe, out, rank)
        assert begun(recipe, out).wait() == 0
        assert differences(whole, out) == []
