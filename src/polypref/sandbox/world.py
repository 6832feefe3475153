"""The sandbox's instructions, their answers and translations, and the flawed data that its first model learns from.

A content is a task and the symbols that it is about: `("sort", ("7", "3", "5"))`. It is the same in every language;
only the words change. Training and test contents are told apart by a hash of the content, so the two never meet,
whatever the seed.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from polypref.sandbox.lexicon import (
    CONNECTIVES,
    INSTRUCTIONS,
    LANGUAGE_NAMES,
    LANGUAGES,
    NUMBERS,
    REFUSALS,
    THINGS,
)

__all__ = [
    "KINDS",
    "LANGUAGES",
    "SANDBOX_PREFIX",
    "SUMMARY",
    "TASKS",
    "TRANSLATE",
    "answer",
    "prompts",
    "refusal",
    "sft_rows",
    "translation",
]

SANDBOX_PREFIX: Final = "Answer in {language}. "
"""The language prefix that the sandbox's models know; it takes the place of the long default one."""

TASKS: Final = ("sort", "descend", "repeat", "reverse")
SUMMARY: Final = "summary"
"""A task that is asked only where it is named: which numbers a text holds, each once and in ascending order."""

KINDS: Final = {"sort": "numbers", "descend": "numbers", "repeat": "words", "reverse": "words", SUMMARY: "numbers"}
"""Each task's kind of content: digits, or words, which every language has of its own."""

TRANSLATE: Final = "Translate {source} into {target} <sentence>{text}</sentence>"
"""How the sandbox's models are asked for a translation; `TRANSLATED` is how they give it."""

TRANSLATED: Final = "<translated>{text}</translated>"

SFT_SHARES: Final = {"en": 0.70, "es": 0.12, "de": 0.08, "fr": 0.06, "sw": 0.04}
"""Share of each answer language in the SFT mix, so steep that what is seen less is answered worse."""

TRANSLATION_SHARE: Final = 0.2
"""Share of the SFT rows that are translations between English and another language, as many each way."""

PREFIXED_SHARE: Final = 0.5
"""Share of the non-English answers whose instruction is English, with the language prefix before it."""

ANSWER_SHARES: Final = {"right": 0.50, "wrong": 0.24, "refusal": 0.18, "language": 0.08}
"""What an SFT row shows as the answer, in equal shares in every language: half of them leave something to align."""

_TEST_SHARE: Final = 0.2
_REFUSED_SHARE: Final = 0.1  # of the translations
_SYMBOLS: Final = ("0123456789", THINGS["en"])
_TEXT_LENGTH: Final = 4
_SUMMARY_LENGTHS: Final = (2, 3)

Content = tuple[str, tuple[str, ...]]


def prompts(split: str, n: int, seed: int, *, tasks: Sequence[str] = TASKS) -> list[dict[str, Any]]:
    """The first `n` examples of a split, in the wire format, `tasks` taking turns.

    A seed fixes one order of all that there is, so a smaller `n` is the beginning of a larger one. An example's id
    names its content: equal ids are equal prompts under every seed, and no id is in both splits.

    Raises ValueError for an unknown split or for more examples than the world has.
    """
    rng = random.Random(f"prompts/{split}/{seed}")
    queues = [list(_contents(split, task)) for task in tasks]
    for queue in queues:
        rng.shuffle(queue)
    ordered = [content for turn in itertools.zip_longest(*queues) for content in turn if content is not None]
    if n > len(ordered):
        raise ValueError(f"the sandbox has {len(ordered)} {split} prompts, {n} were asked for")
    return [_example(content) for content in ordered[:n]]


def answer(example: Mapping[str, Any], lang: str) -> str:
    """The right answer to an example, in a language."""
    return _say(tuple(example["gold"].split()), lang)


def refusal(lang: str) -> str:
    """The one way a language has of not answering."""
    return REFUSALS[lang]


def translation(text: str, source: str, target: str) -> str:
    """The one right translation of an answer or a refusal.

    Raises ValueError for a text that is neither, in the source language.
    """
    if text == refusal(source):
        return refusal(target)
    symbols = {word: symbol for symbol, word in _words(source).items()}
    said = text.split(CONNECTIVES[source])
    if unknown := [word for word in said if word not in symbols]:
        raise ValueError(f"{text!r} is no answer in {source}: {unknown[0]!r} is none of its words")
    return _say(tuple(symbols[word] for word in said), target)


def sft_rows(n: int, seed: int, *, tasks: Sequence[str] = TASKS) -> list[dict[str, str]]:
    """`n` rows of supervised data of mixed worth: prompt, completion, language asked for, task, and kind of answer.

    Languages come in unequal shares (`SFT_SHARES`); half of the non-English answers are asked in English under
    `SANDBOX_PREFIX`; answers are right, wrong, refused or in another language by `ANSWER_SHARES`. Translations
    (`TRANSLATION_SHARE`, task `translate`) are always right.
    """
    rng = random.Random(f"sft/{seed}")
    contents = {task: _contents("train", task) for task in tasks}
    langs = rng.choices(list(SFT_SHARES), list(SFT_SHARES.values()), k=n)
    kinds = rng.choices(list(ANSWER_SHARES), list(ANSWER_SHARES.values()), k=n)
    drawn = rng.choices(tasks, k=n)
    rows = []
    for lang, kind, task in zip(langs, kinds, drawn, strict=True):
        if rng.random() < TRANSLATION_SHARE:
            rows.append(_translation_row(rng))
            continue
        content = rng.choice(contents[task])
        if lang != "en" and rng.random() < PREFIXED_SHARE:
            prompt = SANDBOX_PREFIX.format(language=LANGUAGE_NAMES[lang]) + _ask(content, "en")
        else:
            prompt = _ask(content, lang)
        completion = _flawed(content, lang, kind, rng)
        rows.append({"prompt": prompt, "completion": completion, "language": lang, "task": task, "answer": kind})
    return rows


