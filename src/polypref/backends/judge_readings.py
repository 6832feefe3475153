"""What is read in a judge's words, or in the log-probabilities of its first token.

A verdict in words is read on the last line alone, in double square brackets. What the judge quotes on its way there, an
answer that writes a verdict of its own among it, is not looked at; where the last line has none, there is none.

A verdict of one token is the probability of the first letter against the second's, as AlpacaEval 2 weights its
preferences (Dubois et al. 2024, arXiv 2404.04475). Where the server tells no log-probabilities it is the letter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from polypref.backends.base import Completion

PREFERENCES = {"A": 1.0, "B": 0.0, "C": 0.5}
"""How far a verdict prefers the answer that was shown first."""
LEAST_MASS = 0.5
"""The probability that A and B must have together in the first token: else the judge began with something else."""

_BRACKETS = re.compile(r"\[\[([^\[\]]*)\]\]")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_LETTER = re.compile(r"[\W_]*([ABC])[\W_]*")
_AROUND = " \t*_`#.。"
# Word starts as tokenizers spell them (SentencePiece, byte-level BPE), and what a judge may open a letter with.
_BESIDE = " \t\r\n▁Ġ*_`\"'“”‘’«»([{<)]}>.:#"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one completion of a judge says: a number, or None and why there is none.

    ``way`` is where it was read; ``shares`` are the probabilities of A and B in the first token, where they are known.
    """

    value: float | None
    error: str | None = None
    way: Literal["words", "logprobs"] = "words"
    shares: tuple[float, float] | None = None


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


def read_token(said: Completion, *, words_will_do: bool) -> Reading:
    """p(A) / (p(A) + p(B)) of the first token.

    Args:
        words_will_do: where there are no log-probabilities, or A and B together have less than ``LEAST_MASS``, read
            the letter that the judge wrote instead.
    """
    if said.error is not None:
        return Reading(None, said.error)
    if said.first_token is None:
        return _letter(said) if words_will_do else Reading(None, "the judge told no log-probabilities; say read: auto")
    first, second = shares = letter_shares(said.first_token)
    if first + second >= LEAST_MASS:
        return Reading(first / (first + second), way="logprobs", shares=shares)
    if words_will_do and (read := _letter(said)).value is not None:
        return read
    return Reading(None, f"A and B have {first + second:.1%} of the first token's probability", "logprobs", shares)


def letter_shares(first_token: Mapping[str, float]) -> tuple[float, float]:
    """The probabilities of A and of B, each over all its spellings, of what is told of the first token.

    A letter that is not among the likeliest has 0; it is at most as likely as the least likely of them.
    """
    shares = {"A": 0.0, "B": 0.0}
    for token, logprob in first_token.items():
        if (letter := token.strip(_BESIDE)) in shares:
            shares[letter] += math.exp(logprob)
    return shares["A"], shares["B"]


def _letter(said: Completion) -> Reading:
    """The letter that stands alone on the first line with words on it. A line that goes on is no verdict: "A good
    answer would" begins with the same letter."""
    lines = [line for line in said.text.splitlines() if line.strip(_BESIDE)]
    if not lines:
        cut = said.finish_reason == "length"
        return Reading(None, "cut off before the verdict; raise max_tokens" if cut else "the judge said nothing")
    found = _LETTER.fullmatch(lines[0])
    return Reading(PREFERENCES[found[1]]) if found else Reading(None, "no letter alone on the first line")


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
