"""Train on the pairs: their two answers under the plain training prompt, against the training reference.

Three models are never mixed up: ``reward.policy`` and ``reward.reference`` have scored the candidates; the training
reference is the checkpoint that the round starts from unless ``reference`` says otherwise. What the candidates' scoring
has asked it already is taken from there; the rest it scores once, here, and it is let go before training, so that no
reference model is in memory beside the policy. What it said stays in the unfinished folder until training is done.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from polypref import languages
from polypref.backends.base import Answer, Context, Logprob, ModelSpec, PreferenceRow, batches
from polypref.backends.processes import first
from polypref.backends.training import Trainer, TrainOptions
from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair, live, with_system
from polypref.stages.score import ImplicitOptions
from polypref.stages.views import as_answer
from polypref.store.atomic import digest, write_json

VERSION = 1
STAGE = "train"
KEPT = ".reference.json"
"""What the training reference has said, until the training is done."""


class TrainStageOptions(TrainOptions):
    """How to train, which model to start from, and which to hold it to."""

    BESIDE = frozenset({"chunk", "report_to", "save_steps", "scored"})

    start: ModelSpec
    reference: ModelSpec | None = Field(None, description="of the training loss; the start model when left out")
    system: dict[str, str] = Field(default_factory=dict, description="a system prompt by language, as in generation")
    scored: ImplicitOptions | None = Field(None, description="how the candidates were scored, where they have scores")
    chunk: int = Field(512, gt=0, description="answers that the reference scores at once")

    @field_validator("system", mode="after")
    @classmethod
    def _tags(cls, value: dict[str, str]) -> dict[str, str]:
        return {languages.normalise(code): text for code, text in value.items()}

    @model_validator(mode="after")
    def _kto_starts_at_its_reference(self) -> TrainStageOptions:
        if self.method == "kto" and self.reference not in (None, self.start):
            raise ValueError("reference differs from start; kto is held to the model it starts from, so leave it out")
        return self

    @property
    def trainer(self) -> TrainOptions:
        """What the trainer is told: the options without the models and the prompts."""
        return TrainOptions.model_validate({name: getattr(self, name) for name in TrainOptions.model_fields})


def train(examples: Iterable[Example], options: TrainStageOptions, context: Context, folder: Path) -> dict[str, Any]:
    """Train on every pair and write the checkpoint into ``folder``; see ``Trainer.train`` for the summary.

    Raises:
        InputError: no pair is left to train on, or a pair lacks its prompt.
    """
    kept = folder / KEPT
    rows = training_rows(examples, options, context, kept)
    context.release()
    trainer: Trainer = context.open("trainer", options.method)
    summary = trainer.train(rows, options.start, options.trainer, folder, context.progress)
    if first():
        kept.unlink(missing_ok=True)
    return summary


def trained(options: TrainStageOptions, folder: Path) -> ModelSpec:
    """How the checkpoint is opened: as a model of its own, or as an adapter on the model that training started from."""
    if options.lora is None or options.lora.merge or options.start.adapter is not None:
        return options.start.model_copy(update={"path": str(folder), "name": None, "adapter": None, "revision": None})
    return options.start.model_copy(update={"adapter": str(folder), "name": None})


def training_rows(
    examples: Iterable[Example], options: TrainStageOptions, context: Context, kept: Path | None = None
) -> list[PreferenceRow]:
    """One row per pair, in order, under the prompt of the pair's language as it stands, without any prefix.

    Rows of DPO carry the training reference's log-probabilities; an answer that it could not score has an ``error``
    there, and the trainer counts it.

    Args:
        kept: a file that holds what the reference said in an interrupted call, and is written once it has said all.

    Raises:
        InputError: an example has no prompt in a pair's language, or a pair names a candidate that failed.
    """
    reference = options.reference or options.start
    rows: list[PreferenceRow] = []
    stored: dict[str, Logprob] = {}
    for example in examples:
        for pair in example.pairs:
            row = _row(example, pair, options)
            rows.append(row)
            for answer, name in ((row.chosen, pair.chosen), (row.rejected, pair.rejected)):
                if (found := _stored(example, example.candidate(name), answer, reference, options.scored)) is not None:
                    stored[answer.id] = found
    if options.method in ("sft", "kto"):
        return rows
    if reference.backend == "vllm":  # it generates, but scores no prompt that is not its own
        reference = reference.model_copy(update={"backend": "hf"})
    unique = {answer.id: answer for row in rows for answer in (row.chosen, row.rejected) if answer.id not in stored}
    known = stored | _asked(unique, reference, options.chunk, context, kept)
    return [
        PreferenceRow(row.id, row.lang, row.chosen, row.rejected, known[row.chosen.id], known[row.rejected.id])
        for row in rows
    ]


def _row(example: Example, pair: Pair, options: TrainStageOptions) -> PreferenceRow:
    if pair.lang not in example.prompts:
        raise InputError(f"example {example.id!r} has a pair in {pair.lang} but no prompt in it; add the prompt")
    messages = with_system(example.prompts[pair.lang], options.system.get(pair.lang))

    def answer(candidate_id: str) -> Answer:
        candidate = example.candidate(candidate_id)
        if not live(candidate):
            raise InputError(f"example {example.id!r} has a pair with {candidate_id!r}, which failed; pair it again")
        return Answer(
            # One answer may stand under the prompts of several languages.
            id=f"{example.id}/{pair.lang}: {candidate_id}",
            messages=messages,
            text=candidate.text,
            token_ids=candidate.token_ids,
            finished=candidate.finish_reason != "length",
        )

    return PreferenceRow(f"{example.id}/{pair.lang}", pair.lang, answer(pair.chosen), answer(pair.rejected))


def _stored(
    example: Example, candidate: Candidate, answer: Answer, reference: ModelSpec, scored: ImplicitOptions | None
) -> Logprob | None:
    """What the reference has said of the candidate in its scoring; None unless the very same was asked: of the same
    model, under the same messages, of the same text and tokens, to the same end. The number of tokens is not kept."""
    if scored is None or scored.reference != reference or scored.names[2] not in candidate.scores:
        return None
    seen = as_answer(example, candidate, scored.view, scored.pivot, scored.prefix, scored.system)
    if seen is None or dataclasses.replace(seen, id=answer.id) != answer:
        return None
    return Logprob(candidate.scores[scored.names[2]], 0)


def _asked(
    answers: Mapping[str, Answer], reference: ModelSpec, chunk: int, context: Context, kept: Path | None
) -> dict[str, Logprob]:
    """What the reference says of answers, by id; what an interrupted call was told of the same is not asked again."""
    if not answers:
        return {}
    key = digest([reference.model_dump(mode="json"), [dataclasses.asdict(answer) for answer in answers.values()]])
    if kept is not None and (found := _read(kept, key)) is not None:
        return found
    model = context.open("logprobs", reference)
    said: list[Logprob] = []
    for some in batches(answers.values(), chunk):
        said += model.logprobs(some)
        context.progress("score with the training reference", len(said), len(answers))
    if kept is not None and first() and kept.parent.is_dir():
        write_json(kept, {"key": key, "said": [dataclasses.astuple(one) for one in said], "ids": list(answers)})
    return dict(zip(answers, said, strict=True))


def _read(kept: Path, key: str) -> dict[str, Logprob] | None:
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
        whole = found["key"] == key
        return {name: Logprob(*one) for name, one in zip(found["ids"], found["said"], strict=True)} if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there or not whole
