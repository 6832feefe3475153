"""Evaluate: answers in, figures by language out, each with its standard error and n.

Every metric is first one number a prompt and language (``Evaluation.values``); a figure is their mean. That keeps
the answers to one prompt together in the standard error, and two steps are compared prompt by prompt without a
second pass.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from pydantic import Field

from polypref import languages
from polypref.backends.base import Context, LanguageIdentifier, Options, batches
from polypref.errors import InputError, RecipeError, did_you_mean
from polypref.maths import metrics, stats
from polypref.records import Candidate, Example, live

VERSION: int = 2
DATE: str = "%Y-%m-%d %H:%M UTC"
"""The form of a date in results.json."""

LABELS: dict[str, int] = {"right": 1, "wrong": 0, "chosen": 1, "rejected": 0, "good": 1, "bad": 0}
"""What a label in words says of an answer."""

Values: TypeAlias = dict[str, dict[str, float]]
"""One metric: language → prompt id → value."""

Figures: TypeAlias = dict[str, dict[str, float | int | None]]
"""Language → ``{metric: v, metric_stderr: s, metric_n: n}``, as results.json holds it."""


class EvaluateOptions(Options):
    """Which figures, and which scores they are made of. What has no score named is not computed."""

    quality: str | None = Field(None, description="the score that says how good an answer is, e.g. oracle")
    reward_accuracy: dict[str, str] = Field(
        default_factory=dict, description="view: score; gives reward_accuracy_<view> for each"
    )
    truth: str | None = Field(
        None, description='what tells right from wrong: a score, "label" or "pairs"; left out: quality, else label'
    )
    pair_quality: bool = Field(
        False, description="chosen_quality and rejected_quality: the quality of the pairs' sides"
    )
    policy_logprob: str | None = Field(None, description="with reference_logprob gives kl, in nats an answer")
    reference_logprob: str | None = None
    kl_estimator: Literal["k1", "k3"] = "k1"
    by_category: bool = Field(False, description="quality also by category, as quality_<category>")
    language_fidelity: bool = Field(True, description="share of answers in the prompt's language, and in another")
    language_identifier: str | None = Field(None, description="left out: the run's own")
    model: str | None = Field(None, description="only answers of this model; left out: all")
    origins: tuple[str, ...] = Field(
        ("sampled", "reference", "human"), description="only answers of these origins; those of no origin always count"
    )


@dataclass(slots=True)
class Evaluation:
    """Metric → language → prompt id → value: what figures and comparisons are made of."""

    values: dict[str, Values] = field(default_factory=dict)

    def add(self, metric: str, lang: str, prompt: str, value: float | None) -> None:
        """Take in one value; None says nothing and is left out."""
        if value is not None:
            self.values.setdefault(metric, {}).setdefault(lang, {})[prompt] = value

    def add_by_category(self, metric: str, categories: Mapping[str, str | None]) -> None:
        """Take in ``<metric>_<category>`` of a metric that is there, given the category of each prompt (None: none)."""
        for lang, by_prompt in self.values.get(metric, {}).items():
            for prompt, value in by_prompt.items():
                if category := categories.get(prompt):
                    self.add(f"{metric}_{category_name(category)}", lang, prompt, value)

    def figures(self) -> Figures:
        """The mean over prompts of every metric by language, with stderr and n."""
        out: Figures = {}
        for metric, by_language in self.values.items():
            for lang, by_prompt in by_language.items():
                out.setdefault(lang, {}).update(figure(metric, stats.mean_stderr(list(by_prompt.values()))))
        return out

    def mean(self, metric: str, languages: Sequence[str] | None = None) -> stats.Estimate:
        """The unweighted mean over languages (all, or those named), clustered by prompt."""
        return stats.mean_of_means(_strata(self.values.get(metric, {}), languages, metric))

    def merge(self, other: Evaluation) -> Evaluation:
        """Both evaluations in one; where both hold a metric of a language, the other's prompts are added."""
        out = Evaluation({m: {lang: dict(v) for lang, v in by.items()} for m, by in self.values.items()})
        for metric, by_language in other.values.items():
            for lang, by_prompt in by_language.items():
                out.values.setdefault(metric, {}).setdefault(lang, {}).update(by_prompt)
        return out

    def to_json(self) -> dict[str, Any]:
        """A plain object; ``from_json`` gives the same evaluation back."""
        return {"version": VERSION, "values": self.values}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evaluation:
        return cls({m: {lang: dict(v) for lang, v in by.items()} for m, by in value["values"].items()})


