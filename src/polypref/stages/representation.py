"""Representation shift: what reward training does to a model's space, on the same texts in several languages.

Hong et al. 2024 (arXiv 2410.18027) look at f = σ₁ / Σσ of one text's hidden states over its languages, higher where
the languages collapse together. Layer, pooling and centring are not published, so they are options. Beside f stand
linear CKA and cosine with the base, cosines between languages, and norms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from polypref.backends.base import Context, ModelSpec, Options, Pooling, Tag
from polypref.errors import InputError, ModelError
from polypref.maths import representation, stats
from polypref.maths.representation import Centre, Similarity
from polypref.records import Example
from polypref.stages.evaluate import figure
from polypref.stages.parallel_texts import FEWEST, hidden_states, parallel_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    States: TypeAlias = NDArray[np.float32]

VERSION: int = 1

RATIO, RATIO_CHANGE = "singular_value_ratio", "singular_value_ratio_change"
CKA, COSINE = "cka_to_base", "cosine_to_base"
PIVOT_COSINE, BETWEEN = "cosine_to_pivot", "cosine_between_languages"
NORM = "norm"


class RepresentationOptions(Options):
    """Which texts, and how they are made vectors."""

    languages: tuple[Tag, ...] = Field((), description="left out: the run's, or all that the texts have")
    text: Literal["prompt", "chosen"] = Field(
        "prompt", description="the prompt alone, or with the answer that its first pair prefers in each language"
    )
    limit: int = Field(200, ge=FEWEST, description="texts, the first that have every language")
    layers: tuple[int, ...] = Field(
        (-1,), min_length=1, description="0 is the embedding, -1 the last block with the final norm"
    )
    pooling: Pooling = Field("last", description="the last token's state, as a reward head reads it, or the mean")
    centre: Centre = Field(
        "none",
        description="before f and cosines: nothing, the mean of all states, or each language's own mean taken away",
    )

    @field_validator("layers")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a layer twice; leave one out")
        return value


Metrics: TypeAlias = dict[str, float | int | None]
"""``{metric: v, metric_stderr: s, metric_n: n}``; n counts texts."""


@dataclass(frozen=True, slots=True)
class Shift:
    """What was measured.

    ``overall``: model → layer → ``singular_value_ratio``, its ``_change`` from the base text by text,
    ``cosine_between_languages``, and the means over languages of ``cka_to_base`` and ``cosine_to_base``.
    ``languages``: model → layer → language → ``norm``, ``cosine_to_pivot``, ``cka_to_base``, ``cosine_to_base``.
    ``closest``: layer → the model with the highest CKA to the base, the next one, and their difference with its 95%
    interval. The base, where there is one, is the first of the models.
    ``left_out``: reason → texts that could not be taken.
    """

    base: str | None
    models: tuple[str, ...]
    tags: tuple[str, ...]
    pivot: str
    layers: tuple[int, ...]
    pooling: str
    centre: str
    text: str
    texts: int
    left_out: dict[str, int] = field(default_factory=dict)
    overall: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    languages: dict[str, dict[str, dict[str, Metrics]]] = field(default_factory=dict)
    closest: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain object; ``from_json`` gives the same back."""
        lists = {name: list(getattr(self, name)) for name in ("models", "tags", "layers")}
        return {**dataclasses.asdict(self), **lists}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shift:
        return cls(**{**value, **{name: tuple(value[name]) for name in ("models", "tags", "layers")}})


