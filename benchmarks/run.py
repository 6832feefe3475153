"""Run the benchmarks one after the other and put their tables into README.md.

    python benchmarks/run.py [scoring length_control pairing store generation training startup] [--repeat 5]

Each is a script of its own, run in a child process; what it prints stands between its markers in README.md, under the
date and the machine. One that fails leaves its former table, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
from time import perf_counter

from measuring import HERE, hardware, put

PARTS = ("startup", "length_control", "pairing", "store", "generation", "training", "scoring")
PAGE = HERE / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when left out")
    parser.add_argument("--repeat", type=int, default=5, help="figures are medians of so many")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.parts) - set(PARTS)):
        parser.error(f"{unknown[0]} is no benchmark; there are {', '.join(PARTS)}")
    failed = []
    for part in asked.parts or PARTS:
        begun, load = perf_counter(), os.getloadavg()[0]
        command = [sys.executable, HERE / f"{part}.py", "--repeat", str(asked.repeat)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        took = f"{part}: {perf_counter() - begun:.0f} s"
        if done.returncode:
            failed.append(part)
            print(f"{took}, exit status {done.returncode}\n{done.stdout}", flush=True)
            continue
        today = datetime.datetime.now(datetime.UTC).date()
        under = (
            f"{today}, {hardware()}; medians of {asked.repeat}; load average {load:.1f} before it; "
            f"{perf_counter() - begun:.0f} s in all."
        )
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), part, f"{under}\n\n{done.stdout}"), encoding="utf-8")
        print(f"{took}\n\n{done.stdout}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