def category_name(category: str) -> str:
    """How metrics call a category: in [a-z0-9_], so that those that differ in case or punctuation alone are one.

    Raises:
        InputError: nothing of it is left.
    """
    plain = unicodedata.normalize("NFKD", category.lower()).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not name:
        raise InputError(f"the category {category!r} has no letter from a to z and no digit; rename it")
    # quality_n and quality_top_n would read as the number of prompts of quality and of quality_top.
    return f"{name}_category" if re.search(r"(^|_)(n|stderr)$", name) else name


def figure(metric: str, estimate: stats.Estimate) -> dict[str, float | int | None]:
    """An estimate in the shape of results.json."""
    return {metric: estimate.value, f"{metric}_stderr": estimate.stderr, f"{metric}_n": estimate.n}


def evaluate(examples: Iterable[Example], options: EvaluateOptions, context: Context) -> Evaluation:
    """The values of every metric that the options name, in one pass.

    Metrics: ``quality``, ``quality_<category>``, ``reward_accuracy_<view>``, ``chosen_quality`` and
    ``rejected_quality``, ``kl``, ``language_fidelity`` and ``off_target_language`` (shares of the answers whose
    language could be told, which add up to 1), ``language_undetermined`` (share of all), ``length_characters`` (Unicode
    code points), ``length_tokens``, ``truncated``, ``failed``. An answer that failed counts in ``failed`` and nowhere
    else.

    Raises:
        InputError: an answer lacks a score that the options name, an id comes twice, or a label says nothing known.
    """
    _check(options)
    identifier = context.open("language_identifier", options.language_identifier) if options.language_fidelity else None
    out = Evaluation()
    seen: dict[str, str | None] = {}
    for batch in batches(examples, 256):
        cells = []
        for example in batch:
            if example.id in seen:
                raise InputError(f"the example {example.id!r} comes a second time; ids are unique in an evaluation")
            seen[example.id] = example.category
            cells += _cells(example, options)
        for cell in cells:
            for metric, value in _values(cell, options).items():
                out.add(metric, cell.lang, cell.example.id, value)
        if identifier is not None:
            _add_fidelity(out, cells, identifier)
        context.progress("evaluate", len(seen), None)
    if options.by_category:
        out.add_by_category("quality", seen)
    return out


@dataclass(frozen=True, slots=True)
class _Cell:
    """The answers of one prompt in one language that an evaluation looks at."""

    example: Example
    lang: str
    live: list[Candidate]
    failed: int

    def scores(self, name: str) -> list[float]:
        return [_score(self.example, candidate, name) for candidate in self.live]


def _check(options: EvaluateOptions) -> None:
    if (options.policy_logprob is None) != (options.reference_logprob is None):
        raise RecipeError("kl needs both policy_logprob and reference_logprob; name the two scores or neither")
    if options.by_category and options.quality is None:
        raise RecipeError("by_category needs quality; name the score that says how good an answer is")
    if options.pair_quality and options.quality is None:
        raise RecipeError("pair_quality needs quality; name the score that says how good an answer is")


