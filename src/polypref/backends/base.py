"""What a stage may ask of the outside world: protocols, the values that cross them, and the context that opens them.

Notation: B requests, n samples a request, T tokens of one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from polypref.backends.options import ModelSpec, Options, Sampling
from polypref.backends.options import Tag as Tag
from polypref.records import Message


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to answer. ``id`` (unique in the run) and ``Sampling.seed`` alone fix the noise of its samples:
    sample k draws from the seed of (seed, id, k), whatever else is in the batch. ``prefill`` opens the assistant's turn
    and is no part of the completion's text. ``top_logprobs`` asks for the log-probabilities of that many tokens in the
    place of the answer's first; 0 asks for none, and a generator that cannot tell them gives None."""

    id: str
    messages: Sequence[Message]
    prefill: str = ""
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one or more requests, as the server counted them."""

    asked: int = 0
    answered: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.asked + other.asked, self.answered + other.answered)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer. ``token_ids`` are the sampled ids of ``text`` alone: without the end-of-turn token and
    without a reasoning part, which is kept in ``thinking``. A completion with ``error`` has no text; ``too_long`` says
    that the prompt leaves no room in the model's window, so that asking again is of no use. ``first_token`` is token →
    natural log-probability of what could stand in the place of the first token, where it was asked for and is told."""

    text: str
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = "stop"
    thinking: str | None = None
    error: str | None = None
    too_long: bool = False
    usage: Usage | None = None
    first_token: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to be scored under ``messages``; ``finished`` says whether the end-of-turn token belongs to it."""

    id: str
    messages: Sequence[Message]
    text: str
    token_ids: Sequence[int] | None = None
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Logprob:
    """log p(answer | messages), summed over its ``tokens`` scored tokens (end-of-turn included), natural log.
    ``error`` says why there is none (the sequence is beyond the model's window)."""

    sum: float
    tokens: int
    error: str | None = None


@runtime_checkable
class Generator(Protocol):
    """Draws answers."""

    fingerprint: str

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """For each of the B requests its n completions, in order. A request longer than the model's window, or that
        a server refused for good, gives completions with ``error``."""
        ...


@runtime_checkable
class LogprobModel(Protocol):
    """Scores answers by their log-probability."""

    fingerprint: str

    def logprobs(self, answers: Sequence[Answer]) -> list[Logprob]:
        """One ``Logprob`` per answer, in order, independent of what else is in the batch.

        Raises:
            ModelError: a score is NaN or infinite; the message names the answer's id.
        """
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt and an answer for a scorer that is not a log-ratio (a reward model, an oracle)."""

    id: str
    lang: str
    messages: Sequence[Message]
    text: str
    gold: Any = None
    category: str | None = None


class ScorerSpec(Options):
    """Which scorer judges, and with what."""

    scorer: str = Field(description="a name of polypref ls scorers, or package.module:Class")
    model: ModelSpec | None = Field(None, description="the model of a scorer that has one")
    reference: ModelSpec | None = Field(None, description="of implicit: what the model was aligned from")
    settings: dict[str, Any] = Field(default_factory=dict, description="what else the scorer may be told")


@runtime_checkable
class Scorer(Protocol):
    """Gives an answer a number: higher is better.

    A class of ours or of a user's is made with the spec's model alone, ``Class(model)``; one that needs more has a
    class method ``opened(spec: ScorerSpec, open: Context.open)``, which is called instead.
    """

    fingerprint: str

    def score(self, answers: Sequence[Judged]) -> list[float | None]:
        """One finite score per answer, in order; None where it has none to give (a judge said no number)."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt for a judge of pairs. ``id`` is unique among those that are asked together."""

    id: str
    lang: str
    messages: Sequence[Message]
    first: str
    second: str
    gold: Any = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of two answers is better: ``preference`` is 1 for the first, 0 for the second, the mean over both orders.

    None where neither order gave a verdict. ``flipped`` says that the two orders contradicted each other, None where
    not both were read. ``orders`` is the preference for the first answer as it was read with the answers in place and
    with them swapped, None where it could not be read; ``error`` says why, for one order or both. ``said`` holds the
    judge's words in the two orders, where it uses any.
    """

    preference: float | None
    flipped: bool | None = None
    error: str | None = None
    orders: tuple[float | None, float | None] = (None, None)
    said: tuple[str, ...] = ()
    usage: Usage = Usage()


@runtime_checkable
class Recall(Protocol):
    """What was asked and answered before, by a key that holds all that the answer depends on. Values are JSON."""

    def get(self, key: str) -> Any:
        """The value of a key; None where there is none."""
        ...

    def put(self, key: str, value: Any) -> None:
        """Keep it, at once and for good."""
        ...


Each = Callable[[int, Verdict], None]
"""``each(index, verdict)``: called as soon as a comparison has its verdict, in any order, once for each of them."""


@runtime_checkable
class Comparer(Protocol):
    """Says which of two answers is better."""

    fingerprint: str

    def compare(
        self, comparisons: Sequence[Comparison], recall: Recall | None = None, each: Each | None = None
    ) -> list[Verdict]:
        """One verdict per comparison, in order; each is asked in both orders.

        Args:
            recall: what need not be asked again, order by order, and where it is kept once it is known. A failure is
                not kept: it is asked again.
            each: is told of every verdict as it comes.
        """
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A text whose representation is asked: the conversation alone, or with an answer to it."""

    id: str
    messages: Sequence[Message]
    answer: str | None = None


Pooling = Literal["last", "mean"]


@runtime_checkable
class HiddenStates(Protocol):
    """Gives texts as vectors."""

    fingerprint: str
    layers: int
    """L: the embedding is layer 0, the last block's output (after the final norm) layer L; −1 counts from the end."""

    def hidden(self, texts: Sequence[Text], layers: Sequence[int], pooling: Pooling) -> list[Any]:
        """For each of the layers a float32 array [n, d], one row a text, independent of what else is in the batch."""
        ...


@dataclass(frozen=True, slots=True)
class Identified:
    """The language of a text: ``tag`` None when it cannot be told; ``method`` is ``lingua``, ``script`` or ``fake``."""

    tag: str | None
    confidence: float
    method: str


@runtime_checkable
class LanguageIdentifier(Protocol):
    """Tells which language a text is in."""

    fingerprint: str

    def identify(self, texts: Sequence[str]) -> list[Identified]: ...


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """One row for preference training. The prompt is messages; chosen and rejected are ``Answer``s under it, with
    their log-probability under the training reference when it is known (then no reference model is loaded)."""

    id: str
    lang: str
    chosen: Answer
    rejected: Answer
    reference_chosen: Logprob | None = None
    reference_rejected: Logprob | None = None


Progress = Callable[[str, int, int | None], None]
"""``progress(what, done, total)``; total is None while it is unknown."""


def silent(what: str, done: int, total: int | None) -> None:
    """A ``Progress`` that shows nothing."""


Role = Literal[
    "generator",
    "logprobs",
    "scorer",
    "comparer",
    "hidden_states",
    "language_identifier",
    "trainer",
    "reward_trainer",
    "sft_trainer",
    "rl_trainer",
    "translator",
]


@dataclass(frozen=True)
class Context:
    """What a stage is given beside examples and options.

    ``open(role, spec)`` gives an object of the role's protocol, kept open for the next caller that asks for the same;
    ``release()`` lets go of all of them, for a stage that needs the memory.
    """

    open: Callable[[Role, Any], Any]
    languages: Sequence[str] = ()
    pivot: str = "en"
    progress: Progress = silent
    warn: Callable[[str], None] = field(default=lambda message: None)
    release: Callable[[], None] = field(default=lambda: None)


def batches(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """Consecutive lists of at most ``size`` items."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
