"""What goes over the wire to an OpenAI-compatible server, and what comes back: bodies, answers, and refusals.

Pure functions. An answer of the server is one of four things: completions; a ``Failed``, worth another try; a
``Refused``, which would be refused again; or a ``ModelError``, since every other request would fail as well.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import SecretStr

from polypref.backends.base import Completion, ModelSpec, Request, Sampling, Usage
from polypref.backends.thinking import split_thinking
from polypref.errors import ModelError

# text-generation-inference says eos_token and stop_sequence where OpenAI says stop.
FINISH_REASONS = {"stop": "stop", "length": "length", "eos_token": "stop", "stop_sequence": "stop"}
LIMIT, OTHER_LIMIT = "max_tokens", "max_completion_tokens"
"""The names of the limit of tokens. OpenAI's reasoning models refuse the first, most other servers know no other."""
NOT_FOR_GOOD = frozenset({408, 409, 425, 429})
LONGEST_MESSAGE = 200

_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum (model|sequence) length|max_model_len|n_ctx"
    r"|prompt is too long|inputs?.{0,40}( too long|` must )",
    re.IGNORECASE,
)
_WINDOW = re.compile(r"context (?:length|size|window)(?: is| of)? \(?(\d+)", re.IGNORECASE)


class Failed(Exception):
    """The request got no usable answer, but may get one next time, after ``wait`` seconds if the server said so.

    ``unreachable``: there was not even a connection.
    """

    def __init__(self, reason: str, wait: float | None = None, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.unreachable = reason, wait, unreachable


class Refused(Exception):
    """The request gets no answer however often it is sent as it is. ``too_long``: its prompt is; ``may_be_n``: the
    server found fault with a field, which may be ``n``; ``logprobs``: it named those; ``limit``: it names the limit of
    tokens otherwise."""

    def __init__(
        self,
        reason: str,
        too_long: bool = False,
        may_be_n: bool = False,
        logprobs: bool = False,
        limit: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.too_long, self.may_be_n, self.logprobs = reason, too_long, may_be_n, logprobs
        self.limit = limit


def sample_seed(seed: int, request_id: str, round: int) -> int:
    """The seed of one call, in [0, 2³¹): a hash of the run's seed, the request's id and the number of its call."""
    digest = hashlib.blake2b(json.dumps([seed, request_id, round]).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def request_body(
    spec: ModelSpec, request: Request, sampling: Sampling, n: int, round: int, limit: str = LIMIT
) -> dict[str, Any]:
    """The body of one call: the model, the messages, the limit of tokens under the name ``limit``, a seed, and else
    only what the user set."""
    body: dict[str, Any] = {
        "model": spec.path,
        "messages": [{"role": m["role"], "content": m["content"]} for m in request.messages],
        limit: sampling.max_tokens,
        "seed": sample_seed(sampling.seed, request.id, round),
    }
    for name in ("temperature", "top_p", "top_k", "repetition_penalty"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if n > 1:
        body["n"] = n
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.prefill:
        # Beyond OpenAI's own: vllm serve and transformers serve go on with a last turn of the assistant's.
        body["messages"].append({"role": "assistant", "content": request.prefill})
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if spec.chat_template_kwargs:
        body["chat_template_kwargs"] = spec.chat_template_kwargs
    return body


# --- what the server answered --------------------------------------------------------------------------------------


def read_answer(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    asked: Mapping[str, Any],
    spec: ModelSpec,
    key: SecretStr,
) -> list[Completion]:
    """At least one completion of an HTTP answer to the body ``asked``; ``headers`` are looked up in any case.

    Raises:
        Failed: another try may succeed (overload, a fault of the server, a broken body).
        Refused: this request would be refused again.
        ModelError: every request would be refused: no access, no such model, no such address, no credit, or
            ``max_tokens`` that fill the model's window by themselves.
    """
    if 200 <= status < 300:
        return read_completions(content, asked.get("stop", ()))
    message = server_message(content, key)
    said = f"{status}: {message}" if message else str(status)
    if status == 401:
        raise ModelError(
            f"the server at {spec.url} does not accept the key in the environment variable {spec.api_key_env} (401); "
            "set it to a valid key, or name another variable with api_key_env"
        )
    if status == 402 or "insufficient_quota" in message or b"insufficient_quota" in content[:4096]:
        raise ModelError(f"the account behind the key in {spec.api_key_env} has no credit left ({said}); top it up")
    # OpenAI's 403 forbids this field, and not the model, where a model tells no log-probabilities.
    about_logprobs = status in (400, 403, 422) and "logprobs" in asked and "logprob" in message.lower()
    if status == 403 and not about_logprobs:
        raise ModelError(
            f"the server at {spec.url} denies access to model {spec.path!r} ({said}); "
            f"check what the key in {spec.api_key_env} may use"
        )
    if status == 404:
        raise ModelError(
            f"the server at {spec.url} has no model {spec.path!r} or no chat completions ({said}); "
            "mend the model's path, or its url, the base URL that mostly ends with /v1"
        )
    if 300 <= status < 400 or status == 405:
        raise ModelError(f"url {spec.url} is not the base URL of an OpenAI-compatible server ({said}); mend it")
    if status >= 500 or status in NOT_FOR_GOOD:
        raise Failed(f"server answered {status}", retry_after(headers.get("retry-after")))
    too_long = bool(_TOO_LONG.search(message))
    most = asked.get(LIMIT, asked.get(OTHER_LIMIT, 0))
    if too_long and (window := _WINDOW.search(message)) and most >= int(window[1]):
        raise ModelError(
            f"max_tokens {most} leaves no room for a prompt in model {spec.path!r}, "
            f"whose window is {window[1]} tokens; lower max_tokens"
        )
    fault = status in (400, 422) and not too_long
    raise Refused(
        f"server answered {said}",
        too_long,
        fault,
        logprobs=about_logprobs and not too_long,
        limit=fault and LIMIT in asked and OTHER_LIMIT in message,
    )


def read_completions(content: bytes, stop: Sequence[str] = ()) -> list[Completion]:
    """The completions of a successful answer's body. A text ends before the first stop string, which some servers
    leave in it.

    Raises:
        Failed: the body is empty, no JSON, or no chat completion.
    """
    if not content.strip():
        raise Failed("the server's answer is empty")
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise Failed("the server's answer is not JSON") from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        raise Failed("the server's answer is no chat completion")
    completions = [_completion(choice, stop) for choice in choices]
    completions[0] = replace(completions[0], usage=_usage(answer.get("usage")))
    return completions


def _usage(told: Any) -> Usage | None:
    """The tokens of one call, however many choices it gave; None where the server counts none."""
    if not isinstance(told, dict):
        return None
    asked, answered = told.get("prompt_tokens"), told.get("completion_tokens")
    if type(asked) is not int or type(answered) is not int or min(asked, answered) < 0:
        return None
    return Usage(asked, answered)


def _first_token(choice: dict[str, Any]) -> dict[str, float] | None:
    """Token → log-probability of what could stand in the first place, the one that does among it.

    ``logprobs: {content: [{token, logprob, top_logprobs: [{token, logprob}, …]}, …]}``, as OpenAI, vLLM, SGLang,
    llama.cpp and text-generation-inference give it; anything else is none.
    """
    try:
        place = choice["logprobs"]["content"][0]
        found = [*(place.get("top_logprobs") or ()), place]
        told = {one["token"]: float(one["logprob"]) for one in found}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    good = all(isinstance(token, str) and logprob < 0.01 for token, logprob in told.items())
    if not good:
        return None
    # What has no probability at all (−∞) is left out: no file of JSON holds it.
    return {_storable(token): min(logprob, 0.0) for token, logprob in told.items() if logprob > -math.inf}


def _completion(choice: Any, stop: Sequence[str]) -> Completion:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise Failed("the server's answer is no chat completion")
    said = choice.get("finish_reason") or None
    finish_reason = FINISH_REASONS.get(said) if isinstance(said, str) else None
    if said is not None and finish_reason is None:
        return Completion("", finish_reason=None, error=f"finish_reason {json.dumps(said)[:LONGEST_MESSAGE]}")
    thinking = next((message[k] for k in ("reasoning_content", "reasoning") if _is_text(message.get(k))), None)
    text = message.get("content")
    if text is None and thinking is not None:
        text = ""  # all the tokens went into thinking: an answer cut off before it began, not a failure
    if not isinstance(text, str):
        return Completion("", finish_reason=None, error="the server gave no text")
    if places := [place for string in stop if (place := text.find(string)) >= 0]:
        text, finish_reason = text[: min(places)], "stop"
    if thinking is None:
        thinking, text = split_thinking(text)
    return Completion(
        _storable(text),
        finish_reason=finish_reason,
        thinking=None if thinking is None else _storable(thinking),
        first_token=_first_token(choice),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _storable(text: str) -> str:
    """``text`` with U+FFFD for each half of a surrogate pair: JSON can carry such halves, UTF-8 files cannot."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# --- small readings ------------------------------------------------------------------------------------------------


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds of a ``Retry-After`` header, a number or an HTTP date (RFC 9110 §10.2.3); None if it has none."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def server_message(content: bytes, key: SecretStr) -> str:
    """What the server said about its refusal, as one short line without the key; empty when it said nothing readable.

    Understands ``{"error": {"message": …}}``, ``{"error": …}``, ``{"message": …}`` and ``{"detail": …}``.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = content.decode("utf-8", "replace")
        found = "" if "<" in found[:100] else found  # a proxy's HTML page explains nothing in one line
    while isinstance(found, dict):
        found = next((found[k] for k in ("error", "message", "detail") if found.get(k)), "")
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    secret = key.get_secret_value()
    text = text.replace(secret, "…") if secret else text  # before the cut, which could leave half a key
    text = " ".join(_storable(text).split())
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"
