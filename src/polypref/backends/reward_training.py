"""What a trainer of reward models is asked: options, rows, protocol. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field, model_validator

from polypref.backends.base import ModelSpec, Progress
from polypref.backends.training import Learning, LoraOptions, OwnTemplate
from polypref.records import Message

RewardMethod = Literal["transformer", "bag_of_words", "fake"]
RewardLoss = Literal["bradley_terry", "pointwise"]


class RewardTrainOptions(Learning, OwnTemplate):
    """How a reward model is trained, on pairs of answers (bradley_terry) or on labelled answers (pointwise)."""

    method: RewardMethod = Field(
        "transformer",
        description="a language model with a head, linear on words and letters, or a fake for trying out",
    )
    loss: RewardLoss = Field(
        "bradley_terry", description="−log σ(r_w − r_l) of pairs, or the cross-entropy of σ(r) with a label in [0, 1]"
    )
    centre: float = Field(
        0.0, ge=0, description="coefficient of (r_w + r_l)², which keeps rewards around 0 (bradley_terry)"
    )
    margin: bool = Field(False, description="−log σ(r_w − r_l − m) with the margin m of each pair (bradley_terry)")
    learning_rate: float = Field(1e-5, gt=0, description="the highest, after warm-up")
    batch_size: int = Field(128, gt=0, description="rows of one optimiser step, over all devices")
    max_length: int = Field(
        2048, gt=1, description="tokens of prompt and answer; of a longer sequence the last are kept, and it is counted"
    )
    head: Literal["auto", "new", "keep"] = Field(
        "auto", description="auto: kept where the start is a reward model already, else new"
    )
    lora: LoraOptions | None = Field(None, description="all weights are trained when left out; the head always is")
    seed: int = Field(0, description="of the rows' order, of a new head and of dropout")
    select: Literal["accuracy", "loss", "last"] = Field(
        "accuracy",
        description="which weights are kept: the best on the validation rows (of equal accuracy the lower loss, then "
        "the earlier step), or the last; the last where there are no validation rows",
    )
    evaluations: int = Field(4, gt=0, description="times that the validation rows are judged in a training")
    save_steps: int = Field(100, gt=0, description="steps between two resume points; every evaluation is one as well")
    logging_steps: int = Field(1, gt=0, description="steps between two points of the loss curve")

    @model_validator(mode="after")
    def _fits_together(self) -> RewardTrainOptions:
        if self.loss == "pointwise" and (self.centre or self.margin):
            raise ValueError("centre and margin are of bradley_terry; leave them out with the pointwise loss")
        return self


ADAPTER_NOTE = "reward_model.json"
"""Beside an adapter, what a whole checkpoint has in its config.json under "polypref": {"input": "turns", "max_length":
tokens, "loss": name}."""


@dataclass(frozen=True, slots=True)
class PairRow:
    """A prompt with the better and the worse of two answers; ``margin`` says by how much, in units of the reward."""

    id: str
    lang: str
    messages: Sequence[Message]
    chosen: str
    rejected: str
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class PointRow:
    """A prompt with one answer and how good it is: ``label`` in [0, 1]."""

    id: str
    lang: str
    messages: Sequence[Message]
    text: str
    label: float


RewardRow = PairRow | PointRow


@runtime_checkable
class RewardTrainer(Protocol):
    """Trains a model that gives an answer a number."""

    fingerprint: str

    def train(
        self,
        rows: Sequence[RewardRow],
        validation: Sequence[RewardRow],
        start: ModelSpec | None,
        options: RewardTrainOptions,
        folder: Path,
        progress: Progress,
    ) -> dict[str, Any]:
        """Write a reward model into ``folder``, the caller's unfinished folder, as ``Trainer.train`` does.

        One made of a language model is an ordinary sequence classifier of transformers with one label, its tokenizer
        beside it, and in config.json, under "polypref", {"input": "turns", "max_length": tokens, "loss": name}: a
        sequence is the templated prompt, the answer tokenised apart from it and the end-of-turn, of which the last
        max_length tokens are kept. A LoRA adapter has the same in ``ADAPTER_NOTE``.

        Rows are all ``PairRow`` (bradley_terry) or all ``PointRow`` (pointwise). ``start`` is None only for a method
        that is made of nothing (bag_of_words, fake).

        Returns:
            ``rows`` and ``validation_rows`` used, ``steps``, ``seconds``, ``truncated`` ({"train": n, "validation":
            n}, sequences), ``dropped`` (reason: rows), ``languages`` (language: rows), ``curve`` (a list of {"step",
            "loss", "accuracy", "margin"}), ``validation`` (a list of {"step", "loss", "accuracy"}), ``selected_step``,
            ``head`` ("new" or "kept") and ``pad_token``. What a method has not is None or empty.

        Raises:
            InputError: no row is left to train on.
            ModelError: the start cannot be trained, the loss is not finite, or memory is out.
        """
        ...
