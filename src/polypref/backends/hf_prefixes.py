"""What sequences begin with in common, run once: the rests are run behind its keys and values.

Notation: n rests, the longest of S tokens, each behind one of the prefixes; d the hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from polypref.backends.hf_heads import close

LEAST = 16
"""Tokens: a shorter prefix is not worth a pass of its own."""
WORTH = 0.25
"""The share of a group's tokens that must be saved: rests behind a cache need a mask, and their attention is slower."""


def worth_sharing(prefix: int, lengths: Sequence[int]) -> bool:
    """Whether sequences of these lengths, prefix included, are faster run behind it than whole."""
    saved = (len(lengths) - 1) * prefix
    return prefix >= LEAST and saved >= WORTH * sum(lengths)


def padded(rows: Sequence[Sequence[int]], padding: int, device: torch.device | str) -> Tensor:
    """Integers [n, longest], padded on the right."""
    out = torch.full((len(rows), max(map(len, rows))), padding, dtype=torch.long)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return out.to(device)


class Prefixes:
    """Prefixes that have been run, padded on the left, so that a rest follows its own at once.

    Args:
        run: the model below its head.
    """

    def __init__(self, run: Callable[..., Any], prefixes: Sequence[Sequence[int]], device: torch.device | str) -> None:
        self._run, self._device = run, device
        width = max(map(len, prefixes))
        ids = padded([[0] * (width - len(prefix)) + list(prefix) for prefix in prefixes], 0, device)
        self._mask = padded([[0] * (width - len(prefix)) + [1] * len(prefix) for prefix in prefixes], 0, device)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        out = run(input_ids=ids, attention_mask=self._mask, position_ids=positions, use_cache=True)
        self.cache = out.past_key_values

    def before(self, which: Sequence[int], rests: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states [n, S, d] of the rests, padded on the right, each behind the prefix of its number."""
        rows = torch.tensor(which, device=self._device)
        tail = padded(rests, 0, self._device)
        before = self._mask[rows]
        places = before.sum(-1, keepdim=True) + torch.arange(tail.shape[1], device=self._device)
        mask = torch.cat([before, torch.ones_like(tail)], dim=-1)
        cache = self._of(rows)
        out = self._run(input_ids=tail, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
        return out.last_hidden_state  # type: ignore[no-any-return]

    def _of(self, rows: Tensor) -> Any:
        """The cache of these prefixes, which the model may add to; ours stays as it is."""
        out = copy.copy(self.cache)
        out.layers = [copy.copy(layer) for layer in self.cache.layers]
        for layer in out.layers:
            if len(self._mask) == 1:  # adding to it makes a copy anyway
                layer.keys, layer.values = (kept.expand(len(rows), -1, -1, -1) for kept in (layer.keys, layer.values))
            else:
                layer.keys, layer.values = (kept.index_select(0, rows) for kept in (layer.keys, layer.values))
        return out


@torch.inference_mode()
def can_share(run: Callable[..., Any], vocabulary: int, device: torch.device | str) -> bool:
    """Whether rests behind cached prefixes come out as whole sequences do: tried, on all layers a plain cache.

    A window or a state keeps too little of a prefix, or keeps it otherwise.
    """
    prefixes, which = [[(7 * k + 3 * n) % vocabulary for k in range(n)] for n in (9, 6)], [0, 1, 1]
    rests = [[(11 * k + n) % vocabulary for k in range(n)] for n in (4, 5, 2)]
    try:
        shared = Prefixes(run, prefixes, device)
        hidden = shared.before(which, rests)
        for k, (number, rest) in enumerate(zip(which, rests, strict=True)):
            ids = padded([[*prefixes[number], *rest]], 0, device)
            whole = run(input_ids=ids, use_cache=False).last_hidden_state
            if not close(hidden[k, : len(rest)], whole[0, -len(rest) :]):
                return False
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False
    return all(type(layer) is DynamicLayer for layer in shared.cache.layers)
