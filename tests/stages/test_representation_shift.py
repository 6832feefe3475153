"""Representation shift on states that are written down: what is measured, of which texts, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from polypref.backends.base import Context, ModelSpec, Text
from polypref.errors import InputError, ModelError
from polypref.maths import representation as maths
from polypref.records import Candidate, Example, Pair
from polypref.stages.representation import RepresentationOptions, Shift, shift

BASE = ModelSpec(path="base")
TAGS = ("en", "es")


class Scripted:
    """States by text id, the same at every layer but for the layer's number as a factor."""

    fingerprint = "scripted"
    layers = 3

    def __init__(self, states: dict[str, list[float]]) -> None:
        self.states = states
        self.seen: list[Text] = []

    def hidden(self, texts: Sequence[Text], layers: Sequence[int], pooling: str) -> list[Any]:
        self.seen += texts
        return [np.array([self.states[t.id] for t in texts], dtype=np.float32) * (1 + abs(layer)) for layer in layers]


class Models:
    """What a context opens, and how often it was told to let go."""

    def __init__(self, **models: Scripted) -> None:
        self.models, self.released = models, 0

    def context(self, languages: Sequence[str] = TAGS, pivot: str = "en") -> Context:
        def release() -> None:
            self.released += 1

        return Context(lambda role, spec: self.models[spec.path], languages, pivot, release=release)


def example(name: str, tags: Sequence[str] = TAGS, **more: Any) -> Example:
    return Example(name, {tag: [{"role": "user", "content": f"{name} {tag}"}] for tag in tags}, **more)


TEXTS = [example(name) for name in "abc"]


def states(**by_text: tuple[list[float], list[float]]) -> Scripted:
    """Per text the English and the Spanish state."""
    return Scripted(
        {f"{text}/{tag}": state for text, both in by_text.items() for tag, state in zip(TAGS, both, strict=True)}
    )


ORTHOGONAL = states(a=([3.0, 0.0], [0.0, 3.0]), b=([0.0, 2.0], [2.0, 0.0]), c=([1.0, 0.0], [0.0, 1.0]))
"""f = 1/2 for each text, cosine 0; norms 3, 2, 1."""
COLLAPSED = states(a=([3.0, 0.0], [6.0, 0.0]), b=([0.0, 2.0], [0.0, 4.0]), c=([1.0, 0.0], [2.0, 0.0]))
"""f = 1, cosine 1; English as in the base, Spanish on the English line."""


def found(options: RepresentationOptions | None = None, **more: Any) -> Shift:
    models = Models(base=ORTHOGONAL, rm=COLLAPSED)
    return shift(
        TEXTS, {"rm-en": ModelSpec(path="rm")}, BASE, options or RepresentationOptions(), models.context(), **more
    )


def test_collapse_is_told_text_by_text() -> None:
    measured = found()
    base, rm = (measured.overall[name]["-1"] for name in ("base", "rm-en"))
    assert (base["singular_value_ratio"], rm["singular_value_ratio"]) == pytest.approx((0.5, 1.0))
    assert (rm["singular_value_ratio_change"], rm["singular_value_ratio_change_stderr"]) == pytest.approx((0.5, 0.0))
    assert (base["cosine_between_languages"], rm["cosine_between_languages"]) == pytest.approx((0.0, 1.0))
    assert rm["singular_value_ratio_n"] == 3
    assert "singular_value_ratio_change" not in base
    assert (measured.models, measured.base) == (("base", "rm-en"), "base")


