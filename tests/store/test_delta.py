"""Deltas: a stage's additions, stored alone, put the example together again."""

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given

from examples import LANGUAGES, examples
from polypref.errors import InternalError
from polypref.records import Candidate, Drop, Example, Pair
from polypref.store import delta
from polypref.store.parquet import SCHEMA, decode, encode


def through_parquet(row):
    return decode(pa.Table.from_pylist([encode(row)], schema=SCHEMA).to_pylist()[0])


@given(examples())
def test_applying_the_difference_gives_the_whole(example):
    first = dict(list(example.prompts.items())[:1])
    bare = dataclasses.replace(example, prompts=first, candidates=[], pairs=[], dropped=[])
    assert delta.apply(bare, through_parquet(delta.difference(bare, example))) == example


def test_a_score_is_stored_without_the_text():
    before = Example(
        "1", {"en": [{"role": "user", "content": "x"}]}, [Candidate("a", "en", "text", scores={"old": 1.0})]
    )
    after = dataclasses.replace(
        before, candidates=[dataclasses.replace(before.candidates[0], scores={"old": 1.0, "new": 2.0})]
    )
    row = delta.difference(before, after)
    assert row == {"id": "1", "candidates": [{"id": "a", "scores": {"new": 2.0}}]}
    assert delta.apply(before, through_parquet(row)) == after


def test_pairs_that_are_taken_away_are_stored_as_none():
    before = Example(
        "1", {"en": [{"role": "user", "content": "x"}]}, [Candidate("a", "en", "x"), Candidate("b", "en", "y")]
    )
    paired = dataclasses.replace(before, pairs=[Pair("en", "a", "b")])
    row = delta.difference(paired, before)
    assert delta.apply(paired, through_parquet(row)) == before


def test_the_pairs_that_two_units_put_behind_the_same_ones_all_stand():
    prompts = {lang: [{"role": "user", "content": "x"}] for lang in ("en", "es", "de")}
    answers = [Candidate(f"{lang}/{k}", lang, f"{lang} {k}") for lang in prompts for k in (0, 1)]
    given = Pair("en", "en/0", "en/1", rule="given")
    before = Example("1", prompts, answers, [given])
    made = {lang: Pair(lang, f"{lang}/0", f"{lang}/1", rule="translated") for lang in ("es", "de")}
    rows = [delta.difference(before, dataclasses.replace(before, pairs=[given, pair])) for pair in made.values()]
    assert all([p["lang"] for p in row["more_pairs"]] == [lang] for row, lang in zip(rows, made, strict=True))
    whole = delta.apply(delta.apply(before, through_parquet(rows[0])), through_parquet(rows[1]))
    assert whole.pairs == [given, made["es"], made["de"]]


def test_the_drops_of_two_stages_that_do_not_know_each_other_both_stand():
    before = Example("1", {"en": [{"role": "user", "content": "x"}]}, dropped=[Drop("generate", "failed", "en")])
    rows = [
        delta.difference(before, dataclasses.replace(before, dropped=[*before.dropped, Drop("score", why, "en")]))
        for why in ("too_long", "no_translation")
    ]
    whole = delta.apply(delta.apply(before, through_parquet(rows[0])), through_parquet(rows[1]))
    assert [d.reason for d in whole.dropped] == ["failed", "too_long", "no_translation"]


@pytest.mark.parametrize(
    "change",
    [
        lambda e: dataclasses.replace(e, candidates=[]),
        lambda e: dataclasses.replace(e, dropped=[]),
        lambda e: dataclasses.replace(e, prompts={"es": e.prompts["en"]}),
        lambda e: dataclasses.replace(e, candidates=[dataclasses.replace(e.candidates[0], scores={})]),
    ],
)
def test_a_stage_that_takes_something_away_is_found_out(change):
    before = Example(
        "1",
        {"en": [{"role": "user", "content": "x"}]},
        [Candidate("a", "en", "t", scores={"s": 1.0})],
        dropped=[Drop("generate", "failed", "en")],
    )
    with pytest.raises(InternalError):
        delta.difference(before, change(before))


@given(examples())
def test_the_parts_of_all_languages_make_the_whole(example):
    """Projection loses only what no language owns; order is by language, then as before."""
    parts = [delta.project(example, lang, "en") for lang in LANGUAGES]
    whole = delta.join(example, parts)
    assert sorted(c.id for c in whole.candidates) == sorted(c.id for c in example.candidates)
    assert len(whole.pairs) == len(example.pairs)
    assert len(whole.dropped) == len(example.dropped)


def test_parts_with_prompts_that_were_made_join_to_an_example_that_has_them():
    english = [{"role": "user", "content": "x"}]
    whole = Example("1", {"en": english})
    parts = [
        dataclasses.replace(whole, prompts={"en": english, tag: [{"role": "user", "content": tag}]})
        for tag in ("es", "de")
    ]
    assert list(delta.join(whole, parts).prompts) == ["en", "es", "de"]
