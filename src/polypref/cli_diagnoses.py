"""``polypref evaluate words`` and ``… signatures``: what a score looks at, and what went wrong in a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, Input, options_of, settings
from polypref.cli_translating import named
from polypref.errors import InputError, RecipeError


def add_to(app: typer.Typer) -> None:
    """Put the commands under ``polypref evaluate``."""
    app.command("words")(words)
    app.command("signatures")(signatures)


def words(
    score: Annotated[str, typer.Option(help="the name of the score that is looked into")],
    input_: Input,
    unit: Annotated[list[str] | None, typer.Option(help="words, characters; both when left out")] = None,
    folds: Annotated[int, typer.Option(help="parts that the prompts are cut into")] = 5,
    penalty: Annotated[float, typer.Option(help="of the ridge regression")] = 1.0,
    seed: Annotated[int, typer.Option(help="of folds and resamples")] = 0,
    as_json: AsJson = False,
) -> None:
    """What of a score the answers' words and lengths alone tell: R² in and across languages, length agreement."""
    from polypref.backends.word_regressor import RidgeOnTerms
    from polypref.stages import word_regression as stage
    from polypref.store.jsonl import read_examples

    units = {} if unit is None else {"units": unit}
    with named(units="unit"):
        options = options_of(stage.WordOptions, score=score, folds=folds, penalty=penalty, seed=seed, **units)
    rows = stage.rows_of(read_examples(input_), options.score)
    found = {"score": score, **stage.word_regression(rows, options, RidgeOnTerms())}
    print(json.dumps(found, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(_words_told(found)))


def _words_told(found: Mapping[str, Any]) -> list[str]:
    """A line for each language and for each source and target."""
    lines = [
        f"{lang}: prefers the longer answer in {_within(figures, 'length_agreement')}"
        for lang, figures in found["length_agreement"].items()
    ]
    return lines + [
        f"{source} → {target}, {unit}: R² {_within(figures, 'r2')}, correlation {_within(figures, 'correlation')}"
        for unit, by_source in found["r2"].items()
        for source, by_target in by_source.items()
        for target, figures in by_target.items()
    ]


def _within(figures: Mapping[str, Any], metric: str) -> str:
    value, low, high, n = (figures[f"{metric}{end}"] for end in ("", "_low", "_high", "_n"))
    if value is None:
        return f"cannot be told (n {n})"
    told = f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return f"{told} (n {n})".replace("-", "−")


def signatures(
    input_: Annotated[Path, typer.Option("--input", help="a run's folder, or its results.json")],
    before: Annotated[str | None, typer.Option(help="the step to compare with; of a run its first start")] = None,
    after: Annotated[str | None, typer.Option(help="the aligned step; of a run its last")] = None,
    reward: Annotated[str | None, typer.Option(help="the step with the reward's accuracy; of a run its own")] = None,
    pivot: Annotated[str | None, typer.Option(help="of the reward's preferences; of a run its own")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a limit, e.g. max_kl=5")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Failure signatures of a run: what is wrong in which language, by which figure, and what to try."""
    from polypref import languages
    from polypref.stages import signatures as stage

    found = read_results(input_)
    limits = (found.get("signatures") or {}).get("limits") or {}
    options = options_of(stage.SignatureOptions, **{**limits, **settings(set_, stage.SignatureOptions.model_fields)})
    given = {"before": before, "after": after, "reward": reward}
    given = {name: value for name, value in given.items() if value is not None}
    # A step that is named is looked at alone; else all that the run itself has looked at.
    if given and "reward" not in given and after in (made := made_by(found)):
        given["reward"] = made[str(after)]
    subjects = [stage.subjects(found) | given] if given else stage.all_subjects(found)
    for about in subjects if pivot is not None else ():
        about["pivot"] = languages.normalise(str(pivot))
    subjects = [about for about in subjects if about["after"] is not None or about["reward"] is not None]
    if not subjects:
        raise RecipeError(
            f"{input_} has no rounds that say what was aligned; name the steps with --before and --after, or --reward"
        )
    about = subjects[0]
    checks = [check for each in subjects for check in stage.examined(found["results"], options, **each)]
    raised = [check.signature for check in checks if check.raised]
    spoke: dict[str, list[str]] = {rule.__name__: [] for rule in stage.RULES}
    for check in checks:
        if check.signature.lang not in spoke[check.signature.name]:
            spoke[check.signature.name].append(check.signature.lang)
    told = {name: about[name] for name in ("before", "after", "reward", "pivot")}
    if as_json:
        answer = {**told, "signatures": [signature.to_json() for signature in raised], "examined": spoke}
        print(json.dumps(answer, ensure_ascii=False, allow_nan=False))
        return
    for signature in raised:
        print(f"{signature.name}: {signature.said}\n    try: {signature.try_this}")
    silent = [name for name, langs in spoke.items() if not langs]
    if not raised:
        print("no failure signature" if len(silent) < len(spoke) else "nothing could be examined")
    if silent:
        print(f"not examined, since their figures are missing: {', '.join(silent)}")


def made_by(found: Mapping[str, Any]) -> dict[str, str]:
    """Step → the reward that made it, of those that have figures."""
    made = {step: reward for now in found.get("rounds") or () for step, reward in (now.get("made_by") or {}).items()}
    picks = (found.get("best_of_n") or {}).get("rewards") or {}
    made |= {pick["step"]: name for name, pick in picks.items()}
    return {step: reward for step, reward in made.items() if reward in found["results"]}


def read_results(path: Path) -> dict[str, Any]:
    """The object of a results.json, or of the one in a run's folder.

    Raises:
        InputError: there is none, it is not JSON, or ``results`` is not step → language → figures.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; name the folder of a finished run, or its results.json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON that can be read ({error}); name a run's results.json") from None
    if not isinstance(found, dict) or not isinstance(found.get("results"), dict):
        raise InputError(f"{file} has no results; name a run's results.json")
    for step, by_language in found["results"].items():
        for lang, figures in by_language.items() if isinstance(by_language, dict) else [("", None)]:
            if not isinstance(figures, dict):
                raise InputError(f"{file}: results.{step} is not language → figures; name a run's results.json")
            for metric, value in figures.items():
                number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
                if value is not None and not number:
                    raise InputError(
                        f"{file}: results.{step}.{lang}.{metric} is {value!s:.40}; write a finite number or null"
                    )
    return found
