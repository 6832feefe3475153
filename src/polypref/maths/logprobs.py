"""Log-probabilities of answer tokens from hidden states, without ever holding all the logits.

Notation: N positions, D hidden size, V vocabulary. The hidden state at position t gives the distribution of token
t + 1, so an answer that begins at position s is scored from the states s − 1, s, …: its first token is scored, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ROW_ELEMENTS = 2**22
"""Logits of a chunk of whole rows: 16 MiB in float32, which the host's allocator keeps; it gives 32 back each time."""
TILE = 2**21
"""Logits of a tile on a CPU: 8 MiB in float32, which stay in its caches from the product to their sum."""
ACCELERATOR_TILE = 2**26
"""The same elsewhere, where a product must be large for the device to be busy."""


def answer_positions(prompt_lengths: Sequence[int], answer_lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Which states of a right-padded batch predict answer tokens: (row [N], position [N]), row by row.

    Row i holds ``prompt_lengths[i]`` prompt tokens and then ``answer_lengths[i]`` answer tokens; its answer token k is
    predicted at position ``prompt_lengths[i] − 1 + k``. Padding is never among them.

    Raises:
        ValueError: a prompt has no token, so nothing predicts the first answer token.
    """
    if any(length < 1 for length in prompt_lengths):
        raise ValueError("a prompt needs at least one token")
    rows = [i for i, length in enumerate(answer_lengths) for _ in range(length)]
    positions = [p - 1 + k for p, a in zip(prompt_lengths, answer_lengths, strict=True) for k in range(a)]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(positions, dtype=torch.long)


def token_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax of ``logits`` [N, V] at ``targets`` [N], computed in float32: [N]."""
    logits = logits.float()
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.logsumexp(logits, dim=-1)


def chunked_logprobs(
    hidden: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], vocabulary: int, elements: int = ROW_ELEMENTS
) -> Tensor:
    """``token_logprobs(head(hidden), targets)`` with at most ``elements`` logits in memory: [N] float32.

    Args:
        hidden: [N, D], one row per scored token.
        targets: [N], the scored tokens.
        head: maps [n, D] to logits [n, V], the model's own scaling and capping included.
        vocabulary: V.
    """
    rows = max(1, elements // max(1, vocabulary))
    parts = [token_logprobs(head(hidden[i : i + rows]), targets[i : i + rows]) for i in range(0, hidden.shape[0], rows)]
    return torch.cat(parts) if parts else torch.zeros(0, device=hidden.device)


def tile_elements(device: torch.device) -> int:
    """The logits of a tile that suit a device: ``TILE`` on a CPU, ``ACCELERATOR_TILE`` elsewhere."""
    return TILE if device.type == "cpu" else ACCELERATOR_TILE


def tiled_logprobs(
    hidden: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    elements: int | None = None,
) -> Tensor:
    """``token_logprobs(finish(hidden Wᵀ + b), targets)`` a tile of rows and of the vocabulary at a time: [N] float32.

    The logits have the weight's type, as the model's own have. What is summed is float32, and the logarithm of the
    whole sum is that of the tiles', log Σ_v exp z_v = log Σ_k exp(log Σ_{v in tile k} exp z_v). The matrix is read in
    place.

    Args:
        hidden: [N, D], one row per scored token.
        targets: [N], the scored tokens; one that is none of the vocabulary gives NaN.
        weight: W [V, D].
        bias: b [V].
        finish: what is done to each logit, one by one.
        elements: of a tile; what suits the device when left out.
    """
    elements = elements or tile_elements(hidden.device)
    most = max(1, math.isqrt(elements // 2))  # twice as wide as high
    rows = math.ceil(len(hidden) / max(1, math.ceil(len(hidden) / most)))
    parts = [
        _tiled(hidden[i : i + rows], targets[i : i + rows], weight, bias, finish, max(1, elements // rows))
        for i in range(0, len(hidden), rows or 1)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, device=hidden.device)


def _tiled(
    hidden: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    finish: Callable[[Tensor], Tensor] | None,
    columns: int,
) -> Tensor:
    rows, vocabulary = len(hidden), len(weight)
    times = _product(hidden, rows * min(columns, vocabulary))
    chosen = torch.full((rows,), torch.nan, device=hidden.device)
    sums: list[Tensor] = []
    for first in range(0, vocabulary, columns):
        part = weight[first : first + columns]
        logits = times(part)
        if bias is not None:
            logits += bias[first : first + columns]
        logits = (logits if finish is None else finish(logits)).float()
        at = targets - first
        found = logits.gather(-1, at.clamp(0, len(part) - 1).unsqueeze(-1)).squeeze(-1)
        chosen = torch.where((at >= 0) & (at < len(part)), found, chosen)
        sums.append(torch.logsumexp(logits, dim=-1))
    return chosen - torch.logsumexp(torch.stack(sums, dim=-1), dim=-1)


def _product(hidden: Tensor, most: int) -> Callable[[Tensor], Tensor]:
    """Maps a tile [v, D] of the matrix to hidden tileᵀ [n, v] of at most ``most`` elements, which the next call may
    write over.

    In float32 on a CPU oneDNN multiplies where torch has it: MKL, which torch would take, took 9 to 12% more processor
    time on an AMD EPYC (1024 and 300 rows of 512, one thread, the least of seven runs).
    """
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if hidden.device.type == "cpu" and hidden.dtype == torch.float32 and onednn:
        packed = hidden.contiguous().to_mkldnn()
        return lambda tile: torch.nn.functional.linear(packed, tile).to_dense()
    room = hidden.new_empty(most)  # one for all tiles: fresh memory costs as much as the sums

    def times(tile: Tensor) -> Tensor:
        out = room[: len(hidden) * len(tile)].view(len(hidden), len(tile))
        return torch.mm(hidden, tile.t(), out=out)

    return times
