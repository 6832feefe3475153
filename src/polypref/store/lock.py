"""One writer per run: a lock file that names pid, start time and host, held by the kernel while its process lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polypref.errors import RunLockedError
from polypref.store.atomic import told

LOCK_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold ``folder``'s lock while the block runs.

    A lock whose process is gone (no such pid on this host, or another process has its pid now) is taken over, and said.

    Raises:
        RunLockedError: a live process, or one on another host that cannot be asked, holds it.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path, folder)
    except OSError as error:
        raise told(error, path) from error
    try:
        _refuse_or_take_over(_read(handle), path, folder, warn)
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(myself()).encode(), 0)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise told(error, path) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: who waits for it sees another file under the name
    finally:
        os.close(handle)


def _acquire(path: Path, folder: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(handle) or {}
            os.close(handle)
            raise RunLockedError(
                f"{folder} is being written by process {holder.get('pid', '?')}; wait for it or choose another --out"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        os.close(handle)  # its last holder removed the name between our open and our lock


def _refuse_or_take_over(holder: dict[str, Any] | None, path: Path, folder: Path, warn: Callable[[str], None]) -> None:
    if holder is None:
        return
    pid, host = holder.get("pid"), holder.get("host")
    if host != socket.gethostname():
        raise RunLockedError(
            f"{folder} is being written by process {pid} on host {host}; wait for it, or if it is dead remove {path}"
        )
    if alive(holder):
        raise RunLockedError(f"{folder} is being written by process {pid}; wait for it or choose another --out")
    warn(f"took over the lock of process {pid}, which is gone")


def myself() -> dict[str, Any]:
    """This process, as a lock names it."""
    return {"pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname()}


def alive(holder: dict[str, Any]) -> bool:
    """Whether the process that a lock names, of this host, lives: its pid does, and began when the lock's did."""
    pid, started = holder.get("pid"), holder.get("started")
    now = _started(pid) if isinstance(pid, int) and not isinstance(pid, bool) and pid > 0 else None
    return now is not None and started in (None, now)


def _started(pid: int) -> str | None:
    """When a process of this host started, None when there is none.

    On Linux in ticks since a boot with that name, which a clock that is set does not move.
    """
    import psutil

    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        # The 3rd field of the line and the 22nd; the 2nd is the name, which may hold anything. Z waits to be reaped.
        return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    except (OSError, IndexError):
        pass
    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return None


def _read(handle: int) -> dict[str, Any] | None:
    try:
        found = json.loads(os.pread(handle, 65536, 0))
    except (ValueError, RecursionError):
        return None  # empty: its maker was killed before it could sign, and the kernel has let go of it
    return found if isinstance(found, dict) else None
