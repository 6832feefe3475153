"""The README.md of a checkpoint made by reinforcement learning: its start, its prompts, its recipe and its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from polypref import languages
from polypref.backends.base import ModelSpec
from polypref.backends.model_card import base_name
from polypref.backends.rl_training import RLOptions

_METHODS = {
    "rloo": "REINFORCE leave-one-out on the policy's own answers (Ahmadian et al. 2024, arXiv 2402.14740)",
    "grpo": "group-relative policy optimisation on the policy's own answers (Shao et al. 2024, arXiv 2402.03300)",
}
_FIGURES = ("reward", "kl", "length_tokens", "off_target_language", "truncated")


def rl_card(start: ModelSpec, options: RLOptions, summary: dict[str, Any]) -> str:
    """The card as Markdown with the hub's YAML head; ``summary`` is what ``RLTrainer.train`` returns."""
    head: dict[str, Any] = {
        "library_name": "peft" if options.lora is not None and not summary["merged"] else "transformers",
        "language": sorted({languages.primary(tag) for tag in summary["languages"]}),
        "tags": ["polypref", "trl", options.method],
    }
    if not Path(start.path).is_dir():
        head["base_model"] = start.path
    recipe = yaml.safe_dump(options.model_dump(mode="json", exclude_none=True), sort_keys=False)
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
        f"# {base_name(start)}, trained with polypref\n\n"
        f"Method: {_METHODS[options.method]}. Start and reference: {base_name(start)}"
        f"{' with an adapter merged in' if start.adapter else ''}.\n\n"
        f"{_done(summary)}\n\n{_prompts(summary)}\n\n{_curve(summary['curve'])}## Recipe\n\n```yaml\n{recipe}```\n"
    )


def _done(summary: dict[str, Any]) -> str:
    left = ", ".join(f"{count} {reason}" for reason, count in sorted(summary["dropped"].items()))
    told = (
        f"{summary['rows']} prompts, {summary['steps']} steps, {summary['tokens']} tokens; dropped: {left or 'none'}; "
    )
    told += f"answers without a reward: {summary['unscored']}. These are the weights of step {summary['selected']}."
    if summary["stopped"]:
        told += f" Stopped after step {summary['stopped']['step']}: {summary['stopped']['said']}."
    return told


def _prompts(summary: dict[str, Any]) -> str:
    rows = (f"| {languages.name(tag)} ({tag}) | {n} |" for tag, n in sorted(summary["languages"].items()))
    return "\n".join(["| language | prompts |", "|---|---|", *rows])


def _curve(curve: list[dict[str, Any]]) -> str:
    """The figures of the first and the last update's own answers; the KL in nats an answer."""
    if not curve:
        return ""
    first, last = curve[0], curve[-1]
    known = [name for name in _FIGURES if first[name] is not None and last[name] is not None]
    lines = [f"| {name} | {first[name]:.4f} | {last[name]:.4f} |" for name in known]
    return f"| | step {first['step']} | step {last['step']} |\n|---|---|---|\n" + "\n".join(lines) + "\n\n"
