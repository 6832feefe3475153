"""Best-of-n: of a prompt's first n samples the one with the highest score (Stiennon et al. 2020, arXiv 2009.01325;
across languages Wu et al. 2024, arXiv 2404.12318, §3).

``best_of_n`` gives every prompt and language the pair of the picked sample against the worst of the same n, under the
rule ``best_of_n``. Training by ``sft`` reads the chosen side alone, so that is rejection-sampling fine-tuning; DPO
reads both (Gui et al. 2024, arXiv 2406.00832, train on best against worst of n). ``keep: picked`` leaves the picked
samples alone, which are then answers like any other: best-of-n as it is served. ``curve`` says what every n is worth.

The samples are those of one model, in the example's order, so that n is nested: the 4 lie in the 64. n counts what was
drawn: a sample that failed, or that the filters take out, is never picked. Reasons why a language of an example has no
pair: ``too_few`` (under two samples left of the n), ``tied`` (the picked one scores no higher than the worst),
``duplicate`` (both have the same text), ``no_prompt``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from polypref.backends.base import Context, batches
from polypref.errors import InputError, did_you_mean
from polypref.maths import best_of_n as maths
from polypref.records import Candidate, Drop, Example, Pair
from polypref.stages.evaluate import Evaluation, figure
from polypref.stages.pair_filters import STAGE, FilterOptions, Filters, Reasons, candidate_languages

VERSION = 1
RULE = "best_of_n"
_CHUNK = 512


class BestOfNOptions(FilterOptions):
    """By which score, of how many samples, and what else is asked of the picked one."""

    score: str = Field(min_length=1, description="the name of the score that picks")
    n: tuple[int, ...] = Field(min_length=1, description="how many samples; the curve has each, pairs the greatest")
    quality: str | None = Field(None, description="a second score, such as a judge's, of the picked sample")
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="soft best-of-n: picks by softmax(score/temperature)"
    )
    seed: int = Field(0, ge=0, description="of soft picks, and of the sets whose mean they have")
    model: str | None = Field(None, description="only samples of this model; all are of one when left out")
    keep: Literal["all", "picked"] = Field(
        "all", description="all candidates with a pair a language, or the picked ones alone without pairs"
    )
    policy_logprob: str | None = Field(
        None, description="the score that holds log π by the model that was sampled; gives kl"
    )
    reference_logprob: str | None = Field(None, description="with policy_logprob: log π_ref; gives kl_from_reference")
    language_check: bool = Field(False, description="never pick an answer in another language than its prompt")

    @field_validator("n", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @field_validator("n", mode="after")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError(f"holds {min(value)}; every n must be at least 1")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _a_policy_to_measure_from(self) -> BestOfNOptions:
        if self.reference_logprob is not None and self.policy_logprob is None:
            raise ValueError("reference_logprob needs policy_logprob; name the score that holds it too")
        return self

    @property
    def most(self) -> int:
        """The n of the pairs."""
        return self.n[-1]


@dataclass(frozen=True, slots=True)
class _Draws:
    """One prompt's samples in one language, in order, and why some may not be picked."""

    example: Example
    lang: str
    samples: Sequence[Candidate]
    reasons: Reasons

    def reason(self, candidate: Candidate) -> str | None:
        return self.reasons.get((self.example.id, candidate.id))

    def left(self, n: int | None = None) -> list[Candidate]:
        """Those of the first n that may be picked."""
        return [c for c in self.samples[:n] if self.reason(c) is None]

    def numbers(self, candidates: Iterable[Candidate], name: str) -> list[float]:
        """The named score of each.

        Raises:
            InputError: one lacks it.
        """
        out = []
        for candidate in candidates:
            if name not in candidate.scores:
                raise InputError(
                    f"candidate {candidate.id!r} of example {self.example.id!r} has no score {name!r}; score it first "
                    f"({did_you_mean(name, candidate.scores) if candidate.scores else 'it has no score at all'})"
                )
            out.append(candidate.scores[name])
        return out


def best_of_n(examples: Iterable[Example], options: BestOfNOptions, context: Context) -> Iterator[Example]:
    """Give every example its pairs, one a language, of the greatest n; or the picked samples alone (``keep: picked``).

    ``pairs`` is replaced. A pair's margin is the score of the picked sample less the worst's; equal scores go to the
    earlier sample. A picked sample that is kept alone has ``best_of``: n.

    Raises:
        InputError: a language of an example has fewer samples than n, or of several models, or a sample that may be
            picked lacks the score.
    """
    done = 0
    for chunk in _drawn(examples, options, context):
        for example, languages in chunk:
            yield (_picked if options.keep == "picked" else _paired)(example, languages, options)
        done += len(chunk)
        context.progress(RULE, done, None)