def shift(
    examples: Iterable[Example],
    models: Mapping[str, ModelSpec],
    base: ModelSpec | None,
    options: RepresentationOptions,
    context: Context,
) -> Shift:
    """The figures of every model on the examples that have all languages; with a base also its distance from it.

    Args:
        models: name → reward model (a checkpoint, or a base with its adapter).
        base: what they were trained from, called by its ``name`` or else "base"; None where there is no common one.

    Raises:
        InputError: there are fewer than three texts or than two languages, or two models are called the same.
        ModelError: a model has not the layer that is asked for, or a space of another size than the base's.
    """
    named = _named(models, base)
    examples = list(examples)
    known = options.languages or context.languages or [tag for example in examples for tag in example.prompts]
    tags = tuple(dict.fromkeys(known))
    texts, left_out = parallel_texts(examples, tags, options.limit, _chosen if options.text == "chosen" else None)
    found = Shift(
        base=next(iter(named)) if base else None,
        models=tuple(named),
        tags=tags,
        pivot=context.pivot,
        layers=options.layers,
        pooling=options.pooling,
        centre=options.centre,
        text=options.text,
        texts=len(texts),
        left_out=left_out,
    )
    reference: dict[int, States] = {}
    alignments: dict[int, dict[str, Similarity]] = {layer: {} for layer in options.layers}
    last = None
    for name, spec in named.items():
        if last is not None and spec.path != last.path:  # adapters of one base share its weights
            context.release()
        last = spec
        states = hidden_states(name, spec, texts, lambda depth: options.layers, options.pooling, context)
        if name == found.base:
            reference = states
        for layer, own in states.items():
            try:
                overall, by_language = _alone(own, tags, context.pivot, options.centre)
                if base and name != found.base:
                    similarity = _against(name, own, reference[layer], tags, options.centre, overall, by_language)
                    alignments[layer][name] = similarity
            except InputError as error:
                raise InputError(f"{name}, layer {layer}: {error}") from None
            found.overall.setdefault(name, {})[str(layer)] = overall
            found.languages.setdefault(name, {})[str(layer)] = by_language
    for layer, similarities in alignments.items():
        if len(similarities) > 1:
            found.closest[str(layer)] = _closest(similarities)
    return found


def _named(models: Mapping[str, ModelSpec], base: ModelSpec | None) -> dict[str, ModelSpec]:
    """The models to look at, the base first."""
    if base is None:
        return dict(models)
    name = base.name or "base"
    if name in models:
        raise InputError(f"the base and a reward model are both called {name!r}; give one of them another name")
    return {name: base, **models}


def _chosen(example: Example, tag: str) -> str | None:
    """The answer that the example's first pair in a language prefers."""
    pair = next((pair for pair in example.pairs if pair.lang == tag), None)
    return None if pair is None else example.candidate(pair.chosen).text


def _alone(own: States, tags: Sequence[str], pivot: str, centre: Centre) -> tuple[Metrics, dict[str, Metrics]]:
    """What one model's states [N, L, d] say by themselves."""
    moved = representation.centred(own, centre)
    overall = figure(RATIO, stats.mean_stderr(representation.singular_value_ratio(moved)))
    overall |= figure(BETWEEN, stats.mean_stderr(representation.mean_cosine(moved)))
    by_language = {}
    for i, tag in enumerate(tags):
        by_language[tag] = figure(NORM, stats.mean_stderr(representation.norms(own[:, i])))
        if pivot in tags and tag != pivot:
            cosines = representation.cosine(moved[:, i], moved[:, tags.index(pivot)])
            by_language[tag] |= figure(PIVOT_COSINE, stats.mean_stderr(cosines))
    return overall, by_language


def _against(
    name: str,
    own: States,
    base: States,
    tags: Sequence[str],
    centre: Centre,
    overall: Metrics,
    by_language: Mapping[str, Metrics],
) -> Similarity:
    """Add what a model's states say beside the base's; gives their CKA, the mean over languages."""
    import numpy as np

    if own.shape != base.shape:
        raise ModelError(
            f"{name} has states of size {own.shape[-1]} and the base {base.shape[-1]}; give the base that it came from"
        )
    one, other = (representation.centred(states, centre) for states in (own, base))
    ratios = (representation.singular_value_ratio(states) for states in (other, one))
    overall |= figure(RATIO_CHANGE, stats.paired_difference(*ratios))
    cosines = [representation.cosine(one[:, i], other[:, i]) for i in range(len(tags))]
    overall |= figure(COSINE, stats.mean_stderr(np.mean(cosines, axis=0)))
    each = [representation.linear_cka_without_each(own[:, i], base[:, i]) for i in range(len(tags))]
    for tag, cosine, similarity in zip(tags, cosines, each, strict=True):
        by_language[tag].update(figure(CKA, similarity.estimate()) | figure(COSINE, stats.mean_stderr(cosine)))
    mean = representation.mean_similarity(each)
    overall |= figure(CKA, mean.estimate())
    return mean


def _closest(similarities: Mapping[str, Similarity]) -> dict[str, Any]:
    """The model nearest to the base by CKA and the next one, with the 95% interval of their difference."""
    first, second, *_ = sorted(similarities, key=lambda name: similarities[name].value, reverse=True)
    one, other = similarities[first], similarities[second]
    found = representation.jackknife(one.value - other.value, one.without - other.without)
    low, high = found.interval() or (found.value, found.value)
    return {"model": first, "next": second, "difference": found.value, "low": low, "high": high, "n": found.n}
