"""How good a translator is, without references: there and back again, against where it started.

Round-trip chrF (Popović 2015; sacrebleu) of pivot → ℓ → pivot. All round trips end in the pivot, so that the figures of
several languages compare texts of the same language. It cannot tell which way lost what, and a translator that copies
scores best of all: read it beside the share of translations in the wrong language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field

from polypref.backends.base import Context, batches
from polypref.records import Candidate, Example, live
from polypref.stages.evaluate import Evaluation
from polypref.stages.translating import Text, Translating, TranslatingOptions

VERSION: int = 1

METRIC = "round_trip_chrf"
FAILED = "translation_failed"


class RoundTripOptions(TranslatingOptions):
    """Who translates back, and how many texts."""

    limit: int = Field(100, gt=0, description="translations a language, the first of each example")


def round_trip_evaluation(
    examples: Iterable[Example], options: RoundTripOptions, context: Context, gave_up: list[str] | None = None
) -> Evaluation:
    """How the pivot's answers that were translated come back, under the language that they were translated into.

    ``round_trip_chrf`` is 0 to 100, ``translation_failed`` 1 where either way failed, else 0; one value an example.
    The translations are those that the examples have; only the way back is made here. A round trip that failed has no
    chrF.

    Args:
        gave_up: is told the translations that a server gave up, which another call may well get.
    """
    translating = Translating(options, context)
    out = Evaluation()
    done = 0
    for chunk in batches(_trips(examples, options.limit, context.pivot), options.chunk):
        there = [(e, child) for e, _, child in chunk if live(child) and child.text.strip()]
        back = iter(translating.translate([Text(c.id, c.text, c.lang, context.pivot, e) for e, c in there]))
        for example, parent, child in chunk:
            returned = next(back) if live(child) and child.text.strip() else None
            again = None if returned is None else returned.text
            if gave_up is not None and returned is not None and returned.reason == "failed":
                gave_up.append(child.id)
            out.add(FAILED, child.lang, example.id, float(again is None))
            out.add(METRIC, child.lang, example.id, None if again is None else chrf(again, parent.text))
        done += len(chunk)
        context.progress("round trip", done, None)
    return out


def _trips(examples: Iterable[Example], limit: int, pivot: str) -> Iterator[tuple[Example, Candidate, Candidate]]:
    """(example, an answer in the pivot, its translation), one an example and language, the first ``limit``."""
    counts: dict[str, int] = {}
    for example in examples:
        parents = {c.id: c for c in example.candidates if c.lang == pivot and c.parent is None}
        seen = {pivot}
        for child in example.candidates:
            parent = parents.get(child.parent or "")
            if parent is None or child.lang in seen or counts.get(child.lang, 0) == limit:
                continue
            seen.add(child.lang)
            counts[child.lang] = counts.get(child.lang, 0) + 1
            yield example, parent, child


def chrf(hypothesis: str, reference: str) -> float:
    """chrF2 of one text against another, 0 to 100, with sacrebleu's defaults (β = 2, characters up to 6-grams)."""
    return float(_metric().sentence_score(hypothesis, [reference]).score)


def signature() -> str:
    """sacrebleu's signature of the figure, with the metric's name: ``chrF2|nrefs:1|…``."""
    metric = _metric()
    found = metric.sentence_score("a", ["a"])
    return f"{found.name}|{metric.get_signature()}"


def _metric() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
