"""What the benchmarks share: a child process's seconds and peak memory, the machine in one line, tables."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psutil

HERE = Path(__file__).resolve().parent
POLYPREF = Path(sys.executable).with_name("polypref")


@dataclass(frozen=True)
class Used:
    """What a process has used: seconds of the clock and of the processor, MiB of its resident set at the peak; and what
    it wrote on stdout."""

    seconds: float
    processor: float
    mib: float
    out: str = ""


def child(command: Sequence[object], env: Mapping[str, str] | None = None) -> Used:
    """Run a command to its end, its start included; one that fails ends the benchmark."""
    begun = perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"exit status {process.returncode} of {' '.join(map(str, command))}")
    # Linux counts the resident set in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Used(perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / unit, out)


def median(work: Callable[[], Used], repeat: int) -> Used:
    """Medians of the seconds, the largest peak, what was written last."""
    runs = [work() for _ in range(repeat)]
    seconds, processor = (statistics.median(getattr(run, name) for run in runs) for name in ("seconds", "processor"))
    return Used(seconds, processor, max(run.mib for run in runs), runs[-1].out)


def hardware() -> str:
    """Processor, cores, memory, Python and system, for the line above a table."""
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    name = found[1] if found else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return f"{name}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.system()}"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def put(page: str, name: str, content: str) -> str:
    """A page with ``content`` between its markers ``<!-- name -->`` and ``<!-- /name -->``."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(first)
    _, ended, after = rest.partition(last)
    if not found or not ended:
        sys.exit(f"the page has no place for {name}: put {first} and {last} into it")
    return f"{before}{first}\n{content.strip()}\n{last}{after}"
