"""What a trainer is asked: its options, its protocol, and what it answers. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import Field, model_validator

from polypref.backends.base import ModelSpec, Options, PreferenceRow, Progress
from polypref.errors import RecipeError

Method = Literal["dpo", "sft", "kto", "fake"]
DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
]
KtoLoss = Literal["kto", "apo_zero_unpaired"]


class LoraOptions(Options):
    """Train a LoRA adapter (Hu et al. 2021, arXiv 2106.09685) instead of all weights."""

    r: int = Field(16, gt=0, description="rank")
    alpha: float = Field(32.0, gt=0, description="scale: the update is multiplied by alpha/r")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the adapter's input")
    target_modules: str | tuple[str, ...] = Field("all-linear", description="which modules get an adapter")
    merge: bool = Field(False, description="write a whole checkpoint with the adapter merged in, not the adapter alone")


class Learning(Options):
    """How weights are learnt: what all trainers are told. Each has a learning rate and passes of its own."""

    learning_rate: float = Field(5e-7, gt=0, description="the highest, after warm-up")
    epochs: float = Field(1.0, gt=0, description="passes over the rows")
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
    lora: LoraOptions | None = Field(None, description="all weights are trained when left out")
    bf16: bool | Literal["auto"] = Field("auto", description="auto: where the accelerator has it, never on a CPU")
    gradient_checkpointing: bool | Literal["auto"] = Field("auto", description="auto: on an accelerator")
    seed: int = Field(0, description="of the rows' order and of dropout")
    save_steps: int = Field(100, gt=0, description="steps between two resume points")
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        (), description="who else gets the figures"
    )

    def update(self) -> tuple[int, str]:
        """Sequences of one optimiser step, and what they are called."""
        return self.batch_size, f"batch_size {self.batch_size}"

    @model_validator(mode="after")
    def _batches_are_whole(self) -> Self:
        sequences, called = self.update()
        if self.micro_batch_size is not None and sequences % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide {called}")
        return self


class OwnTemplate(Options):
    """A chat template in the place of the tokenizer's."""

    chat_template: str | None = Field(
        None, description="a Jinja file in the place of the tokenizer's template; a base model without one needs it"
    )

    def identity(self, fingerprint: Callable[[ModelSpec], str]) -> dict[str, Any]:
        """As ever; a chat template is what its file says."""
        told = super().identity(fingerprint)
        return told | {"chat_template": template_text(self.chat_template)} if self.chat_template else told


def template_text(path: str) -> str:
    """The chat template in a Jinja file.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"chat_template {path} cannot be read ({error}); give a Jinja file") from None


class TrainOptions(Learning):
    """How a model is trained on preferences.

    A row is a pair of answers (dpo), a chosen answer (sft) or either answer alone (kto).
    """

    method: Method = Field("dpo", description="fake writes a fake model, for trying out")
    loss_type: DpoLoss | KtoLoss | None = Field(
        None, description="TRL's name; sigmoid (dpo) or kto when left out; aot sorts inside a micro-batch"
    )
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="share of labels taken to be wrong (robust, exo_pair, aot)"
    )
    nll_weight: float = Field(1.0, ge=0, description="λ of λ·NLL(chosen): mean per answer, then over the batch (dpo)")
    max_length: int = Field(
        4096, gt=1, description="tokens of prompt and answer; a longer row is dropped and counted, never cut"
    )
    logging_steps: int = Field(1, gt=0, description="steps between two points of the loss curve")

    @model_validator(mode="after")
    def _loss_belongs_to_method(self) -> TrainOptions:
        known: dict[str, tuple[str, ...]] = {"dpo": DpoLoss.__args__, "kto": KtoLoss.__args__}  # type: ignore[attr-defined]
        if self.loss_type is not None and self.loss_type not in known.get(self.method, (self.loss_type,)):
            raise ValueError(f"loss_type {self.loss_type} is no loss of {self.method}: {', '.join(known[self.method])}")
        if self.method == "sft" and self.loss_type is not None:
            raise ValueError(f"loss_type {self.loss_type} is no loss of sft, which has but one; leave it out")
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss_type exo_pair needs a label_smoothing above 0; its paper recommends 1e-3")
        if self.method == "kto" and self.loss_type != "apo_zero_unpaired" and self.micro_batch_size == 1:
            raise ValueError("micro_batch_size is 1; kto needs at least 2, for its KL term pairs them with each other")
        return self


@runtime_checkable
class Trainer(Protocol):
    """Trains a model on preference rows."""

    fingerprint: str

    def train(
        self, rows: Sequence[PreferenceRow], start: ModelSpec, options: TrainOptions, folder: Path, progress: Progress
    ) -> dict[str, Any]:
        """Write an ordinary checkpoint (safetensors, tokenizer, generation config, chat template) into ``folder``.

        ``folder`` is the caller's unfinished folder, renamed when this returns; the same one is given again after an
        interruption, and holds the resume state in ``.resume`` until the end. Called by every process of an
        ``accelerate launch``; only the first writes.

        Returns:
            ``rows`` trained on, ``steps``, ``tokens`` seen, ``seconds``, ``dropped`` (reason: count), ``languages``
            (language: rows) and ``curve``: a list of ``{"step", "loss", "nll", "reward_margin", "accuracy"}``, where
            a figure that the method has not is left out.

        Raises:
            InputError: no row is left to train on.
            ModelError: the start model cannot be trained, the loss is not finite, or memory is out.
        """
        ...
