"""What a trainer of demonstrations is asked: options, rows, protocol. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field, model_validator

from polypref.backends.base import Answer, Generator, ModelSpec, Options, Progress
from polypref.backends.reward_training import template_text
from polypref.backends.training import LoraOptions

SFTMethod = Literal["transformer", "fake"]
Select = Literal["loss", "chrf", "scorer", "last"]

METRIC = {"loss": "loss", "chrf": "chrf", "scorer": "score"}
"""The metric that a selection goes by."""

Figures = dict[str, dict[str, float]]
"""Metric → language → value."""

Measure = Callable[[Generator], Figures]
"""Lets the model in training answer, and says how good the answers are."""


class SFTTrainOptions(Options):
    """How a model is fine-tuned on demonstrations, and which of its checkpoints is kept."""

    method: SFTMethod = Field("transformer", description="a language model, or a fake for trying out")
    learning_rate: float = Field(1e-5, gt=0, description="the highest, after warm-up")
    epochs: float = Field(3.0, gt=0, description="passes over the rows")
    max_steps: int | None = Field(None, gt=0, description="optimiser steps; takes the place of epochs")
    batch_size: int = Field(32, gt=0, description="rows of one optimiser step, over all devices")
    micro_batch_size: int | None = Field(
        None, gt=0, description="rows of one forward pass of a device; as many as fit 8192 tokens when left out"
    )
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="share of the steps, rounded down")
    warmup_steps: int | None = Field(None, ge=0, description="takes the place of warmup_ratio")
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine", description="of the learning rate after warm-up; constant has none"
    )
    weight_decay: float = Field(0.0, ge=0, description="of the optimiser")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are scaled down to it")
    optimizer: str = Field("adamw_torch", description="a name of transformers' optim")
    max_length: int = Field(
        4096, gt=1, description="tokens of prompt and answer; a longer row is dropped and counted, never cut"
    )
    chat_template: str | None = Field(
        None, description="a Jinja file in the place of the tokenizer's template; a base model without one needs it"
    )
    lora: LoraOptions | None = Field(None, description="all weights are trained when left out")
    bf16: bool | Literal["auto"] = Field("auto", description="auto: where the accelerator has it, never on a CPU")
    gradient_checkpointing: bool | Literal["auto"] = Field("auto", description="auto: on an accelerator")
    seed: int = Field(0, description="of the rows' order and of dropout")
    select: Select = Field(
        "loss",
        description="which weights are kept: lowest loss, highest chrF or mean score of greedy answers, on the "
        "validation rows; or the last",
    )
    evaluations: int = Field(4, gt=0, description="times that the validation rows are looked at in a training")
    save_steps: int = Field(100, gt=0, description="steps between two resume points; every evaluation is one as well")
    logging_steps: int = Field(1, gt=0, description="steps between two points of the loss curve")
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        (), description="who else gets the figures"
    )

    def identity(self, fingerprint: Callable[[ModelSpec], str]) -> dict[str, Any]:
        """As ever; a chat template is what its file says."""
        told = super().identity(fingerprint)
        return told | {"chat_template": template_text(self.chat_template)} if self.chat_template else told

    @model_validator(mode="after")
    def _batches_are_whole(self) -> SFTTrainOptions:
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        return self


@dataclass(frozen=True, slots=True)
class SFTRow:
    """A demonstration: the answer, under its prompt."""

    id: str
    lang: str
    answer: Answer


@runtime_checkable
class SFTTrainer(Protocol):
    """Trains a model on demonstrations."""

    fingerprint: str

    def train(
        self,
        rows: Sequence[SFTRow],
        validation: Sequence[SFTRow],
        start: ModelSpec,
        options: SFTTrainOptions,
        folder: Path,
        progress: Progress,
        measure: Measure | None = None,
    ) -> dict[str, Any]:
        """Write an ordinary checkpoint into ``folder``, the caller's unfinished folder, as ``Trainer.train`` does.

        The validation rows are looked at ``options.evaluations`` times, the last time at the end, and the weights of
        the best time are written. ``measure`` is asked as often, by the first process; its figures join the loss, and
        ``options.select`` may name one of them. A metric's value is the mean over its languages, each counting the
        same.

        Returns:
            ``rows`` and ``validation_rows`` used, ``steps``, ``tokens`` seen, ``seconds``, ``dropped`` and
            ``validation_dropped`` (reason: rows), ``languages`` (language: rows), ``curve`` (a list of {"step",
            "loss"}), ``checkpoints`` (a list of {"step", "loss", …, "by_language": {language: {"loss", …}}}),
            ``selected`` (step) and ``select`` (by what).

        Raises:
            InputError: no row is left to train on.
            ModelError: the start cannot be trained, the loss is not finite, or memory is out.
        """
        ...
