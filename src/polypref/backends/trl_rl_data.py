"""Prompts as token ids, and the order in which a training answers them.

The order is laid out before training: every pass over the prompts is shuffled by (seed, pass), and updates run on over
the end of a pass, so none is left out. What is answered at a place of it is known without any state: a training that
was interrupted, or is shared by more processes, goes on with the same prompts and the same noise.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from polypref.backends.rl_training import RLOptions, RLPrompt
from polypref.backends.templates import PromptTemplate
from polypref.errors import InputError


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt with its token ids."""

    prompt: RLPrompt
    ids: list[int]


@dataclass(slots=True)
class AskedPrompts:
    """Prompts as token ids, and what was left out and why."""

    rows: list[Asked] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)

    @property
    def longest(self) -> int:
        return max((len(row.ids) for row in self.rows), default=0)

    @property
    def digest(self) -> str:
        """A hash of the rows: a resume state belongs to these and no others."""
        told = [[row.prompt.id, row.prompt.lang, row.ids, repr(row.prompt.gold)] for row in self.rows]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def tokenise(
    prompts: Sequence[RLPrompt], template: PromptTemplate, options: RLOptions, window: int | None
) -> AskedPrompts:
    """The prompts of at most ``max_prompt_length`` tokens that leave room for an answer in the model's ``window``."""
    found = AskedPrompts()
    longest = options.max_prompt_length
    if window is not None:
        longest = min(longest, window - options.max_tokens)
    for prompt in prompts:
        ids = template.prompt_ids(prompt.messages)
        if len(ids) > longest:
            found.dropped["prompt_too_long"] += 1
            continue
        found.rows.append(Asked(prompt, ids))
        found.languages[prompt.lang] += 1
    return found


def tokenise_all(
    prompts: Sequence[RLPrompt],
    validation: Sequence[RLPrompt],
    template: PromptTemplate,
    options: RLOptions,
    window: int | None,
) -> tuple[AskedPrompts, AskedPrompts]:
    """The prompts to train on and those held out.

    Raises:
        InputError: none is left to train on.
    """
    training, held = (tokenise(rows, template, options, window) for rows in (prompts, validation))
    if not training.rows:
        why = ", ".join(f"{count} {reason}" for reason, count in training.dropped.items()) or "none was given"
        raise InputError(
            f"no prompt is left to train on: {why}; raise train.max_prompt_length ({options.max_prompt_length}) or "
            f"lower train.max_tokens ({options.max_tokens})"
        )
    return training, held


def steps_of(options: RLOptions, prompts: int) -> int:
    """The optimiser steps of a training: μ for every ``batch_size`` prompts, the last of them filled up."""
    return options.max_steps or math.ceil(options.epochs * prompts / options.batch_size) * options.iterations


def order_of(prompts: int, options: RLOptions) -> list[int]:
    """Which prompt stands at each place of the training: ``batch_size`` places for every update."""
    places = steps_of(options, prompts) // options.iterations * options.batch_size
    order: list[int] = []
    while len(order) < places:
        some = list(range(prompts))
        random.Random(f"{options.seed}/{len(order) // prompts}").shuffle(some)
        order += some
    return order[:places]
