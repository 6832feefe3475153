"""What is told of a translated set: counts, reasons and figures by language, against hand-made ones."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import Scripted

from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.backends.translation import Translation, TranslationRequest
from polypref.records import Candidate, Example, Pair
from polypref.stages.translate_preferences import TranslatePreferencesOptions, translate_preferences
from polypref.stages.translation_figures import translation_figures

TABLE = {
    ("ab 7", "es"): "[es]abcde",  # a number lost, 9 characters for 4
    ("cd", "es"): "[es]",  # 4 for 2
    ("[es]abcde", "en"): "ab 7",
    ("[es]", "en"): None,
    ("ef", "es"): "[fr]ef",
    ("gh", "es"): None,
    ("right", "es"): "buen",
    ("wrong", "es"): "mal",
}


def looked_up(request: TranslationRequest) -> Translation:
    text = TABLE.get((request.text, request.target), request.text)
    return Translation(text, None if text else "truncated")


def example(name: str, *texts: str, pairs: bool = True, labels: tuple[Any, ...] = (None, None)) -> Example:
    candidates = [
        Candidate(f"{name}/{i}", "en", text, "human", label=label)
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    prompt = [{"role": "user", "content": "Hi" if name != "lost" else "gh"}]
    found = [Pair("en", f"{name}/0", f"{name}/1")] if pairs else []
    return Example(name, {"en": prompt}, candidates, found)


def test_counts_reasons_and_figures() -> None:
    """Of the pairs, one is whole; one loses an answer to another language and one to its length; one has no prompt.

    length_ratio is the mean over examples of the mean over answers with a text: pair (9/4 + 4/2)/2 = 2.125, half
    ef's none and 2 (cd), labels (4/5 + 3/5)/2 = 0.7; so (2.125 + 2 + 0.7 + 2)/4 where the third pair has cd, too.
    """
    given = [
        example("whole", "ab 7", "cd"),
        example("strays", "ef", "cd"),
        example("cut", "cd", "gh"),
        example("lost", "ab 7", "cd"),
        example("labelled", "right", "wrong", pairs=False, labels=(1, 0)),
        Example("empty", {"en": [{"role": "user", "content": "Hi"}]}),
    ]
    opened = {"translator": Scripted(looked_up), "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: opened[role], languages=("en", "es"))
    spec = {"model": {"path": "fake", "backend": "fake"}}
    options = TranslatePreferencesOptions.model_validate({"translator": spec, "languages": ["es"], "round_trip": True})
    found = translation_figures(translate_preferences(given, options, context), options, "en")["es"]
    assert {name: found[name] for name in ("prompts", "translations", "pairs", "labels", "dropped")} == {
        "prompts": 4,
        "translations": 6,
        "pairs": 1,
        "labels": 2,
        "dropped": {
            "pairs": {"no_prompt": 1, "truncated": 1, "wrong_language": 1},
            "prompts": {"truncated": 1},
            "translations": {"truncated": 1, "wrong_language": 1},
        },
    }
    assert found["translation_failed"] == pytest.approx((0 + 0.5 + 0.5 + 0) / 4)
    assert found["length_ratio"] == pytest.approx((2.125 + 2 + 2 + 0.7) / 4)
    assert (found["length_ratio_n"], found["numbers_lost"]) == (4, pytest.approx(0.5 / 4))
    # Of the round trips only cd's fails: one of two, all of one, all of one, none of two. buen and mal come back as
    # they are, and share no character with right and wrong.
    assert found["round_trip_failed"] == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    assert (found["round_trip_chrf"], found["round_trip_chrf_n"]) == (
        pytest.approx((100 + 0) / 2),
        2,
    )
    assert found["prompt_round_trip_chrf"] == pytest.approx(100)
    assert found["prompt_numbers_lost"] == 0


def test_there_and_back_counts_from_the_originals() -> None:
    given = example("x", "ab 7", "cd", labels=(1, 0))
    opened = {"translator": Scripted(looked_up), "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: opened[role], languages=("en", "es"))
    spec = {"model": {"path": "fake", "backend": "fake"}}
    asked = {"translator": spec, "languages": ["en"], "source": "es", "back": True}
    options = TranslatePreferencesOptions.model_validate(asked)
    found = translation_figures(translate_preferences([given], options, context), options, "en")["en"]
    # cd went to es and did not come back; what arrived of ab 7 is the same, its number with it.
    assert found["dropped"] == {
        "answers": {"incomplete": 1, "truncated": 1},
        "pairs": {"truncated": 1},
        "translations": {"truncated": 1},
    }
    assert (found["prompts"], found["translations"], found["pairs"], found["labels"]) == (1, 1, 0, 0)
    assert (found["translation_failed"], found["length_ratio"], found["numbers_lost"]) == (0.5, 1.0, 0.0)
    assert found["round_trip_chrf"] == pytest.approx(100)


def test_what_came_from_elsewhere_or_stopped_on_the_way_is_not_measured() -> None:
    """The prompt is from French; the answer was refused in Spanish, where its text was kept."""
    given = example("x", "ab 7", "cd", pairs=False)
    given.prompts["es"] = given.prompts["en"]
    given.extra["translated_prompts"] = {"es": {"source": "fr", "model": None}}
    child = Candidate("x/0>es", "es", "[es]abcde", "translated", "x/0", error="low_chrf: 1.0")
    given.candidates.append(child)
    spec = {"model": {"path": "fake", "backend": "fake"}}
    there = TranslatePreferencesOptions.model_validate({"translator": spec, "languages": ["es"]})
    found = translation_figures([given], there, "en")["es"]
    assert (found["prompts"], found["length_ratio"], found["translation_failed"]) == (0, 9 / 4, 1)
    back = there.model_copy(update={"languages": ("en",), "source": "es", "back": True})
    found = translation_figures([given], back, "en")["en"]
    assert (found["translation_failed"], found.get("length_ratio")) == (1, None)


def test_a_language_that_got_nothing_says_so() -> None:
    spec = {"model": {"path": "fake", "backend": "fake"}}
    options = TranslatePreferencesOptions.model_validate({"translator": spec, "languages": ["es"]})
    assert translation_figures([], options, "en") == {
        "es": {"prompts": 0, "translations": 0, "pairs": 0, "labels": 0, "dropped": {}}
    }
