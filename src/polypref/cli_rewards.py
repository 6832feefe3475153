"""Reward models on the command line: train one, score with any, judge them all, look into what training did to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_specs import specs_of
from polypref.cli_stages import AsJson, Input, Output, answer, evaluate, options_of, score, settings, through, training
from polypref.cli_terminal import Terminal, say, show
from polypref.errors import RecipeError, UserError

Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")]
Folder = Annotated[Path, typer.Option("--out", help="the run's folder: what is done is not done again")]
Shape = Annotated[str, typer.Option(help="what docs/inputs.md calls the data; auto looks at names and first row")]
Language = Annotated[list[str] | None, typer.Option(help="only these; all that the data has when left out")]
Pivot = Annotated[str, typer.Option(help="the language that others are compared with")]
Named = Annotated[
    list[str] | None,
    typer.Option(
        "--reward",
        metavar="NAME=MODEL",
        help="a reward model's folder or hub name; SCORER:MODEL for another scorer, e.g. pair_judge:NAME with --url",
    ),
]


def add_to() -> None:
    """Put the commands beside their kind."""
    score.command("scorer")(score_scorer)
    training.command("reward")(train_reward)
    evaluate.command("rewards")(evaluate_rewards)
    evaluate.command("representation")(evaluate_representation)


def score_scorer(
    scorer: Annotated[str, typer.Option(help="a name of polypref ls scorers, or package.module:Class")],
    input_: Input,
    output: Output,
    model: Annotated[str | None, typer.Option(help="its model: a folder, a hub name, or a server's model")] = None,
    reference: Annotated[str | None, typer.Option(help="of implicit: what the model was aligned from")] = None,
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model")] = None,
    backend: Annotated[str, typer.Option(help="hf, vllm, openai or fake")] = "hf",
    url: Annotated[str | None, typer.Option(help="of an OpenAI-compatible server, ending with /v1")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code")] = False,
    set_: Set = None,
    shape: Annotated[str, typer.Option(help="what docs/inputs.md calls the data, e.g. preference, auto")] = "wire",
    as_: Annotated[str | None, typer.Option("--as", help="name of the score")] = None,
    as_json: AsJson = False,
) -> None:
    """Score by a reward model, a generative judge, an implicit reward, an oracle, or a class of your own."""
    from polypref import registry
    from polypref.stages.score import ScorerOptions, by_scorer

    shared = {"dtype": dtype, "device": device, "backend": backend, "url": url, "trust_remote_code": trust_remote_code}
    options = options_of(
        ScorerOptions,
        scorer=scorer,
        model=None if model is None else {"path": model, "adapter": adapter, **shared},
        reference=None if reference is None else {"path": reference, **shared},
        settings=settings(set_),
        name=as_,
    )
    if scorer in registry.COMPARERS:
        raise RecipeError(f"--scorer {scorer} compares pairs and gives an answer no number; say judge")
    if wrong := registry.mistake_of(options):
        raise RecipeError(f"--scorer {scorer}: {wrong}")
    done = through(input_, output, lambda examples, context: by_scorer(examples, options, context), shape=shape)
    name = options.name or options.scorer
    told = {
        "scored": sum(name in candidate.scores for example in done for candidate in example.candidates),
        "no_verdict": sum(drop.reason == "no_verdict" for example in done for drop in example.dropped),
    }
    if told["no_verdict"]:
        say(f"{told['no_verdict']} answers have no score: {scorer} gave none; they are kept with an error")
    answer(told, as_json, output)


def train_reward(
    input_: Annotated[
        str, typer.Option("--input", help="preference data: a file or a folder, any shape of docs/inputs.md")
    ],
    output: Annotated[Path, typer.Option("--output", help="the reward model's folder; replaced at once, on success")],
    model: Annotated[str | None, typer.Option(help="what it is made of: a language model or a reward model")] = None,
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model, merged in first")] = None,
    validation: Annotated[str | None, typer.Option(help="left out: a share of --input, by prompt")] = None,
    validation_share: Annotated[float, typer.Option()] = 0.1,
    language: Language = None,
    mix: Annotated[str, typer.Option(help="natural, even, or weights such as {en: 2, es: 1}")] = "natural",
    shape: Shape = "auto",
    allow_overlap: Annotated[bool, typer.Option("--allow-overlap", help="of training and validation prompts")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a training option, e.g. loss=pointwise")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a reward model on pairs (Bradley–Terry) or labelled answers (pointwise); runs under accelerate launch."""
    from polypref import registry
    from polypref.api import reward_key
    from polypref.recipe_file import parse_value
    from polypref.stages import train_reward as stage
    from polypref.stages.overlap import refuse_overlap
    from polypref.stages.preference_data import check, split
    from polypref.stages.prompts import PromptOptions, read_prompts
    from polypref.store import checkpoint

    values = settings(set_, stage.RewardTrainOptions.model_fields)
    start = None if model is None else {"path": model, "adapter": adapter}
    options = options_of(
        stage.TrainRewardOptions, start=start, languages=language or (), mix=parse_value(mix, "--mix"), **values
    )
    if model is None and adapter is not None:
        raise RecipeError("--adapter lies on --model, which is missing; name it")
    if model is not None and options.method == "bag_of_words":
        raise RecipeError("--model is for the method transformer; bag_of_words is made of nothing, leave it out")
    if options.start is None and options.method == "transformer":
        raise RecipeError("--model is missing; name a language model or a reward model to start from")

    def read(path: str, context: Any) -> list[Any]:
        seed = {"seed": options.seed, "require": "any", "languages": options.languages}
        return read_prompts(options_of(PromptOptions, path=path, shape=shape, **seed), context)[0]

    with Terminal() as terminal:
        context, opener = registry.context(progress=terminal.progress, warn=terminal.warn)
        try:
            examples = read(input_, context)
            if validation is None:
                examples, held = split(examples, validation_share, options.seed)
            else:
                held = read(validation, context)
                refuse_overlap(examples, held, allow=allow_overlap)
            for remark in check(examples, held).remarks():
                terminal.warn(f"{input_}: {remark}")
            summary = checkpoint.build(
                output,
                reward_key(examples, held, options, context),
                lambda unfinished: stage.train_reward(examples, held, options, context, unfinished),
            )
        finally:
            opener.close()
    if as_json:
        answer(summary, as_json, str(output))
    else:
        print(_told(summary, output))


