"""A checkpoint folder that takes long to make: gone on with after a kill, named only when it is whole.

Its note holds the SHA-256 of every file, and a checkpoint stands when they are all right: weights with a flipped bit
are trained again, rather than scored with. Eight files are read at a time, once in a process.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from polypref.errors import InputError, PolyprefError
from polypref.store.atomic import file_digest, name_folder, told, write_json, write_text

NOTE = "polypref.json"
KEY = ".key"
DONE = ".done"


def standing(target: Path, key: str) -> dict[str, Any] | None:
    """The summary of the whole checkpoint of that key, None when there is none or a file of it is gone or damaged."""
    try:
        found = json.loads((target / NOTE).read_text(encoding="utf-8"))
        summary = dict(found["summary"])
        whole = found["key"] == key and _digests(target, found["files"]) == found["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return summary if whole else None


def damaged(target: Path) -> list[str]:
    """The files of a checkpoint that are not as its note says, the note itself where it cannot be read."""
    try:
        noted = dict(json.loads((target / NOTE).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return [NOTE]
    there = [name for name in noted if (target / name).is_file()]
    found = _digests(target, there)
    return [name for name, digest in noted.items() if found.get(name) != digest]


def build(target: Path, key: str, work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Let ``work`` fill an unfinished folder beside ``target`` and rename it; gives work's summary.

    A folder that an interrupted call left for the same key is given to ``work`` again, any other is begun anew. One
    that was whole lacks its name alone, and what stands under the name already is given back; both without ``work``.
    Of several processes that call this (a script under ``accelerate launch``) only the first writes and renames, and
    all of them come to the same: the folder is whole under one of its two names, or none has begun to work.

    Raises:
        InputError: the place cannot be written, or holds something else.
    """
    unfinished = target.parent / f".unfinished-{target.name}"
    first = int(os.environ.get("RANK", "0")) == 0
    try:
        if target.is_dir() and any(target.iterdir()) and not (target / NOTE).exists():
            raise InputError(f"{target} holds files that are no checkpoint of polypref; name a new folder")
        summary = standing(unfinished, key)
        if summary is None:
            if (found := standing(target, key)) is not None:  # asked last: a first process may just have named it
                return found
            if (summary := _worked(unfinished, key)) is None:
                if first:
                    _begin(unfinished, key)
                summary = work(unfinished)
                if first:
                    _end(unfinished, key, summary)
            if first:
                _note(unfinished, key, summary)
        if first:
            (unfinished / DONE).unlink(missing_ok=True)
            (unfinished / KEY).unlink(missing_ok=True)
            name_folder(unfinished, target)
    except OSError as error:
        ours = error.filename is not None and Path(error.filename).is_relative_to(target.parent)
        if ours or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise told(error, target) from error
        raise
    except PolyprefError:
        raise
    except Exception as error:  # writers in other languages tell the system's words, and no number
        if os.strerror(errno.ENOSPC) in str(error):
            raise told(OSError(errno.ENOSPC, ""), target) from error
        raise
    return summary


def _worked(unfinished: Path, key: str) -> dict[str, Any] | None:
    """The summary of work for that key that came to its end, and whose files have no note yet; None of any other."""
    try:
        found = json.loads((unfinished / DONE).read_text(encoding="utf-8"))
        return dict(found["summary"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _end(unfinished: Path, key: str, summary: dict[str, Any]) -> None:
    """Say that the work is done, before its files are digested: of large models that takes minutes."""
    for path in unfinished.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    write_json(unfinished / DONE, {"key": key, "summary": summary})


def _note(unfinished: Path, key: str, summary: dict[str, Any]) -> None:
    """What makes a folder a checkpoint, whatever its name is yet."""
    paths = (path.relative_to(unfinished) for path in sorted(unfinished.rglob("*")) if path.is_file())
    names = [path.as_posix() for path in paths if path.as_posix() not in (NOTE, KEY, DONE)]
    write_json(unfinished / NOTE, {"key": key, "summary": summary, "files": _digests(unfinished, names)})


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each file of a folder."""

    def read(name: str) -> str:
        stat = (folder / name).stat()
        return _digest(folder / name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    names = list(names)
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(read, names), strict=True))


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, *identity: int) -> str:
    return file_digest(path)


def _begin(unfinished: Path, key: str) -> None:
    if unfinished.exists():
        note = unfinished / KEY
        if note.exists() and note.read_text(encoding="utf-8") == key:
            return
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    write_text(unfinished / KEY, key)
