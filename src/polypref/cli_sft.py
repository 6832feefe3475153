"""``polypref train sft``: supervised fine-tuning on demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, answer, options_of, settings
from polypref.cli_terminal import Terminal
from polypref.errors import RecipeError


def add_to(training: typer.Typer) -> None:
    """Put the command under ``polypref train``."""
    training.command("sft")(train_sft)


def train_sft(
    model: Annotated[str, typer.Option(help="what is fine-tuned: a folder or a hub name")],
    input_: Annotated[
        str, typer.Option("--input", help="prompts with answers: a file or a folder, any shape of docs/inputs.md")
    ],
    output: Annotated[Path, typer.Option("--output", help="the checkpoint's folder; replaced at once, on success")],
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model, merged in first")] = None,
    validation: Annotated[str | None, typer.Option(help="left out: a share of --input, by prompt")] = None,
    validation_share: Annotated[float, typer.Option()] = 0.1,
    language: Annotated[list[str] | None, typer.Option(help="only these; all that the data has when left out")] = None,
    by: Annotated[str, typer.Option(help="answers, or chosen: the better answers of pairs")] = "answers",
    mix: Annotated[str, typer.Option(help="natural, even, or weights such as {en: 2, es: 1}")] = "natural",
    corrupt: Annotated[float, typer.Option(help="share of the answers that go to another prompt")] = 0.0,
    select: Annotated[str, typer.Option(help="which checkpoint is kept: loss, chrf, scorer or last")] = "loss",
    scorer: Annotated[str | None, typer.Option(help="of greedy answers: a name of polypref ls scorers")] = None,
    scorer_model: Annotated[str | None, typer.Option(help="its model: a folder or a hub name")] = None,
    shape: Annotated[
        str, typer.Option(help="what docs/inputs.md calls the data; auto looks at names and row")
    ] = "auto",
    allow_overlap: Annotated[bool, typer.Option("--allow-overlap", help="of training and validation prompts")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a training option, e.g. learning_rate=2e-5")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on demonstrations and keep the best checkpoint; runs under accelerate launch."""
    from polypref import registry
    from polypref.recipe_file import parse_value
    from polypref.records import to_json
    from polypref.stages import train_sft as stage
    from polypref.stages.demonstrations import demonstrations
    from polypref.stages.overlap import refuse_overlap
    from polypref.stages.preference_data import check, split
    from polypref.stages.prompts import PromptOptions, read_prompts
    from polypref.store import checkpoint
    from polypref.store.atomic import digest

    known = {*stage.SFTTrainOptions.model_fields, "system", "max_tokens"} - {"select"}
    options = options_of(
        stage.TrainSFTOptions,
        start={"path": model, "adapter": adapter},
        languages=language or (),
        mix=parse_value(mix, "--mix"),
        by=by,
        corrupt=corrupt,
        select=select,
        scorer=_scorer(scorer, scorer_model),
        **settings(set_, known),
    )
    if options.scorer is not None and (wrong := registry.mistake_of(options.scorer)):
        raise RecipeError(f"--scorer {scorer}: {wrong}")

    def read(path: str, context: Any) -> list[Any]:
        asked = {"seed": options.seed, "require": "any", "languages": options.languages}
        asked["demonstrations"] = options.by == "answers"
        return read_prompts(options_of(PromptOptions, path=path, shape=shape, **asked), context)[0]

    with Terminal() as terminal:
        context, opener = registry.context(progress=terminal.progress, warn=terminal.warn)
        try:
            shown = demonstrations(read(input_, context), options.by)
            if validation is None:
                shown, held = split(shown, validation_share, options.seed)
            else:
                held = demonstrations(read(validation, context), options.by)
                refuse_overlap(shown, held, allow=allow_overlap)
            for remark in check(shown, held).remarks():
                terminal.warn(f"{input_}: {remark}")
            trainer = context.open("sft_trainer", options.method).fingerprint
            told = ["train_sft", stage.VERSION, trainer, options.identity(registry.fingerprint)]
            sides = ([to_json(example) for example in side] for side in (shown, held))
            summary = checkpoint.build(
                output,
                digest([*told, *sides]),
                lambda unfinished: stage.train_sft(
                    shown, held, options.model_copy(update={"by": "answers"}), context, unfinished
                ),
            )
            for remark in stage.remarks(summary):
                terminal.warn(remark)
        finally:
            opener.close()
    if as_json:
        answer(summary, as_json, str(output))
    else:
        print(_told(summary, output))


def _scorer(name: str | None, model: str | None) -> dict[str, Any] | None:
    if name is None:
        if model is not None:
            raise RecipeError("--scorer-model is the model of --scorer, which is missing; name the scorer")
        return None
    return {"scorer": name, "model": None if model is None else {"path": model}}


def _told(summary: dict[str, Any], output: Path) -> str:
    """A training in a sentence."""
    rows = ", ".join(f"{lang} {n}" for lang, n in summary["languages"].items())
    told = f"{output}: trained on {summary['rows']} demonstrations ({rows})"
    best = [point for point in summary["checkpoints"] if point["step"] == summary["selected"]]
    for point in best:
        figures = ", ".join(f"{name} {point[name]:.4g}" for name in point if name not in ("step", "by_language"))
        told += f"; step {point['step']} is kept: {figures} on {summary['validation_rows']} validation rows"
    return told
