"""The works of a recipe in the order of its run: data, SFT, rewards, alignment, rounds. The evaluation is planned by
``estimate_evaluation``."""

from __future__ import annotations

import math
from dataclasses import replace

from polypref import registry
from polypref.backends.base import Sampling, ScorerSpec
from polypref.estimate_plan import CANDIDATE, PAIR, PROMPT, Plan
from polypref.estimate_work import (
    Assumed,
    Data,
    Texts,
    Work,
    bytes_a_token,
    first,
    only,
    prompt_tokens_of,
    prompts_of,
    row_tokens_of,
    text_bytes,
    whole_shards,
    without,
)
from polypref.recipe import Recipe
from polypref.recipe_rewards import ModelReward
from polypref.recipe_sections import AnyPair, ImbalancePair, RLTrain, Train, Translate


def plan(recipe: Recipe, data: Data, assumed: Assumed) -> Plan:
    """All works of a run up to its evaluation."""
    made = Plan(recipe, data, assumed)
    _prompts(made)
    _sft(made)
    _rewards(made)
    _alignment(made)
    if recipe.rounds:
        if (section := recipe.translate_prompts) is not None:
            others = without(data.training, recipe.pivot)
            each = prompt_tokens_of(others) / max(prompts_of(others), 1)
            made.translate("prompts/translate", others, 1, each, section)
        _probe(made)
    _diagnosis(made)
    for number in range(1, recipe.rounds + 1):
        _round(made, number)
    return made


def _prompts(made: Plan) -> None:
    data = made.data
    given = {"prompts": data.training, "evaluation/prompts": data.held_out, "alignment/prompts": data.alignment}
    for stage, texts in given.items():
        size = sum(text_bytes({lang: part}, part.prompt_tokens, 1) for lang, part in texts.items())
        files, count = whole_shards(texts, made.recipe.shard_size), prompts_of(texts)
        made.add(Work(stage, "figures", sequences=count, text_bytes=size, row_bytes=count * PROMPT, shards=files))
    rows = {"rewards-data/training": (data.preferences, data.validation), "judge/data": (data.judged,)}
    for stage, several in rows.items():
        size = sum(p.rows * p.row_tokens * bytes_a_token(lang) for texts in several for lang, p in texts.items())
        files = sum(whole_shards(texts, made.recipe.shard_size) for texts in several)
        count = sum(2 * part.rows for texts in several for part in texts.values())
        made.add(Work(stage, "figures", sequences=count, text_bytes=size, row_bytes=count * CANDIDATE, shards=files))


def _sft(made: Plan) -> None:
    section, data = made.recipe.sft, made.data
    if section is None:
        return
    train = section.train
    if section.translate is not None:
        others = data.demonstrations if section.translate.back else without(data.demonstrations, made.recipe.pivot)
        each = row_tokens_of(others) / max(sum(p.rows for p in others.values()), 1)
        made.translate("sft/translated", others, 2 if section.translate.back else 1, each, section.translate)
    rows = sum(part.rows for part in data.demonstrations.values())
    times = train.max_steps * train.batch_size / max(rows, 1) if train.max_steps else train.epochs
    made.trained("sft", rows * times, row_tokens_of(data.demonstrations) * times, train)
    held = sum(part.rows for part in data.demonstrations_held.values()) * train.evaluations
    if train.select in ("chrf", "scorer"):
        sampling = Sampling(n=train.evaluations, max_tokens=section.max_tokens)
        made.generate("sft: answers to select by", data.demonstrations_held, sampling, section.start)
    elif train.select == "loss":
        tokens = row_tokens_of(data.demonstrations_held) * train.evaluations
        made.add(Work("sft: loss to select by", "score", "policy", sequences=held, tokens_in=tokens))


def _rewards(made: Plan) -> None:
    recipe, data, section = made.recipe, made.data, made.recipe.reward_models
    names: dict[str, ScorerSpec | None] = dict(recipe.rewards)
    sides = 1 if section and section.train.loss == "pointwise" else 2
    if section is not None:
        if section.translate is not None:
            others = without(data.preferences, recipe.pivot)
            each = row_tokens_of(others) / max(sum(p.rows * sides for p in others.values()), 1)
            made.translate("rewards-data/source/translate", others, sides, each, section.translate)
        for name, languages in section.languages_of(tuple(data.preferences)).items():
            own, held = only(data.preferences, *languages), only(data.validation, *languages)
            rows = sum(part.rows for part in own.values())
            times = section.train.epochs
            if section.train.max_steps:
                times = section.train.max_steps * section.train.batch_size / max(rows, 1)
            if section.train.method == "transformer":
                made.trained(
                    f"rewards/{name}", rows * sides * times, row_tokens_of(own) * times, section.train, who="reward"
                )
                looked = sum(part.rows for part in held.values()) * sides * section.train.evaluations
                tokens = row_tokens_of(held) * section.train.evaluations
                made.add(Work(f"rewards/{name}: validation", "score", "reward", sequences=looked, tokens_in=tokens))
            else:
                made.free(f"rewards/{name}", "figures", rows * sides)
            names[name] = None
            if recipe.judge is not None and recipe.judge.training_limit:
                looked = sum(min(part.rows, recipe.judge.training_limit) for part in own.values()) * sides
                tokens = row_tokens_of(own) * looked / max(rows * sides, 1)
                made.scored(f"judge/training-sample/{name}/score-{name}", own, looked, tokens, None)
    if recipe.judge is not None:
        judged = data.judged or data.validation
        rows = sum(part.rows for part in judged.values())
        for name, spec in names.items():
            pairs = spec is not None and spec.scorer in registry.COMPARERS
            stage = f"judge/data/{name}" if pairs else f"judge/data/{name}/score-{name}"
            # A judge of pairs is asked in both orders, any other scorer reads both answers: two sequences a row.
            made.scored(stage, judged, 2 * rows, row_tokens_of(judged) * (2 if pairs else 1), spec)
    if recipe.representation is not None:
        texts = first(data.judged or data.validation or data.training, recipe.representation.limit)
        count = prompts_of(texts) * (len(names) + 1)
        tokens = prompt_tokens_of(texts) * (len(names) + 1) + count * made.assumed.template_tokens
        made.add(Work("representation", "score", "reward", sequences=count, tokens_in=tokens))


