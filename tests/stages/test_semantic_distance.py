"""Semantic distance on states that are written down, and on a tiny model: what is measured, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from polypref.backends.base import Context, ModelSpec, Text
from polypref.errors import InputError, ModelError
from polypref.records import Example
from polypref.stages.semantic_distance import COLUMNS, DistanceOptions, Distances, semantic_distance
from polypref.stages.typology import typology

TAGS = ("en", "es")
PLAIN = DistanceOptions(centre="none")


class Scripted:
    """States by text id, the same at every layer; it remembers what it was asked for."""

    fingerprint = "scripted"
    layers = 5

    def __init__(self, states: dict[str, Sequence[float]]) -> None:
        self.states = states
        self.asked: list[tuple[tuple[int, ...], str]] = []

    def hidden(self, texts: Sequence[Text], layers: Sequence[int], pooling: str) -> list[Any]:
        self.asked.append((tuple(layers), pooling))
        assert all(text.answer is None for text in texts)
        return [np.array([self.states[t.id] for t in texts], dtype=np.float32) for _ in layers]


def example(name: str, tags: Sequence[str] = TAGS) -> Example:
    return Example(name, {tag: [{"role": "user", "content": f"{name} {tag}"}] for tag in tags})


def measured(
    states: dict[str, Sequence[float]], options: DistanceOptions = PLAIN, examples: Sequence[Example] = ()
) -> Distances:
    names = dict.fromkeys(key.partition("/")[0] for key in states)
    model = Scripted(states)
    context = Context(open=lambda role, spec: model)
    return semantic_distance(examples or [example(n) for n in names], ModelSpec(path="m"), options, context)


THREE = {
    "a/en": (1.0, 0.0), "a/es": (3.0, 0.0),
    "b/en": (1.0, 0.0), "b/es": (0.0, 2.0),
    "c/en": (1.0, 0.0), "c/es": (-1.0, 0.0),
}  # fmt: skip
"""1 − cosine of a, b, c: 0, 1, 2."""


def test_the_distance_is_the_mean_of_one_less_the_cosine_over_texts() -> None:
    """(0 + 1 + 2)/3 = 1 with standard deviation 1, so a standard error of 1/√3."""
    found = measured(THREE).distance["en", "es"]
    assert (found.value, found.stderr, found.n) == (pytest.approx(1.0), pytest.approx(1 / math.sqrt(3)), 3)


def test_different_texts_are_held_against_it() -> None:
    """Each English state is (1, 0): every Spanish text has the same cosine to all of them, 1, 0 and −1, mean 0."""
    assert measured(THREE).unrelated["en", "es"] == pytest.approx(1.0)


def test_what_all_states_share_is_taken_away() -> None:
    """States (10, ±1) have cosines near 1; less their mean (10, 0) they are (0, ±1), and opposite."""
    states = {
        f"{name}/{tag}": (10.0, sign * flip)
        for name, flip in zip("abcd", (1, -1, 1, -1), strict=True)
        for tag, sign in (("en", 1), ("es", -1))
    }
    assert measured(states).distance["en", "es"].value == pytest.approx(1 - 99 / 101)
    assert measured(states, DistanceOptions()).distance["en", "es"].value == pytest.approx(2.0)


def test_each_languages_own_mean_may_be_taken_away() -> None:
    """Spanish is English moved by (0, 5): without each language's mean nothing tells them apart."""
    states = {
        f"{name}/{tag}": (x, y + shift)
        for name, (x, y) in {"a": (1.0, 0.0), "b": (-1.0, 0.5), "c": (0.0, -0.5)}.items()
        for tag, shift in (("en", 0.0), ("es", 5.0))
    }
    assert measured(states, DistanceOptions(centre="language")).distance["en", "es"].value == pytest.approx(0, abs=1e-6)
    assert measured(states, DistanceOptions()).distance["en", "es"].value > 0.5


