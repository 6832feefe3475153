"""The tables of docs/reliability.md: tests record rows, ``python -m faults.table ROWS PAGE`` writes them there."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

VARIABLE = "POLYPREF_TABLE"
COLUMNS = {"fault": ("tried", "survived", "lost"), "input": ("tried", "refused", "accepted", "crashed")}
HEADS = {
    "fault": ("Fault", "Tried", "Survived", "Work lost"),
    "input": ("Bad input", "Tried", "Refused", "Accepted", "Crashed"),
}
COMMAND = "make faults"


def record(*, kind: str, what: str, **counts: int | str) -> None:
    """Append a row to the file that POLYPREF_TABLE names; without it, do nothing.

    Rows of the same ``kind`` and ``what`` are added up, so that each case of a test may record its own.

    Args:
        kind: ``fault`` (``tried``, ``survived``, ``lost``: which work was done twice) or ``input`` (``tried``,
            ``refused``: an error of one sentence, ``accepted``: read as what it is, ``crashed``).
        what: one line, as the table shows it.
    """
    if set(counts) != set(COLUMNS[kind]):
        raise ValueError(f"a row of kind {kind} has {', '.join(COLUMNS[kind])}, not {', '.join(counts)}")
    if place := os.environ.get(VARIABLE):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "what": what, **counts}, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def survived(what: str, lost: str) -> Iterator[None]:
    """A fault that strikes in the block, and is survived when the block ends well."""
    well = 0
    try:
        yield
        well = 1
    finally:
        record(kind="fault", what=what, tried=1, survived=well, lost=lost)


def added_up(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each kind by name: numbers of the same row added up, different words side by side."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        known = found.setdefault((row["kind"], row["what"]), {"what": row["what"]})
        for column in COLUMNS[row["kind"]]:
            known[column] = _both(known.get(column), row[column])
    return {kind: sorted((row for (k, _), row in found.items() if k == kind), key=_name) for kind in COLUMNS}


def _both(known: int | str | None, new: int | str) -> int | str:
    if known is None or (known == new and isinstance(new, str)):
        return new
    if isinstance(known, int) and isinstance(new, int):
        return known + new
    return str(known) if str(new) in str(known).split("; ") else f"{known}; {new}"


def _name(row: dict[str, Any]) -> str:
    return str(row["what"]).casefold()


def hardware() -> str:
    """This machine in a line."""
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.system()} on {platform.machine()}, {cores} cores, {memory:.0f} GiB"
    return f"{machine}, Python {platform.python_version()}"


def markdown(kind: str, rows: Iterable[dict[str, Any]]) -> str:
    """A table of one kind's rows."""
    lines = ["| " + " | ".join(HEADS[kind]) + " |", "|---" + "|---:" * (len(HEADS[kind]) - 1) + "|"]
    if kind == "fault":
        lines[1] = "|---|---:|---:|---|"
    for row in rows:
        cells = [row["what"], *(row[column] for column in COLUMNS[kind])]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def render(rows: Iterable[dict[str, Any]], page: str, today: datetime.date) -> str:
    """The page with its tables replaced.

    Raises:
        ValueError: the page lacks a marker.
    """
    by_kind = added_up(rows)
    made = f"Made by `{COMMAND}` on {today:%d %B %Y}: {hardware()}."
    for kind, found in by_kind.items():
        begin, end = f"<!-- {kind}s -->", f"<!-- end of {kind}s -->"
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"the page has no {begin} … {end}")
        page = f"{before}{begin}\n{made}\n\n{markdown(kind, found)}\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="write the rows into the page")
    parser.add_argument("rows", type=Path)
    parser.add_argument("page", type=Path)
    chosen = parser.parse_args()
    rows = [json.loads(line) for line in chosen.rows.read_text(encoding="utf-8").splitlines()]
    page = render(rows, chosen.page.read_text(encoding="utf-8"), datetime.date.today())
    chosen.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
