"""The sections of a recipe that are about using a reward again in another language: best-of-n, and what tells before a
run whether it will work (Wu et al. 2024, arXiv 2404.12318)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from polypref.backends.base import Options
from polypref.recipe_rewards import Name
from polypref.recipe_sections import EvaluateSampling
from polypref.stages.diagnosis import DiagnosisOptions
from polypref.stages.prompts import PromptOptions


class BestOfN(Options):
    """What best-of-n is worth on the held-out prompts: for every reward and n, from one set of samples a prompt."""

    n: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32, 64),
        min_length=1,
        description="the points of the curve; the greatest is how many are drawn",
    )
    rewards: tuple[Name, ...] = Field((), description="who picks; all rewards of the run when empty")
    limit: int | None = Field(None, gt=0, description="held-out prompts a language; all when left out")
    sampling: EvaluateSampling | None = Field(
        None, description="left out: evaluate.sampling's, with another seed, so that its answers are other ones"
    )
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="soft best-of-n: picks by softmax(score/temperature)"
    )
    language_check: bool = Field(False, description="never pick an answer in another language than its prompt")
    kl: bool = Field(
        False, description="estimate the divergence by the samples' log-probabilities; its bound is told in any case"
    )

    @field_validator("n", mode="after")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError(f"holds {min(value)}; every n must be at least 1")
        return tuple(sorted({1, *value}))


class Diagnose(DiagnosisOptions):
    """The cheap experiments before a round: is the reward right on the model's own answers, and is the best of a few
    samples better than any? Both on training prompts, which the evaluation does not see."""

    rewards: tuple[Name, ...] = Field((), description="who is examined; the round's reward when empty")
    prompts: PromptOptions | None = Field(None, description="left out: the training prompts")
    limit: int = Field(100, gt=1, description="prompts a language, the first of the seeded order")
    n: int = Field(8, gt=1, description="samples a prompt and language")
    sampling: EvaluateSampling | None = Field(None, description="left out: evaluate.sampling's, with another seed")
    language_check: bool = Field(
        False, description="never pick an answer in another language than its prompt: where the training minds it too"
    )
    judge: str | None = Field(
        None, description="who says what is better: quality (evaluate.quality, the default), or one of evaluate.judges"
    )
    no_go: Literal["tell", "leave_out"] = Field(
        "tell", description="leave_out: a round does not train on languages where the verdict is no-go"
    )