def _paired(example: Example, languages: Sequence[_Draws], options: BestOfNOptions) -> Example:
    pairs: list[Pair] = []
    drops = [drop for drop in example.dropped if drop.stage != STAGE]
    for draws in languages:
        drops += _drops(draws, options)
        made = _pair(draws, options)
        if isinstance(made, Pair):
            pairs.append(made)
        else:
            drops.append(Drop(STAGE, made, draws.lang))
    return dataclasses.replace(example, pairs=pairs, dropped=drops)


def _pair(draws: _Draws, options: BestOfNOptions) -> Pair | str:
    """The pair of a language, or the reason why there is none."""
    if draws.lang not in draws.example.prompts:
        return "no_prompt"
    left = draws.left(options.most)
    if len(left) < 2:
        return "too_few"
    scores = draws.numbers(left, options.score)
    best, worst = _pick(draws, options), min(range(len(left)), key=scores.__getitem__)
    margin = float(best.scores[options.score] - scores[worst])
    if margin <= 0:
        return "tied"
    if best.text == left[worst].text:
        return "duplicate"
    return Pair(draws.lang, best.id, left[worst].id, options.score, margin, RULE)


def _picked(example: Example, languages: Sequence[_Draws], options: BestOfNOptions) -> Example:
    kept: list[Candidate] = []
    drops = [drop for drop in example.dropped if drop.stage != STAGE]
    for draws in languages:
        drops += _drops(draws, options)
        if draws.left(options.most):
            best = _pick(draws, options)
            # Whatever it was made of is not beside it any more.
            kept.append(dataclasses.replace(best, parent=None, extra=best.extra | {"best_of": options.most}))
        else:
            drops.append(Drop(STAGE, "too_few", draws.lang))
    return dataclasses.replace(example, candidates=kept, pairs=[], dropped=drops)


def _drops(draws: _Draws, options: BestOfNOptions) -> list[Drop]:
    found = [(candidate, draws.reason(candidate)) for candidate in draws.samples[: options.most]]
    return [Drop(STAGE, reason, draws.lang, candidate.id) for candidate, reason in found if reason is not None]


def _pick(draws: _Draws, options: BestOfNOptions) -> Candidate:
    """The sample of the greatest n that is given: the best, or a soft pick by the Gumbel-max trick."""
    left = draws.left(options.most)
    scores = np.array(draws.numbers(left, options.score))
    if options.temperature is not None:
        # Every sample has noise of its own, so that what the filters take out does not move the others'.
        noise = np.random.default_rng(_seed(draws, options)).gumbel(size=options.most)
        own = [i for i, c in enumerate(draws.samples[: options.most]) if draws.reason(c) is None]
        with np.errstate(over="ignore"):
            scores = (scores - scores.max()) / options.temperature + noise[own]
    return left[int(scores.argmax())]


def _seed(draws: _Draws, options: BestOfNOptions) -> int:
    """Of one prompt and language, whatever stands before it in the file."""
    digest = hashlib.sha256(f"{options.seed}\0{draws.example.id}\0{draws.lang}".encode()).digest()
    return int.from_bytes(digest[:8])


def evaluations(examples: Iterable[Example], options: BestOfNOptions, context: Context) -> dict[int, Evaluation]:
    """For every n the expected values of the picked sample, prompt by prompt, over all sets of n of a prompt's samples.

    Metrics: ``score``; ``quality`` where one is named; ``length_characters``; where ``policy_logprob`` is named ``kl``,
    an estimate of KL(best-of-n ‖ the sampled model) (Beirami et al. 2024, arXiv 2401.01879, §4); with
    ``reference_logprob`` also ``kl_from_reference``, KL(best-of-n ‖ π_ref) = KL(best-of-n ‖ π) + E[log π − log π_ref].
    Both in nats an answer. ``evaluate.compare`` gives the gain from one n to another with its interval.

    Raises:
        InputError: as ``best_of_n``, a sample lacks a score that the options name, an id comes twice, or there is no
            sample at all.
    """
    out = {n: Evaluation() for n in options.n}
    seen: set[str] = set()
    for chunk in _drawn(examples, options, context):
        for example, languages in chunk:
            if example.id in seen:
                raise InputError(f"the example {example.id!r} comes a second time; ids are unique in an evaluation")
            seen.add(example.id)
            for draws in languages:
                if draws.lang in example.prompts and draws.left():
                    for n, values in _values(draws, options):
                        for metric, value in values.items():
                            out[n].add(metric, draws.lang, example.id, value)
        context.progress("curve", len(seen), None)
    if not out[options.most].values:
        what = f"of the model {options.model!r} " if options.model else ""
        raise InputError(
            f"no sample {what}may be picked in {len(seen)} examples; draw some with polypref generate (where prompts "
            "were too long for the model's window, ask for fewer max_tokens)"
        )
    return out


