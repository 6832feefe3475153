"""The lock: one writer, a dead one's place is taken over and said, another host's is not."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from polypref.errors import RunLockedError
from polypref.store.lock import LOCK_NAME, alive, locked, myself

HOLD = """
import sys
from pathlib import Path
from polypref.store.lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_live_process_is_not_disturbed(tmp_path):
    other = hold(tmp_path)
    try:
        with pytest.raises(RunLockedError, match=str(other.pid)), locked(tmp_path, print):
            pass
    finally:
        other.communicate("")
    with locked(tmp_path, print):
        assert (tmp_path / LOCK_NAME).exists()
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_killed_process_is_taken_over_and_it_is_said(tmp_path):
    other = hold(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    told = []
    with locked(tmp_path, told.append):
        pass
    assert told == [f"took over the lock of process {other.pid}, which is gone"]


def test_a_process_number_that_is_used_again_is_no_life(tmp_path):
    """The number is ours, the start time is not: its process died and the number was given away."""
    stale = {"pid": os.getpid(), "started": 1.0, "host": socket.gethostname()}
    (tmp_path / LOCK_NAME).write_text(json.dumps(stale))
    told = []
    with locked(tmp_path, told.append):
        pass
    assert len(told) == 1


def test_another_host_is_believed(tmp_path):
    (tmp_path / LOCK_NAME).write_text(json.dumps({"pid": 1, "started": 1.0, "host": "elsewhere"}))
    with pytest.raises(RunLockedError, match="elsewhere") as told, locked(tmp_path, print):
        pass
    assert "remove" in str(told.value)
    assert (tmp_path / LOCK_NAME).exists()


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone():
    assert alive(myself())
    assert not alive({**myself(), "started": "another boot/12"})
    assert not alive({"pid": 2**22 + 1})
    assert not alive({"pid": None})


def test_a_dead_child_that_nobody_has_waited_for_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = {"pid": child.pid}
    assert alive(holder)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(holder)
    child.communicate()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="elsewhere the system tells a time of the clock's")
def test_a_clock_that_is_set_moves_no_start(monkeypatch):
    import psutil

    before = myself()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert myself() == before