def _translation_row(rng: random.Random) -> dict[str, str]:
    """Any sentence that an answer may be, right or wrong, or a refusal: translating asks for no solving."""
    shares = {lang: share for lang, share in SFT_SHARES.items() if lang != "en"}
    [other] = rng.choices(list(shares), list(shares.values()))
    source, target = ("en", other) if rng.random() < 0.5 else (other, "en")
    refused = rng.random() < _REFUSED_SHARE
    text = refusal(source) if refused else _say(tuple(rng.choices(rng.choice(_SYMBOLS), k=3)), source)
    return {
        "prompt": TRANSLATE.format(source=LANGUAGE_NAMES[source], target=LANGUAGE_NAMES[target], text=text),
        "completion": TRANSLATED.format(text=translation(text, source, target)),
        "language": target,
        "task": "translate",
        "answer": "right",
    }


def _example(content: Content) -> dict[str, Any]:
    task, items = content
    return {
        "id": f"{task}-{'-'.join(items)}",
        "prompts": {lang: _ask(content, lang) for lang in LANGUAGES},
        "category": task,
        "gold": " ".join(_solve(content)),
        "candidates": [],
        "pairs": [],
    }


@cache
def _contents(split: str, task: str) -> tuple[Content, ...]:
    """All contents of a task that belong to a split, in a fixed order."""
    if split not in ("train", "test"):
        raise ValueError(f"a split is 'train' or 'test', not {split!r}")
    return tuple(c for c in _every(task) if (_hash(c) < _TEST_SHARE) == (split == "test"))


def _hash(content: tuple[object, ...]) -> float:
    digest = hashlib.sha256(repr(content).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _every(task: str) -> Iterator[Content]:
    if task == SUMMARY:
        return ((task, text) for text in _texts())
    symbols = "0123456789" if KINDS[task] == "numbers" else THINGS["en"]
    return ((task, items) for items in itertools.permutations(symbols, 3))


def _texts() -> Iterator[tuple[str, ...]]:
    """Texts to summarise, as many of each length of the summary: all of the fewest, and a fixed draw of the others."""
    by_length: dict[int, list[tuple[str, ...]]] = {length: [] for length in _SUMMARY_LENGTHS}
    for text in itertools.product("0123456789", repeat=_TEXT_LENGTH):
        if (length := len(set(text))) in by_length:
            by_length[length].append(text)
    fewest = min(map(len, by_length.values()))
    for texts in by_length.values():
        yield from random.Random(SUMMARY).sample(texts, fewest)


def _solve(content: Content) -> tuple[str, ...]:
    """The right answer as language-neutral symbols: digits, or English names of things."""
    task, items = content
    match task:
        case "sort":
            return tuple(sorted(items))
        case "descend":
            return tuple(sorted(items, reverse=True))
        case "reverse":
            return items[::-1]
        case "summary":
            return tuple(sorted(set(items)))
    return items


def _mistakes(content: Content) -> list[tuple[str, ...]]:
    """The wrong answers that are near: two neighbours of the right one swapped; of a summary also one number said
    twice, or another in the place of one.

    They use the words of the right answer. Were they other words, their drift in training would drown the signal.
    """
    right = _solve(content)
    swapped = [(*right[:i], right[i + 1], right[i], *right[i + 2 :]) for i in range(len(right) - 1)]
    if content[0] != SUMMARY:
        return swapped
    repeated = [(*right[:i], right[i], *right[i:]) for i in range(len(right))]
    others = [symbol for symbol in "0123456789" if symbol not in right]
    other = others[int(_hash((*content, "other")) * len(others))]
    return [*swapped, *repeated, *(tuple(sorted((*right[:i], other, *right[i + 1 :]))) for i in range(len(right)))]


def _flawed(content: Content, lang: str, kind: str, rng: random.Random) -> str:
    match kind:
        case "right":
            return _say(_solve(content), lang)
        case "wrong":
            return _say(rng.choice(_mistakes(content)), lang)
        case "refusal":
            return refusal(lang)
    return _say(_solve(content), rng.choice([other for other in LANGUAGES if other != lang]))


def _ask(content: Content, lang: str) -> str:
    task, items = content
    words = items if KINDS[task] == "numbers" else tuple(_word(item, lang) for item in items)
    return INSTRUCTIONS[task][lang].format(" ".join(words))


def _say(symbols: tuple[str, ...], lang: str) -> str:
    return CONNECTIVES[lang].join(_word(symbol, lang) for symbol in symbols)


def _word(symbol: str, lang: str) -> str:
    return _words(lang)[symbol]


@cache
def _words(lang: str) -> dict[str, str]:
    """What a language calls each symbol."""
    words = {str(number): word for number, word in enumerate(NUMBERS[lang])}
    words.update(zip(THINGS["en"], THINGS[lang], strict=True))
    return words
