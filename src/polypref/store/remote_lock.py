"""One writer per run in an object store: a lock object with host, pid and a heartbeat.

A store has no lock that falls with its process. So the object is created exclusively (where the store can:
If-None-Match, ifGenerationMatch) and renewed by its holder. One without a sign of life for ten minutes, or of a dead
process of this host, is taken over, and that is said. A holder whose object is another's stops at its next write.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from polypref.errors import InputError, RunLockedError
from polypref.store.lock import LOCK_NAME, alive, myself
from polypref.store.places import speaks, store_errors

BEAT = 30.0
"""Seconds between two signs of life."""
BEAT_OF_COMMITS = 300.0
"""The same where each is a commit."""
SILENT = 600.0
"""Seconds without one after which a lock is taken over."""


class Lease:
    """The lock object while it is held. ``check`` is asked before every write."""

    def __init__(self, fs: Any, path: str, url: str) -> None:
        self._fs, self._path, self._url = fs, path, url
        self._mine = {**myself(), "id": uuid.uuid4().hex}
        self._signed = 0.0
        self._guard = threading.Lock()

    @property
    def beat(self) -> float:
        """Seconds between two signs of life."""
        return BEAT_OF_COMMITS if speaks(self._fs, "hf") else BEAT

    def take(self, warn: Callable[[str], None]) -> None:
        """Create the object.

        Raises:
            RunLockedError: somebody alive has it.
        """
        for _ in range(2):
            try:
                self._create()
            except FileExistsError:
                self._refuse_or_remove(warn)
                continue
            if (self._read() or {}).get("id") == self._mine["id"]:
                return
        raise RunLockedError(f"{self._url} is being taken by another process at this moment; wait for it")

    def check(self) -> None:
        """Renew the sign of life where it is old.

        Raises:
            RunLockedError: another process has taken the lock over.
        """
        with self._guard:
            if time.monotonic() - self._signed < self.beat:
                return
            holder = self._read()
            if holder is None or holder.get("id") != self._mine["id"]:
                by = f"process {holder.get('pid')} on host {holder.get('host')}" if holder else "hand"
                raise RunLockedError(f"the lock of {self._url} was taken over by {by}; this process writes no more")
            with store_errors(f"cannot write {self._url}/{LOCK_NAME}"):
                self._fs.pipe_file(self._path, self._content())
            self._signed = time.monotonic()

    def release(self) -> None:
        """Remove the object if it is ours."""
        with self._guard, store_errors(f"cannot write {self._url}/{LOCK_NAME}"):
            if (self._read() or {}).get("id") == self._mine["id"]:
                self._fs.rm_file(self._path)

    def _content(self) -> bytes:
        return json.dumps({**self._mine, "beat": time.time()}).encode()

    def _create(self) -> None:
        try:
            with store_errors(f"cannot write {self._url}/{LOCK_NAME}"):
                if speaks(self._fs, "file"):
                    with self._fs.open(self._path, "xb") as file:
                        file.write(self._content())
                else:
                    self._fs.pipe_file(self._path, self._content(), mode="create")
        except Exception as error:
            if isinstance(error.__cause__, FileExistsError):
                raise FileExistsError from None
            raise
        self._signed = time.monotonic()

    def _read(self) -> dict[str, Any] | None:
        """Who holds it; None when nobody does."""
        with store_errors(f"cannot read {self._url}/{LOCK_NAME}"):
            try:
                raw = self._fs.cat_file(self._path)
            except FileNotFoundError:
                return None
        try:
            found = json.loads(raw)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    def _refuse_or_remove(self, warn: Callable[[str], None]) -> None:
        holder = self._read()
        if holder is None:
            return
        pid, host, beat = holder.get("pid"), holder.get("host"), holder.get("beat")
        silent = time.time() - beat if isinstance(beat, int | float) else None
        here = host == self._mine["host"]
        if here and alive(holder):
            raise RunLockedError(f"{self._url} is being written by process {pid}; wait for it or choose another --out")
        if not here and (silent is None or silent < SILENT):
            when = "" if silent is None else f", whose last sign of life is {max(silent, 0):.0f} s old"
            raise RunLockedError(
                f"{self._url} is being written by process {pid} on host {host}{when}; wait for it. A lock is taken "
                f"over {SILENT / 60:.0f} minutes after its last sign, or when you remove {self._url}/{LOCK_NAME}"
            )
        gone = "which is gone" if here else f"which gave no sign for {silent:.0f} s"
        warn(f"took over the lock of process {pid} on host {host}, {gone}")
        with store_errors(f"cannot write {self._url}/{LOCK_NAME}"), contextlib.suppress(FileNotFoundError):
            if self._read() == holder:
                self._fs.rm_file(self._path)


@contextlib.contextmanager
def held(fs: Any, root: str, url: str, warn: Callable[[str], None]) -> Iterator[Lease]:
    """Hold the lock of a place while the block runs, with signs of life from a thread.

    Raises:
        RunLockedError: somebody alive has it.
        InputError: the store cannot be written.
    """
    lease = Lease(fs, f"{root}/{LOCK_NAME}", url)
    lease.take(warn)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(lease.beat):
            # What is wrong is said by the writer, at its next write, which looks itself.
            with contextlib.suppress(Exception):
                lease.check()

    thread = threading.Thread(target=beat, name="polypref-lease", daemon=True)
    thread.start()
    try:
        yield lease
    except BaseException:
        _end(over, thread)
        with contextlib.suppress(InputError):  # what went wrong inside is what is told
            lease.release()
        raise
    _end(over, thread)
    lease.release()


def _end(over: threading.Event, thread: threading.Thread) -> None:
    over.set()
    thread.join()
