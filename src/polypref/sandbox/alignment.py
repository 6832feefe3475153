"""Word embeddings that start out alike across languages.

A model of a few minutes has not read enough for its languages to meet. What pretraining on many languages brings is
put in by hand: a word's first embedding is √a·u + √(1 − a)·v, with u drawn once for the word and its translations,
v for the word alone, and a the share of the variance that they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from polypref.sandbox.lexicon import CONNECTIVES, INSTRUCTIONS, LANGUAGES, NUMBERS, REFUSALS, THINGS
from polypref.sandbox.world import TASKS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

__all__ = ["align", "concepts"]


def concepts(tasks: Sequence[str] = TASKS) -> list[tuple[str, ...]]:
    """Words that mean the same, one a language: numbers, things, connectives, the ends of the tasks' instructions.

    Refusals are no translations word by word; their words are taken by place.
    """
    columns = [words for table in (NUMBERS, THINGS) for words in zip(*table.values(), strict=True)]
    columns.append(tuple(CONNECTIVES[lang].strip() for lang in LANGUAGES))
    for texts in (INSTRUCTIONS[task] for task in INSTRUCTIONS if task in tasks):
        words = [texts[lang].replace("{}", "").split() for lang in LANGUAGES]
        columns += [tuple(own[place] for own in words) for place in (0, -1)]
    refusals = zip_longest(*(REFUSALS[lang].split() for lang in LANGUAGES))
    return columns + [tuple(word for word in words if word) for words in refusals]


def align(
    embedding: Tensor,
    tokenizer: PreTrainedTokenizerFast,
    share: float,
    std: float,
    *,
    tasks: Sequence[str] = TASKS,
) -> None:
    """Mix what a concept's words have in common into the rows of [vocabulary, width] that are one whole word each.

    `std` is of the embedding's entries, which the mixing keeps. A word of two concepts belongs to the first. Draws
    from torch's global random state.
    """
    import torch

    seen: set[int] = set()
    for words in concepts(tasks):
        common = torch.randn(embedding.shape[1]) * std
        for text in (spaced for word in words for spaced in (word, f" {word}")):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] not in seen:
                seen.add(ids[0])
                with torch.no_grad():
                    embedding[ids[0]] = share**0.5 * common + (1 - share) ** 0.5 * embedding[ids[0]]
