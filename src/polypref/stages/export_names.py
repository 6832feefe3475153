"""Names of models and judges as names of files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from polypref.errors import InputError

LONGEST = 120
"""Bytes of a name; file systems take 255, and the name's file may have more before and after it."""
TAKEN = re.compile(r"[\"<>:/|\\?*\[\]\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def file_name(name: str) -> str:
    """The name without what file systems take for something else, as lm-eval writes it: ``org/m`` is ``org__m``.

    A name of dots alone would be a folder that stands already. One over ``LONGEST`` is cut and ends in its hash.
    """
    plain = TAKEN.sub("__", name)
    if not plain.strip("."):
        return "_" * max(len(plain[:LONGEST]), 1)
    if len(plain.encode()) <= LONGEST:
        return plain
    end = "-" + hashlib.sha256(plain.encode()).hexdigest()[:12]
    return plain.encode()[: LONGEST - len(end)].decode(errors="ignore") + end


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Name → its ``file_name``.

    Raises:
        InputError: two names would have the same.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        file = file_name(name)
        if other := next((known for known, taken in found.items() if taken == file), None):
            raise InputError(f"{other} and {name} would both be written to {file}; rename one of them")
        found[name] = file
    return found
