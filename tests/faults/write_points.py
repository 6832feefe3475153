"""SIGKILL at every write point of a run, each by a child that is forked with everything imported.

``python -m faults.write_points RECIPE FOLDER`` runs the recipe undisturbed, then once for each n up to its last write
point: a child kills itself right before its n-th write below the run's folder, another one runs the same command to
its end. It prints a line of JSON: how many write points there are, how many were tried, at how many the outcome was
another, and which files that stood at the kill were made again.

A write point is what Python tells its audit hooks of a change to the file system. Libraries that write in C or Rust
(Parquet, safetensors) do so between two such points, into a file or folder that has no name yet.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {
    "os.rename": 2,
    "os.remove": 1,
    "os.mkdir": 2,
    "os.rmdir": 1,
    "os.truncate": None,
    "os.link": 2,
    "os.symlink": 2,
}
"""Events that change the file system, and where each has the descriptor of the folder that its path starts from."""

Doing = Callable[[Path], None]


def watch(root: Path, act: Callable[[int], None]) -> None:
    """From here on call ``act(n)`` right before this process' n-th write below ``root``. A hook cannot be taken off."""
    count, folder = 0, os.path.realpath(root)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, descriptor = arguments[0], -1
            if not arguments[2] & WRITES:
                return
        elif event in CHANGES:
            place = CHANGES[event]
            path, descriptor = arguments[0], -1 if place is None else arguments[place]
        else:
            return
        if _below(path, descriptor, folder):
            count += 1
            act(count)

    sys.addaudithook(hook)


def _below(path: Any, descriptor: int, folder: str) -> bool:
    if isinstance(path, int):
        path, descriptor = "", path
    start = os.getcwd() if descriptor in (-1, -100) else os.readlink(f"/proc/self/fd/{descriptor}")
    place = os.path.normpath(os.path.join(start, os.fsdecode(path)))
    return place == folder or place.startswith(folder + os.sep)


def killed_at(number: int) -> Callable[[int], None]:
    """What ends this process at that write."""

    def act(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def child(work: Callable[[], None]) -> int:
    """The exit status of a forked process that does ``work``; the negative of a signal that ended it."""
    sys.stdout.flush()
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(70)


def run_recipe(recipe: Path, out: Path) -> None:
    """The command, without its charts."""
    from polypref import reporting
    from polypref.recipe_file import read_recipe
    from polypref.run import run

    reporting.render = lambda data: data.name
    run(read_recipe(recipe), out)


def undisturbed(recipe: Path, out: Path, notes: Path) -> int:
    """How many write points a run has. What it imports is then imported here, so that every child has it."""

    def work() -> None:
        counted = 0

        def act(count: int) -> None:
            nonlocal counted
            counted = count

        watch(out, act)
        run_recipe(recipe, out)
        notes.write_text(json.dumps({"points": counted, "modules": [*sys.modules]}), encoding="utf-8")

    if child(work):
        raise SystemExit("the undisturbed run failed")
    found = json.loads(notes.read_text(encoding="utf-8"))
    for name in found["modules"]:
        with contextlib.suppress(ImportError):  # some are made by their package as it goes, and found under no name
            importlib.import_module(name)
    return int(found["points"])


def results_of_work(out: Path) -> dict[str, tuple[int, int]]:
    """What was computed and stands whole: shards, checkpoints, measurements."""
    from runs import stamps

    if not out.exists():
        return {}
    made = {name: stamp for name, stamp in stamps(out).items() if not Path(name).name.startswith(".")}
    hidden = (name for name in made if any(part.startswith(".") for part in Path(name).parts))
    return {
        name: made[name] for name in made.keys() - set(hidden) if Path(name).name not in ("results.json", "report.html")
    }


def the_same(expected: Path, found: Path, timed: bool) -> bool:
    """Whether two runs came to the same, to the byte; where trainings are ``timed``, as ``digests`` compares them."""
    from runs import outcome

    def compare() -> None:
        from faults.digests import differences

        if told := differences(expected, found):
            raise SystemExit("; ".join(told[:3]))

    return child(compare) == 0 if timed else outcome(expected) == outcome(found)


def try_all(recipe: Path, folder: Path, first: int, every: int, timed: bool) -> dict[str, Any]:
    """The kills at ``first``, ``first + every``, … and what came of them."""
    from runs import left_half_written

    points = undisturbed(recipe, folder / "whole", folder / "notes.json")
    tried, different, again = 0, [], {}
    for number in range(first, points + 1, every):
        out = folder / "run"

        def killed(number: int = number, out: Path = out) -> None:
            watch(out, killed_at(number))
            run_recipe(recipe, out)

        if child(killed) != -signal.SIGKILL:
            raise SystemExit(f"the run ended before its write point {number} of {points}")
        stood = results_of_work(out)
        tried += 1
        failed = child(lambda out=out: run_recipe(recipe, out))
        if failed or not the_same(folder / "whole", out, timed) or left_half_written(out):
            different.append(number)
        if not failed:
            now = results_of_work(out)
            if made := sorted(name for name in stood if now.get(name) != stood[name]):
                again[number] = made
        shutil.rmtree(out)
    return {"points": points, "tried": tried, "different": different, "again": again}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--timed", action="store_true", help="trainings tell how long they took, so compare no bytes")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(try_all(chosen.recipe, chosen.folder, chosen.first, chosen.every, chosen.timed)))


if __name__ == "__main__":
    main()
