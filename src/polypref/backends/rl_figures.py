"""What is told of an update's own answers, and the rules that stop a training. Pure: no model is needed here.

The KL is the mean over answers of Σ_t [log π(y_t) − log π_start(y_t)], in nats an answer: the estimator k1 of Schulman
2020, "Approximating KL divergence". It has no bias on answers that π itself has drawn, and may be negative by chance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polypref.backends.rl_training import RLOptions

ALL: Final = "all"
"""The group of every language together."""

NAMES: Final = ("reward", "reward_std", "kl", "length_tokens", "off_target_language", "truncated", "unscored")

Figures = dict[str, float | None]
"""A value for each of ``NAMES``."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer: its ``reward`` (None where it has none), its log-ratio to the start in nats, its ``tokens`` with the
    one that ended it, whether it was cut at the token limit, and whether it is in another language than its prompt's
    (None where its language could not be told)."""

    lang: str
    reward: float | None
    kl: float
    tokens: int
    truncated: bool
    off_target: bool | None


def figures(samples: Sequence[Sample]) -> Figures:
    """Means over the answers; ``reward`` and ``reward_std`` over those that have a reward, ``off_target_language`` over
    those whose language could be told, ``unscored`` is a number of answers. None where there is nothing to go by."""
    rewards = [sample.reward for sample in samples if sample.reward is not None]
    told = [sample.off_target for sample in samples if sample.off_target is not None]
    return {
        "reward": _mean(rewards),
        "reward_std": statistics.stdev(rewards) if len(rewards) > 1 else None,
        "kl": _mean([sample.kl for sample in samples]),
        "length_tokens": _mean([sample.tokens for sample in samples]),
        "off_target_language": _mean(told),
        "truncated": _mean([sample.truncated for sample in samples]),
        "unscored": float(len(samples) - len(rewards)),
    }


def by_group(samples: Sequence[Sample]) -> dict[str, Figures]:
    """The figures of ``ALL`` answers, and of those to prompts of each language."""
    languages = sorted({sample.lang for sample in samples})
    groups = {lang: [sample for sample in samples if sample.lang == lang] for lang in languages}
    return {ALL: figures(samples)} | {lang: figures(some) for lang, some in groups.items()}


def window_mean(history: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    """The mean of a figure over updates that have it."""
    return _mean([value for entry in history if (value := entry.get(name)) is not None])


@dataclass(frozen=True, slots=True)
class StopRules:
    """When a training has gone too far: the mean over the last ``window`` updates decides, once there are so many.

    Length and language are held against the first ``window`` updates, the KL against the start itself.
    """

    window: int
    max_kl: float | None = None
    max_length_growth: float | None = None
    max_language_loss: float | None = None

    @classmethod
    def of(cls, options: RLOptions) -> StopRules:
        return cls(options.stop_window, options.max_kl, options.max_length_growth, options.max_language_loss)

    def __bool__(self) -> bool:
        """Whether there is any rule."""
        return any(rule is not None for rule in (self.max_kl, self.max_length_growth, self.max_language_loss))

    def broken(self, history: Sequence[Mapping[str, float | None]]) -> tuple[str, str] | None:
        """Which rule the ``history`` of all updates' figures breaks, and a sentence on it; None within the limits."""
        if len(history) < self.window:
            return None
        first, last = history[: self.window], history[-self.window :]
        over = f"over {self.window} updates" if self.window > 1 else "in one update"
        kl = window_mean(last, "kl")
        if self.max_kl is not None and kl is not None and kl > self.max_kl:
            return "kl", f"the KL to the start was {kl:.3g} nats an answer {over}, above max_kl {self.max_kl:g}"
        length, before = window_mean(last, "length_tokens"), window_mean(first, "length_tokens")
        if self.max_length_growth is not None and length and before and length / before > self.max_length_growth:
            return "length", (
                f"answers were {length:.3g} tokens long {over}, {length / before:.2f} times as long as at first "
                f"({before:.3g}), above max_length_growth {self.max_length_growth:g}"
            )
        share, at_first = window_mean(last, "off_target_language"), window_mean(first, "off_target_language")
        rise = None if share is None or at_first is None else share - at_first
        if self.max_language_loss is not None and rise is not None and rise > self.max_language_loss:
            return "language", (
                f"{100 * (share or 0):.1f}% of the answers were in another language than the prompt's {over}, "
                f"{100 * (at_first or 0):.1f}% at first, a rise above max_language_loss {self.max_language_loss:g}"
            )
        return None


def flat(groups: Mapping[str, Figures], prefix: str = "") -> dict[str, float]:
    """Figures as one level of names, ``<prefix><group>/<figure>``, for whoever else gets them; None is left out."""
    return {
        f"{prefix}{group}/{name}": value
        for group, entry in groups.items()
        for name, value in entry.items()
        if value is not None
    }


def grouped(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Figures]:
    """The groups of ``flat``; a figure that was left out is None."""
    out: dict[str, Figures] = {}
    for key, value in entry.items():
        group, slash, name = key.removeprefix(prefix).partition("/")
        if key.startswith(prefix) and slash and name in NAMES:
            out.setdefault(group, dict.fromkeys(NAMES))[name] = value
    return out


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
