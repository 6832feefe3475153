"""manifest.json: which steps of a run are done, how long they took, what they counted, and with what versions."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from polypref.store.atomic import write_json

PACKAGES = (
    "polypref",
    "torch",
    "transformers",
    "trl",
    "peft",
    "lm-eval",
    "tokenizers",
    "datasets",
    "sacrebleu",
    "pyarrow",
    "lingua-language-detector",
)


def versions() -> dict[str, str]:
    """The versions that a figure may depend on, without importing anything."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


BETWEEN = "between-steps"
"""Where what is said between two steps is kept."""


class Manifest:
    """A run's diary, rewritten whole after every step."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content
        self._entered: set[str] = set()
        self._said: list[str] = []
        self._inside = False

    @classmethod
    def open(cls, path: Path, **fixed: Any) -> Manifest:
        """The manifest of a run, begun or gone on with; a damaged one is begun anew (it holds no data)."""
        old: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads(path.read_text(encoding="utf-8"))
            old = found if isinstance(found, dict) else {}
        steps = old.get("steps") if isinstance(old.get("steps"), dict) else {}
        kept = {name: entry for name, entry in steps.items() if _is_entry(entry)}
        return cls(path, {"versions": versions(), **fixed, "models": {}, "steps": kept})

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step and keep what the block notes of it; seconds of earlier, interrupted tries are added.

        A step that found its work done (``worked`` false) keeps what was said when it was done.
        """
        notes: dict[str, Any] = {}
        before = self.content["steps"].get(name, {})
        begun = time.monotonic()
        self._said, self._inside = [], True
        self._entered.add(name)
        self.content["steps"][name] = {**before, "done": False}
        try:
            yield notes
            notes["done"] = True
        finally:
            self._inside = False
            worked = notes.pop("worked", True)
            seconds = time.monotonic() - begun if worked else 0.0
            said = list(dict.fromkeys([*(() if worked else before.get("said", ())), *self._said]))
            self.content["steps"][name] = {
                "done": False,
                **notes,
                **({"said": said} if said else {}),
                "seconds": round(float(before.get("seconds", 0.0)) + seconds, 3),
            }
            self.save()

    def say(self, message: str) -> None:
        """Keep what the step in hand has to say to the reader; between two steps it is the run that says it."""
        if self._inside:
            self._said.append(message)
            return
        entry = self.content["steps"].setdefault(BETWEEN, {"done": True, "said": [], "seconds": 0.0})
        if BETWEEN not in self._entered:
            self._entered.add(BETWEEN)
            entry["said"] = []
        if message not in entry["said"]:
            entry["said"].append(message)

    def said(self) -> list[str]:
        """What the steps had to say, each sentence once."""
        return list(
            dict.fromkeys(message for step in self.content["steps"].values() for message in step.get("said", ()))
        )

    def close(self) -> None:
        """Forget the steps that this run no longer has."""
        steps = self.content["steps"]
        self.content["steps"] = {name: step for name, step in steps.items() if name in self._entered}
        self.save()

    def save(self) -> None:
        """Write it."""
        write_json(self.path, self.content)

    def seconds(self) -> dict[str, float]:
        """How long each step took, over all tries."""
        return {name: float(step.get("seconds", 0.0)) for name, step in self.content["steps"].items()}


def _is_entry(step: Any) -> bool:
    """Whether a step of a manifest is as this module writes them."""
    if not isinstance(step, dict):
        return False
    seconds, said = step.get("seconds", 0.0), step.get("said", [])
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
    return timed and isinstance(said, list) and all(isinstance(message, str) for message in said)
