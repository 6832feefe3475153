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

from polypref import registry
from polypref.backends.base import ModelSpec
from polypref.inputs import track
from polypref.preference_inputs import JUDGED, RewardData
from polypref.recipe_rewards import Judge, RewardModels
from polypref.records import to_json
from polypref.stages import judge_rewards as judging
from polypref.stages import representation as representing
from polypref.stages import reward_matrix, train_reward
from polypref.stages.prompts import restricted
from polypref.stages.reward_baselines import fit_baselines
from polypref.stages.reward_benchmarks import coverage, flat_rewardbench, section_figures
from polypref.store import checkpoint
from polypref.store.atomic import digest, write_text
from polypref.store.journal import Journal
from polypref.store.results import keep, kept
from polypref.store.shards import Track
from polypref.workshop import NamedScorer, Workshop

SAMPLE = "judge/training-sample"


@dataclass(frozen=True)
class Rewards:
    """Every reward of the run by its name.

    ``trained_on``: the languages of those that the run trained. ``trainings``: what each training tells of itself.
    """

    scorers: dict[str, NamedScorer]
    trained_on: dict[str, tuple[str, ...]] = field(default_factory=dict)
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


def all_rewards(shop: Workshop, data: RewardData) -> Rewards:
    """The rewards that the user brings, and those that the recipe trains."""
    scorers = {name: NamedScorer(name, spec) for name, spec in shop.recipe.rewards.items()}
    section = shop.recipe.reward_models
    if section is None or data.training is None or data.validation is None:
        return Rewards(scorers)
    trained_on = section.languages_of(data.training.languages)
    trainings = {}
    for name, languages in trained_on.items():
        scorers[name], trainings[name] = _train(shop, section, name, languages, data.training, data.validation)
    return Rewards(scorers, trained_on, trainings)


def _train(
    shop: Workshop, section: RewardModels, name: str, languages: tuple[str, ...], training: Track, validation: Track
) -> tuple[NamedScorer, dict[str, Any]]:
    """One reward model in ``rewards/<name>/checkpoint``, trained or found there.

    Of the data it sees its languages alone, so that another language trains none of the others again.
    """
    start = _start(shop) if section.train.method == "transformer" else None
    options = train_reward.TrainRewardOptions(
        **{key: getattr(section.train, key) for key in train_reward.RewardTrainOptions.model_fields},
        start=start,
        languages=languages,
        mix=section.mix if len(languages) > 1 else "natural",
    )
    own, held = (dataclasses.replace(track, languages=languages) for track in (training, validation))
    target = shop.out / "rewards" / name / "checkpoint"
    trainer = shop.context.open("reward_trainer", options.method).fingerprint
    told = [shop.identity(options, train_reward.VERSION), trainer]
    key = digest(["train_reward", *told, *([_content(track, languages)] for track in (own, held))])
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


def _start(shop: Workshop) -> ModelSpec:
    """What reward models are made of; where nothing is named, the SFT model that the run has made."""
    return shop.recipe.reward_start or shop.policy.spec


def _content(track: Track, languages: tuple[str, ...]) -> str:
    """What those languages hold, however the examples of others lie between theirs."""
    parts = (restricted(example, languages) for example in track.examples())
    return digest([digest(to_json(part)) for part in parts if part.candidates])


def judge(shop: Workshop, data: RewardData, rewards: Rewards) -> Findings:
    """Every reward on right and wrong answers in every language, the transfer matrix, and the representation shift."""
    section = shop.recipe.judge
    found = None if section is None or data.judged is None else _judged(shop, section, data, data.judged, rewards)
    return Findings(found, _shift(shop, data, rewards))


def _judged(shop: Workshop, section: Judge, data: RewardData, judged: Track, rewards: Rewards) -> dict[str, Any]:
    sample = _sample(shop, section, data)
    baselines = fit_baselines(data.seen.examples()) if data.seen else None
    trained_on = {**rewards.trained_on, **section.trained_on}
    # Of a reward that the user brings it is known what it was trained on where that is given.
    known = rewards.trained_on if section.training is None else trained_on
    judgements = {name: _judgement(shop, section, judged, reward) for name, reward in rewards.scorers.items()}
    figures, sections = {}, {}
    for name, judgement in judgements.items():
        on_training = _on_training(shop, section, sample, rewards.scorers[name], known.get(name, ()), judgement)
        figures[name] = judging.figures(judgement, pivot=shop.pivot, training=on_training, baselines=baselines)
        if section.benchmark:
            sections[name] = section_figures(judgement, section.benchmark)
            for remark in coverage(judgement, section.benchmark):
                shop.note(remark)
        _write(shop, section, rewards.scorers[name], judgement)
    return {
        "judged": judged.content()[:8],
        "figures": figures,
        "sections": sections,
        "matrix": _matrix(shop, section, judgements, trained_on),
        "trained_on": {name: list(languages) for name, languages in trained_on.items()},
        "trainings": rewards.trainings,
        "baselines": baselines.to_json() if baselines else None,
    }


def _sample(shop: Workshop, section: Judge, data: RewardData) -> Track | None:
    """Training examples, as many of each language as the gap asks for."""
    if data.seen is None:
        return None
    counts: Counter[str] = Counter()
    chosen = []
    for example in data.seen.examples():
        there = {candidate.lang for candidate in example.candidates}
        if any(counts[lang] < section.training_limit for lang in there):
            counts.update(there)
            chosen.append(example)
    return track(shop, SAMPLE, chosen, data.seen.languages) if chosen else None


