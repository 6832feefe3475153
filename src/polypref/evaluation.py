"""The evaluation of a run: every model answers the held-out prompts, and every figure comes with its error and n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polypref import best_of_n_steps, imbalance_steps, inputs, registry, win_rate_steps
from polypref.best_of_n_steps import QUALITY, Picks
from polypref.recipe_sections import Evaluate
from polypref.reward_steps import Rewards
from polypref.stages import evaluate as evaluating
from polypref.stages import generate as generating
from polypref.stages import language_fidelity as fidelity
from polypref.stages import score as scoring
from polypref.stages import standard_tasks
from polypref.stages.judgments import Judgment
from polypref.store.shards import Track
from polypref.workshop import Model, NamedScorer, Reward, Round, Workshop

LABELLED_ORIGINS = ("sampled", "reference", "human", None)


@dataclass(frozen=True)
class Evaluated:
    """What was measured: step → its evaluation; what best-of-n picked; what judges of pairs said."""

    evaluations: dict[str, evaluating.Evaluation] = field(default_factory=dict)
    picks: Picks | None = None
    judgments: list[Judgment] = field(default_factory=list)


def models(shop: Workshop, rounds: Sequence[Round]) -> list[Model]:
    """The run's models, each once: the reference, the policy, every round's baselines and model."""
    found = [shop.reference, shop.policy, *(model for r in rounds for model in (*r.baselines, r.result))]
    return list({model.name: model for model in found}.values())


def evaluate_models(shop: Workshop, rounds: Sequence[Round], held_out: Track | None, rewards: Rewards) -> Evaluated:
    """The reference, the policy, every round's model and the baselines, and what best-of-n makes of the policy."""
    section = shop.recipe.evaluate
    reference = shop.reference
    on_training = imbalance_steps.worth(shop, rounds, held_out)
    out: dict[str, evaluating.Evaluation] = {}
    answered: dict[str, Track] = {}
    picks = None
    judgments: list[Judgment] = []
    shop.meet_the_unseen()
    if section is not None and held_out is not None:
        for model in models(shop, rounds):
            answered[model.name], out[model.name] = _evaluate(shop, section, held_out, model, reference)
        for reward in _rewards(rounds):
            accuracy = _reward_accuracy(shop, section, held_out, reward, [reference, reward.policy])
            out[reward.policy.name] = out[reward.policy.name].merge(accuracy)
        for scorer in _scorers(rounds):
            answerers = {model.name: model for model in (reference, shop.policy, *(r.result for r in rounds))}
            accuracy = _scorer_accuracy(shop, section, held_out, scorer, list(answerers.values()))
            out[scorer.name] = out.get(scorer.name, evaluating.Evaluation()).merge(accuracy)
        picks = _best_of_n(shop, section, held_out, rewards, answered, out)
        judgments = _win_rates(shop, section, rounds, rewards, picks, answered, out)
    for found in (labelled_accuracy(shop, rounds), on_training):
        for name, figures in found.items():
            out[name] = out.get(name, evaluating.Evaluation()).merge(figures)
    return Evaluated({name: evaluation for name, evaluation in out.items() if evaluation.values}, picks, judgments)


def _best_of_n(
    shop: Workshop,
    section: Evaluate,
    held_out: Track,
    rewards: Rewards,
    answered: dict[str, Track],
    out: dict[str, evaluating.Evaluation],
) -> Picks | None:
    """The picks of best-of-n join the models as steps of their own."""
    base = shop.policy
    scorers = {n: r for n, r in rewards.scorers.items() if r.spec.scorer not in registry.COMPARERS}
    picks = best_of_n_steps.best_of_n(shop, held_out, base, answered[base.name], scorers)
    if picks is None:
        return None
    for pick in picks.picks:
        answered[pick.step] = pick.track
        options = _figures(section)
        out[pick.step] = _measure(shop, f"{best_of_n_steps.FOLDER}/{pick.reward.name}/figures", pick.track, options)
        if "kl" in pick.curve[picks.n[-1]].values:
            out[pick.step].values["kl"] = pick.curve[picks.n[-1]].values["kl"]
    return picks


