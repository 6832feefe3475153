"""The stages as plain functions for Python: examples in, examples out, one model opened and closed in each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from polypref import registry
from polypref.backends.base import Context, ModelSpec
from polypref.errors import RecipeError
from polypref.mistakes import checked
from polypref.recipe import Recipe
from polypref.recipe_file import read_recipe
from polypref.recipes import find
from polypref.records import Example
from polypref.stages.export import ExportOptions, ExportSummary
from polypref.stages.export import export_pairs as _export

Model = str | Mapping[str, Any] | ModelSpec
"""A folder, a hub name, or the fields of a ``ModelSpec``."""


def _in_context(
    examples: Iterable[Example], work: Callable[[list[Example], Context], Iterable[Example]], pivot: str = "en"
) -> list[Example]:
    examples = list(examples)
    tags = dict.fromkeys(lang for e in examples for lang in (*e.prompts, *(c.lang for c in e.candidates)))
    context, opener = registry.context(tuple(tags), pivot)
    try:
        return list(work(examples, context))
    finally:
        opener.close()


def generate(
    examples: Iterable[Example], model: Model, *, n: int = 1, role: str = "policy", **sampling: Any
) -> list[Example]:
    """Sample ``n`` answers a prompt and language; ``sampling`` are the fields of ``backends.base.Sampling``."""
    from polypref.stages.generate import GenerateOptions
    from polypref.stages.generate import generate as stage

    options = checked(GenerateOptions, {"sources": [{"role": role, "model": model, "n": n}], "sampling": sampling})
    return _in_context(examples, lambda found, context: stage(found, options, context))


def score_implicit(examples: Iterable[Example], policy: Model, reference: Model, **options: Any) -> list[Example]:
    """Add the implicit reward and both log-probabilities; ``options`` as in ``stages.score.ImplicitOptions``."""
    from polypref.stages.score import ImplicitOptions, implicit

    read = checked(ImplicitOptions, {"policy": policy, "reference": reference, **options})
    return _in_context(examples, lambda found, context: implicit(found, read, context), read.pivot)


def score_with(
    examples: Iterable[Example],
    scorer: str,
    *,
    model: Model | None = None,
    reference: Model | None = None,
    name: str | None = None,
    **settings: Any,
) -> list[Example]:
    """Add a scorer's score: ``reward_model``, ``judge``, ``implicit``, … (``polypref ls scorers``), or a class of yours
    as ``package.module:Class``; ``settings`` are the scorer's own."""
    from polypref.stages.score import ScorerOptions, by_scorer

    spec = {"scorer": scorer, "model": model, "reference": reference, "settings": settings, "name": name}
    read = checked(ScorerOptions, spec)
    if wrong := registry.mistake_of(read):
        raise RecipeError(wrong)
    return _in_context(examples, lambda found, context: by_scorer(found, read, context))


def judge_rewards(
    examples: Iterable[Example], score: str, *, training: Iterable[Example] = (), pivot: str = "en", **options: Any
) -> dict[str, dict[str, Any]]:
    """Language → accuracy of a score that the examples carry, on their pairs or labels, with intervals; beside it the
    baselines that ``training`` gives. ``options`` as in ``stages.judge_rewards.JudgeOptions``."""
    from polypref.stages.judge_rewards import JudgeOptions, figures, judge
    from polypref.stages.reward_baselines import fit_baselines

    read = checked(JudgeOptions, {"score": score, "pivot": pivot, **options})
    known = list(training)
    return figures(judge(examples, read), pivot=pivot, baselines=fit_baselines(known) if known else None)


def train_reward(
    examples: Iterable[Example],
    start: Model | None,
    folder: Path | str,
    *,
    validation: Iterable[Example] = (),
    **options: Any,
) -> dict[str, Any]:
    """Train a reward model on pairs or labels; ``options`` as in ``stages.train_reward.TrainRewardOptions``.

    A call that was interrupted goes on where it stopped when it is made again.
    """
    from polypref.stages import train_reward as stage
    from polypref.store import checkpoint

    rows, held = list(examples), list(validation)
    read = checked(stage.TrainRewardOptions, {"start": start, **options})
    context, opener = registry.context()
    try:
        return checkpoint.build(
            Path(folder),
            reward_key(rows, held, read, context),
            lambda unfinished: stage.train_reward(rows, held, read, context, unfinished),
        )
    finally:
        opener.close()


def reward_key(rows: Iterable[Example], held: Iterable[Example], options: Any, context: Context) -> str:
    """What the training of a reward model depends on: options, models, trainer and every example."""
    from polypref.records import to_json
    from polypref.stages.train_reward import VERSION
    from polypref.store.atomic import digest

    trainer = context.open("reward_trainer", options.method).fingerprint
    sides = ([digest(to_json(example)) for example in side] for side in (rows, held))
    return digest(["train_reward", VERSION, trainer, options.identity(registry.fingerprint), *sides])


def pair_best_worst(examples: Iterable[Example], score: str, **options: Any) -> list[Example]:
    """Best against worst per prompt and language; ``options`` as in ``stages.pair.BestWorstOptions``."""
    from polypref.stages import pair as stage

    read = checked(stage.BestWorstOptions, {"score": score, **options})

    def work(found: list[Example], context: Context) -> Iterator[Example]:
        return stage.best_worst(found, read, context, alphas=stage.fit_best_worst(found, read, context))

    return _in_context(examples, work)


def pair_imbalance(examples: Iterable[Example], pivot: str = "en", **options: Any) -> list[Example]:
    """The better language's translated answer against the weaker one's own (LIDR, arXiv 2410.08964)."""
    from polypref.stages import imbalance as stage

    read = checked(stage.ImbalanceOptions, {"pivot": pivot, **options})
    return _in_context(examples, lambda found, context: stage.imbalance(found, read, context), pivot)


def train(examples: Iterable[Example], start: Model, folder: Path | str, **options: Any) -> dict[str, Any]:
    """Train on the pairs and write a checkpoint; ``options`` as in ``stages.train.TrainStageOptions``.

    A call that was interrupted goes on where it stopped when it is made again.
    """
    from polypref.stages import train as stage
    from polypref.store import checkpoint

    examples = list(examples)
    read = checked(stage.TrainStageOptions, {"start": start, **options})
    context, opener = registry.context()
    try:
        key = stage_key(examples, read)
        return checkpoint.build(Path(folder), key, lambda unfinished: stage.train(examples, read, context, unfinished))
    finally:
        opener.close()


def stage_key(examples: Iterable[Example], options: Any) -> str:
    """What a training depends on: options, models and every example."""
    from polypref.records import to_json
    from polypref.stages.train import VERSION
    from polypref.store.atomic import digest

    return digest(["train", VERSION, options.identity(registry.fingerprint), [to_json(e) for e in examples]])


def export_pairs(examples: Iterable[Example], folder: Path | str, format: str = "trl", **options: Any) -> ExportSummary:
    """Write the pairs as TRL or LLaMA-Factory read them; ``options`` as in ``stages.export.ExportOptions``."""
    return _export(examples, checked(ExportOptions, {"format": format, **options}), folder)


def run_recipe(recipe: Recipe | Path | str, out: Path | str, *overrides: str) -> Any:
    """Run a recipe (a file, or the name of one of ours), or go on with it; gives what the report shows."""
    from polypref.run import run

    return run(recipe if isinstance(recipe, Recipe) else read_recipe(find(str(recipe)), overrides), Path(out))
