"""A recipe's file: YAML in, a checked ``Recipe`` out, every mistake told at once with its file, line and path."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polypref.errors import RecipeError
from polypref.mistakes import mistakes
from polypref.recipe import Recipe

OPEN = "???"
"""What a recipe writes where the user must give something."""

Place = tuple[str, ...]
SHOWN = 20
DEEPEST, MOST = 50, 100_000
"""Levels and nodes of a YAML text, aliases counted as often as they are used: a few lines could make billions."""


@functools.cache
def _loader() -> Any:
    """PyYAML's safe loader within ``DEEPEST`` and ``MOST``; nothing may hold itself."""
    import yaml

    class Loader(yaml.SafeLoader):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.depth = self.nodes = 0
            self.sizes: dict[int, int] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            mark = self.peek_event().start_mark
            if self.check_event(yaml.AliasEvent):
                node = super().compose_node(parent, index)
                if id(node) not in self.sizes:
                    raise yaml.MarkedYAMLError(problem="an alias inside what it names", problem_mark=mark)
                self.nodes += self.sizes[id(node)]
            else:
                self.depth += 1
                if self.depth > DEEPEST:
                    raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} deep", problem_mark=mark)
                before = self.nodes
                node = super().compose_node(parent, index)
                self.depth -= 1
                self.nodes += 1
                self.sizes[id(node)] = self.nodes - before
            if self.nodes > MOST:
                raise yaml.MarkedYAMLError(problem=f"its aliases make more than {MOST} values", problem_mark=mark)
            return node

    return Loader


def load_yaml(text: str) -> Any:
    """The value of a YAML text, as ``yaml.safe_load`` gives it.

    Raises:
        yaml.YAMLError: it is no YAML, or beyond ``DEEPEST`` or ``MOST``.
        ValueError: a number or a date in it is none, or a value is none of its tag's.
    """
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # a subclass of the safe loader
    except (AttributeError, LookupError) as error:  # of PyYAML, on !!bool x, !!float '' and !!timestamp x
        raise ValueError("a value does not fit its tag") from error


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of a YAML file, with ``a.b=value`` overrides laid over it.

    Raises:
        RecipeError: the file cannot be read or is no YAML; or the recipe is wrong, every mistake in one message, a line
            each, with the file, the line where it stands and the YAML path.
    """
    path = Path(path)
    tree, lines = _read_yaml(path)
    if (base := tree.pop("extends", None)) is not None:
        if not isinstance(base, str):
            raise RecipeError(f"{lines['extends',]}: extends must name another recipe's file")
        below, lines_below = _read_yaml(path.parent / base)
        if "extends" in below:
            raise RecipeError(f"{path.name}: {base} extends another recipe itself; extend one that stands alone")
        tree, lines = _laid_over(below, tree), lines_below | lines
    for override in overrides:
        changed = set_value(tree, override)
        lines = {place: line for place, line in lines.items() if place[: len(changed)] != changed}
        lines[changed] = "--set"
    to_give = list(_to_be_given(tree))
    told = {place: f"is to be given; add --set {'.'.join(place)}=…" for place in to_give}
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        told |= {place: reason for place, reason in mistakes(error, Recipe, tree).items() if place not in told}
    if told or recipe is None:
        shown = [_line(place, reason, path.name, lines) for place, reason in told.items()]
        raise RecipeError("\n".join(shown[:SHOWN] + ([f"and {len(shown) - SHOWN} more"] if shown[SHOWN:] else [])))
    return recipe


def _line(place: Place, reason: str, name: str, lines: Mapping[Place, str]) -> str:
    where = next((lines[place[:k]] for k in range(len(place), 0, -1) if place[:k] in lines), name)
    return f"{where}: {'.'.join(place) or 'the recipe'}: {reason}"


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[Place, str]]:
    """The tree of a YAML file, and ``file:line`` of each of its keys."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist; check the path, or see polypref ls recipes") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path.name}: not UTF-8 text; name a recipe's YAML file") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}); name a recipe's YAML file") from None
    try:
        node = yaml.compose(text, Loader=_loader())
        tree = load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{path.name}{line}: not YAML ({getattr(error, 'problem', None) or 'unreadable'})") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path.name}: not a recipe ({error})") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path.name}: holds no key: value pairs; see polypref ls recipes for one to start from")
    lines: dict[Place, str] = {}
    _note_lines(node, (), lines, path.name)
    return tree, lines


def _note_lines(node: Any, path: Place, lines: dict[Place, str], name: str) -> None:
    """Where each key stands; a key that stands twice is refused, since YAML would silently keep the last."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            at = (*path, str(key.value))
            lines[at] = f"{name}:{key.start_mark.line + 1}"
            if key.value in seen:
                raise RecipeError(f"{lines[at]}: {'.'.join(at)} stands twice; keep one")
            seen.add(key.value)
            _note_lines(value, at, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            at = (*path, str(index))
            lines[at] = f"{name}:{value.start_mark.line + 1}"
            _note_lines(value, at, lines, name)


def _to_be_given(value: Any, path: Place = ()) -> Iterator[Place]:
    """The places that a recipe leaves open."""
    if value == OPEN:
        yield path
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _to_be_given(below, (*path, str(key)))


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def parse_value(text: str, where: str) -> Any:
    """A value on the command line, read as YAML.

    Raises:
        RecipeError: it is no YAML.
    """
    import yaml

    try:
        return load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise RecipeError(f"{where}: {_cut(text)} is not YAML; quote it") from None


def _cut(text: str) -> str:
    return repr(text) if len(text) <= SHOWN * 4 else f"{text[: SHOWN * 4]!r}…"


def set_value(tree: dict[str, Any], override: str) -> Place:
    """Lay one ``a.b=value`` over a tree and give its path; a value replaces whatever stood there."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {override!r} is no a.b=value")
    value = parse_value(text, f"--set {path}")
    for key in keys[:-1]:
        below = tree.get(key)
        if isinstance(below, str) and key in ("policy", "reference", "quality_model"):
            below = {"path": below}
        if below is not None and not isinstance(below, dict):
            raise RecipeError(f"--set {path}: {key} holds {below!r}, so nothing can be set inside it")
        tree[key] = below = dict(below or {})
        tree = below
    tree[keys[-1]] = value
    return tuple(keys)
