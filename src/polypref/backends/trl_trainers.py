"""TRL's trainers with the few hooks that polypref changes.

DPO takes token ids and reference log-probabilities as they are given, and adds λ·NLL with the mean taken per answer:

    L = 1/N Σ_i [ ℓ_DPO(i) + λ · 1/|y_i| Σ_t −log π(y_i,t | x_i, y_i,<t) ]

over the N rows of the whole optimiser step, so that neither micro-batches nor devices change it. TRL's own ``sft`` term
is the mean over a micro-batch's tokens, and its mean over unequal micro-batches weighs rows unequally.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import DPOTrainer, KTOTrainer, SFTTrainer

from polypref.backends.base import Progress
from polypref.backends.trl_batches import VOID, Dealt
from polypref.backends.trl_data import IGNORED
from polypref.errors import ModelError


class Discreet:
    """Reports to nobody, and leaves the model card to us."""

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass


class PairedTrainer(Dealt, Discreet, DPOTrainer):
    """DPO + λ·NLL on rows with ``prompt_ids``, ``chosen_ids``, ``rejected_ids``, ``ref_chosen_logps`` and
    ``ref_rejected_logps``; without the last two, on TRL's own reference model."""

    loss_is_scaled_for_ga = True  # by compute_loss, which divides by the rows of the whole step

    def __init__(self, *args: Any, nll_weight: float, **kwargs: Any) -> None:
        self.nll_weight = nll_weight
        self.figures: dict[str, float] = {}
        self.figures_of = 0
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset  # token ids already

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset  # reference log-probabilities already

    def rows_of(self, batch: dict[str, Tensor]) -> int:
        return len(batch["input_ids"]) // 2

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share of the step's mean over rows."""
        rows = 0 if inputs.pop(VOID, None) is not None else self.rows_of(inputs)
        with _each_its_own(self.accelerator):
            loss = super().compute_loss(model, inputs, return_outputs)
        if num_items_in_batch is None or return_outputs:
            return loss
        self._keep_figures(rows)
        # Every process' gradient is averaged afterwards, hence their number.
        return loss * (rows * self.accelerator.num_processes / num_items_in_batch)

    def _keep_figures(self, rows: int) -> None:
        """Take the micro-batch's means off TRL, and keep them as sums over its rows."""
        self.figures_of += rows
        for name, values in self._metrics["train"].items():
            self.figures[name] = self.figures.get(name, 0.0) + rows * values[-1]
        self._metrics["train"].clear()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the means over all rows since the last time."""
        if "loss" in logs:
            every = gather_object([(self.figures_of, self.figures)])
            rows = sum(of for of, _ in every)
            for name in sorted({name for _, figures in every for name in figures} - {"num_tokens"}):
                self._metrics["train"][name] = [sum(figures.get(name, 0.0) for _, figures in every) / rows]
            self.figures, self.figures_of = {}, 0
        super().log(logs, start_time)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        seen: list[Tensor] = []

        def recording(*args: Any, **kwargs: Any) -> Any:
            outputs = model(*args, **kwargs)
            seen.append(outputs.log_probs)
            return outputs

        loss = super()._compute_loss(recording, inputs, return_outputs)
        if return_outputs:
            return loss
        nll = answer_nll(seen[0], inputs["completion_mask"]).mean()
        self._metrics["train" if self.model.training else "eval"]["nll"].append(nll.item())
        return loss + self.nll_weight * nll if self.nll_weight else loss


def answer_nll(log_probs: Tensor, completion_mask: Tensor) -> Tensor:
    """−1/|y| Σ_t log π(y_t | …) of each chosen answer.

    Args:
        log_probs: [2B, T − 1], of the next token, zero outside the answers; the chosen half comes first.
        completion_mask: [2B, T], one at answer tokens.

    Returns:
        [B], natural log.
    """
    chosen = log_probs.shape[0] // 2
    mask = completion_mask[:chosen, 1:]
    return -(log_probs[:chosen, -mask.shape[1] :] * mask).sum(dim=1) / mask.sum(dim=1)


@contextlib.contextmanager
def _each_its_own(accelerator: Any) -> Iterator[None]:
    """TRL gathers figures at every micro-batch and takes those of all processes to be of one size; here each process
    keeps its own until they are logged."""
    names = ("gather", "gather_for_metrics")
    for name in names:
        setattr(accelerator, name, lambda tensor: tensor)
    try:
        yield
    finally:
        for name in names:
            delattr(accelerator, name)


class UnpairedTrainer(Discreet, KTOTrainer):
    """KTO on rows with ``prompt_ids``, ``completion_ids``, ``KL_completion_ids`` and ``label``."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


class ChosenTrainer(Dealt, Discreet, SFTTrainer):
    """Supervised fine-tuning on rows with ``input_ids`` and ``labels``; the mean is over the tokens of the step."""

    def counted(self, samples: Sequence[dict[str, Tensor]], device: torch.device) -> Any:
        """The tokens of a step that the loss sees, over all processes."""
        real = [
            {**sample, "labels": torch.full_like(sample["labels"], IGNORED)} if VOID in sample else sample
            for sample in samples
        ]
        return self._get_num_items_in_batch(real, device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        void = inputs.pop(VOID, None) is not None
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss * 0 if void else loss


class Watch(TrainerCallback):
    """Tells the progress, and stops at a loss or gradient that is no number."""

    def __init__(self, progress: Progress) -> None:
        self.progress: Callable[[str, int, int | None], None] = progress

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.progress("train", state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(float(value)):
                raise ModelError(
                    f"training step {state.global_step} has the {name.replace('_', ' of gradient ')} {value}; lower "
                    "train.learning_rate, or set train.bf16 to false"
                )
