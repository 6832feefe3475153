"""How long pairing takes, and how much memory: the real command, file in, file out, on one core.

    python benchmarks/pairing.py [--sizes 25000 50000 100000] [--repeat 3] [--folder DIR]

Each example has a prompt in two languages and four answers of about 1500 characters: for imbalance one in each
language and the translation of each into the other, for best-worst two scored ones in each language. Times are of the
whole child process with its start, the best of the repeats; memory is its peak resident set, the largest of them.
Ratios are of processor seconds, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENGLISH = "the of river market and teacher opens a letter while morning light falls over old houses near harbour with"
SPANISH = "el de río mercado y maestra abre una carta mientras la luz mañana cae sobre las casas viejas cerca del está"
RULES = {
    "imbalance": ("pair", "imbalance", "--pivot", "en"),
    "best-worst": ("pair", "best-worst", "--score", "judge", "--language-check", "off"),
}


def texts(words: str, seed: int, count: int = 500) -> list[str]:
    """Texts of log-normal length, 1500 characters in the mean, in sentences and paragraphs."""
    noise = random.Random(seed)
    made = []
    for _ in range(count):
        length = min(6000.0, max(200.0, noise.lognormvariate(7.24, 0.4)))
        text = ""
        while len(text) < length:
            sentence = " ".join(noise.choices(words.split(), k=noise.randint(6, 18))).capitalize()
            text += sentence + (".\n\n" if noise.random() < 0.15 else ". ")
        made.append(text.strip())
    return made


def examples(rule: str, count: int) -> Iterator[dict[str, Any]]:
    """Synthetic examples that give a pair in each language."""
    noise = random.Random(0)
    pools = {"en": texts(ENGLISH, 1), "es": texts(SPANISH, 2)}
    for number in range(count):
        candidates = []
        for name, lang, parent in (("a", "en", None), ("b", "es", None), ("c", "es", "a"), ("d", "en", "b")):
            translated = rule == "imbalance" and parent is not None
            candidates.append(
                {
                    "id": f"{number}/{name}",
                    "lang": lang,
                    "text": f"{number}{name}: {noise.choice(pools[lang])}",
                    "origin": "translated" if translated else "sampled",
                    "parent": f"{number}/{parent}" if translated else None,
                    "finish_reason": "stop",
                    "scores": {"judge": noise.random()},
                }
            )
        prompts = {lang: noise.choice(pool)[:150] for lang, pool in pools.items()}
        yield {"id": f"example-{number}", "prompts": prompts, "candidates": candidates}


def measure(rule: str, given: Path, count: int) -> tuple[float, float, float]:
    """(seconds, seconds of processor time, MiB at the peak) of one child process on one core."""
    paired = given.with_name("paired.jsonl")
    command = [sys.executable, "-m", "polypref", *RULES[rule], "--input", given, "--output", paired, "--json"]
    begun = time.perf_counter()
    child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = json.loads(child.stdout.read())
    _, status, used = os.wait4(child.pid, 0)
    took = time.perf_counter() - begun
    pairs = told["pairs"] if rule == "imbalance" else sum(figures["pairs"] for figures in told.values())
    if status or pairs != 2 * count:
        sys.exit(f"{rule} on {count} examples: status {status}, {pairs} pairs where there should be {2 * count}")
    paired.unlink()
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[25_000, 50_000, 100_000])
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where there is room for two files of 0.7 GB; /tmp when left out")
    asked = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("| rule | examples | input | seconds | processor seconds | peak memory | ratio to the size before |")
    print("|---|---|---|---|---|---|---|")
    spent: dict[tuple[str, int], float] = {}
    for rule in asked.rules:
        before: tuple[int, float] | None = None
        for count in asked.sizes:
            with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
                given = Path(folder) / "given.jsonl"
                with given.open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps(e, ensure_ascii=False) + "\n" for e in examples(rule, count))
                size = given.stat().st_size / 2**20
                runs = [measure(rule, given, count) for _ in range(asked.repeat)]
            seconds, processor, memory = min(r[0] for r in runs), min(r[1] for r in runs), max(r[2] for r in runs)
            ratio = f"{processor / before[1]:.2f} for {count / before[0]:g} times as many" if before else ""
            before = count, processor
            spent[rule, count] = processor
            row = f"{count} | {size:.0f} MiB | {seconds:.1f} | {processor:.1f} | {memory:.0f} MiB | {ratio}"
            print(f"| {rule} | {row} |", flush=True)
    if len(asked.rules) == 2:
        ratios = (f"{spent['best-worst', n] / spent['imbalance', n]:.2f} at {n}" for n in asked.sizes)
        print(f"best-worst to imbalance: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
