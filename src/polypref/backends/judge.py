"""Generative judges over any ``Generator``: one that gives an answer a number, one that compares two answers.

What is asked and what is read back are pure functions (``requests`` and ``verdict`` of ``PairJudge``), so that a
comparison can be asked for and kept by itself, order by order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polypref.backends.asking import ask, key_of
from polypref.backends.base import (
    Comparison,
    Completion,
    Each,
    Generator,
    Judged,
    ModelSpec,
    Recall,
    Request,
    Sampling,
    ScorerSpec,
    Usage,
    Verdict,
)
from polypref.backends.judge_prompts import JudgePrompt, judge_prompt
from polypref.backends.judge_readings import Reading, read_preference, read_rating, read_token
from polypref.backends.judging import NumberSettings, PairSettings, settings_of
from polypref.errors import RecipeError

VERSION = 2
"""Raised when the same texts are shown or the same words are read differently; part of every fingerprint."""
_NONE = Usage()


@dataclass(frozen=True, slots=True)
class Rating:
    """What a judge gives an answer: the mean of the numbers that could be read, None where none could.

    ``errors`` says of each of the others why not; ``said`` holds all that the judge said.
    """

    value: float | None
    errors: tuple[str, ...]
    said: tuple[str, ...]
    usage: Usage = _NONE


class NumberJudge:
    """Asks a model for a number on a scale, higher is better. Implements ``backends.base.Scorer``."""

    def __init__(self, generator: Generator, settings: NumberSettings, model: ModelSpec | None = None) -> None:
        """
        Args:
            model: how the generator was opened, for the fingerprint.

        Raises:
            RecipeError: the prompt cannot be asked.
        """
        self._generator, self._settings = generator, settings
        self._prompt = judge_prompt("number", settings.prompt)
        self._sampling = Sampling(n=settings.samples, temperature=settings.temperature, max_tokens=settings.max_tokens)
        told = settings.model_dump(mode="json", exclude={"prompt"})
        self.fingerprint: str = _fingerprint("judge", self._prompt, told, generator, model)

    @classmethod
    def opened(cls, spec: ScorerSpec, open: Any) -> NumberJudge:
        """The judge of a spec; its model may be on a server, in this process or a fake."""
        return cls(open("generator", _model(spec)), settings_of(NumberSettings, spec), spec.model)

    def score(self, answers: Sequence[Judged]) -> list[float | None]:
        """One number on the scale per answer, None where none could be read."""
        return [rating.value for rating in self.rate(answers)]

    def rate(self, answers: Sequence[Judged], recall: Recall | None = None) -> list[Rating]:
        """The same with the judge's words, and with the reasons where there is no number.

        Args:
            recall: what need not be asked again, and where it is kept as soon as it is said.
        """
        ratings: dict[int, Rating] = {}

        def heard(index: int, completions: list[Completion]) -> None:
            ratings[index] = self._rating(completions)

        if answers:
            ask(self._generator, map(self.request, answers), self._sampling, self.fingerprint, recall, heard)
        return [ratings[index] for index in range(len(answers))]

    def request(self, answer: Judged) -> Request:
        """What is asked about an answer."""
        low, high = self._settings.scale
        text = self._prompt.filled(
            answer.messages, answer.lang, {"answer": answer.text}, lowest=f"{low:g}", highest=f"{high:g}"
        )
        return Request(f"{answer.id}/rating", [{"role": "user", "content": text}])

    def _rating(self, completions: Sequence[Completion]) -> Rating:
        readings = [read_rating(said, self._settings.scale) for said in completions]
        numbers = [r.value for r in readings if r.value is not None]
        return Rating(
            value=sum(numbers) / len(numbers) if numbers else None,
            errors=tuple(r.error for r in readings if r.error is not None),
            said=tuple(said.text for said in completions),
            usage=_usage(*completions),
        )


class PairJudge:
    """Asks a model which of two answers is better, once in each order. Implements ``backends.base.Comparer``.

    ``max_tokens`` is the most that it may say of one order. ``read`` counts the orders by how they were read, since the
    judge was made: ``logprobs``, ``words``, or ``nothing`` where there was no verdict.
    """

    def __init__(self, generator: Generator, settings: PairSettings, model: ModelSpec | None = None) -> None:
        """
        Args:
            model: how the generator was opened, for the fingerprint.

        Raises:
            RecipeError: the prompt cannot be asked.
        """
        self._generator, self._settings = generator, settings
        self._prompt, self._by_token = settings.asked, settings.by_token
        self.max_tokens: int = settings.tokens
        self.read: Counter[str] = Counter()
        self._sampling = Sampling(n=1, temperature=settings.temperature, max_tokens=settings.tokens)
        told = {"temperature": settings.temperature, "max_tokens": settings.tokens}
        if self._by_token:
            told |= {"top_logprobs": settings.top_logprobs, "read": settings.read}
        self.fingerprint: str = _fingerprint("pair_judge", self._prompt, told, generator, model)

    @classmethod
    def opened(cls, spec: ScorerSpec, open: Any) -> PairJudge:
        """The judge of a spec; its model may be on a server, in this process or a fake."""
        return cls(open("generator", _model(spec)), settings_of(PairSettings, spec), spec.model)

    def compare(
        self, comparisons: Sequence[Comparison], recall: Recall | None = None, each: Each | None = None
    ) -> list[Verdict]:
        """One verdict per comparison, in order.

        An order is kept in ``recall`` as soon as the judge has spoken, whether a verdict can be read in its words or
        not; an order that failed on its way is not, and is asked again another time.
        """
        asked = (request for comparison in comparisons for request in self.requests(comparison))
        waiting: dict[int, Completion] = {}
        verdicts: dict[int, Verdict] = {}

        def heard(index: int, completions: list[Completion]) -> None:
            other = waiting.pop(index ^ 1, None)  # the two orders of a comparison stand side by side
            if other is None:
                waiting[index] = completions[0]
                return
            orders = (completions[0], other) if index % 2 == 0 else (other, completions[0])
            self.read.update(map(self._way, orders))
            verdicts[index // 2] = verdict = self.verdict(*orders)
            if each is not None:
                each(index // 2, verdict)

        if comparisons:
            ask(self._generator, asked, self._sampling, self.fingerprint, recall, heard)
        return [verdicts[index] for index in range(len(comparisons))]

    def requests(self, comparison: Comparison) -> tuple[Request, Request]:
        """The two questions of a comparison: as it stands, and with the answers swapped. Their ids are made of the
        comparison's alone."""
        orders = ((comparison.first, comparison.second), (comparison.second, comparison.first))
        top = self._settings.top_logprobs if self._by_token else 0
        asked = [
            Request(
                f"{comparison.id}/order-{number}",
                [{"role": "user", "content": self._text(comparison, *order)}],
                top_logprobs=top,
            )
            for number, order in enumerate(orders, 1)
        ]
        return asked[0], asked[1]

    def key(self, request: Request) -> str:
        """What the answer to one of ``requests`` is kept under in a ``Recall``."""
        return key_of(self.fingerprint, request)

    def verdict(self, said: Completion, swapped: Completion) -> Verdict:
        """What the completions of the two orders say together.

        The preference is the mean over the orders that could be read. Contradicted each other means that each order
        prefers another answer; a tie beside a preference is none.
        """
        straight, turned = self._reading(said), self._reading(swapped)
        first = straight.value
        second = None if turned.value is None else 1.0 - turned.value
        read = [value for value in (first, second) if value is not None]
        swaps = None if turned.error is None else f"with the answers swapped: {turned.error}"
        return Verdict(
            preference=sum(read) / len(read) if read else None,
            flipped=None if first is None or second is None else (first - 0.5) * (second - 0.5) < 0,
            error="; ".join(error for error in (straight.error, swaps) if error is not None) or None,
            orders=(first, second),
            said=(self._said(said, straight), self._said(swapped, turned)),
            usage=_usage(said, swapped),
        )

    def _reading(self, said: Completion) -> Reading:
        if not self._by_token:
            return read_preference(said)
        return read_token(said, words_will_do=self._settings.read == "auto")

    def _way(self, said: Completion) -> str:
        reading = self._reading(said)
        return "nothing" if reading.value is None else reading.way

    def _said(self, said: Completion, reading: Reading) -> str:
        """The judge's words; where a token is read, with how it was read."""
        if not self._by_token or said.error is not None:
            return said.text
        if reading.shares is not None:
            first, second = reading.shares
            return f"{said.text}\n(first token: A {first:.1%}, B {second:.1%})"
        why = "without log-probabilities" if said.first_token is None else "since the first token is no letter"
        return f"{said.text}\n(read in its words, {why})"

    def _text(self, comparison: Comparison, first: str, second: str) -> str:
        return self._prompt.filled(comparison.messages, comparison.lang, {"first": first, "second": second})


def _usage(*completions: Completion) -> Usage:
    return sum((said.usage for said in completions if said.usage is not None), _NONE)


def _model(spec: ScorerSpec) -> ModelSpec:
    if spec.model is None:
        raise RecipeError(f"{spec.scorer} needs a model; give it")
    return spec.model


def _fingerprint(
    kind: str, prompt: JudgePrompt, told: dict[str, Any], generator: Generator, model: ModelSpec | None
) -> str:
    """The prompt counts by its text, whatever its file is called. A generator's own fingerprint says which model it is,
    not in which precision it runs or what its chat template is told."""
    if model is not None:
        told = told | model.model_dump(mode="json", include={"dtype", "chat_template_kwargs"}, exclude_defaults=True)
    asked = json.dumps([VERSION, prompt.template, told], sort_keys=True)
    return f"{kind}:{hashlib.sha256(asked.encode()).hexdigest()[:12]}:{generator.fingerprint}"
