"""How the sandbox's first model is made; what is done with it stands in recipes/quickstart.yaml.

One set for every seed; docs/log.md tells what else was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

from polypref.sandbox.world import TASKS


@dataclass(frozen=True)
class SftSettings:
    """The first model and its training from scratch."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    steps: int = 700
    batch: int = 96
    lr: float = 3e-3
    alignment: float = 0.0
    """Share of the variance of a word's first embedding that its translations have as well (`alignment`)."""
    tasks: tuple[str, ...] = TASKS
    """What it is asked in training."""
