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

_REASONS = {
    "same_text": "whose two answers are equal",
    "same_after_truncation": "whose two answers are equal once cut (same_after_truncation)",
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
    sequences = summary["rows"] * (2 if options.loss == "bradley_terry" else 1)
    done = (
        f"{summary['rows']} rows, {summary['steps']} steps; left out: {_left_out(summary['dropped'])}.\n\n"
        "A sequence is the templated prompt, the answer and the end-of-turn; the reward is read off the last of them. "
        f"Its last {summary['max_length']} tokens are read: {summary['truncated']['train']} of the {sequences} "
        f"training sequences were longer.\n\n{_validation(summary, options, 'step')}"
    )
    method = f"{_LOSSES[options.loss]}, on a {summary['head']} head"
    return _card(start, options, summary, "reward-model", method, done)


def bag_of_words_card(options: RewardTrainOptions, summary: dict[str, Any]) -> str:
    """The card of a reward model without a network; ``summary`` is what ``BagOfWordsTrainer.train`` returns."""
    head = {"library_name": "polypref", "language": _codes(summary), "tags": ["polypref", "reward-model"]}
    kind = "Bradley–Terry on pairs" if options.loss == "bradley_terry" else "logistic regression on labelled answers"
    asked = yaml.safe_dump({"method": "bag_of_words", "loss": options.loss, "select": options.select}, sort_keys=False)
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# bag_of_words, trained with polypref\n\n"
        f"Method: a linear reward model of an answer's words and letters, {kind}; the prompt has no part in it. It is "
        "opened by polypref's scorer bag_of_words.\n\n"
        f"{summary['rows']} rows; whole answers are read. The inverse penalty C is {summary['C']:g}.\n\n"
        f"{_validation(summary, options, 'try')}\n\n{_rows(summary)}\n\n## Recipe\n\n```yaml\n{asked}```\n"
    )


def _validation(summary: dict[str, Any], options: RewardTrainOptions, step: str) -> str:
    """What the selected weights reached on the validation rows, and which they are."""
    selected, judged = summary["selected_step"], summary["validation"]
    if not judged:
        return f"Validation: no rows; the weights are those of {step} {selected}, the last."
    figures = next((point for point in judged if point["step"] == selected), {})
    told = [f"{name} {figures[name]:.4f}" for name in ("accuracy", "loss") if name in figures]
    aside = "; labels of 0.5 count in the loss alone" if options.loss == "pointwise" else ""
    return (
        f"Validation: {', '.join(told) or 'not judged there'} (n = {summary['validation_rows']} rows{aside}) at {step} "
        f"{selected}, whose weights these are."
    )


def _left_out(dropped: dict[str, int]) -> str:
    reasons = (f"{count} {_REASONS.get(reason, reason)}" for reason, count in sorted(dropped.items()))
    return "; ".join(reasons) or "none"


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
        "language": _codes(summary),
        "tags": ["polypref", "trl", tag],
    }
    if not Path(start.path).is_dir():
        head["base_model"] = start.path
    recipe = options.model_dump(mode="json", exclude_none=True, exclude={"chat_template"})  # the tokenizer has it
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
        f"# {base_name(start)}, trained with polypref\n\n"
        f"Method: {method}. Start: {base_name(start)}"
        f"{' with an adapter merged in' if start.adapter else ''}.\n\n"
        f"{done}\n\n"
        f"{_rows(summary)}\n\n"
        f"{_figures(summary['curve'])}"
        f"## Recipe\n\n```yaml\n{yaml.safe_dump(recipe, sort_keys=False)}```\n"
    )


def _codes(summary: dict[str, Any]) -> list[str]:
    return sorted({languages.primary(tag) for tag in summary["languages"]})


def _rows(summary: dict[str, Any]) -> str:
    counts = sorted(summary["languages"].items())
    return "\n".join(
        ["| language | rows |", "|---|---|", *(f"| {languages.name(tag)} ({tag}) | {n} |" for tag, n in counts)]
    )


def _figures(curve: list[dict[str, Any]]) -> str:
    if not curve:
        return ""
    names = [name for name in curve[-1] if name != "step"]
    lines = [f"| {name} | {curve[0][name]:.4f} | {curve[-1][name]:.4f} |" for name in names if name in curve[0]]
    header = f"| | step {curve[0]['step']} | step {curve[-1]['step']} |\n|---|---|---|\n"
    return header + "\n".join(lines) + "\n\n"
