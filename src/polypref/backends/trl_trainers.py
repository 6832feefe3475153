"""TRL's trainers with the few hooks that polypref changes.

DPO takes token ids and reference log-probabilities as they are given, and adds λ·NLL with the mean taken per answer:

    L = 1/N Σ_i [ ℓ_DPO(i) + λ · 1/|y_i| Σ_t −log π(y_i,t | x_i, y_i,<t) ]

over the N rows of the whole optimiser step, so that neither micro-batches nor devices change it. TRL's own ``sft`` term
is the mean over a micro-batch's tokens, and its mean over unequal micro-batches weighs rows unequally.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import DPOTrainer, KTOTrainer, SFTTrainer

from polypref.backends.base import Progress
from polypref.errors import ModelError


class Discreet:
    """Reports to nobody, and leaves the model card to us."""

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass


class PairedTrainer(Discreet, DPOTrainer):
    """DPO + λ·NLL on rows with ``prompt_ids``, ``chosen_ids``, ``rejected_ids``, ``ref_chosen_logps`` and
    ``ref_rejected_logps``; without the last two, on TRL's own reference model."""

    loss_is_scaled_for_ga = True  # by compute_loss, which divides by the rows of the whole step

    def __init__(self, *args: Any, nll_weight: float, **kwargs: Any) -> None:
        self.nll_weight = nll_weight
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset  # token ids already

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset  # reference log-probabilities already

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one optimiser step and the number of its rows over all processes."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = sum(len(sample["input_ids"]) // 2 for sample in samples)
        return samples, self.accelerator.gather(torch.tensor([rows], device=device)).sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share of the step's mean over rows."""
        loss = super().compute_loss(model, inputs, return_outputs)
        if num_items_in_batch is None or return_outputs:
            return loss
        # Every process' gradient is averaged afterwards, hence their number.
        return loss * (len(inputs["input_ids"]) // 2 * self.accelerator.num_processes / num_items_in_batch)

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
        gathered = self.accelerator.gather(nll.detach()).mean().item()
        self._metrics["train" if self.model.training else "eval"]["nll"].append(gathered)
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


class UnpairedTrainer(Discreet, KTOTrainer):
    """KTO on rows with ``prompt_ids``, ``completion_ids``, ``KL_completion_ids`` and ``label``."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


class ChosenTrainer(Discreet, SFTTrainer):
    """Supervised fine-tuning on rows with ``input_ids`` and ``labels``; the mean is over the tokens of the step."""


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
