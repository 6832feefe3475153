"""Win rates of one model's answers against another's by a judge of pairs: answers to matches, judgments to figures.

The k-th answer of after meets the k-th of before; where one side has fewer answers, they come again from the first.
What counts as an answer, and as a failed one, is as in ``win_rates``.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from polypref.errors import InputError
from polypref.records import Candidate, Example, live
from polypref.stages.evaluate import Evaluation
from polypref.stages.judgments import Judgment
from polypref.stages.matches import Match
from polypref.stages.win_rates import places

VERSION = 2


def matches(before: Iterable[Example], after: Iterable[Example], *, model: str, baseline: str) -> Iterator[Match]:
    """After's answers (``model``) against before's (``baseline``), in after's order; nothing where one side has none.

    Raises:
        InputError: an example has answers in a language but no prompt in it, or an id comes twice.
    """
    old = {place: answers for _, place, answers in places(before, "before")}
    for example, place, answers in places(after, "after"):
        if place not in old:
            continue
        lang = place[1]
        if lang not in example.prompts:
            raise InputError(
                f"example {example.id!r} has answers in {lang} but no prompt in it; give the prompt in that language"
            )
        for sample, (mine, its) in enumerate(_facing(answers, old[place])):
            yield Match(
                example.id,
                lang,
                example.prompts[lang],
                model,
                baseline,
                mine.text if live(mine) else None,
                its.text if live(its) else None,
                gold=example.gold,
                category=example.category,
                sample=sample,
            )


def win_rates(judgments: Iterable[Judgment], *, metric: str = "win_rate") -> Evaluation:
    """The figures of a model's judgments by one judge; a prompt's value is the mean over its comparisons.

    Metrics: ``metric``; ``no_verdict_<metric>``, the share of comparisons without a verdict, which the win rate leaves
    out; ``flip_rate_<metric>``, the share in which the two orders contradicted each other, of those in which both were
    read. Where nothing is compared, the evaluation is empty.
    """
    by_place: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        by_place[judgment.language, judgment.id].append(judgment)
    out = Evaluation()
    for where, found in by_place.items():
        told = [judgment.preference for judgment in found if judgment.preference is not None]
        out.add(metric, *where, _mean(told))
        out.add(f"no_verdict_{metric}", *where, 1 - len(told) / len(found))
        out.add(f"flip_rate_{metric}", *where, _mean([float(j.flipped) for j in found if j.flipped is not None]))
    return out


def _facing(mine: list[Candidate], its: list[Candidate]) -> Iterator[tuple[Candidate, Candidate]]:
    most = max(len(mine), len(its))
    return itertools.islice(zip(itertools.cycle(mine), itertools.cycle(its), strict=False), most)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
