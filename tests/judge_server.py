"""A judge that follows a rule, on a server that fails by a script: a process of its own on 127.0.0.1.

    python judge_server.py LOG      prints its base URL and serves until it is ended

It compares the two answers that it is shown and prefers the one that holds ``right``; two or none is a tie. What goes
wrong with a request is told by a hash of its text alone (``fate``), so that a test knows it beforehand. Every request
leaves a line in LOG as it comes: the digest of its text.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

FAULTS = ("429", "500", "cut", "hung up", "slow", "no JSON", "no completion", "no verdict", "nothing")
"""All but the last two are worth another try."""
FAULTY, STUBBORN = 0.2, 0.15
"""The share of requests that meet a fault, and of these the share that meets it at every try."""
SLOW = 30.0
"""Seconds of a slow answer, which no client of the tests waits for."""
_ANSWER = re.compile(r"<answer ([AB]) (\w+)>\n(.*?)\n</answer \1 \2>", re.DOTALL)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fate(text: str) -> tuple[str | None, bool]:
    """What goes wrong with a request, None for nothing, and whether it does so at every try."""
    number = int(digest(text), 16)
    if number % 1000 >= 1000 * FAULTY:
        return None, False
    fault = FAULTS[number // 1000 % len(FAULTS)]
    return fault, fault in FAULTS[-2:] or number // 10**6 % 1000 < 1000 * STUBBORN


def verdict(text: str) -> str:
    """A, B or C by the rule."""
    right = [letter for letter, _, answer in _ANSWER.findall(text) if "right" in answer]
    return right[0] if len(right) == 1 else "C"


def reply(said: str) -> tuple[bytes, bytes]:
    """Head and body of a good answer."""
    choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    return head_and_body("200 OK", {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 7}})


def head_and_body(status: str, value: object, *headers: str) -> tuple[bytes, bytes]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode(), body


async def serve(log: Path) -> None:
    tries: Counter[str] = Counter()

    async def answer(text: str) -> tuple[bytes, bytes]:
        fault, stubborn = fate(text)
        tries[digest(text)] += 1
        if tries[digest(text)] > 1 and not stubborn:
            fault = None
        if fault == "slow":
            await asyncio.sleep(SLOW)
        if fault == "429":
            return head_and_body("429 Too Many Requests", {"error": {"message": "slow down"}}, "Retry-After: 0.02")
        if fault == "500":
            return head_and_body("500 Internal Server Error", b"<html>oops</html>")
        if fault == "no JSON":
            return head_and_body("200 OK", b'{"choices": [')
        if fault == "no completion":
            return head_and_body("200 OK", {"colour": "green"})
        if fault == "no verdict":
            return reply("I would rather not say.")
        if fault == "nothing":
            return reply("")
        head, body = reply(f"One of them says what is asked.\n\n[[{verdict(text)}]]")
        return (head, body[:20]) if fault == "cut" else (b"", b"") if fault == "hung up" else (head, body)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                asked = json.loads(await reader.readexactly(length))["messages"][-1]["content"]
                lines.write(digest(asked) + "\n")
                said, body = await answer(asked)
                writer.write(said + body)
                await writer.drain()
                if int(said.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or -1) != len(body):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    with log.open("a", buffering=1) as lines:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
