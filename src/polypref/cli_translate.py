"""``polypref translate`` and ``polypref evaluate translation``: answers and prompts into other languages, and how well
that goes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, Dtype, Input, Output, Pivot, answer, evaluate, options_of, through
from polypref.cli_terminal import Terminal
from polypref.cli_translating import (
    Adapter,
    Backend,
    Beams,
    ByParagraph,
    Device,
    LanguageCheck,
    MaxCharacters,
    MaxTokens,
    Method,
    Model,
    Prefill,
    Prompt,
    RepetitionPenalty,
    TrustRemoteCode,
    Url,
    named,
    speaking,
    translating,
)
from polypref.errors import InputError, RecipeError


def add_to(app: typer.Typer) -> None:
    """Put the command under the command line's root, and the figures of translations beside the other figures."""
    app.command()(translate)
    evaluate.command("translation")(evaluate_translation)


def translate(
    model: Model,
    input_: Input,
    output: Output,
    backend: Backend = "hf",
    method: Method = "tagged",
    direction: Annotated[
        list[str] | None, typer.Option(help="to_pivot, from_pivot, or a way such as es:ja; both of the pivot's")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="beside the pivot; all in the file when left out")] = None,
    prompts_into: Annotated[
        list[str] | None,
        typer.Option(help="make prompts in this language; answers then go only by --direction, --language or --origin"),
    ] = None,
    prompts_from: Annotated[str | None, typer.Option(help="whose prompts they are made of; the pivot's")] = None,
    pivot: Pivot = "en",
    origin: Annotated[list[str] | None, typer.Option(help="which candidates; sampled when left out")] = None,
    url: Url = None,
    adapter: Adapter = None,
    prompt: Prompt = None,
    prefill: Prefill = None,
    max_tokens: MaxTokens = 4096,
    repetition_penalty: RepetitionPenalty = None,
    beams: Beams = 1,
    by_paragraph: ByParagraph = "auto",
    max_characters: MaxCharacters = 2000,
    language_check: LanguageCheck = "on",
    dtype: Dtype = "auto",
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Translate candidates, or prompts; what is translated already stays, and what fails says why."""
    given = translating(locals())  # first, while these are the parameters alone
    from polypref.stages import translate as candidates
    from polypref.stages import translate_prompts as prompting

    if prompts_from and not prompts_into:
        raise RecipeError(f"--prompts-from is {prompts_from}, but no prompts are made; say --prompts-into as well")
    asked: list[tuple[Any, Any]] = []
    if prompts_into:
        with named(languages="prompts-into", source="prompts-from"):
            options = options_of(
                prompting.TranslatePromptsOptions, languages=prompts_into, source=prompts_from, role=model, **given
            )
        asked.append((prompting.translate_prompts, options))
    if direction or language or origin or not prompts_into:
        values = {"directions": direction, "origins": origin, "languages": language}
        with named(directions="direction", origins="origin", languages="language"):
            options = options_of(candidates.TranslateOptions, **given, **{k: v for k, v in values.items() if v})
        asked.append((candidates.translate, options))

    def work(examples: Iterable[Any], context: Any) -> Iterator[Any]:
        with speaking(context, [options for _, options in asked]) as wider:
            for stage, options in asked:
                examples = list(stage(examples, options, wider))
            yield from examples

    done = through(input_, output, work, pivot)
    children = [c for e in done for c in e.candidates if c.origin == "translated"]
    marks = [e.extra[prompting.MARK] for e in done if prompts_into and prompting.MARK in e.extra]
    made = [(lang, mark) for found in marks for lang, mark in found.items()]
    noted = [*(child.extra for child in children), *(mark for _, mark in made)]
    told = {
        "translated": sum(child.error is None for child in children),
        "failed": Counter(drop.reason for e in done for drop in e.dropped if drop.stage == candidates.STAGE),
        "numbers_lost": sum(candidates.NUMBERS_LOST in note for note in noted),
    }
    answer(told | ({"prompts": Counter(lang for lang, _ in made)} if made else {}), as_json, output)


def evaluate_translation(
    model: Model,
    input_: Input,
    limit: Annotated[int, typer.Option(help="translations a language, the first of each example")] = 100,
    backend: Backend = "hf",
    method: Method = "tagged",
    pivot: Pivot = "en",
    url: Url = None,
    adapter: Adapter = None,
    prompt: Prompt = None,
    prefill: Prefill = None,
    max_tokens: MaxTokens = 4096,
    repetition_penalty: RepetitionPenalty = None,
    beams: Beams = 1,
    by_paragraph: ByParagraph = "auto",
    max_characters: MaxCharacters = 2000,
    language_check: LanguageCheck = "on",
    dtype: Dtype = "auto",
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Translate the pivot's translated answers back: chrF against where they started, and the share that failed."""
    given = translating(locals())  # first, while these are the parameters alone
    from polypref import registry
    from polypref.stages import translation_quality as quality
    from polypref.store.jsonl import read_examples

    options = options_of(quality.RoundTripOptions, limit=limit, **given)
    with Terminal() as terminal:
        examples = list(read_examples(input_, terminal.warn))
        languages = tuple(dict.fromkeys(c.lang for e in examples for c in e.candidates))
        context, opener = registry.context(languages, pivot, progress=terminal.progress, warn=terminal.warn)
        try:
            figures = quality.round_trip_evaluation(examples, options, context).figures()
        finally:
            opener.close()
    if not figures:
        raise InputError(
            f"{input_} holds no translation of an answer in {pivot}; make some with "
            "polypref translate --direction from_pivot"
        )
    found = {"results": figures, "signature": quality.signature()}
    if as_json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
    else:
        for name, value in (*figures.items(), ("signature", found["signature"])):
            print(f"{name}: {json.dumps(value, ensure_ascii=False)}")
