"""Language identification by lingua, among the run's languages, the pivot and their near neighbours.

An identifier that must choose among a run's languages alone calls Italian Spanish; so each language brings the ones
that it is mistaken for. Only running words count: code, formulas, links, markup and capitalised words (names, titles)
are the same in every language. What is left undecided, too short or too close, is undetermined: ``tag`` is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from polypref.backends.base import Identified
from polypref.backends.running_text import (
    MANY_LINES,
    alphabet_of,
    alphabets,
    beyond,
    main_alphabet,
    running_words,
    script_of,
)

if TYPE_CHECKING:
    from lingua import ConfidenceValue, LanguageDetector

NEIGHBOURS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "af": "nl de", "ar": "fa ur", "az": "tr", "be": "ru uk", "bg": "mk ru sr", "bs": "sl", "ca": "es fr it pt",
        "cs": "sk pl", "cy": "ga", "da": "nb sv", "de": "nl da", "en": "nl de fr", "eo": "es it", "es": "pt it ca fr",
        "et": "fi", "eu": "es", "fa": "ar ur", "fi": "et", "fr": "it es ca", "ga": "cy", "hi": "mr", "hr": "sl",
        "hu": "fi", "id": "tl", "is": "da nb", "it": "es fr ro pt", "ja": "zh", "ko": "ja zh", "kk": "mn ru",
        "la": "it es ro", "lg": "sw sn", "lt": "lv", "lv": "lt", "mk": "bg sr", "mn": "kk ru", "mr": "hi", "ms": "tl",
        "nb": "da sv", "nl": "de af", "nn": "da sv", "pl": "cs sk", "pt": "es it ca", "ro": "it fr", "ru": "uk be bg",
        "sk": "cs pl sl", "sl": "hr sk", "sn": "sw zu", "so": "sw", "sq": "it", "sr": "mk bg ru", "st": "tn",
        "sv": "da nb", "sw": "zu sn so", "tl": "id", "tn": "st", "tr": "az", "ts": "zu", "uk": "ru be", "ur": "fa ar",
        "xh": "st sn", "yo": "sn", "zh": "ja ko", "zu": "st sn",
    }
)  # fmt: skip
"""For each language (ISO 639-1) the ones that it is mistaken for; a language in a script of its own has none."""

KIN: Final = ("bs hr sr", "nb nn", "id ms", "xh zu")
"""Standard languages too close to tell apart by letters; one that the run does not hold stands for one that it does."""

MACROLANGUAGES: Final[Mapping[str, str]] = MappingProxyType({"no": "nb", "fil": "tl", "sh": "hr", "arb": "ar"})

_REMEMBERED: Final = 500_000
"""Texts whose language is remembered, by hash: some 100 bytes each."""


class LinguaIdentifier:
    """Tells languages apart with lingua, and those that it does not know by their script alone (``by_script``).

    A text in a script that none of the languages is written in is ``und-`` and that script (``und-Hans``).

    Args:
        languages: the tags of the run, pivot included.
        margin: confidence of the first language minus that of the second, under which a text is undetermined.
        letters: how many letters of running words a text needs to be judged; a letter of a script without case
            (Han, Thai, Bengali) counts threefold, since its words are shorter or its script tells more.
        characters: how much of a text is read.

    The detector is built at the first text; its models take about 20 MB a language.
    """

    def __init__(
        self, languages: Sequence[str], margin: float = 0.5, letters: int = 16, characters: int = 4000
    ) -> None:
        from importlib.metadata import version

        known = _lingua_codes()
        self.languages = tuple(dict.fromkeys(languages))
        self.by_script = frozenset(tag for tag in self.languages if _code(tag) not in known)
        self._run = {_code(tag): _language(tag) for tag in self.languages if _code(tag) in known}
        self._codes = tuple(sorted(_company(self._run) & known))
        self._covered = alphabets(self._codes)
        # Where one language alone is written in an alphabet, its letters say what lingua would.
        owners = Counter(alphabet for code in self._codes for alphabet in alphabets([code]))
        self._alone = {a: tag for code, tag in self._run.items() for a in alphabets([code]) if owners[a] == 1}
        self._margin, self._letters, self._characters = margin, letters, characters
        self._told: dict[int, Identified] = {}
        settings = f"{','.join(self._codes)}|{','.join(sorted(self.by_script))}|{margin}|{letters}|{characters}"
        self.fingerprint = f"lingua-{version('lingua-language-detector')}|1|{settings}"

    @cached_property
    def _detector(self) -> LanguageDetector | None:
        from lingua import IsoCode639_1, LanguageDetectorBuilder

        if len(self._codes) < 2:
            return None
        codes = [getattr(IsoCode639_1, code.upper()) for code in self._codes]
        return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()

    def identify(self, texts: Sequence[str]) -> list[Identified]:
        """The language of each text, in order. A tag is a language alone (``zh``), without script or region.

        What was told once is remembered, since pairing reads every text twice: to fit α, then to pair.
        """
        keys = [hash(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._told}
        fresh = dict(zip(new, self._identify(list(new.values())), strict=True))
        found = [fresh.get(key) or self._told[key] for key in keys]
        if len(self._told) < _REMEMBERED:
            self._told |= fresh
        return found

    def _identify(self, texts: Sequence[str]) -> list[Identified]:
        read = [text[: self._characters] for text in texts]
        found = [self._by_own_script(text) for text in read]
        words = [running_words(text) if told is None else [] for text, told in zip(read, found, strict=True)]
        found = [told or self._by_script(w) for told, w in zip(found, words, strict=True)]
        left = [i for i, judged in enumerate(found) if judged is None]
        if left and self._detector is not None:
            running = [" ".join(words[i]) for i in left]
            for i, values in zip(
                left, self._detector.compute_language_confidence_values_in_parallel(running), strict=True
            ):
                found[i] = self._by_confidence(values)
        return [judged or UNDETERMINED for judged in found]

    def _by_own_script(self, text: str) -> Identified | None:
        """The language of a text in one alphabet, which no other language has; its first lines are enough."""
        alphabet = next((alphabet_of(letter) for letter in text if letter.isalpha()), "")
        tag = self._alone.get(alphabet)
        if tag is None or any(mark in text for mark in MANY_LINES) or beyond(alphabet).search(text):
            return None
        letters = accumulate(_weight(running_words(line)) for line in text.split("\n"))
        return Identified(tag, 1.0, "script") if any(n >= self._letters for n in letters) else UNDETERMINED

    def _by_script(self, words: Sequence[str]) -> Identified | None:
        """What the script or the shortness of a text already settles; None where lingua must tell."""
        if _weight(words) < self._letters:
            return UNDETERMINED
        alphabet, share = main_alphabet(words)
        if alphabet is None or alphabet in self._covered:
            return Identified(self._run[self._codes[0]], share, "script") if len(self._codes) == 1 else None
        if share < (1 + self._margin) / 2:
            return UNDETERMINED
        tags = [tag for tag in self.by_script if alphabet in alphabets([tag])]
        if len(tags) > 1:
            return UNDETERMINED
        script = script_of(alphabet)
        return Identified(_language(tags[0]) if tags else f"und-{script}", share, "script")

    def _by_confidence(self, values: Sequence[ConfidenceValue]) -> Identified:
        ranked = [(value.language.iso_code_639_1.name.lower(), value.value) for value in values]
        (first, confidence), others = ranked[0], ranked[1:]
        # Kin that the run does not hold is no rival: it stands for the language that the run does hold.
        kin = [code for code in (first, *_kin(first)) if code in self._run]
        rivals = [value for code, value in others if code not in _kin(first) or code in kin[1:]]
        # Rounded, since lingua adds up in no fixed order.
        lead = round(confidence - max(rivals, default=0.0), 9)
        decoy = not kin and alphabets([first]) & alphabets(self.by_script)
        if lead < self._margin or decoy:
            return Identified(None, lead, "lingua")
        return Identified(self._run[kin[0]] if kin else first, lead, "lingua")


UNDETERMINED: Final = Identified(None, 0.0, "lingua")


def _weight(words: Sequence[str]) -> int:
    """The letters of words, those of a script without case threefold."""
    return sum(len(word) * (1 if word[0].lower() != word[0].upper() else 3) for word in words)


@cache
def _lingua_codes() -> frozenset[str]:
    from lingua import Language

    return frozenset(language.iso_code_639_1.name.lower() for language in Language.all())


def _language(tag: str) -> str:
    return tag.partition("-")[0]


def _code(tag: str) -> str:
    """The ISO 639-1 code under which lingua may know a tag."""
    return MACROLANGUAGES.get(_language(tag), _language(tag))


def _kin(code: str) -> list[str]:
    return [other for group in KIN if code in group.split() for other in group.split() if other != code]


def _company(codes: Iterable[str]) -> frozenset[str]:
    """The codes with those that they are mistaken for."""
    return frozenset(other for code in codes for other in (code, *_kin(code), *NEIGHBOURS.get(code, "").split()))