def _cells(example: Example, options: EvaluateOptions) -> list[_Cell]:
    cells: dict[str, _Cell] = {}
    for candidate in example.candidates:
        if options.model is not None and candidate.model != options.model:
            continue
        if candidate.origin is not None and candidate.origin not in options.origins:
            continue
        cell = cells.get(candidate.lang, _Cell(example, candidate.lang, [], 0))
        if live(candidate):
            cell.live.append(candidate)
        else:
            cell = replace(cell, failed=cell.failed + 1)
        cells[candidate.lang] = cell
    return list(cells.values())


def _values(cell: _Cell, options: EvaluateOptions) -> dict[str, float | None]:
    """Metric → value of one cell; None where the cell says nothing about it."""
    answers = cell.live
    out: dict[str, float | None] = {"failed": cell.failed / (cell.failed + len(answers))}
    if not answers:
        return out
    if options.quality is not None:
        out["quality"] = _mean(cell.scores(options.quality))
    for view, name in options.reward_accuracy.items():
        out[f"reward_accuracy_{view}"] = _accuracy(cell, name, options)
    if options.pair_quality:
        for side in ("chosen", "rejected"):
            ids = [getattr(pair, side) for pair in cell.example.pairs if pair.lang == cell.lang]
            sides = [cell.example.candidate(candidate_id) for candidate_id in ids]
            out[f"{side}_quality"] = _mean([_score(cell.example, c, str(options.quality)) for c in sides])
    if options.policy_logprob is not None and options.reference_logprob is not None:
        policy, reference = cell.scores(options.policy_logprob), cell.scores(options.reference_logprob)
        out["kl"] = _mean(metrics.kl_terms(policy, reference, options.kl_estimator).tolist())
    out["length_characters"] = _mean([len(c.text) for c in answers])
    out["length_tokens"] = _mean([c.tokens for c in answers if c.tokens is not None])
    out["truncated"] = _mean([c.finish_reason == "length" for c in answers])
    return out


def _accuracy(cell: _Cell, name: str, options: EvaluateOptions) -> float | None:
    truth = options.truth or options.quality or "label"
    unseen = _unseen(cell.example, name)
    if truth == "pairs":
        pairs = [p for p in cell.example.pairs if p.lang == cell.lang and not {p.chosen, p.rejected} & unseen]
        sides = [[cell.example.candidate(p.chosen), cell.example.candidate(p.rejected)] for p in pairs]
        return _mean(
            [metrics.reward_accuracy([_score(cell.example, c, name) for c in two], (1, 0)) or 0.0 for two in sides]
        )
    seen = [c for c in cell.live if c.id not in unseen]
    if truth != "label":
        return metrics.reward_accuracy(*([_score(cell.example, c, score) for c in seen] for score in (name, truth)))
    labelled = [(c, _label(cell.example, c)) for c in seen if c.label is not None]
    return metrics.reward_accuracy([_score(cell.example, c, name) for c, _ in labelled], [t for _, t in labelled])


def _unseen(example: Example, name: str) -> set[str]:
    """The answers that a view had no score to give to, since their translation failed: that is counted where it did."""
    lacking = {c.id for c in example.candidates if name not in c.scores}
    return {d.candidate for d in example.dropped if d.reason == "no_translation" and d.candidate in lacking}


def _label(example: Example, candidate: Candidate) -> float:
    label = (
        LABELS.get(candidate.label.lower(), candidate.label) if isinstance(candidate.label, str) else candidate.label
    )
    if not isinstance(label, int | float):
        raise InputError(
            f"the label of {candidate.id!r} of example {example.id!r} is {candidate.label!r}; "
            f"write a number, true or false, or one of {', '.join(LABELS)}"
        )
    return float(label)