def _told(summary: dict[str, Any], output: Path) -> str:
    """A training in a sentence."""
    rows = ", ".join(f"{lang} {n}" for lang, n in summary["languages"].items())
    told = f"{output}: trained on {summary['rows']} rows ({rows})"
    best = [entry for entry in summary["validation"] if entry["step"] == summary["selected_step"]]
    if best and best[0].get("accuracy") is not None:
        told += f"; step {best[0]['step']} is kept, right in {100 * best[0]['accuracy']:.1f}% of "
        told += f"{summary['validation_rows']} validation rows"
    counts = {**summary["dropped"], **{f"{k} sequences cut": n for k, n in summary["truncated"].items()}}
    return told + "".join(f"; {n} {why}" for why, n in counts.items() if n)


def run_tree(tree: dict[str, Any], overrides: list[str] | None, out: Path, as_json: bool, part: str) -> None:
    """Run a recipe of rewards alone; ``part`` of its results is the machine's answer."""
    from polypref.mistakes import checked
    from polypref.recipe import Recipe
    from polypref.recipe_file import set_value
    from polypref.recipe_paths import check_paths
    from polypref.run import run

    for override in overrides or ():
        set_value(tree, override)
    with Terminal() as terminal:
        recipe = checked(Recipe, tree)
        check_paths(recipe, "the command line")
        _refuse_another(recipe, out)
        data = run(recipe, out, terminal.progress, terminal.warn)
    if as_json:
        found = json.loads((out / "results.json").read_text(encoding="utf-8"))
        print(json.dumps({"results": found["results"], part: found[part], "signature": found["signature"]}))
    else:
        show(data, out / "report.html")


