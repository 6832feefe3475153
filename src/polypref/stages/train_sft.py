"""Supervised fine-tuning on demonstrations, in the languages that are asked for; the best checkpoint is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from polypref import languages
from polypref.backends.base import Answer, Context, ModelSpec, ScorerSpec, Tag
from polypref.backends.sft_training import Measure, SFTRow, SFTTrainer, SFTTrainOptions
from polypref.errors import InputError
from polypref.records import Candidate, Example, with_system
from polypref.stages.answer_quality import AnswerQuality
from polypref.stages.corruption import corrupt_answers
from polypref.stages.demonstrations import By, demonstrations
from polypref.stages.preference_data import Mix, mixed

VERSION = 1
STAGE = "train_sft"


class TrainSFTOptions(SFTTrainOptions):
    """How to fine-tune, which model to start from, and on which demonstrations."""

    BESIDE = frozenset({"report_to", "save_steps"})

    start: ModelSpec
    languages: tuple[Tag, ...] = Field((), description="of the training rows; all that the data has when empty")
    by: By = Field("answers", description="answers: those that show how it is done; chosen: the better ones of pairs")
    mix: Mix = Field(
        "natural", description="of several languages: natural takes all rows, even as many of each, or weights"
    )
    corrupt: float = Field(0.0, ge=0, le=1, description="share of the answers that go to another prompt")
    system: dict[str, str] = Field(default_factory=dict, description="a system prompt by language, as in generation")
    scorer: ScorerSpec | None = Field(None, description="of the greedy answers, for select: scorer")
    max_tokens: int = Field(512, gt=0, description="of a greedy answer, for select: chrf or scorer")

    @field_validator("system", mode="after")
    @classmethod
    def _tags(cls, value: dict[str, str]) -> dict[str, str]:
        return {languages.normalise(code): text for code, text in value.items()}

    @model_validator(mode="after")
    def _scorer_is_there(self) -> TrainSFTOptions:
        if self.select == "scorer" and self.scorer is None:
            raise ValueError("select is scorer, but no scorer is named; give scorer")
        return self

    @property
    def trainer(self) -> SFTTrainOptions:
        """What the trainer is told: the options without the start and the data."""
        return SFTTrainOptions.model_validate({name: getattr(self, name) for name in SFTTrainOptions.model_fields})


def train_sft(
    examples: Iterable[Example],
    validation: Iterable[Example],
    options: TrainSFTOptions,
    context: Context,
    folder: Path,
) -> dict[str, Any]:
    """Train on the examples' demonstrations and write the checkpoint into ``folder``.

    Weights are selected on the validation demonstrations in the training languages. Where ``select`` or ``scorer`` asks
    for it, the model in training answers their prompts greedily at every look.

    Returns:
        What ``SFTTrainer.train`` returns, and ``left_out`` (language: rows that the mix left out) and ``corrupted``
        (language: answers under another prompt).

    Raises:
        InputError: no answer demonstrates, one has no prompt in its language, or a language that is asked for has none.
    """
    shown = demonstrations(examples, options.by)
    _refuse_absent(shown, options.languages)
    kept, mix = mixed(shown, options.languages, options.mix, options.seed)
    kept = _only(kept, lambda candidate: candidate.label is not None)  # a mix takes labels away, no answers
    kept, corrupted = corrupt_answers(kept, options.corrupt, options.seed)
    validation = list(validation)
    held = in_languages(demonstrations(validation, options.by), tuple(mix.kept)) if validation else []
    for remark in mix.remarks():
        context.warn(remark)
    if held and (lacking := sorted(set(mix.kept) - {candidate.lang for e in held for candidate in e.candidates})):
        context.warn(f"no validation row is in {', '.join(lacking)}; the weights are chosen without it")
    if not held and options.select != "last":
        context.warn(f"there is no validation row, so the last weights are kept and not the best by {options.select}")
    context.release()
    trainer: SFTTrainer = context.open("sft_trainer", options.method)
    summary = trainer.train(
        list(_rows(kept, options)),
        list(_rows(held, options)),
        options.start,
        options.trainer,
        folder,
        context.progress,
        _measure(held, options, context),
    )
    return summary | {"left_out": mix.left_out, "corrupted": corrupted}


def trained_sft(options: TrainSFTOptions, folder: Path) -> ModelSpec:
    """How the checkpoint is opened: as a model of its own, or as an adapter on the model that training started from."""
    if options.lora is None or options.lora.merge or options.start.adapter is not None:
        return options.start.model_copy(update={"path": str(folder), "name": None, "adapter": None, "revision": None})
    return options.start.model_copy(update={"adapter": str(folder), "name": None})


def in_languages(shown: Iterable[Example], languages: Sequence[str]) -> list[Example]:
    """The examples with their demonstrations in some languages; those without any are left out."""
    return _only(shown, lambda candidate: candidate.lang in languages)


def remarks(summary: dict[str, Any]) -> list[str]:
    """One sentence for everything that a training's summary says of its rows and that is not as it should be."""
    said = [
        f"{n} {side}demonstrations are left out ({reason})"
        for side, key in (("", "dropped"), ("validation ", "validation_dropped"))
        for reason, n in summary[key].items()
    ]
    if corrupted := {lang: n for lang, n in summary["corrupted"].items() if n}:
        told = ", ".join(f"{lang} {n}" for lang, n in corrupted.items())
        said.append(f"demonstrations under another prompt, as corrupt asks: {told}")
    return said


def _refuse_absent(shown: Sequence[Example], wanted: Sequence[str]) -> None:
    """Refuse a language that has no demonstration.

    Raises:
        InputError: with the languages that have some.
    """
    there = {candidate.lang for example in shown for candidate in example.candidates}
    if absent := [lang for lang in wanted if lang not in there]:
        raise InputError(
            f"the data has no answer to learn from in {', '.join(absent)}; it has some in {', '.join(sorted(there))}"
        )


def _only(examples: Iterable[Example], keep: Callable[[Candidate], bool]) -> list[Example]:
    """The examples with some of their answers; those without any are left out."""
    fewer = (replace(example, candidates=[c for c in example.candidates if keep(c)]) for example in examples)
    return [example for example in fewer if example.candidates]


def _rows(examples: Iterable[Example], options: TrainSFTOptions) -> Iterator[SFTRow]:
    """One row per answer, in order, under the prompt of its language."""
    for example in examples:
        for candidate in example.candidates:
            name = f"{example.id}/{candidate.lang}: {candidate.id}"
            messages = with_system(example.prompts[candidate.lang], options.system.get(candidate.lang))
            finished = candidate.finish_reason != "length"
            answer = Answer(name, messages, candidate.text, candidate.token_ids, finished)
            yield SFTRow(name, candidate.lang, answer)


def _measure(held: Sequence[Example], options: TrainSFTOptions, context: Context) -> Measure | None:
    """What looks at the answers of the model in training, where they are asked for."""
    if not held or (options.select != "chrf" and options.scorer is None):
        return None
    return AnswerQuality(held, options.scorer, options.max_tokens, options.system, context)
