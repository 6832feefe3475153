"""Several processes that do the same run in the same folder at once.

``python -m faults.rivals RECIPE FOLDER --times 5 --processes 4`` forks them with everything imported and prints a line
of JSON: how many came to the end, how many were refused by the lock, and how often the outcome was another.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from faults.write_points import run_recipe, undisturbed

LOCKED = 75


def rival(recipe: Path, out: Path) -> int:
    """The id of a process that does the run; it exits with ``LOCKED`` where another one has the folder."""
    from polypref.errors import RunLockedError

    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 70
    try:
        run_recipe(recipe, out)
        status = 0
    except RunLockedError:
        status = LOCKED
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def try_all(recipe: Path, folder: Path, times: int, processes: int) -> dict[str, Any]:
    """What came of that many starts of that many processes."""
    from runs import left_half_written, outcome

    undisturbed(recipe, folder / "whole", folder / "notes.json")
    expected, out = outcome(folder / "whole"), folder / "run"
    statuses: list[int] = []
    different = 0
    for _ in range(times):
        begun = [rival(recipe, out) for _ in range(processes)]
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in begun]
        statuses += ends
        different += 0 not in ends or outcome(out) != expected or bool(left_half_written(out))
        shutil.rmtree(out)
    done, refused = statuses.count(0), statuses.count(LOCKED)
    return {"done": done, "refused": refused, "failed": len(statuses) - done - refused, "different": different}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--processes", type=int, default=4)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(try_all(chosen.recipe, chosen.folder, chosen.times, chosen.processes)))


if __name__ == "__main__":
    main()
