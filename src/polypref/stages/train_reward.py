"""Train a reward model on preference data: pairs or labelled answers, in the languages that are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from polypref.backends.base import Context, ModelSpec, ScorerSpec, Tag
from polypref.backends.reward_training import PairRow, PointRow, RewardRow, RewardTrainer, RewardTrainOptions
from polypref.errors import InputError
from polypref.records import Candidate, Example, Message, live
from polypref.stages.evaluate import LABELS
from polypref.stages.preference_data import Mix, mixed

VERSION = 1
STAGE = "train_reward"


class TrainRewardOptions(RewardTrainOptions):
    """How to train a reward model, what it is made of, and in which languages."""

    BESIDE = frozenset({"report_to", "save_steps"})

    start: ModelSpec | None = Field(None, description="a language model or a reward model; bag_of_words has none")
    languages: tuple[Tag, ...] = Field((), description="of the training rows; all that the data has when empty")
    mix: Mix = Field(
        "natural", description="of several languages: natural takes all rows, even as many of each, or weights"
    )

    @model_validator(mode="after")
    def _one_process(self) -> TrainRewardOptions:
        """Here and not in the trainer: nothing has been made yet, by any of the processes."""
        if self.method == "bag_of_words" and int(os.environ.get("WORLD_SIZE") or 1) > 1:
            raise ValueError("bag_of_words is trained in one process; start it without accelerate launch")
        return self

    @property
    def trainer(self) -> RewardTrainOptions:
        """What the trainer is told: the options without the start and the data."""
        return RewardTrainOptions.model_validate(
            {name: getattr(self, name) for name in RewardTrainOptions.model_fields}
        )


def train_reward(
    examples: Iterable[Example],
    validation: Iterable[Example],
    options: TrainRewardOptions,
    context: Context,
    folder: Path,
) -> dict[str, Any]:
    """Train on the examples' pairs (bradley_terry) or labels (pointwise) and write the reward model into ``folder``.

    Weights are selected on the validation rows in the training languages.

    Returns:
        What ``RewardTrainer.train`` returns, and ``left_out`` (language: rows that the mix left out).

    Raises:
        InputError: the data has no row for the loss, or a row lacks its prompt, its answer or a label from 0 to 1.
    """
    kept, mix = mixed(_fitting(examples, options), options.languages, options.mix, options.seed)
    rows = list(_rows(kept, options))
    judged = [row for row in _rows(_fitting(validation, options), options) if row.lang in mix.kept]
    for remark in mix.remarks():
        context.warn(remark)
    if lacking := sorted(set(mix.kept) - {row.lang for row in judged}):
        context.warn(f"no validation row is in {', '.join(lacking)}; the weights are chosen without it")
    context.release()
    trainer: RewardTrainer = context.open("reward_trainer", options.method)
    summary = trainer.train(rows, judged, options.start, options.trainer, folder, context.progress)
    return summary | {"left_out": mix.left_out}


def trained_reward(options: TrainRewardOptions, folder: Path) -> ScorerSpec:
    """How what was trained is opened as a scorer: a model of its own, or an adapter on the model it was made of."""
    start, lora = options.start, options.lora
    if options.method != "transformer" or start is None:
        backend = {"backend": "fake"} if options.method == "fake" else {}
        name = "reward_model" if options.method == "transformer" else options.method
        return ScorerSpec(scorer=name, model=ModelSpec.model_validate({"path": str(folder), **backend}))
    if lora is None or lora.merge or start.adapter is not None:
        model = start.model_copy(update={"path": str(folder), "name": None, "adapter": None, "revision": None})
    else:
        model = start.model_copy(update={"adapter": str(folder), "name": None})
    return ScorerSpec(scorer="reward_model", model=model)


def _fitting(examples: Iterable[Example], options: TrainRewardOptions) -> list[Example]:
    """The examples with the rows of the loss alone, so that a mix counts no others.

    Raises:
        InputError: there are only others.
    """
    examples = list(examples)
    pairs = any(example.pairs for example in examples)
    labels = any(candidate.label is not None for example in examples for candidate in example.candidates)
    if options.loss == "bradley_terry":
        if labels and not pairs:
            raise InputError("the data has labels but no pair; set loss to pointwise, or give pairs")
        return [
            replace(example, candidates=[replace(candidate, label=None) for candidate in example.candidates])
            for example in examples
        ]
    if pairs and not labels:
        raise InputError("the data has pairs but no label; set loss to bradley_terry, or give labelled answers")
    return [replace(example, pairs=[]) for example in examples]


def _rows(examples: Sequence[Example], options: TrainRewardOptions) -> Iterator[RewardRow]:
    """One row per pair or label, in order, under the prompt of its language as it stands."""
    for example in examples:
        if options.loss == "bradley_terry":
            for pair in example.pairs:
                name = f"{example.id}/{pair.lang}: {pair.chosen} over {pair.rejected}"
                chosen, rejected = (_text(example, pair.lang, answer) for answer in (pair.chosen, pair.rejected))
                yield PairRow(name, pair.lang, _prompt(example, pair.lang), chosen, rejected, pair.margin)
            continue
        for candidate in example.candidates:
            if candidate.label is not None and live(candidate):
                name = f"{example.id}/{candidate.lang}: {candidate.id}"
                prompt = _prompt(example, candidate.lang)
                yield PointRow(name, candidate.lang, prompt, candidate.text, _label(example, candidate))


def _prompt(example: Example, lang: str) -> list[Message]:
    if lang not in example.prompts:
        raise InputError(f"example {example.id!r} has answers in {lang} but no prompt in it; add the prompt")
    return example.prompts[lang]


def _text(example: Example, lang: str, candidate_id: str) -> str:
    candidate = example.candidate(candidate_id)
    if not live(candidate):
        raise InputError(f"example {example.id!r} has a pair in {lang} with {candidate_id!r}, which failed; pair anew")
    return candidate.text


def _label(example: Example, candidate: Candidate) -> float:
    label = candidate.label
    value = LABELS.get(label.strip().lower()) if isinstance(label, str) else label
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            f"the label of {candidate.id!r} of example {example.id!r} is {label!r}; write true or false, a number from "
            f"0 to 1, or one of {', '.join(LABELS)}"
        )
    return float(value)
