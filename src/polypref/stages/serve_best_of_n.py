"""Best-of-n as it is served: requests in, for each choice the best of n samples of its own out.

The samples are those of ``generate``, the scores those of ``by_scorer``, the picks those of ``best_of_n`` with
``keep: picked``, so what is served is what was measured. The k-th of several choices is the best of the k-th n samples:
choices are independent draws of best-of-n, and the first of four is the one of one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from polypref import languages
from polypref.backends.base import Context, LanguageIdentifier, ModelSpec, Options, Sampling, ScorerSpec, Tag
from polypref.backends.serving_wire import Asked, Choice, LanguageFrom, Refusal, Served
from polypref.errors import ModelError
from polypref.records import Candidate, Example, Message, live
from polypref.stages.best_of_n import BestOfNOptions, best_of_n
from polypref.stages.generate import GenerateOptions, Source, generate
from polypref.stages.pair_filters import STAGE
from polypref.stages.score import ScorerOptions, by_scorer

SCORE = "served"
"""The name of the score that picks."""
LONGEST_REASON = 300

Count = Callable[[Sequence[Message]], int]
"""The tokens of a conversation as a prompt."""


class ServeOptions(Options):
    """Who answers, who judges, and what may be picked."""

    model: ModelSpec = Field(description="draws the samples")
    scorer: ScorerSpec = Field(description="picks among them")
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="soft best-of-n: picks by softmax(score/temperature)"
    )
    languages: tuple[Tag, ...] = Field(
        ("en",), min_length=1, description="of prompts; the first is that of one whose language cannot be told"
    )
    language_check: bool = Field(False, description="pick no answer in another language than the prompt's")
    language_identifier: str | None = Field(None, description="lingua when left out")
    drop_truncated: bool = Field(True, description="pick no answer that was cut at the token limit")
    seed: int = Field(0, ge=0, description="of the samples' noise, beside each request's own")

    @property
    def scoring(self) -> ScorerOptions:
        """The scorer as the stage that scores is told."""
        return ScorerOptions(**dict(self.scorer), name=SCORE)

    def picking(self, n: int, choice: int, *, filtered: bool = True) -> BestOfNOptions:
        """How a choice is picked among its n."""
        return BestOfNOptions(
            score=SCORE,
            n=(n,),
            temperature=self.temperature,
            seed=self.seed + choice,
            keep="picked",
            language_check=self.language_check and filtered,
            language_identifier=self.language_identifier,
            drop_truncated=self.drop_truncated and filtered,
            drop_empty=filtered,
        )


def opened(options: ServeOptions, context: Context) -> str:
    """Open the model and the scorer; gives what they and the options are, as one short hash.

    Raises:
        ModelError: one of them cannot be opened.
    """
    parts = [context.open("generator", options.model), context.open("scorer", options.scoring)]
    names = ("temperature", "language_check", "language_identifier", "drop_truncated", "seed")
    told = [*(part.fingerprint for part in parts), *(getattr(options, name) for name in names)]
    return "polypref-" + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def serve(
    asked: Sequence[Asked], options: ServeOptions, context: Context, count: Count | None = None
) -> list[Served | Refusal]:
    """The answers to requests that came together, in order; one that can have none has a ``Refusal``.

    Where no sample passes the filters, all that did not fail compete, and ``Choice.left`` is 0.

    Args:
        count: counts a prompt's tokens, for ``usage``.

    Raises:
        PolyprefError: what the generator or the scorer raises, which fails them all.
    """
    counted = [_counted(one, count) for one in asked]
    told = _languages(asked, options, context)
    examples = [example_of(one, lang) for one, (lang, _) in zip(asked, told, strict=True)]
    wanted: dict[Sampling, dict[str, Example]] = {}
    for one, example, tokens in zip(asked, examples, counted, strict=True):
        if not isinstance(tokens, Refusal):
            # Requests that are the same to the letter are drawn once.
            wanted.setdefault(one.sampling, {})[example.id] = example
    drawn = {sampling: _drawn(list(some.values()), sampling, options, context) for sampling, some in wanted.items()}
    return [
        tokens
        if isinstance(tokens, Refusal)
        else _served(one, drawn[one.sampling][example.id], source, tokens, options, context)
        for one, example, tokens, (_, source) in zip(asked, examples, counted, told, strict=True)
    ]


def example_of(asked: Asked, lang: str) -> Example:
    """The request as an example without candidates. Its id, which the samples' noise follows, holds the seed."""
    told = json.dumps([asked.seed, lang, list(asked.messages)], ensure_ascii=False)
    return Example(hashlib.sha256(told.encode()).hexdigest()[:24], {lang: list(asked.messages)})