def test_norms_cosines_and_cka_are_by_language() -> None:
    """English did not move; Spanish went from (0, 3), (2, 0), (0, 1) to (6, 0), (0, 4), (2, 0): at right angles to
    where it was, and twice as long, which CKA, that knows no rotation and no scale, does not see."""
    measured = found()
    base, rm = (measured.languages[name]["-1"] for name in ("base", "rm-en"))
    assert (base["en"]["norm"], rm["es"]["norm"]) == pytest.approx((4.0, 8.0))  # layer −1 doubles what is written
    assert base["en"]["norm_stderr"] == pytest.approx(2 / math.sqrt(3))
    assert (rm["en"]["cosine_to_base"], rm["es"]["cosine_to_base"]) == pytest.approx((1.0, 0.0))
    assert (rm["en"]["cka_to_base"], rm["es"]["cka_to_base"]) == pytest.approx((1.0, 1.0))
    assert rm["es"]["cka_to_base_stderr"] == pytest.approx(0.0, abs=1e-7)
    assert (base["es"]["cosine_to_pivot"], rm["es"]["cosine_to_pivot"]) == pytest.approx((0.0, 1.0))
    assert "cosine_to_pivot" not in rm["en"]
    overall = measured.overall["rm-en"]["-1"]
    assert (overall["cosine_to_base"], overall["cka_to_base"]) == pytest.approx((0.5, 1.0))


def test_each_layer_is_measured() -> None:
    measured = found(RepresentationOptions(layers=(0, 3)))
    assert [measured.languages["base"][layer]["en"]["norm"] for layer in ("0", "3")] == pytest.approx([2.0, 8.0])


def test_centring_takes_the_means_away_before_ratios_and_cosines_but_not_norms() -> None:
    """Less each language's mean, (4/3, 2/3) and (2/3, 4/3), the base's texts a and b are no longer at right angles."""
    plain, centred = found(), found(RepresentationOptions(centre="language"))
    raw = np.array([[[3, 0], [0, 3]], [[0, 2], [2, 0]], [[1, 0], [0, 1]]], dtype=float)
    expected = maths.singular_value_ratio(raw - raw.mean(axis=0)).mean()
    assert centred.overall["base"]["-1"]["singular_value_ratio"] == pytest.approx(expected)
    assert expected != pytest.approx(0.5)
    assert centred.languages["base"]["-1"]["en"]["norm"] == plain.languages["base"]["-1"]["en"]["norm"]


def test_the_model_nearest_to_the_base_is_named_with_the_uncertainty_of_its_lead() -> None:
    noise = np.random.default_rng(0)
    names = [f"t{i}" for i in range(40)]
    texts = [example(name) for name in names]
    home = {f"{name}/{tag}": noise.standard_normal(6) for name in names for tag in TAGS}

    def moved(size: float) -> Scripted:
        return Scripted({key: list(state + size * noise.standard_normal(6)) for key, state in home.items()})

    models = Models(base=moved(0.0), near=moved(0.1), far=moved(1.0), twin=moved(0.1))
    specs = {name: ModelSpec(path=name) for name in ("far", "near")}
    [closest] = shift(texts, specs, BASE, RepresentationOptions(), models.context()).closest.values()
    assert (closest["model"], closest["next"]) == ("near", "far")
    assert 0 < closest["low"] < closest["difference"] < closest["high"]
    assert closest["n"] == 40
    specs = {name: ModelSpec(path=name) for name in ("twin", "near")}
    [even] = shift(texts, specs, BASE, RepresentationOptions(), models.context()).closest.values()
    assert even["low"] < 0 < even["high"]


def test_without_a_base_each_model_stands_by_itself() -> None:
    models = Models(rm=COLLAPSED)
    measured = shift(TEXTS, {"rm": ModelSpec(path="rm")}, None, RepresentationOptions(), models.context())
    assert measured.base is None
    assert set(measured.overall["rm"]["-1"]) == {
        f"{name}{end}" for name in ("singular_value_ratio", "cosine_between_languages") for end in ("", "_stderr", "_n")
    }
    assert measured.closest == {}


def test_examples_that_lack_a_language_are_left_out_and_counted() -> None:
    base, rm = ORTHOGONAL, COLLAPSED
    texts = [*TEXTS, example("d", ["en"]), example("e", ["es"]), example("a2")]
    models = Models(base=base, rm=rm)
    options = RepresentationOptions(limit=3)
    measured = shift(texts, {"rm": ModelSpec(path="rm")}, BASE, options, models.context())
    assert (measured.texts, measured.left_out) == (3, {"missing_language": 2, "over_limit": 1})


