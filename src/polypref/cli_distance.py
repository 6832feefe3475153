"""``polypref evaluate distance``: how far apart a model holds languages, as a predictor of transfer between them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polypref.cli_stages import AsJson, Dtype, options_of
from polypref.cli_terminal import Terminal

if TYPE_CHECKING:
    from polypref.stages.semantic_distance import Distances


def add_to(app: typer.Typer) -> None:
    """Put the command under ``polypref evaluate``."""
    app.command("distance")(distance)


def distance(
    model: Annotated[str, typer.Option(help="whose hidden states are read: a folder or a hub name")],
    input_: Annotated[str, typer.Option("--input", help="parallel prompts: any shape of docs/inputs.md")],
    output: Annotated[
        Path | None, typer.Option("--output", help="the table, a CSV that evaluate typology --predictor reads")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="only these; all that the data has when left out")] = None,
    limit: Annotated[int, typer.Option(help="texts, the first that have every language")] = 200,
    layer: Annotated[
        int | None, typer.Option(help="0 is the embedding, −1 the last block; the middle one when left out")
    ] = None,
    pooling: Annotated[str, typer.Option(help="mean or last, over a text's tokens")] = "mean",
    centre: Annotated[str, typer.Option(help="all, language or none: whose mean is taken away first")] = "all",
    shape: Annotated[str, typer.Option(help="what docs/inputs.md calls the data; auto looks at it")] = "auto",
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model")] = None,
    backend: Annotated[str, typer.Option(help="hf or fake")] = "hf",
    dtype: Dtype = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code")] = False,
    as_json: AsJson = False,
) -> None:
    """1 − cosine of the same prompt's hidden states in two languages, for every two of them."""
    from polypref import registry
    from polypref.backends.base import ModelSpec
    from polypref.stages.prompts import PromptOptions, read_prompts
    from polypref.stages.semantic_distance import DistanceOptions, semantic_distance
    from polypref.store.atomic import check_target, write_text

    options = options_of(
        DistanceOptions, languages=language or (), limit=limit, layer=layer, pooling=pooling, centre=centre
    )
    spec = options_of(
        ModelSpec,
        path=model,
        adapter=adapter,
        backend=backend,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    reading = options_of(PromptOptions, path=input_, shape=shape, require="any", languages=options.languages)
    if output is not None:
        check_target(output)
    with Terminal() as terminal:
        context, opener = registry.context(progress=terminal.progress, warn=terminal.warn)
        try:
            found = semantic_distance(read_prompts(reading, context)[0], spec, options, context)
        finally:
            opener.close()
    if output is not None:
        write_text(output, found.to_csv())
    print(json.dumps(found.to_json(), ensure_ascii=False) if as_json else "\n".join(_told(found)))


def _told(found: Distances) -> Iterator[str]:
    """What was measured, then each pair of languages, the nearest first."""
    left = "".join(f", {count} left out: {reason}" for reason, count in found.left_out.items())
    yield f"{found.texts} texts, layer {found.layer}, pooling {found.pooling}, centre {found.centre}{left}"
    for (one, other), estimate in sorted(found.distance.items(), key=lambda item: item[1].value):
        if one != other:
            apart = f"of different texts {found.unrelated[one, other]:.3f}"
            yield f"{one} – {other}: {estimate.value:.3f} ± {estimate.stderr:.3f}, {apart}"
