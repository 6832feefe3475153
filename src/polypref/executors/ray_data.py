"""Run a stage over the units of a track by Ray Data, on one machine or many.

    units that wait ─► reading tasks ─► batches ─► actors with the models ─► rows ─► a unit's file once it is whole

Reading tasks run on the driver's node and take no CPU: they can be starved by no actor, and no other node need see the
run's folder. The driver holds the rows of units that are not whole, and such a unit has a batch with an actor or in a
queue before one, so memory does not grow with the run. What Ray loses it does again: a dead actor its batches, a dead
node what lay on it. What it cannot is begun anew here, over the units whose files do not stand by then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pickle
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from polypref.backends.base import ModelSpec, Progress
from polypref.errors import InternalError, UserError
from polypref.executors import local
from polypref.executors.ray_cluster import Cluster, Shares
from polypref.executors.ray_options import RayOptions
from polypref.executors.ray_work import Actor, Home, Ledger, batches_of
from polypref.executors.units import Layer, Row, Task, Unit, units, write
from polypref.store.shards import Track

ATTEMPTS = 3
"""How often in a row the pipeline is begun anew without a unit of it having become whole."""


class RayExecutor:
    """Works on the layers that have a ``task`` in actors, on the others in this process."""

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self._cluster = Cluster(options)
        self._ledger: Any = None

    def map_units(
        self, track: Track, layer: Layer, progress: Progress, warn: Callable[[str], None] = lambda message: None
    ) -> int:
        """See ``Executor``.

        Raises:
            UserError: what the stage raised in an actor, no cluster, or one that loses every actor.
        """
        if layer.task is None or layer.whole_language:
            return local.map_units(track, layer, progress)
        waiting = {(u.name, u.index): u for u in units(track, layer) if u.waits(layer.retry)}
        total, count, attempts = len(track.units(layer.scope)) * track.count, len(waiting), 0
        progress(layer.name, total - count, total)
        while waiting:
            left = len(waiting)
            try:
                for unit, rows in self._whole(track, layer, layer.task, list(waiting.values()), progress, warn):
                    write(track.file(layer.name, unit.name, unit.index), unit, rows)
                    del waiting[unit.name, unit.index]
                    progress(layer.name, total - len(waiting), total)
                if waiting:
                    raise InternalError(f"{layer.name}: Ray gave back all but {len(waiting)} of {left} units")
            except Exception as error:
                attempts = attempts + 1 if len(waiting) == left else 1
                self._lost(error, attempts, warn)
        track.trim(layer.name)
        return count

    def _lost(self, error: Exception, attempts: int, warn: Callable[[str], None]) -> None:
        """Go on after what Ray itself could not mend.

        Raises:
            UserError: it has failed too often in a row.
        """
        from ray.exceptions import RayError

        if not isinstance(error, RayError):
            raise error
        first = str(error).strip().partition("\n")[0]
        if attempts >= ATTEMPTS:
            raise UserError(
                f"Ray lost the work {attempts} times in a row (the last time: {first}); look at Ray's log for why its "
                "processes die, give an actor more memory or a smaller batch, and run the same command again"
            ) from error
        warn(f"Ray lost what was in work ({first}); it is begun anew")

    def _whole(
        self,
        track: Track,
        layer: Layer,
        task: Task,
        waiting: Sequence[Unit],
        progress: Progress,
        warn: Callable[[str], None],
    ) -> Iterator[tuple[Unit, list[Row]]]:
        """The units as they become whole, in any order, with their rows in order."""
        shares = self._cluster.shares(warn)
        found: dict[tuple[str, int], dict[int, list[Row]]] = {}
        named = {(unit.name, unit.index): unit for unit in waiting}
        done = 0
        with contextlib.closing(self._batches(track, layer, task, waiting, shares)) as batches:
            for batch in batches:
                for message in batch["said"] or ():
                    warn(message)
                for message in batch["warned"] or ():
                    warnings.warn(message, stacklevel=1)
                if batch["error"] is not None:
                    raise pickle.loads(batch["error"])
                unit, rows = named[batch["name"], batch["index"]], pickle.loads(batch["content"])
                parts = found.setdefault((unit.name, unit.index), {})
                parts[batch["start"]] = rows
                done += len(rows)
                progress(task.function.rpartition(":")[2], done, None)
                if sum(map(len, parts.values())) == batch["total"]:
                    del found[unit.name, unit.index]
                    yield unit, list(itertools.chain.from_iterable(parts[start] for start in sorted(parts)))

    def _batches(
        self, track: Track, layer: Layer, task: Task, waiting: Sequence[Unit], shares: Shares
    ) -> Generator[dict[str, Any], None, None]:
        """The batches that come back from the actors."""
        import ray.data

        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        # Ray Data restarts actors and gives their batches out again without end; one that kills them all is found here.
        if self._ledger is None:
            self._ledger = ray.remote(Ledger).options(num_cpus=0, label_selector=here).remote(self.options.retries)
        track = dataclasses.replace(track, root=track.root.absolute())
        rows = [{"unit": pickle.dumps(unit)} for unit in waiting]
        blocks = min(len(rows), 64)
        with self._cluster.quiet():
            data = ray.data.from_items(rows, override_num_blocks=blocks)
            data.context.target_max_block_size = 1  # a block a batch: what an actor is given, and what its death costs
            told = {"track": track, "layer": layer.name, "scope": layer.scope, "size": self.options.batch}
            data = data.map_batches(
                batches_of,
                fn_kwargs=told,
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.TaskPoolStrategy(size=shares.readers),
                num_cpus=0,
                label_selector=here,
            ).map_batches(
                Actor,
                fn_constructor_kwargs={"task": task, "home": _home(task), "ledger": self._ledger, "layer": layer.name},
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=shares.least, max_size=shares.most),
                num_cpus=shares.cpus,
                num_gpus=shares.gpus,
            )
            for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from table.to_pylist()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ledger = None
        self._cluster.leave()


def _home(task: Task) -> Home:
    """What an actor must find where it stands: the models' files that the driver has."""
    specs: list[ModelSpec] = []
    _collect(task.options, specs)
    named = [name for spec in specs if spec.backend in ("hf", "vllm") for name in (spec.path, spec.adapter) if name]
    return Home(str(Path.cwd()), tuple(sys.path), tuple(dict.fromkeys(name for name in named if Path(name).exists())))


def _collect(value: Any, specs: list[ModelSpec]) -> None:
    """Every model that is named somewhere in an options tree."""
    if isinstance(value, ModelSpec):
        specs.append(value)
    elif hasattr(type(value), "model_fields"):
        for name in type(value).model_fields:
            _collect(getattr(value, name), specs)
    elif isinstance(value, Mapping):
        for below in value.values():
            _collect(below, specs)
    elif isinstance(value, list | tuple):
        for below in value:
            _collect(below, specs)
