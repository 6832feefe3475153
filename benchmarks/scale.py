"""Whether the store and an executor are linear in the examples and flat in memory: 10³ to 10⁶ fake examples.

    python benchmarks/scale.py [--sizes 1000 10000 100000] [--steps prompts generate read] [--executor local]

Each example has a prompt of 20 words in one language and gets four short answers of the fake backend, which are scored
by an implicit reward of two fakes and paired. Every step of every size is a child process, so that its peak resident
set is its own; the step before has left its files. The steps are a run's:

    prompts   write_prompts: from examples in memory to shards
    generate  the executor over shards: read, four answers each, write
    score     the same with the answers read and two log-probabilities an answer
    pair      the same; length control fits one α over the language, so a unit depends on all of its shards
    again     the last of these over what is done: nothing but keys is compared
    read      Track.examples, to the end

Seconds are of the step alone, without Python's start and imports. ``µs an example`` is the figure that must not grow.

With ``--executor ray`` generate and score each start a Ray of this machine and end it; processor seconds and peak
memory are the driver's, not the actors'.

    python benchmarks/scale.py --predict quickstart --small 60 --times 4 --set models.reference.path=CHECKPOINT

runs a recipe with few training prompts and with so many times more, predicts the second run from the first
(``polypref estimate --calibrate``), and holds the prediction against what it took.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polypref import registry
from polypref.backends.base import ModelSpec, Sampling, silent
from polypref.executors import chosen
from polypref.executors.units import Layer, Task, Work
from polypref.records import Example, parse_example
from polypref.stages import generate as generating
from polypref.stages import pair as pairing
from polypref.stages import score as scoring
from polypref.store.shards import Track, write_prompts

PROMPT = "Say in a few words what the river does when it meets the sea and where the birds go then"
POLYPREF = (sys.executable, "-m", "polypref")
STEPS = ("prompts", "generate", "score", "pair", "again", "read")
POLICY, REFERENCE = (ModelSpec(path=path, backend="fake") for path in ("fake?version=2", "fake"))
LAYERS = {"generate": "round-1/generate", "score": "round-1/score-cross_lingual", "pair": "round-1/pair"}


def example(number: int) -> Example:
    """The same prompt under another number."""
    return parse_example({"id": f"p{number}", "prompts": {"en": f"{PROMPT}, number {number}?"}})


def layers(track: Track, fit: bool) -> dict[str, Layer]:
    """The three stages of a round, as a run lays them: the first two are tasks, which every executor can work on."""
    context, _ = registry.context(("en",), "en", "fake")
    asked = generating.GenerateOptions(
        sources=(generating.Source(role="policy", model=POLICY, n=4),), sampling=Sampling(max_tokens=64), round=1
    )
    scored = scoring.ImplicitOptions(policy=POLICY, reference=REFERENCE, name="cross_lingual")
    paired = pairing.BestWorstOptions(score="cross_lingual", length_control="auto")
    alphas = pairing.fit_best_worst(track.examples(), paired, context) if fit else {}
    answers = Task("polypref.stages.generate:generate", asked, ("en",), "en", "fake")
    scores = Task("polypref.stages.score:implicit", scored, ("en",), "en", "fake")
    work: list[tuple[Any, Work, Task | None]] = [
        (asked, answers.bound(context), answers),
        (scored, scores.bound(context), scores),
        (paired, lambda lang, examples: pairing.best_worst(examples, paired, context, alphas=alphas), None),
    ]
    return {
        name: Layer(name, options.identity(registry.fingerprint), done, whole_language=task is None, task=task)
        for name, (options, done, task) in zip(LAYERS.values(), work, strict=True)
    }


def work(step: str, folder: Path, size: int, shard_size: int, executor: str) -> Callable[[], Any]:
    """What one step does, with all that it needs ready."""
    track = Track(folder, "prompts", ("en",), "en")
    if step == "prompts":
        return lambda: write_prompts(folder / "prompts", [example(k) for k in range(size)], shard_size)
    there = [name for name in LAYERS.values() if (folder / name).is_dir()]
    wanted = there[-1] if step == "again" else LAYERS.get(step, "")
    for layer in there:
        track = track.over(layer) if layer != wanted else track
    if step == "read":
        return lambda: sum(len(found.candidates) for found in track.examples())

    def laid() -> int:
        with chosen(executor) as on:
            return on.map_units(track, layers(track, step == "pair")[wanted], silent)

    return laid


def child(step: str, folder: Path, size: int, shard_size: int, executor: str, answer: Any) -> None:
    """Do one step and tell seconds, processor seconds and the peak resident set in MiB."""
    done = work(step, folder, size, shard_size, executor)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun, busy = time.perf_counter(), time.process_time()
    found = done()
    told = {"seconds": time.perf_counter() - begun, "busy": time.process_time() - busy, "gave": found}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.send({"step": step, "examples": size, **told, "before": before, "peak": peak})


def measured(step: str, folder: Path, size: int, shard_size: int, executor: str) -> dict[str, Any]:
    """One step in a process of its own."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=child, args=(step, folder, size, shard_size, executor, theirs)
    )
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = ours.recv()
    except EOFError:
        process.join()
        sys.exit(f"{step} of {size} examples ended with {process.exitcode}")
    process.join()
    return found