def test_the_languages_are_those_of_the_options_else_of_the_run_else_of_the_texts() -> None:
    models = Models(base=ORTHOGONAL)
    for options, languages, expected in (
        (RepresentationOptions(languages=("es", "en")), ("de",), ("es", "en")),
        (RepresentationOptions(), ("es", "en"), ("es", "en")),
        (RepresentationOptions(), (), ("en", "es")),
    ):
        assert shift(TEXTS, {}, BASE, options, models.context(languages)).tags == expected


def test_the_preferred_answer_goes_with_the_prompt_where_it_is_asked_for() -> None:
    def answered(name: str, tags: Sequence[str]) -> Example:
        candidates = [Candidate(f"{tag}{k}", tag, f"{name} {tag} {k}") for tag in TAGS for k in "wl"]
        pairs = [Pair(tag, f"{tag}w", f"{tag}l") for tag in tags]
        return example(name, candidates=candidates, pairs=pairs)

    model = Scripted(ORTHOGONAL.states)
    texts = [*(answered(name, TAGS) for name in "abc"), answered("d", ["en"])]
    options = RepresentationOptions(text="chosen")
    measured = shift(texts, {}, BASE, options, Models(base=model).context())
    assert [(text.id, text.answer) for text in model.seen[:2]] == [("a/en", "a en w"), ("a/es", "a es w")]
    assert measured.left_out == {"no_answer": 1}
    prompts = Scripted(ORTHOGONAL.states)
    shift(texts[:3], {}, BASE, RepresentationOptions(), Models(base=prompts).context())
    assert {text.answer for text in prompts.seen} == {None}


def test_models_are_let_go_of_between_weights_but_not_between_adapters_of_one_base() -> None:
    models = Models(base=ORTHOGONAL, rm=COLLAPSED)
    adapters = {f"rm-{i}": ModelSpec(path="base", adapter=str(i)) for i in range(3)}
    shift(TEXTS, adapters, BASE, RepresentationOptions(), models.context())
    assert models.released == 0
    shift(TEXTS, {"rm": ModelSpec(path="rm")}, BASE, RepresentationOptions(), models.context())
    assert models.released == 1


def test_it_goes_through_json_unchanged() -> None:
    measured = found(RepresentationOptions(layers=(0, -1)))
    assert Shift.from_json(json.loads(json.dumps(measured.to_json()))) == measured


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"texts": TEXTS[:2]}, InputError, "2 examples have all of en, es"),
        ({"texts": [example(n, ["en"]) for n in "abc"]}, InputError, "3 missing_language; es is missing most often"),
        ({"languages": ["en"]}, InputError, "en is too little to compare"),
        ({"options": {"layers": (4,)}}, ModelError, "base has layers 0 to 3 (or -1 to -4 from the end); layer 4"),
        ({"options": {"layers": (-5,)}}, ModelError, "layer -5 is none of them"),
        ({"models": {"base": BASE}}, InputError, "both called 'base'"),
        ({"models": {"wide": ModelSpec(path="wide")}}, ModelError, "wide has states of size 3 and the base 2"),
        ({"models": {"zero": ModelSpec(path="zero")}}, InputError, "zero, layer -1: a text whose states are all zero"),
        ({"models": {"flat": ModelSpec(path="flat")}}, InputError, "flat, layer -1: the states do not differ"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(change: dict[str, Any], error: type[Exception], says: str) -> None:
    one = {f"{name}/{tag}": [1.0, 2.0, 3.0] for name in "abc" for tag in TAGS}
    models = Models(
        base=ORTHOGONAL,
        wide=Scripted(one),
        flat=Scripted({key: state[:2] for key, state in one.items()}),
        zero=Scripted({key: [0.0, 0.0] for key in one}),
    )
    options = RepresentationOptions(**change.get("options", {}))
    context = models.context(change.get("languages", TAGS))
    with pytest.raises(error) as caught:
        shift(change.get("texts", TEXTS), change.get("models", {}), BASE, options, context)
    assert says in str(caught.value)


def test_a_layer_that_is_named_twice_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="names a layer twice"):
        RepresentationOptions(layers=(1, 1))