def _win_rates(
    shop: Workshop,
    section: Evaluate,
    rounds: Sequence[Round],
    rewards: Rewards,
    picks: Picks | None,
    answered: Mapping[str, Track],
    out: dict[str, evaluating.Evaluation],
) -> list[Judgment]:
    """Who wins against the policy that round 1 starts from, and what each step's own reward thinks of it."""
    made_by = {pick.step: [pick.reward.name] for pick in picks.picks} if picks else {}
    for now in rounds:
        made_by |= {model: [reward.name] for model, reward in now.made_by.items()}
    found, judgments = win_rate_steps.win_rates(shop, rewards, shop.policy.name, answered, made_by)
    for step, evaluation in found.items():
        out[step] = out[step].merge(evaluation)
    lead = next((r.reward for r in rounds if isinstance(r.reward, NamedScorer)), None)
    if lead is None and picks and picks.picks:
        lead = picks.picks[0].reward
    if lead is not None:
        for step in [shop.policy.name, *(s for s, names in made_by.items() if lead.name in names)]:
            if values := out[step].values.get(f"score_by_{lead.name}"):
                out[step].values["reward"] = values
    if section.by_category:
        for step, track in answered.items():
            categories = {example.id: example.category for example in track.examples()}
            for metric in ("quality", "win_rate"):
                out[step].add_by_category(metric, categories)
    return judgments


def _rewards(rounds: Sequence[Round]) -> list[Reward]:
    """The implicit rewards that the rounds scored with, each once."""
    return list({r.reward.policy.name: r.reward for r in rounds if isinstance(r.reward, Reward)}.values())


def _scorers(rounds: Sequence[Round]) -> list[NamedScorer]:
    """The reward models that the rounds scored with, each once."""
    return list({r.reward.name: r.reward for r in rounds if isinstance(r.reward, NamedScorer)}.values())


def _figures(section: Evaluate) -> evaluating.EvaluateOptions:
    """What is measured of answers as they are."""
    quality = QUALITY if section.quality is not None else None
    return evaluating.EvaluateOptions(language_fidelity=section.language_fidelity, quality=quality)


def _evaluate(
    shop: Workshop, section: Evaluate, held_out: Track, model: Model, reference: Model
) -> tuple[Track, evaluating.Evaluation]:
    """One model's own answers: quality, language, length, and the divergence from the reference."""
    folder = f"evaluation/{model.name}"
    options = generating.GenerateOptions(
        sources=(generating.Source(role=model.name, model=shop.answering(model), n=section.sampling.n),),
        sampling=section.sampling,
        system=shop.recipe.generate.system,
        keep_thinking=shop.recipe.generate.keep_thinking,
    )
    track = shop.generate(held_out, f"{folder}/generate", options)
    figures: dict[str, Any] = {}
    if section.quality is not None:
        scorer = scoring.ScorerOptions(scorer=section.quality, model=section.quality_model, name=QUALITY)
        track = shop.scorer(track, f"{folder}/score-{QUALITY}", scorer)
    answered = track
    if section.kl and model.name != reference.name:
        # The divergence is read off the multilingual view: both log-probabilities under the answered prompt.
        track = shop.implicit(track, f"{folder}/policy_samples/score-multilingual", "multilingual", model, reference)
        figures = {
            "policy_logprob": "multilingual_policy_logprob",
            "reference_logprob": "multilingual_reference_logprob",
        }
    options = _figures(section).model_copy(update=figures)
    found = _measure(shop, f"{folder}/figures", track, options)
    if section.language_fidelity:
        found = found.merge(_languages(shop, f"{folder}/languages", answered))
    return answered, found


def _languages(shop: Workshop, name: str, track: Track) -> evaluating.Evaluation:
    """Language fidelity line by line and word by word, and which languages were answered in."""
    options = fidelity.LanguageFidelityOptions()
    settings = [shop.identity(options, fidelity.VERSION), shop.identifier(True)]
    return shop.measure(name, track, settings, lambda found: fidelity.figures(found.examples(), options, shop.context))


def _measure(shop: Workshop, name: str, track: Track, options: evaluating.EvaluateOptions) -> evaluating.Evaluation:
    """The figures of a track that the options name."""
    settings = [shop.identity(options, evaluating.VERSION), shop.identifier(options.language_fidelity)]
    return shop.measure(
        name, track, settings, lambda found: evaluating.evaluate(found.examples(), options, shop.context)
    )


