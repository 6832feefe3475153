"""The driver of the sandbox's ICR run killed at random times, again and again, until it has come to its end.

``python -m faults.kills --kills 200 --seed 0 --folder runs/kills`` makes the run once undisturbed; then it starts the
same command and sends it SIGKILL 1 to 20 s later, and so on. A run that reaches its end is compared with the
undisturbed one, and another is begun, until there were as many kills as asked; the last run is left to come to its end.
Called again it goes on where it was (``kills.jsonl`` holds a line a life), unless polypref has changed since; it exits
with 1 when anything differed.

Trainings save every few steps here: the sandbox's are shorter than what ``save_steps`` is meant for, and a life of
20 s would finish none.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polypref
from faults.digests import differences
from faults.table import record
from faults.write_points import results_of_work
from polypref.store.atomic import digest, file_digest

SHORTEST, LONGEST = 1.0, 20.0
SAVES = ("alignment.train.save_steps=4", "train.save_steps=4")


def command(recipe: str, overrides: list[str], out: Path) -> list[str]:
    """What is killed and started again."""
    given = [word for override in overrides for word in ("--set", override)]
    return [sys.executable, "-m", "polypref", "run", recipe, *given, "--out", str(out)]


def first_model(seed: int) -> Path:
    """The sandbox's SFT model of a seed, trained now or found in the cache."""
    from polypref.quickstart import cache, find
    from polypref.sandbox.model import sft_checkpoint

    return sft_checkpoint(cache(), seed, settings=find("icr").first)


def source() -> str:
    """A digest of polypref's own files."""
    folder = Path(polypref.__file__).parent
    return digest([file_digest(path) for path in sorted(folder.rglob("*.py"))])


def begin(folder: Path) -> None:
    """Make the folder, without what was found of another polypref."""
    mark = folder / "source"
    if folder.exists() and not (mark.exists() and mark.read_text(encoding="utf-8") == source()):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(source(), encoding="utf-8")


class Kills:
    """The lives of a command, each a line of a file, so that they can be gone on with."""

    def __init__(self, folder: Path, recipe: str, overrides: list[str], seed: int) -> None:
        self.folder, self.recipe, self.overrides, self.seed = folder, recipe, overrides, seed
        self.diary = folder / "kills.jsonl"
        lines = self.diary.read_text(encoding="utf-8").splitlines() if self.diary.exists() else []
        self.lives: list[dict[str, Any]] = [json.loads(line) for line in lines]

    @property
    def killed(self) -> int:
        return sum(life["killed"] for life in self.lives)

    def until(self, kills: int) -> None:
        """Kill until there were so many, then let the last run come to its end."""
        self.reference()
        while self.killed < kills:
            self.live(random.Random(f"{self.seed}/{len(self.lives)}").uniform(SHORTEST, LONGEST))
        if self.lives[-1]["killed"]:
            self.live(None)

    def reference(self) -> None:
        """The run that nothing disturbs."""
        if not (self.folder / "reference" / "results.json").exists():
            say("the undisturbed run")
            with (self.folder / "log").open("ab") as log:
                subprocess.run(
                    command(self.recipe, self.overrides, self.folder / "reference"), stdout=log, stderr=log, check=True
                )

    def live(self, seconds: float | None) -> None:
        """One life: the command, for so long, or to its end."""
        out = self.folder / "run"
        before = results_of_work(out)
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command(self.recipe, self.overrides, out), stdout=log, stderr=log)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
                process.wait()
        after = results_of_work(out)
        killed = process.returncode == -signal.SIGKILL
        life: dict[str, Any] = {
            "killed": killed,
            "seconds": seconds and round(seconds, 2),
            "finished": len(after.keys() - before.keys()),
            "again": sorted(name for name in before if after.get(name) != before[name]),
        }
        if not killed:
            if process.returncode:
                raise SystemExit(f"the command failed with {process.returncode}; see {self.folder / 'log'}")
            life["different"] = differences(self.folder / "reference", out)
            shutil.rmtree(out)
        self.lives.append(life)
        with self.diary.open("a", encoding="utf-8") as file:
            file.write(json.dumps(life) + "\n")
        say(f"{self.killed} kills, {len(after)} files: {json.dumps(life)[:300]}")

    def told(self) -> dict[str, Any]:
        """What came of all lives."""
        ends = [life for life in self.lives if not life["killed"]]
        again = sum(len(life["again"]) for life in self.lives)
        return {
            "tried": self.killed,
            "survived": self.killed if ends and not any(life["different"] for life in ends) else 0,
            "lost": f"the unit in work; {again} finished files in {len(ends)} whole runs",
        }


def say(message: str) -> None:
    print(time.strftime("%H:%M:%S"), message, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/kills"))
    chosen = parser.parse_args()
    begin(chosen.folder)
    overrides = [f"seed={chosen.seed}", f"models.reference.path={first_model(chosen.seed)}", *SAVES]
    kills = Kills(chosen.folder, "quickstart", overrides, chosen.seed)
    kills.until(chosen.kills)
    told = kills.told()
    say(json.dumps(told))
    record(kind="fault", what="SIGKILL of the driver of the sandbox's ICR run, 1 to 20 s apart", **told)
    sys.exit(told["survived"] < told["tried"])


if __name__ == "__main__":
    main()
