"""What is wrong with an options tree, in the words of the person who wrote it: one sentence a place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from polypref.errors import RecipeError

Path = tuple[str, ...]
Tree = TypeVar("Tree", bound=BaseModel)

_EXPECTED = "Input should be "
_MAPPINGS, _LISTS = (dict, Mapping), (list, tuple, Sequence)


def checked(model: type[Tree], values: Mapping[str, Any]) -> Tree:
    """An options tree of plain values.

    Raises:
        RecipeError: every mistake, a line each, with its path.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = mistakes(error, model, values)
        told = [f"{'.'.join(path) or 'options'}: {reason}" for path, reason in found.items()]
        raise RecipeError("\n".join(told)) from None


def mistakes(error: ValidationError, model: type[BaseModel], values: Any) -> dict[Path, str]:
    """Path in ``values`` → what is wrong there. The branches of a union make one sentence."""
    problems: dict[Path, list[Mapping[str, Any]]] = {}
    for problem in error.errors(include_url=False):
        problems.setdefault(_place(problem, values), []).append(problem)
    # A list of which one entry is wrong counts for pydantic as too short as well.
    echoes = [p for p, found in problems.items() if found[0]["type"] == "too_short" and _inside(problems, p)]
    return {path: _sentence(path, found, model) for path, found in problems.items() if path not in echoes}


def _inside(paths: Iterable[Path], outer: Path) -> bool:
    return any(path != outer and path[: len(outer)] == outer for path in paths)


def _place(problem: Mapping[str, Any], values: Any) -> Path:
    """The part of pydantic's location that stands in the values: its names for a union's branches do not."""
    path: list[str] = []
    for part in problem["loc"]:
        below = dict(enumerate(values)) if isinstance(values, list | tuple) else values
        if isinstance(below, Mapping) and part in below:
            values = below[part]
        elif problem["type"] != "missing" or part != problem["loc"][-1]:
            continue
        path.append(str(part))
    return tuple(path)


def _sentence(path: Path, problems: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> str:
    first = problems[0]
    if first["type"] == "extra_forbidden":
        known = fields_at(model, path[:-1])
        if path[-1] in known:  # of another branch
            return f"does not belong to this kind of {path[-2]}; leave it out"
        near = difflib.get_close_matches(path[-1], known, n=1)
        return "unknown key; " + (f"did you mean {near[0]}?" if near else "known: " + ", ".join(known))
    if first["type"] == "missing":
        return "missing; it must be given"
    messages = [str(problem["msg"]).removeprefix("Value error, ") for problem in problems]
    if first["type"] == "string_pattern_mismatch":
        return f"must match {first['ctx']['pattern']}, not {_shown(first['input'])}"
    if first["type"] == "too_short":
        return f"must have at least {first['ctx']['min_length']} entry"
    expected = [message.removeprefix(_EXPECTED) for message in messages if message.startswith(_EXPECTED)]
    if len(expected) < len(messages):
        others = [message for message in messages if not message.startswith(_EXPECTED)]
        return "; ".join(dict.fromkeys(f"{message[:1].lower()}{message[1:]}" for message in others))
    return f"must be {' or '.join(dict.fromkeys(map(_plain, expected)))}, not {_shown(first.get('input'))}"


def _plain(expected: str) -> str:
    """``a valid integer, unable to parse string as an integer`` → ``an integer``; a dictionary is a mapping here."""
    first = expected.partition(", unable")[0].partition(", got")[0].partition(" or instance of ")[0]
    said = first.replace("a valid integer", "an integer").replace("a valid ", "a ")
    return said.replace("a dictionary", "a mapping").replace("a tuple", "a list")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "…"


def fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that a tree knows at a path; those of every branch where it may be one of several."""
    found: list[Any] = [model]
    for part in path:
        found = [below for annotation in found for below in _below(annotation, part)]
    models = [m for annotation in found for m in _branches(annotation) if _is_model(m)]
    return list(dict.fromkeys(name for m in models for name in m.model_fields))


def _below(annotation: Any, part: str) -> Iterator[Any]:
    """What may stand under a key or an index of what an annotation allows: a field, a mapping's value, an entry."""
    for branch in _branches(annotation):
        if _is_model(branch):
            if part in branch.model_fields:
                yield branch.model_fields[part].annotation
        elif get_origin(branch) in _MAPPINGS:
            yield get_args(branch)[1]
        elif part.isdigit():
            yield from get_args(branch)


def _branches(annotation: Any) -> Iterator[Any]:
    """What an annotation may be: of a union, however nested and annotated, each member."""
    if _is_model(annotation) or get_origin(annotation) in (*_MAPPINGS, *_LISTS):
        yield annotation
        return
    for inner in get_args(annotation):
        yield from _branches(inner)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
