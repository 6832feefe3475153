"""What of a text tells its language: its prose without code, formulas and links, its words, its letters."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Final

from polypref import languages as names

_NOT_RUNNING_TEXT = re.compile(
    r"```.*?(?:```|\Z)"  # fenced code
    r"|`[^`\n]*`"
    r"|\$\$.*?\$\$|\\\(.*?\\\)|\\\[.*?\\\]"  # formulas
    r"|<[^<>\n]{1,200}>"
    r"|\b(?:https?://|www\.)\S+|\S+@\S+\.\w+"
    r"|(?<!\w)[#@]\w+"
    r"|^[^\n]*(?:[{}\\=]|;[ \t]*$|\w\([^)\n]*\)[:;]?[ \t]*$)[^\n]*$",  # a line of code outside a fence
    re.DOTALL | re.MULTILINE,
)

MANY_LINES: Final = ("```", "$$", "\\(", "\\[")
"""What opens code or a formula that may go over lines: without them, prose is the prose of each line."""

SYLLABIC: Final = "\u3040-\u30ff\u3400-\u9fff"
"""Kana and Han."""
SOUTH_EAST_ASIAN: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Thai, Lao, Burmese and Khmer: like Kana and Han, scripts without spaces between words."""
_UNSPACED = SOUTH_EAST_ASIAN + SYLLABIC
_UNSPACED_BORDER = re.compile(rf"(?<=[{_UNSPACED}])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[{_UNSPACED}])")
"""Where a script without spaces between words meets a foreign word."""

_SCRIPTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Arab": ("ARABIC",), "Armn": ("ARMENIAN",), "Beng": ("BENGALI",), "Cher": ("CHEROKEE",), "Cyrl": ("CYRILLIC",),
        "Deva": ("DEVANAGARI",), "Ethi": ("ETHIOPIC",), "Geor": ("GEORGIAN",), "Grek": ("GREEK",),
        "Gujr": ("GUJARATI",), "Guru": ("GURMUKHI",), "Hans": ("CJK",), "Hant": ("CJK",), "Hebr": ("HEBREW",),
        "Jpan": ("CJK", "HIRAGANA", "KATAKANA"), "Khmr": ("KHMER",), "Knda": ("KANNADA",), "Kore": ("HANGUL", "CJK"),
        "Laoo": ("LAO",), "Latn": ("LATIN",), "Mlym": ("MALAYALAM",), "Mong": ("MONGOLIAN",), "Mymr": ("MYANMAR",),
        "Nkoo": ("NKO",), "Olck": ("OL",), "Orya": ("ORIYA",), "Sinh": ("SINHALA",), "Syrc": ("SYRIAC",),
        "Taml": ("TAMIL",), "Telu": ("TELUGU",), "Tfng": ("TIFINAGH",), "Thaa": ("THAANA",), "Thai": ("THAI",),
        "Tibt": ("TIBETAN",), "Vaii": ("VAI",), "Yiii": ("YI",),
    }
)  # fmt: skip
"""ISO 15924 script: how Unicode begins the names of its letters."""

ALPHABETS: Final = frozenset(alphabet for alphabets in _SCRIPTS.values() for alphabet in alphabets)

_LETTERS_FOR_SCRIPT: Final = 400

_PUNCTUATION: Final = string.punctuation + "«»„“”‚‘’‹›¿¡…–—·•、。，！？：；「」『』（）।॥،؛؟"


def prose(text: str) -> str:
    """The text with a space in the stead of code, formulas, links and markup."""
    return _NOT_RUNNING_TEXT.sub(" ", text)


def running_words(text: str) -> list[str]:
    """The words of a text that tell its language: no code, formulas, links, markup, numbers or capitalised words.

    >>> running_words("Paris ist die Hauptstadt von Frankreich, siehe https://example.org.")
    ['ist', 'die', 'von', 'siehe']
    """
    words = (token.strip(_PUNCTUATION) for token in _UNSPACED_BORDER.sub(" ", prose(text)).split())
    return [w for w in words if w and w[0].isalpha() and w == w.lower() and not any(map(str.isdigit, w))]


def alphabets(tags: Iterable[str]) -> frozenset[str]:
    """What the languages are written in, as Unicode names it: ``ja`` gives CJK, HIRAGANA and KATAKANA."""
    return frozenset(alphabet for tag in tags for alphabet in _SCRIPTS.get(names.script(tag), ()))


def script_of(alphabet: str) -> str:
    """The first script that is written in an alphabet; ``Zyyy`` where it is none that is known."""
    return next((script for script, known in _SCRIPTS.items() if alphabet in known), "Zyyy")


@lru_cache(maxsize=20_000)
def alphabet_of(letter: str) -> str:
    """The alphabet of a letter or mark: the first word of its Unicode name."""
    return unicodedata.name(letter, "").partition(" ")[0]


@cache
def beyond(alphabet: str) -> re.Pattern[str]:
    """What finds a letter of another alphabet (of the basic plane: letters beyond it are of another)."""
    own = "".join(letter for letter in map(chr, range(0x10000)) if letter.isalpha() and _begins(letter, alphabet))
    return re.compile(f"(?![{own}])[^\\W\\d_]")


def _begins(letter: str, alphabet: str) -> bool:
    return unicodedata.name(letter, "").partition(" ")[0] == alphabet


def main_alphabet(words: Sequence[str]) -> tuple[str | None, float]:
    """The alphabet of most letters, and its share of them."""
    letters = islice((letter for word in words for letter in word if letter.isalpha()), _LETTERS_FOR_SCRIPT)
    counts = Counter(map(alphabet_of, letters))
    if not counts:
        return None, 0.0
    alphabet, count = counts.most_common(1)[0]
    return alphabet, count / counts.total()
