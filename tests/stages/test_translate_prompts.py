"""Prompts by translation: what is lacking is made, what is there stays, and what fails is not made and says why."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted

from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.backends.language_id import LinguaIdentifier
from polypref.backends.translation import Translation
from polypref.errors import InputError
from polypref.records import Drop, Example
from polypref.stages.translate_prompts import MARK, TranslatePromptsOptions, translate_prompts
from polypref.store.jsonl import read_examples, write_examples

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Explain:\n\n```\nx = 1\n```\n", "name": "Ann"},
]


def turn(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def options(**values: Any) -> TranslatePromptsOptions:
    spec = {"model": {"path": "fake", "backend": "fake"}}
    return TranslatePromptsOptions.model_validate({"translator": spec, "languages": ["es"], **values})


def prompted(given: list[Example], translator: Scripted | None = None, **values: Any) -> list[Example]:
    opened = {"translator": translator or Scripted(), "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: opened[role], languages=("en", "es", "sw", "de"))
    before = copy.deepcopy(given)
    found = list(translate_prompts(given, options(**values), context))
    assert given == before
    assert [e.id for e in found] == [e.id for e in given]
    return found


def test_every_turn_is_translated_and_code_and_other_fields_stay() -> None:
    (found,) = prompted([Example("1", {"en": TURNS})], role="translator")
    assert found.prompts["en"] == TURNS
    assert found.prompts["es"] == [
        {"role": "system", "content": "[es] Be brief."},
        {"role": "user", "content": "[es] Hi"},
        {"role": "assistant", "content": "[es] Hello!"},
        {"role": "user", "content": "[es] Explain:\n\n```\nx = 1\n```\n", "name": "Ann"},
    ]
    assert found.extra == {MARK: {"es": {"source": "en", "model": "translator"}}}
    assert found.dropped == []


def test_empty_turns_and_what_a_tool_said_stay() -> None:
    kept = [{"role": "system", "content": " "}, {"role": "tool", "content": "Sunny"}]
    translator = Scripted()
    (found,) = prompted([Example("1", {"en": [*kept, *turn("And tomorrow?")]})], translator)
    assert found.prompts["es"] == [*kept, *turn("[es] And tomorrow?")]
    assert [r.text for r in translator.asked] == ["And tomorrow?"]


def test_only_what_is_lacking_is_made_in_the_order_that_is_asked_for() -> None:
    given = [
        Example("1", {"en": turn("one"), "es": turn("uno")}),
        Example("2", {"en": turn("two")}, extra={"note": 7, MARK: {"de": {"source": "en", "model": "m"}}}),
    ]
    translator = Scripted()
    found = prompted(given, translator, languages=["Swahili", "es", "sw"], chunk=1)
    assert [list(e.prompts) for e in found] == [["en", "es", "sw"], ["en", "sw", "es"]]
    assert found[0].prompts["es"] == turn("uno")
    assert list(found[0].extra[MARK]) == ["sw"]
    assert found[1].extra["note"] == 7
    assert list(found[1].extra[MARK]) == ["de", "sw", "es"]
    assert sorted((r.text, r.source, r.target) for r in translator.asked) == [
        ("one", "en", "sw"),
        ("two", "en", "es"),
        ("two", "en", "sw"),
    ]
    again = Scripted()
    assert prompted(found, again, languages=["sw", "es"]) == found
    assert again.asked == []


def test_another_language_changes_no_prompt_that_is_made_already() -> None:
    one, two = (options(languages=tags).identity(lambda spec: spec.path) for tags in (["es"], ["es", "sw"]))
    assert one == two != options(source="de").identity(lambda spec: spec.path)


def test_another_source_than_the_pivot() -> None:
    given = [Example("1", {"en": turn("one"), "de": turn("eins")}), Example("2", {"en": turn("two")})]
    found = prompted(given, source="German")
    assert found[0].prompts["es"] == turn("[es] eins")
    assert found[0].extra[MARK]["es"]["source"] == "de"
    assert found[1] == Example("2", {"en": turn("two")}, dropped=[Drop("translate", "no_prompt", "es")])


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Translation(None, "no_closing_tag"), "no_closing_tag"),
        (Translation(None, "failed: 503"), "failed"),
        (Translation("[de] hallo"), "wrong_language"),
    ],
)
def test_a_turn_that_fails_takes_its_prompt_with_it_and_no_other(failure: Translation, reason: str) -> None:
    rule = lambda r: failure if (r.text, r.target) == ("Hello!", "es") else Translation(f"[{r.target}] {r.text}")  # noqa: E731
    (found,) = prompted([Example("1", {"en": TURNS})], Scripted(rule), languages=["es", "sw"])
    assert list(found.prompts) == ["en", "sw"]
    assert found.dropped == [Drop("translate", reason, "es")]
    assert list(found.extra[MARK]) == ["sw"]
    # It is made by a pass that goes better; the same failure again is the same drop.
    (better,) = prompted([found], languages=["es", "sw"])
    assert list(better.prompts) == ["en", "sw", "es"]
    assert prompted([found], Scripted(rule), languages=["es", "sw"]) == [found]


def test_a_prompt_that_names_another_language_may_hold_it() -> None:
    (found,) = prompted(
        [Example("1", {"en": turn("Translate into German: good day")})],
        Scripted(lambda r: Translation("[de] guten Tag")),
    )
    assert found.prompts["es"] == turn("[de] guten Tag")


def test_a_long_turn_goes_in_pieces_and_lost_numbers_are_told() -> None:
    short = Scripted(
        lambda r: (
            Translation(None, "too_long: no room")
            if len(r.text) > 100
            else Translation(f"[{r.target}] {r.text.replace('24', 'two dozen').replace('7', 'seven')}")
        )
    )
    long = "Give me 24 rivers and 7 seas." + " Please do." * 8 + "\n\nAgain 24." + " Thank you." * 8
    (found,) = prompted([Example("1", {"en": turn(long)})], short, max_characters=100)
    text = found.prompts["es"][0]["content"]
    assert text.count("[es]") == 3
    assert text.count("\n\n") == 1
    assert found.extra[MARK]["es"]["numbers_lost"] == ["24", "7"]
    (found,) = prompted([Example("1", {"en": turn(long)})], short, by_paragraph="off")
    assert found.dropped == [Drop("translate", "too_long", "es")]


def test_released_prompts_pass_but_for_those_that_are_mostly_in_no_spanish(real_data: Path) -> None:
    """Of the 1000 Spanish prompts 4 are SQL, Chinese or Bengali with a few words of Spanish, as they are in English."""
    spoken = ("bn", "de", "en", "es", "fr", "ru", "sw", "th", "zh")
    rows = {}
    for lang in ("en", "es"):
        path = real_data / "prompts" / "ultrafeedback_1000" / f"{lang}.jsonl"
        read = [json.loads(line) for line in path.open(encoding="utf-8")]
        rows[lang] = {row["instruction_id"]: row["instruction"] for row in read}
    spanish = {text.strip(): rows["es"][name] for name, text in rows["en"].items()}
    translator = Scripted(lambda r: Translation(spanish.get(r.text, "hm")))
    opened = {"translator": translator, "language_identifier": LinguaIdentifier(spoken)}
    context = Context(open=lambda role, spec: opened[role], languages=spoken)
    examples = [Example(name, {"en": turn(text)}) for name, text in rows["en"].items()]
    dropped = [d for e in translate_prompts(examples, options(), context) for d in e.dropped]
    assert dropped == [Drop("translate", "wrong_language", "es")] * 4


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_was_made_is_read_back_from_a_file(tmp_path: Path, suffix: str) -> None:
    found = prompted([Example("1", {"en": TURNS}), Example("2", {"en": turn("7 times")})], role="m")
    write_examples(tmp_path / f"x{suffix}", found)
    assert list(read_examples(tmp_path / f"x{suffix}")) == found


def test_a_field_of_that_name_that_is_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="example '1' is no object"):
        prompted([Example("1", {"en": turn("one")}, extra={MARK: True})])
