"""Several processes of one launch (``accelerate launch``, torchrun): the first one works, the others follow it.

The first process runs the command alone and alone writes. Where a model of this machine is asked for many answers or
scores, the call is cut into as many slices as there are processes, and each takes its own on its own device. A training
is one call that all of them make together. Between the calls the followers wait, for days if need be.

What is said between them goes over a gloo group of its own, whatever backend trains; a follower's last words lie in a
store of the first process, which looks there whenever a call breaks off.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from polypref.backends.base import Role
from polypref.errors import InternalError, ModelError, PolyprefError

PATIENCE = timedelta(days=365)
"""How long a follower waits for the next call."""

MEASURE = timedelta(days=1)
"""How long one process of a training waits for another, which may ask a server's judge meanwhile."""

SLICED: dict[str, str] = {"generator": "generate", "logprobs": "logprobs", "scorer": "score"}
"""The methods whose first argument is a list, and whose result is one thing for each of it, in order."""

OPENER = "opener"


def count() -> int:
    """The processes of this launch; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process' place among them, 0 for the first."""
    return int(os.environ.get("RANK", "0"))


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A method of what a context opens, as a function: sent to another process it opens there with that one's own."""

    open: Any
    role: Role
    spec: Any
    method: str

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        return list(getattr(self.open(self.role, self.spec), self.method)(items))


def nobody(*args: Any, **kwargs: Any) -> None:
    """What a follower calls in the place of a function that only the first process has: progress, a measure."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What all processes do together. ``settings`` make a follower's opener the first process' own."""

    kind: str  # slice, together or release
    settings: tuple[Any, ...] = ()
    role: Any = None
    spec: Any = None
    method: str = ""
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, opener: Any) -> None:
        super().__init__(file)
        self._opener = opener

    def persistent_id(self, obj: Any) -> str | None:
        return OPENER if obj is self._opener and obj is not None else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, opener: Any) -> None:
        super().__init__(file)
        self._opener = opener

    def persistent_load(self, pid: str) -> Any:
        return self._opener


class Crew:
    """The processes of a launch, as one of them sees them."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist
        from accelerate import PartialState

        # Whatever starts a training later finds this state and its process group.
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=MEASURE)
        self.rank, self.count = state.process_index, state.num_processes
        self.group = dist.new_group(backend="gloo", timeout=PATIENCE)
        host = os.environ["MASTER_ADDR"]
        own = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False) if self.rank == 0 else None
        port = self.tell(own.port if own is not None else None)
        self.store = own or dist.TCPStore(host, port, is_master=False, wait_for_workers=False)
        self.busy = False
        """Whether a call is being made, so that what it calls in turn is this process' own affair."""
        self.broken = False

    # --- talk ------------------------------------------------------------------------------------------------------

    def tell(self, said: Any) -> Any:
        """What the first process says, to all of them."""
        import torch.distributed as dist

        box = [said]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gather(self, own: Any) -> list[Any]:
        """What each process says, in order, to the first one; the others get nothing."""
        import torch.distributed as dist

        every: list[Any] | None = [None] * self.count if self.rank == 0 else None
        dist.gather_object(own, every, dst=0, group=self.group)
        return every or []

    # --- the first process -----------------------------------------------------------------------------------------

    def call(self, call: _Call, opener: Any, work: Callable[[], Any]) -> Any:
        """Let the followers make a call, and do this process' part of it.

        Raises:
            PolyprefError: what a follower failed of, or that one is gone.
        """
        if self.broken:
            raise ModelError("the processes of this launch have parted after an error; start the command again")
        file = io.BytesIO()
        _Pickler(file, opener).dump(call)
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,), daemon=True)
        self.busy = True
        watch.start()
        try:
            self.tell((call.settings, file.getvalue()))
            return work()
        except BaseException as error:
            self.broken = True
            if lost := self._last_words():
                raise lost from None
            if isinstance(error, RuntimeError) and "gloo" in str(error).lower():
                raise ModelError(
                    "a process of this launch has ended without a word (killed, or out of memory); the launcher says "
                    "which, and the same command goes on from here"
                ) from error
            raise
        finally:
            self.busy = False
            done.set()
            watch.join()

    def _last_words(self) -> PolyprefError | None:
        """Why a follower has left; None where none has said so."""
        for other in range(1, self.count):
            with contextlib.suppress(Exception):  # the store may be gone as well
                if self.store.check([str(other)]):
                    return _error(pickle.loads(self.store.get(str(other))), other)
        return None

    def _watch(self, done: threading.Event) -> None:
        """End this process where a follower has left and the call does not notice, as with NCCL, which waits on."""
        while not done.wait(2.0):
            lost = self._last_words()
            if lost is not None and not done.wait(10.0):
                print(f"polypref: {lost}", file=sys.stderr, flush=True)
                os._exit(lost.exit_status)

    def dismiss(self) -> None:
        """Let the followers end; after an error they end with this process."""
        import torch.distributed as dist

        if not self.broken:
            self.tell(None)
            dist.destroy_process_group()

    # --- the others ------------------------------------------------------------------------------------------------

    def serve(self, make: Callable[..., Any]) -> None:
        """Make what calls the first process makes, until it lets go or is gone."""
        openers: dict[tuple[Any, ...], Any] = {}
        while (told := self._hear()) is not None:
            settings, packed = told
            if settings not in openers:
                for old in openers.values():
                    old.close()
                openers = {settings: make(*settings)}
            opener = openers[settings]
            call: _Call = _Unpickler(io.BytesIO(packed), opener).load()
            if call.kind == "release":
                opener.close()
            elif call.kind == "slice":
                self.gather(_tried(lambda call=call, opener=opener: _slice_of(call, opener, self)))
            else:
                done, found = _tried(lambda call=call, opener=opener: _whole(call, opener))
                if not done:
                    self.store.set(str(self.rank), pickle.dumps(found))
                    os._exit(0)  # the first process tells it, and the launcher ends the others with that one

    def _hear(self) -> Any:
        try:
            return self.tell(None)
        except RuntimeError:
            return None  # the first process is gone


