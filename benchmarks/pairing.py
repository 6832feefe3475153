"""How long pairing and export take, and how much memory, from 10³ to 10⁶ candidates: the real commands on files.

    python benchmarks/pairing.py [--sizes 1000 10000 100000 1000000] [--characters 300] [--repeat 5] [--folder DIR]

Each example has a prompt in two languages and four answers: for imbalance one in each language and the translation of
each into the other, for best-worst (one α a language, fitted) two scored ones in each language. Export writes the pairs
of best-worst as TRL's rows. Times are of the whole child process on one core with its start, medians of the repeats;
memory is its peak resident set. ``more`` is what a candidate takes between a size and the one before, in processor
time, which other work on the machine disturbs less: it is the same at every size where time is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import Used, child, median, table

ENGLISH = "the of river market and teacher opens a letter while morning light falls over old houses near harbour with"
SPANISH = "el de río mercado y maestra abre una carta mientras la luz mañana cae sobre las casas viejas cerca del está"
COMMANDS = {
    "pair imbalance": ("pair", "imbalance", "--pivot", "en"),
    "pair best-worst": (
        *("pair", "best-worst", "--score", "judge"),
        *("--length-control", "auto", "--language-check", "off"),
    ),
    "export": ("export", "--format", "trl"),
}


def texts(words: str, seed: int, characters: float, count: int = 500) -> list[str]:
    """Texts of log-normal length, so many characters in the mean, in sentences and paragraphs."""
    noise = random.Random(seed)
    made = []
    for _ in range(count):
        length = characters * min(4.0, max(0.1, noise.lognormvariate(-0.08, 0.4)))
        text = ""
        while len(text) < length:
            sentence = " ".join(noise.choices(words.split(), k=noise.randint(6, 18))).capitalize()
            text += sentence + (".\n\n" if noise.random() < 0.15 else ". ")
        made.append(text.strip())
    return made


def examples(translated: bool, count: int, characters: float) -> Iterator[dict[str, Any]]:
    """Synthetic examples that give a pair in each language."""
    noise = random.Random(0)
    pools = {"en": texts(ENGLISH, 1, characters), "es": texts(SPANISH, 2, characters)}
    for number in range(count):
        candidates = []
        for name, lang, parent in (("a", "en", None), ("b", "es", None), ("c", "es", "a"), ("d", "en", "b")):
            candidates.append(
                {
                    "id": f"{number}/{name}",
                    "lang": lang,
                    "text": f"{number}{name}: {noise.choice(pools[lang])}",
                    "origin": "translated" if translated and parent else "sampled",
                    "parent": f"{number}/{parent}" if translated and parent else None,
                    "finish_reason": "stop",
                    "scores": {"judge": noise.random()},
                }
            )
        prompts = {lang: noise.choice(pool)[:150] for lang, pool in pools.items()}
        yield {"id": f"example-{number}", "prompts": prompts, "candidates": candidates}


def measure(command: str, given: Path, target: Path, count: int) -> Used:
    """One run of a command; it must have made or written the pairs of every example, one in each language."""
    arguments = (*COMMANDS[command], "--input", given, "--output", target, "--json")
    used = child([sys.executable, "-m", "polypref", *arguments])
    told = json.loads(used.out)
    pairs = told["pairs"] if command != "pair best-worst" else sum(figures["pairs"] for figures in told.values())
    if (sum(pairs.values()) if isinstance(pairs, dict) else pairs) != 2 * count:
        sys.exit(f"{command} on {count} examples: {pairs} pairs where there should be {2 * count}")
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6], help="candidates")
    parser.add_argument("--characters", type=float, default=300, help="of an answer, in the mean")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where there is room for three files; the largest 0.5 GB each")
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    before: dict[str, tuple[int, Used]] = {}
    for size in asked.sizes:
        with tempfile.TemporaryDirectory(dir=asked.folder) as name:
            folder, count = Path(name), size // 4
            for command in COMMANDS:
                given = folder / ("paired.jsonl" if command == "export" else "given.jsonl")
                target = folder / ("exported" if command == "export" else "paired.jsonl")
                if command != "export":
                    with given.open("w", encoding="utf-8") as file:
                        for example in examples(command == "pair imbalance", count, asked.characters):
                            file.write(json.dumps(example, ensure_ascii=False) + "\n")
                used = median(lambda: measure(command, given, target, count), asked.repeat)  # noqa: B023
                megabytes = given.stat().st_size / 2**20
                more = ""
                if command in before:
                    other, then = before[command]
                    more = f"{1e6 * (used.processor - then.processor) / (size - other):.0f}"
                before[command] = size, used
                cells = f"{used.seconds:.2f}", f"{used.processor:.2f}", f"{used.mib:.0f}"
                rows.append((command, f"{size:,}", f"{megabytes:.0f}", *cells, more))
    columns = ("command", "candidates", "input, MiB", "seconds", "processor, s", "peak, MiB", "more, µs a candidate")
    print(table(columns, sorted(rows, key=lambda row: list(COMMANDS).index(row[0]))))


if __name__ == "__main__":
    main()
