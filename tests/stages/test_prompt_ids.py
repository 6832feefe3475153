"""Ids that carry their language are joined when the pattern is said, and told when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.stages.prompt_ids import fitting_pattern
from polypref.stages.prompts import PromptOptions, read_prompts

CONTEXT = Context(open=lambda role, spec: None)


def folder(path: Path, **ids: list[str]) -> Path:
    """One file a language; the prompt of an id is the id's number and the language, whatever stands around it."""
    path.mkdir(exist_ok=True)
    for lang, given_ids in ids.items():
        rows = [{"id": one, "prompt": f"{lang} {''.join(filter(str.isdigit, one))}"} for one in given_ids]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / f"{lang.replace('_', '-')}.jsonl").write_text(text, encoding="utf-8")
    return path


def joined(path: Path, pattern: str | None, **options: object) -> dict[str, dict[str, str]]:
    examples, _ = read_prompts(PromptOptions(path=str(path), id_pattern=pattern, **options), CONTEXT)  # type: ignore[arg-type]
    return {e.id: {tag: str(prompt[-1]["content"]) for tag, prompt in e.prompts.items()} for e in examples}


@pytest.mark.parametrize(
    ("pattern", "german", "english", "bare"),
    [
        ("{lang}{id}", "degsm8k_test_0", "gsm8k_test_0", "gsm8k_test_0"),
        ("{lang}-{id}", "de-17", "17", "17"),
        ("{lang}-{id}", "DE-17", "en-17", "17"),
        ("{id}_{lang}", "17_de", "17_en", "17"),
        ("q/{lang}/{id}", "q/deu_Latn/17", "q/English/17", "17"),
    ],
)
def test_the_pattern_joins_what_the_error_before_has_named(
    tmp_path: Path, pattern: str, german: str, english: str, bare: str
) -> None:
    path = folder(tmp_path, de=[german], en=[english])
    with pytest.raises(InputError, match=r"share no ids \(de 1 such as .*, en 1 such as ") as told:
        joined(path, None)
    assert (f'say id_pattern: "{pattern}"' in str(told.value)) == (not pattern.startswith("q"))
    found = joined(path, pattern)
    assert {key: set(prompts) for key, prompts in found.items()} == {bare: {"de", "en"}}


def test_counts_and_an_id_of_each_language_are_told(tmp_path: Path) -> None:
    path = folder(tmp_path, de=["degsm8k_test_0", "degsm8k_test_1"], en=["gsm8k_test_0"], sw=["swgsm8k_test_0"])
    with pytest.raises(InputError) as told:
        joined(path, None)
    assert str(told.value) == (
        f"{path} has no prompt that stands in de, en, sw: they share no ids (de 2 such as 'degsm8k_test_0', en 1 such "
        "as 'gsm8k_test_0', sw 1 such as 'swgsm8k_test_0'); they carry their language: say "
        'id_pattern: "{lang}{id}"'
    )


def test_ids_that_have_nothing_in_common_get_no_pattern(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the field that joins them with id_key, say with id_pattern"):
        joined(folder(tmp_path, de=["x1"], en=["y2"]), None)


def test_only_the_rows_own_language_is_taken_away(tmp_path: Path) -> None:
    """``engine-1`` is no English ``gine-1`` under a pattern with a separator, and ``en-2`` is no German ``2``."""
    path = folder(tmp_path, de=["engine-1", "en-2"], en=["engine-1", "en-en-2"])
    assert set(joined(path, "{lang}-{id}")) == {"engine-1", "en-2"}


def test_languages_with_a_script_or_region_are_found_under_their_short_code(tmp_path: Path) -> None:
    path = folder(tmp_path, zh_Hans=["zh-1"], pt_BR=["por_Latn-1"], en=["1"])
    assert {key: set(found) for key, found in joined(path, "{lang}-{id}").items()} == {"1": {"en", "pt-BR", "zh-Hans"}}


def test_two_ids_that_become_one_are_refused_with_their_lines(tmp_path: Path) -> None:
    path = folder(tmp_path, de=["17", "de-17"], en=["17"])
    with pytest.raises(InputError, match=r"^de\.jsonl:2: the ids 'de-17' and '17' \(de\.jsonl:1\) are both '17'"):
        joined(path, "{lang}-{id}")


def test_the_same_row_twice_is_no_collision(tmp_path: Path) -> None:
    assert set(joined(folder(tmp_path, de=["de-17", "de-17"], en=["17"]), "{lang}-{id}")) == {"17"}


def test_one_language_with_other_ids_is_told_although_the_others_join(tmp_path: Path) -> None:
    path = folder(tmp_path, de=["de-1", "de-2"], en=["1", "2"], fr=["1", "2"])
    warnings: list[str] = []
    context = Context(open=lambda role, spec: None, warn=warnings.append)
    examples, _ = read_prompts(PromptOptions(path=str(path), require="any"), context)
    assert len(examples) == 4
    assert warnings[-1].endswith('more ids join when they leave out their language; say id_pattern: "{lang}-{id}"')


@pytest.mark.parametrize("pattern", ["{id}", "{lang}", "{lang}{lang}{id}", "de-*"])
def test_a_pattern_without_both_places_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"must hold \{lang\} and \{id\} once each"):
        PromptOptions(path="x", id_pattern=pattern)


def test_a_pattern_where_no_ids_join_is_refused(tmp_path: Path) -> None:
    for options in ({"id_key": "position"}, {"shape": "columns"}, {"shape": "wire"}):
        with pytest.raises(ValidationError, match="leave it out here"):
            PromptOptions(path="x", id_pattern="{lang}-{id}", **options)
    (tmp_path / "all.jsonl").write_text('{"id": "1", "en": "one", "de": "eins"}\n')
    with pytest.raises(InputError, match="one row; leave id_pattern out"):
        joined(tmp_path / "all.jsonl", "{lang}-{id}")


@given(st.sets(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5), min_size=1, max_size=6))
def test_the_pattern_that_is_proposed_joins_all_ids(ids: set[str]) -> None:
    """Whatever the ids are: with their language before them, some usual pattern brings all of them back together."""
    pattern = fitting_pattern({"de": [f"de::{one}" for one in ids], "sw": [f"sw::{one}" for one in ids]})
    assert pattern == "{lang}:{id}"
    assert fitting_pattern({"de": list(ids), "sw": list(ids)}) is None
