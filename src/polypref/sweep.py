"""A sweep: one key of a recipe varied over values and seeds, every point a run of its own that resumes.

out/sweep.json                           the figures of what is done, written after every run
out/sweep.html                           the page, at the end
out/<value>/seed-<seed>/                 a run's folder like any other
out/<value>/seed-<seed>.error.txt        the traceback, where its last try broke off by a fault
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from polypref.backends.base import Progress, silent
from polypref.errors import InputError, UserError, did_you_mean
from polypref.maths.stats import Estimate
from polypref.recipe import Recipe, as_tree
from polypref.recipe_paths import check_paths
from polypref.reporting import RESULTS as RUN_RESULTS
from polypref.run import run
from polypref.stages import report_tables as tables
from polypref.stages.evaluate import signature
from polypref.stages.report_sweep import render_sweep
from polypref.stages.sweep_figures import Run, languages_of, sweep_figures
from polypref.store import atomic
from polypref.store.lock import locked
from polypref.store.manifest import versions
from polypref.sweep_plan import LAST, Point, Sweep, Vary

__all__ = ["PAGE", "RESULTS", "Sweep", "Vary", "figures_of", "sweep"]

RESULTS, PAGE = "sweep.json", "sweep.html"

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a point: ``figures`` by language of the run's ``step`` where it is done, else what went wrong."""

    status: Literal["done", "failed", "open"] = "open"
    said: str | None = None
    step: str | None = None
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    signature: str = ""
    date: str = ""


def sweep(plan: Sweep, out: Path, progress: Progress = silent, warn: Warn = lambda message: None) -> dict[str, Any]:
    """Run what is not done yet of a sweep in ``out``; gives what sweep.json holds.

    A run that is finished is not opened again: its results.json is read where it is of the same recipe and versions.
    A run that fails is noted with its sentence, and the others go on; another start tries it again.

    Raises:
        RecipeError: a point's recipe is wrong; every point is checked before any is run.
        RunLockedError: another process writes the folder.
        InputError: the folder holds something else.
    """
    out = Path(out)
    points = plan.points()
    for point in points:
        check_paths(plan.at(point), plan.recipe.name)
    outcomes = dict.fromkeys(points, Outcome())
    with locked(out, warn):
        _claim(out, plan)
        found = _gathered(plan, outcomes)
        for count, point in enumerate(points, 1):
            atomic.write_json(out / RESULTS, found)
            outcomes[point] = _outcome(plan, point, out, progress, warn)
            found = _gathered(plan, outcomes)
            progress(f"sweep {plan.vary.key}", count, len(points))
        atomic.write_text(out / PAGE, render_sweep(found))
        atomic.write_json(out / RESULTS, found)
    return found


def _claim(out: Path, plan: Sweep) -> None:
    """Refuse a folder that holds something else than a sweep of this key."""
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if names and RESULTS not in names:
        raise InputError(f"{out} holds {names[0]} and is no sweep's folder; choose another --out, new or empty")
    found = _json(out / RESULTS)
    if found and (key := found.get("sweep", {}).get("key")) != plan.vary.key:
        raise InputError(f"{out} holds a sweep of {key}; choose another --out for one of {plan.vary.key}")
    for left in (*out.glob(f"{atomic.TEMPORARY_PREFIX}*"), *out.glob(f"*/{atomic.TEMPORARY_PREFIX}*")):
        left.unlink(missing_ok=True)


def _outcome(plan: Sweep, point: Point, out: Path, progress: Progress, warn: Warn) -> Outcome:
    """The figures of a point's run, which is begun, gone on with, or only read."""
    folder, fault = out / point.folder, out / f"{point.folder}.error.txt"
    try:
        recipe = plan.at(point, plan.first[1](point.seed) if plan.first else None)
        found = _finished(folder, recipe)
        if found is None:
            run(
                recipe,
                folder,
                lambda what, done, total: progress(f"{point}: {what}", done, total),
                lambda message: warn(f"{point}: {message}"),
            )
            found = json.loads((folder / RUN_RESULTS).read_text(encoding="utf-8"))
        step, figures = figures_of(found, plan.metric, plan.step_of(point))
    except UserError as error:
        said = str(error)
    except Exception as error:  # a fault at one point, such as too little memory, shall not cost the others
        atomic.write_text(fault, traceback.format_exc())
        said = f"{type(error).__name__}: {error}; the traceback is in {fault}"
    else:
        fault.unlink(missing_ok=True)
        return Outcome("done", None, step, figures, str(found["signature"]), str(found["date"]))
    warn(f"{point}: {said}")
    return Outcome("failed", said)


