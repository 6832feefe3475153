"""Small runs on the fakes, and what is compared of them."""

import hashlib
import json
import os
from pathlib import Path

import yaml

from polypref import recipes
from polypref.recipe_file import read_recipe
from polypref.run import run

NO_SLEEP = ["models.reference.path=fake", "models.policy.path=fake?version=2"]
NOTES = {"manifest.json", "recipe.yaml", ".lock"}
"""What every start writes anew."""

SMALL = {
    "name": "small",
    "languages": ["en", "es"],
    "models": {
        "reference": {"path": "fake", "backend": "fake"},
        "policy": {"path": "fake?version=2", "backend": "fake"},
    },
    "prompts": {"path": "sandbox:train", "limit": 10},
    "generate": {"n": 3, "max_tokens": 32},
    "pair": {"length_control": "auto"},
    "train": {"method": "fake"},
    "language_identifier": "fake",
    "shard_size": 4,
}


IMBALANCE = {
    "name": "lidr",
    "languages": ["en", "es", "de"],
    "models": {"policy": {"path": "fake?version=2&errors=0.02", "backend": "fake", "name": "m0"}},
    "prompts": {"path": "sandbox:train", "limit": 10},
    "generate": {"n": 1, "temperature": 0.0, "max_tokens": 32},
    "pair": {"rule": "imbalance"},
    "train": {"method": "fake"},
    "baselines": [{"name": "sft", "train": {"method": "fake"}}],
    "rounds": 2,
    "evaluate": {"prompts": {"path": "sandbox:test", "limit": 6}, "quality": "fake", "unseen": ["fr"]},
    "language_identifier": "fake",
    "shard_size": 4,
}


def imbalance(folder: Path, **changes) -> Path:
    """A recipe's file of a small run of LIDR."""
    path = folder / "imbalance.yaml"
    path.write_text(yaml.safe_dump(IMBALANCE | changes), encoding="utf-8")
    return path


def small(folder: Path, *overrides: str, name: str = "small.yaml", **changes) -> Path:
    """A recipe's file of a run that takes a moment."""
    path = folder / name
    path.write_text(yaml.safe_dump(SMALL | changes), encoding="utf-8")
    return path


def done(recipe: Path, out: Path, *overrides: str):
    """The run, done in this process."""
    return run(read_recipe(recipe, overrides), out)


def smoke(out: Path, *overrides: str):
    """recipes/smoke.yaml without its sleep."""
    return done(recipes.find("smoke"), out, *NO_SLEEP, *overrides)


def fake_model(folder: Path, name: str) -> None:
    """A folder that a fake model opens, as a fake training writes it."""
    folder.mkdir(exist_ok=True)
    options = {"version": 0.0, "errors": 0.0, "length": 0.1, "stray": 0.0, "sleep": 0.0}
    config = {"model_type": "polypref-fake", "name": name, "options": options}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Which file stands under each name: another one has another inode or time."""
    files = {str(p.relative_to(out)): p.stat() for p in out.rglob("*") if p.is_file() and p.name not in NOTES}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in files.items()}


def written(before: dict, after: dict) -> set[str]:
    """The names that are new or were written again."""
    return {name for name, stamp in after.items() if before.get(name) != stamp}


def outcome(out: Path) -> dict[str, str]:
    """What a run came to, to the byte: its figures, every shard and checkpoint."""
    names = [p for p in out.rglob("*") if p.suffix == ".parquet" or "checkpoint" in p.parts]
    files = {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in names if p.is_file()}
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    kept = {name: results[name] for name in ("results", "comparisons", "rounds", "samples", "notes", "signature")}
    return files | {"results": json.dumps(kept, sort_keys=True)}


def left_half_written(out: Path) -> list[str]:
    return [name for _, _, names in os.walk(out) for name in names if name.startswith((".tmp-", ".lock"))]
