"""A run: the recipe unrolled into rounds, each step skipped when its outcome stands, results and report at the end.

Three roles, never mixed up: the *reward's* policy and reference score answers; the *training reference* is what DPO
pulls towards; the *start* is the checkpoint that a round trains on from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polypref import evaluation, imbalance_steps, inputs, preference_inputs, reporting, reward_steps, steps
from polypref.backends.base import Progress, silent
from polypref.errors import RecipeError, UserError
from polypref.recipe import Recipe, as_tree
from polypref.recipe_rewards import ModelReward
from polypref.recipe_sections import ImbalancePair, Pair, Train
from polypref.reward_steps import Rewards
from polypref.stages.report import ReportData
from polypref.stages.score import ScorerOptions
from polypref.store.atomic import digest, sweep, write_text
from polypref.store.lock import locked
from polypref.store.manifest import Manifest
from polypref.store.shards import Track
from polypref.workshop import Model, NamedScorer, Reward, Round, Workshop


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
            # All data is read and checked before anything is trained.
            data = preference_inputs.read(shop)
            prompts, held_out, pivot_prompts = (
                inputs.prompt_tracks(shop, data.training) if recipe.rounds else (None, None, None)
            )
            rewards = reward_steps.all_rewards(shop, data)
            judged = reward_steps.judge(shop, data, rewards)
            if prompts is None:
                manifest.close()
                return reporting.publish(shop, [], {}, found=judged)
            shop.policy = _align(shop, pivot_prompts)
            prompts = inputs.with_translated_prompts(shop, prompts)
            ids = imbalance_steps.listed_ids(shop, prompts)
            lead = imbalance_steps.find_lead(shop, prompts)
            manifest.content["pivot"] = shop.pivot
            prompts = dataclasses.replace(prompts, pivot=shop.pivot)
            rounds = list(_rounds(shop, prompts, ids, rewards))
            evaluations = evaluation.evaluate_models(shop, rounds, held_out)
            manifest.close()
            return reporting.publish(shop, rounds, evaluations, lead, judged)
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


def _rounds(shop: Workshop, prompts: Track, about_translation: tuple[str, ...], rewards: Rewards) -> Iterator[Round]:
    recipe = shop.recipe
    start, before = shop.policy, shop.reference
    for number in range(1, recipe.rounds + 1):
        folder = f"round-{number}"
        models = {"policy": start, "reference": shop.reference}
        answered = steps.generate(shop, prompts, folder, number, recipe.generate, models)
        if isinstance(recipe.pair, ImbalancePair):
            reward: Reward | NamedScorer | None = None
            paired, summary = imbalance_steps.pair(shop, answered, folder, recipe.pair, start, about_translation)
            track = paired
        else:
            reward = _reward(shop, start, before, rewards)
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


def _reward(shop: Workshop, start: Model, before: Model, rewards: Rewards) -> Reward | NamedScorer:
    """Who scores a round's answers."""
    section = shop.recipe.reward
    if isinstance(section, ModelReward):
        return rewards.scorers[section.model]
    return Reward(
        policy=start if section.policy == "current" else shop.policy,
        reference=shop.reference if section.reference == "fixed" else before,
    )


def _by_reward(
    shop: Workshop, answered: Track, folder: str, section: Pair, start: Model, reward: Reward | NamedScorer
) -> tuple[Track, Track, dict[str, Any]]:
    """Best against worst by a reward: the track that trains, the one with all scores, and the statistics."""
    recipe = shop.recipe
    # Translations that only the evaluation asks for are not made of the training answers.
    if recipe.translate and "translated" in recipe.views:
        options = recipe.translate.options(shop.answering(start))
        answered = shop.translate(answered, f"{folder}/translate", options)
    track = answered
    if isinstance(reward, NamedScorer):
        track = shop.scorer(track, f"{folder}/score-{reward.name}", reward.options())
    else:
        for view in recipe.views:
            track = shop.implicit(track, f"{folder}/score-{view}", view, reward.policy, reward.reference)
    # Pairs and training see the one score that pairs, so that another view recomputes neither.
    scored = answered.over(f"{folder}/score-{recipe.pair_layer}")
    paired, summary = steps.pair(shop, scored, folder, section, recipe.pair_score)
    return paired, track.over(f"{folder}/pair"), summary
