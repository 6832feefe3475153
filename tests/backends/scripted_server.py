"""An OpenAI-compatible server that answers as a test tells it to, faults of the wire included, on 127.0.0.1.

    with ScriptedServer(Reply.texts("hello")) as server:      # every call gets this
    with ScriptedServer([Reply(500), Reply.texts("hello")])   # one after the other; the last one stays
    with ScriptedServer(lambda body: Reply.texts(…))          # whatever the body asks for

It keeps what it was sent (``bodies``, ``headers``, ``paths``) and the largest number of requests open at once.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer. ``cut`` sends only so many bytes of a body that was announced whole; ``hang_up`` sends nothing and
    closes; ``silent`` sends nothing and waits for the server's end."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang_up: bool = False
    silent: bool = False

    @classmethod
    def texts(cls, *texts: str | None, finish_reason: Any = "stop", **message: Any) -> Reply:
        """A completion with one choice a text."""
        return cls.choices(
            *(
                {"message": {"role": "assistant", "content": t, **message}, "finish_reason": finish_reason}
                for t in texts
            )
        )

    @classmethod
    def choices(cls, *choices: Any) -> Reply:
        return cls(body={"object": "chat.completion", "choices": list(choices)})

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Script = Callable[[dict[str, Any]], Reply]


class _Quiet(ThreadingHTTPServer):
    """A client that hangs up in the middle of an answer is no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ScriptedServer:
    """Serves from ``with`` to its end, each connection in a thread of its own."""

    def __init__(self, script: Reply | Sequence[Reply] | Script) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        self.asked = threading.Event()
        self._at_once = 0
        self._script = script
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._http = _Quiet(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._http.daemon_threads = True
        self._http.request_queue_size = 128
        self._http.server_bind()
        self._http.server_activate()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._http.shutdown()
        self._http.server_close()

    def prompts(self) -> list[str]:
        """The last user turn of each call, in the order of their arrival."""
        return [body["messages"][-1]["content"] for body in self.bodies]

    def _reply(self, body: dict[str, Any], number: int) -> Reply:
        if isinstance(self._script, Reply):
            return self._script
        if callable(self._script):
            return self._script(body)
        return self._script[min(number, len(self._script) - 1)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.headers.append({k.lower(): v for k, v in self.headers.items()})
                    server.paths.append(self.path)
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                server.asked.set()
                reply = server._reply(body, number)
                with server._lock:  # before the answer leaves, else the client's next request could seem to overlap
                    server._at_once -= 1
                self.answer(reply)

            def answer(self, reply: Reply) -> None:
                if reply.silent:
                    server._over.wait()
                if reply.silent or reply.hang_up:
                    self.close_connection = True
                    return
                content = reply.content
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: reply.cut])
                self.close_connection = reply.cut is not None

            def log_message(self, *args: object) -> None:
                pass

        return Handler
