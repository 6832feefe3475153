"""What the script fast path of the language identifier saves, and what language fidelity costs, on real texts.

    python benchmarks/language_fidelity.py DATA [--repeat 5] [--fast-path]

DATA is a folder with ``prompts/x_alpacaeval/<lang>.json`` and ``responses/x_alpacaeval/<model>/<lang>.jsonl``. The
lines of a language's prompts are identified with the fast path and without it, among two languages and among thirteen;
verdicts must be the same. Processor seconds, the least of the repeats, on one core (RAYON_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polypref import registry
from polypref.backends.language_id import LinguaIdentifier
from polypref.records import Candidate, Example
from polypref.stages.language_fidelity import LanguageFidelityOptions, language_fidelity

LANGUAGES = ("ar", "bn", "de", "en", "es", "fr", "it", "ja", "ko", "ru", "sw", "th", "zh")
ALONE = ("bn", "ko", "th")
MODEL = "gpt-4-turbo-2024-04-09"


def least(work: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """The least processor seconds of the repeats, and what the work gave."""
    seconds = []
    for _ in range(repeat):
        begun = time.process_time()
        found = work()
        seconds.append(time.process_time() - begun)
    return min(seconds), found


def identified(among: Sequence[str], texts: Sequence[str], fast: bool, repeat: int) -> tuple[float, list[str | None]]:
    """Seconds and tags of an identifier that has its models open and remembers nothing."""
    identifier = LinguaIdentifier(among)
    identifier.identify(["the words of a text that opens the models of every language"])
    if not fast:
        identifier._alone = {}

    def work() -> list[str | None]:
        identifier._told.clear()
        return [found.tag for found in identifier.identify(texts)]

    return least(work, repeat)


def fast_path(data: Path, repeat: int) -> None:
    print("| language | among | lines | lingua, s | with scripts, s | ratio |")
    print("|---|---|---|---|---|---|")
    for lang in ALONE:
        rows = json.loads((data / f"prompts/x_alpacaeval/{lang}.json").read_text(encoding="utf-8"))
        prompts = [row["instruction"] for row in rows]
        texts = [line for prompt in prompts for line in prompt.splitlines() if line.strip()]
        for among in (("en", lang), LANGUAGES):
            (slow, one), (fast, other) = (identified(among, texts, fast, repeat) for fast in (False, True))
            assert one == other, "the fast path changes a verdict"
            print(f"| {lang} | {len(among)} | {len(texts)} | {slow:.3f} | {fast:.3f} | {slow / fast:.2f} |")


def whole(data: Path) -> None:
    files = sorted((data / f"responses/x_alpacaeval/{MODEL}").glob("*.jsonl"))
    examples: dict[str, Example] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            example = examples.setdefault(str(row["id"]), Example(str(row["id"]), {}))
            example.candidates.append(Candidate(file.stem, file.stem, row["response"]))
    context, opener = registry.context(tuple(file.stem for file in files))
    seconds, _ = least(lambda: language_fidelity(examples.values(), LanguageFidelityOptions(), context), 1)
    opener.close()
    answers = sum(len(example.candidates) for example in examples.values())
    each = 1000 * seconds / answers
    print(f"\n{answers} answers of {MODEL} in {len(files)} languages: {seconds:.1f} s, {each:.1f} ms each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--fast-path", action="store_true", help="that alone")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    fast_path(given.data, given.repeat)
    if not given.fast_path:
        whole(given.data)


if __name__ == "__main__":
    main()
