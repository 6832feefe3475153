"""The README.md of a fine-tuned checkpoint: its start, its demonstrations, its figures and its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from polypref import languages
from polypref.backends.base import ModelSpec
from polypref.backends.model_card import base_name
from polypref.backends.sft_training import METRIC, SFTTrainOptions


def sft_card(start: ModelSpec, options: SFTTrainOptions, summary: dict[str, Any]) -> str:
    """The card as Markdown with the hub's YAML head; ``summary`` is what ``SFTTrainer.train`` returns."""
    head: dict[str, Any] = {
        "library_name": "peft" if options.lora is not None and not summary["merged"] else "transformers",
        "language": sorted({languages.primary(tag) for tag in summary["languages"]}),
        "tags": ["polypref", "trl", "sft"],
    }
    if not Path(start.path).is_dir():
        head["base_model"] = start.path
    # The chat template is the tokenizer's by now.
    recipe = options.model_dump(mode="json", exclude_none=True, exclude={"chat_template"})
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(summary["dropped"].items()))
    rows = (f"| {languages.name(tag)} ({tag}) | {n} |" for tag, n in sorted(summary["languages"].items()))
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
        f"# {base_name(start)}, trained with polypref\n\n"
        f"Method: supervised fine-tuning on demonstrations. Start: {base_name(start)}"
        f"{' with an adapter merged in' if start.adapter else ''}.\n\n"
        f"{summary['rows']} rows, {summary['steps']} steps, {summary['tokens']} tokens; dropped: {dropped or 'none'}."
        "\n\n"
        + "\n".join(["| language | rows |", "|---|---|", *rows])
        + f"\n\n{_validation(summary)}\n\n## Recipe\n\n```yaml\n{yaml.safe_dump(recipe, sort_keys=False)}```\n"
    )


def _validation(summary: dict[str, Any]) -> str:
    """What every look at the validation rows found, and whose weights these are."""
    looks = summary["checkpoints"]
    if not looks:
        return "Validation: no rows; the weights are those of the last step."
    metrics = [name for name in looks[0] if name not in ("step", "by_language")]
    by = "the last" if summary["select"] == "last" else f"the best by {METRIC[summary['select']]}"
    lines = [f"| step | {' | '.join(metrics)} |", "|---" * (1 + len(metrics)) + "|"]
    lines += [f"| {look['step']} | {' | '.join(f'{look[name]:.4f}' for name in metrics)} |" for look in looks]
    return (
        f"Validation: {summary['validation_rows']} rows; figures are means over the languages. The weights are those "
        f"of step {summary['selected']}, {by}.\n\n" + "\n".join(lines)
    )
