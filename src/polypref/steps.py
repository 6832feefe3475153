"""The steps that every round has: answers, pairs of best against worst, a trained model. Each is skipped when its
outcome stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polypref.backends.base import Sampling
from polypref.errors import InputError
from polypref.recipe_sections import BestOfNPair, Generate, Pair, RLTrain, Train
from polypref.stages import best_of_n as picking
from polypref.stages import generate as generating
from polypref.stages import pair as pairing
from polypref.stages import train as training
from polypref.stages import train_rl as reinforcing
from polypref.stages.prompts import restricted
from polypref.stages.score import ImplicitOptions
from polypref.store import checkpoint
from polypref.store.atomic import digest
from polypref.store.results import keep, kept
from polypref.store.shards import Track
from polypref.workshop import Model, NamedScorer, Workshop


def generate(
    shop: Workshop, prompts: Track, folder: str, number: int | None, section: Generate, models: dict[str, Model]
) -> Track:
    sampling = {name: getattr(section, name) for name in Sampling.model_fields if name != "n"}
    options = generating.GenerateOptions(
        sources=tuple(
            generating.Source(role=role, model=shop.answering(models[role]), n=n) for role, n in section.shares.items()
        ),
        sampling=Sampling(**sampling),
        system=section.system,
        keep_thinking=section.keep_thinking,
        round=number,
    )
    return shop.generate(prompts, f"{folder}/generate", options)


def pair(shop: Workshop, track: Track, folder: str, section: Pair, score: str) -> tuple[Track, dict[str, Any]]:
    """Best against worst; one α a language, fitted over all of its shards, and only when a shard needs it."""
    fields = {name: getattr(section, name) for name in pairing.BestWorstOptions.model_fields}
    options = pairing.BestWorstOptions(**{**fields, "score": section.score or score})
    alphas: dict[str, float] = {}

    def work(lang: str, examples: Any) -> Any:
        if lang not in alphas:
            # Of translations, which stand in a language of their own beside its answers, nothing is fitted here.
            fitted = pairing.fit_best_worst(track.examples([lang]), options, shop.context)
            alphas[lang] = fitted.get(lang, 0.0)
        return pairing.best_worst(examples, options, shop.context, alphas=alphas)

    name = f"{folder}/pair"
    settings = {**shop.identity(options, pairing.VERSION), "identifier": shop.identifier(options.language_check)}
    paired = shop.lay(track, name, settings, work, whole_language=True)
    path, key = shop.out / name / "summary.json", digest([paired.content(), settings])
    summary = kept(path, key)
    if summary is None:
        fitted = _alphas(track, alphas, options, shop)
        summary = keep(path, key, pairing.pair_statistics(paired.examples(), options, fitted, shop.context))
    refuse_nothing(paired, folder, summary)
    return paired, summary


def best_of_n(
    shop: Workshop, track: Track, folder: str, section: BestOfNPair, score: str
) -> tuple[Track, dict[str, Any]]:
    """The best of a round's answers against the worst; training by ``sft`` reads the best alone."""
    options = section.options(score, shop.recipe.generate.n, shop.recipe.seed)
    name = f"{folder}/pair"
    settings = {**shop.identity(options, picking.VERSION), "identifier": shop.identifier(options.language_check)}
    paired = shop.lay(track, name, settings, lambda lang, examples: picking.best_of_n(examples, options, shop.context))
    path, key = shop.out / name / "summary.json", digest([paired.content(), settings])
    summary = kept(path, key)
    if summary is None:
        told = pairing.BestWorstOptions(score=score, language_check=False)
        summary = keep(path, key, pairing.pair_statistics(paired.examples(), told, {}, shop.context))
    refuse_nothing(paired, folder, summary)
    return paired, summary


def refuse_nothing(paired: Track, folder: str, summary: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to go on without a single pair.

    Raises:
        InputError: there is none; the message counts the reasons.
    """
    if not sum(int(figures.get("pairs", 0)) for figures in summary.values()):
        raise InputError(
            f"{folder} gives no pair in any language ({_reasons(paired)}), so there is nothing to train on; "
            "mend the filters under pair, the translation, or the generation"
        )


def _alphas(track: Track, known: dict[str, float], options: Any, shop: Workshop) -> dict[str, float]:
    """The fitted α of every language; those of units that stood already are fitted again, for the statistics alone."""
    missing = [lang for lang in track.languages if lang not in known]
    if missing and options.length_control == "auto":
        known = pairing.fit_best_worst(track.examples(missing), options, shop.context) | known
    return known


def _reasons(track: Track) -> str:
    counts: dict[str, int] = {}
    for example in track.examples():
        for drop in example.dropped:
            counts[f"{drop.stage}: {drop.reason}"] = counts.get(f"{drop.stage}: {drop.reason}", 0) + 1
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items(), key=lambda kv: -kv[1])[:5]) or "no answers"


def train(
    shop: Workshop,
    track: Track,
    folder: str,
    name: str,
    section: Train,
    start: Model,
    reference: Model,
    scored: ImplicitOptions | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Train the round's model into ``<folder>/train/checkpoint``, or find it there.

    Args:
        scored: how the track's candidates were scored, so that the reference is not asked again what it has said.
    """
    options = training.TrainStageOptions(
        **{key: getattr(section, key) for key in training.TrainOptions.model_fields},
        start=start.spec,
        reference=reference.spec,
        system=shop.recipe.generate.system,
        scored=scored,
    )
    target = shop.out / folder / "train" / "checkpoint"
    result = Model(name, training.trained(options, target).model_copy(update={"name": name}))
    key = digest(["train", shop.identity(options, training.VERSION), track.content()])
    with shop.manifest.step(f"{folder}/train") as step:
        summary = checkpoint.standing(target, key)
        step.update(worked=summary is None)
        if summary is None:
            summary = checkpoint.build(
                target, key, lambda unfinished: training.train(track.examples(), options, shop.context, unfinished)
            )
        step.update(rows=summary.get("rows"), steps=summary.get("steps"))
    shop.opener.close()
    return result, summary


def reinforce(
    shop: Workshop, track: Track, folder: str, name: str, section: RLTrain, start: Model, reward: NamedScorer
) -> tuple[Model, dict[str, Any]]:
    """Train a model by a reward on its own answers into ``<folder>/train/checkpoint``, or find it there."""
    options = reinforcing.TrainRLOptions(
        **section.trainer, start=start.spec, reward=reward.spec, system=shop.recipe.generate.system
    )
    target = shop.out / folder / "train" / "checkpoint"
    result = Model(name, reinforcing.trained(options, target).model_copy(update={"name": name}))
    told = [shop.identity(options, reinforcing.VERSION), shop.scorer_identity(reward.options())]
    trainer = shop.context.open("rl_trainer", options.method).fingerprint
    key = digest(["train_rl", told, trainer, shop.identifier(True), track.content()])
    # A whole example has the prompts of languages that the track leaves out as well.
    asked = (restricted(example, track.languages) for example in track.examples())
    with shop.manifest.step(f"{folder}/train") as step:
        summary = checkpoint.standing(target, key)
        step.update(worked=summary is None)
        if summary is None:
            summary = checkpoint.build(
                target,
                key,
                lambda unfinished: reinforcing.train_rl(asked, options, shop.context, unfinished),
            )
        step.update(rows=summary.get("rows"), steps=summary.get("steps"))
        if stopped := summary.get("stopped"):
            shop.tell(f"{name}: {stopped['said']}")
    shop.opener.close()
    return result, summary
