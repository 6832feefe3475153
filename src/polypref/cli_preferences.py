"""``polypref translate-preferences``: preference and SFT sets into other languages, or there and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, Dtype, Output, Pivot, answer, options_of, through
from polypref.cli_terminal import say
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
from polypref.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Put the command under the command line's root."""
    app.command("translate-preferences")(translate_preferences)


def translate_preferences(
    model: Model,
    input_: Annotated[str, typer.Option("--input", help="pairs, labelled answers or an SFT set; - is stdin")],
    output: Output,
    into: Annotated[list[str], typer.Option(help="a language that gets the set; with --back, whose own is replaced")],
    source: Annotated[
        str | None, typer.Option(help="whose set it is; with --back, the language between; the pivot when left out")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="back-translation: from --into to --source and back")] = False,
    shape: Annotated[str, typer.Option(help="what docs/inputs.md calls the data, e.g. preference, hh")] = "wire",
    round_trip: Annotated[
        bool, typer.Option("--round-trip", help="translate each translation back, for its chrF")
    ] = False,
    min_chrf: Annotated[float | None, typer.Option(help="refuse what comes back with less")] = None,
    max_length_ratio: Annotated[
        float | None, typer.Option(help="refuse what is so many times longer, or shorter")
    ] = None,
    max_numbers_lost: Annotated[int | None, typer.Option(help="refuse what lacks more numbers than that")] = None,
    pivot: Pivot = "en",
    backend: Backend = "hf",
    method: Method = "tagged",
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
    """Translate a preference or SFT set: prompts, answers, and their pairs and labels; a pair is all or nothing."""
    given = translating(locals())  # first, while these are the parameters alone
    from polypref.stages import translate_preferences as stage
    from polypref.stages.preference_sets import preference_set
    from polypref.stages.translation_figures import translation_figures

    with named(languages="into"):
        options = options_of(
            stage.TranslatePreferencesOptions,
            languages=into,
            source=source,
            back=back,
            role=model,
            round_trip=round_trip,
            min_chrf=min_chrf,
            max_length_ratio=max_length_ratio,
            max_numbers_lost=max_numbers_lost,
            **given,
        )

    def work(examples: Iterable[Any], context: Any) -> Iterator[Any]:
        examples = list(examples)
        sources = {way[0] for way in options.ways(pivot).values()}
        if not any(preference_set(example, lang) for example in examples for lang in sources):
            raise InputError(
                f"{input_} holds no pair, no label and no answer to learn from in {', '.join(sorted(sources))}; "
                "name the language of the set with --source, or how the data is laid out with --shape"
            )
        with speaking(context, [options]) as wider:
            yield from stage.translate_preferences(examples, options, wider)

    done = through(input_, output, work, pivot, shape)
    figures = translation_figures(done, options, pivot)
    answer(figures, as_json, output)
    if not as_json:
        for lang, found in figures.items():
            say(f"{lang}: {json.dumps(found)}")
