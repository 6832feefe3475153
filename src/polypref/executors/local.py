"""Run a stage over the units of a track in this process: a loop, and nothing a loop does not need."""

from __future__ import annotations

from polypref.backends.base import Progress
from polypref.executors.units import Layer, Reader, Work, units, worked, write
from polypref.store.shards import Track

__all__ = ["Layer", "Work", "map_units"]


def map_units(track: Track, layer: Layer, progress: Progress) -> int:
    """Lay ``layer`` over ``track``; units whose key stands are left alone. Gives how many were worked on."""
    total, count = len(track.units(layer.scope)) * track.count, 0
    read = Reader(track, layer.name, layer.scope)
    for done, unit in enumerate(units(track, layer), 1):
        if unit.waits(layer.retry):
            rows = worked(layer.work, unit.name, read(unit))
            write(track.file(layer.name, unit.name, unit.index), unit, rows)
            count += 1
        progress(layer.name, done, total)
    track.trim(layer.name)
    return count
