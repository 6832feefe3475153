"""The README.md of a trained checkpoint: its start, its data, its recipe and its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from polypref import languages
from polypref.backends.base import ModelSpec
from polypref.backends.reward_training import RewardTrainOptions
from polypref.backends.training import TrainOptions

_METHODS = {
    "dpo": "direct preference optimisation with λ·NLL of the chosen answer (Rafailov et al. 2023, arXiv 2305.18290)",
    "sft": "supervised fine-tuning on the chosen answers",
    "kto": "Kahneman–Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306)",
    "fake": "no training at all",
}


_LOSSES = {
    "bradley_terry": "reward model by the Bradley–Terry loss of pairs (Stiennon et al. 2020, arXiv 2009.01325)",
    "pointwise": "reward model by the cross-entropy of labelled answers",
}


def base_name(start: ModelSpec) -> str:
    """How the card calls the model that training started from: never the folders above it."""
    return start.name or (Path(start.path).name if Path(start.path).is_dir() else start.path)


def model_card(start: ModelSpec, options: TrainOptions, summary: dict[str, Any]) -> str:
    """The card as Markdown with the hub's YAML head; ``summary`` is what ``Trainer.train`` returns."""
    done = f"{summary['rows']} rows, {summary['steps']} steps, {summary['tokens']} tokens; {_dropped(summary)}."
    return _card(start, options, summary, options.method, _METHODS[options.method], done)


def reward_card(start: ModelSpec, options: RewardTrainOptions, summary: dict[str, Any]) -> str:
    """The card of a reward model; ``summary`` is what ``RewardTrainer.train`` returns."""
    cut = summary["truncated"]["train"]
    done = (
        f"{summary['rows']} rows, {summary['steps']} steps; {_dropped(summary)}; {cut} sequences cut to their last "
        f"{summary['max_length']} tokens. Validation: {summary['validation_rows']} rows; the weights are those of step "
        f"{summary['selected_step']}.\n\n"
        "A sequence is the templated prompt, the answer and the end-of-turn; the reward is read off the last of them"
    )
    method = f"{_LOSSES[options.loss]}, on a {summary['head']} head"
    return _card(start, options, summary, "reward-model", method, f"{done}.")


def _dropped(summary: dict[str, Any]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary["dropped"].items()))
    return f"dropped: {reasons or 'none'}"


def _card(
    start: ModelSpec,
    options: TrainOptions | RewardTrainOptions,
    summary: dict[str, Any],
    tag: str,
    method: str,
    done: str,
) -> str:
    head: dict[str, Any] = {
        "library_name": "peft" if options.lora is not None and not summary["merged"] else "transformers",
        "language": sorted({tag.split("-")[0] for tag in summary["languages"]}),
        "tags": ["polypref", "trl", tag],
    }
    if not Path(start.path).is_dir():
        head["base_model"] = start.path
    recipe = options.model_dump(mode="json", exclude_none=True, exclude={"chat_template"})  # the tokenizer has it
    rows = "\n".join(
        f"| {languages.name(tag)} ({tag}) | {count} |" for tag, count in sorted(summary["languages"].items())
    )
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
        f"# {base_name(start)}, trained with polypref\n\n"
        f"Method: {method}. Start: {base_name(start)}"
        f"{' with an adapter merged in' if start.adapter else ''}.\n\n"
        f"{done}\n\n"
        f"| language | rows |\n|---|---|\n{rows}\n\n"
        f"{_figures(summary['curve'])}"
        f"## Recipe\n\n```yaml\n{yaml.safe_dump(recipe, sort_keys=False)}```\n"
    )


def _figures(curve: list[dict[str, Any]]) -> str:
    if not curve:
        return ""
    names = [name for name in curve[-1] if name != "step"]
    lines = [f"| {name} | {curve[0][name]:.4f} | {curve[-1][name]:.4f} |" for name in names if name in curve[0]]
    header = f"| | step {curve[0]['step']} | step {curve[-1]['step']} |\n|---|---|---|\n"
    return header + "\n".join(lines) + "\n\n"
