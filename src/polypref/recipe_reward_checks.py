"""What a recipe's sections about rewards must have of each other; a mistake is a ``ValueError`` of one sentence."""

from __future__ import annotations

from typing import Any

from polypref import registry
from polypref.errors import did_you_mean
from polypref.recipe_rewards import Judge, ModelReward, RewardModels

Recipe = Any
"""``recipe.Recipe``, which asks these checks."""


def check_rewards(recipe: Recipe) -> None:
    """Refuse a recipe whose rewards cannot be made, judged or used.

    Raises:
        ValueError: what is wrong, and the fix.
    """
    trained = recipe.reward_models.languages_of(recipe.languages) if recipe.reward_models else {}
    if recipe.reward_models:
        _reward_models(recipe, recipe.reward_models, trained)
    if twice := trained.keys() & recipe.rewards.keys():
        raise ValueError(f"{min(twice)} stands in rewards and in reward_models; give one of them another name")
    known = {*trained, *recipe.rewards}
    if taken := known & {*recipe.model_names}:
        raise ValueError(f"{min(taken)} is the name of a reward and of a model; give one of them another name")
    if isinstance(recipe.reward, ModelReward):
        _reward(recipe, recipe.reward, known)
    if recipe.judge:
        _judge(recipe, recipe.judge, known)
    if recipe.representation:
        _representation(recipe, known)
    used = {recipe.reward.model} if isinstance(recipe.reward, ModelReward) else set()
    used |= {baseline.reward for baseline in recipe.baselines}
    used |= {*recipe.diagnose.rewards} if recipe.diagnose else set()
    used |= {*recipe.evaluate.win_rates} if recipe.evaluate else set()
    used |= ({*recipe.best_of_n.rewards} or known) if recipe.best_of_n else set()
    idle = [name for name in recipe.rewards if name not in used]
    if idle and not recipe.judge and not recipe.representation:
        raise ValueError(f"rewards.{idle[0]} is used by nothing; add the section judge, or leave it out")


def _reward_models(recipe: Recipe, section: RewardModels, trained: dict[str, tuple[str, ...]]) -> None:
    if not trained:
        raise ValueError("reward_models needs languages, or sources that name some")
    spoken = {lang for own in trained.values() for lang in own}
    if recipe.languages and (lost := spoken - {*recipe.languages}):
        raise ValueError(f"reward_models.sources holds {min(lost)}, which is none of languages; add it")
    if section.train.method == "transformer" and recipe.reward_start is None and recipe.sft is None:
        raise ValueError("reward_models has nothing to start from; give reward_models.start or models.policy")
    if section.translate and not (section.translate.model or recipe.models.policy):
        raise ValueError("reward_models.translate has no model; give one, or models.policy")
    if isinstance(section.mix, dict):
        if more := section.mix.keys() - spoken:
            raise ValueError(f"reward_models.mix weighs {min(more)}, which no model is trained on; take it out")
        for name, own in trained.items():
            if len(own) > 1 and (lost := [lang for lang in own if lang not in section.mix]):
                raise ValueError(f"reward_models.mix has no weight for {', '.join(lost)}, of {name}; add it")
    if section.mix != "natural" and all(len(own) == 1 for own in trained.values()):
        raise ValueError("reward_models.mix mixes nothing, since each model has one language; name sources of several")


def _reward(recipe: Recipe, reward: ModelReward, known: set[str]) -> None:
    if reward.model not in known:
        raise ValueError(f"reward.model is {reward.model!r}; {did_you_mean(reward.model, known)}")
    if (brought := recipe.rewards.get(reward.model)) and brought.scorer in registry.COMPARERS:
        raise ValueError(
            f"reward.model is {reward.model}, a judge of pairs; the answers of a round need a scorer that gives "
            "each a number, such as judge"
        )
    if recipe.evaluate and (recipe.evaluate.reward_accuracy or recipe.evaluate.labelled):
        raise ValueError(
            "evaluate.reward_accuracy and evaluate.labelled are of an implicit reward; a reward model is judged by "
            "the section judge, and on the models' own answers without being asked"
        )
    if recipe.translate:
        raise ValueError("translate is for views of an implicit reward; a reward model reads answers as they are")


def _judge(recipe: Recipe, judge: Judge, known: set[str]) -> None:
    if not known:
        raise ValueError("judge has nothing to judge; give rewards, or reward_models to train")
    if lost := [name for name in judge.trained_on if name not in recipe.rewards]:
        raise ValueError(f"judge.trained_on names {lost[0]}; {did_you_mean(lost[0], recipe.rewards)}")
    if judge.training and recipe.reward_models:
        raise ValueError("judge.training is given by reward_models.data already; leave it out")
    if judge.data is None and not recipe.reward_models:
        raise ValueError("judge.data is missing; only a run that trains reward_models has validation data")
    if judge.data and recipe.languages and (more := [t for t in judge.data.languages if t not in recipe.languages]):
        raise ValueError(f"judge.data.languages holds {more[0]}, which is none of languages; add it")


def _representation(recipe: Recipe, known: set[str]) -> None:
    shown, base = recipe.representation, recipe.representation_base
    assert shown is not None
    if base is None and recipe.sft is None:
        raise ValueError("representation has no base to hold the models against; give representation.base")
    if base is not None and base.name in known:
        raise ValueError(f"representation.base is called {base.name}, as a reward is; give it another name")
    if shown.texts is None and not (recipe.judge or recipe.reward_models):
        raise ValueError("representation.texts is missing; give parallel prompts")
    trained = recipe.reward_models and recipe.reward_models.train.method != "bag_of_words"
    if not trained and not any(spec.scorer in ("reward_model", "fake") for spec in recipe.rewards.values()):
        raise ValueError("representation has no model to look into: no reward is a reward_model; leave it out")
