"""Who wins against the unaligned model: every step's answers, by every judge that the recipe names, and their scores.

The first judge gives ``win_rate``, the others ``win_rate_by_<judge>``; those that give numbers also
``score_by_<judge>``, whose gain over the unaligned model is compared prompt by prompt.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from polypref import registry
from polypref.best_of_n_steps import QUALITY
from polypref.recipe_reuse_checks import TARGET
from polypref.reward_steps import Rewards
from polypref.stages import evaluate as evaluating
from polypref.stages import judged_win_rates as judged
from polypref.stages import win_rates as stage
from polypref.stages.evaluate import Evaluation
from polypref.stages.judge_matches import JudgeOptions, Spent, judge_matches
from polypref.stages.judgment_losses import asked_again
from polypref.stages.judgments import Judgment, parse_judgment
from polypref.store.atomic import digest
from polypref.store.journal import Journal
from polypref.store.results import keep, kept
from polypref.store.shards import Track
from polypref.workshop import NamedScorer, Workshop


def own_rewards(rewards: Rewards) -> dict[str, NamedScorer]:
    """Language → the reward model that was trained on it alone, the first where there are several."""
    found: dict[str, NamedScorer] = {}
    for name, languages in rewards.trained_on.items():
        if len(languages) == 1:
            found.setdefault(languages[0], rewards.scorers[name])
    return found


def win_rates(
    shop: Workshop, rewards: Rewards, base: str, answered: Mapping[str, Track], made_by: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Evaluation], list[Judgment]]:
    """Step → its win rates against ``base`` and its scores; and what the judges of pairs said, one by one.

    Args:
        answered: step → its answers to the held-out prompts, scored for quality.
        made_by: step → the rewards that it was made by, by whose scores it is told as well.
    """
    section = shop.recipe.evaluate
    out: dict[str, Evaluation] = {step: Evaluation() for step in answered}
    judgments: list[Judgment] = []
    if section is None or base not in answered:
        return out, judgments
    for number, judge in enumerate(section.win_rates):
        metric = "win_rate" if number == 0 else f"win_rate_by_{judge}"
        for step in answered:
            if step != base:
                _tell_of_itself(shop, rewards, judge, step, made_by.get(step, ()))
                told = _judgments(shop, judge, answered[base], answered[step], (base, step))
                if told is None:
                    found = _against(shop, rewards, judge, metric, answered[base], answered[step], (base, step))
                else:
                    found = judged.win_rates(told, metric=metric)
                    judgments += told
                out[step] = out[step].merge(found)
    named = list(dict.fromkeys([judge for judge in section.win_rates if judge != QUALITY]))
    made = list(dict.fromkeys(name for names in made_by.values() for name in names))
    for name in dict.fromkeys([*named, *made]):
        for step, track in answered.items():
            if step == base or name in named or name in made_by.get(step, ()):
                out[step] = out[step].merge(_scored(shop, rewards, name, step, track))
    return out, judgments


def _tell_of_itself(shop: Workshop, rewards: Rewards, judge: str, step: str, made_by: Sequence[str]) -> None:
    """Say where a judge is the reward that has made what it judges."""
    if judge in made_by:
        shop.note(f"{judge} has made {step} and judges it: these win rates are no evidence")
    elif judge == TARGET:
        for lang, reward in own_rewards(rewards).items():
            if reward.name in made_by:
                shop.note(f"{reward.name} has made {step} and judges it in {lang}: this win rate is no evidence")


def _against(
    shop: Workshop,
    rewards: Rewards,
    judge: str,
    metric: str,
    before: Track,
    after: Track,
    names: tuple[str, str],
) -> Evaluation:
    """One step against the base by one judge that gives numbers."""
    folder = f"win-rates/{judge}/{names[1]}"
    told, tracks = _with_scores(shop, rewards, judge, dict(zip(names, (before, after), strict=True)))
    settings = [stage.VERSION, metric, told, tracks[names[0]].content()]
    return shop.measure(
        folder,
        tracks[names[1]],
        settings,
        lambda track: stage.win_rates(tracks[names[0]].examples(), track.examples(), told, metric=metric),
    )


def _judgments(
    shop: Workshop, judge: str, before: Track, after: Track, names: tuple[str, str]
) -> list[Judgment] | None:
    """What a judge of pairs says, kept shard by shard and language by language, and every answer of the judge as it
    comes. Where an order was not answered, it is asked again by the next run, about that alone; words that could not be
    read stay as they are. None of a judge that gives numbers."""
    spec = shop.recipe.evaluate.judges.get(judge) if shop.recipe.evaluate else None
    if spec is None or spec.scorer not in registry.COMPARERS:
        return None
    before, after, folder = before.texts(), after.texts(), f"win-rates/{judge}/{names[1]}"
    options = JudgeOptions(name=judge, judge=spec)
    settings = [judged.VERSION, names, shop.scorer_identity(NamedScorer(judge, spec).options())]
    told: list[Judgment] = []
    before_now, done, total = Spent(), 0, len(after.languages) * after.count
    with shop.manifest.step(folder) as step, Journal(shop.out / folder / "journal.jsonl", shop.context.warn) as journal:
        step.update(worked=False)
        shop.progress(folder, done, total)
        for lang in after.languages:
            base = dataclasses.replace(before, languages=(lang,))
            opponents, theirs = list(base.examples()), base.content()
            for index in range(after.count):
                path = shop.out / folder / lang / f"part-{index:05d}.json"
                key = digest([settings, lang, theirs, after.inputs(lang, index)])
                content = kept(path, key)
                found = [parse_judgment(row, path.name) for row in content["judgments"]] if content else []
                if content is None or content["again"]:
                    step.update(worked=True)
                    met = list(judged.matches(opponents, after.unit(lang, index), model=names[1], baseline=names[0]))
                    show = functools.partial(_show, shop, folder, before_now)
                    asked = judge_matches(met, options, shop.context, journal, show)
                    found = list(asked)
                    before_now += asked.spent
                    lost = [match for match, judgment in zip(met, found, strict=True) if judgment.error is not None]
                    again = asked_again(lost, options, shop.context, journal)
                    keep(path, key, {"judgments": [judgment.row() for judgment in found], "again": again})
                told += found
                done += 1
                shop.progress(folder, done, total)
        shop.opener.close()
    return told


def _show(shop: Workshop, folder: str, before_now: Spent, now: Spent) -> None:
    shop.beside(folder, (before_now + now).told())


def _with_scores(
    shop: Workshop, rewards: Rewards, judge: str, tracks: Mapping[str, Track]
) -> tuple[dict[str, str], dict[str, Track]]:
    """Language → the score that judges there, and the steps' tracks with it."""
    languages = next(iter(tracks.values())).languages
    if judge == QUALITY:
        return dict.fromkeys(languages, QUALITY), dict(tracks)
    if judge == TARGET:
        own = {lang: found for lang, found in own_rewards(rewards).items() if lang in languages}
        if lost := [lang for lang in languages if lang not in own]:
            shop.note(f"The judge target says nothing in {', '.join(lost)}, for want of a reward model of its own")
        asked = {found.name: [lang for lang in own if own[lang].name == found.name] for found in own.values()}
        return dict.fromkeys(own, TARGET), {
            step: _by_target(shop, rewards, step, track, asked) for step, track in tracks.items()
        }
    reward = _scorer(shop, rewards, judge)
    done = {step: shop.scorer(track, _layer(step, judge), reward.options()) for step, track in tracks.items()}
    return dict.fromkeys(languages, judge), done


