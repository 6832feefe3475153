"""Preference and SFT sets in other languages: pairs whole or not at all, labels with them, nothing lost in silence."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted import Rule, Scripted

from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.backends.translation import Translation, TranslationRequest
from polypref.errors import InputError
from polypref.mistakes import checked
from polypref.records import Candidate, Example, Message, Pair, parse_example, to_json
from polypref.stages.carry_over import BACK_RULE, REPLACED, RULE, STAGE
from polypref.stages.preference_prompts import BACK_MARK
from polypref.stages.prompt_instruction import instructed
from polypref.stages.translate_preferences import VERSION, TranslatePreferencesOptions, translate_preferences
from polypref.stages.translate_prompts import MARK
from polypref.store.atomic import digest

TURNS: list[Message] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Name 3 rivers"},
    {"role": "assistant", "content": "Why?"},
    {"role": "user", "content": "Because"},
]
FAILS = ("no_closing_tag", "truncated", "failed: 503")


def said(text: str) -> str:
    """A text without the mark of its language."""
    return re.sub(r"^\[\w+\] ", "", text)


def marked(request: TranslationRequest) -> Translation:
    """A translation that comes back as it was: the text under its language's mark, English unmarked."""
    return Translation(said(request.text) if request.target == "en" else f"[{request.target}] {said(request.text)}")


def but(**errors: str) -> Rule:
    """The same, where texts of so many words fail: ``but(poor="truncated")``."""
    return lambda r: Translation(None, errors[said(r.text)]) if said(r.text) in errors else marked(r)


def example(*candidates: Candidate, pairs: Sequence[Pair] = (), lang: str = "en", name: str = "x") -> Example:
    return Example(name, {lang: copy.deepcopy(TURNS)}, list(candidates), list(pairs))


def answer(name: str, text: str | None = None, lang: str = "en", **values: Any) -> Candidate:
    return Candidate(name, lang, name if text is None else text, **{"origin": "human", **values})


def pair(lang: str = "en", chosen: str = "good", rejected: str = "poor", **values: Any) -> Pair:
    return Pair(lang, chosen, rejected, **{"rule": "given", **values})