def _on_training(
    shop: Workshop,
    section: Judge,
    sample: Track | None,
    reward: NamedScorer,
    languages: tuple[str, ...],
    judged: judging.Judgement,
) -> judging.Judgement | None:
    """What a reward makes of training data in its own languages; None where there is none, or where its items are of
    another kind than the judged ones, whose accuracies do not compare."""
    if sample is None or reward.spec.scorer in registry.COMPARERS:
        return None
    there = {candidate.lang for example in sample.examples() for candidate in example.candidates}
    own = tuple(lang for lang in sample.languages if lang in languages and lang in there)
    if not own:
        return None
    scored = _scored(shop, SAMPLE, dataclasses.replace(sample, languages=own), reward)
    options = _options(shop, section, reward).model_copy(update={"items": "auto"})
    found = judging.judge(scored.examples(), options)
    kinds = {item.kind for item in judged.items}
    return found if {item.kind for item in found.items} == kinds else None


def _options(shop: Workshop, section: Judge, reward: NamedScorer) -> judging.JudgeOptions:
    return judging.JudgeOptions(
        score=reward.name,
        items=section.items,
        threshold=section.threshold,
        benchmark=section.benchmark,
        pivot=shop.pivot,
    )


def _scored(shop: Workshop, folder: str, data: Track, reward: NamedScorer) -> Track:
    return shop.scorer(data, f"{folder}/{reward.name}/score-{reward.name}", reward.options())


def _judgement(shop: Workshop, section: Judge, data: Track, reward: NamedScorer) -> judging.Judgement:
    """What one reward makes of the judged data."""
    options = _options(shop, section, reward)
    if reward.spec.scorer in registry.COMPARERS:
        return _compared(shop, f"{JUDGED}/{reward.name}", data, reward, options)
    return judging.judge(_scored(shop, JUDGED, data, reward).examples(), options)


def _compared(
    shop: Workshop, name: str, data: Track, reward: NamedScorer, options: judging.JudgeOptions
) -> judging.Judgement:
    """The verdicts of a judge of pairs, kept shard by shard and language by language. Where it gave none, it is asked
    again by the next run, about those examples alone."""
    settings = [judging.VERSION, shop.scorer_identity(reward.options()), options.items]
    found: list[judging.Item] = []
    done = 0
    kept_answers = shop.out / name / "journal.jsonl"
    with shop.manifest.step(name), Journal(kept_answers, shop.context.warn) as journal:
        for lang in data.languages:
            for index in range(data.count):
                path = shop.out / name / "verdicts" / lang / f"part-{index:05d}.json"
                key = digest([settings, lang, data.inputs(lang, index)])
                content = kept(path, key)
                items = judging.Judgement.from_json(content).items if content else []
                silent = {item.example for item in items if item.credit is None}
                waiting = [e for e in data.unit(lang, index) if content is None or e.id in silent]
                if waiting:
                    comparer = shop.context.open("comparer", reward.options())
                    new = judging.judge_by_comparer(waiting, comparer, options, recall=journal).items
                    items = _in_place(items, new) if content else new
                    keep(path, key, judging.Judgement(items).to_json())
                found += items
                done += 1
                shop.progress(name, done, len(data.languages) * data.count)
        shop.opener.close()
    return judging.Judgement(found)


def _in_place(items: Sequence[judging.Item], new: Sequence[judging.Item]) -> list[judging.Item]:
    """The items with those of the same answers replaced by new ones."""
    found = {(item.example, item.right_ids, item.wrong_ids): item for item in new}
    return [found.get((item.example, item.right_ids, item.wrong_ids), item) for item in items]


def _write(shop: Workshop, section: Judge, reward: NamedScorer, judgement: judging.Judgement) -> None:
    """Every item's result, and the flat JSON that RewardBench writes."""
    folder = shop.out / JUDGED / reward.name
    items = (dataclasses.asdict(item) for item in judgement.items)
    _replace(folder / "items.jsonl", "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
    for lang in judgement.languages if section.benchmark else ():
        scorer = reward.spec.scorer
        flat = flat_rewardbench(judgement, reward.name, lang, benchmark=section.benchmark, model_type=scorer)
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


def _shift(shop: Workshop, data: RewardData, rewards: Rewards) -> dict[str, Any] | None:
    """The representation of each reward model against its base's, on parallel texts.

    Of a run that trains reward models these; brought ones are made of other models.
    """
    section = shop.recipe.representation
    if section is None or data.texts is None:
        return None
    base = shop.recipe.representation_base or (shop.policy.spec if shop.recipe.sft else None)
    names = rewards.trained_on or rewards.scorers
    models = {n: spec for n, r in rewards.scorers.items() if n in names and (spec := _model(r)) is not None}
    options = representing.RepresentationOptions(
        **{name: getattr(section, name) for name in representing.RepresentationOptions.model_fields}
    )
    if not options.languages:
        options = options.model_copy(update={"languages": data.texts.languages})
    told = {name: shop.fingerprint(spec) for name, spec in models.items()}
    settings = [shop.identity(options, representing.VERSION), told]
    settings += [base.name, shop.fingerprint(base)] if base else []
    path, key = shop.out / "representation" / "shift.json", digest([settings, data.texts.content()])
    with shop.manifest.step("representation") as step:
        found = kept(path, key)
        step.update(worked=found is None)
        if found is None:
            made = representing.shift(data.texts.examples(), models, base, options, shop.context)
            found = keep(path, key, made.to_json())
            shop.opener.close()
    return found


def _model(reward: NamedScorer) -> ModelSpec | None:
    """What has hidden states: a reward model, or the fake that stands for one."""
    return reward.spec.model if reward.spec.scorer in ("reward_model", "fake") else None
