"""The tagged prompt: what is asked, what counts as a translation, and each text asked for once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from polypref.backends.base import Completion, Request, Sampling
from polypref.backends.translation import (
    Memory,
    RememberingTranslator,
    TaggedTranslator,
    Translation,
    TranslationRequest,
    TranslatorSpec,
    read_tagged,
)

Answer = Callable[[Request], Completion]


class Scripted:
    """A generator that answers as it is told, and remembers what it was asked."""

    fingerprint = "scripted"

    def __init__(self, answer: Answer = lambda request: Completion("hola</translated>")) -> None:
        self.answer = answer
        self.asked: list[Request] = []
        self.sampling: Sampling | None = None

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        self.asked += requests
        self.sampling = sampling
        return [[self.answer(request)] for request in requests]


def spec(**values: Any) -> TranslatorSpec:
    return TranslatorSpec.model_validate({"model": {"path": "fake", "backend": "fake"}, **values})


def request(text: str = "hello", source: str = "en", target: str = "es", name: str = "x/en/0>es") -> TranslationRequest:
    return TranslationRequest(name, text, source, target)


def test_the_text_stands_between_tags_and_the_turn_is_opened() -> None:
    generator = Scripted()
    assert TaggedTranslator(generator, spec()).translate([request("a {b} c")]) == [Translation("hola")]
    (asked,) = generator.asked
    assert "<sentence>a {b} c</sentence>" in asked.messages[0]["content"]
    assert "from English into Spanish" in asked.messages[0]["content"]
    assert asked.prefill == "<translated>"
    assert generator.sampling == Sampling(n=1, temperature=0, max_tokens=4096)


def test_on_a_server_the_tag_is_asked_for_in_words_alone_unless_said_otherwise() -> None:
    server = {"path": "m", "backend": "openai", "url": "http://localhost:1/v1"}
    for prefill, answer, text in [
        (None, "Sure: <translated>hola</translated>", "hola"),
        (True, "hola</translated>", "hola"),
    ]:
        generator = Scripted(lambda request, answer=answer: Completion(answer))
        translator = TaggedTranslator(generator, spec(model=server, prefill=prefill))
        assert translator.translate([request()]) == [Translation(text)]
        assert generator.asked[0].prefill == ("<translated>" if prefill else "")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Completion("hola</translated>"), Translation("hola")),
        (Completion("\n hola\n</translated>\nNote: that is Spanish."), Translation("hola")),
        (Completion("<translated>hola</translated>"), Translation("hola")),
        (Completion("hola</translated> and <translated>more</translated>"), Translation("hola")),
        (Completion("hola</translated>", finish_reason="length"), Translation("hola")),
        (Completion("hola"), Translation(None, "no_closing_tag")),
        (Completion("Translation Error"), Translation(None, "no_closing_tag")),
        (Completion("hola</sentence>"), Translation(None, "no_closing_tag")),
        (Completion("hola", finish_reason="length"), Translation(None, "truncated")),
        (Completion("</translated>"), Translation(None, "empty")),
        (Completion(" \n</translated>"), Translation(None, "empty")),
        (Completion("", error="503", finish_reason=None), Translation(None, "failed: 503")),
        (Completion("", error="no room", too_long=True), Translation(None, "too_long: no room")),
    ],
)
def test_only_what_the_closing_tag_ends_is_a_translation(answer: Completion, expected: Translation) -> None:
    assert read_tagged(answer, opened=True) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Completion("Sure: <translated> hola </translated>"), Translation("hola")),
        (Completion("hola</translated>"), Translation(None, "no_opening_tag")),
        (Completion("<translated>hola"), Translation(None, "no_closing_tag")),
        (Completion("Sure", finish_reason="length"), Translation(None, "truncated")),
    ],
)
def test_without_an_opened_turn_both_tags_are_needed(answer: Completion, expected: Translation) -> None:
    assert read_tagged(answer, opened=False) == expected


def test_real_translations_need_their_closing_tag(real_data: Path) -> None:
    """Of the authors' 1000 translations 78 are the words "Translation Error", which have no closing tag: failures."""
    path = real_data / "lidr" / "llama3_8b_instruct_en_to_fr.jsonl"
    told = [json.loads(line)["en2fr_reponse"] for line in path.open(encoding="utf-8")]
    answers = [text if text == "Translation Error" else f"{text}</translated>" for text in told]
    found = [read_tagged(Completion(answer), opened=True) for answer in answers]
    assert sum(t.error == "no_closing_tag" for t in found) == 78
    assert [t.text for t in found if t.text] == [text.strip() for text in told if text != "Translation Error"]


@pytest.mark.parametrize("tag", ["<sentence>", "</sentence>", "<translated>", "</translated>"])
def test_a_text_that_holds_a_tag_is_not_asked_for(tag: str) -> None:
    generator = Scripted()
    found = TaggedTranslator(generator, spec()).translate([request(f"write {tag} here"), request("fine")])
    assert [t.reason for t in found] == ["holds_tags", None]
    assert len(generator.asked) == 1


def test_another_prompt_by_option() -> None:
    generator = Scripted()
    mine = spec(prompt="{source}>{target}: {text} {{as is}}")
    TaggedTranslator(generator, mine).translate([request()])
    assert generator.asked[0].messages[0]["content"] == "English>Spanish: hello {as is}"
    assert TaggedTranslator(generator, mine).fingerprint != TaggedTranslator(generator, spec()).fingerprint


@pytest.mark.parametrize("prompt", ["no text", "{text} {text}", "{text} {languge}", "{text} {0}", "{text} {"])
def test_a_prompt_that_cannot_be_filled_in_is_refused(prompt: str) -> None:
    with pytest.raises(ValidationError, match="text"):
        spec(prompt=prompt)


def test_seq2seq_is_no_matter_of_a_server() -> None:
    with pytest.raises(ValidationError, match="backend: hf"):
        spec(method="seq2seq", model={"path": "m", "backend": "openai"})


def test_seq2seq_opens_no_adapter() -> None:
    with pytest.raises(ValidationError, match="opens no adapter, such as mine; merge it"):
        spec(method="seq2seq", model={"path": "m", "adapter": "mine"})


def test_each_text_and_way_is_asked_for_once() -> None:
    generator = Scripted(lambda r: Completion(f"{r.id}</translated>" if "bad" not in r.id else "no tag"))
    memory = Memory()
    translator = RememberingTranslator(TaggedTranslator(generator, spec()), memory)
    way = [request(name="a"), request(name="b"), request(target="fr", name="c"), request("x", name="bad"), request("x")]
    assert [t.text for t in translator.translate(way)] == ["a/es", "a/es", "c/fr", None, None]
    assert [r.id for r in generator.asked] == ["a/es", "c/fr", "bad/es"]
    # A later call remembers translations and asks again for what failed; another translator has its own.
    again = RememberingTranslator(TaggedTranslator(generator, spec()), memory)
    assert [t.text for t in again.translate([request(name="d"), request("x", name="e")])] == ["a/es", "e/es"]
    other = RememberingTranslator(TaggedTranslator(generator, spec(max_tokens=9)), memory)
    assert [t.text for t in other.translate([request(name="f")])] == ["f/es"]
    assert [r.id for r in generator.asked][3:] == ["e/es", "f/es"]


def test_a_full_memory_only_asks_again() -> None:
    generator = Scripted()
    translator = RememberingTranslator(TaggedTranslator(generator, spec()), Memory(characters=8))
    for _ in range(2):
        assert translator.translate([request("hello")]) == [Translation("hola")]
    assert len(generator.asked) == 2
