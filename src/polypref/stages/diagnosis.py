"""Before GPU time is spent: will a reward steer a policy in a language that it was not trained on?

Four cheap experiments, each by the 95% interval of one figure:

- ``accuracy``: on labelled answers, against the better of the length and the majority baseline;
- ``accuracy_on_samples``: on the policy's own samples, of which a judge knows the better, against chance;
- ``best_of_n``: the picked samples against the policy's ordinary answers, by a judge that is not the reward;
- ``length``: the picked samples' length against that of one sample.

An experiment speaks for the reward where its whole interval is on the right side of its threshold, against it where
the whole interval is on the wrong side, and is unclear between. The second and third are experiments of outcome: they
look at what would be optimised. The verdict is ``no_go`` where an experiment of outcome speaks against; ``go`` where
none of the four does and one of outcome speaks for; else ``doubtful``. Where no experiment of outcome was made,
accuracy that is shown to be below chance is a ``no_go`` too. Accuracy alone is no ``go``: over 36 pairs of languages it
says next to nothing of the win rate (Wu et al. 2024, arXiv 2404.12318: Kendall's τ 0.10). The rule and its limits are
conventions of polypref.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field

from polypref.backends.base import Options
from polypref.errors import InputError
from polypref.stages import report_tables as tables
from polypref.stages.judge_rewards import share_interval
from polypref.stages.signature_figures import Measured, measured, minus

VERSION = 2

Figures = Mapping[str, Any]
"""Metric → value, with ``_stderr`` and ``_n``: one language of one step, or one row of best-of-n."""

Experiment = Literal["accuracy", "accuracy_on_samples", "best_of_n", "length"]
Judge = str | Mapping[str, str] | None

EXPERIMENTS: dict[Experiment, str] = {
    "accuracy": "accuracy on labelled answers",
    "accuracy_on_samples": "accuracy on the policy's own samples",
    "best_of_n": "best-of-n by another judge",
    "length": "length under best-of-n",
}
OF_OUTCOME: tuple[Experiment, ...] = ("accuracy_on_samples", "best_of_n")
VERDICTS = {"go": "go", "doubtful": "doubtful", "no_go": "no-go"}


class DiagnosisOptions(Options):
    """The thresholds."""

    even: float = Field(0.5, gt=0, lt=1, description="the win rate of two models that are equal")
    min_gain: float = Field(0.0, ge=0, description="of quality by best-of-n, where there is no win rate")
    chance: float = Field(0.5, ge=0, le=1, description="accuracy of a coin, where no majority_baseline stands")
    max_length_growth: float = Field(1.25, gt=0, description="times the length of one sample")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one experiment says in one language: a figure with its 95% interval, and n prompts."""

    experiment: Experiment
    metric: str
    value: float
    low: float
    high: float
    n: int
    threshold: float
    outcome: Literal["for", "against", "unclear"]
    said: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """One reward in one language."""

    reward: str
    model: str
    lang: str
    figures: Figures
    rows: Sequence[Figures]
    judge: str | None
    quality: str | None
    options: DiagnosisOptions


def diagnose(
    reward: str,
    figures: Mapping[str, Figures],
    curves: Mapping[str, Sequence[Figures]],
    options: DiagnosisOptions,
    *,
    model: str = "sft",
    judge: Judge = None,
    quality: str | None = None,
    languages: Sequence[str] | None = None,
) -> dict[str, Any]:
    """go, doubtful or no_go for one reward in each language, with the evidence: an entry of results.json's
    ``diagnosis``.

    Args:
        reward: its name.
        figures: language → the reward's figures, as ``judge_rewards.figures`` and ``accuracy_on_<model>`` give them.
        curves: language → rows of its best-of-n, as ``best_of_n.rows`` gives them, with ``win_rate`` where it was
            judged. The row of the greatest n counts.
        model: the policy that is to be aligned, whose samples best-of-n picks from.
        judge: who judged ``win_rate``; or language → who. A reward that judges itself is no evidence.
        quality: who gave ``quality``, and said which of the samples is better.
        languages: left out: all that there are figures of.
    """
    out: dict[str, Any] = {}
    for lang in dict.fromkeys([*figures, *curves] if languages is None else languages):
        by = judge if isinstance(judge, str | None) else judge.get(lang)
        rows = sorted(curves.get(lang, ()), key=lambda row: int(row["n"]))
        asked = _Asked(reward, model, lang, figures.get(lang, {}), rows, by, quality, options)
        found = [evidence for rule in (_accuracy, _on_samples, _best_of_n, _length) if (evidence := rule(asked))]
        verdict = _verdict(found, options)
        out[lang] = {
            "verdict": verdict,
            "said": f"{tables.language_name(lang)}: {VERDICTS[verdict]}. {_because(verdict, found, asked)}",
            "evidence": [asdict(evidence) for evidence in found],
        }
    return {"languages": out, "options": options.model_dump()}


