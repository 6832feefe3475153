"""What happens in Ray's processes: units are read and cut into batches, and actors that hold the models work on them.

A row of the data set is a batch: ``name``, ``index`` and ``total`` of its unit, ``start`` (the position of its first
example), and ``content``, its pickled parts, afterwards its pickled rows. ``error`` is an exception that ends the run,
pickled as well: in the driver it shall be the one that the local executor raises. ``said`` is what the stage said to
``context.warn``, ``warned`` what it said by Python's warnings.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import polypref
from polypref import registry
from polypref.errors import InternalError, ModelError, PolyprefError, UserError
from polypref.executors.units import Reader, Task, Unit, worked
from polypref.store.shards import Scope, Track

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("index", pa.int64()),
        ("start", pa.int64()),
        ("total", pa.int64()),
        ("content", pa.large_binary()),
        ("error", pa.large_binary()),
        ("said", pa.list_(pa.string())),
        ("warned", pa.list_(pa.string())),
    ]
)


def _row(**values: Any) -> pa.Table:
    return pa.Table.from_pylist([values], schema=SCHEMA)


def _pickled(error: Exception) -> bytes:
    """The exception; one that is no sentence of ours with the lines it came from, which do not travel of themselves."""
    if not isinstance(error, PolyprefError):
        error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:  # an exception may be of any make
        return pickle.dumps(InternalError(f"{type(error).__name__} in a process of Ray: {error}"))
    return pickled


def batches_of(table: pa.Table, track: Track, layer: str, scope: Scope, size: int) -> Iterator[pa.Table]:
    """Read the units that the rows name (``unit``: pickled), each as batches of ``size`` examples, a row each."""
    read = Reader(track, layer, scope)
    for pickled in table["unit"].to_pylist():
        unit: Unit = pickle.loads(pickled)
        try:
            parts = read(unit)
        except Exception as error:
            yield _row(name=unit.name, index=unit.index, error=_pickled(error))
            continue
        for start in range(0, len(parts), size):
            content = pickle.dumps(parts[start : start + size])
            yield _row(name=unit.name, index=unit.index, start=start, total=len(parts), content=content)


@dataclass(frozen=True)
class Home:
    """Where the driver stands: its working folder, where it finds modules (a user's scorer), and the models' files and
    folders that it sees."""

    folder: str
    modules: tuple[str, ...]
    paths: tuple[str, ...]

    def enter(self) -> None:
        """Stand where the driver stands, so that a relative path means the same.

        Raises:
            ModelError: this node does not see a model of the driver's.
        """
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path += [place for place in self.modules if place not in sys.path]
        for path in self.paths:
            if not Path(path).exists():
                raise ModelError(
                    f"the node {os.uname().nodename} does not find {path}, which this machine has; put the run and "
                    "its models on a file system that all nodes share"
                )


def _ours(heard: Sequence[warnings.WarningMessage]) -> list[str]:
    """What polypref warned of, and no library."""
    place = f"{Path(polypref.__file__).parent}{os.sep}"
    return [str(one.message) for one in heard if one.category is UserWarning and one.filename.startswith(place)]


class Ledger:
    """Counts how often each batch was begun, where no actor's death reaches it."""

    def __init__(self, retries: int) -> None:
        self._most, self._begun = 1 + retries, Counter[tuple[str, str, int, int]]()

    def begin(self, layer: str, name: str, index: int, start: int) -> None:
        """Note that a batch is begun.

        Raises:
            UserError: it was begun too often: whoever worked on it died.
        """
        place = layer, name, index, start
        self._begun[place] += 1
        if self._begun[place] > self._most:
            raise UserError(
                f"{layer}: whoever works on {name}, shard {index}, from example {start} on dies of it, "
                f"{self._most} times so far; most often memory is short: ask for a smaller batch, or for fewer actors"
            )


class Actor:
    """Holds the models of a layer and works on one batch at a time."""

    def __init__(self, task: Task, home: Home, ledger: Any, layer: str) -> None:
        self._home, self._ledger, self._layer, self._said = home, ledger, layer, list[str]()
        context, _ = registry.context(task.languages, task.pivot, task.identifier, warn=self._said.append)
        self._work = task.bound(context)

    def __call__(self, table: pa.Table) -> pa.Table:
        [batch] = table.to_pylist()
        if batch["error"] is not None:
            return table
        try:
            self._home.enter()
            self._begin(batch)
            with warnings.catch_warnings(record=True) as heard:
                rows = worked(self._work, batch["name"], pickle.loads(batch["content"]))
            batch |= {"content": pickle.dumps(rows), "said": list(self._said), "warned": _ours(heard)}
        except Exception as error:
            batch |= {"content": None, "error": _pickled(error)}
        self._said.clear()
        return pa.Table.from_pylist([batch], schema=SCHEMA)

    def _begin(self, batch: dict[str, Any]) -> None:
        import ray
        from ray.exceptions import RayTaskError

        try:
            ray.get(self._ledger.begin.remote(self._layer, batch["name"], batch["index"], batch["start"]))
        except RayTaskError as error:
            raise UserError(str(error.cause)) from None
