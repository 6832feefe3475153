"""Scorers and judges as the command line names them: ``NAME=SPEC``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polypref.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from polypref.backends.base import ScorerSpec

OF_A_SERVER = ("judge", "pair_judge")
"""Scorers that are asked at ``--url`` where one is given."""


def named(entries: Sequence[str], option: str, what: str, example: str) -> Iterator[tuple[str, str]]:
    """(NAME, text) of each ``NAME=text``.

    Raises:
        RecipeError: an entry is no NAME=text, or a name comes twice; ``what`` says in capitals what the text is.
    """
    seen: set[str] = set()
    for entry in entries:
        name, equals, text = entry.partition("=")
        if not equals or not name or not text:
            raise RecipeError(f"{option} {entry!r} is no NAME={what}; write e.g. {option} {example}")
        if name in seen:
            raise RecipeError(f"{option} names {name} twice; give each a name of its own")
        seen.add(name)
        yield name, text


def spec_of(text: str, url: str | None, option: str) -> dict[str, Any]:
    """``MODEL`` (a reward model's folder or hub name), ``SCORER`` or ``SCORER:MODEL`` as a scorer's spec.

    A judge is asked at ``url`` where one is given.

    Raises:
        RecipeError: there is no such scorer.
    """
    from polypref import registry

    known = (*registry.SCORERS, *registry.COMPARERS)
    scorer, colon, path = text.partition(":")
    if not colon and (text not in known or Path(text).exists()):
        return {"scorer": "reward_model", "model": {"path": text}}
    if scorer not in known:
        raise RecipeError(f"{option}: {scorer!r} is no scorer; {did_you_mean(scorer, known)}")
    server = {"backend": "openai", "url": url} if url and scorer in OF_A_SERVER else {}
    return {"scorer": scorer, **({"model": {"path": path, **server}} if path else {})}


def specs_of(entries: Sequence[str], url: str | None = None) -> dict[str, Any]:
    """``NAME=MODEL`` or ``NAME=SCORER:MODEL`` as rewards of a recipe.

    Raises:
        RecipeError: none is named, or as ``named`` and ``spec_of``.
    """
    found = named(entries, "--reward", "MODEL", "en=models/rm-en")
    specs = {name: spec_of(text, url, "--reward") for name, text in found}
    if not specs:
        raise RecipeError("--reward is missing; name at least one, as NAME=MODEL")
    return specs


def judges_of(entries: Sequence[str], url: str | None = None, overrides: Sequence[str] = ()) -> dict[str, ScorerSpec]:
    """``NAME=SPEC`` as judges, by name. SPEC is a YAML or JSON file of a scorer's spec, or what ``spec_of`` reads.

    Args:
        overrides: ``NAME.key=VALUE``, laid over the judge's spec.

    Raises:
        RecipeError: none is named, a file or a spec is wrong; opens no model.
    """
    from polypref import registry
    from polypref.backends.base import ScorerSpec
    from polypref.mistakes import checked
    from polypref.recipe_file import set_value

    tree: dict[str, Any] = {}
    for name, text in named(entries, "--judge", "SPEC", "gpt=pair_judge:gpt-4o-mini --url https://…/v1"):
        is_file = text.endswith((".yaml", ".yml", ".json"))
        tree[name] = _read(Path(text), url) if is_file else spec_of(text, url, "--judge")
    if not tree:
        raise RecipeError("--judge is missing; name at least one, as NAME=SPEC")
    for override in overrides:
        if (name := override.partition(".")[0]) not in tree:
            raise RecipeError(f"--set {override!r}: {name!r} is no judge; {did_you_mean(name, tree)}")
        set_value(tree, override)
    judges = {}
    for name, values in tree.items():
        try:
            judges[name] = checked(ScorerSpec, values)
        except RecipeError as error:
            raise RecipeError("\n".join(f"--judge {name}: {line}" for line in str(error).splitlines())) from None
        if wrong := registry.mistake_of(judges[name]):
            raise RecipeError(f"--judge {name}: {wrong}")
    return judges


def tree_of(path: Path, option: str, holds: str, keys: str) -> dict[str, Any]:
    """The object of a YAML or JSON file that an option names; ``holds`` and ``keys`` say what it should be.

    Raises:
        RecipeError: it cannot be read, or is no object.
    """
    import yaml

    from polypref.recipe_file import load_yaml

    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{option}: {path} does not exist; check the path") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{option}: {path} cannot be read ({reason}); write {keys}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{option}: {path} holds no {holds}; write {keys} as YAML or JSON")
    return tree


def _read(path: Path, url: str | None) -> dict[str, Any]:
    """A scorer's spec of a YAML or JSON file: scorer, model, reference, settings; its server is ``url`` where it names
    none itself."""
    tree = tree_of(path, "--judge", "scorer", "scorer, model and settings")
    model = tree.get("model")
    if url and tree.get("scorer") in OF_A_SERVER and isinstance(model, dict):
        tree["model"] = {"backend": "openai", "url": url} | model
    return tree