def _alignment(made: Plan) -> None:
    section, texts = made.recipe.alignment, made.data.alignment
    if section is None:
        return
    answer, n = made.answer(section.generate.max_tokens), section.generate.n
    if section.scorer is not None:
        made.generate("alignment/generate", texts, section.generate, made.recipe.models.reference)
        made.scorer("alignment/score", texts, n, answer, ScorerSpec(scorer=section.scorer))
        _paired(made, "alignment/pair", texts, n, 1.0, section.pair)
    _preferences_trained(made, "alignment/train", texts, 1.0, answer, section.train)


def _probe(made: Plan) -> None:
    recipe, pair = made.recipe, made.recipe.pair
    if not isinstance(pair, ImbalancePair) or pair.dominant != "auto":
        return
    texts = first(made.data.training, pair.probe.limit)
    made.generate("probe/generate", texts, recipe.generate, recipe.models.policy)
    evaluate = recipe.evaluate
    name, model = pair.probe.scorer, pair.probe.scorer_model
    if name is None and evaluate:
        name, model = evaluate.quality, evaluate.quality_model
    answer = made.answer(recipe.generate.max_tokens)
    made.scorer("probe/score-quality", texts, recipe.generate.n, answer, ScorerSpec(scorer=str(name), model=model))


def _diagnosis(made: Plan) -> None:
    recipe, section, evaluate = made.recipe, made.recipe.diagnose, made.recipe.evaluate
    if section is None or evaluate is None:
        return
    texts = first(made.data.diagnosis or made.data.training, section.limit)
    sampling: Sampling = section.sampling or evaluate.sampling
    answer = made.answer(sampling.max_tokens)
    quality = ScorerSpec(scorer=evaluate.quality, model=evaluate.quality_model) if evaluate.quality else None
    for folder, n in (("diagnosis", section.n), ("diagnosis/single", 1)):
        made.generate(f"{folder}/generate", texts, sampling.model_copy(update={"n": n}), recipe.models.policy)
        if quality:
            made.scorer(f"{folder}/score-quality", texts, n, answer, quality)
    named = section.rewards or ((recipe.reward.model,) if isinstance(recipe.reward, ModelReward) else ())
    for name in named:
        made.scorer(f"diagnosis/score-{name}", texts, section.n, answer, recipe.rewards.get(name))
        judge = evaluate.judges.get(section.judge or "")
        if judge is not None:
            orders = 2 if judge.scorer in registry.COMPARERS else 1
            asked = 2 * prompts_of(texts) if orders == 1 else orders * prompts_of(texts)
            tokens = asked * (orders * answer + made.assumed.template_tokens)
            made.asked(f"diagnosis/{name}", asked, tokens + asked * _mean_prompt(texts), judge)


def _mean_prompt(texts: Texts) -> float:
    return prompt_tokens_of(texts) / max(prompts_of(texts), 1)


def _round(made: Plan, number: int) -> None:
    recipe, texts, folder = made.recipe, made.data.training, f"round-{number}"
    answer, n = made.answer(recipe.generate.max_tokens), recipe.generate.n
    train = recipe.train
    baselines = [b for b in recipe.baselines if b.round == number]
    trainings = [(folder, train, ""), *((f"{folder}/{b.name}", b.train or train, b.reward or "") for b in baselines)]
    own = recipe.reward.model if isinstance(recipe.reward, ModelReward) else ""
    made_pairs = [reward in ("", own) for _, section, reward in trainings if not isinstance(section, RLTrain)]
    if made_pairs:
        made.generate(f"{folder}/generate", texts, recipe.generate, recipe.models.policy)
    if any(made_pairs):
        _scores_and_pairs(made, folder, texts, n, answer)
    for place, section, reward in trainings:
        if isinstance(section, RLTrain):
            _reinforced(made, f"{place}/train", texts, section, reward)
            continue
        if reward not in ("", own):
            made.scorer(f"{folder}/score-{reward}", texts, n, answer, recipe.rewards.get(reward))
            _paired(made, f"{place}/pair", texts, n, _per_prompt(recipe, texts), recipe.pair)
        _preferences_trained(made, f"{place}/train", texts, _per_prompt(recipe, texts), answer, section)


