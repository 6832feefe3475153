"""Alignment across languages: win rates by source and target, and what a language's own reward is worth there.

A source is a step: a policy that was aligned by a reward of some languages (Wu et al. 2024, arXiv 2404.12318, figures
2 and 3). Prompts are the units throughout: a prompt's languages, and the sources' answers to it, stay together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polypref.errors import InputError, did_you_mean
from polypref.maths import metrics, stats
from polypref.maths.comparisons import t_test
from polypref.stages.evaluate import Evaluation, Gain, figure

Cells = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Step → language → prompt → value."""


def alignment(
    method: str,
    label: str,
    steps: Mapping[str, Evaluation],
    sources: Mapping[str, Sequence[str]],
    *,
    judge: str,
    against: str,
    metric: str = "win_rate",
    accuracies: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """One entry of results.json's ``alignments``.

    ``matrix``: step → language → the metric's figures. ``mean``: step → the unweighted mean over the languages that
    all steps have. ``diagonal`` is the mean over the cells whose language the step's reward was trained on,
    ``off_diagonal`` over the others, both of the steps that have cells of either kind, so that the same rewards are
    compared. ``monolingual_against_cross_lingual``: see ``own_against_others``. ``tau``: Kendall's τ-b of the reward's
    accuracy with the metric over the steps, averaged over the languages that have one; None where none has.

    Args:
        method: best_of_n, rloo, grpo, dpo, sft or kto.
        label: the method as a reader is told it.
        steps: step → its evaluation, which holds ``metric``.
        sources: step → the languages that its reward's preferences are in. A step that is not named, as with a
            reward off the shelf, is neither on the diagonal nor off it.
        judge: who judged.
        against: the step that the win rates are against.
        accuracies: step → language → the accuracy of its reward there, in shares.

    Raises:
        InputError: there is no step, or one lacks the metric.
    """
    cells = _cells(steps, metric)
    shared = [lang for lang in next(iter(cells.values())) if all(lang in row for row in cells.values())]
    own = {step: list(sources.get(step, ())) for step in cells}
    trained = {(step, lang) for step, row in cells.items() for lang in row if lang in own[step]}
    foreign = {(step, lang) for step, row in cells.items() for lang in row if own[step]} - trained
    both = {step for step, _ in trained} & {step for step, _ in foreign}
    return {
        "method": method,
        "label": label,
        "metric": metric,
        "judge": judge,
        "against": against,
        "sources": {step: languages for step, languages in own.items() if languages},
        "matrix": {
            step: {lang: figure(metric, stats.mean_stderr(list(values.values()))) for lang, values in row.items()}
            for step, row in cells.items()
        },
        "mean": {step: _mean(cells, [(step, lang) for lang in shared]) for step in cells} if shared else {},
        "mean_over": shared,
        "monolingual_against_cross_lingual": own_against_others(steps, sources, metric),
        "tau": _tau(cells, accuracies or {}),
        "diagonal": _mean(cells, [cell for cell in sorted(trained) if cell[0] in both]),
        "off_diagonal": _mean(cells, [cell for cell in sorted(foreign) if cell[0] in both]),
    }


def own_against_others(
    steps: Mapping[str, Evaluation], sources: Mapping[str, Sequence[str]], metric: str = "win_rate"
) -> dict[str, Any] | None:
    """How far a language's own reward is ahead of the other languages', prompt by prompt.

    For each language and prompt, the mean of the steps whose reward was trained on that language alone, less the mean
    of those whose reward has not seen it; prompts that one of them lacks are left out. ``languages`` holds each
    language's gain with its interval and the ``p`` of the two-sided paired t-test, which knows of no other test; the
    entry itself the mean over languages, clustered by prompt. None where no language has both.

    Raises:
        InputError: there is no step, or one lacks the metric.
    """
    cells = _cells(steps, metric)
    differences: dict[str, dict[Any, float]] = {}
    for lang in dict.fromkeys(lang for row in cells.values() for lang in row):
        there = [step for step in cells if lang in cells[step] and sources.get(step)]
        own = [cells[step][lang] for step in there if list(sources[step]) == [lang]]
        others = [cells[step][lang] for step in there if lang not in sources[step]]
        if not own or not others:
            continue
        prompts = [prompt for prompt in own[0] if all(prompt in values for values in (*own, *others))]
        if prompts:
            differences[lang] = {p: _average(v[p] for v in own) - _average(v[p] for v in others) for p in prompts}
    if not differences:
        return None
    languages = {lang: _gain(stats.mean_stderr(list(found.values()))) for lang, found in differences.items()}
    return {"languages": languages, **_gain(stats.mean_of_means(differences))}


def _cells(steps: Mapping[str, Evaluation], metric: str) -> Cells:
    if not steps:
        raise InputError("there is no step to compare; name at least one")
    for step, evaluation in steps.items():
        if not evaluation.values.get(metric):
            known = did_you_mean(metric, evaluation.values) if evaluation.values else "it has no figure at all"
            raise InputError(f"the step {step!r} has no {metric}; {known}")
    return {step: evaluation.values[metric] for step, evaluation in steps.items()}


def _mean(cells: Cells, places: Sequence[tuple[str, str]]) -> dict[str, float | int | None] | None:
    """The unweighted mean over cells, clustered by prompt; None over none."""
    if not places:
        return None
    strata: dict[str, dict[Any, float]] = {f"{step}/{lang}": dict(cells[step][lang]) for step, lang in places}
    found = stats.mean_of_means(strata)
    return {"value": found.value, "stderr": found.stderr, "n": found.n}


FEWEST = 3
"""Rewards that a rank correlation needs to say anything: of two it is 1 or −1."""


def _tau(cells: Cells, accuracies: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    if len(accuracies) < FEWEST:
        return None
    accuracy = {
        (step, lang): value
        for step, row in accuracies.items()
        for lang, value in row.items()
        if lang in cells.get(step, {})
    }
    rates = {(step, lang): _average(cells[step][lang].values()) for step, lang in accuracy}
    found = metrics.transfer(accuracy, rates)
    taus = found.kendall_tau_by_target
    return {"value": found.kendall_tau, "n": len(taus), "by_target": taus} if taus else None


def _gain(estimate: stats.Estimate) -> dict[str, float | int | None]:
    return {**Gain.of(estimate).to_json(), "p": t_test(estimate)}


def _average(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)
