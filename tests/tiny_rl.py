"""A policy of a few thousand parameters, prompts for it, and rewards that are known without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from polypref.backends.base import Identified, Judged, ModelSpec, Progress, silent
from polypref.backends.rl_training import RLOptions, RLPrompt, Score
from polypref.backends.templates import PromptTemplate
from polypref.backends.trl_rl import TRLRLTrainer
from tiny_training import WORDS


def prompt(index: int, lang: str | None = None) -> RLPrompt:
    messages = [{"role": "user", "content": f"say {WORDS[index % len(WORDS)]}"}]
    return RLPrompt(f"p{index}", lang or ("es" if index % 2 else "en"), messages, gold=index)


PROMPTS, HELD = [prompt(index) for index in range(12)], [prompt(index) for index in range(12, 17)]


def options(**changes: Any) -> RLOptions:
    common = {
        "n": 4,
        "batch_size": 4,
        "max_tokens": 4,
        "learning_rate": 1e-2,
        "warmup_ratio": 0.0,
        "max_steps": 3,
        "seed": 3,
    }
    return RLOptions(**{**common, **changes})


LONG = options(max_steps=12, save_steps=3, eval_steps=4, micro_batch_size=8, schedule="cosine", max_kl=50.0)
"""Twelve updates, resume points at 3, 6 and 9, checkpoints at 0, 4, 8 and 12."""


def late(answers: Sequence[Judged]) -> list[float | None]:
    """How far down the vocabulary an answer's words stand on average, from 0 to 1; 0 for one without words."""
    places = [[WORDS.index(word) / len(WORDS) for word in answer.text.split()] for answer in answers]
    return [sum(some) / max(len(some), 1) for some in places]


def speaks(texts: Sequence[str]) -> list[Identified]:
    """Spanish where the first word is a Spanish one, English where it is another, neither where there is none."""
    firsts = [text.split()[:1] for text in texts]
    tags = [None if not first else "es" if first[0] in ("uno", "dos", "tres") else "en" for first in firsts]
    return [Identified(tag, 1.0, "fake") for tag in tags]


def run(
    start: ModelSpec | Path,
    folder: Path,
    score: Score = late,
    prompts: Sequence[RLPrompt] = PROMPTS,
    held: Sequence[RLPrompt] = (),
    progress: Progress = silent,
    asked: RLOptions | None = None,
    **changes: Any,
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    start = start if isinstance(start, ModelSpec) else ModelSpec(path=str(start), device="cpu")
    return TRLRLTrainer().train(prompts, held, start, asked or options(**changes), folder, progress, score, speaks)


def logprobs(model: Any, prompt_ids: Sequence[int], answer_ids: Sequence[int], temperature: float = 1.0) -> list[float]:
    """log p of each token of the answer, by the model's own forward pass of the sequence alone."""
    with torch.no_grad():
        found = (model(torch.tensor([[*prompt_ids, *answer_ids]])).logits[0] / temperature).log_softmax(-1)
    return [found[len(prompt_ids) + t - 1, token].item() for t, token in enumerate(answer_ids)]


def opened(folder: Path | str) -> tuple[Any, PromptTemplate]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), PromptTemplate(AutoTokenizer.from_pretrained(folder))


def recorded(monkeypatch: Any, kind: type) -> list[dict[str, Any]]:
    """What the trainer of that kind makes of each update's answers: ids, masks, advantages."""
    real: Callable[..., dict[str, Any]] = kind._generate_and_score_completions  # type: ignore[attr-defined]
    seen: list[dict[str, Any]] = []

    def spying(self: Any, inputs: Any) -> dict[str, Any]:
        seen.append(real(self, inputs) | {"samples": self.samples})
        return {name: value for name, value in seen[-1].items() if name != "samples"}

    monkeypatch.setattr(kind, "_generate_and_score_completions", spying)
    return seen
