"""Exact length control beside a grid: the α of ``maths/pairing.py`` and the best of 1000 steps.

    python benchmarks/length_control.py [--prompts 3000] [--answers 10] [--languages 5] [--steps 1000] [--repeat 5]

Scores grow with length, so that α matters. The grid is what the paper describes (Yang et al. 2025, arXiv 2503.04647,
§3): α from 0 to the scores' spread over the lengths' in equal steps, the pairs of every prompt at each, the α with the
mean length gap nearest to zero. Two forms of it: a plain loop over prompts, not vectorised, on one call of
``best_and_worst`` each; and one in NumPy, vectorised over prompts. All take lists and give one α a language; gaps are
counted by one function.
Peak memory is the resident set of a process that does one of them, beyond that of one that only makes the data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from measuring import child, table

from polypref.maths.pairing import best_and_worst, fit_alpha

Language = tuple[list[list[float]], list[list[int]]]
"""Scores and lengths, [prompts][answers]."""


def made(prompts: int, answers: int, languages: int) -> list[Language]:
    """Log-normal lengths, and scores of which a part is length."""
    noise, out = np.random.default_rng(0), []
    for _ in range(languages):
        lengths = np.clip(noise.lognormal(7.1, 0.45, (prompts, answers)), 50, 8000).astype(int)
        scores = noise.normal(0, 2, (prompts, answers)) + 0.002 * lengths
        out.append((scores.tolist(), lengths.tolist()))
    return out


def gap(scores: list[list[float]], lengths: list[list[int]], alpha: float) -> float:
    """The size of the mean of chosen − rejected over the prompts that give a pair."""
    gaps = []
    for row, long in zip(scores, lengths, strict=True):
        best, worst = best_and_worst(row, long, alpha)
        if best != worst:
            gaps.append(long[best] - long[worst])
    return abs(statistics.fmean(gaps))


def loop(scores: list[list[float]], lengths: list[list[int]], grid: Sequence[float]) -> float:
    """The grid as it is written down."""
    return min(grid, key=lambda alpha: gap(scores, lengths, alpha))


def numpy_grid(scores: list[list[float]], lengths: list[list[int]], grid: Sequence[float]) -> float:
    """The grid, all prompts of a step at once."""
    table, long = np.array(scores), np.array(lengths, dtype=float)
    rows = np.arange(len(table))

    def size(alpha: float) -> float:
        controlled = table - alpha * long
        best, worst = controlled.argmax(axis=1), controlled.argmin(axis=1)
        found = (long[rows, best] - long[rows, worst])[best != worst]
        return float(abs(found.mean()))

    return min(grid, key=size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prompts", 3000), ("answers", 10), ("languages", 5), ("steps", 1000), ("repeat", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", choices=("nothing", "exact", "NumPy grid", "grid"), help="do this once and end")
    asked = parser.parse_args()
    data = made(asked.prompts, asked.answers, asked.languages)
    steps = 2 if asked.one == "grid" else asked.steps  # a step of it needs as much memory as a thousand
    grids = [np.linspace(0, np.std(scores) / np.std(lengths), steps).tolist() for scores, lengths in data]
    ways: dict[str, Callable[[], list[float]]] = {
        "exact": lambda: [fit_alpha(*one) for one in data],
        "NumPy grid": lambda: [numpy_grid(*one, grid) for one, grid in zip(data, grids, strict=True)],
        "grid": lambda: [loop(*one, grid) for one, grid in zip(data, grids, strict=True)],
    }
    if asked.one:
        ways.get(asked.one, list)()
        return
    times: dict[str, list[float]] = {way: [] for way in ways}
    found: dict[str, list[float]] = {}
    for _ in range(asked.repeat):
        for way, work in ways.items():
            begun = perf_counter()
            found[way] = work()
            times[way].append(perf_counter() - begun)
    shape = ["--prompts", asked.prompts, "--answers", asked.answers, "--languages", asked.languages]
    peaks = {way: child([sys.executable, __file__, *shape, "--one", way]).mib for way in ("nothing", *ways)}
    seconds = {way: statistics.median(all_) for way, all_ in times.items()}
    gaps = {way: [gap(*one, alpha) for one, alpha in zip(data, found[way], strict=True)] for way in ways}
    rows = [
        (
            way,
            f"{seconds[way]:.3f}",
            f"{seconds[way] / seconds['exact']:.1f}",
            f"{peaks[way] - peaks['nothing']:.0f}",
            ", ".join(f"{size:.2g}" for size in gaps[way]),
        )
        for way in ways
    ]
    print(table(("way", "seconds", "times the exact", "peak, MiB more", "mean length gap by language"), rows))
    larger = sum(exact > other for way in ways for exact, other in zip(gaps["exact"], gaps[way], strict=True))
    print(f"\nThe exact gap is larger than a grid's in {larger} of {2 * asked.languages} comparisons.")


if __name__ == "__main__":
    main()
