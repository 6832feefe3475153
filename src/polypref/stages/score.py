"""Score candidates: by the implicit reward of a policy and its reference, or by any scorer.

The implicit reward is β·[log π(y | G(x)) − log π_ref(y | G(x))] with the logarithms summed over the answer's tokens
(Rafailov et al. 2023; across languages ICR, arXiv 2503.04647, §3.1), or averaged with ``normalise: mean``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import Field

from polypref.backends.base import Answer, Context, Judged, Logprob, ModelSpec, Options, ScorerSpec, Tag, batches
from polypref.errors import InputError, ModelError
from polypref.records import Candidate, Drop, Example, live
from polypref.stages.views import PREFIX, Prefix, View, as_answer

VERSION = 1
STAGE = "score"


class ImplicitOptions(Options):
    """Which two models score, under which prompt, and what the scores are called."""

    BESIDE = frozenset({"chunk"})

    policy: ModelSpec
    reference: ModelSpec
    view: View = "cross_lingual"
    pivot: Tag = "en"
    beta: float = Field(0.1, gt=0)
    normalise: Literal["sum", "mean"] = Field("sum", description="over answer tokens, end-of-turn included")
    prefix: Prefix = Field(
        PREFIX, description="before the pivot's prompt; {language} is the answer's language in English"
    )
    system: dict[Tag, str] = Field(default_factory=dict, description="a system prompt by language, as in generation")
    name: str | None = Field(None, min_length=1, description="of the score; implicit when left out")
    chunk: int = Field(512, gt=0, description="examples that are held in memory at once")

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the reward, the policy's and the reference's log-probability."""
        if self.name is None:
            return "implicit", "policy_logprob", "reference_logprob"
        return self.name, f"{self.name}_policy_logprob", f"{self.name}_reference_logprob"


class ScorerOptions(ScorerSpec):
    """A scorer, and what its score is called."""

    BESIDE = frozenset({"chunk"})

    name: str | None = Field(None, min_length=1, description="of the score; the scorer's name when left out")
    chunk: int = Field(512, gt=0, description="examples that are held in memory at once")


def implicit(examples: Iterable[Example], options: ImplicitOptions, context: Context) -> Iterator[Example]:
    """Add ``implicit``, ``policy_logprob`` and ``reference_logprob`` to every candidate that did not fail.

    A candidate beyond a model's window, or without a translation in the translated view, gets an ``error`` or is
    dropped with the reason; nothing is left out in silence.

    Raises:
        InputError: an example lacks the prompt that the view needs.
        ModelError: a score is NaN or infinite.
    """
    policy = context.open("logprobs", options.policy)
    reference = context.open("logprobs", options.reference)
    done = 0
    for chunk in batches(examples, options.chunk):
        found = [answer for example in chunk for answer in _answers(example, options)]
        answers = [answer for _, answer in found]
        by_policy: list[Logprob] = policy.logprobs(answers)
        by_reference: list[Logprob] = reference.logprobs(answers)  # right after: it may use the policy's tokens
        scored = {key: (p, r) for (key, _), p, r in zip(found, by_policy, by_reference, strict=True)}
        for example in chunk:
            yield _with_scores(example, scored, options)
        done += len(chunk)
        context.progress(f"score {options.names[0]}", done, None)


def _competes(candidate: Candidate) -> bool:
    return live(candidate) and candidate.origin != "translated"


def _answers(example: Example, options: ImplicitOptions) -> Iterator[tuple[tuple[str, str], Answer]]:
    for candidate in example.candidates:
        if not live(candidate) or (options.view == "translated" and not _competes(candidate)):
            continue
        answer = as_answer(example, candidate, options.view, options.pivot, options.prefix, options.system)
        if answer is not None:
            yield (example.id, candidate.id), answer


