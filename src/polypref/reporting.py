"""The end of a run: results.json, the page that is made of it alone, and the data that it is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polypref import diagnosis_steps, evaluation, reuse_results
from polypref.best_of_n_steps import QUALITY
from polypref.errors import InputError
from polypref.inputs import training_prompts
from polypref.recipe import Recipe, as_tree
from polypref.recipe_file import read_recipe
from polypref.recipe_rewards import ModelReward
from polypref.recipe_sections import ImbalancePair, Pair, RLTrain
from polypref.records import Example, last_user_text
from polypref.reward_steps import Findings, Rewards
from polypref.stages import evaluate as evaluating
from polypref.stages.dominance import Dominance
from polypref.stages.report import VERSION as REPORT_VERSION
from polypref.stages.report import ReportData, SamplePair, render
from polypref.stages.signatures import all_subjects as subjects
from polypref.store.atomic import digest, write_json, write_text
from polypref.store.lock import locked
from polypref.store.manifest import versions
from polypref.store.shards import Track
from polypref.workshop import NamedScorer, Round, Workshop

RESULTS, PAGE = "results.json", "report.html"


@dataclass(frozen=True)
class Made:
    """What a run made and found, on its way into results.json."""

    rounds: Sequence[Round] = ()
    evaluated: evaluation.Evaluated = field(default_factory=evaluation.Evaluated)
    lead: Dominance | None = None
    found: Findings = field(default_factory=Findings)
    rewards: Rewards = field(default_factory=lambda: Rewards({}))
    diagnosis: dict[str, Any] | None = None
    sft: dict[str, Any] | None = None


def publish(shop: Workshop, made: Made) -> ReportData:
    """Write results.json and report.html and give what they show; left alone where they stand for the same run."""
    picked = reuse_results.best_of_n(shop, made.evaluated, made.rewards)
    content = [
        as_tree(shop.recipe),
        versions(),
        shop.manifest.said(),
        [now.track.content() for now in made.rounds],
        {name: evaluation.to_json() for name, evaluation in made.evaluated.evaluations.items()},
        made.lead.to_json() if made.lead else None,
        dataclasses.asdict(made.found),
        [made.diagnosis, made.sft, picked],
        [now.trainings for now in made.rounds],
        [judgment.row() for judgment in made.evaluated.judgments],
        REPORT_VERSION,
    ]
    key = digest(content)
    standing = _read(shop.out) or {}
    if (shop.out / PAGE).exists() and standing.get("key") == key:
        return _from_results(standing)
    data = gather(shop, made, picked)
    results = _as_results(data)
    base = [shop.policy.name] if made.evaluated.evaluations else []
    steps = [about["after"] for about in subjects(results) if about["after"]]
    gains = reuse_results.gains(made.evaluated, base[0], steps) if base else []
    signs = reuse_results.signatures(shop.recipe, results, gains)
    # Of a run that measures nothing there is nothing to say.
    data = dataclasses.replace(data, signatures=signs if any(signs["examined"].values()) else None)
    data = dataclasses.replace(data, **evaluation.with_standard_tasks(shop, made.rounds, data.results, standing))
    reuse_results.write_judgments(shop.out, made.evaluated, data)
    write_text(shop.out / PAGE, render(data))
    write_json(shop.out / RESULTS, {**_as_results(data), "sft": made.sft, "key": key})
    return data


PARTS = (
    *("rounds", "notes", "timings", "dominance", "unseen", "rewards", "representation"),
    *("best_of_n", "alignments", "diagnosis", "signatures", "judgments", "standard_tasks", "alignment_tax"),
)


def _as_results(data: ReportData) -> dict[str, Any]:
    """The object of results.json."""
    results = evaluating.results(
        data.results,
        config=data.config,
        versions=data.versions,
        date=data.date,
        seed=data.seed,
        signature=data.signature,
        comparisons=data.comparisons,
    )
    more = {name: getattr(data, name) for name in PARTS}
    return {**results, **more, "samples": [dataclasses.asdict(sample) for sample in data.samples]}


def again(folder: Path) -> ReportData:
    """Make the page of a finished run again from its results.json: no model is needed, and nothing else is read.

    Raises:
        UserError: the run is not finished, or another process writes it.
    """
    found = _read(folder)
    if found is None:
        recipe_of(folder)
        raise InputError(f"{folder} holds no results yet; finish it with: polypref run {folder / 'recipe.yaml'}")
    try:
        data = _from_results(found)
        page = render(data)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / RESULTS} is not as polypref wrote it ({error!r:.80}); run its recipe") from error
    with locked(folder, lambda message: None):
        write_text(folder / PAGE, page)
    return data


def _read(folder: Path) -> dict[str, Any] | None:
    """results.json, None when it is not there or not whole."""
    try:
        found = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"results", "config", "samples"} <= found.keys() else None


def _from_results(found: Mapping[str, Any]) -> ReportData:
    names = {field.name for field in dataclasses.fields(ReportData)} - {"name", "samples"}
    samples = [SamplePair(**sample) for sample in found["samples"]]
    return ReportData(
        name=found["config"]["name"], samples=samples, **{name: found[name] for name in names if name in found}
    )


def gather(shop: Workshop, made: Made, picked: dict[str, Any] | None) -> ReportData:
    """Everything that the report shows but the signs of failure, from the run's steps."""
    recipe, rounds, found = shop.recipe, made.rounds, made.found
    evaluations = made.evaluated.evaluations
    return ReportData(
        name=recipe.name,
        date=evaluating.now(),
        seed=recipe.seed,
        signature=evaluating.signature(_settings(shop, found), versions()["polypref"]),
        results=_results({name: evaluation.figures() for name, evaluation in evaluations.items()}, found.figures),
        comparisons=_comparisons(shop, rounds, evaluations),
        rounds=[_round(shop, now) for now in rounds],
        samples=[sample for now in rounds for sample in _samples(shop, now)],
        notes=[*_roles(shop, rounds), *shop.manifest.said()],
        config=as_tree(recipe),
        versions=versions(),
        timings=shop.manifest.seconds(),
        dominance=made.lead.to_json() if made.lead else None,
        unseen=list(shop.unseen),
        rewards=found.rewards,
        representation=found.representation,
        best_of_n=picked,
        alignments=reuse_results.alignments(shop, rounds, made.evaluated, made.rewards, found),
        diagnosis=made.diagnosis,
        judgments=reuse_results.judgments(made.evaluated),
    )


