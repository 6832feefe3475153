"""Who translates, on the command line: the options that all commands of translation share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from polypref.cli_stages import switch
from polypref.errors import RecipeError

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


def translating(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that these commands share, as their stages take them, of a command's parameters by name."""
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
def named(**options: str) -> Iterator[None]:
    """Mistakes in a list are told by the option that gives its entries one by one."""
    try:
        yield
    except RecipeError as error:
        told = str(error)
        for field, option in options.items():
            told = told.replace(f"--{field}:", f"--{option}:")
        raise RecipeError(told) from None


@contextlib.contextmanager
def speaking(context: Any, asked: Sequence[Any]) -> Iterator[Any]:
    """The context with the languages that the options ask for, so that translations into them are checked, too."""
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
