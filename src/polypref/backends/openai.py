"""Answers from any OpenAI-compatible server: ``vllm serve``, ``transformers serve``, llama.cpp, a hosted one.

A request that fails is tried again; one that fails for good is recorded as such and the rest goes on. Only what every
request would meet (no server, no access, no such model) stops the stage. The key is read from the environment at each
call, is kept in no object, and appears in no message, log or fingerprint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import anyio
import anyio.from_thread
import stamina
from pydantic import SecretStr
from yarl import URL

from polypref.backends.asking import Heard
from polypref.backends.base import Completion, ModelSpec, Request, Sampling
from polypref.backends.openai_wire import LIMIT, OTHER_LIMIT, Failed, Refused, read_answer, request_body
from polypref.errors import InternalError, ModelError

# Without any handler Python prints stamina's bare "retry_scheduled" on stderr; an application's handlers still get it.
logging.getLogger("stamina").addHandler(logging.NullHandler())

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds between the tries of one request: exponential from ``first`` to ``longest``, plus up to ``jitter``.
    A server's Retry-After goes before, up to ``longest_asked``."""

    first: float = 0.5
    longest: float = 30.0
    jitter: float = 1.0
    longest_asked: float = 120.0


LOST = 16
"""Requests in a row, each tried as often as may be, that find no server any more: the others would find none either.
With more in flight at once it is as many as these."""


@dataclass(slots=True)
class _Call:
    """What the requests of one ``generate`` share: whether any of them ever met a server, and how many in a row have
    met none since."""

    session: aiohttp.ClientSession
    key: SecretStr
    reached: bool = False
    lost: int = 0

    def met(self) -> None:
        self.reached, self.lost = True, 0


class OpenAIGenerator:
    """Draws answers by ``POST {url}/chat/completions``. Implements ``backends.base.Generator``.

    Only fields that the user set are sent, beside ``max_tokens`` and ``seed``; ``n`` only above 1. A server that gives
    fewer choices than asked for, or refuses ``n``, is asked again for the missing ones.

    Seeds are best effort: a call carries the seed of (``Sampling.seed``, request id, number of the call for that
    request), and whether equal seeds give equal answers is the server's affair (batching alone can change them).

    The limit of tokens is ``max_tokens``, and ``max_completion_tokens`` once a server has asked for that name.

    Log-probabilities are asked for where a request wants them. A server that refuses the field is asked again without.

    ``fingerprint`` says what stands in the spec and asks the server nothing, so that finished work stays valid once
    the server is gone; set ``revision`` to tell apart the models that one name stands for over time.

    Raises:
        ModelError: the spec names no usable url, or asks for what a server cannot do.
    """

    def __init__(self, spec: ModelSpec, waits: Waits = Waits()) -> None:
        if spec.adapter is not None:
            raise ModelError(
                f"adapter {spec.adapter!r} cannot be loaded through a server; start the server with it "
                "and put the name under which it is served into path"
            )
        url = self._url = base_url(spec.url)
        self._endpoint = url.joinpath("chat/completions")
        try:
            kwargs = json.dumps(spec.chat_template_kwargs, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as problem:
            raise ModelError(f"chat_template_kwargs cannot be written as JSON ({problem}); mend them") from None
        self.spec = spec.model_copy(update={"url": str(url)})
        self._waits = waits
        self._one_at_a_time, self._tells_logprobs, self._limit = False, True, LIMIT
        identity = json.dumps([str(url), spec.path, spec.revision, kwargs])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.fingerprint = f"openai:{url.host}:{spec.path}:{digest}"

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """For each of the B requests its n completions, in order; the failed ones have ``error``.

        May be called from any thread, inside or outside an event loop. An interrupt cancels what is in flight.

        Raises:
            ModelError: no server answers, or it would refuse every request.
        """
        done: dict[int, list[Completion]] = {}
        if requests:
            self.stream(requests, sampling, done.__setitem__)
        return [done[index] for index in range(len(requests))]

    def stream(self, requests: Iterable[Request], sampling: Sampling, each: Heard) -> None:
        """The same, told as it comes: ``each(index, completions)`` as soon as a request is answered or has failed for
        good, never two at once. A request is taken when one of the ``concurrency`` is free for it."""
        key = api_key(self.spec.api_key_env)
        with anyio.from_thread.start_blocking_portal() as portal:
            portal.call(self._stream, requests, sampling, key, each)

    async def _stream(self, requests: Iterable[Request], sampling: Sampling, key: SecretStr, each: Heard) -> None:
        waiting = iter(enumerate(requests))
        mistakes: list[Exception] = []
        turn, next_step = asyncio.Lock(), asyncio.get_running_loop().call_soon

        async def work() -> None:
            # Answers come in waves. Without turns the requests that follow a wave are all made ready before the first
            # of them is sent, as bytes leave in the next step of the loop, and the server stands idle meanwhile: a turn
            # is given on with that step.
            try:
                await turn.acquire()
                for index, request in waiting:
                    next_step(turn.release)
                    completions = await self._complete(call, request, sampling)
                    await turn.acquire()
                    each(index, completions)
                turn.release()
            except Exception as mistake:  # kept aside: a task group would wrap it into a group
                mistakes.append(mistake)
                group.cancel_scope.cancel()

        async with self._session(key) as session:
            call = _Call(session, key)
            async with anyio.create_task_group() as group:
                for _ in range(self.spec.concurrency):
                    group.start_soon(work)
        if mistakes:
            raise mistakes[0]

    def _session(self, key: SecretStr) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={
                "Authorization": f"Bearer {key.get_secret_value() or 'none'}",
                "Content-Type": "application/json",
            },
            connector=aiohttp.TCPConnector(limit=0),  # as many as there are workers
            cookie_jar=aiohttp.DummyCookieJar(),
            # A connection gets well below the whole request's time, so that one that is never made is told from a slow
            # answer.
            timeout=aiohttp.ClientTimeout(total=self.spec.timeout, sock_connect=min(30.0, self.spec.timeout / 2)),
            proxy=proxy_for(self._url),
        )

    async def _complete(self, call: _Call, request: Request, sampling: Sampling) -> list[Completion]:
        """The n completions of one request. Each call brings one at least, so there are at most n, and one more where
        the server refuses ``n``."""
        done: list[Completion] = []
        single, asked = self._one_at_a_time, 0
        while (missing := sampling.n - len(done)) > 0:
            n = 1 if single else missing
            if not self._tells_logprobs:
                request = replace(request, top_logprobs=0)
            limit = self._limit
            try:
                done += (await self._ask(call, request_body(self.spec, request, sampling, n, asked, limit)))[:missing]
            except Refused as refused:
                if refused.limit:
                    self._limit = OTHER_LIMIT
                    continue
                if request.top_logprobs and refused.logprobs:
                    self._tells_logprobs = False
                    continue
                if n > 1 and refused.may_be_n:
                    single = True
                    continue
                done += [Completion("", finish_reason=None, error=refused.reason, too_long=refused.too_long)] * missing
            else:
                self._one_at_a_time |= single
            asked += 1
        return done

    async def _ask(self, call: _Call, body: dict[str, Any]) -> list[Completion]:
        """The answer to one body, tried up to ``attempts`` times; ``Refused`` when all are spent.

        The first try is made before stamina is called: what that sets up for each request costs the machine a third of
        the request itself, and most need one try.
        """
        try:
            return await self._post(call, body)
        except Failed as failed:
            first = failed
        waits, tries = self._waits, 1
        try:
            async for attempt in stamina.retry_context(
                on=self._retry,
                attempts=self.spec.attempts,
                timeout=None,
                wait_initial=waits.first,
                wait_max=waits.longest,
                wait_jitter=waits.jitter,
            ):
                with attempt:
                    tries = attempt.num
                    if tries == 1:
                        raise first
                    return await self._post(call, body)
        except Failed as failed:
            call.lost += failed.unreachable
            if failed.unreachable and not call.reached:
                raise ModelError(
                    f"no server answers at {self.spec.url} ({failed.reason}); start it, or mend the model's url"
                ) from None
            if call.lost >= max(LOST, self.spec.concurrency):
                raise ModelError(
                    f"the server at {self.spec.url} has gone: {call.lost} requests in a row found none "
                    f"({failed.reason}); start it again, and the same command goes on"
                ) from None
            raise Refused(f"{failed.reason} after {tries} {'try' if tries == 1 else 'tries'}") from None
        raise InternalError("stamina gave neither an answer nor its failure")

    def _retry(self, problem: Exception) -> bool | float:
        if not isinstance(problem, Failed):
            return False
        return True if problem.wait is None else min(problem.wait, self._waits.longest_asked)

    async def _post(self, call: _Call, body: dict[str, Any]) -> list[Completion]:
        try:
            async with call.session.post(self._endpoint, data=json.dumps(body), allow_redirects=False) as response:
                content = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError) as problem:
            why = " ".join(str(problem).split()) or "the connection timed out"
            raise Failed(f"no connection: {why}", unreachable=True) from None
        except (TimeoutError, aiohttp.ClientError) as problem:
            call.met()
            slow = isinstance(problem, TimeoutError)
            raise Failed(f"no answer within {self.spec.timeout:g} s" if slow else "the connection broke off") from None
        call.met()
        return read_answer(response.status, response.headers, content, asked=body, spec=self.spec, key=call.key)


