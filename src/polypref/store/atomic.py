"""Files that are whole or absent: written under a name that begins with a dot, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polypref.errors import InputError
from polypref.store.urls import is_url, restored

TEMPORARY_PREFIX = ".tmp-"

_followers: list[Callable[[Path], None]] = []


@contextlib.contextmanager
def followed(by: Callable[[Path], None]) -> Iterator[None]:
    """While the block runs, every file and folder of this process that became whole is told, in that order."""
    _followers.append(by)
    try:
        yield
    finally:
        _followers.remove(by)


def _tell(path: Path) -> None:
    for follow in tuple(_followers):
        follow(path)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def told(error: OSError, path: Path) -> InputError:
    """An operating-system error while writing ``path``, as one sentence with the fix."""
    why = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "it may not be written; choose a folder that you own",
        errno.EROFS: "it is on a read-only file system; choose another place",
        errno.EISDIR: "it is a folder; name a file",
        errno.ENOTDIR: "a part of its path is a file; choose another place",
        errno.EEXIST: "a part of its path is a file; choose another place",
    }
    return InputError(f"cannot write {path}: {why.get(error.errno or 0, error.strerror or str(error))}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; when the block ends well the file is synced and takes the name, else it goes.

    Raises:
        InputError: the place cannot be written (full disk, read-only, a folder stands there).
    """
    path = Path(path)
    _refuse_name(path)
    temporary: Path | None = None
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        temporary = _begun(path)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (path, path.parent, temporary):
            raise  # the block's own trouble with another file
        raise told(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            for folder in made:
                with contextlib.suppress(OSError):  # another has put something there
                    folder.rmdir()
    _tell(path)


def _begun(path: Path) -> Path:
    """An empty temporary file beside ``path``."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = f"-{path.name}"[-80:] + ".part"
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=ending, dir=path.parent)
    except OSError as error:
        raise told(error, path) from error
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``; when the block ends well it takes the name, an older one goes.

    A kill between the two renames leaves no folder of that name, never half of one.
    """
    path = Path(path)
    _refuse_name(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, suffix=f"-{path.name}", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        name_folder(temporary, path)
        temporary = None
    except OSError as error:
        raise told(error, path) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def name_folder(made: Path, path: Path) -> None:
    """Sync a folder that is whole and give it the name of one beside it; an older one of that name goes.

    Raises:
        OSError: the place cannot be written.
    """
    for file in sorted(made.rglob("*")):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
        os.replace(path, old / path.name)
        os.replace(made, path)
        shutil.rmtree(old)
    else:
        os.replace(made, path)
    _sync_folder(path.parent)
    _tell(path)


def _refuse_name(path: Path) -> None:
    """No file can have a NUL in its name, and a place by URL would silently become a folder here."""
    if "\0" in str(path):
        raise InputError(f"cannot write {str(path)!r}: a name may not hold a NUL character; choose another")
    if is_url(path):
        raise InputError(
            f"{restored(path)} is a place by URL, which is not written here; name a path and copy it there"
        )


def check_target(path: Path) -> None:
    """Refuse a file that plainly cannot be written, before the work whose outcome it shall hold.

    Raises:
        InputError: a folder stands there, or the place is no folder of the user's.
    """
    _refuse_name(path)
    if path.is_dir():
        raise told(IsADirectoryError(errno.EISDIR, "is a folder"), path)
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise told(NotADirectoryError(errno.ENOTDIR, "is a file"), path)
    if not os.access(there, os.W_OK):
        raise told(PermissionError(errno.EACCES, "may not be written"), path)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written under ``folder``; only the holder of its lock may."""
    for left in sorted(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file at once."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file at once: keys in the given order, two spaces, no NaN."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
