"""Summaries of the sandbox: texts of numbers with repeats, and labelled answers that summarise them well or badly.

A text says two or three numbers in any order and some of them again (``7 3 7 5``); its summary names each once, in
ascending order (``three then five then seven``). An answer is labelled by objective, each for itself:
``faithful`` where it names the text's numbers, all of them and no other, ``concise`` where it names none twice, and
``right`` where the oracle says so, which asks for both and for the order.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

from polypref.sandbox.lexicon import NUMBERS, REFUSALS
from polypref.sandbox.oracle import language_of, verdict
from polypref.sandbox.preferences import NOISE
from polypref.sandbox.world import LANGUAGES, SUMMARY, answer, prompts

__all__ = ["OBJECTIVES", "labels", "summaries"]

OBJECTIVES: Final = ("right", "faithful", "concise")

_UNFAITHFUL: Final = ("replaced", "replaced", "missing", "added")
"""What is wrong with the numbers of an unfaithful answer: as often one more as one less, so length tells nothing."""

_REFUSED_SHARE: Final = 0.2
"""Share of the contents whose answer that is neither is a refusal, and not unfaithful with a number said twice."""


def summaries(
    split: str, n: int, seed: int, *, noise: float | None = None, langs: Sequence[str] = LANGUAGES
) -> list[dict[str, Any]]:
    """The first `n` texts of a split in the wire format, each with four labelled answers in every language.

    Of the four one is faithful and concise, one only the first, one only the second and one neither; in two of them
    the numbers are in ascending order. Answers are the same in every language, in an order of their own. A label is an
    object of the `OBJECTIVES`, each false or true with probability `noise` where it should be the other; errors under a
    lower `noise` are among those under a higher one. What an example holds depends on seed, content and language alone.

    Raises ValueError for an unknown split or language, a `noise` outside 0 to 1, or more examples than there are.
    """
    if unknown := [lang for lang in langs if lang not in LANGUAGES]:
        raise ValueError(f"the sandbox does not speak {unknown[0]!r}; it speaks {', '.join(LANGUAGES)}")
    examples = prompts(split, n, seed, tasks=(SUMMARY,))
    error_rate = NOISE[split] if noise is None else noise
    if not 0 <= error_rate <= 1:
        raise ValueError(f"noise is {error_rate}; an error rate lies between 0 and 1")
    return [_labelled(example, seed, error_rate, langs) for example in examples]


def labels(example: Mapping[str, Any], lang: str, text: str) -> dict[str, bool]:
    """Objective → whether an answer to an example meets it. Of the example only `gold` is read; `text` may be anything.

    Only numbers in the words of `lang` count, and none in an answer that is in another language as a whole. An answer
    without any is neither faithful nor concise.
    """
    spoken = language_of(text) in (lang, None)
    numbers = {_folded(word): str(number) for number, word in enumerate(NUMBERS[lang]) if spoken}
    said = [numbers[word] for word in re.findall(r"\w+", _folded(text)) if word in numbers]
    return {
        "right": verdict(example, lang, text) == "right",
        "faithful": set(said) == set(example["gold"].split()),
        "concise": bool(said) and len(set(said)) == len(said),
    }


def _labelled(example: dict[str, Any], seed: int, noise: float, langs: Sequence[str]) -> dict[str, Any]:
    rng = random.Random(f"summaries/{seed}/{example['id']}")
    answers = _answers(example["gold"].split(), rng)
    refused = rng.random() < _REFUSED_SHARE
    candidates = []
    for lang in langs:
        own = random.Random(f"summaries/{seed}/{example['id']}/{lang}")
        texts = [answer({"gold": " ".join(symbols)}, lang) for symbols in answers]
        if refused:
            texts[-1] = REFUSALS[lang]
        for place, text in enumerate(own.sample(texts, len(texts))):
            told = {name: met != (own.random() < noise) for name, met in labels(example, lang, text).items()}
            candidates.append(
                {"id": f"{lang}/{place}", "lang": lang, "text": text, "origin": "reference", "label": told}
            )
    asked = {lang: example["prompts"][lang] for lang in langs}
    return {**example, "prompts": asked, "candidates": candidates}


def _answers(right: Sequence[str], rng: random.Random) -> list[list[str]]:
    """One answer of each kind, the one that is neither last. Which two are in order is drawn."""
    kinds = [list(right), _unfaithful(right, rng)]
    kinds += [_repeated(symbols, rng) for symbols in (right, _unfaithful(right, rng))]
    ordered = rng.sample(range(4), 2)
    return [sorted(kind) if place in ordered else rng.sample(kind, len(kind)) for place, kind in enumerate(kinds)]


def _unfaithful(right: Sequence[str], rng: random.Random) -> list[str]:
    others = [symbol for symbol in "0123456789" if symbol not in right]
    wrong = list(right)
    place = rng.randrange(len(wrong))
    match rng.choice(_UNFAITHFUL):
        case "replaced":
            wrong[place] = rng.choice(others)
        case "missing":
            del wrong[place]
        case "added":
            wrong.append(rng.choice(others))
    return wrong


def _repeated(symbols: Sequence[str], rng: random.Random) -> list[str]:
    return [*symbols, rng.choice(list(symbols))]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
