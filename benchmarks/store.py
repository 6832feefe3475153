"""Shards written, read and laid over each other, from 10³ to 10⁶ candidates: one shard of 1000 candidates to 1000.

    python benchmarks/store.py [--shards 1 10 100 1000] [--characters 300] [--repeat 5] [--folder DIR]

A shard holds 250 examples in one language, four answers each. Steps, each a child process on one core:

- write: a layer of answers (``map_units``: read the prompts, take the difference, write the shard, sync it);
- score: a layer of scores over it (apply the answers, take the difference, write);
- read: all examples, both layers applied;
- again: the layer of scores once more, when every key stands.

Seconds are of the step, medians of the repeats; memory is the process's peak resident set, its libraries included.
``more`` is what a candidate takes between a number of shards and the one before, in processor time, which other work
on the machine disturbs less: it is the same at every size where time is linear.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter, process_time

from measuring import child, table

from polypref.backends.base import silent
from polypref.executors.local import Layer, map_units
from polypref.records import Candidate, Example, parse_example, to_json
from polypref.store.atomic import digest
from polypref.store.shards import Track, part, write_shard

EXAMPLES, ANSWERS = 250, 4
STEPS = ("write", "score", "read", "again")
WORDS = ("river", "market", "teacher", "letter", "morning", "light", "house", "harbour")


def prompts(folder: Path, shards: int) -> None:
    """The prompt shards, which no step is timed with."""
    for index in range(shards):
        names = (f"{index}-{k}" for k in range(EXAMPLES))
        rows = [to_json(parse_example({"id": name, "prompts": {"en": f"Prompt {name}?"}})) for name in names]
        write_shard(folder / "prompts" / part(index), digest(rows), rows)


def answers(characters: int) -> Callable[[str, Iterable[Example]], Iterator[Example]]:
    """A stage that answers every prompt with a part of one long text, so that texts differ."""
    noise = random.Random(0)
    words = " ".join(noise.choices(WORDS, k=20_000))

    def work(lang: str, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            first = noise.randrange(50_000)
            starts = [first + 7 * k for k in range(ANSWERS)]
            made = [
                Candidate(f"{example.id}/{k}", lang, words[start : start + characters], origin="sampled")
                for k, start in enumerate(starts)
            ]
            yield dataclasses.replace(example, candidates=made)

    return work


def scores(lang: str, examples: Iterable[Example]) -> Iterator[Example]:
    """A stage that scores every answer."""
    for example in examples:
        scored = [dataclasses.replace(c, scores=c.scores | {"s": k / 7}) for k, c in enumerate(example.candidates)]
        yield dataclasses.replace(example, candidates=scored)


def step(name: str, folder: Path, characters: int) -> tuple[float, float]:
    """Seconds of one step, of the clock and of the processor."""
    track = Track(folder, "prompts", ("en",), "en")
    begun, busy = perf_counter(), process_time()
    if name == "write":
        done = map_units(track, Layer("answers", {}, answers(characters)), silent)
    elif name == "read":
        done = sum(1 for _ in track.over("answers").over("score").examples()) // EXAMPLES
    else:
        done = map_units(track.over("answers"), Layer("score", {}, scores), silent)
    if done != (0 if name == "again" else track.count):
        sys.exit(f"{name}: {done} of {track.count} shards")
    return perf_counter() - begun, process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--characters", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where there is room for 0.3 GB")
    parser.add_argument("--step", choices=STEPS, help="do this once, in --folder, and tell its seconds")
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(step(asked.step, asked.folder, asked.characters)))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    before: dict[str, tuple[int, float]] = {}
    for shards in asked.shards:
        with tempfile.TemporaryDirectory(dir=asked.folder) as name:
            folder = Path(name)
            prompts(folder, shards)
            times: dict[str, list[tuple[float, float]]] = {one: [] for one in STEPS}
            peaks: dict[str, float] = {}
            for _ in range(asked.repeat):
                for one in STEPS:
                    options = ("--step", one, "--folder", folder, "--characters", asked.characters)
                    used = child([sys.executable, __file__, *options])
                    times[one].append(json.loads(used.out))
                    peaks[one] = max(peaks.get(one, 0), used.mib)
                size = sum(file.stat().st_size for file in folder.rglob("*.parquet")) / 2**20
                for layer in ("answers", "score"):
                    shutil.rmtree(folder / layer)
        candidates = shards * EXAMPLES * ANSWERS
        for one in STEPS:
            seconds, processor = (statistics.median(values) for values in zip(*times[one], strict=True))
            other, then = before.get(one, (0, 0.0))
            more = f"{1e6 * (processor - then) / (candidates - other):.0f}" if other else ""
            before[one] = candidates, processor
            cells = f"{size:.1f}", f"{seconds:.2f}", f"{processor:.2f}", f"{peaks[one]:.0f}", more
            rows.append((one, shards, f"{candidates:,}", *cells))
    columns = ("step", "shards", "candidates", "on disk, MiB", "seconds", "processor, s", "peak, MiB")
    print(table((*columns, "more, µs a candidate"), sorted(rows, key=lambda row: STEPS.index(row[0]))))


if __name__ == "__main__":
    main()
