"""Whether two runs came to the same: equal texts and pairs, numbers to a tolerance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polypref.store.parquet import read_rows

COMPARED = ("results", "comparisons", "samples", "signature")


def differences(expected: Path, found: Path, tolerance: float = 1e-4) -> list[str]:
    """Where the second run differs from the first: shards that one of them lacks, rows, figures of results.json."""
    names = [{str(path.relative_to(out)) for path in out.rglob("*.parquet")} for out in (expected, found)]
    told = [f"{name} is in one run only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        rows = [[row for _, row in read_rows(out / name)] for out in (expected, found)]
        told += _apart(name, *rows, tolerance)
    results = [json.loads((out / "results.json").read_text(encoding="utf-8")) for out in (expected, found)]
    for name in COMPARED:
        told += _apart(name, results[0].get(name), results[1].get(name), tolerance)
    return told


def _apart(where: str, one: Any, other: Any, tolerance: float) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _apart(f"{where}/{key}", one[key], other[key], tolerance)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _apart(f"{where}/{index}", *pair, tolerance)
    elif isinstance(one, float) and isinstance(other, float):
        if not abs(one - other) <= tolerance:
            yield f"{where}: {one} and {other}"
    elif one != other:
        yield f"{where}: {str(one)[:80]} and {str(other)[:80]}"
