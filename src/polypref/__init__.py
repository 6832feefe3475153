"""polypref aligns a language model in many languages with preferences that exist in one.

    import polypref

    examples = polypref.read_examples("answers.jsonl")
    scored = polypref.score_implicit(examples, policy="aligned", reference="sft", view="cross_lingual")
    paired = polypref.pair_best_worst(scored, score="implicit", length_control="auto")
    polypref.write_examples("pairs.jsonl", paired)

Names are imported when they are used, so that ``import polypref`` is instant.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Candidate": "polypref.records",
    "Example": "polypref.records",
    "InputError": "polypref.errors",
    "ModelError": "polypref.errors",
    "Pair": "polypref.records",
    "PolyprefError": "polypref.errors",
    "RecipeError": "polypref.errors",
    "UserError": "polypref.errors",
    "export_pairs": "polypref.api",
    "generate": "polypref.api",
    "judge_rewards": "polypref.api",
    "pair_best_worst": "polypref.api",
    "pair_imbalance": "polypref.api",
    "parse_example": "polypref.records",
    "read_examples": "polypref.store.jsonl",
    "read_recipe": "polypref.recipe_file",
    "run_recipe": "polypref.api",
    "score_implicit": "polypref.api",
    "score_with": "polypref.api",
    "to_json": "polypref.records",
    "train": "polypref.api",
    "train_reward": "polypref.api",
    "transfer": "polypref.stages.transfer",
    "winrate": "polypref.stages.winrate",
    "write_examples": "polypref.store.jsonl",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'polypref' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
