"""A run: the recipe unrolled into rounds, each step skipped when its outcome stands, results and report at the end.

Three roles, never mixed up: the *reward's* policy and reference score answers; the *training reference* is what DPO
pulls towards; the *start* is the checkpoint that a round trains on from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polypref import evaluation, imbalance_steps, inputs, reporting, steps
from polypref.backends.base import Progress, silent
from polypref.errors import RecipeError, UserError
from polypref.recipe import Recipe, as_tree
from polypref.recipe_sections import ImbalancePair, Pair, Train
from polypref.stages.report import ReportData
from polypref.stages.score import ScorerOptions
from polypref.store.atomic import digest, sweep, write_text
from polypref.store.lock import locked
from polypref.store.manifest import Manifest
from polypref.store.shards import Track
from polypref.workshop import Model, Reward, Round, Workshop


def run(
    recipe: Recipe,
    out: Path,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda message: None,
) -> ReportData:
    """Do whatever of the recipe is not done yet in ``out``; gives what the report shows.

    Raises:
        RunLockedError: another process writes the folder.
        UserError: an input, a model or an option is wrong; what was finished before it stays.
    """
    out = Path(out)
    with locked(out, warn):
        _claim(out)
        manifest = Manifest.open(out / "manifest.json", recipe=digest(as_tree(recipe)), seed=recipe.seed)
        manifest.save()
        shop = Workshop(recipe, out, manifest, progress, warn)
        try:
            write_text(out / "recipe.yaml", _yaml(as_tree(recipe)))
            prompts, held_out, pivot_prompts = inputs.prompt_tracks(shop)
            shop.policy = _align(shop, pivot_prompts)
            prompts = inputs.with_translated_prompts(shop, prompts)
            ids = imbalance_steps.listed_ids(shop, prompts)
            lead = imbalance_steps.find_lead(shop, prompts)
            manifest.content["pivot"] = shop.pivot
            prompts = dataclasses.replace(prompts, pivot=shop.pivot)
            rounds = list(_rounds(shop, prompts, ids))
            evaluations = evaluation.evaluate_models(shop, rounds, held_out)
            manifest.close()
            return reporting.publish(shop, rounds, evaluations, lead)
        finally:
            shop.opener.close()


def _claim(out: Path) -> None:
    """Refuse a folder that holds something else, since a run replaces and sweeps away what it finds in its own."""
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if names and "manifest.json" not in names:
        raise UserError(f"{out} holds {names[0]} and is no run's folder; choose another --out, new or empty")
    sweep(out)


def _yaml(tree: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False))


def _align(shop: Workshop, prompts: Track | None) -> Model:
    """The policy: the user's, or the reference trained on preferences in the pivot."""
    recipe = shop.recipe
    section = recipe.alignment
    if section is None or prompts is None:
        return shop.policy
    track = prompts
    if not any(example.pairs for example in prompts.examples()):
        if section.scorer is None:
            raise RecipeError("alignment.scorer is missing, and alignment.prompts bring no pairs; give one of the two")
        track = steps.generate(shop, prompts, "alignment", None, section.generate, {"reference": shop.reference})
        track = shop.scorer(track, "alignment/score", ScorerOptions(scorer=section.scorer))
        track, _ = steps.pair(shop, track, "alignment", section.pair, section.scorer)
    return steps.train(shop, track, "alignment", section.name, section.train, shop.reference, shop.reference)[0]


def _rounds(shop: Workshop, prompts: Track, about_translation: tuple[str, ...]) -> Iterator[Round]:
    recipe = shop.recipe
    start, before = shop.policy, shop.reference
    for number in range(1, recipe.rounds + 1):
        folder = f"round-{number}"
        models = {"policy": start, "reference": shop.reference}
        answered = steps.generate(shop, prompts, folder, number, recipe.generate, models)
        if isinstance(recipe.pair, ImbalancePair):
            reward = None
            paired, summary = imbalance_steps.pair(shop, answered, folder, recipe.pair, start, about_translation)
            track = paired
        else:
            reward = Reward(
                policy=start if recipe.reward.policy == "current" else shop.policy,
                reference=shop.reference if recipe.reward.reference == "fixed" else before,
            )
            paired, track, summary = _by_reward(shop, answered, folder, recipe.pair, start, reward)

        name = f"{recipe.name}-round-{number}"
        result, told = _train(shop, paired, folder, name, recipe.train, start)
        yield Round(
            number=number,
            start=start,
            train_reference=_towards(shop, recipe.train, start),
            result=result,
            track=track,
            reward=reward,
            baselines=tuple(
                _train(shop, paired, f"{folder}/{other.name}", other.name, other.train, start)[0]
                for other in recipe.baselines
                if other.round == number
            ),
            summaries={"pair": summary, "train": told},
        )
        start, before = result, start


def _train(
    shop: Workshop, paired: Track, folder: str, name: str, section: Train, start: Model
) -> tuple[Model, dict[str, Any]]:
    return steps.train(shop, paired, folder, name, section, start, _towards(shop, section, start))


def _towards(shop: Workshop, section: Train, start: Model) -> Model:
    """The training reference."""
    return start if section.reference == "start" else shop.reference


def _by_reward(
    shop: Workshop, answered: Track, folder: str, section: Pair, start: Model, reward: Reward
) -> tuple[Track, Track, dict[str, Any]]:
    """Best against worst by an implicit reward: the track that trains, the one with all views, and the statistics."""
    recipe = shop.recipe
    # Translations that only the evaluation asks for are not made of the training answers.
    if recipe.translate and "translated" in recipe.reward.views:
        options = recipe.translate.options(shop.answering(start))
        answered = shop.translate(answered, f"{folder}/translate", options)
    track = answered
    for view in recipe.reward.views:
        track = shop.implicit(track, f"{folder}/score-{view}", view, reward.policy, reward.reference)
    # Pairs and training see the one view that pairs, so that another view recomputes neither.
    scored = answered.over(f"{folder}/score-{recipe.pair_view}")
    paired, summary = steps.pair(shop, scored, folder, section, recipe.pair_score)
    return paired, track.over(f"{folder}/pair"), summary
