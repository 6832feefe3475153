"""``polypref evaluate tasks`` and ``… tax``: standard tasks in many languages, and what alignment cost in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypref.cli_stages import AsJson, Dtype, options_of
from polypref.cli_terminal import Terminal
from polypref.errors import InputError, RecipeError

if TYPE_CHECKING:
    from polypref.stages.standard_tasks import Done

RESULTS = "results.json"
Folder = Annotated[Path, typer.Option(help="where results are kept; a run's folder gets them beside its own")]


def add_to(app: typer.Typer) -> None:
    """Put the commands under ``polypref evaluate``."""
    app.command("tasks")(tasks)
    app.command("tax")(tax)


def tasks(
    model: Annotated[str, typer.Option(help="a folder or a hub name")],
    tasks_: Annotated[
        str,
        typer.Option(
            "--tasks",
            help="multilingual; arc, hellaswag, mmlu, truthfulqa, mgsm, global_mmlu, …; NAME for tasks called "
            "NAME_<language>; TASK:LANGUAGE for one; several with commas",
        ),
    ],
    languages: Annotated[str | None, typer.Option(help="with commas, e.g. en,es,sw")] = None,
    out: Folder = Path("runs/tasks"),
    name: Annotated[
        str | None, typer.Option(help="of the model in the results; the run's own, else its folder's when left out")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter on --model")] = None,
    include_path: Annotated[
        Path | None, typer.Option(help="a folder of lm-eval task files (.yaml) beside lm-eval's own; their code is run")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="only the first items of each task")] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="worked examples; the task's own when left out")] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="put the questions as user turns")
    ] = False,
    system: Annotated[str | None, typer.Option(help="the system turn, with --apply-chat-template")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="of an answer, where the model writes one")] = None,
    batch_size: Annotated[int, typer.Option(help="items of one forward pass")] = 8,
    seed: Annotated[int, typer.Option(help="of the worked examples, where a task draws them")] = 0,
    revision: Annotated[str | None, typer.Option(help="a branch, tag or commit of the hub")] = None,
    dtype: Dtype = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code")] = False,
    as_json: AsJson = False,
) -> None:
    """Put standard tasks to a model in many languages; what is done is not put again."""
    from polypref import registry
    from polypref.backends.base import ModelSpec
    from polypref.backends.lm_eval_harness import LmEvalHarness
    from polypref.backends.tasks import TaskSettings
    from polypref.languages import normalise
    from polypref.stages import standard_tasks as stage
    from polypref.store.lock import locked

    settings = options_of(
        TaskSettings,
        limit=limit,
        num_fewshot=num_fewshot,
        apply_chat_template=apply_chat_template,
        system=system,
        max_tokens=max_tokens,
        batch_size=batch_size,
        seed=seed,
    )
    spec = options_of(
        ModelSpec,
        path=model,
        adapter=adapter,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    tags = [normalise(one) for one in _split(languages)]
    with Terminal() as terminal, locked(out, terminal.warn):
        found = _read(out)
        harness = LmEvalHarness(include_path)
        planned = stage.plan(_split(tasks_), tags, harness.names())
        for absent in planned.absent:
            terminal.warn(absent)
        who = registry.fingerprint(spec)
        called = name or _called_by_run(out, found, who) or Path(adapter or model).name
        context, opener = registry.context(progress=terminal.progress, warn=terminal.warn)
        try:
            done = stage.run_tasks(planned.tasks, spec, called, settings, harness, out, context, registry.fingerprint)
        finally:
            opener.close()
        results = stage.merged(found or _fresh(out), called, who, stage.kept(out)[called])
        _write(out, results)
    _page(out)
    if as_json:
        print(json.dumps({name: results[name] for name in ("results", "standard_tasks")}, ensure_ascii=False))
    else:
        _show_figures(called, done, out)


def tax(
    before: Annotated[str, typer.Option(help="the model before alignment, as --name called it")],
    after: Annotated[str, typer.Option(help="the model after it")],
    out: Folder = Path("runs/tasks"),
    metric: Annotated[
        list[str] | None, typer.Option(help="e.g. arc_acc; of each task the one that papers report when left out")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The alignment tax: standard tasks before and after, paired item by item, by task and language."""
    from polypref.stages.alignment_tax import alignment_tax
    from polypref.stages.standard_tasks import kept
    from polypref.store.lock import locked

    if before == after:
        raise RecipeError(f"--before and --after both name {before}; name two models")
    with Terminal() as terminal:
        models = kept(out)
        for one in (before, after):
            if one not in models:
                there = ", ".join(models) or "none"
                raise InputError(
                    f"{out} holds no tasks of {one!r} (models: {there}); run polypref evaluate tasks --name {one} first"
                )
        found = alignment_tax(models[before], models[after], (before, after), metric or ())
        for one, alone in found["alone"].items():
            if alone:
                terminal.warn(f"only {one} was put {', '.join(alone)}; a tax needs both")
        with locked(out, terminal.warn):
            results = _read(out) or _fresh(out)
            others = [t for t in results.get("alignment_tax") or () if (t["from"], t["to"]) != (before, after)]
            _write(out, {**results, "alignment_tax": [*others, found]})
    _page(out)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
    else:
        _show_tax(found)