def diagnose_results(found: Mapping[str, Any], options: DiagnosisOptions) -> dict[str, dict[str, Any]]:
    """Reward → its diagnosis, from the object of a results.json alone.

    Rewards are those of ``best_of_n``, and the steps that have an accuracy. The policy is the one that best-of-n picks
    from, else the one that the first round starts from. ``best_of_n.judge`` and ``best_of_n.metric_of_quality`` say who
    judged its ``win_rate`` and its ``quality``.

    Raises:
        InputError: the results hold no reward that could be diagnosed.
    """
    results, best = found["results"], found.get("best_of_n") or {}
    rounds = found.get("rounds") or []
    model = best.get("model") or (rounds[0].get("starts_from") if rounds else None) or "sft"
    asked = ("accuracy", f"{tables.ON_ANSWERS}{model}")
    judged = [step for step, by in results.items() if any(name in row for row in by.values() for name in asked)]
    curves = best.get("rewards") or {}
    names = list(dict.fromkeys([*curves, *judged]))
    if not names:
        raise InputError(
            "the results hold no reward: no best_of_n, and no step with an accuracy; judge a reward first, or draw "
            "best-of-n with it"
        )
    return {
        name: diagnose(
            name,
            results.get(name, {}),
            (curves.get(name) or {}).get("curves") or {},
            options,
            model=model,
            judge=best.get("judge"),
            quality=best.get("metric_of_quality"),
        )
        for name in names
    }


# --- experiments ---------------------------------------------------------------------------------------------------


def _accuracy(asked: _Asked) -> Evidence | None:
    """Against the better baseline; a coin, where no majority_baseline stands."""
    found = _share(asked.figures, "accuracy")
    if found is None:
        return None
    length, majority = (asked.figures.get(f"{name}_baseline") for name in ("length", "majority"))
    least = max(
        float(base) for base in (length, asked.options.chance if majority is None else majority) if base is not None
    )
    return _above("accuracy", "accuracy", *found, least, f"the accuracy of {asked.reward} on labelled answers")


def _on_samples(asked: _Asked) -> Evidence | None:
    if asked.quality == asked.reward:
        return None
    metric = f"{tables.ON_ANSWERS}{asked.model}"
    found = _share(asked.figures, metric)
    what = f"the accuracy of {asked.reward} on samples of {asked.model}"
    return _above("accuracy_on_samples", metric, *found, asked.options.chance, what) if found else None


def _best_of_n(asked: _Asked) -> Evidence | None:
    """By the win rate, else by the gain in quality over one sample. The two rows of the gain are taken as independent,
    which makes its interval too wide."""
    first, last = _ends(asked.rows)
    if asked.judge != asked.reward and last is not None and (found := _share(last, "win_rate")):
        by = f" by {asked.judge}" if asked.judge else ""
        what = f"the win rate of best of {last['n']} against {asked.model}{by}"
        return _above("best_of_n", "win_rate", *found, asked.options.even, what)
    if asked.quality == asked.reward or first is None or last is None:
        return None
    gain = minus(tables.estimate(last, "quality"), tables.estimate(first, "quality"))
    if gain is None or (within := measured(gain)) is None:
        return None
    what = f"the gain in quality of best of {last['n']} over one sample of {asked.model}"
    return _above("best_of_n", "quality", within, gain.n, asked.options.min_gain, what)


