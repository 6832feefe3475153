"""Win rates of one model's answers against another's to the same prompts, by scores.

The value of a prompt and language is the share of comparisons that the answers of after win, a tie counting half; a
figure is the mean over prompts (Wu et al. 2024, arXiv 2404.12318, §4, hold the aligned model against the SFT model).

What counts as an answer: a candidate that was sampled, or has no origin. One that failed loses to every answer and
ties with another that failed. That a scorer said nothing of one (dropped by ``score``) is no failure of the model: the
answer is left out, and ``no_verdict`` tells the share. Where one side has no answer to a prompt, nothing is compared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from polypref.backends.base import Context
from polypref.errors import InputError, did_you_mean
from polypref.maths import comparisons
from polypref.records import Candidate, Example, live
from polypref.stages import best_of_n
from polypref.stages.best_of_n import BestOfNOptions
from polypref.stages.evaluate import Evaluation
from polypref.stages.score import STAGE as SCORE

VERSION = 1

_SHARE = "share_beaten"
"""The score by which a sample's win rate goes through best-of-n."""


def win_rates(
    before: Iterable[Example],
    after: Iterable[Example],
    score: str | Mapping[str, str],
    *,
    metric: str = "win_rate",
) -> Evaluation:
    """The win rates of after's answers against before's, by a score that both have: every answer against every one.

    Metrics: ``metric``; in a language where the scorer said nothing of some answers, ``no_verdict_<metric>``, their
    share of both sides' answers. Where nothing is compared, the evaluation is empty.

    Args:
        score: the name of the score; or language → name, so that each language is judged by a reward model of its
            own. A language that is not named is then not judged.

    Raises:
        InputError: an answer lacks the score, or an id comes twice.
    """
    old = {place: _told(example, answers, score) for example, place, answers in places(before, "before")}
    out, silent_in = Evaluation(), Evaluation()
    for example, place, answers in places(after, "after"):
        if place not in old:
            continue
        lang, theirs, mine = place[1], old[place], _told(example, answers, score)
        if theirs is None or mine is None:
            continue
        heard = len(mine.scores) + len(theirs.scores)
        silences = mine.silent + theirs.silent
        silent_in.add(f"no_verdict_{metric}", lang, example.id, silences / (heard + silences))
        if mine.scores and theirs.scores:
            out.add(metric, lang, example.id, comparisons.win_rate(mine.scores, theirs.scores))
    for name, by_language in silent_in.values.items():
        if some := {lang: values for lang, values in by_language.items() if any(values.values())}:
            out.values[name] = some
    return out


def best_of_n_win_rates(
    before: Iterable[Example],
    samples: Iterable[Example],
    options: BestOfNOptions,
    score: str | Mapping[str, str],
    context: Context,
    *,
    metric: str = "win_rate",
) -> dict[int, Evaluation]:
    """n → the win rates of best-of-n against before's answers, by a score that both have: the mean over all sets of n.

    ``options`` says what picks (``options.score``), of how many, and what may be picked, as in
    ``best_of_n.evaluations``; ``score`` judges, as in ``win_rates``. Sets in which nothing may be picked are left out.
    The evaluations merge with those of ``best_of_n.evaluations``. Before's answers should not be among the samples:
    a sample would now and then be held against itself. The evaluations are empty where before has nothing judged.

    Raises:
        InputError: as ``best_of_n.evaluations`` and ``win_rates``.
    """
    old = {place: _told(example, answers, score) for example, place, answers in places(before, "before")}
    if not any(opponents and opponents.scores for opponents in old.values()):
        return {n: Evaluation() for n in options.n}

    def held(example: Example) -> Example:
        candidates = []
        for candidate in example.candidates:
            opponents = old.get((example.id, candidate.lang))
            if opponents is None or not opponents.scores or not _is_answer(candidate):
                continue
            if options.model is not None and candidate.model != options.model:
                continue
            if live(candidate):
                mine = _score(example, candidate, _name(score, candidate.lang) or "")
                [share] = comparisons.share_beaten([mine], opponents.scores).tolist()
                candidate = dataclasses.replace(candidate, scores=candidate.scores | {_SHARE: share})
            candidates.append(candidate)
        return dataclasses.replace(example, candidates=candidates, pairs=[])

    bare = options.model_copy(update={"quality": _SHARE, "policy_logprob": None, "reference_logprob": None})
    found = best_of_n.evaluations((held(example) for example in samples), bare, context)
    return {n: Evaluation({metric: evaluation.values["quality"]}) for n, evaluation in found.items()}


@dataclass(frozen=True, slots=True)
class _Told:
    """The scores of one side's answers to a prompt, −∞ for one that failed, and how many the scorer did not judge."""

    scores: list[float] = field(default_factory=list)
    silent: int = 0


def places(examples: Iterable[Example], side: str) -> Iterator[tuple[Example, tuple[str, str], list[Candidate]]]:
    """(example, (its id, a language), its answers there) for every language that has any. An answer that a scorer
    said nothing of has no error any more."""
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise InputError(f"the example {example.id!r} comes a second time in {side}; ids are unique there")
        seen.add(example.id)
        unjudged = _unjudged(example)
        by_language: dict[str, list[Candidate]] = {}
        for candidate in example.candidates:
            if _is_answer(candidate):
                if candidate.id in unjudged:
                    candidate = dataclasses.replace(candidate, error=None)
                by_language.setdefault(candidate.lang, []).append(candidate)
        for lang, answers in by_language.items():
            yield example, (example.id, lang), answers


def _is_answer(candidate: Candidate) -> bool:
    return candidate.origin in (None, "sampled")


def _unjudged(example: Example) -> set[str | None]:
    """The answers that a scorer said nothing of; it may have been another scorer than the one that is asked for."""
    return {drop.candidate for drop in example.dropped if drop.stage == SCORE}


def _told(example: Example, answers: list[Candidate], score: str | Mapping[str, str]) -> _Told | None:
    """None in a language that is not judged."""
    name = _name(score, answers[0].lang)
    if name is None:
        return None
    unjudged = _unjudged(example)
    found: list[float] = []
    silences = 0
    for candidate in answers:
        if candidate.id in unjudged and name not in candidate.scores:
            silences += 1
        else:
            found.append(_score(example, candidate, name) if live(candidate) else -math.inf)
    return _Told(found, silences)


def _name(score: str | Mapping[str, str], lang: str) -> str | None:
    return score if isinstance(score, str) else score.get(lang)


def _score(example: Example, candidate: Candidate, name: str) -> float:
    if name not in candidate.scores:
        raise InputError(
            f"the answer {candidate.id!r} of example {example.id!r} has no score {name!r}; score it first "
            f"({did_you_mean(name, candidate.scores) if candidate.scores else 'it has no score at all'})"
        )
    return candidate.scores[name]