def _refuse_another(recipe: Any, out: Path) -> None:
    """Refuse a folder that holds the figures of other data, or of rewards that would be lost."""
    from polypref.recipe_file import read_recipe

    if not (out / "results.json").exists():
        return
    before = read_recipe(out / "recipe.yaml")
    known = {name: getattr(before, name) for name in ("rounds", "languages", "pivot", "representation")}
    judged = [r.judge and r.judge.model_copy(update={"trained_on": {}}) for r in (before, recipe)]
    same = judged[0] == judged[1] and all(getattr(recipe, name) == value for name, value in known.items())
    lost = [name for name, spec in before.rewards.items() if recipe.rewards.get(name) != spec]
    if not same or lost:
        what = f"the reward {lost[0]}" if same else "other data or settings"
        raise UserError(f"{out} holds an evaluation of {what}, which would be lost; name another folder with --out")


def evaluate_rewards(
    input_: Annotated[str, typer.Option("--input", help="right and wrong answers: any shape of docs/inputs.md")],
    reward: Named = None,
    out: Folder = Path("runs/rewards"),
    train: Annotated[
        str | None, typer.Option(help="the training data, for the length and majority baselines and the gap")
    ] = None,
    trained_on: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LANG,LANG", help="the languages that a reward was trained on")
    ] = None,
    benchmark: Annotated[str | None, typer.Option(help="rewardbench, m_rewardbench, rewardbench2 or mm_eval")] = None,
    url: Annotated[str | None, typer.Option(help="of the server of judges, ending with /v1")] = None,
    allow_overlap: Annotated[bool, typer.Option("--allow-overlap", help="of judged and training prompts")] = False,
    language: Language = None,
    shape: Shape = "auto",
    pivot: Pivot = "en",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="of the recipe, e.g. judge.items=points")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy of rewards by language and category, with baselines, intervals, and the transfer matrix of several."""
    specs = specs_of(reward or [], url)
    data = {"path": input_, "shape": shape, "allow_overlap": allow_overlap}
    tree: dict[str, Any] = {
        "name": "rewards",
        "seed": seed,
        "rounds": 0,
        "pivot": pivot,
        "languages": language or [],
        "rewards": specs,
        "judge": {
            "data": data,
            "benchmark": benchmark,
            "training": {"path": train, "shape": "auto"} if train else None,
            "trained_on": _trained_on(trained_on or []),
        },
    }
    run_tree(tree, set_, out, as_json, "rewards")


def _trained_on(entries: list[str]) -> dict[str, list[str]]:
    found = {}
    for entry in entries:
        name, equals, languages = entry.partition("=")
        if not equals:
            raise RecipeError(f"--trained-on {entry!r} is no NAME=LANGUAGES; write e.g. --trained-on mine=en,es")
        found[name] = languages.split(",")
    return found


def evaluate_representation(
    input_: Annotated[str, typer.Option("--input", help="parallel prompts: any shape of docs/inputs.md")],
    base: Annotated[str, typer.Option(help="what the reward models were made of")],
    reward: Named = None,
    out: Folder = Path("runs/representation"),
    layer: Annotated[list[int] | None, typer.Option(help="−1 is the last block; may be given several times")] = None,
    pooling: Annotated[str, typer.Option(help="last or mean, over the text's tokens")] = "last",
    centre: Annotated[str, typer.Option(help="none, all, or language: whose mean is taken away")] = "none",
    language: Language = None,
    shape: Shape = "auto",
    pivot: Pivot = "en",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="of the recipe")] = None,
    as_json: AsJson = False,
) -> None:
    """What reward training did to the hidden states of parallel texts: singular-value ratio, CKA, cosine, norms."""
    tree: dict[str, Any] = {
        "name": "representation",
        "seed": seed,
        "rounds": 0,
        "pivot": pivot,
        "languages": language or [],
        "rewards": specs_of(reward or []),
        "representation": {
            "texts": {"path": input_, "shape": shape},
            "base": {"path": base},
            "layers": layer or [-1],
            "pooling": pooling,
            "centre": centre,
        },
    }
    run_tree(tree, set_, out, as_json, "representation")
