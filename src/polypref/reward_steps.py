"""Reward models in a run: trained on preference data, judged in every language, held against what they were made of.

Each step is skipped when its outcome stands. What comes of it scores the answers of the rounds, where the recipe says.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polypref import inputs, registry
from polypref.backends.base import ModelSpec
from polypref.errors import InputError
from polypref.recipe_rewards import Judge, RewardModels
from polypref.records import Example
from polypref.stages import judge_rewards as judging
from polypref.stages import representation as representing
from polypref.stages import reward_matrix, train_reward
from polypref.stages.overlap import refuse_overlap
from polypref.stages.reward_baselines import fit_baselines
from polypref.stages.reward_benchmarks import coverage, flat_rewardbench, section_scores
from polypref.store import checkpoint
from polypref.store.atomic import digest, write_text
from polypref.store.shards import Track
from polypref.workshop import NamedScorer, Workshop, keep, kept

JUDGED, TRAINING = "judge/data", "judge/training"
TEXTS = "representation/texts"


@dataclass(frozen=True)
class Rewards:
    """Every reward of the run by its name, and the data of those that were trained.

    ``trained_on``: a trained model's languages. ``preferences``: the training examples, which nothing that is held out
    may share a prompt with. ``trainings``: what each training tells of itself.
    """

    scorers: dict[str, NamedScorer]
    trained_on: dict[str, tuple[str, ...]] = field(default_factory=dict)
    preferences: Sequence[Example] = ()
    validation: Track | None = None
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What the report shows of the rewards: ``ReportData.rewards`` and ``ReportData.representation``."""

    rewards: dict[str, Any] | None = None
    representation: dict[str, Any] | None = None

    @property
    def figures(self) -> Mapping[str, Any]:
        """Reward → language → its figures, as results.json holds them."""
        return self.rewards["figures"] if self.rewards else {}


def all_rewards(shop: Workshop) -> Rewards:
    """The rewards that the user brings, and those that the recipe trains."""
    brought = {name: NamedScorer(name, spec) for name, spec in shop.recipe.rewards.items()}
    section = shop.recipe.reward_models
    if section is None:
        return Rewards(brought)
    training, validation = inputs.preference_tracks(shop, section)
    trained_on = section.languages_of(shop.languages)
    scorers, trainings = dict(brought), {}
    for name, languages in trained_on.items():
        scorers[name], trainings[name] = _train(shop, section, name, languages, training, validation)
    return Rewards(scorers, trained_on, list(training.examples()), validation, trainings)


def _train(
    shop: Workshop, section: RewardModels, name: str, languages: tuple[str, ...], training: Track, validation: Track
) -> tuple[NamedScorer, dict[str, Any]]:
    """One reward model in ``rewards/<name>/checkpoint``, trained or found there.

    Of the data it sees its languages alone, so that another language trains none of the others again.
    """
    start = shop.recipe.reward_start if section.train.method == "transformer" else None
    options = train_reward.TrainRewardOptions(
        **{key: getattr(section.train, key) for key in train_reward.RewardTrainOptions.model_fields},
        start=start,
        languages=languages,
        mix=section.mix if len(languages) > 1 else "natural",
    )
    own, held = (dataclasses.replace(track, languages=languages) for track in (training, validation))
    target = shop.out / "rewards" / name / "checkpoint"
    key = digest(["train_reward", shop.identity(options, train_reward.VERSION), own.content(), held.content()])
    with shop.manifest.step(f"rewards/{name}") as step:
        summary = checkpoint.standing(target, key)
        step.update(worked=summary is None)
        if summary is None:
            summary = checkpoint.build(
                target,
                key,
                lambda unfinished: train_reward.train_reward(
                    own.examples(), held.examples(), options, shop.context, unfinished
                ),
            )
        step.update(rows=summary.get("rows"), steps=summary.get("steps"))
    shop.opener.close()
    for side, n in (summary.get("truncated") or {}).items():
        if n:
            shop.note(f"{name}: {n} {side} sequences are longer than {options.max_length} tokens; their last are kept")
    return NamedScorer(name, train_reward.trained_reward(options, target)), summary


