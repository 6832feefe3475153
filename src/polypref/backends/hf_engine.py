"""What scoring by log-probability, by a reward model and by hidden states have in common: sequences in, states out.

Rows are cut into batches by tokens, longest first; rows that begin with the same tokens share the pass over these where
that is worth it; a batch is padded on the right and run without a mask, for a causal model never looks at its padding.
Without a mask attention takes its causal kernel. Rows are not packed end to end: CPU kernels know no varlen form.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from polypref.backends.base import ModelSpec
from polypref.backends.hf_batches import Batches
from polypref.backends.hf_files import first_line
from polypref.backends.hf_heads import body, close, vocabulary
from polypref.backends.hf_prefixes import Prefixes, can_share, padded, worth_sharing


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence: where its result goes, whose it is, and its tokens.

    Rows of one ``owner`` may begin with the same tokens; None has none in common with others. The states of its first
    ``unread`` tokens are not looked at. ``prefix`` and ``group`` are the engine's.
    """

    place: int
    id: str
    ids: list[int]
    unread: int = 0
    owner: Hashable = None
    prefix: int = 0
    group: int = 0

    def __len__(self) -> int:
        return len(self.ids)


class Loaded(Protocol):
    """A model that is open; ``model`` switches its adapter on."""

    @property
    def model(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def short_window(self) -> int | None: ...


V = TypeVar("V")
Read = Callable[[Tensor, Sequence[int], Sequence[Row]], list[V]]
"""What is wanted of hidden states [n, T, D], before which row i has so many tokens: a value for each row."""


class Engine:
    """Runs a causal model below its head over many sequences."""

    def __init__(self, loaded: Loaded, spec: ModelSpec, *, share: bool = True) -> None:
        """
        Args:
            share: whether rows may share what they begin with.
        """
        self.loaded = loaded
        self.batches = Batches.of(spec, loaded.device, loaded.short_window)
        self.shares = (
            share
            and loaded.short_window is None  # LongRoPE turns short sequences otherwise
            and can_share(body(loaded.model), vocabulary(loaded.model), loaded.device)
        )
        self._spec = spec

    def run(self, rows: Sequence[Row], read: Read[V]) -> list[V]:
        """What ``read`` gives for each row, in order.

        Raises:
            ModelError: one row alone does not fit into memory.
        """
        alone, shared = self._arranged(rows)
        out: dict[int, V] = {}
        for some, work in ((alone, self._whole), (shared, self._behind)):
            values = self.batches.run(some, lambda batch, work=work: work(batch, read))  # type: ignore[misc]
            out |= {row.place: value for row, value in zip(some, values, strict=True)}
        return [out[row.place] for row in rows]

    def _arranged(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Rows to run whole, and rows to run behind what they share; longest first, so that memory runs out at once."""
        groups: dict[Hashable, list[Row]] = {}
        alone: list[Row] = []
        for row in rows:
            if self.shares and row.owner is not None:
                groups.setdefault(row.owner, []).append(row)
            else:
                alone.append(row)
        shared: list[list[Row]] = []
        for group in groups.values():
            prefix = min(_in_common([row.ids for row in group]), *(row.unread for row in group))
            if len(group) > 1 and worth_sharing(prefix, [len(row) for row in group]):
                group.sort(key=len, reverse=True)
                shared.append([dataclasses.replace(row, prefix=prefix, group=len(shared)) for row in group])
            else:
                alone += group
        shared.sort(key=lambda group: len(group[0]), reverse=True)
        return sorted(alone, key=len, reverse=True), [row for group in shared for row in group]

    @torch.inference_mode()
    def _whole(self, rows: Sequence[Row], read: Read[V]) -> list[V]:
        run = body(self.loaded.model)  # switches the adapter on, which the compiled one has, too
        ids = padded([row.ids for row in rows], 0, self.loaded.device)
        run = run if self._compiled is None else self._compiled
        return read(run(input_ids=ids, use_cache=False).last_hidden_state, [0] * len(rows), rows)

    @functools.cached_property
    def _compiled(self) -> Any:
        return compiled(body(self.loaded.model), self._spec, self.loaded.device) if self._spec.compile else None

    @torch.inference_mode()
    def _behind(self, rows: Sequence[Row], read: Read[V]) -> list[V]:
        """The prefixes are run first, each once, and the rests behind their keys and values."""
        beginnings = [tuple(row.ids[: row.prefix]) for row in rows]
        unique = {beginning: k for k, beginning in enumerate(dict.fromkeys(beginnings))}
        prefixes = Prefixes(body(self.loaded.model), list(unique), self.loaded.device)
        numbers = iter([unique[beginning] for beginning in beginnings])
        values: list[V] = []
        for part in self.batches.passes(rows):
            hidden = prefixes.before([next(numbers) for _ in part], [row.ids[row.prefix :] for row in part])
            values += read(hidden, [row.prefix for row in part], part)
        return values


@torch.inference_mode()
def compiled(run: Any, spec: ModelSpec, device: torch.device) -> Any:
    """``run`` as torch.compile makes it, or None, said in a warning, where it fails or does not give the same.

    Tried on two shapes: with the second the compiler makes its lengths variable.
    """
    try:
        fast = torch.compile(run, dynamic=True)
        for shape in ((2, 9), (3, 17)):
            ids = (torch.arange(shape[0] * shape[1], device=device) % 97 % vocabulary(run)).view(shape)
            if not close(fast(input_ids=ids, use_cache=False)[0], run(input_ids=ids, use_cache=False)[0]):
                raise RuntimeError("what it makes gives other numbers")
    except Exception as error:  # a compiler that is missing, too old, or at a loss: each has its own complaint
        warnings.warn(
            f"{spec.path}: torch.compile cannot be used here ({first_line(error)}); it is run uncompiled", stacklevel=4
        )
        return None
    return fast


def _in_common(sequences: Sequence[list[int]]) -> int:
    """How many first tokens are the same in all: those that the first and the last of them in order share."""
    first, last = min(sequences), max(sequences)
    return next((k for k, (one, two) in enumerate(zip(first, last, strict=False)) if one != two), len(first))