def _results(of_models: Mapping[str, Any], of_rewards: Mapping[str, Any]) -> dict[str, Any]:
    """Step → language → figures; a reward may have both its own and those on the models' answers."""
    out = {name: dict(figures) for name, figures in of_models.items()}
    for name, by_language in of_rewards.items():
        mine = out.get(name, {})
        out[name] = {lang: {**mine.get(lang, {}), **figures} for lang, figures in by_language.items()}
        out[name] |= {lang: figures for lang, figures in mine.items() if lang not in by_language}
    return out


def _settings(shop: Workshop, found: Findings) -> dict[str, Any]:
    """What the figures' signature says, part by part."""
    recipe = shop.recipe
    settings: dict[str, Any] = _reward_settings(recipe, found.rewards or {})
    if recipe.rounds:
        settings |= _round_settings(shop)
    if recipe.answers and recipe.evaluate is not None:
        sampling = recipe.evaluate.sampling
        settings |= {
            "quality": recipe.evaluate.quality,
            "eval_n": sampling.n,
            "eval_t": sampling.temperature,
            "eval_p": sampling.top_p,
        }
    return settings | {"seed": recipe.seed}


def _reward_settings(recipe: Recipe, found: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if recipe.reward_models:
        train = recipe.reward_models.train
        settings |= {"rm": train.method, "rm_loss": train.loss, "rm_select": train.select}
    if recipe.judge:
        settings |= {"benchmark": recipe.judge.benchmark, "items": recipe.judge.items, "judged": found["judged"]}
    if recipe.representation:
        shown = recipe.representation
        settings |= {"layers": shown.layers, "pooling": shown.pooling, "centre": shown.centre, "text": shown.text}
    return settings


def _round_settings(shop: Workshop) -> dict[str, Any]:
    recipe = shop.recipe
    pair = recipe.pair
    if isinstance(recipe.train, RLTrain):
        return _rl_settings(recipe, recipe.train)
    if isinstance(pair, ImbalancePair):
        settings: dict[str, Any] = {"rule": pair.rule, "lead": shop.pivot, "pivot_pairs": pair.pivot_pairs}
    elif isinstance(recipe.reward, ModelReward):
        control = pair.length_control if isinstance(pair, Pair) else None
        settings = {"reward": recipe.reward.model, "rule": pair.rule, "length_control": control}
    else:
        settings = {
            "view": recipe.reward.views[0],
            "beta": recipe.reward.beta,
            "reward_reference": recipe.reward.reference,
            "length_control": pair.length_control if isinstance(pair, Pair) else None,
        }
    return settings | {
        "n": recipe.generate.n,
        "t": recipe.generate.temperature,
        "p": recipe.generate.top_p,
        "from": recipe.generate.source,
        "train": recipe.train.method,
        "nll": recipe.train.nll_weight,
    }


def _rl_settings(recipe: Recipe, train: RLTrain) -> dict[str, Any]:
    return {
        "reward": recipe.reward.model if isinstance(recipe.reward, ModelReward) else None,
        "train": train.method,
        "rl_n": train.n,
        "rl_t": train.temperature,
        "rl_beta": train.beta,
        "select": train.select,
    }


def _comparisons(
    shop: Workshop, rounds: Sequence[Round], evaluations: Mapping[str, evaluating.Evaluation]
) -> list[dict[str, Any]]:
    """Each model against the one it came from and the baselines of its pairs; the last entry is the whole way, from the
    given policy to the end."""
    if not rounds:
        return []
    reference, policy = shop.reference, shop.policy
    steps = [(reference.name, policy.name, "step"), *((r.start.name, r.result.name, "step") for r in rounds)]
    steps += [(other.name, r.result.name, "baseline") for r in rounds for other in r.baselines]
    if len(rounds) > 1:
        steps += [(policy.name, r.result.name, "whole") for r in rounds[1:]]
    others = [lang for lang in shop.languages if lang != shop.pivot]
    out = []
    for before, after, kind in steps:
        pair = [evaluations.get(name) for name in (before, after)]
        if before != after and all(e is not None and QUALITY in e.values for e in pair):
            known = [lang for lang in others if all(lang in e.values[QUALITY] for e in pair if e is not None)]
            found = evaluating.compare(*pair, names=(before, after), metric=QUALITY, mean_over=known or None)  # type: ignore[arg-type]
            out.append({**found, "kind": kind})
    return out


def _round(shop: Workshop, now: Round) -> dict[str, Any]:
    drops: dict[str, dict[str, Counter[str]]] = {}
    for example in now.track.examples():
        for drop in example.dropped:
            by_language = drops.setdefault(drop.stage, {})
            by_language.setdefault(drop.lang or "", Counter())[drop.reason] += 1
    languages = {"pair": now.summaries["pair"]}
    summaries: dict[str, Any] = {
        stage: {
            "languages": languages.get(stage, {}),
            "dropped": {lang: dict(sorted(counts.items())) for lang, counts in sorted(drops.get(stage, {}).items())},
        }
        for stage in dict.fromkeys((*drops, "pair"))
    }
    return {
        "round": now.number,
        "model": now.result.name,
        "starts_from": now.start.name,
        "reward": _reward(now),
        "train_reference": now.train_reference.name,
        "made_by": {name: reward.name for name, reward in now.made_by.items()},
        "trainings": reuse_results.trainings(shop.recipe, now),
        "summaries": summaries,
    }


def _reward(now: Round) -> dict[str, str] | None:
    if isinstance(now.reward, NamedScorer):
        return {"model": now.reward.name}
    return {"policy": now.reward.policy.name, "reference": now.reward.reference.name} if now.reward else None


def _roles(shop: Workshop, rounds: Sequence[Round]) -> list[str]:
    """Who did what, in words: the three roles and the model that sampled."""
    shares = shop.recipe.generate.shares
    train = shop.recipe.train
    notes = []
    for now in rounds:
        if isinstance(train, RLTrain) and isinstance(now.reward, NamedScorer):
            notes.append(
                f"Round {now.number}: {now.start.name} was trained by {reuse_results.LABELS[train.method]} on its own "
                f"answers, {train.n} a prompt, rewarded by {now.reward.name} and held to {now.start.name} with β "
                f"{train.beta:g}; the result is {now.result.name}."
            )
            continue
        names = {"policy": now.start.name, "reference": shop.reference.name}
        answered = " and ".join(f"{n} from {names[role]}" for role, n in shares.items())
        section = shop.recipe.translate
        if isinstance(now.reward, NamedScorer):
            decided = f"scored by {now.reward.name}"
        elif now.reward:
            decided = f"scored by {now.reward.policy.name} against {now.reward.reference.name}"
        else:
            translator = section.role(now.start.name) if section else now.start.name
            decided = f"translated by {translator}, {shop.pivot}'s preferred"
        notes.append(
            f"Round {now.number}: answers a prompt and language: {answered}; {decided}; trained from {now.start.name}, "
            f"pulled towards {now.train_reference.name}; the result is {now.result.name}."
        )
    return notes


def _samples(shop: Workshop, now: Round) -> Iterator[SamplePair]:
    """A few pairs a language, drawn by the hash of their example's id, so that nobody has picked them."""
    wanted = shop.recipe.report_samples
    best: dict[str, list[tuple[str, Example]]] = {lang: [] for lang in shop.languages}
    for example in now.track.examples():
        rank = hashlib.sha256(f"{shop.recipe.seed}/{example.id}".encode()).hexdigest()
        for lang in {pair.lang for pair in example.pairs}:
            best[lang] = sorted([*best[lang], (rank, example)], key=lambda entry: entry[0])[:wanted]
    for lang, examples in best.items():
        for _, example in examples:
            pair = next(p for p in example.pairs if p.lang == lang)
            chosen, rejected = example.candidate(pair.chosen), example.candidate(pair.rejected)
            yield SamplePair(
                round=now.number,
                lang=lang,
                prompt=last_user_text(example.prompts[lang]),
                chosen=chosen.text,
                rejected=rejected.text,
                margin=pair.margin,
                score_chosen=chosen.scores.get(pair.score or ""),
                score_rejected=rejected.scores.get(pair.score or ""),
            )


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a run's folder.

    Raises:
        InputError: it is none.
    """
    if not (folder / "recipe.yaml").exists():
        raise InputError(f"{folder} is no run's folder: it holds no recipe.yaml; name one under runs/")
    return read_recipe(folder / "recipe.yaml")


def last_pairs(folder: Path, recipe: Recipe) -> Iterator[Example]:
    """The examples of a run's last round that is paired, with their pairs.

    Raises:
        InputError: no round is paired yet.
    """
    if recipe.rounds and isinstance(recipe.train, RLTrain):
        raise InputError(f"{folder} is a run whose rounds train by reinforcement, which makes no pairs")
    prompts = Track(folder, training_prompts(recipe), (), _pivot(folder, recipe))
    known = dict.fromkeys(lang for index in range(prompts.count) for e in prompts.base(index) for lang in e.prompts)
    for number in range(recipe.rounds, 0, -1):
        spoken = diagnosis_steps.languages_left(folder, recipe, recipe.languages or tuple(known))
        track = dataclasses.replace(prompts, languages=spoken)
        track = track.over(f"round-{number}/generate")
        if isinstance(recipe.pair, ImbalancePair):
            track = track.over(f"round-{number}/translate", "with_pivot").over(f"round-{number}/pair", "whole")
        else:
            track = track.over(f"round-{number}/score-{recipe.pair_layer}").over(f"round-{number}/pair")
        if track.whole():
            return track.examples()
    if not recipe.rounds:
        raise InputError(f"{folder} is a run without rounds, so it has no pairs; run its recipe with --set rounds=1")
    raise InputError(f"{folder} holds no pairs yet; finish it with: polypref run {folder / 'recipe.yaml'}")


def _pivot(folder: Path, recipe: Recipe) -> str:
    """The pivot of a run; where a probe found it, the manifest tells."""
    try:
        return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["pivot"])
    except (OSError, ValueError, KeyError):
        return recipe.pivot
