"""How far judges agree on the comparisons that they share: raw, Cohen's κ, Krippendorff's α, ranks of win rates.

The dictionary's shape is told in docs/win-rates.md. Shares are of 1.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.errors import InputError
from polypref.maths import agreement as maths
from polypref.maths import stats
from polypref.stages.judgments import Judgment

LEVELS: tuple[maths.Level, ...] = ("nominal", "ordinal", "interval")


@dataclass(frozen=True, slots=True, order=True)
class Compared:
    """What was compared: a prompt, a language and two models, whichever was called the baseline."""

    id: str
    language: str
    first: str
    second: str
    sample: int = 0


Said = dict[Compared, dict[str, float]]
"""Comparison → judge → preference for the first."""


def agreement(judgments: Sequence[Judgment], *, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """What ``polypref evaluate agreement --json`` prints: of all comparisons that at least two judges judged, and by
    language. A verdict is a win, a tie (½ exactly) or a loss for raw agreement, κ, nominal and ordinal α; interval α
    takes the preferences as they are. Errors are clustered by prompt; α's intervals are over resampled prompts.

    Raises:
        InputError: fewer than two judges, a judge who judged a comparison twice, or no comparison that two share.
    """
    judges = list(dict.fromkeys(j.judge for j in judgments))
    if len(judges) < 2:
        raise InputError(f"all judgments are by {', '.join(judges) or 'nobody'}; agreement needs two judges")
    said = shared(judgments)
    if not said:
        raise InputError(f"no comparison was judged by two of {', '.join(judges)}; agreement needs shared comparisons")
    languages = sorted({compared.language for compared in said})

    def block(of: Said) -> dict[str, Any]:
        return _block(of, judges, seed, resamples)

    out = {"judges": judges, **block(said)}
    if len(languages) > 1:
        out["by_language"] = {tag: block({c: by for c, by in said.items() if c.language == tag}) for tag in languages}
    return out


def shared(judgments: Sequence[Judgment]) -> Said:
    """What at least two judges gave a verdict on; two models in one order, whichever was called the baseline.

    Raises:
        InputError: a judge judged a comparison twice.
    """
    said: Said = {}
    for j in judgments:
        if j.preference is None:
            continue
        first, second = sorted((j.model, j.baseline))
        by = said.setdefault(Compared(j.id, j.language, first, second, j.sample), {})
        if j.judge in by:
            raise InputError(
                f"{j.judge} judged {j.model} against {j.baseline} on {j.id!r} ({j.language}) twice; keep one judgment"
            )
        by[j.judge] = j.preference if first == j.model else 1 - j.preference
    return {compared: by for compared, by in said.items() if len(by) > 1}


def _block(said: Said, judges: Sequence[str], seed: int, resamples: int) -> dict[str, Any]:
    ids = [compared.id for compared in said]
    alpha = {}
    for level in LEVELS:
        turned = float if level == "interval" else _verdict
        units = [[turned(preference) for preference in by.values()] for by in said.values()]
        alpha[level] = _alpha(maths.krippendorff_alpha(units, level, ids, seed=seed, resamples=resamples))
    pairs = (_pair(said, first, second) for first, second in itertools.combinations(judges, 2))
    return {"n": len(said), "prompts": len(set(ids)), "alpha": alpha, "pairs": [pair for pair in pairs if pair]}


def _verdict(preference: float) -> float:
    """A loss, a tie, a win."""
    return float((preference > 0.5) - (preference < 0.5))


def _alpha(found: maths.Alpha | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}


def _pair(said: Said, first: str, second: str) -> dict[str, Any] | None:
    """The agreement of two judges; None where they share no comparison."""
    both = {compared: (by[first], by[second]) for compared, by in said.items() if first in by and second in by}
    if not both:
        return None
    ids = [compared.id for compared in both]
    verdicts = [(_verdict(a), _verdict(b)) for a, b in both.values()]
    raw = stats.clustered_mean([float(a == b) for a, b in verdicts], ids)
    kappa = maths.cohen_kappa([a for a, _ in verdicts], [b for _, b in verdicts], ids)
    return {
        "judges": [first, second],
        "n": len(both),
        "prompts": raw.n,
        "raw": raw.value,
        "raw_stderr": raw.stderr,
        "kappa": kappa and kappa.value,
        "kappa_stderr": kappa and kappa.stderr,
        **_spearman(both),
    }


def _spearman(both: Mapping[Compared, tuple[float, float]]) -> dict[str, Any]:
    """The rank correlation of two judges' win rates over the pairs of models that both judged."""
    from scipy.stats import spearmanr

    matches: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for compared, preferences in both.items():
        matches.setdefault((compared.first, compared.second), []).append(preferences)
    rates = [tuple(statistics.fmean(judge) for judge in zip(*rows, strict=True)) for rows in matches.values()]
    first, second = zip(*rates, strict=True)
    if len(rates) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return {"spearman": None, "spearman_n": len(rates)}
    correlation = float(spearmanr(first, second).statistic)
    return {"spearman": None if math.isnan(correlation) else correlation, "spearman_n": len(rates)}
