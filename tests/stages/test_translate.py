"""Translation as a stage: children with parents, failures with reasons, code and numbers kept, nothing made twice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from scripted import Scripted

from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.backends.translation import RememberingTranslator, Translation
from polypref.records import Candidate, Drop, Example
from polypref.stages.imbalance import ImbalanceOptions, imbalance
from polypref.stages.score import ImplicitOptions
from polypref.stages.translate import NUMBERS_LOST, TranslateOptions, translate
from polypref.stages.views import as_answer


def example(*candidates: Candidate, name: str = "x", prompts: Sequence[str] = ("en", "es", "fr")) -> Example:
    return Example(name, {tag: [{"role": "user", "content": "?"}] for tag in prompts}, list(candidates))


def answer(lang: str, text: str = "hello there", **values: Any) -> Candidate:
    return Candidate(f"x/{lang}/0", lang, text, **{"origin": "sampled", "round": 1, "finish_reason": "stop", **values})


def options(**values: Any) -> TranslateOptions:
    return TranslateOptions.model_validate({"translator": {"model": {"path": "fake", "backend": "fake"}}, **values})


def translated(
    given: Example, translator: Scripted | None = None, spoken: Sequence[str] = ("en", "es", "fr"), **values: Any
) -> Example:
    opened = {"translator": translator or Scripted(), "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: opened[role], languages=spoken)
    before = copy.deepcopy(given)
    (found,) = translate([given], options(**values), context)
    assert given == before
    assert found.candidates[: len(given.candidates)] == given.candidates
    return found


def made(found: Example, given: Example) -> list[Candidate]:
    return found.candidates[len(given.candidates) :]


def test_both_ways_between_the_pivot_and_the_others() -> None:
    given = example(answer("en"), answer("es"), answer("fr"))
    found = made(translated(given, role="translator"), given)
    assert [(c.id, c.lang, c.parent, c.text) for c in found] == [
        ("x/en/0>es", "es", "x/en/0", "[es] hello there"),
        ("x/en/0>fr", "fr", "x/en/0", "[fr] hello there"),
        ("x/es/0>en", "en", "x/es/0", "[en] hello there"),
        ("x/fr/0>en", "en", "x/fr/0", "[en] hello there"),
    ]
    assert {(c.origin, c.model, c.round, c.finish_reason, c.error) for c in found} == {
        ("translated", "translator", 1, "stop", None)
    }


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"directions": ["to_pivot"]}, ["x/es/0>en", "x/fr/0>en"]),
        ({"directions": ["from_pivot"], "languages": ["Spanish"]}, ["x/en/0>es"]),
        ({"directions": ["es:fr", "spa:jpn"]}, ["x/es/0>fr", "x/es/0>ja"]),
        ({"languages": ["fr"]}, ["x/en/0>fr", "x/fr/0>en"]),
    ],
)
def test_directions(asked: dict[str, Any], ids: list[str]) -> None:
    given = example(answer("en"), answer("es"), answer("fr"))
    assert [c.id for c in made(translated(given, **asked), given)] == ids


def test_the_pivots_answers_go_only_where_there_is_a_prompt_unless_a_way_is_named() -> None:
    given = example(answer("en"), answer("fr"), prompts=("en", "es"))
    assert [c.id for c in made(translated(given), given)] == ["x/en/0>es", "x/fr/0>en"]
    assert [c.id for c in made(translated(given, directions=["en:ja", "en:fr"]), given)] == ["x/en/0>ja", "x/en/0>fr"]


@pytest.mark.parametrize(
    ("directions", "spanish", "french"),
    [
        (["to_pivot", "from_pivot"], ["x/en/0>es", "x/es/0>en"], ["x/en/0>fr", "x/fr/0>en"]),
        (["es:ja"], ["x/es/0>ja"], []),
        (["en:ja", "en:es"], ["x/en/0>es"], []),
        (["fr:es", "es:fr"], ["x/es/0>fr"], ["x/fr/0>es"]),
    ],
)
def test_a_language_at_a_time_makes_what_is_its_own(
    directions: list[str], spanish: list[str], french: list[str]
) -> None:
    """A run's unit holds the answers in one language and those in the pivot. What several units could make is made by
    one: a way is of its source, one from the pivot of its target, so en:ja is of neither here."""
    for lang, ids in (("es", spanish), ("fr", french)):
        unit = example(answer("en"), answer(lang), prompts=("en", lang))
        asked = options(directions=directions).model_copy(update={"languages": (lang,)})
        assert [c.id for c in made(translated(unit, **asked.model_dump(exclude={"translator"})), unit)] == ids
    whole = example(answer("en"), answer("es"), answer("fr"))
    found = {c.id for c in made(translated(whole, directions=directions), whole)}
    assert found - {"x/en/0>ja"} == {*spanish, *french}


@pytest.mark.parametrize(("direction", "why"), [("es", "es:ja"), ("es:spa", "itself"), ("es:xx1", "no language")])
def test_a_wrong_direction_is_refused(direction: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        options(directions=[direction])


def test_which_candidates() -> None:
    given = example(
        answer("es", model="policy"),
        Candidate("other", "es", "hi", "sampled", model="reference"),
        Candidate("human", "es", "hi", "human"),
        Candidate("none", "es", "hi"),
        Candidate("broken", "es", "", "sampled", error="timeout"),
        Candidate("blank", "es", " ", "sampled"),
    )
    assert [c.parent for c in made(translated(given), given)] == ["x/es/0", "other"]
    assert [c.parent for c in made(translated(given, model="policy"), given)] == ["x/es/0"]
    assert [c.parent for c in made(translated(given, origins=["human", None]), given)] == ["human", "none"]


def test_what_is_translated_already_is_not_made_again() -> None:
    given = example(answer("en"), answer("es"))
    once = translated(given)
    translator = Scripted()
    assert translated(once, translator) == once
    assert translator.asked == []
    # A child by another name, from another tool, is one as well.
    theirs = example(answer("es"), Candidate("theirs", "en", "hello", "translated", "x/es/0"))
    assert translated(theirs, directions=["to_pivot"]) == theirs


@pytest.mark.parametrize(
    ("error", "reason"),
    [("no_closing_tag", "no_closing_tag"), ("failed: 503", "failed"), ("truncated", "truncated"), ("empty", "empty")],
)
def test_a_failure_is_a_candidate_without_text_and_a_drop_with_the_reason(error: str, reason: str) -> None:
    given = example(answer("es"), prompts=("en", "es"))
    found = translated(given, Scripted(lambda r: Translation(None, error)))
    (child,) = made(found, given)
    assert (child.text, child.error, child.finish_reason) == ("", error, None)
    assert found.dropped == [Drop("translate", reason, "en", "x/es/0>en")]


def test_the_wrong_language_is_a_failure_and_an_untold_one_is_not() -> None:
    given = example(answer("es"))
    found = translated(given, Scripted(lambda r: Translation("[es] hola")))
    assert (found.candidates[-1].text, found.candidates[-1].error) == ("", "wrong_language: es")
    assert found.dropped == [Drop("translate", "wrong_language", "en", "x/es/0>en")]
    assert translated(given, Scripted(lambda r: Translation("hm"))).dropped == []
    assert translated(given, Scripted(lambda r: Translation("[es] hola")), language_check=False).dropped == []


def test_a_language_that_nobody_looks_for_passes_and_that_is_said_once() -> None:
    said: list[str] = []
    opened = {
        "translator": Scripted(lambda r: Translation("[es] hola")),
        "language_identifier": FakeLanguageIdentifier(),
    }
    context = Context(open=lambda role, spec: opened[role], languages=("en", "es"), warn=said.append)
    examples = [example(answer("es"), name=name) for name in ("1", "2")]
    found = list(translate(examples, options(directions=["es:ja"], chunk=1), context))
    assert [e.candidates[-1].text for e in found] == ["[es] hola"] * 2
    assert len(said) == 1
    assert "into it are not checked" in said[0]


def test_an_answer_to_a_prompt_about_another_language_may_be_in_it() -> None:
    given = example(answer("es"))
    given.prompts["en"] = [{"role": "user", "content": "Translate this sentence into German."}]
    assert translated(given, Scripted(lambda r: Translation("[de] hallo"))).dropped == []


def test_code_is_not_sent_and_stays() -> None:
    code = "```py\nprint('hola')\n\n# comentario\n```"
    given = example(answer("es", f"Mira:\n\n{code}\n\nListo. 3\n"))
    translator = Scripted()
    (child,) = made(translated(given, translator), given)
    assert child.text == f"[en] Mira:\n\n{code}\n\n[en] Listo. 3\n"
    assert [r.text for r in translator.asked] == ["Mira:", "Listo. 3"]
    # Nothing but code, or a number alone, needs no translator.
    for text in (code, "42"):
        given, translator = example(answer("es", text)), Scripted()
        (child,) = made(translated(given, translator), given)
        assert (child.text, child.error, translator.asked) == (text, None, [])


def test_one_failed_piece_fails_the_whole() -> None:
    given = example(answer("es", "uno\n```\nx\n```\ndos"))
    found = translated(
        given, Scripted(lambda r: Translation(None, "no_closing_tag") if r.text == "dos" else Translation("one"))
    )
    assert (found.candidates[-1].text, found.candidates[-1].error) == ("", "no_closing_tag")


def test_lost_numbers_are_told_and_the_translation_stands() -> None:
    given = example(answer("es", "el 24 de 12"))
    (child,) = made(translated(given, Scripted(lambda r: Translation("on the 24th"))), given)
    assert (child.text, child.error, child.extra) == ("on the 24th", None, {NUMBERS_LOST: ["12"]})
    (child,) = made(translated(given), given)
    assert child.extra == {}


def test_a_translation_of_half_an_answer_is_half_an_answer() -> None:
    given = example(answer("es", finish_reason="length"))
    (child,) = made(translated(given), given)
    assert child.finish_reason == "length"


PARAGRAPHS = "\n\n".join(f"{word}" + " tras" * 30 for word in ("uno", "dos", "tres", "cuatro"))


def window(characters: int) -> Scripted:
    return Scripted(
        lambda r: (
            Translation(None, "too_long: no room")
            if len(r.text) > characters
            else Translation(f"[{r.target}] {r.text.split()[0]}")
        )
    )


def test_what_is_too_long_for_the_window_goes_by_paragraph() -> None:
    given = example(answer("es", PARAGRAPHS))
    (child,) = made(translated(given, window(200), max_characters=400), given)
    assert child.text.split() == ["[en]", "uno", "[en]", "dos", "[en]", "tres", "[en]", "cuatro"]
    assert child.text.count("\n\n") == 3
    # The whole of it where there is room, pieces where that is asked for.
    (child,) = made(translated(given, window(10_000)), given)
    assert child.text == "[en] uno"
    (child,) = made(translated(given, window(10_000), by_paragraph="on", max_characters=400), given)
    assert child.text.split() == ["[en]", "uno", "[en]", "tres"]


def test_what_cannot_be_cut_small_enough_is_too_long() -> None:
    given = example(answer("es", PARAGRAPHS))
    for asked, limit in ({"by_paragraph": "off"}, 200), ({}, 10):
        found = translated(given, window(limit), **asked)
        assert found.dropped == [Drop("translate", "too_long", "en", "x/es/0>en")]
        assert found.candidates[-1].error == "too_long: no room"


def test_equal_texts_are_asked_for_once_and_pieces_that_are_done_not_again() -> None:
    inner = window(200)
    context_of = {"translator": RememberingTranslator(inner), "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: context_of[role], languages=("en", "es"))
    examples = [example(answer("es", text), name=str(n)) for n, text in enumerate(["hola", "hola", PARAGRAPHS])]
    found = list(translate(examples, options(chunk=1, max_characters=400), context))
    assert [e.candidates[-1].text for e in found[:2]] == ["[en] hola"] * 2
    done = [r.text for r in inner.asked if len(r.text) <= 200]
    assert len(done) == len(set(done)) == 5


def test_imbalance_and_the_translated_view_read_what_translate_writes() -> None:
    given = example(answer("en", "[en] a"), answer("es", "[es] b"), prompts=("en", "es"))
    found = translated(given, Scripted(lambda r: Translation(f"[{r.target}] of {r.text[-1]}")), spoken=("en", "es"))
    context = Context(open=lambda role, spec: FakeLanguageIdentifier(), languages=("en", "es"))
    (paired,) = imbalance([found], ImbalanceOptions(), context)
    assert [(p.lang, p.chosen, p.rejected) for p in paired.pairs] == [
        ("es", "x/en/0>es", "x/es/0"),
        ("en", "x/en/0", "x/es/0>en"),
    ]
    view = ImplicitOptions.model_validate({"policy": "p", "reference": "r", "view": "translated"})
    shown = as_answer(found, found.candidates[1], view.view, view.pivot)
    assert shown is not None
    assert shown.text == "[en] of b"
    # A failed direction takes both pairs with it.
    failed = translated(given, Scripted(lambda r: Translation(None, "no_closing_tag")), spoken=("en", "es"))
    (paired,) = imbalance([failed], ImbalanceOptions(), context)
    assert paired.pairs == []
    assert {(d.stage, d.reason, d.lang) for d in paired.dropped} >= {
        ("pair", "translation_failed", "es"),
        ("pair", "translation_failed", "en"),
    }
