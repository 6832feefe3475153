"""``polypref evaluate dominant``: which language a model answers best in."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from polypref.cli_stages import AsJson, Input, Pivot


def add_to(app: typer.Typer) -> None:
    """Put the command under ``polypref evaluate``."""
    app.command("dominant")(dominant)


def dominant(
    input_: Input,
    score: Annotated[str, typer.Option(help="the name of the score that says how good an answer is")],
    pivot: Pivot = "en",
    as_json: AsJson = False,
) -> None:
    """Which language leads in one model's scored answers, and whether that can be told."""
    from polypref import languages
    from polypref.stages.dominance import dominance, sentence
    from polypref.store.jsonl import read_examples

    examples = list(read_examples(input_))
    answered = tuple(dict.fromkeys(c.lang for e in examples for c in e.candidates if c.parent is None))
    found = dominance(examples, score, answered, languages.normalise(pivot))
    print(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False) if as_json else sentence(found))
