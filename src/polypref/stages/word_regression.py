"""What of a score words alone tell: a bag-of-words regression in and across languages, and agreement with length.

Wu et al. 2024 (arXiv 2404.12318) regress reward scores on bags of words: a high R² says that the reward looks at which
words an answer has, and a high R² across languages that it looks at the same ones. Neither says that the reward is
wrong; it says what a rival without any understanding would reproduce.

The unit is the prompt: prompts are cut into folds, the same ones for all languages, so that no answer is predicted by
a regression that has seen its prompt, in its own language or another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from polypref.backends.base import Options
from polypref.errors import InputError, did_you_mean
from polypref.maths import metrics, stats
from polypref.records import Example, live
from polypref.stages.evaluate import figure

Unit = Literal["words", "characters"]


class WordOptions(Options):
    """Which score is regressed on what."""

    score: str = Field(min_length=1, description="the score that is looked into")
    units: tuple[Unit, ...] = Field(("words", "characters"), min_length=1, description="words as they are, runs of 2–4")
    folds: int = Field(5, ge=2, description="parts that the prompts are cut into")
    penalty: float = Field(1.0, gt=0, description="of the ridge regression")
    resamples: int = Field(1000, ge=100, description="of the prompts, for errors and intervals")
    seed: int = Field(0, ge=0, description="of the folds and of the resamples")


class WordRegressor(Protocol):
    """Fits scores on the terms of texts and predicts others: (predictions, share of each text's terms it knows)."""

    def __call__(
        self, unit: str, penalty: float, texts: Sequence[str], scores: Sequence[float], others: Sequence[str]
    ) -> tuple[list[float], list[float]]: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One answer: its prompt, language, text and score."""

    prompt: str
    lang: str
    text: str
    score: float


def rows_of(examples: Iterable[Example], score: str) -> list[Row]:
    """Every answer that did not fail.

    Raises:
        InputError: one has no such score, or there is none at all.
    """
    rows = []
    for example in examples:
        for candidate in example.candidates:
            if not live(candidate):
                continue
            if score not in candidate.scores:
                hint = did_you_mean(score, candidate.scores) if candidate.scores else "it has no score at all"
                raise InputError(
                    f"the answer {candidate.id!r} of example {example.id!r} has no score {score!r}; score it first "
                    f"({hint})"
                )
            rows.append(Row(example.id, candidate.lang, candidate.text, candidate.scores[score]))
    if not rows:
        raise InputError("the examples hold no answer that did not fail; there is nothing to regress")
    return rows


def word_regression(rows: Sequence[Row], options: WordOptions, regress: WordRegressor) -> dict[str, Any]:
    """``{"r2": {unit: {source: {target: figures}}}, "length_agreement": {language: figures}}``.

    Figures of ``r2``: ``r2`` = 1 − Σ(y − ŷ)²/Σ(y − ȳ)² over all of the target's answers, ȳ their mean; ``correlation``
    (Pearson) of y and ŷ, both less their fold's mean, which unlike R² forgives another level and scale; ``known``, the
    mean share of an answer's terms that the source's answers hold. ŷ is predicted by the source's answers to the
    prompts of the other folds. Each has ``_stderr`` and ``_n`` (prompts), the first two ``_low`` and ``_high`` as well:
    the standard deviation and the 95% percentile interval over resampled prompts, the regressions held as they are.

    R² may be below 0: the target's mean would predict better. A value is None where it is not defined: all scores of
    the target equal (for the correlation also all predictions), or a fold whose training prompts have no answer.

    Figures of ``length_agreement``: see ``length_agreement``.
    """
    fold = folds(sorted({row.prompt for row in rows}), options)
    by_language: dict[str, list[Row]] = {}
    for row in rows:
        by_language.setdefault(row.lang, []).append(row)
    found: dict[str, dict[str, Any]] = {}
    for unit in options.units:
        for source, mine in by_language.items():
            predicted = _predicted(unit, mine, rows, fold, options, regress)
            found.setdefault(unit, {})[source] = {
                target: _figures(theirs, None if predicted is None else predicted[target], fold, options)
                for target, theirs in by_language.items()
            }
    return {"r2": found, "length_agreement": length_agreement(rows)}


def folds(prompts: Sequence[str], options: WordOptions) -> dict[str, int]:
    """Prompt → fold 0 … k − 1, equally many prompts each (±1), by the hash of (seed, prompt).

    Raises:
        InputError: there are fewer prompts than folds.
    """
    if len(prompts) < options.folds:
        raise InputError(
            f"there are {len(prompts)} prompts for {options.folds} folds; give more prompts, or set folds to fewer"
        )
    order = sorted(prompts, key=lambda prompt: hashlib.sha256(f"{options.seed}/{prompt}".encode()).digest())
    return {prompt: place % options.folds for place, prompt in enumerate(order)}


def _predicted(
    unit: Unit,
    mine: Sequence[Row],
    rows: Sequence[Row],
    fold: Mapping[str, int],
    options: WordOptions,
    regress: WordRegressor,
) -> dict[str, Any] | None:
    """Language → [answers, 2] predictions and known shares, in the order of its rows; None where a fold has nothing to
    learn from."""
    out = np.full((len(rows), 2), np.nan)
    for k in range(options.folds):
        train = [row for row in mine if fold[row.prompt] != k]
        held = [i for i, row in enumerate(rows) if fold[row.prompt] == k]
        if not train:
            return None
        texts, scores = [row.text for row in train], [row.score for row in train]
        out[held] = np.column_stack(regress(unit, options.penalty, texts, scores, [rows[i].text for i in held]))
    languages = np.array([row.lang for row in rows])
    return {lang: out[languages == lang] for lang in dict.fromkeys(row.lang for row in rows)}


def _figures(rows: Sequence[Row], predicted: Any, fold: Mapping[str, int], options: WordOptions) -> dict[str, Any]:
    prompts = dict.fromkeys(row.prompt for row in rows)
    empty = {f"{name}{end}": None for name in ("r2", "correlation") for end in ("", "_stderr", "_low", "_high")}
    counts = {f"{name}_n": len(prompts) for name in ("r2", "correlation")}
    if predicted is None:
        return {**empty, **counts, "known": None, "known_stderr": None, "known_n": len(prompts)}
    y = np.array([row.score for row in rows])
    guess = predicted[:, 0]
    known = stats.clustered_mean(predicted[:, 1], [row.prompt for row in rows])
    # Both figures are made of sums over answers, so that a resample of prompts is a sum of their sums. Folds have
    # regressions of their own, whose levels would correlate with y by themselves.
    folds_of = [fold[row.prompt] for row in rows]
    a, c, d = _centred(y, [0] * len(rows)), _centred(y, folds_of), _centred(guess, folds_of)
    place = {prompt: i for i, prompt in enumerate(prompts)}
    sums = np.zeros((len(prompts), 7))
    terms = np.column_stack([np.ones_like(a), a, a * a, (y - guess) ** 2, c * c, d * d, c * d])
    np.add.at(sums, [place[row.prompt] for row in rows], terms)
    noise = np.random.default_rng(options.seed)
    drawn = noise.multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)), options.resamples) @ sums
    out: dict[str, Any] = {}
    for name, statistic in (("r2", _r2), ("correlation", _correlation)):
        [value] = statistic(sums.sum(0, keepdims=True))
        again = statistic(drawn)
        again = again[np.isfinite(again)]
        told = bool(np.isfinite(value)) and len(prompts) > 1 and len(again) > 1
        low, high = np.quantile(again, [0.025, 0.975]) if told else (None, None)
        out |= {
            name: float(value) if np.isfinite(value) else None,
            f"{name}_stderr": float(again.std(ddof=1)) if told else None,
            f"{name}_low": None if low is None else float(low),
            f"{name}_high": None if high is None else float(high),
        }
    return {**out, **counts, **figure("known", known)}


ROUNDING = 1e-12
"""A difference below this share of the values is none."""


def _centred(values: Any, groups: Sequence[int]) -> Any:
    """[n] values less the mean of their group; equal values give 0."""
    _, place = np.unique(groups, return_inverse=True)
    out = values - (np.bincount(place, values) / np.bincount(place))[place]
    out[np.abs(out) <= ROUNDING * np.abs(values).max()] = 0.0
    return out


def _r2(sums: Any) -> Any:
    """[R] from [R, 7] sums; nan where all scores are equal."""
    n, y, yy, error, *_ = sums.T
    spread = yy - y * y / n
    return 1 - error / np.where(spread > ROUNDING * yy, spread, np.nan)


def _correlation(sums: Any) -> Any:
    """[R] from [R, 7] sums; nan where all scores or all predictions are equal."""
    *_, yy, pp, yp = sums.T
    return yp / np.sqrt(np.where(yy * pp > 0, yy * pp, np.nan))


def length_agreement(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """How often the score prefers the longer of two answers to a prompt, by language.

    A prompt's value is the share of its pairs of answers with different scores whose higher score is the longer
    answer (Unicode code points), equal lengths counting half; ½ is no preference. ``length_agreement`` is their mean
    over the prompts that have such a pair, with ``_stderr``, ``_low``, ``_high`` (95%, Student) and ``_n``; None where
    no prompt has one.
    """
    answers: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        answers.setdefault(row.lang, {}).setdefault(row.prompt, []).append(row)
    out = {}
    for lang, by_prompt in answers.items():
        found = [
            metrics.length_agreement([row.score for row in mine], [len(row.text) for row in mine])
            for mine in by_prompt.values()
        ]
        told = [value for value in found if value is not None]
        mean = stats.mean_stderr(told) if told else None
        low, high = (mean.interval() or (None, None)) if mean else (None, None)
        shown = (
            figure("length_agreement", mean) if mean else dict.fromkeys(("length_agreement", "length_agreement_stderr"))
        )
        out[lang] = {
            **shown,
            "length_agreement_n": len(told),
            "length_agreement_low": low,
            "length_agreement_high": high,
        }
    return out
