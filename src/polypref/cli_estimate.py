"""``polypref estimate``: what a recipe will take, before anything is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypref.cli_stages import AsJson
from polypref.cli_terminal import Terminal
from polypref.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from polypref.estimate_work import Assumed
    from polypref.recipe import Recipe


def add_to(app: typer.Typer) -> None:
    """Put the command beside the others."""
    app.command("estimate")(estimate)


def estimate(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of one that comes with polypref")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="change a setting of the recipe")
    ] = None,
    parameters: Annotated[str | None, typer.Option(help="of the policy and its reference, such as 8B")] = None,
    reward_parameters: Annotated[
        str | None, typer.Option(help="of reward models and of judges in this process; the policy's when left out")
    ] = None,
    gpu: Annotated[str, typer.Option(help="the accelerator: h100, h200, a100, l40s, …")] = "h100",
    gpus: Annotated[int, typer.Option(min=1, help="how many of them")] = 1,
    price: Annotated[float | None, typer.Option(min=0, help="of one of them for an hour, in any currency")] = None,
    judge_price: Annotated[
        tuple[float, float] | None,
        typer.Option(help="of a million tokens asked and of a million answered by judges on servers"),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="training prompts a language; no data is read then")
    ] = None,
    languages: Annotated[int | None, typer.Option(min=1, help="with --prompts; the recipe's when left out")] = None,
    held_out: Annotated[int, typer.Option(min=0, help="with --prompts: held-out prompts a language")] = 0,
    preferences: Annotated[
        int | None, typer.Option(min=0, help="with --prompts: rows a language for rewards and SFT; prompts' number")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="a folder with a tokenizer that counts; by characters when left out")
    ] = None,
    task_requests: Annotated[
        int, typer.Option(min=0, help="requests of standard tasks that are put to every model of the run")
    ] = 0,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="a finished run's folder on the same hardware, its time taken as the measure; several are "
            "taken together"
        ),
    ] = None,
    assume: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="one of the assumptions that are printed")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Requests, tokens, GPU hours, disk and cost of a recipe, step by step; loads no model."""
    from polypref.estimate import Machine
    from polypref.estimate import estimate as work
    from polypref.estimate_calibrate import calibrate as measured
    from polypref.estimate_data import Reader, Told, on_paper, read
    from polypref.estimate_data import tokenizer as counting
    from polypref.estimate_evaluation import add_evaluation, add_tasks
    from polypref.estimate_hardware import hardware, parse_parameters, shape
    from polypref.estimate_page import answer, lines
    from polypref.estimate_rounds import plan

    told = {"languages": languages, "held-out": held_out or None, "preferences": preferences}
    if prompts is None and (alone := [name for name, value in told.items() if value is not None]):
        raise RecipeError(f"--{alone[0]} tells of data that is not read; give it with --prompts")
    if parameters is None and not calibrate:
        raise RecipeError("say how large the models are, such as --parameters 8B, or --calibrate with a finished run")
    if any(not 0 <= paid < float("inf") for paid in (price or 0.0, *(judge_price or ()))):
        raise RecipeError("--price and --judge-price are amounts of money; none is below 0 or without end")
    machine = Machine(
        hardware(gpu),
        gpus,
        shape(parse_parameters(parameters)) if parameters else None,
        shape(parse_parameters(reward_parameters)) if reward_parameters else None,
        price,
        judge_price,
    )
    assumed = _assumed(assume or ())
    with Terminal() as terminal:
        asked = _recipe(recipe, set_ or (), on_paper=prompts is not None)
        count = counting(tokenizer) if tokenizer else None
        rates: Any = {}
        sources = []
        if calibrate:
            found = measured(calibrate, assumed, count)
            rates, assumed = found.rates, found.assumed
            sources.append(found.told)
        if prompts is not None:
            data = on_paper(asked, Told(prompts, languages, held_out, preferences), assumed)
        else:
            reader = Reader() if count is None else Reader(count, f"by the tokenizer of {tokenizer}")
            data = read(asked, reader, terminal.warn)
        made = plan(asked, data, assumed)
        add_evaluation(made)
        if task_requests:
            add_tasks(made, task_requests, assumed.prompt_tokens + assumed.template_tokens)
        result = work(made.works.values(), machine, assumed, rates)
    counted = "; ".join([data.counted, *sources])
    if as_json:
        print(json.dumps(answer(result, counted), ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(lines(result, asked.name, counted)))


def _recipe(name: str, overrides: list[str] | tuple[()], *, on_paper: bool) -> Recipe:
    """The recipe; where no data is read, what it leaves open may stay so."""
    from polypref.recipe_file import read_recipe
    from polypref.recipes import find

    path = find(name)
    # What is given takes the place of what stands in for it.
    filled = [f"{place}=any" for place in _left_open(path)] if on_paper else []
    return read_recipe(path, [*filled, *overrides])


def _left_open(path: Path, *, extended: bool = False) -> list[str]:
    """The places of a recipe, and of the one that it extends, that hold ???."""
    import yaml

    from polypref.recipe_file import OPEN, load_yaml

    def places(value: Any, at: tuple[str, ...] = ()) -> list[str]:
        if value == OPEN:
            return [".".join(at)]
        inside = value.items() if isinstance(value, dict) else ()
        return [found for key, below in inside for found in places(below, (*at, str(key)))]

    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return []  # whoever reads the recipe says what is wrong with it
    base = tree.get("extends") if isinstance(tree, dict) and not extended else None
    return places(tree) + (_left_open(path.parent / base, extended=True) if isinstance(base, str) else [])


def _assumed(entries: list[str] | tuple[()]) -> Assumed:
    from polypref.cli_stages import options_of
    from polypref.estimate_work import TOLD
    from polypref.estimate_work import Assumed as Tree

    values: dict[str, Any] = {}
    for entry in entries:
        name, equals, number = entry.partition("=")
        if name not in TOLD:
            raise RecipeError(f"--assume {name!r} is no assumption; {did_you_mean(name, TOLD)}")
        try:
            values[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or not 0 <= values[name] < float("inf"):
            raise RecipeError(f"--assume {entry} gives no number; write {name}=NUMBER")
    return options_of(Tree, **values)
