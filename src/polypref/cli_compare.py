"""``polypref evaluate compare`` and ``polypref evaluate alpaca``: models' answers judged against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypref.cli_specs import judges_of, named
from polypref.cli_stages import AsJson
from polypref.cli_terminal import Terminal
from polypref.errors import InputError, RecipeError

if TYPE_CHECKING:
    from polypref.backends.base import ScorerSpec
    from polypref.comparing import Compared

Answers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=PATH",
        help="a model's answers: a file, a folder with one file a language, or a path with {language}; may be given "
        "several times",
    ),
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="NAME=SPEC",
        help="SCORER:MODEL, e.g. gpt=pair_judge:gpt-4o-mini with --url, a reward model's folder, or a YAML file; "
        "may be given several times, the first judge's figures come first",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="the folder to write; what is judged there is not judged again")]
Languages = Annotated[str | None, typer.Option(help="only these, e.g. es,de; all that have answers when left out")]
Limit = Annotated[int | None, typer.Option(min=1, help="prompts, the first of the seeded order")]
Seed = Annotated[int, typer.Option(min=0, help="of the prompts' order, and of what is resampled")]
Url = Annotated[str | None, typer.Option(help="of the judges' server, ending with /v1")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME.a.b=VALUE", help="of a judge, e.g. gpt.model.concurrency=64")
]
IdKey = Annotated[str | None, typer.Option(help="the prompts' field that joins languages; position joins by row")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be asked and what it would cost; ask nobody")]


def add_to(app: typer.Typer) -> None:
    """Put the commands under ``polypref evaluate``."""
    app.command("compare")(compare)
    app.command("alpaca")(alpaca)


def alpaca(
    folder: Annotated[str, typer.Argument(help="the prompts, and reference answers: docs/comparisons.md")],
    answers: Answers = None,
    judge: Judge = None,
    out: Out = Path("runs/alpaca"),
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME[=PATH]", help="whom all are held against; the folder's references when left out"),
    ] = None,
    languages: Languages = None,
    limit: Limit = None,
    url: Url = None,
    set_: Set = None,
    id_key: IdKey = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Win rates by language of models' answers to a set of prompts, against its reference answers."""
    from polypref.stages.alpaca_eval import layout

    paths = _paths(answers)
    if baseline is not None and "=" in baseline:
        [(baseline, path)] = named([baseline], "--baseline", "PATH", "gpt4=answers/gpt4")
        if baseline in paths:
            raise RecipeError(f"--baseline {baseline} is among --answers, too; name its path once")
        paths = {baseline: path} | paths
    elif baseline is not None and baseline not in paths:
        raise RecipeError(f"--baseline {baseline} has no answers; write --baseline {baseline}=PATH")
    references = None
    if baseline is None and (references := layout(folder).references) is None:
        raise InputError(f"{folder} holds no reference answers; name whom all are held against: --baseline NAME=PATH")
    asked = _Asked("alpaca", paths, baseline, folder, references, languages, limit, id_key, seed)
    _run(asked, judges_of(judge or [], url, set_ or []), out, dry_run, as_json)