def exponent(rows: list[dict[str, Any]], step: str) -> float | None:
    """The slope of log seconds over log examples of a step; 1 is linear."""
    points = [(math.log(r["examples"]), math.log(r["busy"])) for r in rows if r["step"] == step and r["busy"] > 0]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else None


def predicted(recipe: str, small: int, times: int, overrides: list[str], folder: Path) -> None:
    """Print the seconds that a run took by kind of work, beside those that a smaller one predicts."""
    given = [word for override in overrides for word in ("--set", override)]
    sizes = (small, small * times)
    for limit in sizes:
        place = ["--out", str(folder / str(limit)), "--set", f"prompts.limit={limit}"]
        subprocess.run([*POLYPREF, "run", recipe, *given, *place], check=True, capture_output=True)
    asked = [recipe, *given, "--set", f"prompts.limit={sizes[1]}", "--calibrate", str(folder / str(small)), "--json"]
    told = subprocess.run([*POLYPREF, "estimate", *asked], check=True, capture_output=True).stdout
    steps = json.loads((folder / str(sizes[1]) / "manifest.json").read_text(encoding="utf-8"))["steps"]
    sums: dict[str, list[float]] = {}
    for step in json.loads(told)["steps"]:
        if step["stage"] in steps and step["stage"].startswith("round-"):
            both = sums.setdefault(step["kind"], [0.0, 0.0])
            both[0] += 3600 * step["gpu_hours"]
            both[1] += steps[step["stage"]]["seconds"]
    sums["all"] = [sum(both[k] for both in sums.values()) for k in (0, 1)]
    print(f"{recipe}: {sizes[1]} prompts, predicted from {small}\n")
    print("| work of the rounds | predicted, s | took, s | ratio |\n|---|---|---|---|")
    for kind, (first, second) in sums.items():
        print(f"| {kind} | {first:.1f} | {second:.1f} | {first / second if second else float('nan'):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="in this order")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder when left out")
    parser.add_argument("--json", type=Path, help="append a line a measurement")
    parser.add_argument("--predict", help="a recipe whose longer run is predicted from a shorter one")
    parser.add_argument("--small", type=int, default=60, help="training prompts of the shorter run")
    parser.add_argument("--times", type=int, default=4, help="so many times more in the longer one")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="a.b=VALUE")
    options = parser.parse_args()
    if options.predict:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            predicted(options.predict, options.small, options.times, options.overrides, Path(name))
        return
    rows: list[dict[str, Any]] = []
    print("| step | examples | seconds | processor seconds | µs an example | peak memory | bytes an example on disk |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="scale-"))
        try:
            for step in options.steps:
                held = used(folder)
                row = measured(step, folder, size, options.shard_size, options.executor)
                rows.append(row | {"bytes": (used(folder) - held) / size})
                print(line(rows[-1]), flush=True)
                if options.json:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    slopes = {step: exponent(rows, step) for step in options.steps}
    if told := ", ".join(f"{step} {slope:.2f}" for step, slope in slopes.items() if slope is not None):
        print(f"\nProcessor seconds grow with the examples to the power of: {told}.")


def used(folder: Path) -> int:
    """Bytes of the files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def line(row: dict[str, Any]) -> str:
    return (
        f"| {row['step']} | {row['examples']:,} | {row['seconds']:.1f} | {row['busy']:.1f} "
        f"| {1e6 * row['busy'] / row['examples']:.0f} | {row['peak']:.0f} MiB | {row['bytes']:.0f} |"
    )


if __name__ == "__main__":
    main()
