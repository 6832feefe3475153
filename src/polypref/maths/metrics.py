"""What is measured on rewards and answers: accuracy, divergence, length, win rates, transfer between languages."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy

from polypref.errors import InputError
from polypref.maths.stats import Array, Estimate, clustered_mean, mean_stderr

RIDGE = 1e-2
"""The penalty λ/2·w² on fitted win-rate weights: nothing beside hundreds of rows, finite where rows are separable."""


def reward_accuracy(scores: Sequence[float], truths: Sequence[float]) -> float | None:
    """P(score of a right answer > score of a wrong one) among [n] answers to one prompt; a tie counts half.

    Every two answers whose truth differs are a labelled pair, the one of the greater truth being right; truths may be
    0 and 1 or graded. None when no two differ. With two grades this is the area under the ROC curve.
    """
    if len(scores) != len(truths):
        raise InputError(f"there are {len(scores)} scores and {len(truths)} truths; each answer needs both")
    score, truth = np.asarray(scores, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    right = truth[:, None] > truth[None, :]
    if not right.any():
        return None
    wins = np.sign(score[:, None] - score[None, :])[right]
    return float((wins + 1).mean() / 2)


def kl_terms(policy: Sequence[float], reference: Sequence[float], estimator: str = "k1") -> Array:
    """[n] terms whose mean over answers sampled from the policy estimates KL(policy ‖ reference), in nats an answer.

    ``policy`` and ``reference`` are log-probabilities of the same answers. ``k1`` is log π − log π_ref, unbiased;
    ``k3`` is π_ref/π − 1 + log π − log π_ref, unbiased and never negative (Schulman 2020, "Approximating KL
    divergence").
    """
    ratio = np.asarray(policy, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    if estimator == "k1":
        return ratio
    if estimator != "k3":
        raise InputError(f"there is no KL estimator {estimator!r}; known: k1, k3")
    with np.errstate(over="ignore"):
        terms: Array = np.expm1(-ratio) + ratio
    if not np.isfinite(terms).all():
        index = int(np.flatnonzero(~np.isfinite(terms))[0])
        raise InputError(f"the log-ratio {ratio[index]:.1f} of answer {index} is beyond k3's range; use k1")
    return np.maximum(terms, 0.0)  # rounding can leave a term at −1e-17


def length_gap(chosen: Sequence[float], rejected: Sequence[float]) -> Estimate:
    """The mean of len(chosen) − len(rejected) over [n] pairs, in the unit of the lengths."""
    if len(chosen) != len(rejected):
        raise InputError(f"there are {len(chosen)} chosen and {len(rejected)} rejected lengths; a gap needs pairs")
    return mean_stderr(np.subtract(chosen, rejected, dtype=np.float64))


def length_agreement(scores: Sequence[float], lengths: Sequence[float]) -> float | None:
    """How often the higher score of two answers to one prompt is the longer answer; 0.5 is no bias.

    Ties in length count half, ties in score say nothing; None when all scores are equal.
    """
    return reward_accuracy(lengths, scores)


# --- win rates -----------------------------------------------------------------------------------------------------


Fallback = Literal["raw", "no_length", "ridge"]


@dataclass(frozen=True, slots=True)
class WinRate:
    """Shares of 1. ``weights`` are those of the length-controlled model: length, difficulty (if any), intercept.

    ``influence`` is what each of the [n] rows brings to the controlled rate, so that rates of several fits can be
    averaged with a clustered standard error. ``fallback`` says where AlpacaEval's model could not be had as it stands:
    ``raw``, all rows were won or all lost and the controlled rate is the raw one; ``no_length``, the length difference
    is the same in all rows and its term is left out; ``ridge``, lengths or difficulties all but separate the wins from
    the losses and the ridge alone keeps the weights finite.
    """

    raw: Estimate
    controlled: Estimate
    weights: dict[str, float]
    influence: Array = field(compare=False, repr=False)
    fallback: Fallback | None = None


def win_rate(
    preferences: Sequence[float],
    model_lengths: Sequence[float],
    baseline_lengths: Sequence[float],
    difficulties: Sequence[float] | None = None,
    groups: Sequence[Hashable] | None = None,
    failed: Sequence[bool] | None = None,
    *,
    length_weight: float | None = None,
    difficulty_weight: float | None = None,
) -> WinRate:
    """The win rate of [n] judgments, and AlpacaEval 2's length-controlled one (Dubois et al. 2024, arXiv 2404.04475).

    logit p = w_len·tanh(Δ/std Δ) + w_diff·difficulty + b with Δ = baseline − model (sample std), fitted by maximum
    likelihood on preferences in [0, 1]; a weight that is given is held. The controlled rate is the mean of p over the
    rows at Δ = 0. Where Δ is the same in all rows, length and intercept cannot be told apart and the length term is
    left out. Fitted weights (not b) bear a ridge of ``RIDGE``, so that separable rows give finite figures.

    A comparison of which an answer ``failed`` has no lengths to control: it is not fitted, and counts at its preference
    in both rates.

    Both standard errors are sandwiches by ``groups`` (prompts; left out: each row its own, and the raw one is s/√n);
    the controlled one is the delta method's, std Δ taken as known. Where the ridge alone keeps the weights finite it
    would tell of the ridge, and is None.
    """
    preference = np.asarray(preferences, dtype=np.float64)
    n = preference.size
    whole = np.flatnonzero(~np.asarray(failed, dtype=bool)) if failed is not None else np.arange(n)
    columns = {"length": _length_term(np.subtract(baseline_lengths, model_lengths, dtype=np.float64)[whole])}
    if difficulties is not None:
        columns["difficulty"] = np.asarray(difficulties, dtype=np.float64)[whole]
    held = {
        name: weight
        for name, weight in (("length", length_weight), ("difficulty", difficulty_weight))
        if weight is not None and name in columns
    }
    clusters = groups if groups is not None else range(n)
    raw = clustered_mean(preference, clusters)
    fitted = preference[whole]
    if np.isin(fitted, (0.0, 1.0)).all() and np.unique(fitted).size < 2:
        # The intercept is infinite, the rate at Δ = 0 is 0 or 1 whatever the lengths.
        return WinRate(raw, raw, {}, preference, "raw")
    fit = _controlled(fitted, columns, held)
    shares, influence = preference.copy(), preference.copy()
    shares[whole], influence[whole] = fit.shares, fit.influence
    stderr = None if fit.fallback == "ridge" else clustered_mean(influence, clusters).stderr
    return WinRate(raw, Estimate(float(shares.mean()), stderr, raw.n), fit.weights, influence, fit.fallback)


@dataclass(frozen=True, slots=True)
class _Controlled:
    """Of [n] rows: p at Δ = 0, and what each brings to its mean."""

    shares: Array
    influence: Array
    weights: dict[str, float]
    fallback: Fallback | None


def _controlled(preference: Array, columns: Mapping[str, Array], held: Mapping[str, float]) -> _Controlled:
    """AlpacaEval 2's model of rows that neither all were won nor all lost."""
    n = preference.size
    fitted = [name for name in columns if name not in held]
    design = np.column_stack([*(columns[name] for name in fitted), np.ones(n)])
    offset = sum((weight * columns[name] for name, weight in held.items()), np.zeros(n))
    theta = _fit_logistic(design, offset, preference, RIDGE)
    weights = dict(held) | dict(zip([*fitted, "intercept"], theta.tolist(), strict=True))

    level = design.copy()
    level_offset = offset.copy()
    if "length" in held:
        level_offset -= held["length"] * columns["length"]
    else:
        level[:, fitted.index("length")] = 0.0
    shares = scipy.special.expit(level @ theta + level_offset)
    fit = scipy.special.expit(design @ theta + offset)
    hessian = (design * (fit * (1 - fit))[:, None]).T @ design + np.diag(_penalty(design, RIDGE))
    gradient = level.T @ (shares * (1 - shares)) / n
    influence = (design * (preference - fit)[:, None]) @ np.linalg.solve(hessian, gradient) * n + shares
    fallback: Fallback | None = None
    if not columns["length"].any():
        fallback = "no_length"
    elif _leans_on_ridge(theta, _fit_logistic(design, offset, preference, RIDGE / 10)):
        fallback = "ridge"
    return _Controlled(shares, influence, weights, fallback)


def _leans_on_ridge(theta: Array, looser: Array) -> bool:
    """Whether a weight moves by a tenth when the ridge is ten times smaller. Where the likelihood has a maximum of its
    own the ridge moves it by about RIDGE over the weight's information, far less."""
    return bool((np.abs(looser - theta)[:-1] > 0.1 * np.maximum(np.abs(theta[:-1]), 1)).any())


def _length_term(delta: Array) -> Array:
    spread = float(delta.std(ddof=1)) if delta.size > 1 else 0.0
    return np.tanh(delta / spread) if spread > 0 else np.zeros_like(delta)


def _penalty(design: Array, ridge: float) -> Array:
    return np.array([ridge] * (design.shape[1] - 1) + [0.0])


def _fit_logistic(design: Array, offset: Array, target: Array, ridge: float, steps: int = 200) -> Array:
    """Newton with halving for [n, k] columns, the last the intercept; targets in [0, 1], not all 0 or all 1."""
    penalty = _penalty(design, ridge)

    def loss(theta: Array) -> float:
        eta = design @ theta + offset
        return float(
            -(target * scipy.special.log_expit(eta) + (1 - target) * scipy.special.log_expit(-eta)).sum()
            + 0.5 * (penalty * theta * theta).sum()
        )

    theta = np.zeros(design.shape[1])
    theta[-1] = scipy.special.logit(np.clip(target.mean(), 1e-6, 1 - 1e-6)) - offset.mean()
    current = loss(theta)
    for _ in range(steps):
        share = scipy.special.expit(design @ theta + offset)
        gradient = design.T @ (share - target) + penalty * theta
        weight = np.maximum(share * (1 - share), 1e-12)  # a saturated start would leave no curvature to step on
        step = np.linalg.solve((design * weight[:, None]).T @ design + np.diag(penalty), gradient)
        if np.abs(step).max() < 1e-9:
            break
        size = 1.0
        while (tried := loss(theta - size * step)) > current + 1e-12 * abs(current) and size > 1e-12:
            size /= 2
        theta, current = theta - size * step, tried
    return theta


# --- transfer between languages --------------------------------------------------------------------------------------

Table = Mapping[tuple[str, str], float]
"""(source language, target language) → figure in percent."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """How well reward models of source languages serve target languages (Wu et al. 2024, arXiv 2404.12318)."""

    cross_mean: float | None
    mono_mean: float | None
    below_even: int
    best_source: dict[str, str]
    kendall_tau_by_target: dict[str, float]

    @property
    def kendall_tau(self) -> float | None:
        """τ-b averaged over the targets that have one."""
        taus = self.kendall_tau_by_target.values()
        return math.fsum(taus) / len(taus) if taus else None


def transfer(accuracy: Table, win_rates: Table) -> Transfer:
    """The aggregates of a table of win rates, and their rank agreement with reward accuracy.

    ``best_source`` is the source of the highest win rate, the target itself included, the first among equals.
    τ-b is taken for each target over its sources, the same-language pair included; a target with fewer than two
    sources, or whose figures are all equal, has none. Accuracy of other sources (baselines) is not looked at.

    Raises:
        InputError: a win rate has no accuracy.
    """
    from scipy.stats import kendalltau

    cross = [rate for (source, target), rate in win_rates.items() if source != target]
    mono = [rate for (source, target), rate in win_rates.items() if source == target]
    best: dict[str, str] = {}
    for (source, target), rate in win_rates.items():
        if target not in best or rate > win_rates[best[target], target]:
            best[target] = source
        if (source, target) not in accuracy:
            raise InputError(f"the win rate of {source} on {target} has no accuracy beside it; add that row")
    taus: dict[str, float] = {}
    for target in best:
        sources = [s for s, t in win_rates if t == target]
        if len(sources) > 1:
            tau = kendalltau([accuracy[s, target] for s in sources], [win_rates[s, target] for s in sources]).statistic
            if not math.isnan(tau):
                taus[target] = float(tau)
    return Transfer(
        cross_mean=math.fsum(cross) / len(cross) if cross else None,
        mono_mean=math.fsum(mono) / len(mono) if mono else None,
        below_even=sum(rate < 50 for rate in win_rates.values()),
        best_source=best,
        kendall_tau_by_target=taus,
    )
