"""The same texts in several languages, as a model's hidden states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from polypref.backends.base import Context, HiddenStates, ModelSpec, Pooling, Text, batches
from polypref.errors import InputError, ModelError
from polypref.records import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    States: TypeAlias = NDArray[np.float32]

FEWEST = 3
"""Texts that anything is said of."""
AT_ONCE = 32
"""Parallel texts that a model is given at once."""


def parallel_texts(
    examples: Iterable[Example],
    tags: Sequence[str],
    limit: int,
    answer: Callable[[Example, str], str | None] | None = None,
) -> tuple[list[list[Text]], dict[str, int]]:
    """The texts [N][L] of the first examples that have every language, and why others were left out.

    Args:
        answer: the answer that stands after an example's prompt in a language; None where there is none to take.

    Raises:
        InputError: there are fewer than three, or than two languages.
    """
    if len(tags) < 2:
        raise InputError(f"{', '.join(tags) or 'no language'} is too little to compare; give texts in two or more")
    texts: list[list[Text]] = []
    left_out: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for example in examples:
        absent = [tag for tag in tags if tag not in example.prompts]
        answers = {tag: answer(example, tag) for tag in tags if not absent} if answer else {}
        if absent:
            missing.update(absent)
            left_out["missing_language"] += 1
        elif None in answers.values():
            left_out["no_answer"] += 1
        elif len(texts) == limit:
            left_out["over_limit"] += 1
        else:
            texts.append([Text(f"{example.id}/{tag}", example.prompts[tag], answers.get(tag)) for tag in tags])
    if len(texts) < FEWEST:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        most = f"; {missing.most_common(1)[0][0]} is missing most often" if missing else ""
        raise InputError(
            f"{len(texts)} examples have all of {', '.join(tags)} ({why or 'there are no others'}{most}), and at least "
            f"{FEWEST} are needed, better a hundred; give more parallel texts, or name fewer languages"
        )
    return texts, dict(left_out)


def hidden_states(
    name: str,
    spec: ModelSpec,
    texts: Sequence[Sequence[Text]],
    layers: Callable[[int], Sequence[int]],
    pooling: Pooling,
    context: Context,
) -> dict[int, States]:
    """Layer, as it was asked for → the states [N, L, d] of the texts [N][L].

    Args:
        layers: gives the layers that are asked for, of the number that the model has.

    Raises:
        ModelError: the model has not the layer that is asked for.
    """
    import numpy as np

    model: HiddenStates = context.open("hidden_states", spec)
    asked = layers(model.layers)
    for layer in asked:
        if not -model.layers - 1 <= layer <= model.layers:
            raise ModelError(
                f"{name} has layers 0 to {model.layers} (or -1 to {-model.layers - 1} from the end); "
                f"layer {layer} is none of them"
            )
    parts: dict[int, list[States]] = {layer: [] for layer in asked}
    done = 0
    context.progress(f"representation {name}", done, len(texts))
    for batch in batches(texts, AT_ONCE):
        flat = [text for parallel in batch for text in parallel]
        for layer, rows in zip(asked, model.hidden(flat, asked, pooling), strict=True):
            parts[layer].append(np.asarray(rows).reshape(len(batch), len(batch[0]), -1))
        done += len(batch)
        context.progress(f"representation {name}", done, len(texts))
    return {layer: np.concatenate(part) for layer, part in parts.items()}
