"""A scorer for prompts whose right answer is a number: grade-school mathematics in any language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from polypref.backends.base import Judged, ModelSpec
from polypref.errors import InputError
from polypref.maths.numbers import extract_number, same_number


class NumberScorer:
    """1 for an answer whose final number (``maths.numbers``) is the gold one, 0 for another number or none.

    ``gold`` is a number, or a text with one: a whole solution (GSM8K's, ending with ``####``) will do. One gold serves
    all languages, so a text of gold is read as English writes numbers: 2,125 is 2125. Where languages write it each in
    their own way, gold is a mapping by language, and each text is read as its language writes: 2.125 in German.
    """

    fingerprint = "number:1"

    def __init__(self, model: ModelSpec | None = None) -> None:
        pass

    def score(self, answers: Sequence[Judged]) -> list[float]:
        """One of 0.0 and 1.0 per answer.

        Raises:
            InputError: an answer's example has no gold in its language, or one that is no number.
        """
        return [float(same_number(extract_number(a.text, a.lang), _right(a))) for a in answers]


def _right(answer: Judged) -> Fraction:
    gold, lang = answer.gold, "en"
    if isinstance(gold, Mapping):
        gold, lang = gold.get(answer.lang), answer.lang
    found = None
    if isinstance(gold, str):
        found = extract_number(gold, lang)
    elif isinstance(gold, int | Fraction) and not isinstance(gold, bool):
        found = Fraction(gold)
    elif isinstance(gold, float) and math.isfinite(gold):
        found = Fraction(repr(gold))  # the decimal that was written, not its binary neighbour
    if found is None:
        named = f" in {answer.lang}" if isinstance(answer.gold, Mapping) else ""
        said = f"no gold{named}" if gold is None else f"{gold!r} as gold{named}, which is no number"
        raise InputError(f"{answer.id} has {said}; give each example the right number as gold, or use another scorer")
    return found
