"""How a translation compares with the text that it is of, and which are refused for it.

Noted on the answer, or in what the example notes of a prompt: ``round_trip_chrf`` (0 to 100; ``round_trip_failed``
where the way back failed) beside ``numbers_lost``. The length ratio is read off the texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from polypref import languages
from polypref.stages.passages import lost_numbers
from polypref.stages.translating import NUMBERS_LOST, TranslatingOptions
from polypref.stages.translation_quality import METRIC as CHRF
from polypref.stages.translation_quality import chrf

ROUND_TRIP_FAILED = "round_trip_failed"
"""The note, and the reason, of a text whose way back failed."""


class TranslationFilterOptions(TranslatingOptions):
    """Who translates, and what is good enough. Nothing is refused unless it is asked for."""

    round_trip: bool = Field(False, description="translate each translation back, for its chrF; twice the work")
    min_chrf: float | None = Field(
        None, ge=0, le=100, description="refuse what comes back with less; it is translated back for it"
    )
    max_length_ratio: float | None = Field(
        None,
        ge=1,
        description="refuse what is more than so many times longer than usual between the two scripts, or shorter",
    )
    max_numbers_lost: int | None = Field(None, ge=0, description="refuse what lacks more numbers than that")


def round_trip_notes(original: str, back: str | None, failed: str | None = None) -> dict[str, Any]:
    """What is noted of a round trip: the chrF of what came back against the original, or why nothing did."""
    return {ROUND_TRIP_FAILED: failed} if back is None else {CHRF: chrf(back, original)}


def lost_notes(original: str, translation: str) -> dict[str, Any]:
    """The numbers that a translation lacks, where it lacks any."""
    lost = lost_numbers(original, translation)
    return {NUMBERS_LOST: lost} if lost else {}


DENSE: Final[Mapping[str, float]] = {"Hans": 1 / 3, "Hant": 1 / 3, "Jpan": 1 / 2, "Kore": 1 / 2}
"""Characters that a script needs for each one of the English text. Medians over the parallel prompts of X-AlpacaEval:
zh 0.33, ja 0.50, ko 0.53; all other languages there, in five scripts, lie between 0.85 and 1.18, and count as 1."""


def length_ratio(original: str, translation: str) -> float:
    """Characters (Unicode code points) of the translation for each one of the original."""
    return len(translation) / len(original)


def refused(
    original: str, translation: str, way: tuple[str, str], noted: Mapping[str, Any], options: TranslationFilterOptions
) -> str | None:
    """Why a translation is not good enough, the reason first and after a colon what was found; None where it is.

    Args:
        way: the languages of the original and of the translation.
    """
    if options.min_chrf is not None:
        if CHRF not in noted:
            return f"{ROUND_TRIP_FAILED}: {noted.get(ROUND_TRIP_FAILED)}"
        if noted[CHRF] < options.min_chrf:
            return f"low_chrf: {noted[CHRF]:.1f}"
    source, target = (DENSE.get(languages.script(lang), 1.0) for lang in way)
    ratio = length_ratio(original, translation) * source / target
    if options.max_length_ratio is not None and not 1 / options.max_length_ratio <= ratio <= options.max_length_ratio:
        return f"length_ratio: {ratio:.2f}"
    lost = lost_numbers(original, translation)
    if options.max_numbers_lost is not None and len(lost) > options.max_numbers_lost:
        return f"{NUMBERS_LOST}: {', '.join(lost)}"
    return None
