"""The wire of a best-of-n server: OpenAI's chat completions with ``best_of``. Pure functions.

A field that would change the answer and that is not known here is refused, so that nothing is passed over in silence.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polypref import languages
from polypref.backends.base import Sampling
from polypref.errors import InputError
from polypref.records import Message

LANGUAGE_HEADER = "content-language"
SAMPLING_TEMPERATURE = 1.0
"""Of a request that names none, as OpenAI's."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Fields that are not supported, with the values that ask for nothing."""
BESIDE = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
"""Fields that change no answer."""


LanguageFrom = Literal["request", "identified", "default"]
"""Who says what a prompt's language is: the client, the identifier, or the server's first language for want of both."""


class Refusal(Exception):
    """A request that gets no answer: an HTTP status, and what OpenAI's error object says."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        kinds = {401: "authentication_error", 404: "not_found_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server gives, and how much of it: its model's name, the n of a request that names no ``best_of``, the most
    samples of one request (choices × ``best_of``), and the ``max_tokens`` of a request that names none."""

    name: str = "best-of-n"
    n: int = 16
    samples: int = 256
    max_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: ``choices`` answers, each the best of ``best_of`` samples of its own. ``seed`` and the messages fix
    the samples' noise. ``sampling.n`` counts all samples."""

    messages: Sequence[Message]
    sampling: Sampling
    choices: int
    best_of: int
    seed: int
    lang: str | None = None
    stream: bool = False
    stream_usage: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The picked sample: its text, score, place among its n, and how many of them passed the filters (0: none did, so
    all that did not fail competed)."""

    text: str
    finish_reason: str
    score: float
    sample: int
    left: int
    thinking: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """The answer to one request; ``completion_tokens`` counts every sample that was drawn, None where the generator
    does not tell."""

    choices: Sequence[Choice]
    lang: str
    lang_from: LanguageFrom
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


# --- a request -------------------------------------------------------------------------------------------------------

_Count = Annotated[int, Field(gt=0)]
_Stop = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Part(_Strict):
    type: Literal["text"]
    text: str


class _Message(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str | list[_Part]


class _StreamOptions(_Strict):
    include_usage: bool = False


class _Body(_Strict):
    model: str
    messages: list[_Message] = Field(min_length=1)
    n: _Count = 1
    best_of: _Count | None = None
    temperature: float = Field(SAMPLING_TEMPERATURE, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: _Count | None = None
    repetition_penalty: float | None = Field(None, gt=0)
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    stop: _Stop | list[_Stop] = Field(default_factory=list)
    seed: int | None = None
    language: str | None = None
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()


def read_request(content: bytes, headers: Mapping[str, str], limits: Limits) -> Asked:
    """The request of an HTTP body; ``headers`` are looked up in lower case.

    Raises:
        Refusal: it is no JSON object, a field is wrong or not supported, the model is another one, or it asks for more
            samples than the server gives.
    """
    body = _checked(_object(content))
    if body.model != limits.name:
        raise Refusal(
            404, f"there is no model {body.model!r} here; this server gives {limits.name}", "model", "model_not_found"
        )
    if body.messages[-1].role != "user":
        raise Refusal(400, "messages must end with the user's turn; an answer that is begun cannot go on", "messages")
    best_of = body.best_of or limits.n
    if body.n * best_of > limits.samples:
        raise Refusal(
            400,
            f"{body.n} × best of {best_of} is {body.n * best_of} samples and this server draws at most "
            f"{limits.samples} a request; lower n or best_of",
            "best_of" if body.best_of else "n",
        )
    if body.temperature == 0 and body.n * best_of > 1:
        raise Refusal(
            400,
            "temperature 0 has one answer, so there is nothing to choose from; give a temperature above 0 (with a seed "
            "the same request has the same answer), or best_of 1 and n 1",
            "temperature",
        )
    return Asked(
        messages=[{"role": message.role, "content": _text(message.content)} for message in body.messages],
        sampling=Sampling(
            n=body.n * best_of,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            repetition_penalty=body.repetition_penalty,
            max_tokens=body.max_completion_tokens or body.max_tokens or limits.max_tokens,
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop),
        ),
        choices=body.n,
        best_of=best_of,
        seed=secrets.randbits(31) if body.seed is None else body.seed,
        lang=_language(body.language, headers.get(LANGUAGE_HEADER)),
        stream=body.stream,
        stream_usage=body.stream_options.include_usage,
    )


def _object(content: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        found = json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON ({error}); send an object") from None
    if not isinstance(found, dict):
        raise Refusal(400, "the body is no JSON object; send one with model and messages")
    return found


def _checked(found: Mapping[str, Any]) -> _Body:
    given = {name: value for name, value in found.items() if value is not None and name not in BESIDE}
    given = {name: value for name, value in given.items() if value not in NEUTRAL.get(name, ())}
    if isinstance(messages := given.get("messages"), list):  # a client writes every key of a turn, null where unused
        given["messages"] = [
            {k: v for k, v in turn.items() if v is not None} if isinstance(turn, dict) else turn for turn in messages
        ]
    try:
        return _Body.model_validate(given)
    except ValidationError as error:
        # Of a union every branch complains; the one that came furthest was meant.
        first = max(error.errors(include_url=False), key=lambda problem: len(problem["loc"]))
        name = ".".join(str(part) for part in first["loc"] if part not in _BRANCHES)
        if first["type"] == "extra_forbidden":
            raise Refusal(400, f"{name} is not supported by this server; leave it out", name, "unsupported") from None
        if first["type"] == "missing":
            raise Refusal(400, f"{name} is missing; every request needs it", name) from None
        raise Refusal(400, f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}", name) from None


_BRANCHES = frozenset({"str", "list[_Part]", "list[constrained-str]", "constrained-str", "constrained-int"})
"""What pydantic calls the branches of a union in an error's place."""


