"""Lines, their words and the foreign words in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.running_text import ALPHABETS, alphabets
from polypref.stages.language_lines import (
    count_words,
    has_english_word,
    has_foreign_word,
    judged_lines,
    latin_words,
)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", 0),
        ("— … !", 0),
        ("one two, three; 4 five.", 5),
        ("**Ein** – Satz", 2),
        ("私は学生です", 3),  # six Kana and Han
        ("我是学生。", 2),  # four
        ("Python で書く", 3),  # a Latin word, three Kana and Han
        ("ฉันไปโรงเรียน", 4),  # thirteen letters and signs
        ("나는 학생 입니다", 3),
        ("वह स्कूल जाता है", 4),
    ],
)
def test_words_are_parted_by_space_and_counted_by_letters_where_there_is_none(line: str, words: int) -> None:
    assert count_words(line) == words


def test_a_line_of_fewer_than_five_words_is_not_judged() -> None:
    text = "one two three four\n\none two three four five\n1. one two three\n- one two three four five six"
    assert judged_lines(text, 5) == ["one two three four five", "- one two three four five six"]
    assert len(judged_lines(text, 1)) == 4


def test_code_links_and_formulas_are_in_no_line() -> None:
    code = "```\nfor word in a list of words\n```"
    text = f"Вот код этой простой программы:\n{code}\nи `another piece of inline code` конец https://example.org/x"
    assert judged_lines(text, 5) == ["Вот код этой простой программы:"]
    assert [line.split() for line in judged_lines(text, 2)][1] == ["и", "конец"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("это просто basically поток", ["basically"]),
        ("это Basically ПОТОК HTTP", []),  # names and abbreviations
        ("5 km und der git", []),  # at most three letters
        ("resonировать", ["reson"]),  # a word that changes its script
        ("这是basically一条河", ["basically"]),
        ("word2vec, file_name, example.com, and/or, a@mail", []),
        ("dry-hopping (power bank).", ["hopping", "power", "bank"]),
        ("Vitel toné", ["toné"]),
    ],
)
def test_a_latin_word_is_four_small_letters_that_are_no_name(line: str, words: list[str]) -> None:
    assert latin_words(line) == words


def test_english_is_what_the_list_says_and_without_one_every_word_of_a_to_z() -> None:
    assert has_english_word("это caliente поток")
    assert not has_english_word("это caliente поток", {"basically"})
    assert has_english_word("это basically поток", {"basically"})
    assert not has_english_word("это toné")


@pytest.mark.parametrize(
    ("line", "lang", "foreign"),
    [
        ("это 河 и поток", "ru", True),  # one Han letter is a word
        ("это α и β", "ru", False),  # symbols
        ("это αγάπη", "ru", True),
        ("Der Name Москва bleibt", "de", False),  # a name
        ("das Wort поток bleibt", "de", True),
        ("das Wort basically bleibt", "de", False),  # the same script tells nothing
        ("これは日本語のテキストです", "ja", False),
        ("这是テキスト", "zh", True),
        ("한국어와 漢字", "ko", False),
        ("वह हिन्दी है", "hi", False),
        ("это हिन्दी", "ru", True),
        ("это basically поток", "ru", True),
        ("42 % 😀 № µ ª", "ru", False),
    ],
)
def test_a_word_is_foreign_in_an_alphabet_that_the_language_is_not_written_in(
    line: str, lang: str, foreign: bool
) -> None:
    assert has_foreign_word(line, alphabets([lang])) is foreign


@given(st.text(max_size=60), st.integers(1, 8))
def test_judged_lines_have_enough_words_and_more_are_judged_of_a_lower_bound(text: str, fewest: int) -> None:
    found = judged_lines(text, fewest)
    assert all(count_words(line) >= fewest for line in found)
    assert set(found) <= set(judged_lines(text, 1))


@given(st.text(max_size=60))
def test_no_word_is_foreign_where_every_alphabet_is_the_languages_own(text: str) -> None:
    assert not has_foreign_word(text, ALPHABETS)