def _reward_accuracy(
    shop: Workshop, section: Evaluate, held_out: Track, reward: Reward, answerers: Sequence[Model]
) -> evaluating.Evaluation:
    """How often the implicit reward prefers a right answer to a wrong one, view by view.

    ``reward_accuracy_<view>`` is on the reference's answers. On its policy's own answers,
    ``reward_accuracy_<view>_policy_samples``, it shows the blind spot: a reward made from a policy forgives the
    mistakes that this policy prefers.
    """
    out = evaluating.Evaluation()
    if section.quality is None:
        return out
    for answerer, suffix in zip(answerers, ("reference_samples", "policy_samples"), strict=True):
        answered = f"evaluation/{answerer.name}"
        track = held_out.over(f"{answered}/generate").over(f"{answered}/score-{QUALITY}")
        scores = {}
        if "translated" in section.reward_accuracy:
            track = _translated(shop, track, f"{answered}/translate")
        for view in section.reward_accuracy:
            name = f"evaluation/{reward.policy.name}/{suffix}/score-{view}"
            track = shop.implicit(track, name, view, reward.policy, reward.reference)
            scores[view] = view
        options = evaluating.EvaluateOptions(reward_accuracy=scores, truth=QUALITY, language_fidelity=False)
        found = _measure(shop, f"evaluation/{reward.policy.name}/{suffix}/figures", track, options)
        for view in scores:
            metric = f"reward_accuracy_{view}"
            values = found.values.get(metric, {})
            out.values[f"{metric}_{suffix}"] = values
            if suffix == "reference_samples":
                out.values[metric] = values
    return out


def _scorer_accuracy(
    shop: Workshop, section: Evaluate, held_out: Track, reward: NamedScorer, answerers: Sequence[Model]
) -> evaluating.Evaluation:
    """How often a reward model prefers a right answer to a wrong one among each model's own answers:
    ``accuracy_on_<model>``. Far below the first on the last says that its policy has learned its blind spots."""
    out = evaluating.Evaluation()
    if section.quality is None:
        return out
    for answerer in answerers:
        answered = f"evaluation/{answerer.name}"
        track = held_out.over(f"{answered}/generate").over(f"{answered}/score-{QUALITY}")
        name = f"evaluation/{reward.name}/{answerer.name}"
        track = shop.scorer(track, f"{name}/score-{reward.name}", reward.options())
        options = evaluating.EvaluateOptions(
            reward_accuracy={reward.name: reward.name}, truth=QUALITY, language_fidelity=False
        )
        found = _measure(shop, f"{name}/figures", track, options)
        if values := found.values.get(f"reward_accuracy_{reward.name}"):
            out.values[f"accuracy_on_{answerer.name}"] = values
    return out


def _translated(shop: Workshop, track: Track, name: str, origins: tuple[str | None, ...] = ("sampled",)) -> Track:
    """The answers with their translations into the pivot, by the policy that round 1 starts from unless the recipe
    names another: one translator for all that is compared."""
    section = shop.recipe.translate
    if section is None:  # the recipe is refused without one
        return track
    options = section.options(shop.answering(shop.policy))
    return shop.translate(track, name, options.model_copy(update={"directions": ("to_pivot",), "origins": origins}))


def with_standard_tasks(
    shop: Workshop, rounds: Sequence[Round], results: Mapping[str, Any], former: Mapping[str, Any]
) -> dict[str, Any]:
    """The figures of standard tasks and the tables of the tax that ``polypref evaluate tasks`` and ``tax`` put into the
    former results.json, with the results of this time. Those of a model that the run has made anew are left out, and
    said."""
    put = former.get("standard_tasks") or {}
    known = models(shop, rounds) if put and shop.recipe.answers else []
    who = {model.name: registry.fingerprint(model.spec) for model in known if model.name in put}
    found = standard_tasks.carried(former, results, who)
    for name in put.keys() - (found["standard_tasks"] or {}).keys():
        shop.tell(
            f"{name} is another model than the one that was put standard tasks, so their figures are left out; remove "
            f"{shop.out / standard_tasks.FOLDER / name} and run polypref evaluate tasks again"
        )
    return found


def labelled_accuracy(shop: Workshop, rounds: Sequence[Round]) -> dict[str, evaluating.Evaluation]:
    """Step name → the reward accuracy on the user's labelled answers, for every reward that a round used."""
    section = shop.recipe.evaluate
    if section is None or section.labelled is None:
        return {}
    labelled = inputs.labelled(shop, section.labelled)
    out = {}
    for reward in _rewards(rounds):
        track, folder = labelled, f"evaluation/{reward.policy.name}/labelled"
        views = section.reward_accuracy or shop.recipe.views
        if "translated" in views:
            track = _translated(shop, track, "evaluation/labelled/translate", LABELLED_ORIGINS)
        for view in views:
            track = shop.implicit(track, f"{folder}/score-{view}", view, reward.policy, reward.reference)
        options = evaluating.EvaluateOptions(
            reward_accuracy={v: v for v in views},
            origins=("sampled", "reference", "human", "translated"),
            truth="pairs" if any(e.pairs for e in labelled.examples()) else None,
            language_fidelity=False,
        )
        out[reward.policy.name] = _measure(shop, f"{folder}/figures", track, options)
    return out
