"""``polypref pair``: preference pairs of scored or translated candidates, files in, files out."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, Input, Output, Pivot, Read, answer, options_of, stream, switch
from polypref.errors import RecipeError, did_you_mean


def add_to(app: typer.Typer) -> None:
    """Put the commands under ``polypref pair``."""
    app.command("best-worst")(best_worst)
    app.command("imbalance")(imbalance)


def best_worst(
    score: Annotated[str, typer.Option(help="the name of the score that decides")],
    input_: Input,
    output: Output,
    length_control: Annotated[str, typer.Option(help="off, auto, or a number: score − α·length")] = "off",
    length_unit: Annotated[str, typer.Option(help="characters or tokens")] = "characters",
    language_check: Annotated[str, typer.Option(help="on or off")] = "on",
    min_margin: Annotated[float | None, typer.Option(help="drop pairs with a smaller margin")] = None,
    drop_truncated: Annotated[str | None, typer.Option(help="on or off: answers cut at the token limit")] = None,
    pivot: Pivot = "en",
    as_json: AsJson = False,
) -> None:
    """The best against the worst candidate of each prompt and language."""
    from polypref.stages import pair as stage

    values: dict[str, Any] = {
        "score": score,
        "length_control": _number_or_word(length_control, "--length-control", ("off", "auto")),
        "length_unit": length_unit,
        "language_check": switch(language_check, "--language-check"),
        "min_margin": min_margin,
    }
    if drop_truncated is not None:
        values["drop_truncated"] = switch(drop_truncated, "--drop-truncated")
    options = options_of(stage.BestWorstOptions, **values)
    told: dict[str, Any] = {}

    def work(read: Read, context: Any) -> Iterator[Any]:
        auto = options.length_control == "auto"
        alphas = stage.fit_best_worst(read(), options, context) if auto else None
        figures = stage.PairStatistics(options, alphas)
        for example in stage.best_worst(read(), options, context, alphas=alphas):
            figures.add([example])
            yield example
        told.update(figures.by_language())

    with _uncollected():
        stream(input_, output, work, pivot, options.language_check)
    answer(told, as_json, output)


def imbalance(
    input_: Input,
    output: Output,
    pivot: Pivot = "en",
    translation_prompts: Annotated[
        Path | None, typer.Option(help="a JSON list of ids of prompts that are about translation")
    ] = None,
    detect_translation_prompts: Annotated[
        str, typer.Option(help="on or off: count prompts that ask for a translation among them")
    ] = "off",
    pivot_pairs: Annotated[str, typer.Option(help="all: one a target language, or one")] = "all",
    language_check: Annotated[str, typer.Option(help="on or off")] = "off",
    as_json: AsJson = False,
) -> None:
    """The better language's answer, translated, against the weaker one's own; and the other way round."""
    from polypref.stages import imbalance as stage
    from polypref.stages.about_translation import read_ids
    from polypref.stages.pair_filters import STAGE

    options = options_of(
        stage.ImbalanceOptions,
        pivot=pivot,
        translation_prompts=read_ids(translation_prompts) if translation_prompts else (),
        detect_translation_prompts=switch(detect_translation_prompts, "--detect-translation-prompts"),
        pivot_pairs=pivot_pairs,
        language_check=switch(language_check, "--language-check"),
    )
    told: dict[str, Any] = {"pairs": 0, "dropped": 0}
    reasons: Counter[str] = Counter()
    if options.translation_prompts or options.detect_translation_prompts:
        told["about_translation"] = Counter(list=0, detector=0)

    def work(read: Read, context: Any) -> Iterator[Any]:
        ids: set[str] = set()
        for example in stage.imbalance(read(), options, context, told.get("about_translation")):
            told["pairs"] += len(example.pairs)
            for drop in example.dropped:
                reasons[drop.reason] += drop.stage == STAGE
            if translation_prompts:
                ids.add(example.id)
            yield example
        told["dropped"] = sum(reasons.values())
        if not told["pairs"]:
            counts = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common() if n)
            context.warn(f"no pair was made ({counts}); answers need translations both ways: polypref translate")
        if translation_prompts:
            stage.check_listed(options.translation_prompts, ids, translation_prompts.name, context.warn)

    with _uncollected():
        stream(input_, output, work, options.pivot, options.language_check)
    answer(told, as_json, output)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cycle collector: examples hold no cycles, and walking them takes a fifth of the time and more."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _number_or_word(value: str, option: str, words: Iterable[str]) -> str | float:
    if value in words:
        return value
    try:
        return float(value)
    except ValueError:
        raise RecipeError(f"{option} is {value!r}; say a number, or {did_you_mean(value, words)}") from None
