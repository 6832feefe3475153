"""What failure signatures are made of: their limits, a figure with its interval, the change between two steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from polypref.backends.base import Options
from polypref.maths.stats import Estimate
from polypref.stages import report_tables as tables

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Step → language → figures, each metric with ``_stderr`` and ``_n``: ``results`` of results.json."""


class SignatureOptions(Options):
    """The limits, and what the figures are called."""

    even: float = Field(0.5, gt=0, description="the win rate of two models that are equal; 50 for rates in percent")
    min_gain: float = Field(0.0, ge=0, description="of quality, that must be shown")
    max_kl: float = Field(10.0, gt=0, description="nats an answer from the reference")
    chance: float = Field(0.5, ge=0, le=1, description="accuracy of a coin, where no majority_baseline stands")
    max_gap: float = Field(0.15, ge=0, description="by which the language's own reward may be ahead")
    max_length_growth: float = Field(1.25, gt=0, description="times the length of before")
    max_language_loss: float = Field(0.05, ge=0, description="rise of the share of answers in another language")
    max_blind_spot: float = Field(0.1, ge=0, description="accuracy lost on the policy's own answers")
    win_rate: str = Field("win_rate", description="metric of after: its win rate against before")
    quality: str = Field("quality", description="metric by the judge or oracle")
    proxy: str = Field("reward", description="metric by the reward that was optimised")
    length: str = Field("length_characters", description="metric of the answers' length")


@dataclass(frozen=True, slots=True)
class Signature:
    """One thing that is wrong in one language: the figure with its 95% interval, the limit it broke, what to try."""

    name: str
    lang: str
    metric: str
    figure: float
    low: float
    high: float
    threshold: float
    said: str
    try_this: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """A rule's verdict on one figure."""

    raised: bool
    signature: Signature


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = (f"{number:.3g}".replace("-", "−") for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def measured(found: Estimate | None) -> Measured | None:
    """None where no interval can be told."""
    ends = found.interval() if found is not None and found.n > 1 else None
    return Measured(found.value, *ends) if found and ends else None


def minus(one: Estimate | None, other: Estimate | None, times: float = 1.0) -> Estimate | None:
    """one − times·other, both taken as independent. They share prompts as a rule, which makes it too wide, not too
    narrow."""
    if one is None or other is None or one.stderr is None or other.stderr is None:
        return None
    return Estimate(one.value - times * other.value, math.hypot(one.stderr, times * other.stderr), min(one.n, other.n))


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rules look at; arguments as ``signatures.signatures`` has them."""

    results: Results
    options: SignatureOptions
    before: str | None
    after: str | None
    reward: str | None
    pivot: str
    own: Mapping[str, Sequence[str]]
    comparisons: Sequence[Mapping[str, Any]]

    def estimate(self, step: str | None, lang: str, metric: str) -> Estimate | None:
        return tables.estimate(self.results.get(step or "", {}).get(lang, {}), metric)

    def figure(self, step: str | None, lang: str, metric: str) -> Measured | None:
        """With the interval that stands beside it, where one does."""
        figures = self.results.get(step or "", {}).get(lang, {})
        value, *ends = (figures.get(f"{metric}{end}") for end in ("", "_low", "_high"))
        if value is not None and None not in ends:
            return Measured(float(value), *map(float, ends))
        return measured(self.estimate(step, lang, metric))

    def change(self, lang: str, metric: str) -> Measured | None:
        """after − before, paired by prompt where the two were compared."""
        for comparison in self.comparisons:
            if [comparison.get(key) for key in ("from", "to", "metric")] == [self.before, self.after, metric]:
                gain = comparison.get("languages", {}).get(lang)
                if gain and gain.get("low") is not None:
                    return Measured(float(gain["gain"]), float(gain["low"]), float(gain["high"]))
        return measured(minus(*(self.estimate(step, lang, metric) for step in (self.after, self.before))))
