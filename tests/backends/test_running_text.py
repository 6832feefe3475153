"""Prose, alphabets and scripts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.running_text import (
    ALPHABETS,
    MANY_LINES,
    alphabet_of,
    alphabets,
    beyond,
    main_alphabet,
    prose,
    running_words,
    script_of,
)


def test_languages_have_the_alphabets_of_their_script() -> None:
    assert alphabets(["ja"]) == {"CJK", "HIRAGANA", "KATAKANA"}
    assert alphabets(["ru", "de"]) == {"CYRILLIC", "LATIN"}
    assert alphabets(["und-Thai"]) == {"THAI"}
    assert script_of("THAI") == "Thai"
    assert script_of("RUNIC") == "Zyyy"
    assert {alphabet_of(letter) for letter in "aяก漢かカ한ا"} <= ALPHABETS


def test_the_main_alphabet_is_that_of_most_letters() -> None:
    assert main_alphabet(["поток", "abc", "12"]) == ("CYRILLIC", 5 / 8)
    assert main_alphabet(["12", "…"]) == (None, 0.0)


@given(st.text(max_size=40))
def test_beyond_finds_what_names_say(text: str) -> None:
    """Letters as the names of Unicode have them; those beyond the basic plane count as another alphabet's."""
    letters = [c for c in text if re.match(r"[^\W\d_]", c)]
    other = any(alphabet_of(c) != "LATIN" or ord(c) > 0xFFFF for c in letters)
    assert bool(beyond("LATIN").search(text)) == other


PIECES = ["река", "Река", "ab", " ", "\n", "`", "$", "<", ">", "=", "{", "f(x)", ";", "#", "https://a.b", "7", "."]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_without_code_and_formulas_over_lines_prose_is_that_of_each_line(text: str) -> None:
    if not any(mark in text for mark in MANY_LINES):
        lines = text.split("\n")
        assert running_words(text) == [word for line in lines for word in running_words(line)]
        assert prose(text).split() == [word for line in lines for word in prose(line).split()]


@pytest.mark.parametrize("mark", ["```", "$$"])
def test_code_and_formulas_over_lines_are_no_prose(mark: str) -> None:
    assert prose(f"река {mark}x\ny{mark} море").split() == ["река", "море"]


@pytest.mark.parametrize("line", ["x = река", "река \\(x\\) море", "{река}", "река(x);", "f(река)"])
def test_a_line_with_the_marks_of_code_is_no_prose(line: str) -> None:
    assert prose(f"озеро\n{line}\nморе").split() == ["озеро", "море"]
