"""``polypref evaluate people-export`` and ``people-import``: comparisons for people, and their verdicts back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_specs import named
from polypref.cli_stages import AsJson, options_of
from polypref.cli_terminal import Terminal
from polypref.errors import RecipeError


def add_to(app: typer.Typer) -> None:
    """Put the commands under ``polypref evaluate``."""
    app.command("people-export")(people_export)
    app.command("people-import")(people_import)


def people_export(
    out: Annotated[Path, typer.Option("--out", help="the folder for people: CSV, Argilla, Label Studio")],
    key: Annotated[Path, typer.Option(help="the file that says who is A and who is B; keep it from those who judge")],
    judgments: Annotated[
        Path | None, typer.Option(help="what judges compared: judgments with their texts, or evaluate compare's folder")
    ] = None,
    answers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="or models' answers that nobody has judged: docs/comparisons.md"),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="with --answers: the prompts; those that the answers carry when left out")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="with --answers: whom all are held against; every two meet when left out")
    ] = None,
    per_language: Annotated[int | None, typer.Option(help="comparisons of each language; all when left out")] = None,
    stratify: Annotated[
        str, typer.Option(help="disagreement: half of them comparisons that the judges dispute; or none")
    ] = "none",
    language: Annotated[list[str] | None, typer.Option(help="only these; may be given several times")] = None,
    seed: Annotated[int, typer.Option(help="of the draw, the places and the order")] = 0,
    as_json: AsJson = False,
) -> None:
    """Blind comparisons for people, in random order, as CSV and for Argilla and Label Studio."""
    from polypref import registry
    from polypref.stages.answer_matches import read_matches
    from polypref.stages.judgments import read_judgments
    from polypref.stages.people import PeopleOptions, blinded, of_judgments, of_matches, write_key
    from polypref.stages.people_formats import write_items
    from polypref.store.atomic import check_target

    options = options_of(
        PeopleOptions, per_language=per_language, stratify=stratify, languages=language or (), seed=seed
    )
    if (judgments is None) == (not answers):
        raise RecipeError("people are shown the comparisons of --judgments, or those of --answers; name one of the two")
    check_target(key)
    if out.resolve() in key.resolve().parents:
        raise RecipeError(f"--key {key} lies in --out, which people are given; write it to another folder")
    with Terminal() as terminal:
        if judgments is not None:
            contests, left_out = of_judgments(read_judgments(_file(judgments)))
        else:
            paths = dict(named(answers or [], "--answers", "PATH", "mine=answers/{language}.jsonl"))
            context, _ = registry.context(progress=terminal.progress, warn=terminal.warn)
            matches, _ = read_matches(paths, context, prompts=prompts, baseline=baseline, languages=options.languages)
            contests, left_out = of_matches(matches)
        found = blinded(contests, options, left_out)
        write_items(out, found.items, terminal.warn)
        write_key(key, found.key)
    told: dict[str, Any] = {
        "items": len(found.items),
        "by_language": dict(Counter(item.language for item in found.items)),
        "strata": dict(Counter(row.stratum for row in found.key if row.stratum is not None)),
        "left_out": dict(found.left_out),
    }
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    counts = ", ".join(f"{lang} {n}" for lang, n in told["by_language"].items())
    print(f"{out}: {told['items']} comparisons ({counts}); the key is {key}")
    for reason, count in found.left_out.items():
        print(f"{count} left out: {reason}")


def people_import(
    verdicts: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]FILE",
            help="the filled CSV, Argilla's records or Label Studio's export as JSON; NAME says whose it is where the "
            "file does not; may be given several times",
        ),
    ],
    key: Annotated[Path, typer.Option(help="the key that people-export wrote")],
    output: Annotated[Path, typer.Option("--output", help="the judgments to write; replaced at once, on success")],
    judgments: Annotated[
        Path | None, typer.Option(help="the judges' judgments, for their agreement with people; a file or a folder")
    ] = None,
    annotator: Annotated[
        list[str] | None, typer.Option(metavar="ID=NAME", help="what a user of Argilla or Label Studio is called")
    ] = None,
    seed: Annotated[int, typer.Option(help="of resampled intervals")] = 0,
    as_json: AsJson = False,
) -> None:
    """People's verdicts as judgments under the models' names, and their agreement with each other and the judges."""
    from polypref.stages.judgments import read_judgments, write_judgments
    from polypref.stages.people import read_key, unblinded
    from polypref.stages.people_agreement import people_agreement
    from polypref.stages.people_formats import read_all
    from polypref.store.atomic import check_target

    check_target(output)
    files = [_named_file(entry) for entry in verdicts]
    names = dict(_pair(entry) for entry in annotator or ())
    with Terminal() as terminal:
        rows = read_key(key)
        read = read_all(files, names)
        people = unblinded(read.said, rows, terminal.warn)
        judges = [] if judgments is None else read_judgments(_file(judgments))
        found = people_agreement(people, judges, rows, seed=seed)
        write_judgments(output, people)
    told: dict[str, Any] = {
        "judgments": len(people),
        "by_annotator": dict(Counter(judgment.judge for judgment in people)),
        "unjudged": dict(read.unjudged),
        "items": len(rows),
        "items_judged": len({said.item for said in read.said}),
        "agreement": found,
    }
    print(json.dumps(told, ensure_ascii=False) if as_json else "\n".join(_told(told, output)))


def _told(told: dict[str, Any], output: Path) -> list[str]:
    """What was read, then how far every two agree."""
    who = ", ".join(f"{name} {n}" for name, n in told["by_annotator"].items())
    lines = [f"{output}: {told['judgments']} verdicts ({who}) on {told['items_judged']} of {told['items']} items"]
    found = told["agreement"]
    if found is None:
        return lines
    lines += [_agreed(pair) for pair in found["pairs"]]
    lines += [f"{_agreed(pair)} of all comparisons, not only the drawn ones" for pair in found.get("reweighted", ())]
    return lines


def _agreed(pair: dict[str, Any]) -> str:
    first, second = pair["judges"]
    error = "" if pair["raw_stderr"] is None else f" ± {100 * pair['raw_stderr']:.1f}"
    line = f"{first} – {second}: {100 * pair['raw']:.1f}{error} % agree on {pair['n']}"
    return line if pair.get("kappa") is None else f"{line}, κ {pair['kappa']:.2f}"


def _file(path: Path) -> Path:
    """The judgments of a folder of ``evaluate compare``, or the file itself."""
    return path / "judgments.jsonl" if path.is_dir() else path


def _named_file(entry: str) -> tuple[str | None, Path]:
    name, equals, path = entry.partition("=")
    if not equals or Path(entry).exists():
        return None, Path(entry)
    if not name or not path:
        raise RecipeError(f"--verdicts {entry!r} is no NAME=FILE; write e.g. --verdicts ana=filled.csv")
    return name, Path(path)


def _pair(entry: str) -> tuple[str, str]:
    identity, equals, name = entry.partition("=")
    if not equals or not identity or not name:
        raise RecipeError(f"--annotator {entry!r} is no ID=NAME; write e.g. --annotator 7=ana")
    return identity, name
