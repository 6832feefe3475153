"""The command line: every command imports its work when it is called, so that --help stays instant."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref import (
    cli_best_of_n,
    cli_compare,
    cli_diagnose,
    cli_diagnoses,
    cli_distance,
    cli_dominant,
    cli_estimate,
    cli_export_results,
    cli_judgments,
    cli_languages,
    cli_mt_bench,
    cli_pair,
    cli_people,
    cli_preferences,
    cli_rewards,
    cli_rl,
    cli_serve,
    cli_sft,
    cli_stages,
    cli_sweep,
    cli_tasks,
    cli_translate,
    cli_typology,
)
from polypref.backends import processes
from polypref.cli_terminal import Terminal, plain, say
from polypref.errors import PolyprefError, UserError, did_you_mean

app = typer.Typer(
    name="polypref",
    help="Align a language model in many languages with preferences that exist in one.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Set = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="change a setting of the recipe")]
EXPORTS = "of pairs trl, trl-unpaired, trl-completion or llamafactory; of results alpaca-eval or lm-eval"
AsJson = Annotated[bool, typer.Option("--json", help="print the machine's answer on stdout")]


@app.command()
def quickstart(
    system: Annotated[
        str,
        typer.Option(
            help="icr: implicit cross-lingual rewarding; lidr: language imbalance driven rewarding; reward-transfer: "
            "reward models across languages; reuse-rewards: best-of-n and reinforcement by another language's reward; "
            "reuse-summaries: the same on summaries that are labelled one by one"
        ),
    ] = "icr",
    seed: Annotated[int, typer.Option(min=0, help="of the world, the models and the samples")] = 0,
    out: Annotated[Path | None, typer.Option(help="the run's folder; runs/<its recipe> when left out")] = None,
    as_json: AsJson = False,
) -> None:
    """A method on the embedded sandbox, start to report."""
    from polypref.quickstart import find
    from polypref.quickstart import quickstart as work

    asked = find(system)
    folder = out or Path("runs") / asked.recipe
    with Terminal() as terminal:
        data = work(asked, seed, folder, terminal.progress, terminal.warn)
    _finish(data, folder, as_json)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of one that comes with polypref")],
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(help="the run's folder; runs/<name of the recipe> when left out")] = None,
    executor: Annotated[str, typer.Option(help="who generates, translates and scores: local, or ray")] = "local",
    ray: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="of ray, e.g. actors=1,4")] = None,
    ray_address: Annotated[str | None, typer.Option(help="of ray's cluster: auto on one of its nodes")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe, or go on with it where it stopped."""
    from polypref import executors
    from polypref.recipe_file import read_recipe
    from polypref.recipe_paths import check_paths
    from polypref.recipes import find
    from polypref.run import run as work

    path = find(recipe)
    # The resolved recipe that a run has written goes on with that run.
    resolved = path.name == "recipe.yaml" and (path.parent / "manifest.json").exists()
    folder = out or (path.parent if resolved else Path("runs") / path.stem)
    with Terminal() as terminal, executors.chosen(executor, executors.told(ray or (), ray_address)) as where:
        read = read_recipe(path, set_ or ())
        check_paths(read, path.name)
        data = work(read, folder, terminal.progress, terminal.warn, terminal.beside, where)
    _finish(data, folder, as_json)


def _finish(data: Any, folder: Path, as_json: bool) -> None:
    from polypref.cli_terminal import show
    from polypref.store.places import local
    from polypref.store.urls import restored

    if as_json:
        print(Path(local(folder / "results.json")).read_text(encoding="utf-8"), end="")
    else:
        show(data, restored(folder / "report.html"))


@app.command()
def validate(recipe: Annotated[str, typer.Argument()], set_: Set = None, as_json: AsJson = False) -> None:
    """Say every mistake of a recipe at once; loads no model."""
    from polypref.recipe import as_tree
    from polypref.recipe_file import read_recipe
    from polypref.recipe_paths import check_paths
    from polypref.recipes import find

    path = find(recipe)
    with Terminal():
        read = read_recipe(path, set_ or ())
        check_paths(read, path.name)
    if as_json:
        print(json.dumps(as_tree(read), ensure_ascii=False, indent=2))
    say(f"{path} is a valid recipe")


@app.command()
def report(
    run_folder: Annotated[Path, typer.Option("--input", help="a run's folder")],
    as_json: AsJson = False,
) -> None:
    """Make a finished run's tables and page again, from its results; its models need not be there."""
    from polypref.reporting import again
    from polypref.store.remote import working_folder

    with Terminal() as terminal, working_folder(run_folder, terminal.warn) as folder:
        data = again(folder)
    _finish(data, run_folder, as_json)


