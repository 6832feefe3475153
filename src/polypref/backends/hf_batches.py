"""Forward passes of as many sequences as fit: rows cut into batches, halved where memory runs out.

Notation: a batch of n rows whose longest prefix has P tokens and whose longest rest has S takes n·(P + S) tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch

from polypref.backends.hf_files import out_of_memory
from polypref.errors import ModelError


class Row(Protocol):
    """A sequence to run; ``id`` names it in errors."""

    @property
    def id(self) -> str: ...

    @property
    def prefix(self) -> int:
        """The number of its first tokens that are run apart from the others, 0 where it is run in one piece."""
        ...

    def __len__(self) -> int: ...


R = TypeVar("R", bound=Row)
V = TypeVar("V")


class Batches:
    """The tokens that a forward pass may hold, padding included; they become fewer when memory is out.

    Rows of at most ``short`` tokens are never beside longer ones (LongRoPE encodes their positions otherwise).
    """

    def __init__(self, tokens: int, short: int | None = None) -> None:
        self.tokens, self.short = tokens, short

    def run(self, rows: Sequence[R], work: Callable[[Sequence[R]], list[V]]) -> list[V]:
        """What ``work`` gives for each of the rows, in order; rows that follow each other run together.

        Raises:
            ModelError: one row alone does not fit into memory.
        """
        out: list[V] = []
        while len(out) < len(rows):
            batch = self._first(rows[len(out) :])
            done = _attempt(work, batch)
            if done is not None:
                out += done
                continue
            # Here the failed pass has let go of its tensors, in an except block it would not have.
            if len(batch) == 1:
                raise ModelError(
                    f"{batch[0].id}: its {len(batch[0])} tokens do not fit into memory alone; use a smaller dtype, "
                    "a larger device, or shorter answers"
                )
            self.tokens = _size(batch) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return out

    def _first(self, rows: Sequence[R]) -> Sequence[R]:
        long = self.short is not None and len(rows[0]) > self.short
        prefix = rest = 0
        for count, row in enumerate(rows):
            prefix, rest = max(prefix, row.prefix), max(rest, len(row) - row.prefix)
            apart = self.short is not None and (len(row) > self.short) != long
            if count and (apart or (count + 1) * (prefix + rest) > self.tokens):
                return rows[:count]
        return rows


def _size(rows: Sequence[Row]) -> int:
    return len(rows) * (max(row.prefix for row in rows) + max(len(row) - row.prefix for row in rows))


def _attempt(work: Callable[[Sequence[R]], list[V]], batch: Sequence[R]) -> list[V] | None:
    """What ``work`` gives, or None when memory was out."""
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None
