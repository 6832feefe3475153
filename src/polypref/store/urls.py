"""What a place by URL looks like: ``s3://…``, ``gs://…``, ``hf://…``, ``memory://…``."""

from __future__ import annotations

import re
from pathlib import Path

LOCAL = ("file", "local")
"""Schemes whose paths begin at the root."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def is_url(place: str | Path) -> bool:
    """Whether a place is a store's rather than a path here, also when ``Path`` has taken one of its slashes."""
    return _URL.match(str(place)) is not None


def restored(place: str | Path) -> str:
    """A place as it was typed: ``Path`` makes ``s3:/b/x`` of ``s3://b/x``.

    >>> restored(Path("s3://b/x")), restored("a/b.jsonl"), restored(Path("file:///tmp/x"))
    ('s3://b/x', 'a/b.jsonl', 'file:///tmp/x')
    """
    text = str(place)
    if (match := _URL.match(text)) is None:
        return text
    return f"{match[1]}://" + ("/" if match[1] in LOCAL else "") + text[match.end() :]
