"""A run in an object store: worked on in a folder here, and kept in step with the store.

Every file that became whole here is put there at once, in that order; a checkpoint's note after its other files; the
manifest after everything else that changed, what was removed included. So what a kill leaves in the store is a run that
was killed a little earlier, and any machine goes on with it. At the start what the store has and the folder has not, or
has otherwise, is fetched whole: a run reads all of it anyway, since its keys are digests of the files.

What the folder has of the store's objects is noted in the folder (``.store.jsonl``), by what the store tells of each
(``places.mark``). In the store stand the run's own files and the lock, nothing else; names with a dot are not put.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from polypref.store import atomic, places
from polypref.store.checkpoint import NOTE
from polypref.store.hub_commits import commit
from polypref.store.remote_lock import Lease, held
from polypref.store.urls import is_url, restored

NOTES = ".store.jsonl"
PARTIAL = ".partial"
"""An object beside the files of a checkpoint that is being put; a folder that has it is not fetched."""
MANIFEST = "manifest.json"


@contextlib.contextmanager
def working_folder(out: Path | str, warn: Callable[[str], None]) -> Iterator[Path]:
    """The folder to work in: ``out`` itself, or where it is a URL one here that is kept in step with it.

    Raises:
        RunLockedError: another process writes the place.
        InputError: the store cannot be read or written; what was finished stays here, and goes there the next time.
    """
    if not is_url(out):
        yield Path(out)
        return
    url = restored(out).rstrip("/")
    fs, root = places.opened(url)
    folder = places.cache() / "runs" / places.named(url)
    with held(fs, root, url, warn) as lease:
        mirror = Mirror(fs, root, url, folder, lease)
        mirror.fetch(warn)
        with atomic.followed(mirror.follow):
            yield folder
        mirror.step()


class Mirror:
    """A folder and a place in a store that follows it."""

    def __init__(self, fs: Any, root: str, url: str, folder: Path, lease: Lease) -> None:
        self._fs, self._root, self._url = fs, root, url
        self._folder = folder.absolute()
        self._lease = lease
        self._known: dict[str, dict[str, Any]] = {}
        """By name: the store's mark, and size and times of the file that it belongs to."""
        self._guard = threading.RLock()
        self._commits = places.speaks(fs, "hf") and not root.startswith("buckets/")

    def fetch(self, warn: Callable[[str], None]) -> None:
        """Bring the folder to where the store is; what was finished here and never put stays, as does everything where
        the store is empty: this may be the only copy."""
        self._folder.mkdir(parents=True, exist_ok=True)
        before = self._remembered()
        self._known = {}
        with places.store_errors(f"cannot read {self._url}"):
            there = places.listed(self._fs, self._root)
        partial = [name.removesuffix(PARTIAL) for name in there if PurePosixPath(name).name == PARTIAL]
        here = self._files()
        marks: dict[str, str] = {}
        for name, info in there.items():
            if _hidden(name):
                continue
            if any(name.startswith(folder) for folder in partial):
                self._known[name] = {"mark": ""}  # removed, or put again, by the next step
                continue
            marks[name] = places.mark(info)
            if name in here and before.get(name, {}).get("mark") == marks[name]:
                self._known[name] = before[name]
        lost = before.keys() - there.keys()
        if any(not _hidden(name) for name in there):
            for name in lost:
                (self._folder / name).unlink(missing_ok=True)  # another machine has removed it since
        elif lost:
            warn(f"{self._url} is empty; what is in {self._folder} is put there again")
        missing = [name for name in marks if name not in self._known]

        def fetch(name: str) -> None:
            target = self._folder / name
            places.fetch_file(self._fs, f"{self._root}/{name}", target, f"{self._url}/{name}")
            with self._guard:
                self._note(name, {"mark": marks[name], "file": _identity(target)})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(fetch, missing))
        notes = "".join(json.dumps({"name": name, **known}) + "\n" for name, known in self._known.items())
        atomic.write_text(self._folder / NOTES, notes)

    def follow(self, path: Path) -> None:
        """Put what became whole here."""
        path = path.absolute()
        if not path.is_relative_to(self._folder):
            return
        name = path.relative_to(self._folder).as_posix()
        if _hidden(name):
            return
        with self._guard:
            if self._commits:
                if name == MANIFEST:
                    self.step()  # a commit a file would be too many for the hub
            elif path.is_dir():
                self._put_folder(name)
            elif name == MANIFEST:
                self.step()
            else:
                self._put(name)

    def step(self) -> None:
        """Put and remove whatever differs; the manifest last."""
        with self._guard:
            here = self._files()
            changed = [name for name, identity in here.items() if self._known.get(name, {}).get("file") != identity]
            if self._commits:
                self._commit({name: here[name] for name in changed}, sorted(self._known.keys() - here.keys()))
                return
            changed.sort(key=lambda name: (here[name][1], name))
            checkpoints = {folder for name in changed if (folder := self._checkpoint_of(name, here))}
            for folder in sorted(checkpoints):
                self._put_folder(folder)
            for name in changed:
                if name != MANIFEST and not self._checkpoint_of(name, here):
                    self._put(name)
            self._remove(self._known.keys() - here.keys())
            if MANIFEST in changed:
                self._put(MANIFEST)

    def _checkpoint_of(self, name: str, here: Iterable[str]) -> str | None:
        """The outermost folder with a note that a file is in."""
        parents = (str(parent) for parent in reversed(PurePosixPath(name).parents))
        return next((folder for folder in parents if f"{folder}/{NOTE}" in here), None)

    def _commit(self, changed: dict[str, list[int]], gone: Iterable[str]) -> None:
        """Everything at once: the hub has all of it or nothing."""
        gone = list(gone)
        if not changed and not gone:
            return
        self._lease.check()
        with places.store_errors(f"cannot write {self._url}"):
            commit(self._fs, self._root, {name: self._folder / name for name in changed}, gone)
            there = places.listed(self._fs, self._root)
        for name, identity in changed.items():
            self._note(name, {"mark": places.mark(there[name]), "file": identity})
        for name in gone:
            self._note(name, None)

    def _put_folder(self, folder: str) -> None:
        here = [name for name in self._files() if name.startswith(f"{folder}/")]
        stale = [name for name in self._known if name.startswith(f"{folder}/") and name not in here]
        partial = f"{folder}/{PARTIAL}"
        self._lease.check()
        with places.store_errors(f"cannot write {self._url}/{partial}"):
            self._fs.pipe_file(f"{self._root}/{partial}", b"")
        self._remove(stale)
        for name in sorted(here, key=lambda name: (name.endswith(f"/{NOTE}"), name)):
            self._put(name)
        with places.store_errors(f"cannot write {self._url}/{partial}"):
            self._fs.rm_file(f"{self._root}/{partial}")

    def _put(self, name: str) -> None:
        path = self._folder / name
        identity = _identity(path)
        if self._known.get(name, {}).get("file") == identity:
            return
        self._lease.check()
        info = places.put_file(self._fs, path, f"{self._root}/{name}", f"{self._url}/{name}")
        self._note(name, {"mark": places.mark(info), "file": identity})

    def _remove(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._lease.check()
            with places.store_errors(f"cannot write {self._url}/{name}"), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._root}/{name}")
            self._note(name, None)

    def _files(self) -> dict[str, list[int]]:
        """The files here that stand under names of their own, with what tells one content from another."""
        found = {}
        for path in self._folder.rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            if not _hidden(name) and path.is_file():
                found[name] = _identity(path)
        return found

    def _remembered(self) -> dict[str, dict[str, Any]]:
        """What the folder had of the store when it was last in step; a torn line ends it."""
        found: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            for line in (self._folder / NOTES).read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                found.pop(entry["name"], None)
                if entry.get("mark"):
                    found[entry["name"]] = {"mark": entry["mark"], "file": entry["file"]}
        return found

    def _note(self, name: str, known: dict[str, Any] | None) -> None:
        if known is None:
            self._known.pop(name, None)
        else:
            self._known[name] = known
        notes = self._folder / NOTES
        try:
            with notes.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, **(known or {})}) + "\n")
        except OSError as error:
            raise atomic.told(error, notes) from error


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _identity(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]