def _values(draws: _Draws, options: BestOfNOptions) -> Iterator[tuple[int, dict[str, float]]]:
    left = draws.left()
    scores = draws.numbers(left, options.score)
    columns: dict[str, Sequence[float]] = {"score": scores}
    if options.quality is not None:
        columns["quality"] = draws.numbers(left, options.quality)
    columns["length_characters"] = [float(len(candidate.text)) for candidate in left]
    policy = None if options.policy_logprob is None else draws.numbers(left, options.policy_logprob)
    for n in options.n:
        chances = _chances(draws, scores, n, options)
        values = {name: maths.weighted(chances, column) for name, column in columns.items()}
        if policy is not None:
            values["kl"] = maths.weighted(chances, maths.kl_terms(n, policy))
            if options.reference_logprob is not None:
                reference = draws.numbers(left, options.reference_logprob)
                shift = maths.weighted(chances, np.subtract(policy, reference))
                values["kl_from_reference"] = values["kl"] + shift
        yield n, values


def _chances(draws: _Draws, scores: Sequence[float], n: int, options: BestOfNOptions) -> maths.Array:
    drawn = len(draws.samples)
    if options.temperature is None:
        return maths.pick_chances(scores, n, drawn)
    return maths.soft_chances(scores, n, options.temperature, drawn, seed=(_seed(draws, options), n))


def curve(examples: Iterable[Example], options: BestOfNOptions, context: Context) -> dict[str, list[dict[str, Any]]]:
    """What every n is worth: language → one row an n, rising, of ``n``, ``kl_bound`` and the figures of
    ``evaluations``, each metric with ``_stderr`` and ``_n`` (prompts).

    Raises:
        InputError: as ``evaluations``.
    """
    return rows(evaluations(examples, options, context))


def rows(found: Mapping[int, Evaluation]) -> dict[str, list[dict[str, Any]]]:
    """The evaluations by n as the rows of ``curve``."""
    out: dict[str, list[dict[str, Any]]] = {}
    for n, evaluation in found.items():
        for lang, figures in evaluation.figures().items():
            out.setdefault(lang, []).append({"n": n, "kl_bound": maths.kl_bound(n), **figures})
    return out


def mean_rows(found: Mapping[int, Evaluation]) -> list[dict[str, Any]]:
    """The same over languages, each with the same weight, clustered by prompt: one row an n."""
    out = []
    for n, evaluation in found.items():
        row: dict[str, Any] = {"n": n, "kl_bound": maths.kl_bound(n)}
        for metric in evaluation.values:
            row |= figure(metric, evaluation.mean(metric))
        out.append(row)
    return out


def _drawn(
    examples: Iterable[Example], options: BestOfNOptions, context: Context
) -> Iterator[list[tuple[Example, list[_Draws]]]]:
    """Chunks of examples, each with its samples by language."""
    filters = Filters(options.score, options, context)
    for chunk in batches(examples, _CHUNK):
        reasons = filters.reasons(chunk)
        yield [(e, [_samples(e, lang, reasons, options) for lang in candidate_languages(e)]) for e in chunk]


def _samples(example: Example, lang: str, reasons: Reasons, options: BestOfNOptions) -> _Draws:
    found = [c for c in example.candidates if c.lang == lang and c.origin in (None, "sampled")]
    if options.model is not None:
        found = [c for c in found if c.model == options.model]
    elif len(models := {str(c.model) for c in found}) > 1:
        raise InputError(
            f"the samples of example {example.id!r} in {lang} are of the models {', '.join(sorted(models))}; "
            "name the one to pick from as model"
        )
    if found and len(found) < options.most:
        raise InputError(
            f"example {example.id!r} has {len(found)} samples in {lang}, so there is no best of {options.most}; draw "
            f"{options.most} with polypref generate --n {options.most}, or ask for n up to {len(found)}"
        )
    return _Draws(example, lang, found, reasons)
