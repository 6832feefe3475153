"""What the scorers and comparers may be told in ``settings``. Light: nothing heavy is imported here."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from polypref.backends.base import Options, ScorerSpec
from polypref.backends.judge_prompts import DEFAULTS, JudgePrompt, Kind, judge_prompt
from polypref.errors import RecipeError

Settings = TypeVar("Settings", bound=Options)


def settings_of(made: type[Settings], spec: ScorerSpec) -> Settings:
    """A spec's settings as its scorer's own tree.

    Raises:
        RecipeError: the first mistake in them.
    """
    try:
        return made.model_validate(spec.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(["settings", *map(str, first["loc"])])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise RecipeError(f"{place} of {spec.scorer}: {reason}; known: {', '.join(made.model_fields)}") from None


class RewardModelSettings(Options):
    """How a sequence classifier is read as a reward."""

    input: Literal["auto", "turns", "template", "pair"] = Field(
        "auto",
        description="turns: the templated prompt, then the answer, as ours are trained; template: the whole "
        "conversation in one piece; pair: tokenizer(prompt, answer), of encoders; auto: what the model was made with",
    )
    label: str | int | None = Field(None, description="which output is the reward, by name or index; the only one")
    max_length: int | None = Field(
        None, gt=1, description="tokens of prompt and answer, the last are kept; the model's own when left out"
    )
    share_prompts: bool = Field(True, description="compute a prompt once for all its answers, where the model allows")


class ImplicitSettings(Options):
    """The reward that an aligned model holds: β·[log π(y | x) − log π_ref(y | x)] (Rafailov et al. 2023, eq. 5)."""

    beta: float = Field(0.1, gt=0, description="β of the log-ratio")
    normalise: Literal["sum", "mean"] = Field("sum", description="mean: divided by the number of tokens")


class _JudgeSettings(Options):
    """What both kinds of judge are told."""

    KIND: ClassVar[Kind]
    prompt: str | None = Field(
        None, description="a name of polypref's judge prompts or a text file; the kind's own when left out"
    )
    temperature: float | None = Field(0.0, ge=0, description="0 is greedy; null is not sent to a server")

    @field_validator("prompt")
    @classmethod
    def _can_be_asked(cls, value: str | None) -> str | None:
        try:
            judge_prompt(cls.KIND, value)
        except RecipeError as error:
            raise ValueError(str(error)) from None
        return value


class NumberSettings(_JudgeSettings):
    """A judge that gives one answer a number."""

    KIND = "number"
    max_tokens: int = Field(1024, gt=0, description="tokens of what the judge says; a verdict that is cut is none")
    scale: tuple[float, float] = Field((1.0, 10.0), description="the lowest and the highest number it may give")
    samples: int = Field(1, gt=0, description="numbers that are asked for; their mean counts")

    @field_validator("scale")
    @classmethod
    def _ascends(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError(f"must go up, not from {value[0]:g} to {value[1]:g}")
        return value

    @model_validator(mode="after")
    def _samples_differ(self) -> NumberSettings:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are one sample; give a temperature above 0")
        return self


class PairSettings(_JudgeSettings):
    """A judge that says which of two answers is better, in words or by its first token."""

    KIND = "pair"
    read: Literal["auto", "verdict", "logprobs"] = Field(
        "auto",
        description="verdict: in words, then [[A]], [[B]] or [[C]] on the last line; logprobs: p(A) / (p(A) + p(B)) of "
        "the first token; auto: as the prompt asks, where polypref's asks for one token, whose log-probabilities are "
        "read where there are any and else its text",
    )
    top_logprobs: int = Field(5, ge=2, le=20, description="log-probabilities that are asked for; some servers give 5")
    max_tokens: int | None = Field(
        None, gt=0, description="tokens of what the judge says; 1024 for a verdict in words, 8 where a token is read"
    )

    @property
    def asked(self) -> JudgePrompt:
        """The prompt that is asked."""
        return judge_prompt("pair", self.prompt or DEFAULTS["pair" if self.read == "verdict" else "token"])

    @property
    def by_token(self) -> bool:
        """Whether the first token is read, and not the last line."""
        return not self.asked.bracketed

    @property
    def tokens(self) -> int:
        """The most tokens that the judge may say."""
        return self.max_tokens or (8 if self.by_token else 1024)

    @model_validator(mode="after")
    def _is_read_as_it_is_asked(self) -> PairSettings:
        if self.read == "verdict" and self.by_token:
            raise ValueError(f"read is verdict, but prompt {self.prompt!r} asks for no [[A]]; say logprobs or auto")
        if self.read == "logprobs" and not self.by_token:
            raise ValueError(
                f"read is logprobs, but prompt {self.prompt!r} asks for [[A]] in the end; say verdict or auto"
            )
        return self
