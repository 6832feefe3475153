"""Judgments as the results of models: model → language → metric, each a share with its standard error and n.

The first judge's metrics bear their plain names, another's end with ``_by_<judge>``. Where there is no baseline, a
model is seen in all its comparisons, from whichever side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from polypref.errors import ModelError
from polypref.maths import stats
from polypref.stages.evaluate import Evaluation, Figures, figure
from polypref.stages.judgments import Judgment, by_judge, failed_of
from polypref.stages.winrate import winrate

Block: TypeAlias = Mapping[str, Any]
"""What ``winrate`` gives, in percent."""

METRICS: Final = {
    "win_rate": "win_rate",
    "length_controlled_win_rate": "length_controlled_win_rate",
    "tie_rate": "tie_rate",
    "flip_rate": "flip_rate",
    "one_order": "one_order_rate",
    "no_verdict": "no_verdict_rate",
    "failed": "failed_rate",
}
"""The metric of results.json → the figure of a block."""
_PARTS: Final = ("by_model", "by_judge", "head_to_head")
"""What a block of one model in win rates by model has no need of."""
_SIDED: Final = (
    *("win_rate", "length_controlled_win_rate", "macro_average", "wins", "losses", "weights", "warning"),
    *("failed_rate", "model_length", "baseline_length"),
)
"""How figures begin that another model in the model's place would turn."""
MACRO: Final = ("win_rate", "length_controlled_win_rate")


@dataclasses.dataclass(frozen=True, slots=True)
class ComparisonResults:
    """``by_model``: model → language → figures. ``macro_average``: model → figures of the mean over its languages;
    empty where there is one. ``blocks``: judge → model → what ``winrate`` says of it."""

    by_model: dict[str, Figures]
    macro_average: dict[str, dict[str, float | int | None]]
    blocks: dict[str, dict[str, Block]]


def swapped(judgment: Judgment) -> Judgment:
    """The same comparison with the baseline in the model's place: the order that had the model first has it second.

    ``difficulty`` is the prompt's and stays. Its weight is the model's, as the intercept is: AlpacaEval 2 has
    (ψ_model − ψ_baseline)·γ of the prompt beside θ_model − θ_baseline.
    """
    orders = judgment.orders
    return dataclasses.replace(
        judgment,
        preference=_rest(judgment.preference),
        orders=None if orders is None else (_rest(orders[1]), _rest(orders[0])),
        model=judgment.baseline,
        baseline=judgment.model,
        model_length=judgment.baseline_length,
        baseline_length=judgment.model_length,
        model_answer=judgment.baseline_answer,
        baseline_answer=judgment.model_answer,
        said=judgment.said[::-1],
        failed=failed_of(judgment.baseline_failed, judgment.model_failed),
    )


def _rest(preference: float | None) -> float | None:
    return None if preference is None else 1 - preference


def seen_from(model: str, judgments: Iterable[Judgment], *, both_sides: bool) -> list[Judgment]:
    """The comparisons of a model, with it in the model's place; those in which it is the baseline where ``both_sides``
    says so."""
    found = []
    for judgment in judgments:
        if judgment.model == model:
            found.append(judgment)
        elif both_sides and judgment.baseline == model:
            found.append(swapped(judgment))
    return found


def results_of(judgments: Sequence[Judgment], baseline: str | None) -> ComparisonResults:
    """The results of every model but the baseline; of all where none is named.

    Raises:
        ModelError: a judge gave no verdict on any comparison of a model.
    """
    out = ComparisonResults({}, {}, {})
    for number, (judge, rows) in enumerate(by_judge(judgments)):
        ending = "" if number == 0 else f"_by_{judge}"
        names = dict.fromkeys(name for j in rows for name in ((j.model,) if baseline else (j.model, j.baseline)))
        for model in names:
            seen = seen_from(model, rows, both_sides=baseline is None)
            block = _block(judge, model, seen)
            out.blocks.setdefault(judge, {})[model] = block
            figures = out.by_model.setdefault(model, {})
            for lang, part in _languages(block, seen).items():
                figures.setdefault(lang, {}).update(_figures(part, METRICS, ending))
            if macro := block.get("macro_average"):
                names_of = {metric: METRICS[metric] for metric in MACRO}
                out.macro_average.setdefault(model, {}).update(_figures(macro, names_of, ending))
            if number == 0:
                for lang, lengths in _lengths(seen).figures().items():
                    figures.setdefault(lang, {}).update(lengths)
    return out


