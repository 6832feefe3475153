"""``polypref diagnose``: before GPU time is spent, will a reward steer a model in languages it was not trained on?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_rewards import Folder, Language, Named, Pivot, Shape, run_tree
from polypref.cli_specs import specs_of
from polypref.cli_stages import AsJson, options_of
from polypref.errors import RecipeError


def add_to(app: typer.Typer) -> None:
    """Put the command under the command line's root."""
    app.command("diagnose")(diagnose)


def diagnose(
    input_: Annotated[
        Path | None, typer.Option("--input", help="a finished run: its figures are looked at, no model is opened")
    ] = None,
    model: Annotated[str | None, typer.Option(help="the model that is to be aligned, a folder or a hub name")] = None,
    reward: Named = None,
    prompts: Annotated[
        str | None, typer.Option(help="prompts in the target languages: any shape of docs/inputs.md")
    ] = None,
    labelled: Annotated[
        str | None, typer.Option(help="right and wrong answers in the target languages: any shape of docs/inputs.md")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="SCORER:MODEL",
            help="who says which answer is better, not the reward itself: a reward model of the target language, "
            "judge:NAME or pair_judge:NAME with --url, oracle",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="of the server of judges, ending with /v1")] = None,
    n: Annotated[int, typer.Option(min=2, help="samples a prompt and language")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="of a sample")] = 512,
    limit: Annotated[int, typer.Option(min=2, help="prompts that are asked")] = 100,
    out: Folder = Path("runs/diagnosis"),
    language: Language = None,
    shape: Shape = "auto",
    pivot: Pivot = "en",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=VALUE", help="of the recipe, e.g. diagnose.even=0.52")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go, doubtful or no-go by language, by cheap experiments: a reward's accuracy, and best-of-n on few prompts."""
    if input_ is not None:
        if model or reward or prompts or labelled or judge:
            raise RecipeError(
                "--input looks at a finished run; leave --model, --reward, --prompts, --labelled and --judge out"
            )
        _of_a_run(input_, set_ or [], as_json)
        return
    if model is None or prompts is None:
        raise RecipeError("--model and --prompts are missing; give both, or --input with a finished run")
    judged: dict[str, Any] = {"judges": {}, "quality": None}
    if judge is not None:
        judged = {"judges": specs_of([f"judge={judge}"], url)} if judge != "oracle" else {"quality": "oracle"}
    tree: dict[str, Any] = {
        "name": "diagnosis",
        "seed": seed,
        "rounds": 0,
        "pivot": pivot,
        "languages": language or [],
        "models": {"policy": {"path": model, "name": "unaligned"}},
        "rewards": specs_of(reward or [], url),
        "judge": {"data": {"path": labelled, "shape": shape}} if labelled else None,
        "diagnose": {
            "prompts": {"path": prompts, "shape": shape},
            "n": n,
            "limit": limit,
            "rewards": [entry.partition("=")[0] for entry in reward or []],
            "judge": "judge" if judged.get("judges") else None,
        },
        "evaluate": {**judged, "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": max_tokens}},
    }
    run_tree(tree, set_, out, as_json, "diagnosis")


def _of_a_run(folder: Path, overrides: list[str], as_json: bool) -> None:
    """The verdicts that a run's own figures give, by its own thresholds where nothing else is said."""
    from polypref.cli_diagnoses import read_results
    from polypref.cli_stages import settings
    from polypref.stages.diagnosis import DiagnosisOptions, diagnose_results

    results, fields = read_results(folder), DiagnosisOptions.model_fields
    own = (results.get("config") or {}).get("diagnose") or {}
    told = {name: own[name] for name in fields if name in own} | settings(overrides, fields)
    found = diagnose_results(results, options_of(DiagnosisOptions, **told))
    if as_json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return
    for reward, told in found.items():
        print(reward)
        for entry in told["languages"].values():
            print(f"  {entry['said']}")
            for evidence in entry["evidence"]:
                print(f"      {evidence['outcome']}: {evidence['said']}")
