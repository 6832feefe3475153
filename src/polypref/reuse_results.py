"""What results.json says of rewards that are used again: win rates by source and target, best-of-n, failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polypref.evaluation import Evaluated
from polypref.recipe import Recipe
from polypref.recipe_reuse_checks import TARGET
from polypref.recipe_sections import BestOfNPair, RLTrain, Train
from polypref.reward_steps import Findings, Rewards
from polypref.stages import alignments as aligning
from polypref.stages import evaluate as evaluating
from polypref.stages import judgment_figures
from polypref.stages import judgments as judgment_files
from polypref.stages import signatures as signing
from polypref.stages.evaluate import Evaluation
from polypref.stages.report import ReportData
from polypref.stages.report_judgments import About, write_judgments_page
from polypref.workshop import Round, Workshop

JUDGMENTS, COMPARISONS = "judgments.jsonl", "judgments.html"

LABELS = {
    "rloo": "RLOO",
    "grpo": "GRPO",
    "dpo": "DPO",
    "sft": "SFT",
    "kto": "KTO",
    "fake_rl": "fake RL",
    "fake": "fake",
}


def trained_on(recipe: Recipe, rewards: Rewards) -> dict[str, tuple[str, ...]]:
    """Reward → the languages of its preferences, where they are known."""
    given = recipe.judge.trained_on if recipe.judge else {}
    return {**rewards.trained_on, **given}


def best_of_n(shop: Workshop, evaluated: Evaluated, rewards: Rewards) -> dict[str, Any] | None:
    """``ReportData.best_of_n``."""
    section = shop.recipe.evaluate
    if evaluated.picks is None or section is None:
        return None
    quality = "quality" if section.quality is not None else None
    return evaluated.picks.to_json(trained_on(shop.recipe, rewards), quality)


def alignments(
    shop: Workshop, rounds: Sequence[Round], evaluated: Evaluated, rewards: Rewards, found: Findings
) -> list[dict[str, Any]] | None:
    """``ReportData.alignments``: an entry for each way of aligning and each judge; None where nobody judges."""
    recipe = shop.recipe
    judges = recipe.evaluate.win_rates if recipe.evaluate else ()
    out = []
    for method, label, made_by in _ways(recipe, rounds, evaluated):
        for number, judge in enumerate(judges):
            metric = "win_rate" if number == 0 else f"win_rate_by_{judge}"
            steps = {name: evaluated.evaluations[name] for name in made_by if name in evaluated.evaluations}
            steps = {name: e for name, e in steps.items() if metric in e.values}
            if steps:
                languages = trained_on(recipe, rewards)
                own = {name: languages[made_by[name]] for name in steps if made_by[name] in languages}
                entry = aligning.alignment(
                    method,
                    label,
                    steps,
                    own,
                    judge=judge,
                    against=shop.policy.name,
                    metric=metric,
                    accuracies=_accuracies(found, made_by, steps),
                )
                if judge == TARGET or judge in made_by.values():
                    # On the diagonal the judge made what it judges, which says nothing of a language's own reward.
                    entry |= dict.fromkeys(("monolingual_against_cross_lingual", "diagonal", "off_diagonal", "tau"))
                out.append(entry | {"made_by": {name: made_by[name] for name in steps}})
    return out or None


def judgments(evaluated: Evaluated) -> dict[str, Any] | None:
    """``ReportData.judgments``."""
    return judgment_figures.figures(evaluated.judgments) if evaluated.judgments else None


def write_judgments(folder: Path, evaluated: Evaluated, data: ReportData) -> None:
    """Every comparison that a judge of pairs made, as a file and as a page to look through."""
    if data.judgments:
        about = About(f"{data.name}: what the judges said", data.date, data.signature, versions=data.versions)
        judgment_files.write_judgments(folder / JUDGMENTS, evaluated.judgments)
        write_judgments_page(folder / COMPARISONS, evaluated.judgments, data.judgments, about)


def _ways(recipe: Recipe, rounds: Sequence[Round], evaluated: Evaluated) -> list[tuple[str, str, dict[str, str]]]:
    """(method, how a reader is told it, step → the reward that made it) of everything that rewards made."""
    out: list[tuple[str, str, dict[str, str]]] = []
    if evaluated.picks:
        steps = {pick.step: pick.reward.name for pick in evaluated.picks.picks}
        out.append(("best_of_n", f"best of {evaluated.picks.n[-1]}", steps))
    for now in rounds:
        ways: dict[str, dict[str, str]] = {}
        sections = {baseline.name: baseline.train for baseline in recipe.baselines}
        for step, reward in now.made_by.items():
            section = sections.get(step) or recipe.train
            ways.setdefault(section.method, {})[step] = reward.name
        for method, steps in ways.items():
            label = _label(recipe, method)
            out.append((method, f"{label}, round {now.number}" if len(rounds) > 1 else label, steps))
    return out


def _label(recipe: Recipe, method: str) -> str:
    if method == "sft" and isinstance(recipe.pair, BestOfNPair):
        return f"SFT on the best of {recipe.generate.n}"
    return LABELS[method]


def _accuracies(
    found: Findings, made_by: Mapping[str, str], steps: Mapping[str, Evaluation]
) -> dict[str, dict[str, float]] | None:
    """Step → language → the judged accuracy of its reward."""
    out = {}
    for step in steps:
        figures = found.figures.get(made_by[step], {})
        known = {lang: float(own["accuracy"]) for lang, own in figures.items() if own.get("accuracy") is not None}
        if known:
            out[step] = known
    return out or None


def trainings(recipe: Recipe, now: Round) -> dict[str, dict[str, Any]]:
    """``rounds[i]["trainings"]``: how each training by reinforcement went; of the others their models' cards tell."""
    sections: dict[str, Train | RLTrain | None] = {baseline.name: baseline.train for baseline in recipe.baselines}
    out = {}
    for name, told in now.trainings.items():
        section = sections.get(name) or recipe.train
        if not isinstance(section, RLTrain):
            continue
        out[name] = {"method": section.method} | {key: told[key] for key in _TOLD if key in told}
    return out


