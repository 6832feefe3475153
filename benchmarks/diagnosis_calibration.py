"""How often the diagnosis says go or no-go of a reward whose worth is known.

    .venv/bin/python benchmarks/diagnosis_calibration.py      a few minutes on one core

An answer is right with a chance of its prompt's own, drawn uniformly; its reward is d for a right answer and 0 for a
wrong one, plus standard normal noise. So the reward prefers a right answer to a wrong one with probability Φ(d/√2), and
best-of-n helps where d > 0 and harms where d < 0. The diagnosis sees its two experiments of outcome: 8 samples a
prompt, and the best of them against one other answer. With tricks, 3 answers in 100 are wrong and score 6 more.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy import special

from polypref.maths import comparisons, metrics, stats
from polypref.stages.diagnosis import DiagnosisOptions, diagnose
from polypref.stages.evaluate import figure

DRAWS = 400
N = 8
TRICKS = 0.03


def answers(
    shape: tuple[int, int], d: float, tricks: float, noise: np.random.Generator, chance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether right, and the reward: [prompts, answers]."""
    trick = noise.random(shape) < tricks
    right = (noise.random(shape) < chance[:, None]) & ~trick
    return right.astype(float), d * right + noise.normal(size=shape) + 6 * trick


def verdict(prompts: int, d: float, tricks: float, noise: np.random.Generator) -> str:
    chance = noise.random(prompts)
    right, reward = answers((prompts, N), d, tricks, noise, chance)
    other, _ = answers((prompts, 1), d, tricks, noise, chance)
    told = [metrics.reward_accuracy(r, q) for r, q in zip(reward, right, strict=True)]
    rates = [comparisons.expected_win_rate(r, q, o, N) for r, q, o in zip(reward, right, other, strict=True)]
    figures = figure("accuracy_on_sft", stats.mean_stderr([value for value in told if value is not None]))
    row = {"n": N, **figure("win_rate", stats.mean_stderr(rates))}
    return str(diagnose("rm", {"en": figures}, {"en": [row]}, DiagnosisOptions())["languages"]["en"]["verdict"])


def win_rate(n: int, d: float, tricks: float) -> float:
    """The true win rate of best-of-n against one answer, from 20,000 prompts."""
    noise = np.random.default_rng(n)
    chance = noise.random(20_000)
    right, reward = answers((len(chance), n), d, tricks, noise, chance)
    other, _ = answers((len(chance), 1), d, tricks, noise, chance)
    picked = right[np.arange(len(chance)), reward.argmax(axis=1)]
    return float((np.sign(picked - other[:, 0]) + 1).mean() / 2)


def main() -> None:
    for tricks, strengths in ((0.0, (-0.5, -0.25, 0.0, 0.1, 0.25, 0.5, 1.0)), (TRICKS, (0.5, 1.0))):
        for d in strengths:
            right = special.ndtr(d / np.sqrt(2))
            print(
                f"tricks {tricks:.0%}, accuracy {right:.3f}, "
                f"best of 8 wins {win_rate(8, d, tricks):.3f}, of 64 {win_rate(64, d, tricks):.3f}"
            )
            for prompts in (30, 100, 300):
                noise = np.random.default_rng(prompts)
                found = Counter(verdict(prompts, d, tricks, noise) for _ in range(DRAWS))
                print(
                    f"    {prompts:>3} prompts  "
                    + "  ".join(f"{v} {found[v] / DRAWS:.1%}" for v in ("go", "doubtful", "no_go"))
                )


if __name__ == "__main__":
    main()
