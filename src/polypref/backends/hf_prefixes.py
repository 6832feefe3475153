"""What sequences begin with in common, run once: the rests are run behind its keys and values.

Notation: n rests, the longest of S tokens, each behind one of the prefixes; d the hidden size.
"""

from __future__ import annotations

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


def after(
    run: Callable[..., Any],
    prefixes: Sequence[Sequence[int]],
    which: Sequence[int],
    rests: Sequence[Sequence[int]],
    device: torch.device | str,
) -> tuple[Tensor, Any]:
    """Hidden states [n, S, d] of the rests, each behind the prefix of its number, and the cache.

    Prefixes are padded on the left, so that each rest follows its own at once; rests on the right.

    Args:
        run: the model below its head.
    """
    width = max(map(len, prefixes))
    ids = padded([[0] * (width - len(prefix)) + list(prefix) for prefix in prefixes], 0, device)
    mask = padded([[0] * (width - len(prefix)) + [1] * len(prefix) for prefix in prefixes], 0, device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = run(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True).past_key_values
    rows = torch.tensor(which, device=device)
    cache.batch_select_indices(rows)
    tail = padded(rests, 0, device)
    places = mask.sum(-1)[rows].unsqueeze(1) + torch.arange(tail.shape[1], device=device)
    mask = torch.cat([mask[rows], torch.ones_like(tail)], dim=-1)
    out = run(input_ids=tail, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
    return out.last_hidden_state, cache


@torch.inference_mode()
def can_share(run: Callable[..., Any], vocabulary: int, device: torch.device | str) -> bool:
    """Whether rests behind cached prefixes come out as whole sequences do: tried, on all layers a plain cache.

    A window or a state keeps too little of a prefix, or keeps it otherwise.
    """
    prefixes, which = [[(7 * k + 3 * n) % vocabulary for k in range(n)] for n in (9, 6)], [0, 1, 1]
    rests = [[(11 * k + n) % vocabulary for k in range(n)] for n in (4, 5, 2)]
    try:
        hidden, cache = after(run, prefixes, which, rests, device)
        for k, (number, rest) in enumerate(zip(which, rests, strict=True)):
            ids = padded([[*prefixes[number], *rest]], 0, device)
            whole = run(input_ids=ids, use_cache=False).last_hidden_state
            if not close(hidden[k, : len(rest)], whole[0, -len(rest) :]):
                return False
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False
    return all(type(layer) is DynamicLayer for layer in cache.layers)
