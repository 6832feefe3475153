"""Names of models and judges as names of files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from polypref.errors import InputError


def file_name(name: str) -> str:
    """The name without what file systems take for something else, as lm-eval writes it: ``org/m`` is ``org__m``.

    A name of dots alone would be a folder that stands already.
    """
    plain = re.sub(r"[\"<>:/|\\?*\[\]\s]+", "__", name)
    return plain if plain.strip(".") else "_" * len(plain)


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
