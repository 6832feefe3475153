"""``polypref train rl``: train a policy by the rewards of its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, answer, options_of, settings
from polypref.cli_terminal import Terminal, say
from polypref.errors import RecipeError


def add_to(training: typer.Typer) -> None:
    """Put the command under ``polypref train``."""
    training.command("rl")(train_rl)


def train_rl(
    model: Annotated[str, typer.Option(help="the policy to start from, which is the reference as well")],
    prompts: Annotated[str, typer.Option(help="a file or a folder of prompts, any shape of docs/inputs.md")],
    scorer: Annotated[str, typer.Option(help="what rewards an answer: a name of polypref ls scorers")],
    output: Annotated[Path, typer.Option("--output", help="the checkpoint's folder; replaced at once, on success")],
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model, merged in first")] = None,
    scorer_model: Annotated[str | None, typer.Option(help="the scorer's model, e.g. a reward model's folder")] = None,
    scorer_adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --scorer-model")] = None,
    scorer_reference: Annotated[str | None, typer.Option(help="of implicit: what it was aligned from")] = None,
    url: Annotated[str | None, typer.Option(help="of the server of a judge, ending with /v1")] = None,
    language: Annotated[list[str] | None, typer.Option(help="only these; all that the prompts are in")] = None,
    limit: Annotated[int | None, typer.Option(help="examples, each in every language; all when left out")] = None,
    shape: Annotated[
        str, typer.Option(help="what docs/inputs.md calls the data; auto looks at names and rows")
    ] = "auto",
    pivot: Annotated[str, typer.Option(help="the language that preferences exist in")] = "en",
    identifier: Annotated[str, typer.Option(help="of the answers' languages: lingua, sandbox or fake")] = "lingua",
    device: Annotated[str | None, typer.Option(help="cpu, or what accelerate chooses")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a training option, e.g. beta=0.05")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reinforcement learning: RLOO or GRPO on the policy's own answers; runs under accelerate launch."""
    from polypref import registry
    from polypref.stages import train_rl as stage
    from polypref.stages.prompts import PromptOptions, read_prompts
    from polypref.store import checkpoint

    values = settings(set_, stage.RLOptions.model_fields)
    server = {"backend": "openai", "url": url} if url else {}
    judge = (
        None if scorer_model is None else {"path": scorer_model, "adapter": scorer_adapter, "device": device, **server}
    )
    backend = {"backend": "fake"} if values.get("method") == "fake" else {}
    options = options_of(
        stage.TrainRLOptions,
        start={"path": model, "adapter": adapter, "device": device, **backend},
        reward={"scorer": scorer, "model": judge, "reference": scorer_reference},
        languages=language or (),
        **values,
    )
    if scorer in registry.COMPARERS:
        raise RecipeError(f"--scorer {scorer} compares pairs and gives an answer no number; say judge")
    if wrong := registry.mistake_of(options.reward):
        raise RecipeError(f"--scorer {scorer}: {wrong}")
    registry.scorer(scorer)
    asked = {"seed": options.seed, "require": "any", "languages": options.languages, "limit": limit}
    with Terminal() as terminal:
        context, opener = registry.context(progress=terminal.progress, warn=terminal.warn)
        examples = read_prompts(options_of(PromptOptions, path=prompts, shape=shape, **asked), context)[0]
        opener.close()
        tags = tuple(dict.fromkeys(lang for example in examples for lang in example.prompts))
        context, opener = registry.context(tags, pivot, identifier, terminal.progress, terminal.warn)
        try:
            summary = checkpoint.build(
                output,
                rl_key(examples, options, context),
                lambda unfinished: stage.train_rl(examples, options, context, unfinished),
            )
        finally:
            opener.close()
    if summary["stopped"]:
        say(f"stopped after step {summary['stopped']['step']}: {summary['stopped']['said']}")
    if as_json:
        answer(summary, as_json, str(output))
    else:
        print(_told(summary, output))


def rl_key(examples: list[Any], options: Any, context: Any) -> str:
    """What a training by reinforcement depends on: options, models, trainer, identifier and every example."""
    from polypref import registry
    from polypref.records import to_json
    from polypref.stages.train_rl import VERSION
    from polypref.store.atomic import digest

    known = registry.version_of(options.reward.scorer)
    scorer = known if known is not None else context.open("scorer", options.reward).fingerprint
    identifier = context.open("language_identifier", options.language_identifier).fingerprint
    trainer = context.open("rl_trainer", options.method).fingerprint
    told = [options.identity(registry.fingerprint), scorer, identifier, trainer]
    return digest(["train_rl", VERSION, *told, [to_json(example) for example in examples]])


def _told(summary: dict[str, Any], output: Path) -> str:
    """A training in a sentence."""
    rows = ", ".join(f"{lang} {n}" for lang, n in summary["languages"].items())
    told = (
        f"{output}: {summary['steps']} steps on {summary['rows']} prompts ({rows}); step {summary['selected']} is kept"
    )
    if summary["curve"]:
        first, last = summary["curve"][0], summary["curve"][-1]
        told += (
            f"; reward {_number(first['reward'])} → {_number(last['reward'])}, KL {_number(last['kl'])} nats an answer"
        )
    counts = {**summary["dropped"], "answers without a reward": summary["unscored"]}
    return told + "".join(f"; {n} {why}" for why, n in counts.items() if n)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
