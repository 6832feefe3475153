"""TRL's reward trainer with polypref's losses, sequences and selection.

The loss of an optimiser step is the mean over its N rows, whatever the micro-batches and devices:

    L = 1/N Σ_i ℓ_i        (ℓ of maths/rewards.py)

TRL's own takes the mean of the micro-batches' means, has no loss for labelled answers, and drops rows that are too
long; here rows come as token ids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from polypref.backends.trl_batches import VOID, Dealt
from polypref.backends.trl_trainers import Discreet
from polypref.errors import ModelError
from polypref.maths import rewards

SELECTION = "eval_selection"
SUMS = ("loss", "right", "judged", "margin", "rows")


class Collator:
    """Rows as one batch, padded on the right: ``input_ids`` [S, T], the S/2 chosen answers before the S/2 rejected
    ones, or S labelled answers; their ``attention_mask``; ``margin`` [S/2] or ``label`` [S] where rows have them."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        names = ("input_ids",) if "input_ids" in rows[0] else ("chosen_ids", "rejected_ids")
        ids = [torch.tensor(row[name]) for name in names for row in rows]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        }
        for name in ("margin", "label"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        return batch


class RewardModelTrainer(Dealt, Discreet, trl.RewardTrainer):
    """Bradley–Terry on rows of ``Collator`` that are pairs, pointwise on rows that have a label.

    ``select`` says what makes an evaluation the best: accuracy (of equal ones the lower loss), loss, or last.
    """

    loss_is_scaled_for_ga = True  # by compute_loss, which divides by the rows of the whole step

    def __init__(
        self, *args: Any, validation: Sequence[dict[str, Any]], centre: float, select: str, **kwargs: Any
    ) -> None:
        self.validation = sorted(validation, key=_tokens)
        self.centre, self.select = centre, select
        self.seen: list[list[float]] = []
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset  # token ids already

    def rows_of(self, batch: dict[str, Tensor]) -> int:
        return len(batch["input_ids"]) // (1 if "label" in batch else 2)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share of the step's mean over rows; without their number, the micro-batch's own mean.

        Raises:
            ModelError: a loss is not finite.
        """
        void = inputs.pop(VOID, None) is not None
        outputs, losses, sums = self._forward(model, inputs)
        if void:
            losses = losses * 0
        else:
            self.seen.append(sums)
        rows = len(losses) if num_items_in_batch is None else num_items_in_batch
        # Every process' gradient is averaged afterwards, hence their number.
        loss = losses.sum() * (1 if num_items_in_batch is None else self.accelerator.num_processes) / rows
        return (loss, outputs) if return_outputs else loss

    def _forward(self, model: Any, inputs: dict[str, Tensor]) -> tuple[Any, Tensor, list[float]]:
        """The model's outputs, the loss of each row [B], and what ``SUMS`` names, summed over the rows."""
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        reward = outputs.logits.squeeze(-1).float()
        if "label" in inputs:
            losses = rewards.pointwise(reward, inputs["label"])
            right = rewards.agreed(reward.detach(), inputs["label"])
            margin = torch.full_like(right, torch.nan)
        else:
            chosen, rejected = reward.chunk(2)
            losses = rewards.bradley_terry(chosen, rejected, inputs.get("margin"), self.centre)
            right, margin = rewards.preferred(chosen, rejected).detach(), (chosen - rejected).detach()
        if not losses.isfinite().all():
            raise ModelError(
                f"training step {self.state.global_step + self.model.training} has the loss {losses.mean().item()}; "
                "lower train.learning_rate, or set train.bf16 to false"
            )
        totals = [losses.detach().sum(), right.nansum(), right.isfinite().sum(), margin.sum()]
        return outputs, losses, [*torch.stack([total.float() for total in totals]).tolist(), len(losses)]

    def _totals(self, sums: list[list[float]]) -> dict[str, float]:
        """``SUMS`` over all processes."""
        every = gather_object([[math.fsum(column) for column in zip(*sums, strict=True)]] if sums else [])
        return dict(zip(SUMS, (math.fsum(column) for column in zip(*every, strict=True)), strict=True))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the figures of all rows since the last time."""
        if "loss" in logs:
            logs |= _figures(self._totals(self.seen))
            self.seen = []
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss and accuracy over the validation rows, each counted once, whatever the processes."""
        size, processes = self.args.per_device_train_batch_size, self.accelerator.num_processes
        batches = [self.validation[i : i + size] for i in range(0, len(self.validation), size)]
        passes = math.ceil(len(batches) / processes)
        sums: list[list[float]] = []
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            # Every process makes as many passes as the others, since a sharded model waits for all of them.
            for index in range(self.accelerator.process_index, passes * processes, processes):
                rows = batches[index % len(batches)]
                found = self._forward(self.model, self._prepare_inputs(self.data_collator(rows)))[2]
                sums += [found] if index < len(batches) else []
        totals = self._totals(sums)
        figures = _figures(totals) | {"loss": totals["loss"] / totals["rows"]}
        metrics = {f"eval_{name}": value for name, value in figures.items()}
        if self.select != "last":
            # Twice the right answers, ties counting half, is a whole number; what the loss adds to it is below 1.
            loss = metrics["eval_loss"]
            metrics[SELECTION] = -loss if self.select == "loss" else 2 * totals["right"] + 1 / (1 + loss)
            if self.state.best_metric is None or metrics[SELECTION] > self.state.best_metric:
                self.control.should_save = True
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.model.train(training)
        return metrics


class Evaluations(TrainerCallback):
    """Judges the validation rows ``times`` times in a training, evenly, the last time at its end."""

    def __init__(self, times: int, work: Path) -> None:
        self.times, self.work = times, work

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.best_global_step:  # the state was saved with the folder's path of then
            state.best_model_checkpoint = str(self.work / f"checkpoint-{state.best_global_step}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        done, before = (step * self.times // state.max_steps for step in (state.global_step, state.global_step - 1))
        if done > before:
            control.should_evaluate = True


def _tokens(row: dict[str, Any]) -> int:
    return max(len(row[name]) for name in ("input_ids", "chosen_ids", "rejected_ids") if name in row)


def _figures(totals: dict[str, float]) -> dict[str, float]:
    """Accuracy over the rows that can be right or wrong, and of pairs the mean of r_w − r_l."""
    figures = {"accuracy": totals["right"] / totals["judged"]} if totals["judged"] else {}
    return figures if math.isnan(totals["margin"]) else figures | {"margin": totals["margin"] / totals["rows"]}