def _score(example: Example, candidate: Candidate, name: str) -> float:
    if name not in candidate.scores:
        raise InputError(
            f"the answer {candidate.id!r} of example {example.id!r} has no score {name!r}; score it first "
            f"({did_you_mean(name, candidate.scores) if candidate.scores else 'it has no score at all'})"
        )
    return candidate.scores[name]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _add_fidelity(out: Evaluation, cells: Sequence[_Cell], identifier: LanguageIdentifier) -> None:
    found = iter(identifier.identify([candidate.text for cell in cells for candidate in cell.live]))
    for cell in cells:
        tags = [next(found).tag for _ in cell.live]
        told = [languages.same(tag, cell.lang) for tag in tags if tag is not None]
        out.add("language_fidelity", cell.lang, cell.example.id, _mean(told))
        out.add("off_target_language", cell.lang, cell.example.id, _mean([not same for same in told]))
        out.add("language_undetermined", cell.lang, cell.example.id, _mean([tag is None for tag in tags]))


@dataclass(frozen=True, slots=True)
class Gain:
    """A paired difference after − before with its 95% interval (None with a single prompt) and n prompts."""

    gain: float
    stderr: float | None
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, estimate: stats.Estimate) -> Gain:
        low, high = estimate.interval() or (None, None)
        return cls(estimate.value, estimate.stderr, low, high, estimate.n)

    def to_json(self) -> dict[str, float | int | None]:
        return {"gain": self.gain, "stderr": self.stderr, "low": self.low, "high": self.high, "n": self.n}


def compare(
    before: Evaluation,
    after: Evaluation,
    *,
    names: tuple[str, str],
    metric: str = "quality",
    mean_over: Sequence[str] | None = None,
) -> dict[str, Any]:
    """One entry of results.json's ``comparisons``: the gain from one step to another on the prompts that both answered.

    ``languages`` holds every language's gain, the entry itself the mean gain over ``mean_over`` (all when None),
    clustered by prompt, since parallel languages share their prompts.

    Raises:
        InputError: the two share no prompt in a language that is asked for.
    """
    old, new = before.values.get(metric, {}), after.values.get(metric, {})
    differences = {
        lang: {p: new[lang][p] - old[lang][p] for p in old[lang] if p in new[lang]} for lang in old if lang in new
    }
    differences = {lang: d for lang, d in differences.items() if d}
    strata = _strata(differences, mean_over, f"{metric} of both {names[0]} and {names[1]}")
    return {
        "from": names[0],
        "to": names[1],
        "metric": metric,
        "languages": {lang: Gain.of(stats.mean_stderr(list(d.values()))).to_json() for lang, d in differences.items()},
        "mean_over": list(strata),
        **Gain.of(stats.mean_of_means(strata)).to_json(),
    }


def _strata(values: Values, languages: Sequence[str] | None, what: str) -> dict[str, dict[Any, float]]:
    for lang in languages or ():
        if lang not in values:
            raise InputError(f"there is no {what} in {lang}; known languages: {', '.join(values) or 'none'}")
    if not values:
        raise InputError(f"there is no {what} in any language, so there is no mean")
    return {lang: dict(values[lang]) for lang in (languages or values)}


def now() -> str:
    """The moment, as results.json has it."""
    return datetime.datetime.now(datetime.UTC).strftime(DATE)


def results(
    steps: Mapping[str, Figures],
    *,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
    seed: int,
    signature: str,
    date: str | None = None,
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The object of results.json; ``date`` is now when left out."""
    return {
        "results": {step: dict(figures) for step, figures in steps.items()},
        "comparisons": [dict(c) for c in comparisons],
        "config": dict(config),
        "versions": dict(versions),
        "date": date or now(),
        "seed": seed,
        "signature": signature,
    }


def signature(settings: Mapping[str, Any], version: str) -> str:
    """``polypref:0.1.0|key:value|…``, keys sorted: what a figure must share with another to be compared with it."""
    return "|".join([f"polypref:{version}", *(f"{key}:{_shown(settings[key])}" for key in sorted(settings))])


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return "+".join(_shown(v) for v in value) or "none"
    if isinstance(value, Mapping):
        return "+".join(f"{k}={_shown(v)}" for k, v in sorted(value.items())) or "none"
    return str(value).replace("|", "/").replace("\n", " ")
