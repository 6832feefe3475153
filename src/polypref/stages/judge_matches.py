"""Two models' answers before a judge: matches in, one judgment a match out, in order.

Answers with equal text tie, and nobody is asked. An answer that has failed loses to one that has not, and ties with
another that failed. All else is asked in both orders (``backends.base.Comparer``); where no verdict can be had, the
judgment says why. The judge may be a model on a server or in this process, or any scorer: the higher score is better.

On a server as many requests as ``ModelSpec.concurrency`` allows are in flight from the first to the last of a batch,
which is large. With a ``Recall`` (``store.journal.Journal``) every order of a comparison is kept as soon as it is
answered, and a second run asks only for what is missing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import Field

from polypref.backends.base import (
    Comparer,
    Comparison,
    Context,
    Options,
    Recall,
    ScorerSpec,
    Usage,
    Verdict,
    batches,
)
from polypref.records import last_user_text
from polypref.stages.judgments import Judgment, failed_of
from polypref.stages.matches import Match

SERVER_BATCH = 8192
"""Matches that a judge on a server is asked about at once: at the end of a batch its requests run out for a moment."""
BATCH = 256
"""The same of any other judge, which keeps and tells what it has at the end of a batch."""


class JudgeOptions(Options):
    """Who judges, and what it is called."""

    name: str = Field(min_length=1, description="of the judge in judgments and figures")
    judge: ScorerSpec = Field(description="a judge of pairs, or a scorer in its place")


@dataclass(slots=True)
class Spent:
    """What judging has taken so far. A match is two requests, its two orders, and requests that ask the same are one;
    what a scorer takes is not counted.

    ``unasked`` matches needed no judge, ``failed`` ones got no verdict. ``requests`` were answered now, ``recalled``
    ones before. ``usage`` is what the server counted of them, ``seconds`` are those of the clock.
    """

    price: tuple[float, float] | None = None
    matches: int = 0
    unasked: int = 0
    failed: int = 0
    requests: int = 0
    recalled: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        """Of one judge, at the price that either knows."""
        names = [one.name for one in fields(self) if one.name != "price"]
        added: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Spent(other.price or self.price, **added)

    @property
    def cost(self) -> float | None:
        """In the currency of ``ModelSpec.price``; None where there is none."""
        return None if self.price is None else cost(self.usage, self.price)

    def told(self) -> str:
        """In a few words, to stand beside a bar."""
        words = [f"{self.requests:,} requests"]
        if self.recalled:
            words.append(f"{self.recalled:,} recalled")
        if self.usage != Usage():
            words.append(f"{self.usage.asked:,} + {self.usage.answered:,} tokens")
        if self.cost is not None:
            words.append(f"cost {self.cost:.2f}")
        if self.failed:
            words.append(f"{self.failed:,} without a verdict")
        return ", ".join(words)

    def to_json(self) -> dict[str, Any]:
        """For a machine: the figures, ``tokens_asked``, ``tokens_answered`` and ``cost`` among them."""
        names = ("matches", "unasked", "failed", "requests", "recalled")
        counts = {name: getattr(self, name) for name in names}
        tokens = {"tokens_asked": self.usage.asked, "tokens_answered": self.usage.answered}
        return counts | tokens | {"cost": self.cost, "seconds": self.seconds}


def cost(usage: Usage, price: tuple[float, float]) -> float:
    """What tokens cost at a price of a million asked and a million answered."""
    return (usage.asked * price[0] + usage.answered * price[1]) / 1e6


def judge_matches(
    matches: Iterable[Match],
    options: JudgeOptions,
    context: Context,
    recall: Recall | None = None,
    shown: Callable[[Spent], None] = lambda spent: None,
) -> JudgeRun:
    """The judgments of the matches, one each and in their order: iterate over it; ``spent`` is its account meanwhile.

    Args:
        recall: what was answered before, and where answers are kept. A scorer uses none.
        shown: is told of every verdict as it comes, from any thread, one at a time.

    Raises:
        RecipeError: the judge cannot be asked as its spec says.
        ModelError: no server answers, or it would refuse every request.
    """
    return JudgeRun(matches, options, context, recall, shown)


class JudgeRun(Iterator[Judgment]):
    """What ``judge_matches`` gives: an iterator over judgments, with the account of what they took."""

    def __init__(
        self,
        matches: Iterable[Match],
        options: JudgeOptions,
        context: Context,
        recall: Recall | None,
        shown: Callable[[Spent], None],
    ) -> None:
        model = options.judge.model
        self.spent = Spent(None if model is None else model.price)
        self._matches, self._name, self._context, self._shown = matches, options.name, context, shown
        self._total = len(matches) if isinstance(matches, Sized) else None
        self._comparer: Comparer = context.open("comparer", options.judge)
        self._recall = _Counting(recall, self.spent)
        self._size = SERVER_BATCH if model is not None and model.backend == "openai" else BATCH
        self._begun = time.monotonic()
        self._judgments = self._all()

    def __next__(self) -> Judgment:
        return next(self._judgments)

    def _all(self) -> Iterator[Judgment]:
        for batch in batches(named(self._matches), self._size):
            questions = [question(match, name) for match, name in batch]
            asked = [comparison for comparison in questions if comparison is not None]
            self.spent.unasked += len(batch) - len(asked)
            self._count(len(batch) - len(asked))
            verdicts = iter(self._comparer.compare(asked, self._recall, self._heard) if asked else ())
            for (match, _), comparison in zip(batch, questions, strict=True):
                yield judgment(match, self._name, None if comparison is None else next(verdicts))

    def _heard(self, index: int, verdict: Verdict) -> None:
        self.spent.usage += verdict.usage
        self.spent.failed += verdict.preference is None
        self._count(1)

    def _count(self, matches: int) -> None:
        self.spent.matches += matches
        self.spent.seconds = time.monotonic() - self._begun
        self._context.progress(f"judged by {self._name}", self.spent.matches, self._total)
        self._shown(self.spent)


class _Counting:
    """A ``Recall`` that counts; without one behind it, it knows nothing and keeps nothing."""

    def __init__(self, recall: Recall | None, spent: Spent) -> None:
        self._recall, self._spent = recall, spent

    def get(self, key: str) -> Any:
        value = None if self._recall is None else self._recall.get(key)
        self._spent.recalled += value is not None
        return value

    def put(self, key: str, value: Any) -> None:
        if self._recall is not None:
            self._recall.put(key, value)
        self._spent.requests += 1


def named(matches: Iterable[Match]) -> Iterator[tuple[Match, str]]:
    """Each match with the id of its comparison: whose answers, to what, in which language, for the how-manieth time.

    A request's noise comes from its id, so the id is made of the match alone and not of its place.
    """
    times: Counter[tuple[str, ...]] = Counter()
    for match in matches:
        about = match.id, match.language, match.model, match.baseline
        times[about] += 1
        yield match, json.dumps([*about, times[about]], ensure_ascii=False)


def question(match: Match, name: str) -> Comparison | None:
    """What the judge is asked: the model's answer is the first, the baseline's the second. None where it need not be:
    an answer has failed, or both are the same text."""
    if match.model_answer is None or match.baseline_answer is None or match.model_answer == match.baseline_answer:
        return None
    return Comparison(
        name,
        match.language,
        match.messages,
        match.model_answer,
        match.baseline_answer,
        gold=match.gold,
        category=match.category,
    )


def judgment(match: Match, judge: str, verdict: Verdict | None) -> Judgment:
    """The judgment of a match; ``verdict`` is None where nobody was asked. Lengths are in code points."""
    if verdict is None:
        won, lost = match.baseline_answer is None, match.model_answer is None
        verdict = Verdict((won - lost + 1) / 2)
    return Judgment(
        match.id,
        match.language,
        verdict.preference,
        len(match.model_answer or ""),
        len(match.baseline_answer or ""),
        match.difficulty,
        model=match.model,
        baseline=match.baseline,
        judge=judge,
        orders=None if verdict.orders == (None, None) else verdict.orders,
        flipped=verdict.flipped,
        error=verdict.error or ("no verdict" if verdict.preference is None else None),
        category=match.category,
        prompt=last_user_text(match.messages),
        model_answer=match.model_answer,
        baseline_answer=match.baseline_answer,
        said=verdict.said,
        sample=match.sample,
        failed=failed_of(match.model_answer is None, match.baseline_answer is None),
    )
