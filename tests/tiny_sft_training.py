"""Demonstrations that a tiny model can learn by heart: the prompt names a word, and the answer says its neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from polypref.backends.base import Answer, Generator, ModelSpec, Progress, Request, Sampling, silent
from polypref.backends.sft_training import Figures, SFTRow, SFTTrainOptions
from polypref.backends.templates import PromptTemplate
from polypref.backends.trl_sft import TRLSFTTrainer
from tiny_training import WORDS


def row(index: int, text: str | None = None, lang: str | None = None) -> SFTRow:
    words = [WORDS[(index + k) % len(WORDS)] for k in range(4)]
    messages = [{"role": "user", "content": f"say {words[0]}"}]
    lang = lang or ("es" if index % 2 else "en")
    said = " ".join(words[1:]) if text is None else text
    return SFTRow(f"{index}/{lang}", lang, Answer(f"{index}/{lang}", messages, said))


ROWS = [row(index) for index in range(12)]
HELD = [row(index, text) for index, text in enumerate(["uno dos", "red", "a b c d e", "three", "name say"])]
"""Three in English, two in Spanish; other answers to the same prompts, so that learning the rows by heart harms."""


def options(**changes: Any) -> SFTTrainOptions:
    common = {"learning_rate": 1e-2, "batch_size": 4, "warmup_ratio": 0.0, "schedule": "constant", "seed": 3}
    return SFTTrainOptions(**{**common, "epochs": 1, **changes})


LONG = options(epochs=4, save_steps=2, micro_batch_size=2, schedule="cosine", evaluations=3, select="last")
"""Twelve steps, looked at after 4, 8 and 12."""


def run(
    rows: list[SFTRow],
    start: ModelSpec,
    folder: Path,
    validation: list[SFTRow] | None = None,
    progress: Progress = silent,
    measure: Any = None,
    **changes: Any,
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return TRLSFTTrainer().train(rows, validation or [], start, options(**changes), folder, progress, measure)


def loss_by_language(folder: Path | str, rows: list[SFTRow], adapter: Path | None = None) -> dict[str, float]:
    """−1/Σ|y| Σ log p over the answers' tokens and end-of-turns, by the forward pass of each row alone."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    template = PromptTemplate(AutoTokenizer.from_pretrained(folder))
    sums: dict[str, list[float]] = {}
    for one in rows:
        prompt = template.prompt_ids(one.answer.messages)
        answer = [*template.answer_ids(one.answer.text), template.end_of_turn]
        with torch.no_grad():
            logprobs = model.eval()(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        own = sums.setdefault(one.lang, [])
        own += [-logprobs[len(prompt) + t - 1, token].item() for t, token in enumerate(answer)]
    return {lang: sum(own) / len(own) for lang, own in sums.items()}


def measure(generator: Generator) -> Figures:
    """How much of each held-out answer the model says, in percent of its words, by language."""
    asked = [Request(one.id, one.answer.messages) for one in HELD]
    found = generator.generate(asked, Sampling(temperature=0, max_tokens=6))
    shares: dict[str, list[float]] = {}
    for one, (answer,) in zip(HELD, found, strict=True):
        want, said = one.answer.text.split(), answer.text.split()
        shares.setdefault(one.lang, []).append(100 * len(set(want) & set(said)) / len(want))
    return {"chrf": {lang: sum(own) / len(own) for lang, own in shares.items()}}