def win_rates(
    judgments: Sequence[Judgment],
    *,
    both_sides: bool | None = None,
    length_weight: float | None = None,
    difficulty_weight: float | None = None,
) -> dict[str, Any]:
    """What ``polypref evaluate winrate --json`` prints: ``winrate``, where models are also baselines with each model's
    win rates over all its comparisons.

    Which of two models stands in the model's place and which in the baseline's is then chance, and what is pooled over
    models has no figure that depends on it. ``both_sides`` says so of models or denies it, whatever the judgments tell.

    Raises:
        InputError: as ``winrate``.
    """
    weights = {"length_weight": length_weight, "difficulty_weight": difficulty_weight}
    told = winrate(judgments, **weights)
    if both_sides is None:
        baselines = {j.baseline for j in judgments}
        both_sides = len(baselines) > 1 and not baselines.isdisjoint(j.model for j in judgments)
    if not both_sides:
        return told
    out = _pooled(told) | {"by_model": _by_model(judgments, weights)}
    if "by_judge" in told:
        out["by_judge"] = {
            judge: _pooled(told["by_judge"][judge]) | {"by_model": _by_model(rows, weights)}
            for judge, rows in by_judge(judgments)
        }
    return out


def _pooled(block: Block) -> dict[str, Any]:
    """A block and its languages without what depends on which model stands in which place."""
    out = {name: value for name, value in block.items() if not name.startswith(_SIDED)}
    if "by_language" in block:
        out["by_language"] = {tag: _pooled(part) for tag, part in block["by_language"].items()}
    return out


def _by_model(judgments: Sequence[Judgment], weights: Mapping[str, float | None]) -> dict[str, Any]:
    names = dict.fromkeys(name for judgment in judgments for name in (judgment.model, judgment.baseline))
    blocks = {name: winrate(seen_from(name, judgments, both_sides=True), **weights) for name in names}
    return {name: {key: block[key] for key in block if key not in _PARTS} for name, block in blocks.items()}


def _block(judge: str, model: str, seen: Sequence[Judgment]) -> Block:
    if not any(j.preference is not None for j in seen):
        reasons = next((j.error for j in seen if j.error), "it said nothing")
        raise ModelError(
            f"{judge} gave no verdict on any of the {len(seen)} comparisons of {model} (first: {reasons}); mend that "
            "and run the same command again"
        )
    return winrate(seen)


def _languages(block: Block, seen: Sequence[Judgment]) -> Mapping[str, Block]:
    """Language → its block, where there is one alone the whole."""
    return block.get("by_language") or {seen[0].language: block}


def _figures(part: Block, names: Mapping[str, str], ending: str) -> dict[str, float | int | None]:
    out: dict[str, float | int | None] = {}
    for metric, name in names.items():
        if (value := part.get(name)) is not None:
            stderr = part[f"{name}_stderr"]
            n = part.get(f"{name}_n", part["prompts"])
            estimate = stats.Estimate(value / 100, None if stderr is None else stderr / 100, n)
            out |= figure(f"{metric}{ending}", estimate)
    return out


def _lengths(seen: Iterable[Judgment]) -> Evaluation:
    """``length_characters`` of the model's answers; those that failed have none."""
    out = Evaluation()
    for judgment in seen:
        if judgment.model_answer is not None and not judgment.model_failed:
            out.add("length_characters", judgment.language, judgment.id, judgment.model_length)
    return out