def _whole(call: _Call, opener: Any) -> Any:
    return getattr(opener(call.role, call.spec), call.method)(*call.args, **dict(call.kwargs))


def _slice_of(call: _Call, opener: Any, crew: Crew) -> list[Any]:
    items, *rest = call.args
    mine = items[_slice(len(items), crew.rank, crew.count)]
    return list(getattr(opener(call.role, call.spec), call.method)(mine, *rest)) if mine else []


def _slice(items: int, number: int, slices: int) -> slice:
    """Neighbours stay together, since they share a prompt.

    >>> [_slice(5, number, 2) for number in (0, 1)]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    return slice(items * number // slices, items * (number + 1) // slices)


def _tried(work: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether it worked, and what came of it: a result, or what can be sent of an error."""
    try:
        return True, work()
    except Exception as error:
        told = (type(error).__name__, str(error)) if isinstance(error, PolyprefError) else ("", traceback.format_exc())
        return False, told


def _error(told: tuple[str, str], process: int) -> PolyprefError:
    name, message = told
    from polypref import errors

    kind = getattr(errors, name, None)
    if kind is None or kind.__init__ is not PolyprefError.__init__:
        return InternalError(f"process {process} of this launch failed: {message}")
    return kind(message)  # type: ignore[no-any-return]


class _Sliced:
    """A model whose calls all processes share; in all else the model itself."""

    def __init__(self, inner: Any, crew: Crew, role: Role, spec: Any, opener: Any) -> None:
        self._inner, self._crew, self._opener = inner, crew, opener
        self._call = {"settings": opener.settings, "role": role, "spec": spec, "method": SLICED[role]}
        setattr(self, SLICED[role], self._share)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _share(self, items: Sequence[Any], *rest: Any) -> list[Any]:
        items = list(items)
        crew, method = self._crew, getattr(self._inner, self._call["method"])
        if crew.busy or len(items) < 2:
            return list(method(items, *rest))
        call = _Call("slice", **self._call, args=(items, *rest))
        mine = items[_slice(len(items), 0, crew.count)]

        def work() -> list[tuple[bool, Any]]:
            own = _tried_here(lambda: list(method(mine, *rest)) if mine else [])
            # What this process found or met goes through no pickle: an error keeps its class and its cause.
            return [own, *crew.gather((True, None))[1:]]

        parts = crew.call(call, self._opener, work)
        for process, (done, found) in enumerate(parts):
            if not done:
                raise found if process == 0 else _error(found, process)
        return [one for _, found in parts for one in found]


def _tried_here(work: Callable[[], Any]) -> tuple[bool, Any]:
    """As ``_tried``; the error itself stays here. The others are heard before it is told."""
    try:
        return True, work()
    except Exception as error:
        return False, error


class _Together:
    """A trainer that trains in all processes at once."""

    def __init__(self, inner: Any, crew: Crew, role: Role, spec: Any, opener: Any) -> None:
        self._inner, self._crew, self._opener = inner, crew, opener
        self._call = {"settings": opener.settings, "role": role, "spec": spec, "method": "train"}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        sent = _Call(
            "together",
            **self._call,
            args=tuple(_sendable(one) for one in args),
            kwargs=tuple((name, _sendable(one)) for name, one in kwargs.items()),
        )
        return self._crew.call(sent, self._opener, lambda: self._inner.train(*args, **kwargs))


def _sendable(one: Any) -> Any:
    return nobody if callable(one) and not isinstance(one, Opened) else one


_leading: Crew | None = None


def shared(role: Role, spec: Any, made: Any, opener: Any) -> Any:
    """What ``opener`` has made, or where this process leads others its stand-in that lets them take part.

    Trainers with ``together`` train in all processes; models of this machine answer and score in all of them.
    """
    if _leading is None:
        return made
    if role.endswith("trainer"):
        return _Together(made, _leading, role, spec, opener) if getattr(made, "together", False) else made
    if role in SLICED and _is_local(role, spec):
        return _Sliced(made, _leading, role, spec, opener)
    return made


def _is_local(role: Role, spec: Any) -> bool:
    """Whether a model of ours computes here: no server, nothing that asks another model through the opener."""
    if role == "scorer":
        return bool(spec.scorer == "reward_model")
    return spec.backend == "hf" or (spec.backend == "vllm" and role == "logprobs")


def release(opener: Any) -> None:
    """Let the followers close their models, as ``opener`` does its own."""
    if _leading is not None and not _leading.busy and not _leading.broken:
        _leading.call(_Call("release", opener.settings), opener, lambda: None)


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """While the block runs, this first process of a launch leads the others; without a launch nothing changes."""
    global _leading
    if count() == 1:
        yield
        return
    _leading = crew = Crew()
    try:
        yield
    finally:
        _leading = None
        crew.dismiss()


def follow(make: Callable[..., Any]) -> None:
    """Follow the first process of the launch until it ends.

    Args:
        make: gives an opener of ``settings``, as ``registry.Opener``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process is interrupted as well, and the launcher ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # the first process has the same ones
    Crew().serve(make)
