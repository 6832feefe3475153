"""Forward passes of as many sequences as fit: rows cut into batches, halved where memory runs out.

Notation: n rows, the longest prefix of P tokens and the longest rest of S. A pass over whole rows takes n·(P + S)
tokens. Behind prefixes that are run apart a pass takes n·S tokens, and the cache holds n·(P + S) positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch

from polypref.backends.base import ModelSpec
from polypref.backends.hf_files import out_of_memory
from polypref.errors import ModelError

TOKENS = 16384
"""Of one forward pass, where nothing else is asked for."""
CACHED = 4
"""Positions of a cache for each token of ``TOKENS``: one takes far less memory than a token of a pass."""
CPU_TOKENS = 1024
"""The same of scoring on a CPU: what a layer gives of so many stays in its caches, what it gives of more goes through
memory (docs/log.md)."""


class Row(Protocol):
    """A sequence to run; ``id`` names it in errors."""

    @property
    def id(self) -> str: ...

    @property
    def prefix(self) -> int:
        """The number of its first tokens that are run apart from the others, 0 where it is run in one piece."""
        ...

    @property
    def group(self) -> int:
        """Rows of the same number have the same prefix."""
        ...

    def __len__(self) -> int: ...


R = TypeVar("R", bound=Row)
V = TypeVar("V")


class Batches:
    """The tokens that a forward pass may hold, padding included, and the positions that a cache may; both become fewer
    when memory is out.

    Rows of at most ``short`` tokens are never beside longer ones (LongRoPE encodes their positions otherwise).
    """

    def __init__(self, tokens: int, short: int | None = None, positions: int | None = None) -> None:
        self.tokens, self.short = tokens, short
        self.positions = tokens if positions is None else positions

    @classmethod
    def of(cls, spec: ModelSpec, device: torch.device, short: int | None) -> Batches:
        """For scoring, as the spec says or as suits the device."""
        tokens = spec.batch_tokens or (CPU_TOKENS if device.type == "cpu" else TOKENS)
        return cls(tokens, short, spec.batch_tokens or CACHED * TOKENS)

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
            self.positions = _size(batch) // 2
            self.tokens = min(self.tokens, self.positions)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return out

    def passes(self, rows: Sequence[R]) -> Iterator[Sequence[R]]:
        """The rows of one batch, as many at a time as fit a pass over their rests."""
        first = 0
        while first < len(rows):
            count = max(1, self.tokens // max(len(row) - row.prefix for row in rows[first:]))
            yield rows[first : first + count]
            first += count

    def _first(self, rows: Sequence[R]) -> Sequence[R]:
        most = self.positions if rows[0].prefix else self.tokens
        long = self.short is not None and len(rows[0]) > self.short
        prefix = rest = 0
        groups: set[int] = set()
        for count, row in enumerate(rows):
            prefix, rest = max(prefix, row.prefix), max(rest, len(row) - row.prefix)
            groups.add(row.group)
            if len(groups) > 1 and len(groups) * prefix > self.tokens:
                return rows[:count]
            apart = self.short is not None and (len(row) > self.short) != long
            if count and (apart or (count + 1) * (prefix + rest) > most):
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
