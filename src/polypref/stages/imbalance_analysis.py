"""What a round's language imbalance was worth: the pairs of LIDR (Yang et al. 2024, arXiv 2410.08964) under a judge.

The rule prefers y^{en→ℓ} to y^ℓ and y^en to y^{ℓ→en} without looking at them. A score that did look (an oracle, a gold
answer, a reward model) tells how often that is right. The judge trains nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from polypref.errors import InputError, did_you_mean
from polypref.records import Candidate, Example, live
from polypref.stages.evaluate import Evaluation
from polypref.stages.imbalance import Quartet, quartet
from polypref.stages.pair_filters import Reasons, candidate_languages

VERSION: int = 2

ACCURACY, BETTER, WORSE = "imbalance_accuracy", "imbalance_better", "imbalance_worse"
OWN, TRANSLATED = "own_quality", "translated_quality"


def analyse(examples: Iterable[Example], score: str, pivot: str) -> Evaluation:
    """The judge's verdict on every prompt of which all four answers stand, by language.

    For a language ℓ ``own_quality`` is the score of y^ℓ, ``translated_quality`` that of y^{en→ℓ}; ``imbalance_better``
    and ``imbalance_worse`` say whether the chosen y^{en→ℓ} scores above or below the rejected y^ℓ, and
    ``imbalance_accuracy`` is 1, ½ or 0: better, as good, worse. For the pivot y^en is chosen and y^{ℓ→en} rejected: a
    prompt's value is the mean over ℓ, ``translated_quality`` that of the rejected y^{ℓ→en}.

    The mean of ``imbalance_accuracy`` over prompts is comparable with the paper's reward accuracy (.57 to .79 by
    language): the share of a language's pairs whose chosen answer a judge prefers. Ties count half, as in
    ``reward_accuracy``; a judge that ties much, as one of 0 and 1 does, is better read as better / (better + worse).

    What an earlier stage dropped, pairing included, does not stand. Pairing's own filters are not asked again.

    Raises:
        InputError: an answer or translation lacks the score.
    """
    out = Evaluation()
    for example in examples:
        reasons = _reasons(example)
        of_pivot: dict[str, list[float]] = {}
        for lang in candidate_languages(example):
            found = None if lang == pivot else quartet(example, lang, pivot, reasons)
            if not isinstance(found, Quartet):
                continue
            answer, into_target, pivot_answer, into_pivot = (
                _score(example, candidate, score)
                for candidate in (found.answer, found.into_target, found.pivot_answer, found.into_pivot)
            )
            # Of a prompt about translation the untranslated answer is chosen, as its pair says.
            pair = next((p for p in example.pairs if p.lang == lang), None)
            chosen = into_target if pair is None else _score(example, example.candidate(pair.chosen), score)
            for metric, value in _verdict(chosen, answer).items():
                out.add(metric, lang, example.id, value)
            out.add(OWN, lang, example.id, answer)
            out.add(TRANSLATED, lang, example.id, into_target)
            for metric, value in {
                **_verdict(pivot_answer, into_pivot),
                OWN: pivot_answer,
                TRANSLATED: into_pivot,
            }.items():
                of_pivot.setdefault(metric, []).append(value)
        for metric, values in of_pivot.items():
            out.add(metric, pivot, example.id, math.fsum(values) / len(values))
    return out


def _verdict(chosen: float, rejected: float) -> dict[str, float]:
    better, worse = float(chosen > rejected), float(chosen < rejected)
    return {ACCURACY: (1 + better - worse) / 2, BETTER: better, WORSE: worse}


def _reasons(example: Example) -> Reasons:
    dropped = {(example.id, drop.candidate): drop.reason for drop in example.dropped if drop.candidate is not None}
    return dropped | {(example.id, c.id): "failed" for c in example.candidates if not live(c)}


def _score(example: Example, candidate: Candidate, name: str) -> float:
    if name not in candidate.scores:
        hint = did_you_mean(name, candidate.scores) if candidate.scores else "it has no score at all"
        raise InputError(
            f"the answer {candidate.id!r} of example {example.id!r} has no score {name!r}; score answers and "
            f"translations first ({hint})"
        )
    return candidate.scores[name]
