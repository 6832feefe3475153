"""Preference data of the sandbox: two answers a content and language, and which of them an annotator prefers.

One of the two is right. The other is flawed, in the same way in every language, as in a preference set that was
translated: most flaws are near mistakes, made of the right answer's own words, so neither length nor words alone tell
the two apart. The annotator is the oracle, wrong at a known rate.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from polypref.sandbox.world import LANGUAGES, answer, prompts, refusal

__all__ = ["FLAW_SHARES", "NOISE", "TASKS", "preferences"]

TASKS: Final = ("sort", "descend")
"""What is asked. A reward model learns in a minute what stands in order, but not what stands in the prompt's order."""

FLAW_SHARES: Final = {"wrong": 0.90, "refusal": 0.05, "language": 0.05}
"""What the flawed answer of a content is: two neighbours swapped, a refusal, or right in another language."""

NOISE: Final = {"train": 0.1, "test": 0.0}
"""The annotator's error rate where none is given: those who label training data err, the test set is judged exactly."""


def preferences(
    split: str, n: int, seed: int, *, noise: float | None = None, langs: Sequence[str] = LANGUAGES
) -> list[dict[str, Any]]:
    """The first `n` examples of a split (of `TASKS`), each with two answers and one pair in every language.

    The annotator prefers the flawed answer with probability `noise`, drawn apart for each content and language. What an
    example holds depends on seed, content and language alone: another `n` or other `langs` change none of it, and the
    errors under a lower `noise` are among those under a higher one.

    Raises ValueError for an unknown split or language, a `noise` outside 0 to 1, or more examples than there are.
    """
    if unknown := [lang for lang in langs if lang not in LANGUAGES]:
        raise ValueError(f"the sandbox does not speak {unknown[0]!r}; it speaks {', '.join(LANGUAGES)}")
    examples = [e for e in prompts(split, 2 * n, seed) if e["category"] in TASKS][:n]  # tasks take turns
    if len(examples) < n:
        raise ValueError(f"the sandbox has {len(examples)} {split} preferences, {n} were asked for")
    error_rate = NOISE[split] if noise is None else noise
    if not 0 <= error_rate <= 1:
        raise ValueError(f"noise is {error_rate}; an error rate lies between 0 and 1")
    return [_annotated(example, seed, error_rate, langs) for example in examples]


def _annotated(example: dict[str, Any], seed: int, noise: float, langs: Sequence[str]) -> dict[str, Any]:
    rng = random.Random(f"preferences/{seed}/{example['id']}")
    [kind] = rng.choices(list(FLAW_SHARES), list(FLAW_SHARES.values()))
    mistaken = _mistake(example, rng)
    candidates, pairs = [], []
    for lang in langs:
        own = random.Random(f"preferences/{seed}/{example['id']}/{lang}")
        errs = own.random() < noise
        right_first = own.random() < 0.5
        texts = [answer(example, lang), _flawed(example, lang, kind, mistaken, own)]
        ids = [f"{lang}/{place}" for place in (0, 1)]
        for name, text in zip(ids, texts if right_first else reversed(texts), strict=True):
            candidates.append({"id": name, "lang": lang, "text": text, "origin": "reference"})
        chosen, rejected = ids if right_first != errs else reversed(ids)
        pairs.append({"lang": lang, "chosen": chosen, "rejected": rejected, "rule": "given"})
    asked = {lang: example["prompts"][lang] for lang in langs}
    return {**example, "prompts": asked, "candidates": candidates, "pairs": pairs}


def _mistake(example: Mapping[str, Any], rng: random.Random) -> str:
    """The symbols of the right answer, two neighbours swapped."""
    symbols = example["gold"].split()
    at = rng.randrange(len(symbols) - 1)
    symbols[at : at + 2] = reversed(symbols[at : at + 2])
    return " ".join(symbols)


def _flawed(example: Mapping[str, Any], lang: str, kind: str, mistaken: str, rng: random.Random) -> str:
    match kind:
        case "refusal":
            return refusal(lang)
        case "language":
            return answer(example, rng.choice([other for other in LANGUAGES if other != lang]))
    return answer({"gold": mistaken}, lang)
