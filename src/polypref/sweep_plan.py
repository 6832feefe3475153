"""What a sweep varies of which recipe, and the recipe of each of its points."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polypref.errors import RecipeError
from polypref.recipe import Recipe, as_tree
from polypref.recipe_file import load_yaml, parse_value, read_recipe

LAST = "last"
VALUE = "{value}"
"""Stands in a step's name for the value."""


@dataclass(frozen=True)
class Vary:
    """A key of the recipe and the values that it takes, in order."""

    key: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, text: str) -> Vary:
        """``KEY=v1,v2,…``, each value as YAML; a list or mapping in its brackets.

        Raises:
            RecipeError: it is no such text, there are fewer than two values, or one comes twice.
        """
        key, equals, rest = text.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise RecipeError(f"--vary {text!r} is no KEY=v1,v2,…; write e.g. --vary reward_models.data.limit=100,400")
        values = [parse_value(part, f"--vary {key}") for part in _parts(rest)]
        if len(values) < 2:
            raise RecipeError(f"--vary {key} has fewer than two values in {rest!r}; write them with commas between")
        known = [label(value) for value in values]
        if len(set(known)) < len(known):
            twice = next(one for i, one in enumerate(known) if one in known[:i])
            raise RecipeError(f"--vary {key} has {twice} twice; keep one")
        if key == "seed":
            raise RecipeError("--vary seed would vary chance alone; vary another key, and name the seeds with --seeds")
        return cls(key, tuple(values))


@dataclass(frozen=True)
class Point:
    """One value, by its place among those varied, with one seed: a run in a folder of its own."""

    value: int
    label: str
    seed: int
    folder: str

    def __str__(self) -> str:
        return f"{self.label}, seed {self.seed}"


@dataclass(frozen=True)
class Sweep:
    """What is varied of which recipe, over which seeds, and which figure is read off each run.

    Attributes:
        seeds: the recipe's own alone when empty.
        overrides: ``a.b=value``, laid over the recipe at every point.
        step: whose figure; ``last`` is the last round's model. ``{value}`` in it is the value.
        first: where the first model is trained by seed, the key that names it and what makes its folder.
    """

    recipe: Path
    vary: Vary
    seeds: tuple[int, ...] = ()
    overrides: tuple[str, ...] = ()
    metric: str = "quality"
    step: str = LAST
    first: tuple[str, Callable[[int], Path]] | None = None

    def points(self) -> list[Point]:
        """All of them, seed by seed, so that every value has its first figure before any has a second.

        Raises:
            RecipeError: the recipe is wrong, or names its seed beside ``seeds``.
        """
        if self.seeds and any(override.partition("=")[0].strip() == "seed" for override in self.overrides):
            raise RecipeError("--set seed=… and --seeds both name seeds; keep --seeds")
        seeds = self.seeds or (self._read(self.vary.values[0], []).seed,)
        return [
            Point(index, label(value), seed, f"{folder(value)}/seed-{seed}")
            for seed in seeds
            for index, value in enumerate(self.vary.values)
        ]

    def at(self, point: Point, first: Path | None = None) -> Recipe:
        """The recipe of a point, its first model in the folder ``first``.

        Raises:
            RecipeError: it is wrong; every mistake in one message.
        """
        return self._read(self.vary.values[point.value], [f"seed={point.seed}"], first)

    def _read(self, value: Any, overrides: Sequence[str], first: Path | None = None) -> Recipe:
        """The value is laid over all the rest."""
        below = [*self.overrides, *overrides]
        if self.first is not None:
            below.append(f"{self.first[0]}={first or 'the-first-model'}")
        key = self.vary.key
        keys = key.split(".")
        if any(part.isdigit() for part in keys):  # an override sets keys alone, so the list is given anew
            value = _within(as_tree(read_recipe(self.recipe, below)), keys, value, key)[keys[0]]
            key = keys[0]
        return read_recipe(self.recipe, [*below, f"{key}={as_yaml(value)}"])

    def step_of(self, point: Point) -> str:
        """Whose figure is read off a point's run."""
        return self.step.replace(VALUE, point.label)


def _parts(text: str) -> list[str]:
    """The texts between commas. A comma inside brackets or quotes parts nothing, since what is before it is no YAML."""
    import yaml

    out: list[str] = []
    open_ = ""
    for piece in text.split(","):
        open_ += piece
        try:
            load_yaml(open_)
        except yaml.YAMLError:
            open_ += ","
            continue
        except (ValueError, RecursionError):
            pass  # whoever reads the value says what is wrong with it
        if not open_.strip():
            raise RecipeError(f"--vary has an empty value in {text!r}; write null where nothing is meant")
        out.append(open_)
        open_ = ""
    return [*out, open_.removesuffix(",")] if open_ else out


def as_yaml(value: Any) -> str:
    """A value on one line, as YAML reads it again."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return str(text).removesuffix("\n").removesuffix("\n...")


def label(value: Any) -> str:
    """How a value is called in tables."""
    return value if isinstance(value, str) else as_yaml(value)


def folder(value: Any) -> str:
    """The name of a value's folder: the value, or where it would be no name, what is left of it and a hash."""
    name = label(value)
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,59}", name):
        return name
    left = re.sub(r"[^A-Za-z0-9_]+", "-", name)[:40].strip("-")
    return f"{left}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def _within(node: Any, keys: Sequence[str], value: Any, where: str) -> Any:
    """A part of a recipe with the value at a path in it, where a number counts the entries of a list from 0."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(node, list):
        if not key.isdigit() or int(key) >= len(node):
            raise RecipeError(f"--vary {where}: {key} is no entry of a list of {len(node)}; they count from 0")
        return [_within(one, rest, value, where) if i == int(key) else one for i, one in enumerate(node)]
    if node is not None and not isinstance(node, dict):
        raise RecipeError(f"--vary {where}: there is {node!r}, so nothing can be set inside it")
    return {**(node or {}), key: _within((node or {}).get(key), rest, value, where)}
