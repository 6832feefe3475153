"""Best-of-n in a run: samples of the unaligned model, every reward's pick among them, and what each n is worth.

One set of samples a prompt gives the whole curve and serves every reward. They are drawn with another seed than the
answers of the evaluation, which are their opponents in win rates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polypref import inputs
from polypref.backends.base import Sampling
from polypref.recipe_sections import Evaluate
from polypref.records import Example
from polypref.stages import best_of_n as stage
from polypref.stages import generate as generating
from polypref.stages import win_rates
from polypref.stages.evaluate import Evaluation
from polypref.stages.score import ScorerOptions
from polypref.store.atomic import digest
from polypref.store.results import keep, kept
from polypref.store.shards import Track
from polypref.workshop import Model, NamedScorer, Workshop

FOLDER = "best-of-n"
QUALITY = "quality"


STRIDE = 1_000_003
"""Between the seeds of one run, so that those of runs with seeds 0, 1, 2 … do not meet."""


@dataclass(frozen=True)
class Pick:
    """The best of the greatest n by one reward: a step of its own, whose answers are ``track``'s."""

    step: str
    reward: NamedScorer
    track: Track
    curve: dict[int, Evaluation]


@dataclass(frozen=True)
class Picks:
    """Every reward's pick of the same samples."""

    model: str
    n: tuple[int, ...]
    picks: tuple[Pick, ...] = ()

    def to_json(self, trained_on: Mapping[str, Sequence[str]], quality: str | None) -> dict[str, Any]:
        """``ReportData.best_of_n``."""
        rewards = {
            pick.reward.name: {
                "step": pick.step,
                "trained_on": list(trained_on.get(pick.reward.name, ())),
                "curves": stage.rows(pick.curve),
                "mean": stage.mean_rows(pick.curve),
            }
            for pick in self.picks
        }
        return {
            "model": self.model,
            "n": list(self.n),
            "samples": self.n[-1],
            "metric_of_quality": quality,
            "judge": quality,
            "rewards": rewards,
        }


def sampling_of(own: Sampling | None, evaluate: Evaluate, n: int) -> Sampling:
    """How the samples are drawn: as the answers of the evaluation, but with another seed in any case, since the same
    noise would draw the opponents of their win rates."""
    found = own or evaluate.sampling
    if found.seed == evaluate.sampling.seed:
        found = found.model_copy(update={"seed": found.seed + STRIDE})
    return Sampling(**{name: getattr(found, name) for name in Sampling.model_fields if name != "n"}, n=n)


def first(prompts: Track, limit: int) -> list[Example]:
    """The first examples that give each language as many prompts, or all that it has: prompts need not be parallel."""
    counts: Counter[str] = Counter()
    chosen = []
    for example in prompts.examples():
        there = [lang for lang in example.prompts if lang in prompts.languages]
        if any(counts[lang] < limit for lang in there):
            counts.update(there)
            chosen.append(example)
    return chosen


def samples(shop: Workshop, prompts: Track, folder: str, base: Model, sampling: Sampling, quality: bool) -> Track:
    """n samples of a model to every prompt, scored for quality where that is asked."""
    recipe = shop.recipe
    options = generating.GenerateOptions(
        sources=(generating.Source(role=base.name, model=shop.answering(base), n=sampling.n),),
        sampling=sampling,
        system=recipe.generate.system,
        keep_thinking=recipe.generate.keep_thinking,
    )
    track = shop.generate(prompts, f"{folder}/generate", options)
    if not quality or recipe.evaluate is None or recipe.evaluate.quality is None:
        return track
    scorer = ScorerOptions(scorer=recipe.evaluate.quality, model=recipe.evaluate.quality_model, name=QUALITY)
    return shop.scorer(track, f"{folder}/score-{QUALITY}", scorer)


def best_of_n(
    shop: Workshop, held_out: Track | None, base: Model, opponents: Track | None, scorers: Mapping[str, NamedScorer]
) -> Picks | None:
    """Every reward's pick and curve, on the held-out prompts; None where the recipe asks for none.

    Args:
        opponents: the base's answers of the evaluation, scored for quality; win rates by quality are against them.
    """
    section, evaluate = shop.recipe.best_of_n, shop.recipe.evaluate
    if section is None or evaluate is None or held_out is None:
        return None
    prompts = held_out
    if section.limit is not None:
        prompts = inputs.track(shop, f"{FOLDER}/prompts", first(held_out, section.limit), held_out.languages)
    sampling = sampling_of(section.sampling, evaluate, section.n[-1])
    judged = evaluate.quality is not None
    drawn = samples(shop, prompts, FOLDER, base, sampling, judged)
    if section.kl:
        drawn = shop.implicit(drawn, f"{FOLDER}/score-multilingual", "multilingual", base, base)
    picks = []
    for name in section.rewards or tuple(scorers):
        reward = scorers[name]
        track = shop.scorer(drawn, f"{FOLDER}/score-{name}", reward.options())
        options = stage.BestOfNOptions(
            score=name,
            n=section.n,
            quality=QUALITY if judged else None,
            temperature=section.temperature,
            seed=shop.recipe.seed,
            language_check=section.language_check,
            policy_logprob="multilingual_policy_logprob" if section.kl else None,
        )
        curve = _curve(shop, f"{FOLDER}/{name}/curve", track, options, opponents if judged else None)
        picked = stage.best_of_n(track.examples(), options.model_copy(update={"keep": "picked"}), shop.context)
        own = inputs.track(shop, f"{FOLDER}/{name}/picked", list(picked), held_out.languages)
        picks.append(Pick(f"best-of-{section.n[-1]}-{name}", reward, own, curve))
    return Picks(base.name, section.n, tuple(picks))


def _curve(
    shop: Workshop, name: str, track: Track, options: stage.BestOfNOptions, opponents: Track | None
) -> dict[int, Evaluation]:
    """n → the expected figures, with win rates by quality where there are opponents; kept as JSON."""
    told = [shop.identity(options, stage.VERSION), shop.identifier(options.language_check), track.content()]
    against = [win_rates.VERSION, opponents.content()] if opponents else []
    path, key = shop.out / f"{name}.json", digest([told, against])
    with shop.manifest.step(name) as step:
        found = kept(path, key)
        step.update(worked=found is None)
        if found is None:
            made = stage.evaluations(track.examples(), options, shop.context)
            if opponents:
                rates = win_rates.best_of_n_win_rates(
                    opponents.examples(), track.examples(), options, QUALITY, shop.context
                )
                made = {n: evaluation.merge(rates[n]) for n, evaluation in made.items()}
            found = keep(path, key, {str(n): evaluation.to_json() for n, evaluation in made.items()})
            shop.opener.close()
    return {int(n): Evaluation.from_json(content) for n, content in found.items()}
