"""The cheap experiments before the rounds: a few samples of the unaligned model, which tell in each language whether
the reward is right about them, and whether its pick among them is better than any."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polypref import best_of_n_steps, inputs, registry
from polypref.best_of_n_steps import QUALITY
from polypref.errors import InputError
from polypref.recipe import Recipe
from polypref.recipe_reuse import Diagnose
from polypref.recipe_rewards import ModelReward
from polypref.recipe_sections import Evaluate
from polypref.reward_steps import Findings, Rewards
from polypref.stages import best_of_n as stage
from polypref.stages import diagnosis, judged_win_rates, win_rates
from polypref.stages import evaluate as evaluating
from polypref.stages.diagnosis import DiagnosisOptions
from polypref.stages.judge_matches import JudgeOptions, judge_matches
from polypref.stages.overlap import find_overlap
from polypref.store.atomic import digest
from polypref.store.journal import Journal
from polypref.store.results import keep, kept
from polypref.store.shards import Track
from polypref.workshop import Model, NamedScorer, Workshop

FOLDER = "diagnosis"


def diagnose(
    shop: Workshop, prompts: Track | None, base: Model, rewards: Rewards, judged: Findings
) -> dict[str, Any] | None:
    """Reward → go, doubtful or no-go by language, with the evidence; None where the recipe does not ask."""
    section, evaluate = shop.recipe.diagnose, shop.recipe.evaluate
    if section is None or evaluate is None or prompts is None:
        return None
    chosen = best_of_n_steps.first(prompts, section.limit)
    asked = inputs.track(shop, f"{FOLDER}/prompts", chosen, prompts.languages)
    quality = evaluate.quality is not None
    # One sample more: the one that the others' pick is held against.
    sampling = best_of_n_steps.sampling_of(section.sampling, evaluate, section.n)
    drawn = best_of_n_steps.samples(shop, asked, FOLDER, base, sampling, quality)
    other = sampling.model_copy(update={"seed": sampling.seed + best_of_n_steps.STRIDE, "n": 1})
    single = best_of_n_steps.samples(shop, asked, f"{FOLDER}/single", base, other, quality)
    found = {}
    for name in section.rewards or _default(shop):
        found[name] = _one(shop, section, base, rewards.scorers[name], drawn, single, judged)
    for name, told in found.items():
        by_verdict: dict[str, list[str]] = {}
        for lang, entry in told["languages"].items():
            by_verdict.setdefault(entry["verdict"].replace("_", "-"), []).append(lang)
        counts = "; ".join(f"{verdict}: {', '.join(langs)}" for verdict, langs in by_verdict.items())
        shop.tell(f"Diagnosis of {name} before the rounds: {counts}")
    return found


def tell_overlap(shop: Workshop, prompts: Track | None, seen: Track | None) -> None:
    """Say where the rewards were trained on the prompts that they are examined on, which flatters them."""
    if shop.recipe.diagnose is None or prompts is None or seen is None:
        return
    asked = best_of_n_steps.first(prompts, shop.recipe.diagnose.limit)
    shared = find_overlap(seen.examples(), asked)
    if n := len({text.evaluation_id for text in shared.texts} | {*shared.ids}):
        shop.note(
            f"The diagnosis asks {n} prompts that reward models were trained on, which makes it too hopeful; give "
            "diagnose.prompts others, e.g. by skip"
        )


def without_no_go(shop: Workshop, prompts: Track, found: Mapping[str, Any] | None) -> Track:
    """The training prompts in the languages that are not given up; as they are where the recipe only tells.

    Raises:
        InputError: no language is left.
    """
    section = shop.recipe.diagnose
    names = _default(shop)
    if section is None or section.no_go == "tell" or not found:
        return prompts
    verdicts = found[names[0]]["languages"]
    left = [lang for lang in prompts.languages if verdicts.get(lang, {}).get("verdict") != "no_go"]
    if not left:
        raise InputError(
            f"the diagnosis of {names[0]} is no-go in every language, so there is nothing to train on; take another "
            "reward, or set diagnose.no_go to tell"
        )
    if lost := [lang for lang in prompts.languages if lang not in left]:
        with shop.manifest.step(f"{FOLDER}/languages"):
            shop.note(f"The rounds leave out {', '.join(lost)}, where the diagnosis is no-go (diagnose.no_go)")
    return dataclasses.replace(prompts, languages=tuple(left))


def languages_left(folder: Path, recipe: Recipe, languages: Sequence[str]) -> tuple[str, ...]:
    """The languages that the rounds of a run's folder train on, of those that it has."""
    if recipe.diagnose is None or recipe.diagnose.no_go == "tell" or not isinstance(recipe.reward, ModelReward):
        return tuple(languages)
    try:
        found = json.loads((folder / FOLDER / f"{recipe.reward.model}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return tuple(languages)  # not diagnosed yet, so no round has begun
    verdicts = found["content"]["languages"]
    return tuple(lang for lang in languages if verdicts.get(lang, {}).get("verdict") != "no_go")


def _default(shop: Workshop) -> Sequence[str]:
    reward = shop.recipe.reward
    return (reward.model,) if isinstance(reward, ModelReward) else ()


def _one(
    shop: Workshop,
    section: Diagnose,
    base: Model,
    reward: NamedScorer,
    drawn: Track,
    single: Track,
    judged: Findings,
) -> dict[str, Any]:
    """One reward's diagnosis."""
    track = shop.scorer(drawn, f"{FOLDER}/score-{reward.name}", reward.options())
    options = DiagnosisOptions(**{name: getattr(section, name) for name in DiagnosisOptions.model_fields})
    evaluate = shop.recipe.evaluate
    assert evaluate is not None, "the recipe is refused without"
    judge = _judge(section, evaluate)
    spec = evaluate.judges.get(judge) if judge else None
    told = [diagnosis.VERSION, stage.VERSION, win_rates.VERSION, evaluating.VERSION]
    told += [shop.identity(options, 0), judge, section.n, shop.identifier(section.language_check)]
    if judge and spec:
        told.append(shop.scorer_identity(NamedScorer(judge, spec).options()))
    path = shop.out / FOLDER / f"{reward.name}.json"
    key = digest([told, track.content(), single.content(), judged.figures.get(reward.name)])
    with shop.manifest.step(f"{FOLDER}/{reward.name}") as step:
        found = kept(path, key)
        step.update(worked=found is None)
        if found is None:
            figures = {lang: dict(own) for lang, own in judged.figures.get(reward.name, {}).items()}
            if evaluate.quality is not None:
                right = evaluating.EvaluateOptions(
                    reward_accuracy={reward.name: reward.name}, truth=QUALITY, language_fidelity=False
                )
                on_samples = evaluating.evaluate(track.examples(), right, shop.context)
                values = on_samples.values.get(f"reward_accuracy_{reward.name}", {})
                for lang, own in evaluating.Evaluation({f"accuracy_on_{base.name}": values}).figures().items():
                    figures.setdefault(lang, {}).update(own)
            curves = _curves(shop, section, judge, reward, track, single)
            found = diagnosis.diagnose(
                reward.name,
                figures,
                curves,
                options,
                model=base.name,
                judge=judge,
                quality=evaluate.quality,
                languages=track.languages,
            )
            # What a server has left unanswered is asked again by the next run.
            served = spec is not None and spec.model is not None and spec.model.backend == "openai"
            silent = any(row.get("no_verdict_win_rate") for rows in curves.values() for row in rows)
            if not (served and silent):
                keep(path, key, found)
        shop.opener.close()
    return found


def _judge(section: Diagnose, evaluate: Evaluate) -> str | None:
    """Who says what is better; None where nobody can."""
    return section.judge or (QUALITY if evaluate.quality is not None else None)


def _curves(
    shop: Workshop, section: Diagnose, judge: str | None, reward: NamedScorer, track: Track, single: Track
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Language → the best of 1 and of n: its figures, and its win rate against one other sample."""
    evaluate = shop.recipe.evaluate
    judged = QUALITY if evaluate and evaluate.quality is not None else None
    options = stage.BestOfNOptions(
        score=reward.name, n=(1, section.n), quality=judged, language_check=section.language_check
    )
    made = stage.evaluations(track.examples(), options, shop.context)
    if judge is None:
        return stage.rows(made)
    spec = evaluate.judges.get(judge) if evaluate else None
    if spec is None:
        rates = win_rates.best_of_n_win_rates(single.examples(), track.examples(), options, QUALITY, shop.context)
        made = {n: evaluation.merge(rates[n]) for n, evaluation in made.items()}
        return stage.rows(made)
    named = NamedScorer(judge, spec)
    picked = list(stage.best_of_n(track.examples(), options.model_copy(update={"keep": "picked"}), shop.context))
    if spec.scorer in registry.COMPARERS:
        met = list(
            judged_win_rates.matches(single.examples(), picked, model=f"best of {section.n}", baseline="one sample")
        )
        asked = JudgeOptions(name=judge, judge=spec)
        with Journal(shop.out / FOLDER / reward.name / f"{judge}.journal.jsonl", shop.context.warn) as journal:
            rate = judged_win_rates.win_rates(judge_matches(met, asked, shop.context, journal))
    else:
        picks = inputs.track(shop, f"{FOLDER}/{reward.name}/picked", picked, track.languages)
        both = [
            shop.scorer(side, f"{FOLDER}/{reward.name}/{name}/score-{named.name}", named.options())
            for name, side in (("single", single), ("picked", picks))
        ]
        rate = win_rates.win_rates(both[0].examples(), both[1].examples(), named.name)
    made[section.n] = made[section.n].merge(rate)
    return stage.rows(made)
