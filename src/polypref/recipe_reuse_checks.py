"""What a recipe's sections about using rewards again must have of each other; a mistake is a ``ValueError`` of one
sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polypref import registry
from polypref.errors import did_you_mean
from polypref.recipe_rewards import ModelReward
from polypref.recipe_sections import Baseline, BestOfNPair, Evaluate, RLTrain

Recipe = Any
"""``recipe.Recipe``, which asks these checks."""

QUALITY, TARGET = "quality", "target"
"""Judges that are no rewards: the scorer of evaluate.quality, and each language's own reward model."""

RESERVED = (QUALITY, TARGET, "multilingual")
"""Scores of a run beside those of its rewards; a reward of the same name would be taken for them."""


def check_reuse(recipe: Recipe) -> None:
    """Refuse a recipe whose best-of-n, reinforcement, diagnosis or win rates lack what they need.

    Raises:
        ValueError: what is wrong, and the fix.
    """
    scorers = _scorers(recipe)
    if taken := [name for name in (*scorers, *recipe.rewards) if name in RESERVED]:
        raise ValueError(f"a reward is called {taken[0]}, which is the name of another score; give it another one")
    if isinstance(recipe.train, RLTrain) and recipe.rounds:
        _reinforced(recipe)
    if isinstance(recipe.pair, BestOfNPair):
        _rejection_sampled(recipe)
    for baseline in recipe.baselines:
        _baseline(recipe, baseline, scorers)
    if recipe.evaluate:
        _judges(recipe, recipe.evaluate, scorers)
    if recipe.best_of_n:
        if not (recipe.evaluate and recipe.evaluate.prompts):
            raise ValueError("best_of_n has no prompts; give evaluate.prompts, held-out prompts")
        _known("best_of_n.rewards", recipe.best_of_n.rewards, scorers)
        if not scorers:
            raise ValueError("best_of_n has no reward that gives each answer a number; give rewards or reward_models")
        _drawn("best_of_n", recipe.best_of_n, recipe)
    if recipe.diagnose:
        _diagnosed(recipe, scorers)
    spoken = recipe.sft.languages if recipe.sft and recipe.languages else ()
    if more := [lang for lang in spoken if lang not in recipe.languages]:
        raise ValueError(f"sft.languages holds {more[0]}, which is none of languages; add it")


def _scorers(recipe: Recipe) -> list[str]:
    """The rewards that give each answer a number."""
    trained = recipe.reward_models.languages_of(recipe.languages) if recipe.reward_models else {}
    brought = [name for name, spec in recipe.rewards.items() if spec.scorer not in registry.COMPARERS]
    return [*trained, *brought]


def _known(where: str, names: Sequence[str], known: Sequence[str]) -> None:
    if lost := [name for name in names if name not in known]:
        raise ValueError(f"{where} names {lost[0]!r}; {did_you_mean(lost[0], known)}")


def _drawn(where: str, section: Any, recipe: Recipe) -> None:
    """Refuse samples that would all be the same."""
    own = section.sampling or recipe.evaluate.sampling
    if own.temperature == 0:
        named = f"{where}.sampling" if section.sampling else "evaluate.sampling"
        raise ValueError(
            f"{where} picks among samples, but {named} has temperature 0, so that all are the same; give "
            f"{where}.sampling another temperature"
        )


def _reinforced(recipe: Recipe) -> None:
    if not isinstance(recipe.reward, ModelReward):
        raise ValueError(
            "train.method is reinforcement, which scores answers as they are drawn: give reward: {by: model, model: …} "
            "(an implicit reward stands under rewards, as scorer: implicit)"
        )
    if "pair" in recipe.model_fields_set:
        raise ValueError("train.method is reinforcement, which makes no pairs; leave the section pair out")


def _rejection_sampled(recipe: Recipe) -> None:
    if not isinstance(recipe.reward, ModelReward):
        raise ValueError("pair.rule best_of_n picks by a reward model; give reward: {by: model, model: …}")
    if len(recipe.generate.shares) > 1:
        raise ValueError("pair.rule best_of_n picks among one model's samples; let generate.source be one")


