"""Reward models through TRL: Bradley–Terry or pointwise, full or LoRA, one process or under ``accelerate launch``."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from polypref.backends.base import ModelSpec, Progress
from polypref.backends.fingerprints import fingerprint
from polypref.backends.model_card import reward_card
from polypref.backends.reward_head import HEAD, choose_pad, grows, keeps_head, open_reward_model, use_template
from polypref.backends.reward_training import ADAPTER_NOTE, RewardRow, RewardTrainOptions
from polypref.backends.templates import PromptTemplate
from polypref.backends.training import template_text
from polypref.backends.trl_reward_data import RewardRows, tokenise
from polypref.backends.trl_reward_trainer import SELECTION, Collator, Evaluations, RewardModelTrainer
from polypref.backends.trl_runs import RESUME, claim, fit, merge, micro_batches, quiet, save
from polypref.backends.trl_setup import arguments, lora_config, one_device, open_tokenizer, reporters, without_dropout
from polypref.errors import InputError, RecipeError


class TRLRewardTrainer:
    """``RewardTrainer`` for language models. Devices are accelerate's, as in ``TRLTrainer``."""

    together = True  # in all processes of a launch at once

    def __init__(self) -> None:
        self.fingerprint = (
            f"reward-trl-{trl.__version__}/transformers-{transformers.__version__}/torch-{torch.__version__}"
        )

    def train(
        self,
        rows: Sequence[RewardRow],
        validation: Sequence[RewardRow],
        start: ModelSpec | None,
        options: RewardTrainOptions,
        folder: Path,
        progress: Progress,
    ) -> dict[str, Any]:
        """See ``RewardTrainer.train``. A pass that runs out of memory is taken up again with smaller micro-batches,
        which changes no step. The summary also has ``validation_dropped``, ``max_length`` (the model's window is
        never passed), the ``micro_batch_size`` that fitted, and ``merged``: whether an adapter was trained but a whole
        model written."""
        began = time.monotonic()
        if start is None:
            raise RecipeError("a reward model of the method transformer is made of a model; name it as start")
        with quiet():
            job = _Job(rows, validation, start, options)
            work = folder / RESUME
            claim(work, job.told)
            sizes = micro_batches(options.batch_size, options.micro_batch_size, job.tokens)
            trainer = fit(lambda size: job.trainer(size, work), sizes, work, progress)
            job.publish(trainer, folder)
            summary = job.summary(trainer) | {"seconds": time.monotonic() - began}
            if trainer.is_world_process_zero():
                (folder / "README.md").write_text(reward_card(start, options, summary), encoding="utf-8")
                shutil.rmtree(work)
            trainer.accelerator.wait_for_everyone()
            return summary