@app.command()
def export(
    source: Annotated[Path, typer.Option("--input", help="a run's folder, or a file with pairs")],
    output: Annotated[Path, typer.Option("--output", help="the folder to write")],
    format_: Annotated[str, typer.Option("--format", help=EXPORTS)] = "trl",
    push_to_hub: Annotated[str | None, typer.Option(help="a data set's hub name; only when asked")] = None,
    as_json: AsJson = False,
) -> None:
    """Write pairs or results as other tools read them: TRL, LLaMA-Factory, AlpacaEval, lm-eval."""
    cli_export_results.check_format(format_)
    if format_ in cli_export_results.FORMATS:
        if push_to_hub:
            raise UserError("--push-to-hub is for pairs; leave it out")
        with Terminal():
            told = cli_export_results.export_results(source, output, format_)
        if as_json:
            print(json.dumps(told, ensure_ascii=False))
        say(f"{len(told['files'])} files written to {output}")
        return
    from polypref.stages.export import ExportOptions, export_pairs
    from polypref.stages.export import push_to_hub as push
    from polypref.store.jsonl import read_examples

    with Terminal() as terminal:
        values: dict[str, Any] = {"format": format_}
        provenance: dict[str, Any] | None = None
        examples: Any
        if source.is_dir():
            from polypref.reporting import last_pairs, recipe_of

            recipe = recipe_of(source)
            examples = last_pairs(source, recipe)
            values |= {"name": recipe.name, "beta": recipe.train.beta, "nll": recipe.train.nll_weight}
            provenance = {"recipe": recipe.name, "seed": recipe.seed, "score": recipe.pair_score}
        else:
            examples = read_examples(source, terminal.warn)
        options = cli_stages.options_of(ExportOptions, **values)
        summary = export_pairs(examples, options, output, provenance=provenance, warn=terminal.warn)
        if push_to_hub:
            push(output, push_to_hub)
    if as_json:
        print(json.dumps(dataclasses.asdict(summary), ensure_ascii=False))
    pairs, rows = sum(summary.pairs.values()), sum(summary.rows.values())
    say(f"{pairs} pairs as {rows} rows written to {output / 'train.jsonl'}")


INTERRUPTED = 130
LISTS = ("recipes", "models", "scorers", "backends", "metrics")


@app.command("ls")
def list_(what: Annotated[str | None, typer.Argument(help=", ".join(LISTS))] = None, as_json: AsJson = False) -> None:
    """What there is: recipes, released models, scorers, backends, metrics."""
    from polypref.cli_terminal import catalogue

    if what is not None and what not in LISTS:
        raise UserError(f"{what!r} is no list; {did_you_mean(what, LISTS)}")
    found = catalogue([what] if what else LISTS)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for heading, entries in found.items():
        print(heading)
        width = max((len(name) for name in entries), default=0)
        for name, told in entries.items():
            print(f"  {name:<{width}}  {told}")


@app.command()
def env(as_json: AsJson = False) -> None:
    """Versions and hardware, for a bug report."""
    from polypref.cli_terminal import environment

    found = environment()
    print(json.dumps(found, indent=2) if as_json else "\n".join(f"{k:<26}{v}" for k, v in found.items()))


# After the commands of whole runs, since help lists them in this order.
cli_stages.add_to(app)
cli_judgments.add(cli_stages.evaluate)
cli_compare.add_to(cli_stages.evaluate)
cli_mt_bench.add_to(cli_stages.evaluate)
cli_people.add_to(cli_stages.evaluate)
cli_languages.add_to(cli_stages.evaluate)
cli_tasks.add_to(cli_stages.evaluate)
cli_pair.add_to(cli_stages.pair)
cli_translate.add_to(app)
cli_dominant.add_to(cli_stages.evaluate)
cli_typology.add_to(cli_stages.evaluate)
cli_diagnoses.add_to(cli_stages.evaluate)
cli_rewards.add_to()
cli_sft.add_to(cli_stages.training)
cli_rl.add_to(cli_stages.training)
cli_distance.add_to(cli_stages.evaluate)
cli_best_of_n.add_to(app)
cli_diagnose.add_to(app)
cli_preferences.add_to(app)
cli_sweep.add_to(app)
cli_serve.add_to(app)
cli_estimate.add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 the user's mistake, 1 ours, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    # The first of typer's own errors that a wrong command line raises; its message is one sentence already.
    usage_error = typer.BadParameter.__mro__[2]
    try:
        if processes.rank():
            from polypref.registry import Opener

            processes.follow(Opener)
            sys.exit(0)
        with processes.leading():
            # Without its standalone mode typer turns an interruption into the answer 130 and raises nothing.
            status = app(args=arguments, standalone_mode=False) or 0
        sys.stdout.flush()
        if status == INTERRUPTED:
            raise KeyboardInterrupt
    except PolyprefError as error:
        _complain(str(error))
        status = error.exit_status
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from here")
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough (| head); what is left in the buffer must not raise again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except usage_error as error:
        status = _told_usage(error)
    except typer.Exit as stop:
        status = stop.exit_code
    except typer.Abort:
        status = INTERRUPTED
    sys.exit(status)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _complain(message: str) -> None:
    print(f"polypref: {plain(message)}", file=sys.stderr)


def _told_usage(error: Any) -> int:
    """A command that was only begun shows its help; anything else is a mistake."""
    if error.ctx is not None and error.format_message() == error.ctx.get_help():
        print(error.format_message())
        return 0
    _complain(_usage(error))
    return 2


def _usage(error: Any) -> str:
    """A wrong command or option in one line, with a hint when the name is nearly right."""
    message = " ".join(error.format_message().split())
    context = error.ctx
    if context is not None and message.startswith("No such command"):
        name = message.split("'")[1]
        return f"no such command {name!r}; {did_you_mean(name, context.command.list_commands(context))}"
    path = f"{context.command_path} --help" if context is not None else "polypref --help"
    return f"{message.rstrip('.')}; see {path}"