@given(arrays(np.float32, (4, 3, 5), elements=st.integers(-8, 8).map(float)))
def test_it_lies_between_0_and_2_and_is_0_of_a_language_with_itself(drawn: Any) -> None:
    drawn = drawn + np.float32(20)  # no state is zero
    tags = ("de", "en", "es")
    states = {f"{i}/{tag}": drawn[i, j] for i in range(4) for j, tag in enumerate(tags)}
    found = measured(states, examples=[example(str(i), tags) for i in range(4)])
    units = drawn.astype(float) / np.linalg.norm(drawn.astype(float), axis=2, keepdims=True)
    for row in found.rows():
        i, j = tags.index(row["source_language"]), tags.index(row["target_language"])
        cosines = units[:, i] @ units[:, j].T
        assert row["value"] == pytest.approx(np.mean(1 - np.diag(cosines)), abs=1e-9)
        assert row["unrelated"] == pytest.approx(np.mean(1 - cosines[~np.eye(4, dtype=bool)]), abs=1e-9)
        assert -1e-9 <= row["value"] <= 2
        assert i != j or row["value"] == 0


@pytest.mark.parametrize(("asked", "layer", "told"), [(None, 2, 2), (0, 0, 0), (-1, -1, 5), (5, 5, 5), (-6, -6, 0)])
def test_the_middle_layer_is_read_unless_another_is_named(asked: int | None, layer: int, told: int) -> None:
    model = Scripted(THREE)
    options = DistanceOptions(layer=asked, centre="none", pooling="last")
    context = Context(open=lambda role, spec: model)
    found = semantic_distance([example(n) for n in "abc"], ModelSpec(path="m"), options, context)
    assert (model.asked, found.layer, found.pooling) == ([((layer,), "last")], told, "last")


def test_only_texts_in_every_language_count_up_to_the_limit() -> None:
    states = {f"{name}/{tag}": (1.0, float(i)) for i, name in enumerate("abcde") for tag in TAGS}
    texts = [example("a"), Example("x", {"en": []}), *(example(name) for name in "bcde")]
    found = measured(states, DistanceOptions(limit=4, centre="none"), texts)
    assert (found.texts, found.left_out) == (4, {"missing_language": 1, "over_limit": 1})


def test_the_table_is_one_that_typology_reads() -> None:
    """The nearer the languages, the higher the win rate: ρ = −1, on all pairs, in both directions."""
    tags = ("de", "en", "es", "fr", "it")
    angles = {"de": 0.0, "en": 0.1, "es": 0.4, "fr": 0.9, "it": 1.6}
    states = {f"{n}/{tag}": (math.cos(a), math.sin(a)) for n in "abc" for tag, a in angles.items()}
    found = measured(states, examples=[example(n, tags) for n in "abc"])
    table = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert tuple(table[0]) == COLUMNS
    win_rates = {(s, t): 60 - 10 * abs(angles[s] - angles[t]) for s in tags for t in tags}
    entry = typology(win_rates, predictors={"semantic_distance": table})["predictors"]["semantic_distance"]
    assert (entry["n"], entry["missing_pairs"], entry["spearman"]) == (20, 0, pytest.approx(-1.0))
    assert entry["spearman_low"] == pytest.approx(-1.0)
    assert json.loads(json.dumps(found.to_json()))["distances"] == found.rows()


def test_a_state_that_all_texts_share_has_no_distance() -> None:
    same = dict.fromkeys(THREE, (1 / 3, 0.1))
    with pytest.raises(InputError, match=r"nothing is left of the state of text 0 in en \(centre: all\)"):
        measured(same, DistanceOptions())


@pytest.mark.parametrize(
    ("options", "examples", "kind", "says"),
    [
        (DistanceOptions(layer=6), "abc", ModelError, "m has layers 0 to 5 .*; layer 6 is none of them"),
        (DistanceOptions(layer=-7), "abc", ModelError, "layer -7 is none of them"),
        (PLAIN, "ab", InputError, r"2 examples have all of en, es \(there are no others\), and at least 3"),
        (DistanceOptions(languages=("en", "de")), "abc", InputError, "3 missing_language; de is missing most often"),
        (
            DistanceOptions(languages=("en",)),
            "abc",
            InputError,
            "en is too little to compare; give texts in two or more",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: DistanceOptions, examples: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        measured(THREE, options, [example(n) for n in examples])


def test_two_texts_are_too_few_to_ask_for() -> None:
    with pytest.raises(ValidationError, match="limit"):
        DistanceOptions(limit=2)
