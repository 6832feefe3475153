"""The recipes that come with polypref: beside the source in a checkout, inside the package when it is installed."""

from __future__ import annotations

from pathlib import Path

from polypref.errors import RecipeError, did_you_mean


def folder() -> Path:
    """Where they are."""
    here = Path(__file__).resolve().parent
    return here / "recipes" if (here / "recipes").is_dir() else here.parent.parent / "recipes"


def find(name: str) -> Path:
    """The path of a recipe: a file, else one of ours by its name (``icr``).

    Raises:
        RecipeError: neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    ours = folder() / f"{path.stem}.yaml"
    if path.suffix in ("", ".yaml") and len(path.parts) == 1 and ours.exists():
        return ours
    hint = did_you_mean(path.stem, [p.stem for p in folder().glob("*.yaml")])
    raise RecipeError(f"{name} does not exist; check the path ({hint})")


def catalogue() -> dict[str, str]:
    """Name → the first line of its comment."""
    out = {}
    for path in sorted(folder().glob("*.yaml"), key=lambda path: path.stem):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        out[path.stem] = first.removeprefix("#").strip()
    return out
