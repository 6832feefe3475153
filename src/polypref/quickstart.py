"""The methods on the sandbox, start to report: a model trained from scratch, alignment carried to other languages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from polypref import recipes
from polypref.backends.base import Progress
from polypref.errors import RecipeError, did_you_mean
from polypref.recipe_file import read_recipe
from polypref.run import run
from polypref.stages.report import ReportData


def cache() -> Path:
    """Where the sandbox's SFT checkpoints are kept, by seed: $XDG_CACHE_HOME/polypref, else ~/.cache/polypref."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polypref"


SYSTEMS = {"icr": ("quickstart", "models.reference.path"), "lidr": ("quickstart-lidr", "models.policy.path")}
"""Method → its recipe, and where that names the first model."""


def quickstart(
    seed: int, out: Path, progress: Progress, warn: Callable[[str], None], system: str = "icr"
) -> ReportData:
    """Train the sandbox's SFT model of a seed, or find it in the cache, and run the method's quickstart recipe on it.

    Raises:
        RecipeError: no such method.
    """
    from polypref.sandbox.model import sft_checkpoint

    if system not in SYSTEMS:
        raise RecipeError(f"--system is {system!r}; {did_you_mean(system, SYSTEMS)}")
    recipe, model = SYSTEMS[system]
    checkpoint = sft_checkpoint(cache(), seed, progress=lambda step, steps, loss: progress("train sft", step, steps))
    return run(read_recipe(recipes.find(recipe), [f"seed={seed}", f"{model}={checkpoint}"]), out, progress, warn)