def compare(
    answers: Answers = None,
    judge: Judge = None,
    out: Out = Path("runs/compare"),
    baseline: Annotated[
        str | None, typer.Option(help="whom all are held against; every two meet when left out")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="any shape of docs/inputs.md; those that the answers carry when left out")
    ] = None,
    languages: Languages = None,
    limit: Limit = None,
    url: Url = None,
    set_: Set = None,
    id_key: IdKey = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Judge models' answers against a baseline's, or every two of them."""
    paths = _paths(answers)
    if len(paths) < 2:
        raise RecipeError("--answers names one model; name at least two, each as NAME=PATH")
    asked = _Asked("compare", paths, baseline, prompts, None, languages, limit, id_key, seed)
    _run(asked, judges_of(judge or [], url, set_ or []), out, dry_run, as_json)


@dataclass(frozen=True)
class _Asked:
    """What is compared, as the user named it. ``references`` are the baseline where it is not named."""

    name: str
    answers: Mapping[str, str]
    baseline: str | None
    prompts: str | None
    references: str | None
    languages: str | None
    limit: int | None
    id_key: str | None
    seed: int


def _paths(entries: Sequence[str] | None) -> dict[str, str]:
    found = dict(named(entries or [], "--answers", "PATH", "mine=answers/{language}.jsonl"))
    if not found:
        raise RecipeError("--answers is missing; name each model's answers, as NAME=PATH")
    return found


def _run(asked: _Asked, judges: Mapping[str, ScorerSpec], out: Path, dry_run: bool, as_json: bool) -> None:
    """Read, match, judge, tell."""
    from polypref import comparing, registry
    from polypref.stages.answer_matches import read_matches

    comparing.check(judges)
    with Terminal() as terminal:
        reading, _ = registry.context(progress=terminal.progress, warn=terminal.warn)
        matches, baseline = read_matches(
            asked.answers,
            reading,
            prompts=asked.prompts,
            references=asked.references,
            baseline=asked.baseline,
            languages=_tags(asked.languages),
            id_key=asked.id_key,
            limit=asked.limit,
            seed=asked.seed,
        )
        spoken = tuple(dict.fromkeys(match.language for match in matches))
        context, opener = registry.context(spoken, progress=terminal.progress, warn=terminal.warn)
        try:
            if dry_run:
                plans = dict(comparing.plans(matches, judges, out, context))
            else:
                config = asdict(asked) | {"baseline": baseline}
                found = comparing.compare(
                    matches,
                    judges,
                    out,
                    context,
                    baseline=baseline,
                    config=config,
                    shown=lambda judge, spent: terminal.beside(f"judged by {judge}", spent.told()),
                )
        finally:
            opener.close()
    if dry_run:
        told = {judge: plan.to_json() for judge, plan in plans.items()}
        print(json.dumps(told, ensure_ascii=False) if as_json else "\n".join(plan.told() for plan in plans.values()))
    elif as_json:
        parts = {part: found.results[part] for part in ("results", "macro_average", "baseline", "signature")}
        print(json.dumps({**parts, "spent": found.spent}, ensure_ascii=False))
    else:
        _show(found, out)


def _tags(codes: str | None) -> tuple[str, ...]:
    from polypref import languages

    try:
        return tuple(dict.fromkeys(languages.normalise(code.strip()) for code in (codes or "").split(",") if code))
    except InputError as error:
        raise RecipeError(f"--languages: {error}") from None


def _show(found: Compared, out: Path) -> None:
    """A table a judge, languages down, models across; what to look at, who wins, where the page is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from polypref.comparing import PAGE
    from polypref.stages.report_judgment_figures import boards as boards_of
    from polypref.stages.report_judgment_parts import fewer_languages
    from polypref.stages.report_judgment_section import baselines_of
    from polypref.stages.report_judgment_words import findings, headline

    console = Console()
    boards = boards_of(found.figures, found.judgments)
    results, macro = found.results["results"], found.results["macro_average"]
    against = f"against {found.results['baseline']}" if found.results["baseline"] else "against all others"
    spoken = sorted({lang for figures in results.values() for lang in figures})
    for number, judge in enumerate(found.results["judges"]):
        ending = "" if number == 0 else f"_by_{judge}"
        heading = f"Win rates {against} by {judge}, in % ± standard error; LC: length-controlled"
        console.print(heading, style="italic", highlight=False, markup=False, soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("")
        for model in results:
            table.add_column(Text(model), justify="right")
        for lang in spoken:
            table.add_row(lang, *(Text(_cell(figures.get(lang, {}), ending)) for figures in results.values()))
        board = next(board for board in boards if board.judge == judge)
        fewer = fewer_languages(board)
        if any(macro.values()):
            table.add_section()
            means = (_cell(macro.get(model, {}), ending, "*" * (model in fewer)) for model in results)
            table.add_row("mean", *map(Text, means))
        console.print(table)
        for model, tags in fewer.items():
            console.print(f"* {model}: the mean over {', '.join(tags)} alone", highlight=False, markup=False)
    for finding in findings(found.figures, boards):
        if finding.kind == "watch":
            console.print(finding.text, style="yellow", highlight=False, markup=False)
    first = headline(found.figures, boards, baselines_of(found.judgments, boards))
    console.print(first.text, style="bold", highlight=False, markup=False)
    for judge, spent in found.spent.items():
        console.print(_spent(judge, spent), highlight=False, markup=False)
    console.print(f"{out / PAGE}  the same, to read and to pass on", highlight=False, markup=False, soft_wrap=True)


def _cell(figures: Mapping[str, Any], ending: str, mark: str = "") -> str:
    lines = []
    for label, metric in (("", "win_rate"), ("LC ", "length_controlled_win_rate")):
        if (value := figures.get(f"{metric}{ending}")) is not None:
            stderr = figures[f"{metric}{ending}_stderr"]
            lines.append(f"{label}{100 * value:.1f}" + ("" if stderr is None else f" ± {100 * stderr:.1f}") + mark)
    return "\n".join(lines) or "–"


def _spent(judge: str, spent: Mapping[str, Any]) -> str:
    """What a judge took, in a line."""
    told = f"{judge}: {spent['requests']} requests"
    if spent["recalled"]:
        told += f", {spent['recalled']} answered before"
    if spent["tokens_asked"]:
        told += f", {spent['tokens_asked']} + {spent['tokens_answered']} tokens"
    return told + ("" if spent["cost"] is None else f", cost {spent['cost']:.4g}")