def _counted(asked: Asked, count: Count | None) -> int | Refusal | None:
    """The prompt's tokens, or why the model cannot read it."""
    try:
        return None if count is None else count(asked.messages)
    except ModelError as error:
        return Refusal(400, str(error), "messages")


def _languages(asked: Sequence[Asked], options: ServeOptions, context: Context) -> list[tuple[str, LanguageFrom]]:
    """The language of each prompt, and who says so."""
    told: list[str | None] = [None] * len(asked)
    unknown = [i for i, one in enumerate(asked) if one.lang is None]
    if unknown and len(options.languages) > 1:
        identifier: LanguageIdentifier = context.open("language_identifier", options.language_identifier)
        found = identifier.identify([str(asked[i].messages[-1]["content"]) for i in unknown])
        by_code = {languages.primary(tag): tag for tag in reversed(options.languages)}
        for i, identified in zip(unknown, found, strict=True):
            told[i] = by_code.get(languages.primary(identified.tag or ""))
    out: list[tuple[str, LanguageFrom]] = []
    for one, tag in zip(asked, told, strict=True):
        if one.lang is not None:
            out.append((one.lang, "request"))
        else:
            out.append((tag, "identified") if tag is not None else (options.languages[0], "default"))
    return out


def _drawn(examples: list[Example], sampling: Sampling, options: ServeOptions, context: Context) -> dict[str, Example]:
    """The examples with their samples and scores, by id."""
    drawing = GenerateOptions(
        sources=(Source(role="policy", model=options.model, n=sampling.n),),
        sampling=sampling.model_copy(update={"seed": options.seed}),
        chunk=len(examples),
    )
    return {e.id: e for e in by_scorer(generate(examples, drawing, context), options.scoring, context)}


def _served(
    asked: Asked, drawn: Example, source: LanguageFrom, prompt: int | None, options: ServeOptions, context: Context
) -> Served | Refusal:
    (lang,) = drawn.prompts
    if any(drop.reason == "prompt_too_long" for drop in drawn.dropped):
        return Refusal(
            400,
            f"the prompt leaves no room for {asked.sampling.max_tokens} tokens in the model's context window; "
            "shorten it, or lower max_tokens",
            "messages",
            "context_length_exceeded",
        )
    choices = [_choice(asked, drawn, k, options, context) for k in range(asked.choices)]
    if failed := next((choice for choice in choices if isinstance(choice, Refusal)), None):
        return failed
    tokens = [candidate.tokens for candidate in drawn.candidates if live(candidate)]
    known = [number for number in tokens if number is not None]
    return Served(
        [choice for choice in choices if isinstance(choice, Choice)],
        lang,
        source,
        prompt,
        sum(known) if len(known) == len(tokens) else None,
    )


def _choice(asked: Asked, drawn: Example, k: int, options: ServeOptions, context: Context) -> Choice | Refusal:
    """The best of the k-th n samples."""
    own = drawn.candidates[k * asked.best_of : (k + 1) * asked.best_of]
    if not any(live(candidate) for candidate in own):
        why = "; ".join(sorted({str(candidate.error) for candidate in own}))
        return Refusal(500, f"all samples of choice {k} failed: {why[:LONGEST_REASON]}")
    example = dataclasses.replace(drawn, candidates=own, dropped=[])
    [picked] = best_of_n([example], options.picking(asked.best_of, k), context)
    out = sum(drop.stage == STAGE and drop.candidate is not None for drop in picked.dropped)
    if not picked.candidates:
        [picked] = best_of_n([example], options.picking(asked.best_of, k, filtered=False), context)
    [best] = picked.candidates
    return _told(best, own, asked.best_of - out)


def _told(best: Candidate, own: Sequence[Candidate], left: int) -> Choice:
    extra: dict[str, Any] = best.extra
    return Choice(
        text=best.text,
        finish_reason=best.finish_reason or "stop",
        score=best.scores[SCORE],
        sample=[candidate.id for candidate in own].index(best.id),
        left=left,
        thinking=extra.get("thinking"),
    )