_TOLD = ("curve", "by_language", "stopped", "selected", "checkpoints", "rows", "steps", "tokens", "dropped", "seconds")


def signatures(recipe: Recipe, results: Mapping[str, Any], gains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``ReportData.signatures`` of an object that is on its way to be results.json."""
    raised: list[dict[str, Any]] = []
    examined: dict[str, list[str]] = {rule.__name__: [] for rule in signing.RULES}
    for about in signing.all_subjects({**results, "signatures": {"gains": list(gains)}}):
        if about["after"] is None and about["reward"] is None:
            continue
        for check in signing.examined(results["results"], recipe.signatures, **about):
            told = check.signature
            if told.lang not in examined[told.name]:
                examined[told.name].append(told.lang)
            if check.raised:
                raised.append({"step": about["after"] or about["reward"], **told.to_json()})
    return {
        "raised": raised,
        "examined": examined,
        "limits": recipe.signatures.model_dump(mode="json"),
        "gains": list(gains),
    }


def gains(evaluated: Evaluated, base: str, steps: Sequence[str]) -> list[dict[str, Any]]:
    """What changes from the base to each step, prompt by prompt, in what signatures look at."""
    out = []
    before = evaluated.evaluations.get(base)
    for step in steps:
        after = evaluated.evaluations.get(step)
        if before is None or after is None or step == base:
            continue
        for metric in ("quality", "reward", "off_target_language"):
            if _shared(before, after, metric):
                out.append(evaluating.compare(before, after, names=(base, step), metric=metric) | {"kind": "signature"})
    return out


def _shared(before: Evaluation, after: Evaluation, metric: str) -> bool:
    old, new = before.values.get(metric, {}), after.values.get(metric, {})
    return any(old[lang].keys() & new[lang].keys() for lang in old.keys() & new.keys())
