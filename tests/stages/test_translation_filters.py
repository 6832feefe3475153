"""What is refused, at the borders of each filter; and on real translations, hardly anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polypref.stages.translation_filters import TranslationFilterOptions, refused


def options(**values: Any) -> TranslationFilterOptions:
    return TranslationFilterOptions.model_validate(
        {"translator": {"model": {"path": "fake", "backend": "fake"}}, **values}
    )


@pytest.mark.parametrize(
    ("lang", "characters", "refuses"),
    [
        ("es", 6, False),
        ("es", 5, True),
        ("es", 24, False),
        ("es", 25, True),
        ("ja", 3, False),
        ("ja", 2, True),
        ("ja", 12, False),
        ("ja", 13, True),
        ("zh-Hant", 2, False),
        ("zh-Hant", 9, True),
    ],
)
def test_a_length_is_measured_by_what_is_usual_between_two_scripts(lang: str, characters: int, refuses: bool) -> None:
    """For 12 characters of English, 12 are usual in Spanish, 6 in Japanese, 4 in Chinese; half and twice those pass."""
    found = refused("a river runs", "x" * characters, ("en", lang), {}, options(max_length_ratio=2))
    assert (found is not None) == refuses
    # The same the other way round.
    found = refused("x" * characters, "a river runs", (lang, "en"), {}, options(max_length_ratio=2))
    assert (found is not None) == refuses


def test_the_borders_of_the_other_filters() -> None:
    way = ("en", "es")
    assert refused("a", "b", way, {"round_trip_chrf": 40.0}, options(min_chrf=40)) is None
    assert refused("a", "b", way, {"round_trip_chrf": 39.9}, options(min_chrf=40)) == "low_chrf: 39.9"
    assert refused("a", "b", way, {"round_trip_failed": "empty"}, options(min_chrf=0)) == "round_trip_failed: empty"
    assert refused("1, 2", "1", way, {}, options(max_numbers_lost=1)) is None
    assert refused("1, 2", "1", way, {}, options(max_numbers_lost=0)) == "numbers_lost: 2"
    assert refused("1, 2", "", way, {}, options()) is None


def test_hardly_any_released_prompt_is_too_long_or_too_short(real_data: Path) -> None:
    """UltraFeedback's prompts in eight languages, as the ICR paper released them: one of 8000."""
    prompts = {}
    for path in (real_data / "prompts" / "ultrafeedback_1000").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        prompts[path.stem] = {row["instruction_id"]: row["instruction"] for row in rows}
    english = prompts.pop("en")
    asked = options(max_length_ratio=3)
    found = [
        (lang, name)
        for lang, texts in prompts.items()
        for name, text in texts.items()
        if refused(english[name], text, ("en", lang), {}, asked)
    ]
    assert (len(prompts), [lang for lang, _ in found]) == (8, ["zh"])
