"""Where the units of a layer are worked on: in this process, or by Ray Data on one machine or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from polypref.backends.base import Progress
from polypref.errors import RecipeError, did_you_mean
from polypref.executors import local
from polypref.executors.units import Layer
from polypref.mistakes import checked
from polypref.store.shards import Track

NAMES = ("local", "ray")


class Executor(Protocol):
    """Lays layers over tracks; a context manager that lets go of what it holds."""

    def map_units(self, track: Track, layer: Layer, progress: Progress, warn: Callable[[str], None] = ...) -> int:
        """Work on every unit whose key does not stand; gives how many those were.

        Args:
            warn: hears what stages warn of in other processes; in this one their own context does.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class LocalExecutor:
    """The loop in this process."""

    def map_units(
        self, track: Track, layer: Layer, progress: Progress, warn: Callable[[str], None] = lambda message: None
    ) -> int:
        """See ``Executor``; ``warn`` hears nothing, since the stage warns in this process."""
        return local.map_units(track, layer, progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """There is nothing to let go of."""


LOCAL = LocalExecutor()


def told(settings: Sequence[str], address: str | None = None) -> dict[str, str]:
    """The options of a command line, NAME=VALUE each.

    Raises:
        RecipeError: one is not of that form.
    """
    if wrong := [setting for setting in settings if "=" not in setting]:
        raise RecipeError(f"--ray {wrong[0]!r} is no NAME=VALUE, such as actors=1,4")
    named = {name: value for name, _, value in (setting.partition("=") for setting in settings)}
    return named | ({} if address is None else {"address": address})


def chosen(name: str, options: Mapping[str, Any] | None = None) -> Executor:
    """The executor of a name.

    Args:
        options: of ``ray``, the fields of ``RayOptions``; ``local`` has none.

    Raises:
        RecipeError: no such executor, or options that it does not have.
        MissingExtraError: Ray is not installed.
    """
    if name not in NAMES:
        raise RecipeError(f"{name!r} is no executor; {did_you_mean(name, NAMES)}")
    if name == "ray":
        from polypref.executors.ray_data import RayExecutor
        from polypref.executors.ray_options import RayOptions

        return RayExecutor(checked(RayOptions, options or {}))
    if options:
        raise RecipeError(f"the local executor has no {', '.join(options)}; say --executor ray, or leave it out")
    return LOCAL
