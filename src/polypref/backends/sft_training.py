"""What a trainer of demonstrations is asked: options, rows, protocol. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from polypref.backends.base import Answer, Generator, ModelSpec, Progress
from polypref.backends.training import Learning, OwnTemplate

SFTMethod = Literal["transformer", "fake"]
Select = Literal["loss", "chrf", "scorer", "last"]

METRIC = {"loss": "loss", "chrf": "chrf", "scorer": "score"}
"""The metric that a selection goes by."""

Figures = dict[str, dict[str, float]]
"""Metric → language → value."""

Measure = Callable[[Generator], Figures]
"""Lets the model in training answer, and says how good the answers are."""


class SFTTrainOptions(Learning, OwnTemplate):
    """How a model is fine-tuned on demonstrations, and which of its checkpoints is kept."""

    method: SFTMethod = Field("transformer", description="a language model, or a fake for trying out")
    learning_rate: float = Field(1e-5, gt=0, description="the highest, after warm-up")
    epochs: float = Field(3.0, gt=0, description="passes over the rows")
    max_length: int = Field(
        4096, gt=1, description="tokens of prompt and answer; a longer row is dropped and counted, never cut"
    )
    select: Select = Field(
        "loss",
        description="which weights are kept: lowest loss, highest chrF or mean score of greedy answers, on the "
        "validation rows; or the last",
    )
    evaluations: int = Field(4, gt=0, description="times that the validation rows are looked at in a training")
    save_steps: int = Field(100, gt=0, description="steps between two resume points; every evaluation is one as well")
    logging_steps: int = Field(1, gt=0, description="steps between two points of the loss curve")


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