def _by_target(shop: Workshop, rewards: Rewards, step: str, track: Track, asked: Mapping[str, Sequence[str]]) -> Track:
    """A track in the judged languages alone, each scored by its own reward under one name."""
    spoken = tuple(lang for lang in track.languages if any(lang in languages for languages in asked.values()))
    for name, languages in asked.items():
        alone = dataclasses.replace(track, languages=tuple(languages))
        shop.scorer(alone, _layer(step, TARGET), rewards.scorers[name].options(TARGET))
    return dataclasses.replace(track, languages=spoken).over(_layer(step, TARGET))


def _layer(step: str, judge: str) -> str:
    """Where the evaluation keeps a reward's scores of a step's answers, so that they are made once."""
    return f"evaluation/{judge}/{step}/score-{judge}"


def _scorer(shop: Workshop, rewards: Rewards, name: str) -> NamedScorer:
    judges = shop.recipe.evaluate.judges if shop.recipe.evaluate else {}
    return NamedScorer(name, judges[name]) if name in judges else rewards.scorers[name]


def _scored(shop: Workshop, rewards: Rewards, judge: str, step: str, track: Track) -> Evaluation:
    """``score_by_<judge>``: the mean score of a step's answers."""
    judges = shop.recipe.evaluate.judges if shop.recipe.evaluate else {}
    if judge in judges and judges[judge].scorer in registry.COMPARERS:
        return Evaluation()
    score, tracks = _with_scores(shop, rewards, judge, {step: track})
    if not score:
        return Evaluation()
    [name] = set(score.values())
    options = evaluating.EvaluateOptions(quality=name, language_fidelity=False)
    settings = [shop.identity(options, evaluating.VERSION)]
    found = shop.measure(
        f"win-rates/{judge}/{step}-scores",
        tracks[step],
        settings,
        lambda given: evaluating.evaluate(given.examples(), options, shop.context),
    )
    return Evaluation({f"score_by_{judge}": found.values["quality"]} if "quality" in found.values else {})
