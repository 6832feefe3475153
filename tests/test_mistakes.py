"""The words for a mistake in an options tree: wherever the key stands, its neighbours are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from polypref.errors import RecipeError
from polypref.mistakes import checked, fields_at
from polypref.recipe import Recipe


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: str = "green"


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")
    plain: Leaf = Leaf()
    named: dict[str, Leaf] = {}
    listed: tuple[Leaf, ...] = ()
    nested: Mapping[str, dict[str, Annotated[Leaf, Field()] | None]] | None = None
    several: dict[str, Sequence[Leaf]] = {}
    text: str | dict[str, str] = ""


@pytest.mark.parametrize(
    "path", ["plain", "named.x", "named.0", "listed.0", "nested.x.y", "several.x.0", "several.colour.1"]
)
def test_a_neighbour_is_found_wherever_a_section_may_stand(path: str) -> None:
    assert fields_at(Tree, tuple(path.split("."))) == ["colour"]
    values: object = {"color": "red"}
    for part in reversed(path.split(".")):
        values = [values] * (int(part) + 1) if part.isdigit() and not path.startswith("named") else {part: values}
    with pytest.raises(RecipeError, match=rf"^{path.replace('.1', '.0')}\.color: unknown key; did you mean colour\?"):
        checked(Tree, values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path", ["colour", "named", "listed", "nested.x", "several.x", "text", "text.x", "plain.colour"]
)
def test_where_no_section_may_stand_no_key_is_known(path: str) -> None:
    assert fields_at(Tree, tuple(path.split("."))) == []


def test_a_reward_with_a_slip_is_told_the_key_that_was_meant() -> None:
    spec = {"scorer": "reward_model", "model": "rm"}
    for slip, told in (
        ({"modle": {"path": "x"}}, r"^rewards\.en\.modle: unknown key; did you mean model\?"),
        ({"zzz": 1}, r"^rewards\.en\.zzz: unknown key; known: scorer, model"),
        ({"model": {"path": "x", "adaptor": "y"}}, r"^rewards\.en\.model\.adaptor: unknown key; did you mean adapter"),
    ):
        with pytest.raises(RecipeError, match=told):
            checked(Recipe, {"rewards": {"en": spec | slip}})