def _text(content: str | list[_Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _language(field: str | None, header: str | None) -> str | None:
    """The prompt's language as a tag, from the field or else the header; None where neither is there."""
    code = field if field is not None else header
    if code is None:
        return None
    try:
        return languages.normalise(code.strip())
    except InputError as error:
        raise Refusal(400, f"language: {error}", "language") from None


# --- an answer -------------------------------------------------------------------------------------------------------


def reply_body(asked: Asked, served: Served, limits: Limits, fingerprint: str) -> dict[str, Any]:
    """OpenAI's ``chat.completion`` object; each choice has ``best_of`` with n, score, sample and left, and beside the
    choices stand ``seed`` and ``language``. ``usage`` is null where the generator counts no tokens."""
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": limits.name,
        "system_fingerprint": fingerprint,
        "choices": [_choice(index, choice, asked) for index, choice in enumerate(served.choices)],
        "usage": _usage(served),
        "seed": asked.seed,
        "language": {"tag": served.lang, "from": served.lang_from},
    }


def _choice(index: int, choice: Choice, asked: Asked) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text}
    if choice.thinking is not None:
        message["reasoning_content"] = choice.thinking
    picked = {"n": asked.best_of, "score": choice.score, "sample": choice.sample, "left": choice.left}
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": choice.finish_reason,
        "best_of": picked,
    }


def _usage(served: Served) -> dict[str, int] | None:
    prompt, completion = served.prompt_tokens, served.completion_tokens
    if prompt is None or completion is None:
        return None
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def events(asked: Asked, body: Mapping[str, Any]) -> Iterator[str]:
    """The same answer as server-sent events, a whole choice an event: nothing can be given before the pick."""
    shared = {**body, "object": "chat.completion.chunk", "choices": [], "usage": None}
    for choice in body["choices"]:
        delta = {**choice, "delta": choice["message"]}
        del delta["message"]
        yield _event({**shared, "choices": [delta]})
    if asked.stream_usage:
        yield _event({**shared, "usage": body["usage"]})
    yield "data: [DONE]\n\n"


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def models_body(limits: Limits, created: int) -> dict[str, Any]:
    """The list of the one model."""
    model = {"id": limits.name, "object": "model", "created": created, "owned_by": "polypref"}
    return {"object": "list", "data": [model]}
