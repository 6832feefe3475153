"""Answers of the policy in training: each prompt computed once for its answers, and noise that belongs to an answer.

TRL draws from the process' random state, which another micro-batch, another number of processes or a resume would
change. Here the noise of an answer is a function of (seed, place in the training, k), as in generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polypref.backends.base import Sampling
from polypref.backends.hf_batches import Batches
from polypref.backends.hf_decode import NotFinite, decode
from polypref.backends.hf_noise import row_key
from polypref.backends.hf_sampling import Sampler
from polypref.errors import ModelError


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to answer ``n`` times; ``id`` names its noise."""

    id: str
    ids: list[int]
    n: int
    max_tokens: int
    prefix: int = 0
    group: int = 0

    def __len__(self) -> int:
        """The positions of its answers' cache."""
        return self.n * (len(self.ids) + self.max_tokens)


class Ends(Sampler):
    """A ``Sampler`` that notes which token ended each row, since ``decode`` leaves it out and training needs it."""

    def __init__(self, sampling: Sampling, end_ids: Sequence[int], device: torch.device) -> None:
        super().__init__(sampling)
        self.end_ids = torch.tensor(sorted(end_ids), device=device)
        self.found: dict[int, int] = {}

    def next_tokens(
        self, logits: torch.Tensor, context: torch.Tensor | None, keys: torch.Tensor, step: int
    ) -> torch.Tensor:
        tokens = super().next_tokens(logits, context, keys, step)
        ended = torch.isin(tokens, self.end_ids)
        for key, token in zip(keys[ended].tolist(), tokens[ended].tolist(), strict=True):
            self.found.setdefault(key, token)  # a row that ended may stay in the batch and draw on
        return tokens


def answers(
    model: Any,
    questions: Sequence[Question],
    sampling: Sampling,
    end_ids: Sequence[int],
    pad_id: int,
    batches: Batches,
) -> list[list[int]]:
    """The token ids of the questions' answers, in order, each with the token that ended it where one did.

    Raises:
        ModelError: logits are NaN or infinite, or one question does not fit into memory.
    """

    def drawn(some: Sequence[Question]) -> list[list[list[int]]]:
        keys = [row_key(sampling.seed, question.id, k) for question in some for k in range(question.n)]
        sampler = Ends(sampling, end_ids, model.device)
        prompts, counts = [question.ids for question in some], [question.n for question in some]
        try:
            rows = decode(model, prompts, counts, keys, sampler, sampling.max_tokens, end_ids, None, pad_id)
        except NotFinite:
            raise ModelError(
                "the policy's logits are NaN or infinite; lower train.learning_rate, or set train.bf16 to false"
            ) from None
        whole = iter(
            [*row.ids, sampler.found[key]] if row.finished else row.ids for row, key in zip(rows, keys, strict=True)
        )
        return [[next(whole) for _ in range(question.n)] for question in some]

    order = sorted(range(len(questions)), key=lambda index: -len(questions[index]))
    found = dict(zip(order, batches.run([questions[index] for index in order], drawn), strict=True))
    return [ids for index in range(len(questions)) for ids in found[index]]