def _finished(folder: Path, recipe: Recipe) -> dict[str, Any] | None:
    """The results of a run that is finished with this recipe and these versions."""
    found = _json(folder / RUN_RESULTS)
    same = found and found.get("config") == as_tree(recipe) and found.get("versions") == versions()
    return found if same else None


def _json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when it is not there or not whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def figures_of(found: Mapping[str, Any], metric: str, step: str) -> tuple[str, dict[str, Estimate]]:
    """A metric by language of one step of a results.json, ``last`` its last round's model, and that step's name.

    Where the last round's model has no such metric, as that of a reward, ``last`` is the one step that has.

    Raises:
        InputError: no such step has the metric, or several have and none is named.
    """
    having: dict[str, dict[str, Estimate]] = {}
    for name, by_language in found["results"].items():
        told = {lang: one for lang, f in by_language.items() if (one := tables.estimate(f, metric))}
        having |= {name: told} if told else {}
    if not having:
        raise InputError(f"no step has {metric}; {did_you_mean(metric, tables.metrics_of(found['results']))}")
    if step == LAST:
        last = found["rounds"][-1]["model"] if found.get("rounds") else None
        if last not in having and len(having) > 1:
            raise InputError(f"{metric} is a figure of {', '.join(having)}; say which with --step")
        step = last if last in having else next(iter(having))
    if step not in having:
        raise InputError(f"the step {step!r} has no {metric}; {did_you_mean(step, having)}")
    return step, having[step]


def _gathered(plan: Sweep, outcomes: Mapping[Point, Outcome]) -> dict[str, Any]:
    """What sweep.json holds."""
    values = plan.vary.values
    runs = [Run(point.value, point.seed, one.figures) for point, one in outcomes.items() if one.status == "done"]
    figures = sweep_figures(runs, len(values))
    return {
        "sweep": {
            "recipe": plan.recipe.stem,
            "key": plan.vary.key,
            "values": list(values),
            "seeds": list(dict.fromkeys(point.seed for point in outcomes)),
            "metric": plan.metric,
            "step": plan.step,
            "set": list(plan.overrides),
        },
        "mean_over": languages_of(runs),
        "points": [
            {
                "value": value,
                "label": next(point.label for point in outcomes if point.value == index),
                **figures[index],
                "runs": [_run(point, one) for point, one in outcomes.items() if point.value == index],
            }
            for index, value in enumerate(values)
        ],
        "signature": _signature(plan, [one for one in outcomes.values() if one.status == "done"]),
        "config": as_tree(plan.at(next(iter(outcomes)))),
        "versions": versions(),
        "date": max(one.date for one in outcomes.values()),
    }


def _run(point: Point, outcome: Outcome) -> dict[str, Any]:
    return {
        "seed": point.seed,
        "folder": point.folder,
        "status": outcome.status,
        "said": outcome.said,
        "step": outcome.step,
        "figures": {
            lang: {"value": one.value, "stderr": one.stderr, "n": one.n} for lang, one in outcome.figures.items()
        },
        "signature": outcome.signature,
    }


def _signature(plan: Sweep, done: Sequence[Outcome]) -> str:
    """What the runs' signatures share, and what the sweep adds to them."""
    of_runs = [dict(part.split(":", 1) for part in one.signature.split("|")[1:]) for one in done]
    shared = {k: v for k, v in (of_runs[0] if of_runs else {}).items() if all(one.get(k) == v for one in of_runs)}
    seeds = plan.seeds or (shared.get("seed", ""),)
    told = {"sweep": plan.vary.key, "metric": plan.metric, "step": plan.step, "seed": seeds, "recipe": plan.recipe.stem}
    return signature({**shared, **told, "set": plan.overrides}, versions()["polypref"])
