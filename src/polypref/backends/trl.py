"""Training through TRL: DPO + λ·NLL, SFT and KTO, full or LoRA, on one process or under ``accelerate launch``.

The checkpoint is written in the start model's dtype, with its tokenizer, generation config and chat template.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from transformers import PreTrainedTokenizerBase

from polypref.backends.base import ModelSpec, PreferenceRow, Progress
from polypref.backends.fingerprints import fingerprint
from polypref.backends.model_card import model_card
from polypref.backends.sft_training import SFTTrainOptions
from polypref.backends.templates import PromptTemplate
from polypref.backends.training import TrainOptions
from polypref.backends.trl_data import Tokenised, tokenise
from polypref.backends.trl_runs import RESUME, claim, fit, merge, micro_batches, quiet, save
from polypref.backends.trl_setup import build, generation_config, open_tokenizer

CURVE = {"loss": "loss", "nll": "nll", "rewards/margins": "reward_margin", "rewards/accuracies": "accuracy"}


class TRLTrainer:
    """``Trainer`` on TRL. Devices are accelerate's: one process takes one, whatever ``start.device`` says but ``cpu``.

    With several processes the last step of an epoch may see a few rows twice (accelerate evens out its batches).
    """

    together = True  # in all processes of a launch at once

    def __init__(self) -> None:
        self.fingerprint = f"trl-{trl.__version__}/transformers-{transformers.__version__}/torch-{torch.__version__}"

    def train(
        self, rows: Sequence[PreferenceRow], start: ModelSpec, options: TrainOptions, folder: Path, progress: Progress
    ) -> dict[str, Any]:
        """See ``Trainer.train``. KTO's reference is the start model; DPO's is, where rows bring no log-probabilities.

        A pass that runs out of memory is taken up again with smaller micro-batches, which changes no DPO or SFT step,
        unless ``micro_batch_size`` is given or several processes run. The summary also has the ``micro_batch_size``
        that fitted, and ``merged``: whether an adapter was trained but a whole model written.
        """
        began = time.monotonic()
        with quiet():
            identity = fingerprint(start)
            tokenizer, config = open_tokenizer(start)
            window = getattr(config.get_text_config(), "max_position_embeddings", None)
            found = tokenise(rows, PromptTemplate(tokenizer, start.chat_template_kwargs), options, window)
            sizes = _micro_batches(options, found)
            work = folder / RESUME
            claim(work, [found.digest, identity, start.dtype, options.model_dump(mode="json")])
            trainer = fit(lambda size: build(found, start, options, size, tokenizer, work), sizes, work, progress)
            merged = publish(trainer, start, options, config, tokenizer, folder)
            summary: dict[str, Any] = {
                "rows": len(found.rows),
                "steps": trainer.state.global_step,
                "tokens": int(trainer.state.num_input_tokens_seen),
                "dropped": dict(found.dropped),
                "languages": dict(found.languages),
                "micro_batch_size": trainer.args.per_device_train_batch_size,
                "merged": merged,
                "curve": _curve(trainer.state.log_history),
                "seconds": time.monotonic() - began,
            }
            if trainer.is_world_process_zero():
                (folder / "README.md").write_text(model_card(start, options, summary), encoding="utf-8")
                shutil.rmtree(work)
            trainer.accelerator.wait_for_everyone()
            return summary


def _micro_batches(options: TrainOptions, found: Tokenised) -> list[int]:
    least = 2 if options.method == "kto" else 1  # a KL term needs another prompt's answer
    sequences = 2 if options.method == "dpo" else 1
    return micro_batches(options.batch_size, options.micro_batch_size, sequences * found.longest, least)


def publish(
    trainer: Any,
    start: ModelSpec,
    options: TrainOptions | SFTTrainOptions,
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    ends: Sequence[int] = (),
) -> bool:
    """Write the checkpoint; True when it is a whole model although an adapter was trained.

    Args:
        ends: the tokens that end an answer, where they are others than the start's own.
    """
    # An adapter on top of weights that are on no disk would be of no use to anyone.
    merged = options.lora is not None and (options.lora.merge or start.adapter is not None)
    if merged:
        merge(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    # Training changes these for its own ends (no cache, the tokenizer's tokens); a checkpoint without cache is slow.
    original = config.get_text_config()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "use_cache"):
        if hasattr(original, name):
            setattr(model.config.get_text_config(), name, getattr(original, name))
    model.generation_config = generation_config(start, config)
    if ends:
        model.generation_config.eos_token_id = list(ends)
    save(trainer, options.lora is None or merged, config, tokenizer, folder)
    return merged


def _curve(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"step": entry["step"]} | {ours: entry[theirs] for theirs, ours in CURVE.items() if theirs in entry}
        for entry in history
        if "loss" in entry
    ]
