"""The works of a run's evaluation: answers to the held-out prompts, scores of them, judges, best-of-n."""

from __future__ import annotations

from dataclasses import replace

from polypref import registry
from polypref.backends.base import ModelSpec, Sampling, ScorerSpec
from polypref.estimate_plan import Plan
from polypref.estimate_work import Texts, Work, first, prompt_tokens_of, prompts_of, whole_shards, without
from polypref.recipe import Recipe
from polypref.recipe_rewards import ModelReward
from polypref.recipe_sections import Evaluate, ImbalancePair

QUALITY = "quality"


def add_evaluation(made: Plan) -> None:
    """Plan the evaluation, in the order of a run."""
    recipe, section, texts = made.recipe, made.recipe.evaluate, made.data.held_out
    if section is None or not texts or not recipe.answers:
        return
    answer = made.answer(section.sampling.max_tokens)
    names = _models(recipe)
    for name in names:
        _answered(made, section, texts, name, answer)
    for policy in _implicit_policies(recipe):
        _reward_accuracy(made, section, texts, policy, answer)
    for name, steps in _made_by(recipe, section).items():
        for step in steps:
            stage = f"evaluation/{name}/{step}/score-{name}"
            made.scorer(stage, texts, section.sampling.n, answer, recipe.rewards.get(name))
    _best_of_n(made, section, texts, answer)
    _judged(made, section, texts, names, answer)
    if isinstance(recipe.pair, ImbalancePair) and section.quality:
        spec = ScorerSpec(scorer=section.quality, model=section.quality_model)
        for number in range(1, recipe.rounds + 1):
            # Answers, and each language's translations both ways.
            count = prompts_of(made.data.training) + 2 * prompts_of(without(made.data.training, recipe.pivot))
            each = count / max(prompts_of(made.data.training), 1) * recipe.generate.n
            stage = f"round-{number}/score-quality"
            made.scorer(stage, made.data.training, each, answer, spec)
            files = whole_shards(made.data.training, recipe.shard_size)
            made.works[stage] = replace(made.works[stage], shards=files)


def add_tasks(made: Plan, items: int, tokens: float) -> None:
    """Standard tasks (``polypref evaluate tasks``), which are put to a run's models after it: so many requests each."""
    for name in _models(made.recipe):
        stage = f"evaluate tasks: {name}"
        made.add(Work(stage, "score", "policy", sequences=items, tokens_in=items * tokens))


def _result(recipe: Recipe, number: int) -> str:
    return f"{recipe.name}-round-{number}"


def _models(recipe: Recipe) -> list[str]:
    """The models that are evaluated, each once, in the order of the run."""
    made: list[str] = []
    for number in range(1, recipe.rounds + 1):
        made += [baseline.name for baseline in recipe.baselines if baseline.round == number]
        made.append(_result(recipe, number))
    return list(dict.fromkeys([recipe.reference_name, recipe.policy_name, *made]))


def _spec(recipe: Recipe, name: str) -> ModelSpec | None:
    return recipe.models.reference if name == recipe.reference_name else recipe.models.policy


def _answered(made: Plan, section: Evaluate, texts: Texts, name: str, answer: float) -> None:
    recipe, n, folder = made.recipe, section.sampling.n, f"evaluation/{name}"
    made.generate(f"{folder}/generate", texts, section.sampling, _spec(recipe, name))
    if section.quality is not None:
        spec = ScorerSpec(scorer=section.quality, model=section.quality_model)
        made.scorer(f"{folder}/score-{QUALITY}", texts, n, answer, spec)
    if section.kl and name != recipe.reference_name:
        made.implicit(f"{folder}/policy_samples/score-multilingual", texts, n, answer, "multilingual")
    made.free(f"{folder}/figures", "figures", prompts_of(texts) * n)
    if section.language_fidelity:
        count = prompts_of(texts) * n
        # Of whole answers, and again of their lines.
        made.free(f"{folder}/languages", "figures", count, identified=2 * count * answer)


def _implicit_policies(recipe: Recipe) -> list[str]:
    """The policies of the implicit rewards that rounds score with, each once."""
    if isinstance(recipe.reward, ModelReward) or isinstance(recipe.pair, ImbalancePair) or not recipe.rounds:
        return []
    if recipe.reward.policy == "given":
        return [recipe.policy_name]
    starts = [recipe.policy_name, *(_result(recipe, number) for number in range(1, recipe.rounds))]
    return list(dict.fromkeys(starts))