def base_url(url: str | None) -> URL:
    """The server's base URL without a slash at its end; ``/v1`` is added to a bare host and to nothing else.

    Raises:
        ModelError: it is missing, or is no plain http(s) URL. One with a password or a query is not shown.
    """
    fix = "give its base URL, as in http://localhost:8000/v1 (a bare http://localhost:8000 is read as that)"
    if not url or not url.strip():
        raise ModelError(f"a model on a server needs url; {fix}")
    try:
        parsed = URL(url.strip().rstrip("/"))
        held = parsed.user or parsed.password or parsed.query_string or parsed.fragment
    except ValueError:
        raise ModelError(f"the model's url is not a URL; {fix}") from None
    if held:
        raise ModelError(
            f"the model's url holds a user, a query or a fragment; {fix}, "
            "and put the key into the environment variable that api_key_env names"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ModelError(f"url {url!r} names no http server; {fix}")
    if parsed.path.endswith("/completions"):
        raise ModelError(f"url {url!r} is an endpoint; {fix}")
    return parsed.with_path("/v1") if parsed.path in ("", "/") else parsed


def proxy_for(url: URL) -> str | None:
    """The environment's proxy for a server, none for what listens on this machine, which no proxy could reach.

    Raises:
        ModelError: it is no http proxy.
    """
    host = url.host or ""
    if host in LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        raise ModelError(
            f"the environment names a proxy for {host} that is no http:// proxy; set one, or put {host} into NO_PROXY"
        )
    return proxy


def api_key(variable: str) -> SecretStr:
    """The key in that environment variable, empty when there is none: servers of one's own mostly ask for none.

    Raises:
        ModelError: it could not stand in an HTTP header. The message does not show it.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ModelError(
            f"the key in the environment variable {variable} holds characters that no key has; set it again"
        )
    return SecretStr(key)
