"""``polypref evaluate mt-bench``: two-turn questions in several languages, every answer graded by a judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypref.cli_specs import judges_of, named, tree_of
from polypref.cli_stages import AsJson, options_of
from polypref.cli_terminal import Terminal
from polypref.errors import InputError, RecipeError

if TYPE_CHECKING:
    from polypref.grading import Bench, Benched
    from polypref.stages.mt_bench import Question


def add_to(app: typer.Typer) -> None:
    """Put the command under ``polypref evaluate``."""
    app.command("mt-bench")(mt_bench)


def mt_bench(
    questions: Annotated[
        str, typer.Argument(help="question.jsonl, a folder with one file a language, or a path with {language}")
    ],
    answers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="a model's answers in FastChat's layout; a path like the questions'"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="a model that is to answer: a folder, a hub name, or a YAML file"),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SPEC", help="judge:MODEL, e.g. gpt=judge:gpt-4o-mini with --url, or a YAML file"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="the folder to write; what is done there is not done again")] = (
        Path("runs/mt-bench")
    ),
    references: Annotated[
        str | None, typer.Option(help="reference answers in the layout of answers, where the questions hold none")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="whom the others are held against, head to head; the first when left out")
    ] = None,
    languages: Annotated[str | None, typer.Option(help="only these, e.g. es,de; all when left out")] = None,
    language: Annotated[str, typer.Option(help="of a single file that tells none")] = "en",
    limit: Annotated[int | None, typer.Option(min=1, help="questions, the first ones")] = None,
    url: Annotated[str | None, typer.Option(help="of the judges' server, ending with /v1")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME.a.b=VALUE", help="of a judge, e.g. gpt.settings.scale")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="of the answers; MT-Bench's own by category when left out")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="of the answer to one turn")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="of the answers' noise")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be asked; ask nobody")] = False,
    as_json: AsJson = False,
) -> None:
    """MT-Bench: grades from 1 to 10 by turn, category and language of answers that are given or drawn here."""
    from polypref import grading, registry

    given = dict(named(answers or [], "--answers", "PATH", "mine=answers/{language}.jsonl"))
    drawn = {
        name: {"temperature": temperature, "max_tokens": max_tokens, "seed": seed, "model": _model(text)}
        for name, text in named(model or [], "--model", "MODEL", "mine=models/mine")
    }
    if both := given.keys() & drawn.keys():
        raise RecipeError(f"{min(both)} is named by --answers and by --model; choose one of the two")
    if not given and not drawn:
        raise RecipeError("no model is named; write --answers NAME=PATH or --model NAME=MODEL")
    judges = judges_of(judge or [], url, set_ or [])
    asked = {"questions": questions, "references": references, "languages": languages, "limit": limit, "seed": seed}
    config = {"name": "mt-bench", **asked, "answers": given, "models": drawn, "baseline": baseline}
    with Terminal() as terminal:
        chosen = _questions(questions, references, languages, language, limit)
        bench = _bench(chosen, given, drawn, judges, baseline, terminal.warn)
        spoken = tuple(dict.fromkeys(question.language for question in chosen))
        context, opener = registry.context(spoken, progress=terminal.progress, warn=terminal.warn)
        try:
            if dry_run:
                told = grading.plans(bench, out, context)
            else:
                found = grading.mt_bench(bench, out, context, config=config)
        finally:
            opener.close()
    if dry_run:
        print(json.dumps(told, ensure_ascii=False) if as_json else "\n".join(_planned(told)))
    elif as_json:
        parts = {part: found.results[part] for part in ("results", "macro_average", "baseline", "signature")}
        print(json.dumps({**parts, "figures": found.figures["mt_bench"], "spent": found.spent}, ensure_ascii=False))
    else:
        _show(found, out, [judge for judge, spec in judges.items() if spec.model is not None])


def _model(text: str) -> dict[str, Any]:
    """A path, or a YAML or JSON file of a model's options."""
    if not text.endswith((".yaml", ".yml", ".json")):
        return {"path": text}
    return tree_of(Path(text), "--model", "model", "path, backend and url")


