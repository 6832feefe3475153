"""What is common to all executors: the units of a layer, which of them wait, what goes into one and what comes out.

A unit is one file of a layer (a language of a shard, by the layer's scope) under the key of all that it is made of, so
that a run begun by one executor is finished by any other. Within a unit every example is worked on for itself.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polypref.backends.base import Context, Options
from polypref.records import Candidate, Drop, Example
from polypref.store import delta
from polypref.store.atomic import digest
from polypref.store.shards import Scope, Track, standing, write_shard

Work = Callable[[str, Iterable[Example]], Iterator[Example]]
"""``work(the unit's name, its examples) -> the same examples with what the stage added``; a name is a language, or
``all`` in a layer of scope ``whole``."""


@dataclass(frozen=True)
class Task:
    """Work that another process can do: a stage's function by name, what it is told, and what its context is made of.

    It can be pickled. ``one_language`` puts the unit's name into the options' ``languages``. ``languages``, ``pivot``
    and ``identifier`` are those of ``registry.context``.
    """

    function: str
    options: Options
    languages: tuple[str, ...]
    pivot: str
    identifier: str
    one_language: bool = False
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def bound(self, context: Context) -> Work:
        """The work itself, in a process that has a context."""
        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(module), name)

        def work(unit: str, examples: Iterable[Example]) -> Iterator[Example]:
            narrowed = self.options.model_copy(update={"languages": (unit,)}) if self.one_language else self.options
            done: Iterator[Example] = function(examples, narrowed, context, **self.keywords)
            return done

        return work


@dataclass(frozen=True)
class Layer:
    """What a stage writes: where, what its outcome depends on (``settings``), and the work itself.

    ``whole_language``: a unit depends on every shard of its language (length control fits one α over them).
    ``retry``: a unit that holds failed candidates is worked on again, and only the failed ones are drawn.
    ``task``: the same work for other processes; a layer without one is worked on in this process by every executor.
    """

    name: str
    settings: object
    work: Work
    whole_language: bool = False
    retry: bool = False
    scope: Scope = "language"
    task: Task | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """A file of a layer. ``failed`` is how many failures the standing one holds, None where none of that key stands."""

    name: str
    index: int
    key: str
    failed: int | None

    def waits(self, retry: bool) -> bool:
        """Whether it is to be worked on."""
        return self.failed is None or (retry and self.failed > 0)


@dataclass(frozen=True, slots=True)
class Part:
    """An example of a unit: as the layers below left it, and as this layer left it where it is worked on again."""

    before: Example
    earlier: Example


Row = tuple[dict[str, Any], int]
"""What a layer adds to an example, as ``delta.difference`` gives it, and how many failures are in it."""


def units(track: Track, layer: Layer) -> Iterator[Unit]:
    """The units of a layer over a track, shard by shard; whether one stands is looked up when it is asked for."""
    names, shards = track.units(layer.scope), range(track.count)

    def key(name: str, basis: object) -> str:
        return digest([layer.name.rpartition("/")[2], layer.settings, name, basis])

    def inputs(name: str, index: int) -> list[str]:
        return track.inputs(name, index, layer.scope)

    asked = names if layer.whole_language else ()
    whole = {name: key(name, [inputs(name, index) for index in shards]) for name in asked}
    for index in shards:
        for name in names:
            own = whole[name] if layer.whole_language else key(name, inputs(name, index))
            yield Unit(name, index, own, standing(track.file(layer.name, name, index), own))


class Reader:
    """Reads units that wait. Those of one shard, asked for one after another, share its prompts in every language:
    else each language would cost as much as all of them."""

    def __init__(self, track: Track, layer: str, scope: Scope) -> None:
        self._track, self._over, self._scope = track, track.over(layer, scope), scope
        self._index, self._base = -1, list[Example]()

    def __call__(self, unit: Unit) -> list[Part]:
        """The examples of a unit."""
        if unit.index != self._index:
            self._index, self._base = unit.index, self._track.base(unit.index)
        asked = unit.name, unit.index, self._scope, self._base
        before = self._track.unit(*asked)
        earlier = self._over.unit(*asked) if unit.failed else before
        return [Part(b, e) for b, e in zip(before, earlier, strict=True)]


def worked(work: Work, name: str, parts: Sequence[Part]) -> list[Row]:
    """Work on parts of one unit: all of them, or a batch."""
    start = [_without(part.before, part.earlier) for part in parts]
    after = [_in_order_of(part.earlier, done) for part, done in zip(parts, work(name, start), strict=True)]
    return [
        (delta.difference(part.before, done), _failures(part.before, done))
        for part, done in zip(parts, after, strict=True)
    ]


def write(target: Path, unit: Unit, rows: Sequence[Row]) -> None:
    """Write a unit's file, at once, under its key."""
    write_shard(target, unit.key, [row for row, _ in rows], failed=sum(failures for _, failures in rows))


def _failed(before: Example, after: Example) -> set[str]:
    """The candidates that this layer added and that failed; those that the user brought are not ours to draw.

    Of translations only those that a server gave up: what came back in another language, say, comes back so again.
    """
    lost = [c for c in after.candidates if c.error is not None]
    return {c.id for c in lost if c.parent is None or c.error.partition(":")[0] == "failed"} - {
        c.id for c in before.candidates
    }


def _gave_up(before: Example, after: Example) -> list[Drop]:
    """The drops of this layer that stand for what failed without a candidate: a prompt that was not made."""
    return [d for d in after.dropped if d.candidate is None and d.reason == "failed" and d not in before.dropped]


def _unjudged(before: Example, after: Example) -> dict[str, Candidate]:
    """The candidates, as they were, that a judge of this layer gave no score."""
    silent = {d.candidate for d in after.dropped if d.reason == "no_verdict" and d not in before.dropped}
    return {c.id: c for c in before.candidates if c.id in silent}


def _failures(before: Example, after: Example) -> int:
    return len(_failed(before, after)) + len(_gave_up(before, after)) + len(_unjudged(before, after))


def _without(before: Example, example: Example) -> Example:
    """The example as it was left, but for what failed."""
    lost, gave_up, unjudged = _failed(before, example), _gave_up(before, example), _unjudged(before, example)
    return dataclasses.replace(
        example,
        candidates=[unjudged.get(c.id, c) for c in example.candidates if c.id not in lost],
        dropped=[d for d in example.dropped if d.candidate not in {*lost, *unjudged} and d not in gave_up],
    )


def _in_order_of(earlier: Example, example: Example) -> Example:
    """What was drawn again takes its old place, so that a healed run is the same as one that never failed."""
    place = {c.id: number for number, c in enumerate(earlier.candidates)}
    ordered = sorted(example.candidates, key=lambda c: place.get(c.id, len(place)))
    return dataclasses.replace(example, candidates=ordered)