class _Job:
    """One training: what it starts from, and its rows as token ids."""

    def __init__(
        self,
        rows: Sequence[RewardRow],
        validation: Sequence[RewardRow],
        start: ModelSpec,
        options: RewardTrainOptions,
    ) -> None:
        self.start, self.options = start, options
        identity = fingerprint(start)
        self.tokenizer, self.config = open_tokenizer(start)
        self.kept = keeps_head(start, self.config, options)
        use_template(start, self.tokenizer, template_text(options.chat_template) if options.chat_template else None)
        template = PromptTemplate(self.tokenizer, start.chat_template_kwargs)
        template.check()
        self.pad = choose_pad(self.tokenizer, template.end_of_turn)
        # An adapter on top of weights that are on no disk would be of no use to anyone.
        self.merged = options.lora is not None and (options.lora.merge or start.adapter is not None)
        if options.lora is not None and not self.merged and grows(self.config, self.tokenizer):
            raise RecipeError(
                f"{start.path} has no token that could be the padding, and an adapter cannot bring the new one's "
                "embedding; set lora.merge, or leave lora out"
            )
        window = getattr(self.config.get_text_config(), "max_position_embeddings", None) or options.max_length
        self.max_length = min(options.max_length, window)
        self.training: RewardRows = tokenise(rows, template, options, self.max_length)
        self.validation: RewardRows = tokenise(validation, template, options, self.max_length)
        if not self.training.rows:
            why = ", ".join(f"{count} {reason}" for reason, count in self.training.dropped.items()) or "none was given"
            raise InputError(f"no row is left to train on: {why}; look at the preference data")
        digests = [self.training.digest, self.validation.digest]
        self.told = [*digests, identity, start.dtype, options.model_dump(mode="json"), self.pad]

    @property
    def tokens(self) -> int:
        """Of the longest row."""
        sequences = 2 if self.options.loss == "bradley_terry" else 1
        return sequences * max(self.training.longest, self.validation.longest)

    def trainer(self, micro_batch: int, work: Path) -> RewardModelTrainer:
        options = self.options
        common = arguments(self.start, options, micro_batch, len(self.training.rows), work)
        select = options.select if self.validation.rows else "last"
        config = trl.RewardConfig(
            **common,
            metric_for_best_model=None if select == "last" else SELECTION,
            greater_is_better=True,
            remove_unused_columns=False,
            disable_dropout=options.lora is None or not options.lora.dropout,
        )
        # Evaluations are called by their own callback, so transformers' check of an evaluation strategy does not hold.
        config.load_best_model_at_end = select != "last"
        given = reporters(options, work.parent)
        if self.validation.rows:
            given.append(Evaluations(options.evaluations, work))
        dtype = self.start.dtype
        if dtype == "auto" and (options.lora is None or not config.bf16):
            dtype = "float32"
        model = open_reward_model(self.start, self.kept, dtype, options.seed, self.tokenizer)
        if config.disable_dropout:
            without_dropout(model)
        if config.bf16:
            getattr(model, HEAD).float()  # bfloat16 would swallow its updates
        return RewardModelTrainer(
            model=model,
            args=one_device(config),
            processing_class=self.tokenizer,
            data_collator=Collator(self.tokenizer.pad_token_id),
            train_dataset=datasets.Dataset.from_list(self.training.rows),
            peft_config=lora_config(options.lora, task_type="SEQ_CLS", modules_to_save=[HEAD]),
            callbacks=given,
            validation=self.validation.rows,
            centre=options.centre,
            select=select,
        )

    def publish(self, trainer: Any, folder: Path) -> None:
        """Write the checkpoint, or the adapter with its head."""
        if self.merged:
            merge(trainer)
        model = trainer.accelerator.unwrap_model(trainer.model)
        note = {"input": "turns", "max_length": self.max_length, "loss": self.options.loss}
        model.config.polypref = note
        # Training changes these for its own ends (no cache, the tokenizer's tokens).
        original = self.config.get_text_config()
        for name in ("bos_token_id", "eos_token_id", "use_cache"):
            if hasattr(original, name):
                setattr(model.config.get_text_config(), name, getattr(original, name))
        whole = self.options.lora is None or self.merged
        save(trainer, whole, self.config, self.tokenizer, folder)
        if not whole and trainer.is_world_process_zero():
            (folder / ADAPTER_NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")

    def summary(self, trainer: Any) -> dict[str, Any]:
        state = trainer.state
        return {
            "rows": len(self.training.rows),
            "validation_rows": len(self.validation.rows),
            "steps": state.global_step,
            "max_length": self.max_length,
            "truncated": {"train": self.training.truncated, "validation": self.validation.truncated},
            "dropped": dict(self.training.dropped),
            "validation_dropped": dict(self.validation.dropped),
            "languages": dict(self.training.languages),
            "curve": _curve(state.log_history, ""),
            "validation": _curve(state.log_history, "eval_"),
            "selected_step": state.best_global_step or state.global_step,
            "head": "kept" if self.kept else "new",
            "pad_token": self.pad,
            "micro_batch_size": trainer.args.per_device_train_batch_size,
            "merged": self.merged,
        }


def _curve(history: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    names = {prefix + name: name for name in ("loss", "accuracy", "margin")}
    return [
        {"step": entry["step"]} | {ours: entry[theirs] for theirs, ours in names.items() if theirs in entry}
        for entry in history
        if f"{prefix}loss" in entry
    ]