def judge(shop: Workshop, rewards: Rewards) -> Findings:
    """Every reward on right and wrong answers in every language, the transfer matrix, and the representation shift."""
    section = shop.recipe.judge
    found = None if section is None else _judged(shop, section, rewards)
    return Findings(found, _shift(shop, rewards))


def _judged(shop: Workshop, section: Judge, rewards: Rewards) -> dict[str, Any]:
    examples = _training(shop, section, rewards)
    data = _data(shop, section, rewards, examples)
    training = _training_sample(shop, section, examples)
    baselines = fit_baselines(examples) if examples else None
    trained_on = {**rewards.trained_on, **section.trained_on}
    judgements = {name: _judgement(shop, section, JUDGED, data, reward) for name, reward in rewards.scorers.items()}
    figures, sections = {}, {}
    for name, judgement in judgements.items():
        known = _on_training(shop, section, training, rewards.scorers[name], trained_on.get(name, ()))
        figures[name] = judging.figures(judgement, pivot=shop.pivot, training=known, baselines=baselines)
        if section.benchmark:
            sections[name] = section_scores(judgement, section.benchmark)
            for remark in coverage(judgement, section.benchmark):
                shop.note(remark)
        _write(shop, name, judgement, section)
    matrix = _matrix(shop, section, judgements, trained_on)
    return {
        "figures": figures,
        "sections": sections,
        "matrix": matrix,
        "trained_on": {name: list(languages) for name, languages in trained_on.items()},
        "trainings": rewards.trainings,
        "baselines": baselines.to_json() if baselines else None,
    }


def _training(shop: Workshop, section: Judge, rewards: Rewards) -> Sequence[Example]:
    """What the rewards were trained on, as far as it is known."""
    if section.training is None:
        return rewards.preferences
    return inputs.load_preferences(shop, TRAINING, section.training, shop.recipe.languages)


def _data(shop: Workshop, section: Judge, rewards: Rewards, training: Sequence[Example]) -> Track:
    """The judged data, none of whose prompts a reward model was trained on."""
    if section.data is None:
        assert rewards.validation is not None, "the recipe is refused without either"
        return rewards.validation
    examples = inputs.load_preferences(shop, JUDGED, section.data, shop.recipe.languages)
    if not shop.languages:
        shop.speak(inputs.languages_of(examples), shop.recipe.pivot)
    refuse_overlap(training, examples, allow=section.data.allow_overlap)
    return inputs.track(shop, JUDGED, examples)


def _training_sample(shop: Workshop, section: Judge, examples: Sequence[Example]) -> Track | None:
    """Training examples, as many of each language as the gap asks for."""
    counts: Counter[str] = Counter()
    chosen = []
    for example in examples:
        if any(counts[lang] < section.training_limit for lang in example.prompts):
            counts.update(list(example.prompts))
            chosen.append(example)
    return inputs.track(shop, TRAINING, chosen) if chosen else None


def _on_training(
    shop: Workshop, section: Judge, training: Track | None, reward: NamedScorer, languages: tuple[str, ...]
) -> judging.Judgement | None:
    """What a reward makes of training data in its own languages; None where there is none of it."""
    there = {candidate.lang for e in training.examples() for candidate in e.candidates} if training else set()
    own = tuple(lang for lang in shop.languages if lang in languages and lang in there)
    if training is None or not own:
        return None
    return _judgement(shop, section, TRAINING, dataclasses.replace(training, languages=own), reward)


def _judgement(shop: Workshop, section: Judge, folder: str, data: Track, reward: NamedScorer) -> judging.Judgement:
    """What one reward makes of the data."""
    name = f"{folder}/{reward.name}"
    options = judging.JudgeOptions(
        score=reward.name,
        items=section.items,
        threshold=section.threshold,
        benchmark=section.benchmark,
        pivot=shop.pivot,
    )
    if reward.spec.scorer in registry.COMPARERS:
        return _compared(shop, name, data, reward, options)
    track = shop.scorer(data, f"{name}/score-{reward.name}", reward.options())
    return judging.judge(track.examples(), options)