def _with_scores(
    example: Example, scored: dict[tuple[str, str], tuple[Logprob, Logprob]], options: ImplicitOptions
) -> Example:
    reward, policy_name, reference_name = options.names
    candidates: list[Candidate] = []
    drops: list[Drop] = []
    for candidate in example.candidates:
        found = scored.get((example.id, candidate.id))
        if found is None:
            if options.view == "translated" and _competes(candidate):
                drops.append(Drop(STAGE, "no_translation", candidate.lang, candidate.id))
            candidates.append(candidate)
            continue
        policy, reference = found
        failed = policy.error or reference.error
        if failed:
            drops.append(Drop(STAGE, "too_long", candidate.lang, candidate.id))
            candidates.append(dataclasses.replace(candidate, error=f"not scored: {failed}"))
            continue
        value = options.beta * (policy.sum - reference.sum)
        if options.normalise == "mean":
            value /= max(policy.tokens, 1)
        if not math.isfinite(value):
            raise ModelError(
                f"candidate {candidate.id!r} of example {example.id!r} scores {value}: the log-probabilities are "
                f"{policy.sum} and {reference.sum}; check the models, or score them in float32"
            )
        scores = {reward: value, policy_name: policy.sum, reference_name: reference.sum}
        candidates.append(dataclasses.replace(candidate, scores=candidate.scores | scores))
    return dataclasses.replace(example, candidates=candidates, dropped=_with_new(example.dropped, drops))


def by_scorer(
    examples: Iterable[Example], options: ScorerOptions, context: Context, *, again: bool = True
) -> Iterator[Example]:
    """Add one score, ``options.name``, to every candidate that did not fail.

    A candidate to which the scorer gives none gets an ``error`` and is dropped as ``no_verdict``.

    Args:
        again: whether candidates that have the score already are scored again.

    Raises:
        InputError: a candidate's language has no prompt in its example.
        ModelError: a score is NaN or infinite.
    """
    scorer = context.open("scorer", options)
    name = options.name or options.scorer
    done = 0
    for chunk in batches(examples, options.chunk):
        judged = [(e, c) for e in chunk for c in e.candidates if live(c) and (again or name not in c.scores)]
        values: Sequence[float | None] = scorer.score([_judged(e, c) for e, c in judged])
        scores = {(e.id, c.id): v for (e, c), v in zip(judged, values, strict=True)}
        for key, value in scores.items():
            if value is not None and not math.isfinite(value):
                raise ModelError(
                    f"{options.scorer} scores candidate {key[1]!r} of example {key[0]!r} {value}; mend the scorer"
                )
        for example in chunk:
            yield _with_score(example, scores, name, options.scorer)
        done += len(chunk)
        context.progress(f"score {name}", done, None)


def _with_score(example: Example, scores: dict[tuple[str, str], float | None], name: str, scorer: str) -> Example:
    candidates: list[Candidate] = []
    drops: list[Drop] = []
    for candidate in example.candidates:
        if (example.id, candidate.id) not in scores:
            candidates.append(candidate)
            continue
        value = scores[example.id, candidate.id]
        if value is None:
            drops.append(Drop(STAGE, "no_verdict", candidate.lang, candidate.id))
            candidates.append(dataclasses.replace(candidate, error=f"not scored: {scorer} gave no score"))
        else:
            candidates.append(dataclasses.replace(candidate, scores=candidate.scores | {name: value}))
    return dataclasses.replace(example, candidates=candidates, dropped=_with_new(example.dropped, drops))


def _with_new(known: Sequence[Drop], drops: Sequence[Drop]) -> list[Drop]:
    return [*known, *(drop for drop in drops if drop not in known)]


def _judged(example: Example, candidate: Candidate) -> Judged:
    messages = example.prompts.get(candidate.lang)
    if messages is None:
        raise InputError(
            f"example {example.id!r} has no prompt in {candidate.lang}, the language of candidate {candidate.id!r}"
        )
    return Judged(
        id=f"{example.id}: {candidate.id}",
        lang=candidate.lang,
        messages=messages,
        text=candidate.text,
        gold=example.gold,
        category=example.category,
    )