def translated(
    one: Example, rule: Rule = marked, asked: list[TranslationRequest] | None = None, **values: Any
) -> Example:
    translator = Scripted(rule)
    opened = {"translator": translator, "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: opened[role], languages=("en", "es", "fr"))
    before = copy.deepcopy(one)
    (found,) = translate_preferences([one], options(**values), context)
    assert one == before
    assert parse_example(to_json(found)) == found
    if asked is not None:
        asked += translator.asked
    return found


def options(**values: Any) -> TranslatePreferencesOptions:
    spec = {"model": {"path": "fake", "backend": "fake"}}
    return TranslatePreferencesOptions.model_validate({"translator": spec, "languages": ["es"], **values})


def drops(found: Example, stage: str = STAGE) -> list[tuple[str, str | None, dict[str, Any]]]:
    return [(drop.reason, drop.candidate, drop.extra) for drop in found.dropped if drop.stage == stage]


PAIRED = example(answer("good"), answer("poor"), pairs=[pair(score="votes", margin=2.5)])


def test_a_pair_is_carried_over_with_its_prompt_its_margin_and_both_answers() -> None:
    found = translated(PAIRED, languages=["es", "fr"], role="mt")
    assert [message["content"] for message in found.prompts["es"]] == [f"[es] {m['content']}" for m in TURNS]
    assert [(c.id, c.text, c.parent, c.origin, c.model) for c in found.candidates[2:]] == [
        ("good>es", "[es] good", "good", "translated", "mt"),
        ("good>fr", "[fr] good", "good", "translated", "mt"),
        ("poor>es", "[es] poor", "poor", "translated", "mt"),
        ("poor>fr", "[fr] poor", "poor", "translated", "mt"),
    ]
    assert found.pairs == [
        *PAIRED.pairs,
        Pair("es", "good>es", "poor>es", "votes", 2.5, RULE),
        Pair("fr", "good>fr", "poor>fr", "votes", 2.5, RULE),
    ]
    assert found.dropped == []
    assert found.extra == {MARK: {lang: {"source": "en", "model": "mt"} for lang in ("es", "fr")}}


@pytest.mark.parametrize("fails", ["good", "poor"])
def test_a_pair_of_which_one_answer_fails_is_dropped_whole_with_the_reason(fails: str) -> None:
    found = translated(PAIRED, but(**{fails: "truncated"}))
    assert found.pairs == PAIRED.pairs
    assert drops(found) == [("truncated", None, {"chosen": "good", "rejected": "poor"})]
    assert drops(found, "translate") == [("truncated", f"{fails}>es", {})]


def test_without_its_prompt_nothing_is_translated_and_the_pair_says_so() -> None:
    asked: list[TranslationRequest] = []
    found = translated(PAIRED, but(Because="no_closing_tag"), asked)
    assert (list(found.prompts), found.candidates, found.pairs) == (["en"], PAIRED.candidates, PAIRED.pairs)
    assert [(d.stage, d.reason) for d in found.dropped] == [("translate", "no_closing_tag"), (STAGE, "no_prompt")]
    assert "good" not in [request.text for request in asked]
    # Another pass, another try.
    assert translated(found).pairs[1:] == [pair("es", "good>es", "poor>es", score="votes", margin=2.5, rule=RULE)]


def test_a_prompt_that_is_there_stays() -> None:
    asked: list[TranslationRequest] = []
    given = copy.deepcopy(PAIRED)
    given.prompts["es"] = [{"role": "user", "content": "Nombra"}]
    found = translated(given, marked, asked)
    assert found.prompts == given.prompts
    assert [request.text for request in asked] == ["good", "poor"]
    assert len(found.pairs) == 2


@pytest.mark.parametrize(
    ("poor", "reason"),
    [
        (answer("poor", lang="es"), "other_language"),
        (answer("poor", " "), "no_text"),
        (answer("poor", "", error="timeout"), "failed"),
        (answer("poor", "good"), "duplicate"),
    ],
)
def test_answers_that_cannot_stand_in_a_translated_pair(poor: Candidate, reason: str) -> None:
    found = translated(example(answer("good"), poor, pairs=[pair()]))
    assert found.pairs == [pair()]
    assert drops(found) == [(reason, None, {"chosen": "good", "rejected": "poor"})]


def test_pairs_share_their_answers_and_may_contradict_each_other() -> None:
    asked: list[TranslationRequest] = []
    pairs = [pair(), pair(chosen="poor", rejected="good"), pair(rejected="worse")]
    found = translated(example(answer("good"), answer("poor"), answer("worse"), pairs=pairs), marked, asked)
    assert [(p.chosen, p.rejected) for p in found.pairs[3:]] == [
        ("good>es", "poor>es"),
        ("poor>es", "good>es"),
        ("good>es", "worse>es"),
    ]
    assert [r.text for r in asked].count("good") == 1


def test_labels_go_along() -> None:
    """Two of the same label are two points; those that differ are one comparison."""
    points = example(answer("a", label=1.0), answer("b", label=1.0))
    found = translated(points, but(b="truncated"))
    assert [(c.id, c.label) for c in found.candidates[2:]] == [("a>es", 1.0), ("b>es", None)]
    assert drops(found) == [("truncated", None, {"answer": "b"})]
    against = example(answer("a", label="chosen"), answer("b", label="rejected"), answer("c", label="rejected"))
    found = translated(against, but(b="truncated"))
    assert [c.label for c in found.candidates[3:]] == [None] * 3
    assert drops(found) == [
        ("incomplete", None, {"answer": "a"}),
        ("truncated", None, {"answer": "b"}),
        ("incomplete", None, {"answer": "c"}),
    ]
    assert [c.label for c in translated(against).candidates[3:]] == ["chosen", "rejected", "rejected"]
    # One that failed before is no part of the comparison.
    against.candidates[1].error = "timeout"
    assert [(c.parent, c.label) for c in translated(against).candidates[3:]] == [("a", "chosen"), ("c", "rejected")]


def test_an_sft_set_is_what_people_or_references_wrote() -> None:
    given = example(
        answer("a"), answer("b", origin="reference"), answer("c", origin="sampled"), answer("d", origin=None)
    )
    assert [c.parent for c in translated(given).candidates[4:]] == ["a", "b", "d"]
    # Beside a pair, answers alone are no part of the set.
    given.pairs.append(pair(chosen="a", rejected="c"))
    assert [c.parent for c in translated(given).candidates[4:]] == ["a", "c"]


def test_what_a_language_has_of_its_own_stays_and_it_gets_none() -> None:
    own = [answer("bien", lang="es"), answer("mal", lang="es")]
    given = example(answer("good"), answer("poor"), *own, pairs=[pair(), pair("es", "bien", "mal")])
    given.prompts["es"] = [{"role": "user", "content": "Nombra"}]
    found = translated(given, languages=["es", "fr"])
    assert [p.lang for p in found.pairs] == ["en", "es", "fr"]
    assert [c.lang for c in found.candidates[4:]] == ["fr", "fr"]


def test_each_kind_of_data_is_looked_at_for_itself() -> None:
    given = example(
        answer("good", label=1), answer("poor", label=0), answer("bien", lang="es", label=1), pairs=[pair()]
    )
    given.prompts["es"] = [{"role": "user", "content": "Nombra"}]
    found = translated(given)
    assert [(c.id, c.label) for c in found.candidates[3:]] == [("good>es", None), ("poor>es", None)]
    assert found.pairs[1:] == [pair("es", "good>es", "poor>es", rule=RULE)]
    shown = example(answer("good"), answer("bien", lang="es"))
    assert translated(shown).candidates == shown.candidates


def test_a_translation_by_another_hand_counts_and_one_that_failed_does_not_stand_before_it() -> None:
    failed = Candidate("good>es", "es", "", "translated", "good", error="truncated")
    theirs = Candidate("theirs", "es", "mejor", "translated", "good")
    found = translated(example(answer("good"), answer("poor"), failed, theirs, pairs=[pair()]))
    assert [(p.chosen, p.rejected) for p in found.pairs[1:]] == [("theirs", "poor>es")]


def test_any_language_is_a_source() -> None:
    given = example(answer("bien", lang="es"), answer("mal", lang="es"), pairs=[pair("es", "bien", "mal")], lang="es")
    found = translated(given, source="es", languages=["es", "en"])
    assert found.pairs[1:] == [pair("en", "bien>en", "mal>en", rule=RULE)]
    assert translated(given).candidates == given.candidates  # from the pivot there is nothing


def test_there_must_be_another_language() -> None:
    with pytest.raises(ValidationError, match="names es alone"):
        options(source="es")
    with pytest.raises(InputError, match="from en into en alone"):
        translated(PAIRED, languages=["en"])


@pytest.mark.parametrize(
    ("translation", "asked", "error"),
    [
        ("[es] 17 24 and much more of it ", {"max_length_ratio": 2}, "length_ratio: 2.38"),
        ("[es] x", {"max_length_ratio": 2}, "length_ratio: 0.46"),
        ("[es] sea wind", {"max_numbers_lost": 1}, "numbers_lost: 17, 24"),
        ("[fr] 17 sea 24", {}, "wrong_language: fr"),
    ],
)
def test_what_is_not_good_enough_is_refused(translation: str, asked: dict[str, Any], error: str) -> None:
    """ "17 sea, 24 so" has 13 characters: 31/13 = 2.38, 6/13 = 0.46."""
    given = example(answer("good", "the longer one"), answer("poor", "17 sea, 24 so"), pairs=[pair()])
    given.prompts["es"] = [{"role": "user", "content": "?"}]
    rule: Rule = lambda r: Translation(translation) if r.text == "17 sea, 24 so" else marked(r)  # noqa: E731
    found = translated(given, rule, **asked)
    reason = error.partition(":")[0]
    (child,) = (c for c in found.candidates if c.parent == "poor")
    assert child.error == error
    # A filter's refusal keeps the text to be looked at; a failure has none.
    assert child.text == ("" if reason == "wrong_language" else translation)
    assert drops(found, "translate") == [(reason, "poor>es", {})]
    assert drops(found) == [(reason, None, {"chosen": "good", "rejected": "poor"})]
    assert translated(given, rule, language_check=False).pairs[1:] != []


def test_round_trips_are_noted_and_low_ones_refused() -> None:
    """abcd comes back as abce: chrF 2300/48 = 47.9, derived in test_translation_quality."""
    given = example(answer("good", "abcd"), answer("poor", "wxyz"), pairs=[pair()])
    rule: Rule = lambda r: Translation("abce") if r.text == "[es] abcd" else marked(r)  # noqa: E731
    found = translated(given, rule, round_trip=True)
    assert [round(c.extra["round_trip_chrf"], 1) for c in found.candidates[2:]] == [47.9, 100.0]
    assert round(found.extra[MARK]["es"]["round_trip_chrf"], 1) == 100.0
    assert len(found.pairs) == 2
    assert len(translated(given, rule, min_chrf=47).pairs) == 2
    found = translated(given, rule, min_chrf=48)
    assert [c.error for c in found.candidates[2:]] == ["low_chrf: 47.9", None]
    assert drops(found) == [("low_chrf", None, {"chosen": "good", "rejected": "poor"})]


def test_a_round_trip_that_was_made_is_not_made_again() -> None:
    asked: list[TranslationRequest] = []
    once = translated(PAIRED, round_trip=True)
    assert translated(once, marked, asked, min_chrf=50) == once
    assert asked == []


@pytest.mark.parametrize("back", [False, True])
def test_of_a_prompt_what_is_translated_is_measured(back: bool) -> None:
    """A tool's words stay, so they would only flatter. abcd comes back as abce: 47.9; nothing, as nothing."""
    rule: Rule = lambda r: Translation("abce") if r.text == "[es] abcd" else marked(r)  # noqa: E731
    for text, chrf in (("abcd", 47.9), (" ", None)):
        given = example(answer("good"))
        given.prompts["en"] = [{"role": "tool", "content": "It is sunny."}, {"role": "user", "content": text}]
        asked = {"source": "es", "languages": ["en"], "back": True} if back else {"round_trip": True}
        mark = translated(given, rule, **asked).extra[BACK_MARK if back else MARK]["en" if back else "es"]
        found = mark.get("round_trip_chrf")
        assert (found if found is None else round(found, 1)) == chrf


def test_a_way_back_that_fails_is_noted_and_refused_only_where_a_chrf_is_asked_for() -> None:
    rule: Rule = lambda r: Translation(None, "truncated") if r.text == "[es] poor" else marked(r)  # noqa: E731
    found = translated(PAIRED, rule, round_trip=True)
    assert found.candidates[3].extra == {"round_trip_failed": "truncated"}
    assert len(found.pairs) == 2
    found = translated(PAIRED, rule, min_chrf=1)
    assert drops(found) == [("round_trip_failed", None, {"chosen": "good", "rejected": "poor"})]
    # Once it comes back, the note goes.
    again = translated(translated(PAIRED, rule, round_trip=True), round_trip=True)
    assert list(again.candidates[3].extra) == ["round_trip_chrf"]


def test_a_prompt_is_refused_as_well() -> None:
    rule: Rule = lambda r: Translation("Hm") if r.text.endswith("3 rivers") and r.target == "en" else marked(r)  # noqa: E731
    found = translated(PAIRED, rule, min_chrf=90)
    assert (list(found.prompts), found.extra) == (["en"], {})
    assert [(d.stage, d.reason) for d in found.dropped] == [("translate", "low_chrf"), (STAGE, "no_prompt")]


def test_an_instruction_around_the_prompt_is_not_translated() -> None:
    (given,) = instructed([PAIRED], "Answer in {language}.")
    assert translated(given).prompts["es"][-1]["content"] == "[es] Because"


# --- there and back ------------------------------------------------------------------------------------------------

SPANISH = example(
    answer("bueno", "bueno 7", "es", label=1),
    answer("malo", "malo", "es", label=0),
    answer("good"),
    pairs=[pair("es", "bueno", "malo", margin=1.5), pair("en", "good", "good")],
    lang="es",
)


def test_back_translation_replaces_a_languages_set_and_keeps_what_it_was() -> None:
    given = copy.deepcopy(SPANISH)
    given.prompts["en"] = [{"role": "user", "content": "Another prompt"}]
    asked: list[TranslationRequest] = []
    rule: Rule = lambda r: Translation("[es] bueno") if r.text == "bueno 7" and r.target == "es" else marked(r)  # noqa: E731
    found = translated(given, rule, asked, back=True, role="mt")
    assert found.prompts["en"] == given.prompts["en"]
    assert [m["content"] for m in found.prompts["es"]] == [f"[es] {m['content']}" for m in TURNS]
    assert [(c.id, c.parent, c.text, c.label) for c in found.candidates[:2] + found.candidates[3:]] == [
        ("bueno", None, "bueno 7", None),
        ("malo", None, "malo", None),
        ("bueno>en", "bueno", "bueno 7", None),
        ("malo>en", "malo", "malo", None),
        ("bueno>en>es", "bueno>en", "[es] bueno", 1),
        ("malo>en>es", "malo>en", "[es] malo", 0),
    ]
    assert found.candidates[5].extra["numbers_lost"] == ["7"]
    assert found.pairs == [Pair("es", "bueno>en>es", "malo>en>es", None, 1.5, BACK_RULE), given.pairs[1]]
    assert drops(found) == [(REPLACED, "bueno", {"label": 1}), (REPLACED, "malo", {"label": 0})]
    mark = found.extra[BACK_MARK]["es"]
    assert (mark["source"], mark["model"], mark["original"], mark["between"]) == ("en", "mt", TURNS, TURNS)
    assert translated(found, marked, back=True) == found
    assert {(r.source, r.target) for r in asked} == {("es", "en"), ("en", "es")}


def test_numbers_are_missed_against_the_original_alone() -> None:
    rule: Rule = lambda r: Translation("malo 9" if r.target == "en" else "[es] malo") if "malo" in r.text else marked(r)  # noqa: E731
    found = translated(SPANISH, rule, back=True)
    assert ["numbers_lost" in c.extra for c in found.candidates if c.parent in ("bueno>en", "malo>en")] == [
        False,
        False,
    ]
    assert len(found.pairs) == 2


@pytest.mark.parametrize("way", ["en", "es"])
def test_what_fails_on_either_way_leaves_the_set_as_well(way: str) -> None:
    rule: Rule = lambda r: (  # noqa: E731
        Translation(None, "truncated") if said(r.text) == "malo" and r.target == way else marked(r)
    )
    found = translated(SPANISH, rule, back=True)
    assert found.pairs == [SPANISH.pairs[1]]
    assert [c.id for c in found.candidates if c.label is not None] == []
    assert drops(found) == [
        ("truncated", None, {"chosen": "bueno", "rejected": "malo"}),
        ("incomplete", None, {"answer": "bueno"}),
        ("truncated", None, {"answer": "malo"}),
        (REPLACED, "bueno", {"label": 1}),
        ("truncated", "malo", {"label": 0}),
    ]
    assert translated(found, marked, back=True) == found


@pytest.mark.parametrize(
    ("rule", "asked", "failed"),
    [
        (but(Because="no_closing_tag"), {}, "no_closing_tag"),
        (lambda r: marked(r) if r.target == "en" else Translation("[es] a"), {"min_chrf": 50}, "low_chrf: "),
    ],
)
def test_a_prompt_that_does_not_come_back_stands_and_its_set_goes(
    rule: Rule, asked: dict[str, Any], failed: str
) -> None:
    found = translated(SPANISH, rule, back=True, **asked)
    assert found.prompts == SPANISH.prompts
    assert found.extra[BACK_MARK]["es"]["failed"].startswith(failed)
    assert found.pairs == [SPANISH.pairs[1]]
    assert [c.id for c in found.candidates] == ["bueno", "malo", "good"]
    assert ("no_prompt", "bueno", {"label": 1}) in drops(found)


def test_the_new_prompt_is_without_the_instruction_of_the_old() -> None:
    given = example(answer("bueno", lang="es"), lang="es")
    given.prompts["en"] = [{"role": "user", "content": "Hi"}]
    (given,) = instructed([given], "Be brief.")
    found = translated(given, back=True)
    assert found.prompts["es"][-1]["content"] == "[es] Because"
    assert found.extra["instructed"] == {"en": given.extra["instructed"]["en"]}


# --- whatever comes ------------------------------------------------------------------------------------------------


def scripted(request: TranslationRequest) -> Translation:
    """Fails in its ways where the text says so: %1 on the way there, %2 on the way back, %3 in the wrong language."""
    text = said(request.text)
    if "%1" in text and request.target != "en":
        return Translation(None, FAILS[len(text) % 3])
    if "%2" in text and request.target == "en":
        return Translation(None, FAILS[len(text) % 3])
    return Translation(f"[fr] {text}") if "%3" in text and request.target == "es" else marked(request)


words = st.sampled_from(["a", "be", "see 7", "%1 x", "%2", "%3 no", "", " ", "night", "day"])


@st.composite
def sets(draw: st.DrawFn) -> Example:
    turns = [
        {"role": role, "content": draw(words)} for role in draw(st.sampled_from([["user"], ["assistant", "user"]]))
    ]
    prompts = dict.fromkeys(draw(st.sampled_from([["en"], ["en", "es"], ["es"], ["es", "fr"]])), turns)
    names = draw(st.lists(st.sampled_from("abcdef"), max_size=5, unique=True))
    langs = st.sampled_from(["en", "en", "es"])
    candidates = [
        Candidate(
            name,
            draw(langs),
            draw(words),
            draw(st.sampled_from(["human", "sampled", None])),
            label=draw(st.sampled_from([None, None, 0, 1])),
            error=draw(st.sampled_from([None, None, None, "timeout"])),
        )
        for name in names
    ]
    one = st.sampled_from(names) if names else st.nothing()
    pairs = draw(st.lists(st.builds(Pair, langs, one, one, st.none(), st.none() | st.just(1.0)), max_size=3))
    return Example("x", prompts, candidates, pairs)


asked_for = st.fixed_dictionaries(
    {"languages": st.sampled_from([["es"], ["es", "fr"], ["fr", "es", "en"]])},
    optional={"min_chrf": st.sampled_from([0, 60]), "max_numbers_lost": st.just(0), "round_trip": st.just(True)},
)


@given(sets(), asked_for)
def test_every_pair_holds_translations_of_exactly_its_own_answers(one: Example, asked: dict[str, Any]) -> None:
    found = translated(one, scripted, **asked)
    assert found.candidates[: len(one.candidates)] == one.candidates
    assert found.pairs[: len(one.pairs)] == one.pairs
    assert {lang: found.prompts[lang] for lang in one.prompts} == one.prompts
    by_id = {c.id: c for c in found.candidates}
    assert len(by_id) == len(found.candidates)
    english = [p for p in one.pairs if p.lang == "en"]
    for lang in {*asked["languages"]} - {"en"}:
        new = [p for p in found.pairs[len(one.pairs) :] if p.lang == lang]
        for p in new:
            chosen, rejected = by_id[p.chosen], by_id[p.rejected]
            assert (chosen.error, rejected.error, chosen.lang, rejected.lang) == (None, None, lang, lang)
            assert lang in found.prompts
            assert any((q.chosen, q.rejected) == (chosen.parent, rejected.parent) for q in english)
            for child in (chosen, rejected):
                source = by_id[str(child.parent)]
                assert child.text.replace(f"[{lang}] ", "") == source.text
        if not any(p.lang == lang for p in one.pairs):  # else it has its own
            ours = {(by_id[p.chosen].parent, by_id[p.rejected].parent) for p in new}
            gone = {(d.extra.get("chosen"), d.extra.get("rejected")) for d in found.dropped if d.lang == lang}
            assert {(p.chosen, p.rejected) for p in english} == ours | gone - {(None, None)}
            assert not ours & gone
        for child in found.candidates[len(one.candidates) :]:
            if child.label is not None:
                assert child.label == by_id[str(child.parent)].label
                assert child.error is None


@given(sets(), asked_for, st.booleans())
def test_running_it_again_changes_nothing(one: Example, asked: dict[str, Any], back: bool) -> None:
    once = translated(one, scripted, back=back, **asked)
    assert translated(once, scripted, back=back, **asked) == once


@given(sets(), asked_for)
def test_a_set_that_came_back_holds_nothing_else(one: Example, asked: dict[str, Any]) -> None:
    found = translated(one, scripted, back=True, **asked)
    by_id = {c.id: c for c in found.candidates}
    assert len(by_id) == len(found.candidates)
    assert [p for p in found.pairs if p.lang == "en"] == [p for p in one.pairs if p.lang == "en"]
    for lang in {*asked["languages"]} - {"en"}:
        if lang not in one.prompts:
            continue
        for p in (p for p in found.pairs if p.lang == lang):
            chain = [by_id[str(by_id[side].parent)] for side in (p.chosen, p.rejected)]
            assert [c.lang for c in chain] == ["en", "en"]
            assert any((q.lang, q.chosen, q.rejected) == (lang, *(c.parent for c in chain)) for q in one.pairs)
        for c in found.candidates[: len(one.candidates)]:
            assert c.label is None or c.lang != lang or c.error is not None
        named = {(d.extra.get("chosen"), d.extra.get("rejected")) for d in found.dropped if d.lang == lang}
        lost = sum((p.chosen, p.rejected) in named for p in one.pairs if p.lang == lang)
        assert sum(p.lang == lang for p in one.pairs) == lost + sum(p.lang == lang for p in found.pairs)


def test_the_output_is_what_it_was_under_this_version() -> None:
    """When this fails, raise the version, or take the change back."""
    asked = {"translator": {"model": {"path": "fake", "backend": "fake"}}, "languages": ["es", "fr"]}
    opened = {"translator": Scripted(scripted), "language_identifier": FakeLanguageIdentifier()}
    context = Context(open=lambda role, spec: opened[role], languages=("en", "es", "fr"))
    labelled = example(answer("%1 x", label=1), answer("b 7", label=0), name="labelled")
    given = [PAIRED, dataclasses.replace(SPANISH, id="spanish"), labelled]
    found = [
        to_json(done)
        for back in (False, True)
        for done in translate_preferences(
            given, checked(TranslatePreferencesOptions, asked | {"back": back, "round_trip": True}), context
        )
    ]
    assert (VERSION, digest(found)) == (1, "f85235e83117a3e5f43a60f543f291d9d340621085b6343511764cbdac685f60")