def _questions(
    path: str, references: str | None, languages: str | None, language: str, limit: int | None
) -> list[Question]:
    """The questions that are asked: the first ``limit`` ids, in the languages that are named."""
    from polypref.stages.mt_bench import read_questions, with_references

    found = read_questions(path, _tag(language, "--language"))
    if languages is not None:
        tags = {_tag(code.strip(), "--languages") for code in languages.split(",") if code.strip()}
        there = {question.language for question in found}
        if absent := sorted(tags - there):
            raise InputError(f"{path} has no questions in {', '.join(absent)}; it has {', '.join(sorted(there))}")
        found = [question for question in found if question.language in tags]
    ids = list(dict.fromkeys(question.id for question in found))[:limit]
    found = [question for question in found if question.id in set(ids)]
    return found if references is None else with_references(found, references)


def _tag(code: str, option: str) -> str:
    from polypref import languages

    try:
        return languages.normalise(code)
    except InputError as error:
        raise RecipeError(f"{option}: {error}") from None


def _bench(
    questions: Sequence[Question],
    given: Mapping[str, str],
    drawn: Mapping[str, Mapping[str, Any]],
    judges: Mapping[str, Any],
    baseline: str | None,
    warn: Any,
) -> Bench:
    from polypref.grading import Bench
    from polypref.stages.mt_bench import missing, read_answers
    from polypref.stages.mt_bench_answers import AnswerOptions

    answers = {name: read_answers(path, name, questions) for name, path in given.items()}
    for name, found in answers.items():
        lacking = missing(questions, found, name)
        if len(lacking) and not any((q.id, q.language) in found for q in questions):
            raise InputError(f"--answers {name}: {lacking[0]}, and none to any; check the path and the languages")
        for sentence in lacking:
            warn(sentence)
    options = {name: options_of(AnswerOptions, name=name, **values) for name, values in drawn.items()}
    return Bench(questions, answers, options, judges, baseline)


def _planned(told: Mapping[str, Any]) -> list[str]:
    lines = [f"{model}: {turns} turns to answer" for model, turns in told["turns_to_answer"].items()]
    for judge, of in told["judges"].items():
        line = f"{judge}: {of.get('answers', 0)} answers, {of.get('requests', 0)} requests to ask"
        line += f", {of.get('recalled', 0)} were answered before"
        lines.append(line + f"; about {of.get('tokens_asked', 0):,} tokens asked (estimated by characters)")
    return lines


def _show(found: Benched, out: Path, asked: Sequence[str]) -> None:
    """A table a judge, languages down, models across; what the judges with a model took; where the files are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from polypref.comparing import PAGE
    from polypref.grading import GRADES

    console = Console()
    for judge, models in found.figures["mt_bench"].items():
        caption = Text("± standard error over questions; below, turn by turn")
        table = Table(title=Text(f"MT-Bench by {judge}"), caption=caption, box=box.SIMPLE_HEAD)
        table.add_column("")
        for model in models:
            table.add_column(Text(model), justify="right")
        langs = sorted({lang for blocks in models.values() for lang in blocks} - {"macro_average"})
        for lang in langs:
            table.add_row(lang, *(Text(_cell(blocks.get(lang))) for blocks in models.values()))
        spoken = {model: [lang for lang in langs if lang in blocks] for model, blocks in models.items()}
        fewer = {model: tags for model, tags in spoken.items() if len(tags) < len(langs)}
        if any("macro_average" in blocks for blocks in models.values()):
            table.add_section()
            means = (_cell(blocks.get("macro_average"), "*" * (model in fewer)) for model, blocks in models.items())
            table.add_row("mean", *map(Text, means))
        console.print(table)
        for model, tags in fewer.items():
            console.print(f"* {model}: the mean over {', '.join(tags)} alone", highlight=False, markup=False)
    for note in found.results["notes"]:
        console.print(note, style="yellow", highlight=False, markup=False)
    for judge in asked:
        spent = found.spent[judge]
        told = f"{judge}: {spent['tokens_asked']} + {spent['tokens_answered']} tokens"
        told += "" if spent["cost"] is None else f", cost {spent['cost']:.4g}"
        console.print(told, highlight=False, markup=False)
    for path, what in ((PAGE, "the same, to read and to pass on"), (GRADES, "every answer with the judge's words")):
        console.print(f"{out / path}  {what}", highlight=False, markup=False, soft_wrap=True)


def _cell(block: Mapping[str, Any] | None, mark: str = "") -> str:
    if not block or block.get("score") is None:
        return "–"
    line = f"{block['score']:.2f}" + ("" if block["stderr"] is None else f" ± {block['stderr']:.2f}") + mark
    turns = [turn for turn in block["turns"].values() if turn]
    return line if len(turns) < 2 else f"{line}\n" + " · ".join(f"{turn['score']:.2f}" for turn in turns)
