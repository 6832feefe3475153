"""``polypref serve``: a method as an OpenAI-compatible server."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from polypref.cli_stages import Dtype, options_of, settings, switch
from polypref.cli_terminal import Terminal, say
from polypref.errors import RecipeError

serve = typer.Typer(help="Serve a method.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Put the commands under the command line's root."""
    app.add_typer(serve, name="serve")


@serve.callback()
def _group() -> None:
    """A group keeps its commands' names, however few they are."""


@serve.command("best-of-n")
def best_of_n(
    model: Annotated[str, typer.Option(help="what draws the samples: a folder, a hub name, or a server's model")],
    scorer: Annotated[str, typer.Option(help="what picks: a name of polypref ls scorers, or package.module:Class")],
    scorer_model: Annotated[str | None, typer.Option(help="the scorer's model, where it has one")] = None,
    reference: Annotated[str | None, typer.Option(help="of implicit: what --scorer-model was aligned from")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="samples of an answer, where a request has no best_of")] = 16,
    max_samples: Annotated[int, typer.Option(min=1, help="of one request, its n times best_of")] = 256,
    max_tokens: Annotated[int, typer.Option(min=1, help="of an answer, where a request names none")] = 512,
    temperature: Annotated[
        float | None, typer.Option(help="soft best-of-n: pick by softmax(score/temperature)")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="of prompts that do not say; several are told apart; en when left out")
    ] = None,
    language_check: Annotated[str, typer.Option(help="on or off: pick no answer in another language")] = "off",
    language_identifier: Annotated[str | None, typer.Option(help="lingua when left out")] = None,
    drop_truncated: Annotated[str, typer.Option(help="on or off: pick no answer cut at the token limit")] = "on",
    name: Annotated[str, typer.Option(help="the model's name for clients")] = "best-of-n",
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any; the first line says which")] = 8000,
    api_key_env: Annotated[
        str | None, typer.Option(help="the environment variable with the key that clients must send")
    ] = None,
    batch_window: Annotated[float, typer.Option(min=0, help="seconds that a request waits for others")] = 0.01,
    batch_requests: Annotated[int, typer.Option(min=1, help="requests that are answered together at most")] = 64,
    backend: Annotated[str, typer.Option(help="of --model: hf, vllm, openai or fake")] = "hf",
    url: Annotated[str | None, typer.Option(help="of a --model on a server, ending with /v1")] = None,
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model")] = None,
    scorer_backend: Annotated[str, typer.Option(help="of --scorer-model: hf, vllm, openai or fake")] = "hf",
    scorer_url: Annotated[str | None, typer.Option(help="of a --scorer-model on a server")] = None,
    scorer_adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --scorer-model")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a setting of the scorer")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the samples, beside each request's own")] = 0,
    dtype: Dtype = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code")] = False,
) -> None:
    """Chat completions that are the best of n samples by a scorer; requests that come together are one batch."""
    from polypref import registry
    from polypref.backends import prompt_tokens, serving
    from polypref.backends.serving_wire import Limits
    from polypref.stages import serve_best_of_n as stage

    shared = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    judging = {"backend": scorer_backend, "url": scorer_url, **shared}
    options = options_of(
        stage.ServeOptions,
        model={"path": model, "backend": backend, "url": url, "adapter": adapter, **shared},
        scorer={
            "scorer": scorer,
            "model": None if scorer_model is None else {"path": scorer_model, "adapter": scorer_adapter, **judging},
            "reference": None if reference is None else {"path": reference, **judging},
            "settings": settings(set_),
        },
        temperature=temperature,
        languages=language or ["en"],
        language_check=switch(language_check, "--language-check"),
        language_identifier=language_identifier,
        drop_truncated=switch(drop_truncated, "--drop-truncated"),
        seed=seed,
    )
    if scorer in registry.COMPARERS:
        raise RecipeError(f"--scorer {scorer} compares pairs and gives an answer no number; say judge")
    if wrong := registry.mistake_of(options.scorer):
        raise RecipeError(f"--scorer {scorer}: {wrong}")
    if max_samples < n:
        raise RecipeError(f"--max-samples {max_samples} is below --n {n}, so every request would be refused; raise it")
    serving.installed()
    key, listening = _key(api_key_env), serving.bound(host, port)
    out = sys.stdout
    with listening, Terminal() as terminal:
        said: set[str] = set()

        def once(message: str) -> None:
            if message not in said:
                said.add(message)
                terminal.warn(message)

        context, opener = registry.context(options.languages, options.languages[0], warn=once)
        try:
            fingerprint = stage.opened(options, context)
            count = prompt_tokens.counter(options.model)
            app = serving.application(
                lambda asked: stage.serve(asked, options, context, count),
                Limits(name, n, max_samples, max_tokens),
                fingerprint,
                window=batch_window,
                most=batch_requests,
                key=key,
            )
            listening.listen()
            print(serving.address(listening), file=out, flush=True)
            say(f"best of {n} of {model} by {scorer}")
            serving.run(app, listening)
        finally:
            opener.close()


def _key(variable: str | None) -> Any:
    """The key that clients must send; None where none is asked for."""
    from pydantic import SecretStr

    if variable is None:
        return None
    if not (key := os.environ.get(variable, "").strip()):
        raise RecipeError(
            f"--api-key-env {variable}: the environment variable is empty; set it, or leave the option out"
        )
    return SecretStr(key)
