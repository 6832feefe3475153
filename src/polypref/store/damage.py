"""What stands in a run's folder and is not as it was written: found by every start, said, and made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from polypref.store import checkpoint
from polypref.store.parquet import sealed


def discard_damaged(folder: Path, warn: Callable[[str], None]) -> None:
    """Remove the shards under ``folder`` that are damaged, and tell the checkpoints that are, which do not stand.

    Every byte is read; what is found is remembered, so that the run does not read it again. Only the holder of the
    folder's lock may.
    """
    for shard in sorted(folder.rglob("part-*.parquet")):
        if sealed(shard) is None:
            warn(f"{shard.relative_to(folder)} is damaged: it is not as it was written; it is made again")
            shard.unlink()
    for note in sorted(folder.rglob(checkpoint.NOTE)):
        name = note.parent.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and (wrong := checkpoint.damaged(note.parent)):
            warn(f"{name} is damaged: {', '.join(wrong[:3])} not as written; it is made again where it is needed")
