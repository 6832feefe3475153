"""Rows of preferences that a tiny model can learn: an answer without "red" is better than one with it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from polypref.backends.base import ModelSpec, Progress, silent
from polypref.backends.reward_training import PairRow, PointRow, RewardRow, RewardTrainOptions
from polypref.backends.templates import PromptTemplate
from polypref.backends.trl_reward import TRLRewardTrainer
from polypref.backends.trl_reward_trainer import RewardModelTrainer
from tiny_training import WORDS

GOOD = [word for word in WORDS if word != "red"]


def pairs(n: int, seed: int = 0) -> list[PairRow]:
    noise = random.Random(seed)
    rows = []
    for index in range(n):
        chosen = [noise.choice(GOOD) for _ in range(noise.randint(1, 5))]
        rejected = [*chosen[:-1], "red"] if index % 3 else ["red", *chosen]
        messages = [{"role": "user", "content": f"say {noise.choice(GOOD)}"}]
        lang = "es" if index % 2 else "en"
        rows.append(PairRow(f"{seed}/{index}", lang, messages, " ".join(chosen), " ".join(rejected), index / 10))
    return rows


def points(n: int, seed: int = 0) -> list[PointRow]:
    """The answers of ``n / 2`` pairs, labelled 0.9 and 0.1."""
    return [
        PointRow(f"{row.id}{side}", row.lang, row.messages, getattr(row, side), label)
        for row in pairs(n // 2, seed)
        for side, label in (("chosen", 0.9), ("rejected", 0.1))
    ]


PAIRS, HELD = pairs(12), pairs(7, seed=1)


def options(**changes: Any) -> RewardTrainOptions:
    common = {"learning_rate": 1e-2, "batch_size": 4, "warmup_ratio": 0.0, "schedule": "constant", "seed": 3}
    return RewardTrainOptions(**{**common, **changes})


LONG = options(epochs=4, save_steps=2, micro_batch_size=2, schedule="cosine", evaluations=3)
"""Twelve steps, judged after 4, 8 and 12."""


def run(
    rows: list[Any],
    start: ModelSpec,
    folder: Path,
    validation: list[Any] | None = None,
    progress: Progress = silent,
    **changes: Any,
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return TRLRewardTrainer().train(rows, validation or [], start, options(**changes), folder, progress)


def classifier(folder: Path | str) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def reward(model: Any, folder: Path | str, row: RewardRow, text: str, longest: int = 48) -> float:
    """Of one sequence, by the model's own forward pass, its tokens put together by hand."""
    template = PromptTemplate(AutoTokenizer.from_pretrained(folder))
    ids = [*template.prompt_ids(row.messages), *template.answer_ids(text), template.end_of_turn]
    with torch.no_grad():
        return float(model(torch.tensor([ids[-longest:]])).logits[0, 0])


def margins_of(model: Any, folder: Path | str, rows: Sequence[PairRow]) -> list[float]:
    """r_w − r_l of each row, by the forward pass of each sequence alone."""
    return [reward(model, folder, row, row.chosen) - reward(model, folder, row, row.rejected) for row in rows]


def loss_of(margins: Sequence[float]) -> float:
    """The mean of −log σ(r_w − r_l) = log(1 + e^−(r_w − r_l))."""
    return sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)


def judged(steps: dict[int, tuple[float, float]]) -> Callable[..., dict[str, float]]:
    """``_totals`` of evaluations that find right answers and a loss by the step; training's own stay."""
    real = RewardModelTrainer._totals

    def totals(self: Any, sums: list[list[float]]) -> dict[str, float]:
        if self.model.training:
            return real(self, sums)
        right, loss = steps[self.state.global_step]
        return {"loss": loss * 7, "right": right, "judged": 7, "margin": 0.0, "rows": 7}

    return totals
