"""A trainer of demonstrations without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polypref.backends.base import Answer, ModelSpec, PreferenceRow, Progress
from polypref.backends.fake import FakeGenerator, FakeTrainer
from polypref.backends.sft_training import Measure, SFTRow, SFTTrainOptions
from polypref.backends.training import TrainOptions
from polypref.errors import InputError


class FakeSFTTrainer:
    """Writes a checkpoint folder that a fake ``ModelSpec`` opens; its fingerprint follows rows, start and options."""

    fingerprint = "fake-sft-trainer-1"

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
        """Like ``SFTTrainer.train``; the validation rows are looked at once, at the end."""
        if not rows:
            raise InputError("no demonstration is left to train on; look at the data")
        pairs = [PreferenceRow(row.id, row.lang, row.answer, _none(row.answer)) for row in rows]
        told = ("learning_rate", "epochs", "max_steps", "batch_size", "seed")
        shared = TrainOptions(method="fake", **{name: getattr(options, name) for name in told})
        summary = FakeTrainer().train(pairs, start, shared, folder, progress)
        steps, loss = summary["steps"], summary["curve"][-1]["loss"]
        figures = {"loss": dict.fromkeys(sorted({row.lang for row in validation}), loss)}
        if validation and measure is not None:
            figures |= measure(FakeGenerator(ModelSpec(path=str(folder), backend="fake")))
        languages = {
            lang: {name: values[lang] for name, values in figures.items() if lang in values} for lang in figures["loss"]
        }
        return summary | {
            "validation_rows": len(validation),
            "validation_dropped": {},
            "curve": [{"step": point["step"], "loss": point["loss"]} for point in summary["curve"]],
            "checkpoints": [
                {"step": steps}
                | {name: sum(values.values()) / len(values) for name, values in figures.items()}
                | {"by_language": languages}
            ]
            if validation
            else [],
            "select": options.select if validation else "last",
            "selected": steps,
        }


def _none(answer: Answer) -> Answer:
    return Answer(answer.id, answer.messages, "")
