"""An HTTP server of best-of-n answers: requests that wait together are answered together, in one thread.

``POST /v1/chat/completions``, ``GET /v1/models`` and ``GET /health``, on starlette and uvicorn (the extra ``serve``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pydantic import SecretStr

from polypref.backends.serving_wire import (
    Asked,
    Limits,
    Refusal,
    Served,
    events,
    models_body,
    read_request,
    reply_body,
)
from polypref.errors import InternalError, MissingExtraError, UserError

LONGEST_BODY = 2**22
"""Bytes of a request."""
GRACE = 60
"""Seconds that requests in flight have to end in, once the server is told to."""

Answer = Callable[[Sequence[Asked]], Sequence[Served | Refusal]]
"""The answers to requests that came together, in order. Called from one thread alone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that waits, and where its answer goes."""

    asked: Asked
    reply: asyncio.Future[Served | Refusal]


class Batcher:
    """Gathers requests for ``window`` seconds after the first, and while a batch is answered; at most ``most``."""

    def __init__(self, answer: Answer, window: float, most: int) -> None:
        self.answer, self.window, self.most = answer, window, most
        self._waiting: asyncio.Queue[Entry] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "best-of-n")

    async def ask(self, asked: Asked) -> Served:
        """The answer to one request.

        Raises:
            Refusal: there is none.
        """
        entry = Entry(asked, asyncio.get_running_loop().create_future())
        await self._waiting.put(entry)
        reply = await entry.reply
        if isinstance(reply, Refusal):
            raise reply
        return reply

    async def run(self) -> None:
        """Answer batch after batch, until cancelled."""
        try:
            while True:
                batch = [await self._waiting.get()]
                await asyncio.sleep(self.window)
                while len(batch) < self.most and not self._waiting.empty():
                    batch.append(self._waiting.get_nowait())
                # A client that left has cancelled its reply.
                await self._reply([entry for entry in batch if not entry.reply.done()])
        finally:
            self._thread.shutdown(cancel_futures=True)

    async def _reply(self, batch: list[Entry]) -> None:
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            replies = await loop.run_in_executor(self._thread, self.answer, [entry.asked for entry in batch])
            if len(replies) != len(batch):
                raise InternalError(f"{len(batch)} requests have {len(replies)} answers")
        except Exception as error:
            if len(batch) > 1:  # one request's fault is not the others'
                for entry in batch:
                    await self._reply([entry])
                return
            replies = [_fault(error) for _ in batch]
        for entry, reply in zip(batch, replies, strict=True):
            if not entry.reply.done():
                entry.reply.set_result(reply)


def _fault(error: Exception) -> Refusal:
    if isinstance(error, UserError):
        return Refusal(500, str(error))
    _log.error("a request failed", exc_info=error)
    return Refusal(500, "the server failed at this request; its log says why")


def application(
    answer: Answer,
    limits: Limits,
    fingerprint: str,
    *,
    window: float = 0.01,
    most: int = 64,
    key: SecretStr | None = None,
) -> Any:
    """The server as an ASGI application.

    Args:
        fingerprint: what the model and the scorer are; goes out as ``system_fingerprint``.
        window: seconds that a first request waits for others.
        most: requests that are answered together at most.
        key: what ``Authorization: Bearer`` must hold; nothing is asked for when left out.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    batcher = Batcher(answer, window, most)
    started = int(time.time())

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def complete(request: Request) -> Response:
        _authorise(request.headers.get("authorization", ""), key)
        asked = read_request(await _content(request), request.headers, limits)
        reply = asyncio.create_task(batcher.ask(asked))
        left = asyncio.create_task(_left(request))
        await asyncio.wait({reply, left}, return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            reply.cancel()
            return Response(status_code=499)  # nobody reads it
        left.cancel()
        body = reply_body(asked, reply.result(), limits, fingerprint)
        if asked.stream:
            return StreamingResponse(events(asked, body), media_type="text/event-stream")
        return JSONResponse(body)

    async def models(request: Request) -> Response:
        _authorise(request.headers.get("authorization", ""), key)
        return JSONResponse(models_body(limits, started))

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def refused(request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)
        return JSONResponse(refusal.body(), refusal.status)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = f"{error.detail}: {request.method} {request.url.path}; there are /v1/chat/completions and /v1/models"
        return JSONResponse(Refusal(error.status_code, told).body(), error.status_code, error.headers)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        exception_handlers={Refusal: refused, HTTPException: unknown},
        lifespan=lifespan,
    )


def _authorise(header: str, key: SecretStr | None) -> None:
    if key is None:
        return
    given = header.removeprefix("Bearer ").encode()
    if not hmac.compare_digest(given, key.get_secret_value().encode()):
        raise Refusal(401, "the key is missing or wrong; send it as Authorization: Bearer …", code="invalid_api_key")


async def _content(request: Any) -> bytes:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > LONGEST_BODY:
            raise Refusal(413, f"the body is longer than {LONGEST_BODY} bytes; send less")
    return content


async def _left(request: Any) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def installed() -> None:
    """
    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
    """
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")


def bound(host: str, port: int) -> socket.socket:
    """A socket of that address, so that a port that is taken is told before a model is opened. Port 0 is any.

    Raises:
        UserError: the address is not to be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        raise UserError(
            f"port {port} of {host} cannot be listened on ({error.strerror or error}); choose another with --host "
            "and --port"
        ) from None
    return made


def address(listening: socket.socket) -> str:
    """The base URL, ending with /v1."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def run(app: Any, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM: no new requests then, those in flight are answered within ``GRACE`` seconds."""
    import uvicorn

    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE, lifespan="on")
    # uvicorn raises the signal again that it was stopped by, once it has stopped.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run([listening])
