"""Pair by best against worst: under length control the best-scored answer of a prompt is chosen, the worst rejected
(ICR, Yang et al. 2025, arXiv 2503.04647, §3.2).

Each language has one α, so a run fits it over all examples first (``fit_best_worst``) and then pairs shard by shard
(``best_worst``). Reasons why a language of an example has no pair: ``too_few`` candidates left, ``tied`` (all have the
same controlled score), ``duplicate`` (chosen and rejected are the same text), ``margin`` (under ``min_margin``),
``no_prompt``, ``translated`` (its only candidates are translations).
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, field_validator

from polypref.backends.base import Context, batches
from polypref.errors import InputError, InternalError
from polypref.maths.pairing import Gathered, best_and_worst
from polypref.maths.stats import mean_stderr
from polypref.records import Candidate, Drop, Example, Pair
from polypref.stages.pair_filters import STAGE, Contest, FilterOptions, Filters, candidate_languages, competes

VERSION = 1
RULE = "best_worst"
_CHUNK = 512


class BestWorstOptions(FilterOptions):
    """By which score, and how its pull towards long or short answers is taken out."""

    score: str = Field(min_length=1, description="the name of the score that decides")
    length_control: Literal["off", "auto"] | float = Field(
        "off", description="score − α·length: off, auto (one α a language, fitted), or α itself, negative too"
    )
    length_unit: Literal["characters", "tokens"] = Field("characters", description="Unicode code points, or tokens")
    min_margin: float | None = Field(
        None, allow_inf_nan=False, description="the least difference of the score itself, before control"
    )

    @field_validator("length_control", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if value is True:
            raise ValueError("must be off, auto or a number")
        # YAML reads a bare off as false.
        return "off" if value is False else value

    @field_validator("length_control")
    @classmethod
    def _finite(cls, value: str | float) -> str | float:
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise ValueError("must be off, auto or a finite number")
        return value


def length(candidate: Candidate, example: Example, unit: str) -> int:
    """The length of an answer in Unicode code points or in tokens.

    Raises:
        InputError: tokens are asked for and the candidate has no count.
    """
    if unit == "characters":
        return len(candidate.text)
    if candidate.tokens is not None:
        return candidate.tokens
    if candidate.token_ids is not None:
        return len(candidate.token_ids)
    raise InputError(
        f"candidate {candidate.id!r} of example {example.id!r} has no tokens; add the count, or measure "
        "length in characters"
    )


def fit_best_worst(examples: Iterable[Example], options: BestWorstOptions, context: Context) -> dict[str, float]:
    """α by language: fitted over the candidates that the filters leave, or the given one, or 0 without control.

    Examples are taken as they come; of each candidate three numbers are kept.

    Raises:
        InputError: a candidate that did not fail lacks the score, or its tokens where they are the unit.
    """
    table: dict[str, Gathered] = {}
    for contest in _contests(examples, Filters(options.score, options, context)):
        gathered = table.setdefault(contest.lang, Gathered())
        if options.length_control == "auto":
            numbers: dict[str, int] = {}
            gathered.add(
                [c.scores[options.score] for c in contest.candidates],
                [length(c, contest.example, options.length_unit) for c in contest.candidates],
                [numbers.setdefault(c.text, len(numbers)) for c in contest.candidates],
            )
    if options.length_control == "auto":
        return {lang: gathered.fit_alpha() for lang, gathered in table.items()}
    return dict.fromkeys(table, _given_alpha(options))


def best_worst(
    examples: Iterable[Example],
    options: BestWorstOptions,
    context: Context,
    alphas: Mapping[str, float] | None = None,
) -> Iterator[Example]:
    """Give every example one pair a language, or the reason why it has none; ``pairs`` is replaced.

    Args:
        alphas: α by language from ``fit_best_worst``; fitted here, over all the examples at once, when left out and
            length control is auto.

    Raises:
        InputError: a candidate that did not fail lacks the score, or its tokens where they are the unit.
        InternalError: ``alphas`` lacks a language.
    """
    if alphas is None and options.length_control == "auto":
        examples = list(examples)
        alphas = fit_best_worst(examples, options, context)
    filters = Filters(options.score, options, context)
    done = 0
    for chunk in batches(examples, _CHUNK):
        for example, contests in zip(chunk, filters.contests(chunk), strict=True):
            yield _paired(example, contests, options, alphas)
        done += len(chunk)
        context.progress("pair", done, None)


def _paired(
    example: Example, contests: Sequence[Contest], options: BestWorstOptions, alphas: Mapping[str, float] | None
) -> Example:
    pairs: list[Pair] = []
    drops = [drop for drop in example.dropped if drop.stage != STAGE]
    for contest in contests:
        drops += contest.drops
        decided = _decide(contest, options, _alpha(contest.lang, options, alphas))
        if isinstance(decided, str):
            drops.append(Drop(STAGE, decided, contest.lang))
        else:
            pairs.append(
                Pair(
                    lang=contest.lang,
                    chosen=decided.chosen.id,
                    rejected=decided.rejected.id,
                    score=options.score,
                    margin=decided.margin,
                    rule=RULE,
                )
            )
    return dataclasses.replace(example, pairs=pairs, dropped=drops)


@dataclass(frozen=True, slots=True)
class _Decision:
    chosen: Candidate
    rejected: Candidate
    margin: float


def _decide(contest: Contest, options: BestWorstOptions, alpha: float) -> _Decision | str:
    """The pair of a contest, or the reason why there is none."""
    if contest.excluded:
        return contest.excluded
    candidates = contest.candidates
    if len(candidates) < 2:
        return "too_few"
    scores = [c.scores[options.score] for c in candidates]
    # Without control nobody needs a token count.
    lengths = [length(c, contest.example, options.length_unit) if alpha else 0 for c in candidates]
    best, worst = best_and_worst(scores, lengths, alpha)
    chosen, rejected = candidates[best], candidates[worst]
    margin = float(chosen.scores[options.score] - rejected.scores[options.score])
    if best == worst:
        return "tied"
    if chosen.text == rejected.text:
        return "duplicate"
    if options.min_margin is not None and margin < options.min_margin:
        return "margin"
    return _Decision(chosen, rejected, margin)


def _alpha(lang: str, options: BestWorstOptions, alphas: Mapping[str, float] | None) -> float:
    if options.length_control != "auto":
        return _given_alpha(options)
    if alphas is None or lang not in alphas:
        raise InternalError(f"no α was fitted for {lang}, though an example has candidates in it")
    return alphas[lang]


def _given_alpha(options: BestWorstOptions) -> float:
    return float(options.length_control) if isinstance(options.length_control, float) else 0.0


def pair_statistics(
    examples: Iterable[Example],
    options: BestWorstOptions,
    alphas: Mapping[str, float] | None = None,
    context: Context | None = None,
) -> dict[str, dict[str, Any]]:
    """What pairing gave, by language, counted from the examples that ``best_worst`` returned.

    For each language: ``prompts`` (examples with candidates in it), ``pairs``, the mean ``margin``, ``length_gap``
    (chosen − rejected) and ``length_gap_without_control`` (as it would be at α = 0) each with its ``_stderr``,
    ``share_longer`` (pairs whose chosen is the longer), ``alpha``, ``length_unit``, ``dropped`` (candidates by reason)
    and ``without_pair`` (prompts by reason). Means are None where there is no pair. With a context also
    ``language_undetermined`` and ``asks_other_language`` (answers that passed the check so) and ``checked_by_script``.

    Raises:
        InputError: tokens are the unit and a candidate has no count.
    """
    figures = PairStatistics(options, alphas, context)
    for chunk in batches(examples, _CHUNK):
        figures.add(chunk)
    return figures.by_language()


class PairStatistics:
    """``pair_statistics`` of examples as they come: of each pair three numbers are kept."""

    def __init__(
        self,
        options: BestWorstOptions,
        alphas: Mapping[str, float] | None = None,
        context: Context | None = None,
    ) -> None:
        self.options, self.alphas = options, alphas or {}
        self._filters = Filters(options.score, options, context) if context and options.language_check else None
        self._tallies: dict[str, _Tally] = {}

    def add(self, chunk: Sequence[Example]) -> None:
        """Count examples that ``best_worst`` returned; the texts of a chunk are identified in one batch."""
        for example in chunk:
            for lang in candidate_languages(example):
                self._tallies.setdefault(lang, _Tally()).add(example, lang, self.options)
        if self._filters:
            languages = {(e.id, c.id): c.lang for e in chunk for c in e.candidates}
            for key, verdict in self._filters.verdicts(chunk).items():
                self._tallies[languages[key]].verdicts[verdict] += 1

    def by_language(self) -> dict[str, dict[str, Any]]:
        """The figures of what was counted."""
        out: dict[str, dict[str, Any]] = {}
        for lang, tally in self._tallies.items():
            fitted = self.options.length_control == "auto"
            alpha = self.alphas.get(lang) if fitted else _given_alpha(self.options)
            out[lang] = {"alpha": alpha, "length_unit": self.options.length_unit} | tally.summary()
            if self._filters:
                out[lang] |= {
                    "language_undetermined": tally.verdicts["undetermined"],
                    "asks_other_language": tally.verdicts["asks_other_language"],
                    "checked_by_script": lang in self._filters.told_by_script,
                }
        return out


@dataclass(slots=True)
class _Tally:
    """What is counted of one language."""

    prompts: int = 0
    margins: array[float] = field(default_factory=lambda: array("d"))
    gaps: array[int] = field(default_factory=lambda: array("q"))
    gaps_without_control: array[int] = field(default_factory=lambda: array("q"))
    dropped: Counter[str] = field(default_factory=Counter)
    without_pair: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example, lang: str, options: BestWorstOptions) -> None:
        self.prompts += 1
        drops = [drop for drop in example.dropped if drop.stage == STAGE and drop.lang == lang]
        self.dropped.update(drop.reason for drop in drops if drop.candidate is not None)
        self.without_pair.update(drop.reason for drop in drops if drop.candidate is None)
        for pair in example.pairs:
            if pair.lang == lang:
                self.margins.append(pair.margin or 0.0)
                self.gaps.append(_gap(example, pair.chosen, pair.rejected, options))
        out = {drop.candidate for drop in drops}
        left = [c for c in example.candidates if c.lang == lang and competes(c) and c.id not in out]
        uncontrolled = _decide(Contest(example, lang, left, []), options, 0.0)
        if not isinstance(uncontrolled, str):
            self.gaps_without_control.append(_gap(example, uncontrolled.chosen.id, uncontrolled.rejected.id, options))

    def summary(self) -> dict[str, Any]:
        means: dict[str, Sequence[float]] = {
            "margin": self.margins,
            "length_gap": self.gaps,
            "length_gap_without_control": self.gaps_without_control,
            "share_longer": [float(gap > 0) for gap in self.gaps],
        }
        out: dict[str, Any] = {"prompts": self.prompts, "pairs": len(self.margins)}
        for name, values in means.items():
            estimate = mean_stderr(values) if values else None
            out[name] = estimate.value if estimate else None
            out[f"{name}_stderr"] = estimate.stderr if estimate else None
        return out | {
            "dropped": dict(sorted(self.dropped.items())),
            "without_pair": dict(sorted(self.without_pair.items())),
        }


def _gap(example: Example, chosen: str, rejected: str, options: BestWorstOptions) -> int:
    unit = options.length_unit
    return length(example.candidate(chosen), example, unit) - length(example.candidate(rejected), example, unit)


def _contests(examples: Iterable[Example], filters: Filters) -> Iterator[Contest]:
    for chunk in batches(examples, _CHUNK):
        for contests in filters.contests(chunk):
            yield from contests
