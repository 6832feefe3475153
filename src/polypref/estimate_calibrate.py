"""What finished runs tell an estimate: seconds of each kind of work, the length of answers, the share of pairs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polypref.errors import UserError
from polypref.estimate import Rate, amount, fitted
from polypref.estimate_data import Reader, read
from polypref.estimate_evaluation import add_evaluation
from polypref.estimate_rounds import plan
from polypref.estimate_work import Assumed, Kind, Work
from polypref.recipe import Recipe
from polypref.recipe_file import read_recipe
from polypref.records import Message
from polypref.stages.judge_plan import estimate as tokens_by_characters
from polypref.store.shards import Track


@dataclass(frozen=True)
class Calibration:
    """What was measured, and the assumptions that it replaces."""

    rates: dict[Kind, Rate]
    assumed: Assumed
    told: str


def calibrate(
    folders: Sequence[Path], assumed: Assumed, count: Callable[[Sequence[Message], str], int] | None = None
) -> Calibration:
    """What the finished runs in ``folders`` took. Their recipes' data must still be where it was.

    Each kind of work gets fixed seconds a step (opening models) and seconds a token, by least squares over all steps of
    that kind; where all steps were of one size there are no fixed seconds, and a larger run is overestimated.

    Raises:
        UserError: a folder holds no finished run.
    """
    points: dict[Kind, list[tuple[float, float]]] = defaultdict(list)
    given = frozenset(assumed.model_fields_set)  # what the user has said himself stays
    for folder in folders:
        recipe, steps = _opened(folder)
        told = _measured(folder, recipe, count)
        assumed = assumed.model_copy(update={name: told[name] for name in told.keys() - given})
        reader = Reader() if count is None else Reader(count, "by the tokenizer")
        made = plan(recipe, read(recipe, reader, lambda message: None), assumed)
        add_evaluation(made)
        for stage, works in _by_step(made.works.values()).items():
            seconds = float(steps.get(stage, {}).get("seconds", 0.0))
            if seconds > 0 and len(works) == 1:
                points[works[0].kind].append((amount(works[0]), seconds))
    rates = {kind: fitted(found) for kind, found in points.items() if found}
    names = ", ".join(str(folder) for folder in folders)
    return Calibration(rates, assumed, f"as measured in {names}")


def _opened(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    try:
        steps = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, KeyError):
        raise UserError(f"--calibrate: {folder} holds no manifest.json of a run; name a finished one") from None
    if undone := [name for name, step in steps.items() if not step.get("done")]:
        raise UserError(f"{folder}: the run is not finished ({undone[0]}); finish it with polypref run")
    return read_recipe(folder / "recipe.yaml"), steps


def _by_step(works: Iterable[Work]) -> dict[str, list[Work]]:
    """Manifest step → its works; reinforcement and selection have several."""
    found: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        found[work.stage.partition(":")[0]].append(work)
    return found


def _measured(folder: Path, recipe: Recipe, count: Callable[[Sequence[Message], str], int] | None) -> dict[str, float]:
    """The mean length of the answers of round 1, and how many prompts and languages gave a pair, as assumptions."""
    layers = ["round-1/generate"] if (folder / "round-1/generate").is_dir() else []
    if not layers:
        return {}
    langs = tuple(sorted(path.name for path in (folder / layers[0]).iterdir() if path.is_dir()))
    prompts = "prompts-translated" if recipe.translate_prompts else "prompts"
    track = Track(folder, prompts, langs, recipe.pivot).over(layers[0])
    whole = (folder / "round-1/pair/all").is_dir()
    if (folder / "round-1/pair").is_dir() and not whole:
        track = track.over("round-1/pair")
    counted = count or tokens_by_characters
    tokens = answers = pairs = units = 0
    for example in track.examples():
        units += len(example.prompts)
        pairs += len(example.pairs)
        for candidate in example.candidates:
            answers += 1
            tokens += counted([{"role": "assistant", "content": candidate.text}], candidate.lang)
    told: dict[str, float] = {"answer_tokens": tokens / answers} if answers else {}
    if units and pairs and not whole:
        told["pair_share"] = pairs / units
    return told
