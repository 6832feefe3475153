"""A fixed output of every stage, so that a changed output without a raised VERSION is found out.

.venv/bin/python tests/stage_outputs.py      writes tests/stage_outputs.json anew, after a VERSION was raised
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from polypref import registry
from polypref.mistakes import checked
from polypref.records import Candidate, Example, parse_example, to_json
from polypref.sandbox import world
from polypref.store.atomic import digest

GOLDEN = Path(__file__).with_suffix(".json")
POLICY, REFERENCE = {"path": "fake?version=2", "backend": "fake"}, {"path": "fake", "backend": "fake"}


def outputs() -> dict[str, dict[str, Any]]:
    """Stage → its version and the hash of what it gives for the same few prompts."""
    languages = ("en", "es", "de")
    context, _ = registry.context(languages, "en", "fake")
    prompts = []
    for row in world.prompts("train", 12, 0):
        example = parse_example(row)
        prompts.append(Example(example.id, {lang: example.prompts[lang] for lang in languages}, gold=example.gold))
    stages = {name: importlib.import_module(f"polypref.stages.{name}") for name in STAGES}
    generate, score, pair, imbalance = (stages[name] for name in STAGES[:4])
    source = {"role": "policy", "model": POLICY, "n": 4}
    sampling = {"temperature": 0.9, "max_tokens": 40, "seed": 3}
    drawn = list(
        generate.generate(
            prompts, checked(generate.GenerateOptions, {"sources": [source], "sampling": sampling, "round": 1}), context
        )
    )
    implicit = {"policy": POLICY, "reference": REFERENCE}
    scored = list(score.implicit(drawn, checked(score.ImplicitOptions, implicit), context))
    scored = list(score.by_scorer(scored, checked(score.ScorerOptions, {"scorer": "fake"}), context))
    options = checked(pair.BestWorstOptions, {"score": "implicit", "length_control": "auto"})
    alphas = pair.fit_best_worst(scored, options, context)
    paired = list(pair.best_worst(scored, options, context, alphas=alphas))
    evaluate = stages["evaluate"]
    asked = checked(evaluate.EvaluateOptions, {"quality": "fake", "reward_accuracy": {"cross_lingual": "implicit"}})
    found = evaluate.evaluate(scored, asked, context).to_json()
    balanced = imbalance.imbalance(
        [_translated(e) for e in drawn], checked(imbalance.ImbalanceOptions, {"pivot": "en"}), context
    )
    translate = stages["translate"]
    translator = {"model": POLICY | {"path": "fake?unclosed=0.2"}}
    asked_for = checked(translate.TranslateOptions, {"translator": translator})
    translated = list(translate.translate(drawn, asked_for, context))
    quality = stages["translation_quality"]
    there_and_back = quality.round_trip_evaluation(
        translated, checked(quality.RoundTripOptions, {"translator": translator}), context
    )
    prompting = stages["translate_prompts"]
    alone = [Example(e.id, {"en": e.prompts["en"]}) for e in prompts]
    lacking = checked(prompting.TranslatePromptsOptions, {"translator": translator, "languages": ["es", "de"]})
    made = {
        "generate": [to_json(e) for e in drawn],
        "score": [to_json(e) for e in scored],
        "pair": [to_json(e) for e in paired],
        "imbalance": [to_json(e) for e in balanced],
        "evaluate": found,
        "translate": [to_json(e) for e in translated],
        "translate_prompts": [to_json(e) for e in prompting.translate_prompts(alone, lacking, context)],
        "translation_quality": there_and_back.to_json()["values"],
    }
    return {name: {"version": stages[name].VERSION, "output": digest(_rounded(made[name]))} for name in STAGES}


STAGES = ("generate", "score", "pair", "imbalance", "evaluate", "translate", "translate_prompts", "translation_quality")


def _translated(example: Example) -> Example:
    """One answer a language, and its translation: into the pivot, and the pivot's into each language."""
    first = {lang: next(c for c in example.candidates if c.lang == lang) for lang in ("en", "es")}
    there = Candidate(f"{example.id}/t/es", "es", f"[es] {first['en'].text}", "translated", first["en"].id)
    back = Candidate(f"{example.id}/t/en", "en", f"[en] {first['es'].text}", "translated", first["es"].id)
    prompts = {lang: example.prompts[lang] for lang in first}
    return Example(example.id, prompts, [first["en"], first["es"], there, back])


def _rounded(value: Any) -> Any:
    """Ten digits of every number: another processor may differ in the last."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(outputs(), indent=2) + "\n", encoding="utf-8")
