"""``polypref translate`` and ``polypref evaluate translation``: answers and prompts into other languages, and how well
that goes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, Dtype, Input, Output, Pivot, answer, evaluate, options_of, switch, through
from polypref.cli_terminal import Terminal
from polypref.errors import InputError, RecipeError

Model = Annotated[str, typer.Option(help="a folder, a hub name, or a server's model")]
Backend = Annotated[str, typer.Option(help="hf, vllm, openai or fake")]
Method = Annotated[str, typer.Option(help="tagged: a chat model; seq2seq: MADLAD-400, NLLB, M2M-100")]
Url = Annotated[str | None, typer.Option(help="of an OpenAI-compatible server, ending with /v1")]
Adapter = Annotated[str | None, typer.Option(help="a LoRA adapter on --model")]
Prompt = Annotated[str | None, typer.Option(help="of tagged: holds {text}, and {source} and {target}")]
Prefill = Annotated[str | None, typer.Option(help="on or off: open the model's turn with <translated>")]
MaxTokens = Annotated[int, typer.Option(help="of one translation; one cut there is a failure")]
RepetitionPenalty = Annotated[float | None, typer.Option()]
Beams = Annotated[int, typer.Option(help="of seq2seq; 1 is greedy")]
ByParagraph = Annotated[str, typer.Option(help="auto, on or off: long texts go in pieces")]
MaxCharacters = Annotated[int, typer.Option(help="of one piece")]
LanguageCheck = Annotated[str, typer.Option(help="on or off")]
Device = Annotated[str | None, typer.Option()]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code")]


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
    given = _translating(locals())  # first, while these are the parameters alone
    from polypref.stages import translate as candidates
    from polypref.stages import translate_prompts as prompting

    if prompts_from and not prompts_into:
        raise RecipeError(f"--prompts-from is {prompts_from}, but no prompts are made; say --prompts-into as well")
    asked: list[tuple[Any, Any]] = []
    if prompts_into:
        with _named(languages="prompts-into", source="prompts-from"):
            options = options_of(
                prompting.TranslatePromptsOptions, languages=prompts_into, source=prompts_from, role=model, **given
            )
        asked.append((prompting.translate_prompts, options))
    if direction or language or origin or not prompts_into:
        values = {"directions": direction, "origins": origin, "languages": language}
        with _named(directions="direction", origins="origin", languages="language"):
            options = options_of(candidates.TranslateOptions, **given, **{k: v for k, v in values.items() if v})
        asked.append((candidates.translate, options))

    def work(examples: Iterable[Any], context: Any) -> Iterator[Any]:
        with _speaking(context, [options for _, options in asked]) as speaking:
            for stage, options in asked:
                examples = list(stage(examples, options, speaking))
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
    given = _translating(locals())  # first, while these are the parameters alone
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


def _translating(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that both commands share, as their stages take them, of a command's parameters by name."""
    model = {name: given[name] for name in ("backend", "url", "adapter", "dtype", "device", "trust_remote_code")}
    how = {name: given[name] for name in ("method", "max_tokens", "repetition_penalty", "beams")}
    if given["prompt"] is not None:
        how["prompt"] = given["prompt"]
    if given["prefill"] is not None:
        how["prefill"] = switch(given["prefill"], "--prefill")
    return {
        "translator": {"model": {"path": given["model"], **model}, **how},
        "by_paragraph": given["by_paragraph"],
        "max_characters": given["max_characters"],
        "language_check": switch(given["language_check"], "--language-check"),
    }


@contextlib.contextmanager
def _named(**options: str) -> Iterator[None]:
    """Mistakes in a list are told by the option that gives its entries one by one."""
    try:
        yield
    except RecipeError as error:
        told = str(error)
        for field, option in options.items():
            told = told.replace(f"--{field}:", f"--{option}:")
        raise RecipeError(told) from None


@contextlib.contextmanager
def _speaking(context: Any, asked: Sequence[Any]) -> Iterator[Any]:
    """The context with the languages that are asked for, so that translations into them are checked, too."""
    from polypref import registry

    ways = [way for options in asked for way in getattr(options, "directions", ()) if ":" in way]
    languages = [*context.languages, *(tag for options in asked for tag in options.languages)]
    languages += [way.partition(":")[2] for way in ways]
    wider, opener = registry.context(
        tuple(dict.fromkeys(languages)), context.pivot, progress=context.progress, warn=context.warn
    )
    try:
        yield wider
    finally:
        opener.close()
