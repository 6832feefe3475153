"""The cluster that Ray Data runs on: joined or started, and how much of it an actor takes."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from polypref.errors import MissingExtraError, UserError
from polypref.executors.ray_options import RayOptions

STARTS = 3
"""How often a Ray of this machine is started before that is given up."""
PATIENCE = 10.0
"""Seconds that workers have to end by themselves."""


@dataclass(frozen=True)
class Shares:
    """How many actors there may be, what each takes, and how many reading tasks feed them."""

    least: int
    most: int
    cpus: float
    gpus: float
    readers: int


def shares(options: RayOptions, nodes: list[dict[str, float]]) -> Shares:
    """What is asked for, and for what is not said: an actor a GPU, or an actor a node, and never more than half of a
    node's CPUs, since the reading tasks and the driver need some as well."""
    cpus, gpus = ([node.get(kind, 0.0) for node in nodes] for kind in ("CPU", "GPU"))
    wanted = options.gpus if options.gpus is not None else float(any(gpus))
    most = int(sum(gpus) / wanted) if wanted else len(nodes)
    least, most = options.actors or (1, max(most, 1))
    there = [count for node, count in zip(nodes, cpus, strict=True) if count and (not wanted or node.get("GPU"))]
    share = min(there, default=1.0) / (2 * math.ceil(most / max(len(there), 1)))
    return Shares(
        least=least,
        most=most,
        cpus=options.cpus or (share if share < 1 else 1.0 if wanted else float(int(share))),
        gpus=wanted,
        readers=max(1, min(8, int(sum(cpus)) // 2)),
    )


def misfit(wanted: Shares, nodes: list[dict[str, float]]) -> str | None:
    """Why the nodes can never hold the least number of actors; None where they can."""
    room = 0
    for node in nodes:
        fits = [int(node.get(kind, 0.0) / share + 1e-9) for kind, share in _needs(wanted).items()]
        room += min(fits, default=wanted.least)
    if room >= wanted.least:
        return None
    each = " and ".join(f"{share:g} {kind}" for kind, share in _needs(wanted).items())
    has = ", ".join(f"{sum(node.get(kind, 0.0) for node in nodes):g} {kind}" for kind in ("CPU", "GPU"))
    return f"{wanted.least} actors of {each} do not fit on the cluster's {len(nodes)} nodes ({has})"


def _needs(wanted: Shares) -> dict[str, float]:
    return {kind: share for kind, share in (("CPU", wanted.cpus), ("GPU", wanted.gpus)) if share}


class Cluster:
    """Joined or started when it is first needed. One that the caller had joined already is used and left as it is."""

    def __init__(self, options: RayOptions) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError("ray", "ray")
        self._options, self._ours = options, False

    def shares(self, warn: Callable[[str], None]) -> Shares:
        """Join the cluster and see how it is shared out.

        Raises:
            UserError: there is none, or the actors can never stand on this machine.
        """
        import ray

        if not ray.is_initialized():
            self._join()
        nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
        found = shares(self._options, nodes)
        if why := misfit(found, nodes):
            if self._ours and self._address == "local":
                raise UserError(f"{why}; ask for fewer actors, or for less of --ray cpus and gpus")
            warn(f"{why}; they are waited for")
        return found

    @property
    def _address(self) -> str:
        return self._options.address or os.environ.get("RAY_ADDRESS") or "local"

    def _join(self) -> None:
        # Nothing is reported to anybody, and what Ray's own processes say is in their log.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not self._options.verbose:
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        more: dict[str, Any] = {}
        if self._address == "local":
            more = {"include_dashboard": False}
            if self._options.object_store_mb is not None:
                more["object_store_memory"] = self._options.object_store_mb * 2**20
        for attempt in itertools.count(1):
            try:
                self._init(more)
                break
            except Exception as error:  # Ray's are of all kinds, some of them Exception itself
                first = str(error).strip().partition("\n")[0]
                # A machine that is busy may need more than the half minute that Ray gives itself to start.
                if attempt == STARTS or "timed out during startup" not in first:
                    raise UserError(
                        f"no Ray cluster can be used at {self._address} ({first}); start one with ray start --head, "
                        "set RAY_AUTH_MODE=token where it asks for a token, or leave the address out for a Ray of this "
                        "machine alone"
                    ) from error
        self._ours = True

    def _init(self, more: dict[str, Any]) -> None:
        import ray

        level = logging.INFO if self._options.verbose else logging.CRITICAL
        with _own_signals(), contextlib.nullcontext() if self._options.verbose else _hushed():
            try:
                ray.init(self._address, log_to_driver=self._options.verbose, logging_level=level, **more)
            except BaseException:
                ray.shutdown()
                raise

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Ray Data says nothing meanwhile, unless it was asked to."""
        import ray.data

        context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
        before = context.enable_progress_bars, context.print_on_execution_start, logger.level
        if not self._options.verbose:
            context.enable_progress_bars = context.print_on_execution_start = False
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            context.enable_progress_bars, context.print_on_execution_start = before[:2]
            logger.setLevel(before[2])

    def leave(self) -> None:
        """Leave the cluster that was joined here, or end the one that was started."""
        if self._ours:
            import ray

            with _own_signals(), workers_ended():
                ray.shutdown()
            self._ours = False


@contextlib.contextmanager
def workers_ended() -> Iterator[None]:
    """A worker may hang in the threads of its libraries when Ray bids it end; what is left of those that this process
    has started is killed after the block. Those of a cluster that was joined are children of others."""
    import psutil

    def is_worker(process: psutil.Process) -> bool:
        try:
            return any(part.startswith("ray::") for part in process.cmdline()[:1])
        except psutil.Error:
            return False

    workers = [child for child in psutil.Process().children(recursive=True) if is_worker(child)]
    yield
    for worker in psutil.wait_procs(workers, timeout=PATIENCE)[1]:
        with contextlib.suppress(psutil.Error):
            worker.kill()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; this process goes on to end by its own way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Nothing on stderr, not even from a library in C++: as it starts Ray tells its log level there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
