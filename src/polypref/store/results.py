"""Small JSON results beside the key of what they were made from and a digest of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from polypref.store.atomic import digest, write_json


def kept(path: Path, key: str) -> dict[str, Any] | None:
    """What ``keep`` wrote; None when it is not there, of another key, or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        content = dict(found["content"])
        whole = found["key"] == key and found["sha256"] == digest(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return content if whole else None


def keep(path: Path, key: str, content: dict[str, Any]) -> dict[str, Any]:
    """Write what ``kept`` finds again."""
    write_json(path, {"key": key, "sha256": digest(content), "content": content})
    return content
