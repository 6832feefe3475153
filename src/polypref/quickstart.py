"""The methods on the sandbox, start to report: a model trained from scratch, alignment carried to other languages."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polypref import recipes
from polypref.backends.base import Progress
from polypref.errors import RecipeError, did_you_mean
from polypref.recipe_file import read_recipe
from polypref.run import run
from polypref.sandbox.settings import SftSettings
from polypref.stages.report import ReportData


def cache() -> Path:
    """Where the sandbox's SFT checkpoints are kept, by seed: $XDG_CACHE_HOME/polypref, else ~/.cache/polypref."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polypref"


@dataclass(frozen=True)
class System:
    """A method on the sandbox: its recipe, where that names the first model, and how that model is trained."""

    recipe: str
    model: str
    first: SftSettings


SYSTEMS = {
    "icr": System("quickstart", "models.reference.path", SftSettings()),
    # Trained for less, so that English is learned and the languages that are seen less are not yet.
    "lidr": System("quickstart-lidr", "models.policy.path", SftSettings(steps=500)),
    # Its languages share a space from the start, without which a model of this size has no transfer (docs/log.md).
    "reward-transfer": System(
        "quickstart-reward-transfer", "models.policy.path", SftSettings(steps=400, alignment=0.95)
    ),
    "reuse-rewards": System("quickstart-reuse-rewards", "models.policy.path", SftSettings(steps=400, alignment=0.95)),
    "reuse-summaries": System(
        "quickstart-reuse-summaries",
        "models.policy.path",
        SftSettings(steps=400, alignment=0.95, tasks=("sort", "descend", "summary")),
    ),
}


def find(name: str) -> System:
    """A method by its name.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in SYSTEMS:
        raise RecipeError(f"--system is {name!r}; {did_you_mean(name, SYSTEMS)}")
    return SYSTEMS[name]


def quickstart(system: System, seed: int, out: Path, progress: Progress, warn: Callable[[str], None]) -> ReportData:
    """Train the sandbox's SFT model of a seed, or find it in the cache, and run the method's recipe on it."""
    from polypref.sandbox.model import sft_checkpoint

    checkpoint = sft_checkpoint(
        cache(),
        seed,
        settings=system.first,
        progress=lambda step, steps, loss: progress("train sft", step, steps),
    )
    overrides = [f"seed={seed}", f"{system.model}={checkpoint}"]
    return run(read_recipe(recipes.find(system.recipe), overrides), out, progress, warn)