def _scores_and_pairs(made: Plan, folder: str, texts: Texts, n: int, answer: float) -> None:
    recipe = made.recipe
    others = without(texts, recipe.pivot)
    if isinstance(recipe.pair, ImbalancePair):
        section = recipe.translate or Translate()
        made.translate(f"{folder}/translate", others, 2 * n, answer, section)
        if section.round_trip:
            made.translate(f"{folder}/round-trip", first(others, section.round_trip), 1, answer, section)
    elif isinstance(recipe.reward, ModelReward):
        name = recipe.reward.model
        made.scorer(f"{folder}/score-{name}", texts, n, answer, recipe.rewards.get(name))
    else:
        if recipe.translate and "translated" in recipe.views:
            made.translate(f"{folder}/translate", others, n, answer, recipe.translate)
        for view in recipe.views:
            made.implicit(f"{folder}/score-{view}", texts, n, answer, view)
    _paired(made, f"{folder}/pair", texts, n, _per_prompt(recipe, texts), recipe.pair)


def _per_prompt(recipe: Recipe, texts: Texts) -> float:
    """Pairs a prompt and language that there can be: of each two by imbalance, one of the pivot, but for the pivot."""
    if not isinstance(recipe.pair, ImbalancePair):
        return 1.0
    others = len(texts) - 1
    return (2 * others if recipe.pair.pivot_pairs == "all" else others + min(others, 1)) / max(len(texts), 1)


def _paired(made: Plan, stage: str, texts: Texts, n: int, each: float, pair: AnyPair) -> None:
    pairs = prompts_of(texts) * each * made.assumed.pair_share
    answers = prompts_of(texts) * n
    checked = answers * made.answer(made.recipe.generate.max_tokens) if pair.language_check else 0.0
    made.free(stage, "pair", answers, texts, row_bytes=pairs * PAIR, identified=checked)
    if isinstance(pair, ImbalancePair):
        made.works[stage] = replace(made.works[stage], shards=whole_shards(texts, made.recipe.shard_size))


def _preferences_trained(made: Plan, stage: str, texts: Texts, each: float, answer: float, section: Train) -> None:
    """Pairs: two sequences each, of sft the chosen one alone."""
    sides = 1 if section.method == "sft" else 2
    rows = prompts_of(texts) * each * made.assumed.pair_share
    times = section.max_steps * section.batch_size / max(rows, 1) if section.max_steps else section.epochs
    length = min(_mean_prompt(texts) + made.assumed.template_tokens + answer, float(section.max_length))
    made.trained(stage, rows * sides * times, rows * sides * times * length, section)


def _reinforced(made: Plan, stage: str, texts: Texts, section: RLTrain, reward: str) -> None:
    """Answers, their rewards, two models' log-probabilities, and the updates; the held-out prompts at each look."""
    recipe, answer = made.recipe, made.answer(section.max_tokens)
    share = section.validation_share
    prompts = prompts_of(texts)
    steps = math.ceil(prompts * (1 - share) * section.epochs / section.batch_size) * section.iterations
    updates = (section.max_steps or steps) // section.iterations
    asked = updates * section.batch_size
    looks = max(1, (section.max_steps or steps) // (section.eval_steps or max(1, (section.max_steps or steps) // 4)))
    seen = asked + round(prompts * share) * (looks + 1)
    scaled = {lang: replace(p, prompts=round(p.prompts * seen / max(prompts, 1))) for lang, p in texts.items()}
    sampling = Sampling(n=section.n, max_tokens=section.max_tokens)
    made.generate(f"{stage}: answers", scaled, sampling, recipe.models.policy)
    made.works[f"{stage}: answers"] = replace(
        made.works[f"{stage}: answers"], text_bytes=0, row_bytes=0, shards=0, backend="vllm" if section.vllm else "hf"
    )
    name = reward or (recipe.reward.model if isinstance(recipe.reward, ModelReward) else "")
    made.scorer(f"{stage}: rewards", scaled, section.n, answer, recipe.rewards.get(name))
    rewards = made.works.get(f"{stage}: rewards")
    if rewards is not None:
        made.works[rewards.stage] = replace(rewards, row_bytes=0, shards=0)
    length = _mean_prompt(texts) + made.assumed.template_tokens + answer
    drawn = asked * section.n
    # The policy that answered and its reference read every answer once, whatever the iterations.
    made.add(
        Work(f"{stage}: log-probabilities", "score", "policy", sequences=drawn, tokens_in=drawn * length, passes=2.0)
    )
    made.trained(stage, drawn * section.iterations, drawn * section.iterations * length, section)
