"""What language confusion shows in: an answer's lines, their number of words, and foreign words in them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Final

from polypref.backends.running_text import ALPHABETS, SOUTH_EAST_ASIAN, SYLLABIC, alphabet_of, prose

SHORTEST: Final = 4
"""Letters of a Latin word that counts as foreign: shorter ones are units, abbreviations and variables."""

_SYLLABIC = re.compile(f"[{SYLLABIC}]")
_SOUTH_EAST_ASIAN = re.compile(f"[{SOUTH_EAST_ASIAN}]")
# What touches a digit, a dot or a slash is a name: word2vec, example.com, and/or.
_LATIN_WORD = re.compile(r"(?<![A-Za-z0-9À-ɏ_./@\\])[a-zß-ɏ]+(?![A-Za-zÀ-ɏ0-9_@/\\]|\.[A-Za-z0-9])")


def judged_lines(text: str, fewest: int) -> list[str]:
    """The lines of a text that have at least ``fewest`` words, without code, formulas and links."""
    return [line for line in prose(text).splitlines() if count_words(line) >= fewest]


def count_words(line: str) -> int:
    """The words of a line, as white space parts them.

    Scripts without spaces are counted by letters: two Kana or Han a word, four of Thai, Lao, Burmese and Khmer (vowel
    signs included), rounded up. The benchmark cuts Chinese and Japanese with a dictionary.

    >>> count_words("- Der Fluss, 42 km lang!"), count_words("私は学生です"), count_words("ฉันไปโรงเรียน")
    (5, 3, 4)
    """
    syllables, signs = len(_SYLLABIC.findall(line)), len(_SOUTH_EAST_ASIAN.findall(line))
    spaced = _SOUTH_EAST_ASIAN.sub(" ", _SYLLABIC.sub(" ", line)) if syllables or signs else line
    words = sum(any(map(str.isalnum, token)) for token in spaced.split())
    return words + math.ceil(syllables / 2) + math.ceil(signs / 4)


def latin_words(line: str) -> list[str]:
    """The words of more than three Latin letters, all of them small: no names, abbreviations, units or addresses.

    >>> latin_words("Установите numpy и word2vec из PyPI: это просто library.")
    ['numpy', 'library']
    """
    return [word for word in _LATIN_WORD.findall(line) if len(word) >= SHORTEST]


def has_english_word(line: str, english: Collection[str] | None = None) -> bool:
    """Whether a line of a language in another script has an English word.

    The benchmark looks the words up in a list of English ones; without a list every ``latin_words`` of a to z is one.
    """
    return any(word in english if english is not None else word.isascii() for word in latin_words(line))


def has_foreign_word(line: str, own: Collection[str]) -> bool:
    """Whether a line has a word in another alphabet than its ``own``: ``latin_words``, or what is no capitalised name.

    A single letter is a word only in scripts without case (Han), since Greek and Cyrillic ones are symbols.
    """
    if "LATIN" not in own and latin_words(line):
        return True
    return any(
        alphabet not in own and word == word.lower() and (len(word) > 1 or word == word.upper())
        for alphabet, word in _words_by_alphabet(line)
        if alphabet != "LATIN"
    )


def _words_by_alphabet(line: str) -> Iterator[tuple[str, str]]:
    """The stretches of letters and their marks in one alphabet that is known."""
    for alphabet, letters in groupby(line, lambda c: alphabet_of(c) if unicodedata.category(c)[0] in "LM" else ""):
        if alphabet in ALPHABETS:
            yield alphabet, "".join(letters)
