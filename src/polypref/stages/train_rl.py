"""Train a policy by reinforcement learning: the prompts of the examples are answered, and a scorer rewards the answers.

No preference data is needed; prompts may be in any language that the policy and the reward can be asked in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from polypref import languages
from polypref.backends.base import Context, ModelSpec, ScorerSpec, Tag
from polypref.backends.processes import Opened
from polypref.backends.rl_training import RLOptions, RLPrompt, RLTrainer
from polypref.errors import InputError
from polypref.records import Example, with_system

VERSION = 1
STAGE = "train_rl"


class TrainRLOptions(RLOptions):
    """How to train, which model to start from, what rewards its answers, and in which languages."""

    BESIDE = frozenset({"report_to", "save_steps"})

    start: ModelSpec
    reward: ScorerSpec
    languages: tuple[Tag, ...] = Field((), description="of the prompts; all that the examples have when empty")
    system: dict[str, str] = Field(default_factory=dict, description="a system prompt by language, as in generation")
    language_identifier: str | None = Field(None, description="left out: the run's own")

    @field_validator("system", mode="after")
    @classmethod
    def _tags(cls, value: dict[str, str]) -> dict[str, str]:
        return {languages.normalise(code): text for code, text in value.items()}

    @property
    def trainer(self) -> RLOptions:
        """What the trainer is told: the options without the start, the reward and the data."""
        return RLOptions.model_validate({name: getattr(self, name) for name in RLOptions.model_fields})


def train_rl(examples: Iterable[Example], options: TrainRLOptions, context: Context, folder: Path) -> dict[str, Any]:
    """Train on the examples' prompts and write the checkpoint into ``folder``; see ``RLTrainer.train`` for the summary.

    Of each example that a hash of its id holds out (``validation_share``) the prompts of all languages are held out.

    Raises:
        InputError: a language has no prompt, or none is left to train on.
    """
    training, validation = split_prompts(examples, options)
    context.release()
    # In a launch of several processes each has its own of both.
    identify = Opened(context.open, "language_identifier", options.language_identifier, "identify")
    score = Opened(context.open, "scorer", options.reward, "score")
    trainer: RLTrainer = context.open("rl_trainer", options.method)
    return trainer.train(
        training, validation, options.start, options.trainer, folder, context.progress, score, identify
    )


def trained(options: TrainRLOptions, folder: Path) -> ModelSpec:
    """How the checkpoint is opened: as a model of its own, or as an adapter on the model that training started from."""
    if options.lora is None or options.lora.merge or options.start.adapter is not None:
        return options.start.model_copy(update={"path": str(folder), "name": None, "adapter": None, "revision": None})
    return options.start.model_copy(update={"adapter": str(folder), "name": None})


def split_prompts(examples: Iterable[Example], options: TrainRLOptions) -> tuple[list[RLPrompt], list[RLPrompt]]:
    """The prompts to train on and those held out: a row for each example and language, in order.

    An example is held out where SHA-256 of (seed, "held out", id), as a share of its range, is below
    ``validation_share``; not of (seed, id), by which a limit has chosen the examples already.

    Raises:
        InputError: there is no prompt in a language that is asked for, or none to train on, or none held out although
            some are wanted.
    """
    examples = list(examples)
    there = {lang for example in examples for lang in example.prompts}
    if absent := [lang for lang in options.languages if lang not in there]:
        raise InputError(f"there is no prompt in {', '.join(absent)}; there are some in {', '.join(sorted(there))}")
    held = {example.id for example in examples if _share(options.seed, example.id) < options.validation_share}
    training = [row for example in examples if example.id not in held for row in _rows(example, options)]
    validation = [row for example in examples if example.id in held for row in _rows(example, options)]
    if not training:
        raise InputError(f"there is no prompt to train on ({len(examples)} examples); give more, or hold out fewer")
    if options.select == "reward" and not validation:
        raise InputError(
            f"no prompt of {len(examples)} examples is held out at validation_share {options.validation_share:g}, and "
            "select reward needs some; raise it, or set select to last"
        )
    return training, validation


def _share(seed: int, example_id: str) -> float:
    digest = hashlib.sha256(f"{seed}\0held out\0{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _rows(example: Example, options: TrainRLOptions) -> Iterator[RLPrompt]:
    for lang in options.languages or tuple(example.prompts):
        if lang in example.prompts:
            messages = with_system(example.prompts[lang], options.system.get(lang))
            yield RLPrompt(f"{example.id}/{lang}", lang, messages, example.gold, example.category)