def _baseline(recipe: Recipe, baseline: Baseline, scorers: Sequence[str]) -> None:
    where = f"baseline {baseline.name}"
    train = baseline.train or recipe.train
    if baseline.reward is None:
        if isinstance(train, RLTrain) != isinstance(recipe.train, RLTrain):
            raise ValueError(f"{where} is trained with pairs and the round without, or the other way; name its reward")
        return
    if not isinstance(recipe.reward, ModelReward):
        raise ValueError(f"{where} names a reward, which stands in the place of reward: {{by: model}} alone")
    _known(f"{where}: reward", (baseline.reward,), scorers)


def _judges(recipe: Recipe, section: Evaluate, scorers: Sequence[str]) -> None:
    for name, spec in section.judges.items():
        if name in (QUALITY, TARGET, *scorers):
            raise ValueError(f"evaluate.judges.{name} is the name of another judge; give it another one")
        if told := registry.mistake_of(spec):
            raise ValueError(f"evaluate.judges.{name}: {told}")
    _known("evaluate.win_rates", section.win_rates, [QUALITY, TARGET, *section.judges, *scorers])
    if QUALITY in section.win_rates and section.quality is None:
        raise ValueError("evaluate.win_rates names quality, but evaluate.quality names no scorer; give it")
    if TARGET in section.win_rates and not recipe.reward_models:
        raise ValueError("evaluate.win_rates names target, but the run trains no reward_models; name a judge")
    if TARGET in section.win_rates:
        trained = recipe.reward_models.languages_of(recipe.languages)
        if all(len(languages) > 1 for languages in trained.values()):
            raise ValueError(
                "evaluate.win_rates names target, but each of reward_models is trained on several languages, and a "
                "language's own on it alone; add such sources, or name a judge"
            )
    if section.win_rates and section.prompts is None:
        raise ValueError("evaluate.win_rates has no prompts; give evaluate.prompts")
    asked = (*section.win_rates, recipe.diagnose.judge if recipe.diagnose else None)
    if idle := [name for name in section.judges if name not in asked]:
        raise ValueError(f"evaluate.judges.{idle[0]} judges nothing; name it in evaluate.win_rates, or leave it out")


def _diagnosed(recipe: Recipe, scorers: Sequence[str]) -> None:
    section = recipe.diagnose
    if not section.rewards and not isinstance(recipe.reward, ModelReward):
        raise ValueError(
            "diagnose has no reward to examine; name some in diagnose.rewards, or give reward: {by: model}"
        )
    _known("diagnose.rewards", section.rewards, scorers)
    if section.prompts is None and recipe.prompts is None:
        raise ValueError("diagnose has no prompts; give diagnose.prompts, or prompts")
    if recipe.evaluate is None:
        raise ValueError("diagnose has no section evaluate, which says how answers are drawn and judged; add it")
    judges = [QUALITY, *recipe.evaluate.judges]
    _known("diagnose.judge", (section.judge,) if section.judge else (), judges)
    if section.judge == QUALITY and not (recipe.evaluate and recipe.evaluate.quality):
        raise ValueError("diagnose.judge is quality, but evaluate.quality names no scorer; give it, or another judge")
    _drawn("diagnose", section, recipe)
    examined = section.rewards or (recipe.reward.model,)
    judge = recipe.evaluate.judges.get(section.judge)
    if judge and (itself := [name for name in examined if recipe.rewards.get(name) == judge]):
        raise ValueError(f"diagnose.judge is the reward {itself[0]} itself, which is no evidence; name another judge")
    if section.no_go == "leave_out" and recipe.rounds:
        reward = recipe.reward.model if isinstance(recipe.reward, ModelReward) else None
        if reward not in examined:
            raise ValueError(
                "diagnose.no_go is leave_out, which goes by the verdicts on the reward of the rounds, and that is not "
                "examined; give reward: {by: model}, and name it in diagnose.rewards or leave these out"
            )
