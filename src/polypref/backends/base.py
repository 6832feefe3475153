"""What a stage may ask of the outside world: protocols, the values that cross them, and the context that opens them.

Notation: B requests, n samples a request, T tokens of one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    field_validator,
    model_validator,
)

from polypref import languages
from polypref.backends.released import hub_id
from polypref.errors import InputError
from polypref.records import Message


def _tag(code: str) -> str:
    try:
        return languages.normalise(code)
    except InputError as error:
        raise ValueError(str(error)) from None


Tag = Annotated[str, AfterValidator(_tag)]
"""A language in an options tree; any code or English name becomes its BCP-47 tag."""


class Options(BaseModel):
    """The base of every options tree: frozen, and unknown keys are mistakes.

    ``BESIDE`` names the fields that change how fast or where something is computed, never what: a shard stays good
    when they change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    BESIDE: ClassVar[frozenset[str]] = frozenset()

    def identity(self, fingerprint: Callable[[ModelSpec], str]) -> dict[str, Any]:
        """What the outcome depends on, as a JSON object: every model is its fingerprint, ``BESIDE`` is left out."""
        own = {"model": fingerprint(self)} if isinstance(self, ModelSpec) else {}
        return own | {
            name: _identity(getattr(self, name), fingerprint)
            for name in type(self).model_fields
            if name not in self.BESIDE
        }


def _identity(value: Any, fingerprint: Callable[[ModelSpec], str]) -> Any:
    if isinstance(value, Options):
        return value.identity(fingerprint)
    if isinstance(value, Mapping):
        return {str(k): _identity(v, fingerprint) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(v, fingerprint) for v in value]
    return value


class ModelSpec(Options):
    """Which model, and how it is opened. A bare string is its ``path``."""

    BESIDE = frozenset(
        {"path", "name", "adapter", "revision", "device", "attention", "batch_tokens"}
        | {"url", "api_key_env", "concurrency", "timeout", "attempts", "price"}
    )

    path: str = Field(description="a folder, a hub name, a name of polypref ls models, or the model's name on a server")
    name: str | None = Field(None, description="how results call it")
    backend: Literal["hf", "vllm", "openai", "fake"] = Field(
        "hf", description="transformers, vllm in this process, a server, or a fake; a server only generates"
    )
    adapter: str | None = Field(None, description="a LoRA adapter (folder or hub name) on top of path")
    revision: str | None = Field(None, description="a branch, tag or commit of the hub; of a server, its weights' name")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="bfloat16 where CUDA has it, else float32"
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1, …; the best there is when left out")
    attention: str | None = Field(None, description="attn_implementation of transformers")
    batch_tokens: int | None = Field(
        None, gt=0, description="tokens of one forward pass, padding included; 16384, to score on a CPU 1024"
    )
    trust_remote_code: bool = Field(False, description="run the code that comes with a model")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the chat template, e.g. {enable_thinking: false}"
    )
    url: str | None = Field(None, description="base URL of an OpenAI-compatible server, ending with /v1")
    api_key_env: str = Field("OPENAI_API_KEY", description="the environment variable that holds the key")
    concurrency: int = Field(32, gt=0, description="requests in flight at once (openai)")
    timeout: float = Field(600.0, gt=0, description="seconds for one request (openai)")
    attempts: int = Field(5, gt=0, description="tries for one request before it is recorded as failed (openai)")
    price: tuple[NonNegativeFloat, NonNegativeFloat] | None = Field(
        None, description="of a million tokens asked and of a million answered, in any currency (openai)"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A bare string is a path; a released checkpoint's name becomes its hub id, except where a server serves it."""
        value = {"path": value} if isinstance(value, str) else value
        if not isinstance(value, dict) or value.get("backend", "hf") not in ("hf", "vllm"):
            return value
        return value | {"path": hub_id(value["path"])} if isinstance(value.get("path"), str) else value

    @field_validator("path")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must name a folder, a hub model or a server's model")
        return value


class Sampling(Options):
    """How answers are drawn. A field that is None is not sent to a server, and has the library's default elsewhere."""

    n: int = Field(1, gt=0, description="answers a prompt")
    temperature: float | None = Field(None, ge=0, description="0 is greedy")
    top_p: float | None = Field(None, gt=0, le=1, description="share of the probability that is kept")
    top_k: int | None = Field(None, gt=0, description="tokens that are kept")
    repetition_penalty: float | None = Field(None, gt=0, description="1 is none")
    max_tokens: int = Field(512, gt=0, description="tokens of one answer")
    stop: tuple[str, ...] = Field((), description="texts that end an answer and are left out of it")
    seed: int = Field(0, description="of the samples' noise")


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
