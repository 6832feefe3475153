"""Which language leads, by measurement: the one in which the model's answers score best, and how sure that is.

Rewarding by language imbalance (LIDR, Yang et al. 2024, arXiv 2410.08964) takes for granted that one language is better
than the others; here that is looked at before anything is trained on it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.errors import InputError, did_you_mean
from polypref.maths import stats
from polypref.records import Example, live
from polypref.stages import report_tables as tables
from polypref.stages.evaluate import figure
from polypref.stages.pair_filters import competes

METRIC = "quality"
FEWEST = 2
"""Prompts that a standard error needs."""


@dataclass(frozen=True, slots=True)
class Dominance:
    """The language that is taken as leading, and what it was chosen by.

    ``figures``: language → ``{quality, quality_stderr, quality_n}``. ``leader`` has the highest mean; ``against``:
    every other language → ``{difference, low, high, n}``, the leader's mean less the other's on the prompts that both
    have. ``tied``: those of them that the leader is not shown to beat, since its interval reaches down to 0.
    ``language`` is the pivot where the leader or one of its ties is the pivot, else the leader.
    """

    language: str
    leader: str
    pivot: str
    tied: tuple[str, ...]
    figures: dict[str, dict[str, float | int | None]]
    against: dict[str, dict[str, float | int]]
    confidence: float = 0.95

    def to_json(self) -> dict[str, Any]:
        """A plain object; ``from_json`` gives the same back."""
        return {**dataclasses.asdict(self), "tied": list(self.tied)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Dominance:
        return cls(**{**value, "tied": tuple(value["tied"])})


def dominance(
    examples: Iterable[Example], score: str, languages: Sequence[str], pivot: str, confidence: float = 0.95
) -> Dominance:
    """The leading language of one model's scored answers.

    A language's figure is the mean over its prompts of the mean score of the answers to each; the leader's difference
    is taken prompt by prompt, with Student's interval on n − 1 degrees of freedom. Translations and answers that
    failed do not count. Each interval stands alone: with many languages the best of equals is sometimes shown to beat
    one of them by chance.

    Raises:
        InputError: a language has answers to fewer than two prompts, or shares fewer than two with the leader; an
            answer lacks the score; the answers are of several models; the pivot is none of the languages.
    """
    if pivot not in languages:
        known = ", ".join(languages) or "none"
        raise InputError(f"the pivot {pivot} is none of the languages that have answers ({known}); name one of them")
    if len(languages) < 2:
        raise InputError(f"{pivot} is the only language, so none can lead; give answers in at least two")
    values = _values(examples, score, languages)
    for lang, by_prompt in values.items():
        _enough(len(by_prompt), f"{lang} has scored answers to")
    # In the prompts' order, so that the order of the examples changes no digit.
    means = {lang: stats.mean_stderr([by[p] for p in sorted(by)]) for lang, by in values.items()}
    leader = max(languages, key=lambda lang: means[lang].value)
    against = {
        lang: _difference(values[leader], values[lang], (leader, lang), confidence) for lang in values if lang != leader
    }
    tied = tuple(lang for lang, found in against.items() if found["low"] <= 0)
    return Dominance(
        language=pivot if pivot in tied else leader,
        leader=leader,
        pivot=pivot,
        tied=tied,
        figures={lang: figure(METRIC, found) for lang, found in means.items()},
        against=against,
        confidence=confidence,
    )


def _values(examples: Iterable[Example], score: str, languages: Sequence[str]) -> dict[str, dict[str, float]]:
    """Language → prompt id → the mean score of the model's own answers."""
    out: dict[str, dict[str, float]] = {lang: {} for lang in languages}
    seen: set[str] = set()
    models: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise InputError(f"the example {example.id!r} comes a second time; ids must be unique")
        seen.add(example.id)
        scores: dict[str, list[float]] = {}
        for candidate in example.candidates:
            if candidate.lang not in out or candidate.parent is not None or not competes(candidate):
                continue
            models |= {candidate.model} if candidate.model else set()
            if not live(candidate):
                continue
            if score not in candidate.scores:
                hint = did_you_mean(score, candidate.scores) if candidate.scores else "it has no score at all"
                raise InputError(
                    f"the answer {candidate.id!r} of example {example.id!r} has no score {score!r}; "
                    f"score it first ({hint})"
                )
            scores.setdefault(candidate.lang, []).append(candidate.scores[score])
        for lang, found in scores.items():
            out[lang][example.id] = math.fsum(found) / len(found)
    if len(models) > 1:
        told = ", ".join(sorted(models))
        raise InputError(f"the answers are of several models ({told}); which language leads is asked of one at a time")
    return out


def _difference(
    ahead: Mapping[str, float], behind: Mapping[str, float], names: tuple[str, str], confidence: float
) -> dict[str, float | int]:
    shared = sorted(ahead.keys() & behind.keys())
    _enough(len(shared), f"{names[0]} and {names[1]} share answers to")
    found = stats.paired_difference([behind[p] for p in shared], [ahead[p] for p in shared])
    low, high = found.interval(confidence) or (found.value, found.value)
    return {"difference": found.value, "low": low, "high": high, "n": found.n}


def _enough(prompts: int, what: str) -> None:
    if prompts < FEWEST:
        raise InputError(
            f"{what} {prompts} prompt{'s' * (prompts != 1)}; which language leads needs at least {FEWEST}, "
            "better a hundred: answer and score more"
        )


def sentence(found: Dominance) -> str:
    """Who leads and by how much, or that it cannot be told, and which language is then taken."""
    leader, pivot = tables.language_name(found.leader), tables.language_name(found.pivot)
    if not found.tied:
        mean = found.figures[found.leader]
        nearest = min(found.against, key=lambda lang: found.against[lang]["difference"])
        gaps = f"over {tables.language_name(nearest)}{', the nearest,' if len(found.against) > 1 else ''} "
        gaps += _gap(found, nearest)
        if found.pivot not in (found.leader, nearest):
            gaps += f"; over {pivot} {_gap(found, found.pivot)}"
        text = f"{leader} leads with {_number(found, mean[METRIC])} over {mean[f'{METRIC}_n']} prompts ({gaps})."
        return text + (f" The recipe's pivot is {pivot}." if found.pivot != found.leader else "")
    names = [leader, *(tables.language_name(lang) for lang in found.tied)]
    gaps = "; ".join(f"over {tables.language_name(lang)} {_gap(found, lang)}" for lang in found.tied)
    text = f"{', '.join(names[:-1])} and {names[-1]} cannot be told apart ({leader} {gaps}); "
    if found.language == found.pivot:
        return f"{text}{pivot} is taken, since the recipe names it as pivot."
    text += f"{leader} is taken, since its mean is the highest (over the pivot, {pivot}, "
    return f"{text}{_gap(found, found.pivot)})."


def _gap(found: Dominance, lang: str) -> str:
    gap = found.against[lang]
    difference, low, high = (_number(found, gap[end], signed=True) for end in ("difference", "low", "high"))
    points = " points" if _is_share(found) else ""
    return f"{difference} [{low}, {high}]{points}, n = {gap['n']}"


def _number(found: Dominance, value: float | int | None, signed: bool = False) -> str:
    """A figure as the report prints it: in percent where all figures are shares."""
    share = _is_share(found)
    places = tables.decimals([float(f[METRIC] or 0.0) for f in found.figures.values()], share)
    return tables.number(float(value or 0.0), share, signed, places) + ("%" if share and not signed else "")


def _is_share(found: Dominance) -> bool:
    return tables.is_share(METRIC, [float(f[METRIC] or 0.0) for f in found.figures.values()])
