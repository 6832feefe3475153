"""Run a stage over the units of a track in this process: a loop, and nothing a loop does not need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from polypref.backends.base import Progress
from polypref.records import Candidate, Drop, Example
from polypref.store import delta
from polypref.store.atomic import digest
from polypref.store.shards import Scope, Track, standing, write_shard

Work = Callable[[str, Iterable[Example]], Iterator[Example]]
"""``work(the unit's name, its examples) -> the same examples with what the stage added``; a name is a language, or
``all`` in a layer of scope ``whole``."""


@dataclass(frozen=True)
class Layer:
    """What a stage writes: where, what its outcome depends on (``settings``), and the work itself.

    ``whole_language``: a unit depends on every shard of its language (length control fits one α over them).
    ``retry``: a unit that holds failed candidates is worked on again, and only the failed ones are drawn.
    """

    name: str
    settings: object
    work: Work
    whole_language: bool = False
    retry: bool = False
    scope: Scope = "language"


def map_units(track: Track, layer: Layer, progress: Progress) -> int:
    """Lay ``layer`` over ``track``; units whose key stands are left alone. Gives how many were worked on."""
    units, count = track.units(layer.scope), track.count
    total, done, worked = len(units) * count, 0, 0
    for name in units:
        inputs = [track.inputs(name, index, layer.scope) for index in range(count)]
        for index in range(count):
            basis = inputs if layer.whole_language else inputs[index]
            key = digest([layer.name.rpartition("/")[2], layer.settings, name, basis])
            worked += _unit(track, layer, name, index, key)
            done += 1
            progress(layer.name, done, total)
    track.trim(layer.name)
    return worked


def _unit(track: Track, layer: Layer, name: str, index: int, key: str) -> bool:
    target = track.file(layer.name, name, index)
    failed = standing(target, key)
    if failed is not None and not (layer.retry and failed):
        return False
    before = track.unit(name, index, layer.scope)
    earlier = track.over(layer.name, layer.scope).unit(name, index, layer.scope) if failed else before
    start = [_without(b, e) for b, e in zip(before, earlier, strict=True)]
    after = [_in_order_of(e, a) for e, a in zip(earlier, layer.work(name, start), strict=True)]
    rows = [delta.difference(b, a) for b, a in zip(before, after, strict=True)]
    write_shard(target, key, rows, failed=sum(_failures(b, a) for b, a in zip(before, after, strict=True)))
    return True


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