def _compared(
    shop: Workshop, name: str, data: Track, reward: NamedScorer, options: judging.JudgeOptions
) -> judging.Judgement:
    """The verdicts of a judge of pairs, kept shard by shard and language by language; those of units that hold a
    failure are asked again by the next run."""
    settings = [judging.VERSION, shop.scorer_identity(reward.options()), options.model_dump(mode="json")]
    found = []
    with shop.manifest.step(name):
        for lang in data.languages:
            for index in range(data.count):
                path = shop.out / name / "verdicts" / lang / f"part-{index:05d}.json"
                key = digest([settings, lang, data.inputs(lang, index)])
                content = kept(path, key)
                if content is None:
                    comparer = shop.context.open("comparer", reward.options())
                    judgement = judging.judge_by_comparer(data.unit(lang, index), comparer, options)
                    content = judgement.to_json()
                    if all(item.credit is not None for item in judgement.items):
                        keep(path, key, content)
                found.append(judging.Judgement.from_json(content))
                shop.progress(name, len(found), len(data.languages) * data.count)
        shop.opener.close()
    return judging.Judgement([item for judgement in found for item in judgement.items])


def _write(shop: Workshop, name: str, judgement: judging.Judgement, section: Judge) -> None:
    """Every item's result, and the flat JSON that RewardBench writes."""
    folder = shop.out / JUDGED / name
    items = (dataclasses.asdict(item) for item in judgement.items)
    _replace(folder / "items.jsonl", "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
    for lang in judgement.languages if section.benchmark else ():
        flat = flat_rewardbench(judgement, name, lang, benchmark=section.benchmark)
        _replace(folder / f"rewardbench-{lang}.json", json.dumps(flat, ensure_ascii=False, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write a file that is not there in these words."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _matrix(
    shop: Workshop,
    section: Judge,
    judgements: Mapping[str, judging.Judgement],
    trained_on: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    path = shop.out / "judge" / "matrix.json"
    told = [
        reward_matrix.VERSION,
        section.resamples,
        shop.recipe.seed,
        {name: j.to_json() for name, j in judgements.items()},
    ]
    key = digest([*told, {name: list(languages) for name, languages in trained_on.items()}])
    with shop.manifest.step("judge/matrix") as step:
        found = kept(path, key)
        step.update(worked=found is None)
        if found is None:
            made = reward_matrix.matrix(judgements, trained_on, shop.recipe.seed, section.resamples)
            found = keep(path, key, made.to_json())
    return found


def _shift(shop: Workshop, rewards: Rewards) -> dict[str, Any] | None:
    """The representation of each reward model against its base's, on parallel texts."""
    section = shop.recipe.representation
    if section is None:
        return None
    models = {name: spec for name, reward in rewards.scorers.items() if (spec := _model(reward)) is not None}
    if not models:
        raise InputError("representation has no model to look into: no reward is a reward_model; leave it out")
    base = shop.recipe.representation_base
    examples = _texts(shop, rewards)
    options = representing.RepresentationOptions(
        **{name: getattr(section, name) for name in representing.RepresentationOptions.model_fields}
    )
    told = {name: shop.fingerprint(spec) for name, spec in models.items()}
    settings = [shop.identity(options, representing.VERSION), told, shop.fingerprint(base) if base else None]
    path, key = shop.out / "representation" / "shift.json", digest([settings, examples.content()])
    with shop.manifest.step("representation") as step:
        found = kept(path, key)
        step.update(worked=found is None)
        if found is None:
            made = representing.shift(examples.examples(), models, base, options, shop.context)
            found = keep(path, key, made.to_json())
            shop.opener.close()
    return found


def _model(reward: NamedScorer) -> ModelSpec | None:
    """What has hidden states: a reward model, or the fake that stands for one."""
    return reward.spec.model if reward.spec.scorer in ("reward_model", "fake") else None


def _texts(shop: Workshop, rewards: Rewards) -> Track:
    section, judge_section = shop.recipe.representation, shop.recipe.judge
    if section is not None and section.texts is not None:
        examples = inputs.load_preferences(shop, TEXTS, section.texts, shop.recipe.languages)
        if not shop.languages:
            shop.speak(inputs.languages_of(examples), shop.recipe.pivot)
        return inputs.track(shop, TEXTS, examples)
    if judge_section is not None and judge_section.data is not None:
        return Track(shop.out, JUDGED, shop.languages, shop.pivot)
    assert rewards.validation is not None, "the recipe is refused without any"
    return rewards.validation
