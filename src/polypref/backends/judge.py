"""Generative judges over any ``Generator``: one that gives an answer a number, one that compares two answers.

What is asked and what is read back are pure functions (``requests`` and ``verdict`` of ``PairJudge``), so that a
comparison can be asked for and kept by itself.

A verdict is read on the last line alone, in double square brackets. What the judge quotes on its way there, an answer
that writes a verdict of its own among it, is not looked at; where the last line has none, there is none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polypref.backends.base import (
    Comparison,
    Completion,
    Generator,
    Judged,
    ModelSpec,
    Request,
    Sampling,
    ScorerSpec,
    Verdict,
)
from polypref.backends.judge_prompts import JudgePrompt, judge_prompt
from polypref.backends.judging import NumberSettings, PairSettings, settings_of
from polypref.errors import RecipeError

VERSION = 1
"""Raised when the same words of a judge are read differently; part of every fingerprint."""

PREFERENCES = {"A": 1.0, "B": 0.0, "C": 0.5}
"""How far a verdict prefers the answer that was shown first."""

_BRACKETS = re.compile(r"\[\[([^\[\]]*)\]\]")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_AROUND = " \t*_`#.。"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one completion of a judge says: a number, or None and why there is none."""

    value: float | None
    error: str | None = None


def read_rating(said: Completion, scale: tuple[float, float]) -> Reading:
    """The number on the last line, a plain decimal within the scale."""
    found = _last_line(said)
    if found.error is not None:
        return Reading(None, found.error)
    if not _NUMBER.fullmatch(found.text):
        return Reading(None, f"[[{found.text}]] is no number")
    number = float(found.text)
    low, high = scale
    if not low <= number <= high:
        return Reading(None, f"[[{found.text}]] is not on the scale from {low:g} to {high:g}")
    return Reading(number)


def read_preference(said: Completion) -> Reading:
    """How far the answer that was shown first is preferred: 1 for [[A]], 0 for [[B]], 0.5 for [[C]]."""
    found = _last_line(said)
    if found.error is not None:
        return Reading(None, found.error)
    if found.text not in PREFERENCES:
        return Reading(None, f"[[{found.text}]] is no verdict")
    return Reading(PREFERENCES[found.text])


@dataclass(frozen=True, slots=True)
class _Found:
    text: str
    error: str | None = None


def _last_line(said: Completion) -> _Found:
    """What stands between the double brackets that end the last line with words on it, and no other there."""
    if said.error is not None:
        return _Found("", said.error)
    if said.finish_reason == "length":
        return _Found("", "cut off before the verdict; raise max_tokens")
    lines = [line for line in said.text.splitlines() if line.strip(_AROUND)]
    if not lines:
        return _Found("", "the judge said nothing")
    line = lines[-1].strip(_AROUND)
    verdicts = _BRACKETS.findall(line)
    if len(verdicts) != 1 or not line.endswith("]]"):
        return _Found("", "no verdict on the last line")
    return _Found(verdicts[0].strip())


@dataclass(frozen=True, slots=True)
class Rating:
    """What a judge gives an answer: the mean of the numbers that could be read, None where none could.

    ``errors`` says of each of the others why not; ``said`` holds all that the judge said.
    """

    value: float | None
    errors: tuple[str, ...]
    said: tuple[str, ...]


class NumberJudge:
    """Asks a model for a number on a scale, higher is better. Implements ``backends.base.Scorer``."""

    def __init__(self, generator: Generator, settings: NumberSettings) -> None:
        """
        Raises:
            RecipeError: the prompt cannot be asked.
        """
        self._generator, self._settings = generator, settings
        self._prompt = judge_prompt("number", settings.prompt)
        self._sampling = Sampling(n=settings.samples, temperature=settings.temperature, max_tokens=settings.max_tokens)
        self.fingerprint: str = _fingerprint("judge", self._prompt, settings, generator)

    @classmethod
    def opened(cls, spec: ScorerSpec, open: Any) -> NumberJudge:
        """The judge of a spec; its model may be on a server, in this process or a fake."""
        return cls(open("generator", _model(spec)), settings_of(NumberSettings, spec))

    def score(self, answers: Sequence[Judged]) -> list[float | None]:
        """One number on the scale per answer, None where none could be read."""
        return [rating.value for rating in self.rate(answers)]

    def rate(self, answers: Sequence[Judged]) -> list[Rating]:
        """The same with the judge's words, and with the reasons where there is no number."""
        said = self._generator.generate([self._request(a) for a in answers], self._sampling) if answers else []
        return [self._rating(completions) for completions in said]

    def _request(self, answer: Judged) -> Request:
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
        )


class PairJudge:
    """Asks a model which of two answers is better, once in each order. Implements ``backends.base.Comparer``."""

    def __init__(self, generator: Generator, settings: PairSettings) -> None:
        """
        Raises:
            RecipeError: the prompt cannot be asked.
        """
        self._generator = generator
        self._prompt = judge_prompt("pair", settings.prompt)
        self._sampling = Sampling(n=1, temperature=settings.temperature, max_tokens=settings.max_tokens)
        self.fingerprint: str = _fingerprint("pair_judge", self._prompt, settings, generator)

    @classmethod
    def opened(cls, spec: ScorerSpec, open: Any) -> PairJudge:
        """The judge of a spec; its model may be on a server, in this process or a fake."""
        return cls(open("generator", _model(spec)), settings_of(PairSettings, spec))

    def compare(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order."""
        asked = [request for comparison in comparisons for request in self.requests(comparison)]
        said = self._generator.generate(asked, self._sampling) if asked else []
        return [self.verdict(said[i][0], said[i + 1][0]) for i in range(0, len(said), 2)]

    def requests(self, comparison: Comparison) -> tuple[Request, Request]:
        """The two questions of a comparison: as it stands, and with the answers swapped. Their ids are made of the
        comparison's alone."""
        orders = ((comparison.first, comparison.second), (comparison.second, comparison.first))
        asked = [
            Request(f"{comparison.id}/order-{number}", [{"role": "user", "content": self._text(comparison, *order)}])
            for number, order in enumerate(orders, 1)
        ]
        return asked[0], asked[1]

    def verdict(self, said: Completion, swapped: Completion) -> Verdict:
        """What the completions of the two orders say together.

        The preference is the mean over the orders that could be read. Contradicted each other means that each order
        prefers another answer; a tie beside a preference is none.
        """
        straight, turned = read_preference(said), read_preference(swapped)
        first = straight.value
        second = None if turned.value is None else 1.0 - turned.value
        read = [value for value in (first, second) if value is not None]
        if not read:
            return Verdict(None, error=f"{straight.error}; with the answers swapped: {turned.error}")
        return Verdict(sum(read) / len(read), flipped={first, second} == {0.0, 1.0} if len(read) == 2 else None)

    def _text(self, comparison: Comparison, first: str, second: str) -> str:
        return self._prompt.filled(comparison.messages, comparison.lang, {"first": first, "second": second})


def _model(spec: ScorerSpec) -> ModelSpec:
    if spec.model is None:
        raise RecipeError(f"{spec.scorer} needs a model; give it")
    return spec.model


def _fingerprint(kind: str, prompt: JudgePrompt, settings: NumberSettings | PairSettings, generator: Generator) -> str:
    """The prompt counts by its text, whatever its file is called."""
    told = settings.model_dump(mode="json", exclude={"prompt"})
    asked = json.dumps([VERSION, prompt.template, told], sort_keys=True)
    return f"{kind}:{hashlib.sha256(asked.encode()).hexdigest()[:12]}:{generator.fingerprint}"
