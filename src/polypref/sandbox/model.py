"""The sandbox's first model: a Llama of a million parameters, trained from scratch on `world.sft_rows`.

It is saved as an ordinary checkpoint folder, so everything downstream treats it like any other model.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from polypref.sandbox.alignment import align
from polypref.sandbox.settings import SftSettings
from polypref.sandbox.tokenizer import build_tokenizer
from polypref.sandbox.world import TASKS, sft_rows

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["VERSION", "build_model", "build_tokenizer", "sft_checkpoint", "train_sft"]

VERSION: Final = 2
"""Raised when the tokenizer or the training changes: checkpoints cached under another version are stale."""

Progress = Callable[[int, int, float], None]
Row = tuple[list[int], int]  # token ids of prompt and answer, and how many of them are prompt


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int, settings: SftSettings | None = None) -> LlamaForCausalLM:
    """A freshly initialised float32 model for a tokenizer; the global random state is left as it was."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = settings or SftSettings()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.width * 3,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        initializer_range=settings.width**-0.5 / 2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        if settings.alignment:
            embedding = model.get_input_embeddings().weight
            align(embedding, tokenizer, settings.alignment, config.initializer_range, tasks=settings.tasks)
        return model


def train_sft(
    folder: str | os.PathLike[str],
    seed: int,
    *,
    settings: SftSettings | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Trains the model from scratch on the SFT mix of a seed and saves it, tokenizer and all, into `folder`.

    The loss is the mean cross-entropy over answer and end-of-turn tokens. `steps` overrides the settings' number;
    `progress(step, steps, loss)` is called after each. Equal seeds give equal weights on one machine.
    """
    import torch
    from transformers import GenerationConfig
    from transformers.utils import logging

    settings = settings or SftSettings()
    total = settings.steps if steps is None else steps
    tokenizer = build_tokenizer(seed, tasks=settings.tasks)
    model = build_model(tokenizer, seed, settings).train()
    rows = _tokenise(tokenizer, sft_rows(total * settings.batch, seed, tasks=settings.tasks))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    for step, batch in enumerate(_batches(rows, settings.batch), start=1):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _schedule(step, total)
        loss = _answer_loss(model, batch, tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(step, total, loss.item())
    model.generation_config = GenerationConfig(
        do_sample=True,
        max_new_tokens=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.eval().save_pretrained(folder)
    finally:
        if bars:
            logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    return Path(folder)


def sft_checkpoint(
    cache_dir: str | os.PathLike[str],
    seed: int,
    *,
    settings: SftSettings | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of the SFT checkpoint of a seed under `cache_dir`, trained now if it is not there.

    The name holds the seed, `VERSION` and a hash of the settings and of a sample of the data. The folder appears whole
    or not at all: training writes beside it under a name with a dot before it, then renames.
    """
    settings = settings or SftSettings()
    folder = Path(cache_dir) / f"sandbox-sft-v{VERSION}-{_digest(settings, seed)}-seed{seed}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        train_sft(temporary, seed, settings=settings, progress=progress)
        temporary.chmod(0o755)  # mkdtemp makes it private
        try:
            temporary.rename(folder)
        except OSError:
            # Another process may have finished the same checkpoint first; theirs is as good as ours.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _digest(settings: SftSettings, seed: int) -> str:
    """Of the settings and a sample of the data; that the usual tasks are asked goes without saying."""
    told = asdict(settings)
    if settings.tasks == TASKS:
        del told["tasks"]
    recipe = json.dumps([told, sft_rows(200, seed, tasks=settings.tasks)], sort_keys=True)
    return hashlib.sha256(recipe.encode()).hexdigest()[:8]


def _tokenise(tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, str]]) -> list[Row]:
    """Prompt and answer apart, as in generation."""
    messages = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    heads = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    tails = tokenizer([row["completion"] for row in rows], add_special_tokens=False)["input_ids"]
    return [(head + tail + [tokenizer.eos_token_id], len(head)) for head, tail in zip(heads, tails, strict=True)]


def _batches(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def _answer_loss(model: LlamaForCausalLM, batch: Sequence[Row], pad: int) -> Tensor:
    """Mean cross-entropy over the answers' tokens; the vocabulary product is taken at answer positions only."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in batch])
    target = torch.zeros_like(ids, dtype=torch.bool)
    for row, (tokens, start) in enumerate(batch):
        target[row, start : len(tokens)] = True
    # Padding is on the right of a causal model: no answer token sees it, so no attention mask is needed.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[:, :-1][target[:, 1:]])
    return torch.nn.functional.cross_entropy(logits, ids[target])


def _schedule(step: int, total: int) -> float:
    """Warm-up over a twentieth of the steps, then cosine to a fiftieth of the peak."""
    warmup = max(1, total // 20)
    if step <= warmup:
        return step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2
