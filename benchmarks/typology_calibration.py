"""How often typology's tests and intervals find something where there is nothing.

    .venv/bin/python benchmarks/typology_calibration.py      about two minutes on one core

Figure of a pair = effect of its source + effect of its target + noise, all standard normal. A feature divides the
languages; a predictor is the distance of two languages on a line. Neither has to do with the figure.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from polypref.maths import typology

DRAWS = 1000
BOOTSTRAPS = 200
RESAMPLES = 400


def figures(pairs: list[tuple[int, int]], languages: int, noise: np.random.Generator) -> np.ndarray:
    source, target = noise.normal(size=(2, languages))
    return np.array([source[s] + target[t] for s, t in pairs]) + noise.normal(size=len(pairs))


def main() -> None:
    for languages in (6, 12):
        pairs = list(permutations(range(languages), 2))
        for apart in (1, 2, languages // 2):
            noise = np.random.default_rng(languages + 100 * apart)
            shared = np.array([(s < apart) == (t < apart) for s, t in pairs])
            drawn = [figures(pairs, languages, noise) for _ in range(DRAWS)]
            found = np.mean([typology.compare(y[shared], y[~shared]).p < 0.05 for y in drawn])
            print(f"t-test      {languages:>2} languages, {apart} apart   p < .05 in {found:.1%}")
    for languages in (6, 12, 24):
        pairs = list(permutations(range(languages), 2))
        named = [(f"{s:02}", f"{t:02}") for s, t in pairs]
        noise = np.random.default_rng(languages)
        missed = {"bootstrap": 0, "Fisher": 0}
        for seed in range(BOOTSTRAPS):
            y = figures(pairs, languages, noise)
            place = noise.normal(size=languages)
            x = np.array([abs(place[s] - place[t]) for s, t in pairs])
            rho = typology.correlation(x, y, "spearman")
            interval = typology.language_bootstrap(x, y, named, "spearman", seed=seed, resamples=RESAMPLES)
            missed["bootstrap"] += interval is not None and not interval.low <= 0 <= interval.high
            low, high = typology.fisher_interval(rho, len(pairs), "spearman")
            missed["Fisher"] += not low <= 0 <= high
        for name, count in missed.items():
            print(f"{name:<11} {languages:>2} languages   95% interval misses 0 in {count / BOOTSTRAPS:.1%}")


if __name__ == "__main__":
    main()