def _split(text: str | None) -> list[str]:
    """What stands between the commas."""
    return [part for part in ((text or "").replace(" ", "").split(",")) if part]


def _read(out: Path) -> dict[str, Any] | None:
    """The object of the folder's results.json; None where there is none yet."""
    file = out / RESULTS
    if not file.exists():
        if (out / "manifest.json").exists():
            raise RecipeError(f"the run in {out} is not finished; finish it, or name another folder with --out")
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON ({error}); remove it, or name another folder with --out") from None
    if not isinstance(found, dict) or not isinstance(found.get("results"), dict):
        raise InputError(f"{file} has no results; name another folder with --out")
    if found.keys() & {"kind", "benchmark"}:  # evaluate compare, alpaca and mt-bench, which write theirs anew
        raise InputError(f"{out} holds judgments of answers; name another folder with --out")
    return found


def _called_by_run(out: Path, found: Mapping[str, Any] | None, who: str) -> str | None:
    """How the run in a folder calls the model with this fingerprint, where it has figures of it."""
    file = out / "manifest.json"
    if found is None or not file.exists():
        return None
    models = json.loads(file.read_text(encoding="utf-8")).get("models", {})
    return next((name for name, known in models.items() if known == who and name in found["results"]), None)


def _fresh(out: Path) -> dict[str, Any]:
    """A results.json of standard tasks alone."""
    from polypref.stages.evaluate import results, signature
    from polypref.store.manifest import versions

    now = versions()
    told = signature({"of": "standard tasks"}, now["polypref"])
    return results({}, config={"name": out.name}, versions=now, seed=0, signature=told)


def _write(out: Path, results: Mapping[str, Any]) -> None:
    from polypref.store.atomic import write_json

    write_json(out / RESULTS, results)


def _page(out: Path) -> None:
    """Make the page of a run's folder again, with the tasks."""
    from polypref import reporting

    if (out / reporting.PAGE).exists():
        reporting.again(out)


def _show_figures(name: str, done: Sequence[Done], out: Path) -> None:
    """Metrics by languages, with the mean over them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from polypref.stages.standard_tasks import evaluation_of, headline

    evaluation, console = evaluation_of(done), Console()
    langs = list(dict.fromkeys(one.lang for one in done))
    title = f"{name}: ± one standard error, the mean's clustered by item"
    console.print(title, style="italic", highlight=False, markup=False, soft_wrap=True)
    table = Table(*_columns("", *langs, "mean"), box=box.SIMPLE_HEAD)
    figures = evaluation.figures()
    for metric in headline(done):
        cells = [figures[lang] if metric in figures.get(lang, {}) else None for lang in langs]
        mean = evaluation.mean(metric)
        shown = [_within(c[metric], c[f"{metric}_stderr"]) if c else "" for c in cells]
        table.add_row(metric, *shown, _within(mean.value, mean.stderr))
    console.print(table)
    console.print(
        f"{out / RESULTS}  all figures; items and answers under {out / 'tasks'}", highlight=False, soft_wrap=True
    )


def _columns(name: str, *others: str) -> list[Any]:
    """A column of names, which stand on one line each, and columns of figures."""
    from rich.table import Column
    from rich.text import Text

    return [Column(name, no_wrap=True), *(Column(Text(other), justify="right", overflow="fold") for other in others)]


def _within(value: float | None, stderr: float | None) -> str:
    return "" if value is None else f"{value:.3f}" + ("" if stderr is None else f" ± {stderr:.3f}")


def _show_tax(found: Mapping[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    heads = _columns("", "", found["from"], found["to"], "difference, 95%", "p", "items")
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for row in found["rows"]:
        table.add_row(row["metric"], row["language"], *_tax_cells(row))
    table.add_section()
    for row in found["by_metric"]:
        table.add_row(row["metric"], "mean", *_tax_cells(row))
    table.add_section()
    table.add_row("all", "mean", *_tax_cells(found["macro"]))
    Console().print(table)


def _tax_cells(row: Mapping[str, Any]) -> list[Any]:
    from rich.text import Text

    low, high, p = row["low"], row["high"], row["p"]
    cells = [
        f"{row['before']:.3f}",
        f"{row['after']:.3f}",
        f"{row['difference']:+.3f}"
        + ("" if row["stderr"] is None else f" ± {row['stderr']:.3f}")
        + ("" if low is None else f"\n[{low:+.3f}, {high:+.3f}]"),
        "" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001",
        str(row["n"]),
    ]
    return [Text(cell.replace("-", "−")) for cell in cells]
