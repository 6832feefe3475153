"""A run: the recipe unrolled into rounds, each step skipped when its outcome stands, results and report at the end.

Three roles, never mixed up: the *reward's* policy and reference score answers; the *training reference* is what DPO
pulls towards; the *start* is the checkpoint that a round trains on from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from polypref import (
    diagnosis_steps,
    evaluation,
    imbalance_steps,
    inputs,
    preference_inputs,
    reporting,
    reward_steps,
    sft_steps,
    steps,
)
from polypref.backends.base import Progress, silent
from polypref.errors import RecipeError, UserError
from polypref.executors import LOCAL, Executor
from polypref.recipe import Recipe, as_tree
from polypref.recipe_rewards import ModelReward
from polypref.recipe_sections import BestOfNPair, ImbalancePair, Pair, RLTrain, Train
from polypref.reward_steps import Rewards
from polypref.stages.report import ReportData
from polypref.stages.score import ScorerOptions
from polypref.stages.views import View
from polypref.store.atomic import digest, sweep, write_text
from polypref.store.damage import discard_damaged
from polypref.store.lock import locked
from polypref.store.manifest import Manifest
from polypref.store.remote import working_folder
from polypref.store.shards import Track
from polypref.workshop import Model, NamedScorer, Reward, Round, Workshop


def run(
    recipe: Recipe,
    out: Path,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda message: None,
    beside: Callable[[str, str], None] = lambda what, words: None,
    executor: Executor = LOCAL,
) -> ReportData:
    """Do whatever of the recipe is not done yet in ``out``, a folder or a URL; gives what the report shows.

    Raises:
        RunLockedError: another process writes the folder.
        UserError: an input, a model or an option is wrong; what was finished before it stays.
    """
    with working_folder(out, warn) as out, locked(out, warn):
        _claim(out)
        discard_damaged(out, warn)
        manifest = Manifest.open(out / "manifest.json", recipe=digest(as_tree(recipe)), seed=recipe.seed)
        manifest.save()
        shop = Workshop(recipe, out, manifest, progress, warn, executor)
        shop.beside = beside
        try:
            write_text(out / "recipe.yaml", _yaml(as_tree(recipe)))
            return _work(shop)
        finally:
            shop.opener.close()


def _work(shop: Workshop) -> ReportData:
    """The method, step by step."""
    recipe, manifest = shop.recipe, shop.manifest
    # All data is read and checked before anything is trained.
    data = preference_inputs.read(shop)
    demonstrations = sft_steps.read(shop) if recipe.sft else None
    seen = [track for track in (data.seen, demonstrations and demonstrations.training) if track]
    tracks = inputs.prompt_tracks(shop, seen) if recipe.answers else inputs.Prompts()
    told: dict[str, Any] = {}
    if demonstrations:
        shop.policy, told = sft_steps.make(shop, demonstrations)
        shop.reference = shop.policy
    rewards = reward_steps.all_rewards(shop, data)
    found = reward_steps.judge(shop, data, rewards)
    if not recipe.answers:
        manifest.close()
        return reporting.publish(shop, reporting.Made(found=found))
    shop.policy = _align(shop, tracks.alignment)
    prompts = tracks.training
    lead = None
    rounds: list[Round] = []
    ids: tuple[str, ...] = ()
    if prompts is not None:
        prompts = inputs.with_translated_prompts(shop, prompts)
        ids = imbalance_steps.listed_ids(shop, prompts)
        lead = imbalance_steps.find_lead(shop, prompts)
        manifest.content["pivot"] = shop.pivot
        prompts = dataclasses.replace(prompts, pivot=shop.pivot)
    diagnosis_steps.tell_overlap(shop, tracks.diagnosis or prompts, data.training)
    diagnosis = diagnosis_steps.diagnose(shop, tracks.diagnosis or prompts, shop.policy, rewards, found)
    if prompts is not None:
        trained_on = diagnosis_steps.without_no_go(shop, prompts, diagnosis)
        rounds = list(_rounds(shop, trained_on, ids, rewards))
    evaluated = evaluation.evaluate_models(shop, rounds, tracks.held_out, rewards)
    manifest.close()
    made = reporting.Made(rounds, evaluated, lead, found, rewards, diagnosis, told or None)
    return reporting.publish(shop, made)


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
        making = _Making(shop, prompts, folder, number, start, about_translation)
        reward = None if isinstance(recipe.pair, ImbalancePair) else _reward(shop, start, before, rewards)
        name = f"{recipe.name}-round-{number}"
        result, track, summaries = making.model(name, folder, recipe.train, reward)
        made_by = {name: reward} if isinstance(reward, NamedScorer) else {}
        trainings = {name: summaries["train"]}
        baselines = []
        for other in (b for b in recipe.baselines if b.round == number):
            own = rewards.scorers[other.reward] if other.reward else reward
            model, _, told = making.model(other.name, f"{folder}/{other.name}", other.train or recipe.train, own)
            baselines.append(model)
            trainings[other.name] = told["train"]
            if isinstance(own, NamedScorer):
                made_by[other.name] = own
        yield Round(
            number=number,
            start=start,
            train_reference=_towards(shop, recipe.train, start),
            result=result,
            track=track,
            reward=reward,
            baselines=tuple(baselines),
            made_by=made_by,
            trainings=trainings,
            summaries=summaries,
        )
        start, before = result, start


@dataclass(frozen=True)
class _Making:
    """What the trainings of one round share: its prompts, and the model that they start from."""

    shop: Workshop
    prompts: Track
    folder: str
    number: int
    start: Model
    about_translation: tuple[str, ...]

    def model(
        self, name: str, folder: str, section: Train | RLTrain, reward: Reward | NamedScorer | None
    ) -> tuple[Model, Track, dict[str, Any]]:
        """One training: its model, what it was trained on with all scores, and the statistics by step."""
        shop, start = self.shop, self.start
        if isinstance(section, RLTrain):
            assert isinstance(reward, NamedScorer), "the recipe is refused without"
            model, told = steps.reinforce(shop, self.prompts, folder, name, section, start, reward)
            return model, self.prompts, {"pair": {}, "train": told}
        paired, track, summary = self._pairs(folder, reward)
        towards, scored = _towards(shop, section, start), None
        if isinstance(reward, Reward):
            view = cast(View, shop.recipe.pair_layer)  # of an implicit reward it is one of its views
            scored = shop.implicit_options(f"{self.folder}/score-{view}", view, reward.policy, reward.reference)
        model, told = steps.train(shop, paired, folder, name, section, start, towards, scored)
        return model, track, {"pair": summary, "train": told}

    def _pairs(self, folder: str, reward: Reward | NamedScorer | None) -> tuple[Track, Track, dict[str, Any]]:
        """The track that trains, the one with all scores, and the statistics.

        A baseline has pairs of its own only where it has another reward.
        """
        shop, section = self.shop, self.shop.recipe.pair
        models = {"policy": self.start, "reference": shop.reference}
        answered = steps.generate(shop, self.prompts, self.folder, self.number, shop.recipe.generate, models)
        if isinstance(section, ImbalancePair):
            paired, summary = imbalance_steps.pair(
                shop, answered, self.folder, section, self.start, self.about_translation
            )
            return paired, paired, summary
        if isinstance(reward, NamedScorer):
            return self._pairs_by_model(answered, folder, section, reward)
        assert reward is not None, "only pairs by imbalance ask no reward"
        return self._pairs_by_views(answered, section, reward)

    def _pairs_by_model(
        self, answered: Track, folder: str, section: Pair | BestOfNPair, reward: NamedScorer
    ) -> tuple[Track, Track, dict[str, Any]]:
        shop, recipe = self.shop, self.shop.recipe
        scored = shop.scorer(answered, f"{self.folder}/score-{reward.name}", reward.options())
        own = isinstance(recipe.reward, ModelReward) and reward.name == recipe.reward.model
        place = self.folder if own else folder
        if isinstance(section, BestOfNPair):
            paired, summary = steps.best_of_n(shop, scored, place, section, reward.name)
        else:
            section = section if own else section.model_copy(update={"score": ""})
            paired, summary = steps.pair(shop, scored, place, section, reward.name)
        return paired, paired, summary

    def _pairs_by_views(
        self, answered: Track, section: Pair | BestOfNPair, reward: Reward
    ) -> tuple[Track, Track, dict[str, Any]]:
        shop, recipe, folder = self.shop, self.shop.recipe, self.folder
        assert isinstance(section, Pair), "the recipe is refused with another rule"
        # Translations that only the evaluation asks for are not made of the training answers.
        if recipe.translate and "translated" in recipe.views:
            options = recipe.translate.options(shop.answering(self.start))
            answered = shop.translate(answered, f"{folder}/translate", options)
        track = answered
        for view in recipe.views:
            track = shop.implicit(track, f"{folder}/score-{view}", view, reward.policy, reward.reference)
        # Pairs and training see the one score that pairs, so that another view recomputes neither.
        scored = answered.over(f"{folder}/score-{recipe.pair_layer}")
        paired, summary = steps.pair(shop, scored, folder, section, recipe.pair_score)
        return paired, track.over(f"{folder}/pair"), summary


def _towards(shop: Workshop, section: Train | RLTrain, start: Model) -> Model:
    """The training reference; of reinforcement always the start."""
    return shop.reference if isinstance(section, Train) and section.reference == "fixed" else start


def _reward(shop: Workshop, start: Model, before: Model, rewards: Rewards) -> Reward | NamedScorer:
    """Who scores a round's answers."""
    section = shop.recipe.reward
    if isinstance(section, ModelReward):
        return rewards.scorers[section.model]
    return Reward(
        policy=start if section.policy == "current" else shop.policy,
        reference=shop.reference if section.reference == "fixed" else before,
    )
