"""The tables of docs/recipes.md, made from the options trees that check a recipe.

.venv/bin/python tests/recipe_table.py      writes them anew between the two marks of the page
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from polypref.backends.base import Tag
from polypref.recipe import Recipe
from polypref.stages.views import PREFIX

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"
NAMES = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def kinds(annotation: Any, bounds: str = "") -> list[str]:
    """A type in the words of a recipe, one entry for each alternative."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation == Tag:
        return ["language"]
    if annotation is type(None):
        return ["null"]
    if origin is typing.Annotated:
        return kinds(inner[0], bounds)
    if origin is typing.Literal:
        return [f"`{value}`" for value in inner]
    if origin in (typing.Union, types.UnionType):
        return [kind for part in inner for kind in kinds(part, bounds)]
    if origin is tuple:
        return [f"list of {', '.join(kinds(inner[0]))}"]
    if origin is dict:
        return ["mapping" if inner[1] is Any else f"mapping of {' or '.join(kinds(inner[0]))} to {kinds(inner[1])[0]}"]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ["section"]
    return [NAMES[annotation] + (bounds if annotation in (int, float) else "")]


def bounds(field: FieldInfo) -> str:
    """What a number must hold to, as `` > 0, ≤ 1``; nothing where there is no bound."""
    found = [
        f"{sign} {getattr(rule, name):g}" for rule in field.metadata for name, sign in SIGNS.items() if _has(rule, name)
    ]
    return " " + " and ".join(found) if found else ""


def _has(rule: Any, name: str) -> bool:
    return getattr(rule, name, None) is not None


def default(name: str, field: FieldInfo) -> str:
    """What stands in a recipe that leaves the key out."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, BaseModel):
        return "see its table"
    return "the paper's" if value == PREFIX else f"`{json.dumps(value, ensure_ascii=False)}`"


def trees(annotation: Any) -> Iterator[type[BaseModel]]:
    """The options trees that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from trees(inner)


def places() -> dict[type[BaseModel], list[str]]:
    """Each options tree with the paths where it stands, the upper ones first."""
    found: dict[type[BaseModel], list[str]] = {}
    waiting: deque[tuple[type[BaseModel], str]] = deque([(Recipe, "")])
    while waiting:
        model, path = waiting.popleft()
        found.setdefault(model, []).append(path)
        for name, field in model.model_fields.items():
            waiting.extend((below, f"{path}.{name}".lstrip(".")) for below in trees(field.annotation))
    return found


def row(path: str, name: str, field: FieldInfo) -> str:
    """One key as a row of its table."""
    given = "the recipe's" if path and name == "seed" else default(name, field)
    cells = [f"`{name}`", ", ".join(kinds(field.annotation, bounds(field))), given, field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def ordered(model: type[BaseModel]) -> list[str]:
    """The keys, those of the class itself before what it has in common with others."""

    def declared(name: str) -> int:
        return max(depth for depth, cls in enumerate(model.__mro__) if name in vars(cls).get("__annotations__", {}))

    return sorted(model.model_fields, key=declared)


def tables() -> str:
    """One table for each options tree; one that refines another shows what it changes."""
    found = places()
    parts = []
    for model, paths in found.items():
        base = next((known for known in model.__mro__[1:] if known in found), None)
        said = " ".join((inspect.cleandoc(model.__doc__ or "")).replace("``", "`").split())
        lines = {name: row(paths[0], name, model.model_fields[name]) for name in ordered(model)}
        if base is not None:
            said += f" The keys of `{found[base][0]}`, and:"
            inherited = {row(paths[0], name, field) for name, field in base.model_fields.items()}
            lines = {name: line for name, line in lines.items() if line not in inherited}
        heading = "The top" if paths == [""] else ", ".join(f"`{path}`" for path in paths)
        table = ["| key | type | default | meaning |", "|---|---|---|---|", *lines.values()]
        parts.append("\n".join([f"### {heading}", "", said, "", *table]))
    return "\n\n".join(parts)


def undescribed() -> list[str]:
    """Keys without a meaning."""
    return [
        f"{paths[0]}.{name}"
        for model, paths in places().items()
        for name, field in model.model_fields.items()
        if not field.description
    ]


def with_tables(page: str) -> str:
    """The page with the tables as they should be."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
