"""How far apart a model holds two languages: 1 less the cosine of the same prompt's hidden states in both.

It is a predictor of how well a reward transfers between them, for ``polypref evaluate typology``. The defaults: the
middle layer, where states depend least on the language (Pires et al. 2019, arXiv 1906.01502, §5); the mean over tokens,
since a templated prompt's last token is the same for all; and the mean of all states taken away, without which every
cosine is near 1 (Ethayarajh 2019, arXiv 1909.00512).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Any

from pydantic import Field

from polypref.backends.base import Context, ModelSpec, Options, Pooling, Tag
from polypref.errors import InputError
from polypref.maths import representation
from polypref.maths.representation import TINY, Centre
from polypref.maths.stats import Estimate, mean_stderr
from polypref.records import Example
from polypref.stages.parallel_texts import FEWEST, hidden_states, parallel_texts

VERSION = 1
COLUMNS = ("source_language", "target_language", "value", "stderr", "n", "unrelated")
"""Of the table: distance, its standard error over texts, how many there are, and the distance of different texts."""


class DistanceOptions(Options):
    """Which texts, and how they are made vectors."""

    languages: tuple[Tag, ...] = Field((), description="left out: all that the texts have")
    limit: int = Field(200, ge=FEWEST, description="texts, the first that have every language")
    layer: int | None = Field(
        None, description="0 is the embedding, -1 the last block with the final norm; the middle one when left out"
    )
    pooling: Pooling = Field("mean", description="the mean over a text's tokens, or the last one's state")
    centre: Centre = Field(
        "all",
        description="before cosines: nothing, the mean of all states, or each language's own mean taken away",
    )


@dataclass(frozen=True, slots=True)
class Distances:
    """What was measured on parallel texts.

    ``distance``: two languages, each pair once → the mean over texts of 1 − cosine of the same text in both, from 0 to
    2; 0 of a language with itself. ``unrelated``: the same of two different texts, against which a distance is to be
    read. ``left_out``: reason → texts that were not taken.
    """

    model: str
    tags: tuple[str, ...]
    layer: int
    pooling: str
    centre: str
    texts: int
    left_out: dict[str, int]
    distance: dict[tuple[str, str], Estimate]
    unrelated: dict[tuple[str, str], float]

    def rows(self) -> list[dict[str, Any]]:
        """One row a source and target, in both directions: what ``evaluate typology --predictor`` reads."""
        found = []
        for source, target in product(self.tags, repeat=2):
            pair = (source, target) if (source, target) in self.distance else (target, source)
            one = self.distance[pair]
            values = (source, target, one.value, one.stderr, one.n, self.unrelated[pair])
            found.append(dict(zip(COLUMNS, values, strict=True)))
        return found

    def to_json(self) -> dict[str, Any]:
        """A plain object, with ``rows`` as ``distances``."""
        names = ("model", "layer", "pooling", "centre", "texts", "left_out")
        told = {name: getattr(self, name) for name in names}
        return {**told, "languages": list(self.tags), "distances": self.rows()}

    def to_csv(self) -> str:
        """``rows`` as a table under a header."""
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return out.getvalue()


def semantic_distance(
    examples: Iterable[Example], model: ModelSpec, options: DistanceOptions, context: Context
) -> Distances:
    """The distance of every two languages, on the examples that have all of them.

    Raises:
        InputError: there are fewer than three texts or than two languages, or nothing is left of a text's state.
        ModelError: the model has not the layer that is asked for.
    """
    import numpy as np

    known = list(examples)
    tags = tuple(dict.fromkeys(options.languages or [tag for example in known for tag in example.prompts]))
    texts, left_out = parallel_texts(known, tags, options.limit)
    name = model.name or model.path
    depth = 0

    def wanted(layers: int) -> list[int]:
        nonlocal depth
        depth = layers
        return [layers // 2 if options.layer is None else options.layer]

    [(layer, found)] = hidden_states(name, model, texts, wanted, options.pooling, context).items()
    states = _centred(found, options.centre, tags)
    distance: dict[tuple[str, str], Estimate] = {}
    unrelated: dict[tuple[str, str], float] = {}
    for i, j in combinations_with_replacement(range(len(tags)), 2):
        apart = 1 - representation.cosine(states[:, i], states[:, j]) if i != j else np.zeros(len(texts))
        distance[tags[i], tags[j]] = mean_stderr(apart)
        unrelated[tags[i], tags[j]] = 1 - _between(states[:, i], states[:, j])
    return Distances(
        model=name,
        tags=tags,
        layer=range(depth + 1)[layer],
        pooling=options.pooling,
        centre=options.centre,
        texts=len(texts),
        left_out=left_out,
        distance=distance,
        unrelated=unrelated,
    )


def _centred(found: Any, centre: Centre, tags: tuple[str, ...]) -> representation.Array:
    """The states [N, L, d] less a mean; one of which only rounding is left has no direction."""
    import numpy as np

    states = representation.centred(found, centre)
    sizes, before = np.linalg.norm(states, axis=2), np.linalg.norm(np.asarray(found, dtype=np.float64), axis=2)
    for text, lang in np.argwhere(sizes <= TINY * before):
        raise InputError(
            f"nothing is left of the state of text {text} in {tags[lang]} (centre: {centre}), so it has no distance; "
            "take a later layer, the mean over tokens, or another centre"
        )
    return states


def _between(one: representation.Array, other: representation.Array) -> float:
    """The mean cosine of states [N, d] of different texts, over the N(N − 1) pairs."""
    import numpy as np

    units = [states / np.linalg.norm(states, axis=1, keepdims=True) for states in (one, other)]
    same = (units[0] * units[1]).sum()
    return float((units[0].sum(axis=0) @ units[1].sum(axis=0) - same) / (len(one) * (len(one) - 1)))
