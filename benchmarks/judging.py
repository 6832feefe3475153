"""What judging costs beside the judge: 2000 comparisons at a server that answers in 50 ms and takes 64 at a time.

    python benchmarks/judging.py [--comparisons 2000] [--seconds 0.05] [--at-once 64] [--repeat 5]

The server is a process of its own, raw asyncio, and answers nobody before its 50 ms are over; what comes beyond 64 at a
time waits. The client is this process, the real way from matches to judgments: prompt, both orders, journal on the
disk, verdict. Ideal is requests / 64 · 50 ms. Each repeat has an empty journal. The time is of judging alone, without
Python's start; the ratio is the median's to the ideal. Processor seconds are the client's, which other work on the
machine disturbs less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from polypref import registry
from polypref.stages.judge_matches import JudgeOptions, judge_matches
from polypref.stages.matches import Match
from polypref.store.journal import Journal

SAID = "Both answer the question.\n\n[[A]]"


def serve(ready: Connection, seconds: float, at_once: int) -> None:
    """Answer every POST with the same verdict until the process is ended; tells its port first."""
    answer = {
        "choices": [{"message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 12},
    }
    content = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    said = head.encode() + content
    waiting: deque[asyncio.WriteTransport] = deque()
    free = at_once

    class Asked(asyncio.Protocol):
        """A connection; one request at a time stands in its buffer."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.buffer = cast(asyncio.WriteTransport, transport), b""

        def data_received(self, data: bytes) -> None:
            self.buffer += data
            head, found, body = self.buffer.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if found and len(body) >= int(length):
                self.buffer = b""
                waiting.append(self.transport)
                begin()

    def begin() -> None:
        nonlocal free
        while free and waiting:
            free -= 1
            asyncio.get_running_loop().call_later(seconds, end, waiting.popleft())

    def end(transport: asyncio.WriteTransport) -> None:
        nonlocal free
        free += 1
        transport.write(said)
        begin()

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Asked, "127.0.0.1", 0, backlog=1024)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def made(count: int) -> list[Match]:
    """Matches whose answers are of a usual length, about 1500 characters."""
    text = "The river runs past the market and the old houses near the harbour. " * 22
    asked = [{"role": "user", "content": "Tell me about the town."}]
    return [Match(str(k), "en", asked, "ours", "theirs", f"{k} {text}", f"{text} {k}") for k in range(count)]


def judged(url: str, matches: list[Match], at_once: int) -> tuple[float, float]:
    """Seconds of judging them all, of the clock and of the processor."""
    model = {"path": "judge", "backend": "openai", "url": url, "concurrency": at_once}
    options = JudgeOptions.model_validate(
        {"name": "judge", "judge": {"scorer": "pair_judge", "model": model, "settings": {"read": "verdict"}}}
    )
    context, opener = registry.context()
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl") as journal:
        begun, busy = time.perf_counter(), time.process_time()
        run = judge_matches(matches, options, context, journal)
        found = list(run)
        seconds = time.perf_counter() - begun, time.process_time() - busy
    opener.close()
    if run.spent.requests != 2 * len(matches) or any(one.preference != 0.5 for one in found):
        sys.exit(f"not every comparison was judged: {run.spent}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one answer")
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, options.seconds, options.at_once), daemon=True
    )
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    matches = made(options.comparisons)
    judged(url, matches[: options.at_once], options.at_once)  # what is imported at the first time is not judging
    times = [judged(url, matches, options.at_once) for _ in range(options.repeat)]
    server.terminate()
    ideal = 2 * options.comparisons / options.at_once * options.seconds
    median, busy = (statistics.median(values) for values in zip(*times, strict=True))
    print(f"ideal {ideal:.2f} s; {', '.join(f'{seconds:.2f}' for seconds, _ in times)} s; median {median:.2f} s")
    print(
        f"ratio {median / ideal:.3f}; processor {busy:.2f} s, {1e3 * busy / options.comparisons / 2:.2f} ms a request"
    )


if __name__ == "__main__":
    main()