def _made_by(recipe: Recipe, section: Evaluate) -> dict[str, list[str]]:
    """Reward → the steps whose answers it scores: those that it made, the policy before them, and where answers are
    known to be right or wrong the reference."""
    if not isinstance(recipe.reward, ModelReward) or isinstance(recipe.pair, ImbalancePair) or not recipe.rounds:
        return {}
    results = [_result(recipe, number) for number in range(1, recipe.rounds + 1)]
    before = [recipe.reference_name] if section.quality else []
    found = {recipe.reward.model: [*before, recipe.policy_name, *results]}
    for baseline in recipe.baselines:
        steps = found.setdefault(baseline.reward or recipe.reward.model, [recipe.policy_name])
        steps.append(baseline.name)
    return {name: list(dict.fromkeys(steps)) for name, steps in found.items()}


def _reward_accuracy(made: Plan, section: Evaluate, texts: Texts, policy: str, answer: float) -> None:
    recipe, n = made.recipe, section.sampling.n
    if section.quality is None:
        return
    for answerer, suffix in ((recipe.reference_name, "reference_samples"), (policy, "policy_samples")):
        if "translated" in section.reward_accuracy and recipe.translate:
            others = without(texts, recipe.pivot)
            made.translate(f"evaluation/{answerer}/translate", others, n, answer, recipe.translate)
        for view in section.reward_accuracy:
            made.implicit(f"evaluation/{policy}/{suffix}/score-{view}", texts, n, answer, view)


def _best_of_n(made: Plan, section: Evaluate, texts: Texts, answer: float) -> None:
    recipe, asked = made.recipe, made.recipe.best_of_n
    if asked is None:
        return
    texts = first(texts, asked.limit)
    sampling: Sampling = asked.sampling or section.sampling
    drawn = sampling.model_copy(update={"n": asked.n[-1]})
    made.generate("best-of-n/generate", texts, drawn, recipe.models.policy)
    if section.quality:
        spec = ScorerSpec(scorer=section.quality, model=section.quality_model)
        made.scorer("best-of-n/score-quality", texts, drawn.n, answer, spec)
    if asked.kl:
        made.implicit("best-of-n/score-multilingual", texts, drawn.n, answer, "multilingual")
    for name in asked.rewards or _numbers(made):
        made.scorer(f"best-of-n/score-{name}", texts, drawn.n, answer, recipe.rewards.get(name))


def _numbers(made: Plan) -> list[str]:
    """The rewards of the run that give numbers."""
    recipe = made.recipe
    brought = [name for name, spec in recipe.rewards.items() if spec.scorer not in registry.COMPARERS]
    section = recipe.reward_models
    return brought + (list(section.languages_of(tuple(made.data.preferences))) if section else [])


def _judged(made: Plan, section: Evaluate, texts: Texts, names: list[str], answer: float) -> None:
    """Win rates of every step against the policy that round 1 starts from, on the prompts that both have answered."""
    recipe, base = made.recipe, made.recipe.policy_name
    steps = dict.fromkeys(names, (texts, section.sampling.n))
    if (asked := recipe.best_of_n) is not None:
        few = first(texts, asked.limit)
        for name in asked.rewards or _numbers(made):
            pick = f"best-of-{asked.n[-1]}-{name}"
            steps[pick] = (few, 1)
            for step in (base, pick):
                made.scorer(f"evaluation/{name}/{step}/score-{name}", *steps[step], answer, recipe.rewards.get(name))
    for judge in section.win_rates:
        spec = section.judges.get(judge)
        for step, (own, n) in steps.items() if judge != QUALITY else ():
            if spec is None or spec.scorer not in registry.COMPARERS:
                scorer = spec or recipe.rewards.get(judge)
                made.scorer(f"evaluation/{judge}/{step}/score-{judge}", own, n, answer, scorer)
            elif step != base:
                # Each match is asked in both orders, and holds both answers.
                count = 2 * n * prompts_of(own)
                tokens = 2 * n * prompt_tokens_of(own) + count * (2 * answer + _instructions(made))
                made.asked(f"win-rates/{judge}/{step}", count, tokens, spec)


def _instructions(made: Plan) -> float:
    """What a judge is told beside the prompt and the answers: about ten times a chat template's words."""
    return 10 * made.assumed.template_tokens
