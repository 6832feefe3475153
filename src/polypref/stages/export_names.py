"""Names of models and judges as names of files."""

from __future__ import annotations

import re


def file_name(name: str) -> str:
    """The name without what file systems take for something else, as lm-eval writes it: ``org/m`` is ``org__m``.

    A name of dots alone would be a folder that stands already.
    """
    plain = re.sub(r"[\"<>:/|\\?*\[\]\s]+", "__", name)
    return plain if plain.strip(".") else "_" * len(plain)