def _length(asked: _Asked) -> Evidence | None:
    first, last = _ends(asked.rows)
    if first is None or last is None:
        return None
    metric, limit = "length_characters", asked.options.max_length_growth
    one, best = (tables.estimate(row, metric) for row in (first, last))
    excess = measured(minus(best, one, limit))
    if excess is None or one is None or one.value <= 0:
        return None
    # The excess over limit times one sample's length, as a ratio to it.
    ends = (limit + end / one.value for end in (excess.value, excess.low, excess.high))
    found = Measured(*ends)
    outcome: Literal["for", "against", "unclear"] = "unclear"
    told = f"not shown to be on either side of {limit:.3g}"
    if found.high <= limit:
        outcome, told = "for", f"not more than {limit:.3g}"
    elif found.low > limit:
        outcome, told = "against", f"more than {limit:.3g}"
    said = f"best of {last['n']} makes answers {found} times as long as one sample, {told}"
    return _evidence("length", metric, found, one.n, limit, outcome, said)


def _ends(rows: Sequence[Figures]) -> tuple[Figures | None, Figures | None]:
    """The row of one sample and that of the greatest n above it."""
    first = next((row for row in rows if row["n"] == 1), None)
    return first, rows[-1] if rows and rows[-1]["n"] > 1 else None


def _share(figures: Figures, metric: str) -> tuple[Measured, int] | None:
    """A share with the interval that stands beside it, else Wilson's, which one prompt has too."""
    found = tables.estimate(figures, metric)
    if found is None or found.n < 1:
        return None
    low, high = (figures.get(f"{metric}{end}") for end in ("_low", "_high"))
    ends = share_interval(found) if low is None or high is None else (float(low), float(high))
    return Measured(found.value, *ends), found.n


def _above(experiment: Experiment, metric: str, found: Measured, n: int, least: float, what: str) -> Evidence:
    if found.low > least:
        return _evidence(experiment, metric, found, n, least, "for", f"{what}, {found}, is above {least:.3g}")
    if found.high < least:
        return _evidence(experiment, metric, found, n, least, "against", f"{what}, {found}, is below {least:.3g}")
    said = f"{what}, {found}, is not shown to be on either side of {least:.3g}"
    return _evidence(experiment, metric, found, n, least, "unclear", said)


def _evidence(
    experiment: Experiment,
    metric: str,
    found: Measured,
    n: int,
    threshold: float,
    outcome: Literal["for", "against", "unclear"],
    said: str,
) -> Evidence:
    return Evidence(experiment, metric, found.value, found.low, found.high, n, threshold, outcome, said)


# --- the verdict ---------------------------------------------------------------------------------------------------


def _verdict(found: Sequence[Evidence], options: DiagnosisOptions) -> Literal["go", "doubtful", "no_go"]:
    outcomes = {evidence.outcome for evidence in found if evidence.experiment in OF_OUTCOME}
    if "against" in outcomes:
        return "no_go"
    if not outcomes and any(e.experiment == "accuracy" and e.high < options.chance for e in found):
        return "no_go"
    against = any(evidence.outcome == "against" for evidence in found)
    # What the reward picks says more than how often it is right: the answers that it likes best may be its mistakes.
    by = {evidence.experiment: evidence.outcome for evidence in found}
    decides = by.get("best_of_n", by.get("accuracy_on_samples"))
    return "go" if decides == "for" and not against else "doubtful"


def _because(verdict: str, found: Sequence[Evidence], asked: _Asked) -> str:
    """The evidence that decided; of a doubtful one all that kept it from being more, and what was not looked at."""
    by = {
        outcome: [evidence.said for evidence in found if evidence.outcome == outcome]
        for outcome in ("for", "against", "unclear")
    }
    if verdict == "go":
        parts = [evidence.said for evidence in found if evidence.outcome == "for" and evidence.experiment in OF_OUTCOME]
    elif verdict == "no_go":
        parts = by["against"]
    else:
        parts = [*by["against"], *by["unclear"]]
    missing = [words for name, words in EXPERIMENTS.items() if name not in {evidence.experiment for evidence in found}]
    sentences = [f"{part[0].upper()}{part[1:]}." for part in parts]
    if missing:
        sentences.append(f"Not looked at: {', '.join(missing)}.")
    if asked.reward in (asked.judge, asked.quality):
        sentences.append(f"{asked.reward} judging itself is no evidence.")
    return " ".join(sentences)
