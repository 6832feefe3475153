"""``polypref sweep``: one key of a recipe varied over values and seeds, with intervals and a plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson
from polypref.cli_terminal import Terminal
from polypref.errors import PolyprefError, RecipeError


def add_to(app: typer.Typer) -> None:
    """Put the command under the command line's root."""
    app.command("sweep")(sweep)


def sweep(
    vary: Annotated[
        str, typer.Option(metavar="KEY=v1,v2,…", help="the key of the recipe that is varied, and its values as YAML")
    ],
    out: Annotated[Path, typer.Option(help="the sweep's folder; each run has its own in it")],
    recipe: Annotated[
        str | None, typer.Argument(help="a YAML file, or the name of one that comes with polypref")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="instead of a recipe: a method of polypref quickstart, on the sandbox")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2", help="the recipe's own alone when left out")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="change a setting of the recipe everywhere")
    ] = None,
    metric: Annotated[str, typer.Option(help="the figure that is read off each run")] = "quality",
    step: Annotated[
        str, typer.Option(help="whose figure; last is the last round's model, {value} stands for the value")
    ] = "last",
    as_json: AsJson = False,
) -> None:
    """Vary one key of a recipe over values and seeds, and show what it does."""
    from polypref import recipes
    from polypref import sweep as sweeping

    if (recipe is None) == (system is None):
        raise RecipeError("name a recipe or --system, one of the two, e.g. polypref sweep smoke --vary …")
    with Terminal() as terminal:
        path, first = (recipes.find(recipe), None) if recipe else _first_model(str(system), terminal.progress)
        plan = sweeping.Sweep(
            recipe=path,
            vary=sweeping.Vary.of(vary),
            seeds=_seeds(seeds),
            overrides=tuple(set_ or ()),
            metric=metric,
            step=step,
            first=first,
        )
        found = sweeping.sweep(plan, out, terminal.progress, terminal.warn)
    _finish(found, out, as_json)


def _seeds(text: str | None) -> tuple[int, ...]:
    """Different whole numbers from 0, with commas between."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise RecipeError(f"--seeds {text!r} are no whole numbers from 0 with commas between; write e.g. --seeds 0,1,2")
    found = tuple(int(part) for part in parts)
    if len(set(found)) < len(found):
        raise RecipeError(f"--seeds {text!r} has a seed twice; keep one")
    return found


def _first_model(name: str, progress: Any) -> tuple[Path, tuple[str, Callable[[int], Path]]]:
    """The recipe of a system, the key of its first model, and what trains it by seed or finds it in the cache."""
    from polypref import recipes
    from polypref.quickstart import cache, find

    system = find(name)

    def train(seed: int) -> Path:
        from polypref.sandbox.model import sft_checkpoint

        told = f"train sft, seed {seed}"
        return sft_checkpoint(
            cache(), seed, settings=system.first, progress=lambda step, steps, loss: progress(told, step, steps)
        )

    return recipes.find(system.recipe), (system.model, train)


def _finish(found: dict[str, Any], out: Path, as_json: bool) -> None:
    """The answer, and an error where runs failed."""
    from polypref import sweep as sweeping

    if as_json:
        print((out / sweeping.RESULTS).read_text(encoding="utf-8"), end="")
    else:
        _show(found, out / sweeping.PAGE)
    runs = [one for point in found["points"] for one in point["runs"]]
    if failed := [one for one in runs if one["status"] == "failed"]:
        raise PolyprefError(
            f"{len(failed)} of {len(runs)} runs failed; {out / sweeping.RESULTS} says why, and the same command tries "
            "them again"
        )


def _show(found: dict[str, Any], page: Path) -> None:
    """Tables and sentences for a person, on stdout."""
    from rich.console import Console

    from polypref.stages.report_sweep import sweep_findings, sweep_tables

    console = Console()
    for table in sweep_tables(found):
        console.print(table)
    headline, *others = sweep_findings(found)
    for finding in others:
        console.print(finding.text, style="yellow" if finding.kind == "watch" else None, highlight=False, markup=False)
    console.print(headline.text, style="bold", highlight=False, markup=False)
    console.print(f"{page}  the same, to read and to pass on", highlight=False, markup=False, soft_wrap=True)
