"""What was asked and answered, kept at once and for good: an append-only file of JSON Lines, an entry a line.

    {"key": "3f9a…", "value": {"text": "[[A]]", …}}

Every entry is one ``write`` to a file opened for appending, so that a process killed at any moment loses no entry but
the one that it was writing; its torn line is cut off at the next start, and said. The file is synced when it is closed,
not at every entry: a machine that goes down may lose what the system had not yet written.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from polypref.errors import InputError, RunLockedError
from polypref.records import dumps
from polypref.store.atomic import told
from polypref.store.jsonl import parse_line


class Journal:
    """A ``backends.base.Recall`` that outlives its process. One process writes it at a time; any thread may.

    Values stay in the file, and only their places are in memory. Of entries with the same key the last one counts.

    Raises:
        RunLockedError: another process writes it.
        InputError: it cannot be written, or a line is no entry of a journal (``file:line``).
    """

    def __init__(self, path: Path | str, warn: Callable[[str], None] = lambda message: None) -> None:
        self.path = Path(path)
        self._guard = threading.Lock()
        self._places: dict[str, tuple[int, int]] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise told(error, self.path) from error
        try:
            self._lock()
            self._end = self._load(warn)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._places)

    def get(self, key: str) -> Any:
        """The value of a key; None where there is none."""
        with self._guard:
            place = self._places.get(key)
        return None if place is None else json.loads(os.pread(self._file, place[1], place[0]))["value"]

    def put(self, key: str, value: Any) -> None:
        """Append an entry with one write.

        Raises:
            InputError: the disk is full, or refuses.
        """
        line = dumps({"key": key, "value": value}).encode() + b"\n"
        with self._guard:
            try:
                if (written := os.write(self._file, line)) < len(line):
                    raise OSError(errno.ENOSPC, "written in part")
            except OSError as error:
                os.ftruncate(self._file, self._end)  # or the next entry would stand on the torn line
                raise told(error, self.path) from error
            self._places[key] = self._end, written
            self._end += written

    def close(self) -> None:
        """Sync it and let it go."""
        os.fsync(self._file)
        os.close(self._file)

    def _lock(self) -> None:
        """By the kernel, on the journal itself: the lock falls with its process."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLockedError(f"{self.path} is being written by another process; wait for it") from None

    def _load(self, warn: Callable[[str], None]) -> int:
        """Find the entries; gives the place of the next."""
        end = 0
        with open(os.dup(self._file), "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, end)
                    warn(f"{self.path.name}:{number}: the last entry was cut off by a kill and is dropped")
                    break
                self._places[self._key(line, f"{self.path.name}:{number}")] = end, len(line)
                end += len(line)
        return end

    def _key(self, line: bytes, where: str) -> str:
        entry = parse_line(line, where)
        if not isinstance(entry, dict) or not isinstance(entry.get("key"), str) or "value" not in entry:
            raise InputError(
                f"{where}: no entry of a journal; it has key and value. Remove the line, and it is asked again"
            )
        return str(entry["key"])
