"""Supervised fine-tuning through TRL, full or LoRA, on one process or under ``accelerate launch``; the best checkpoint
is kept."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from polypref.backends.answers import end_ids
from polypref.backends.base import ModelSpec, Progress
from polypref.backends.fingerprints import fingerprint
from polypref.backends.reward_head import use_template
from polypref.backends.sft_card import sft_card
from polypref.backends.sft_training import Measure, SFTRow, SFTTrainOptions
from polypref.backends.templates import PromptTemplate
from polypref.backends.training import template_text
from polypref.backends.trl import publish
from polypref.backends.trl_reward_trainer import SELECTION, Evaluations
from polypref.backends.trl_runs import RESUME, claim, fit, micro_batches, quiet
from polypref.backends.trl_setup import (
    arguments,
    generation_config,
    lora_config,
    one_device,
    open_tokenizer,
    open_trainable,
    reporters,
)
from polypref.backends.trl_sft_data import tokenise
from polypref.backends.trl_sft_trainer import InTraining, SelectingTrainer
from polypref.errors import InputError


class TRLSFTTrainer:
    """``SFTTrainer`` on TRL. Devices are accelerate's, as in ``TRLTrainer``."""

    together = True  # in all processes of a launch at once

    def __init__(self) -> None:
        self.fingerprint = (
            f"sft-trl-{trl.__version__}/transformers-{transformers.__version__}/torch-{torch.__version__}"
        )

    def train(
        self,
        rows: Sequence[SFTRow],
        validation: Sequence[SFTRow],
        start: ModelSpec,
        options: SFTTrainOptions,
        folder: Path,
        progress: Progress,
        measure: Measure | None = None,
    ) -> dict[str, Any]:
        """See ``SFTTrainer.train``. A pass that runs out of memory is taken up again with smaller micro-batches, which
        changes no step. The summary also has the ``micro_batch_size`` that fitted, and ``merged``: whether an adapter
        was trained but a whole model written."""
        began = time.monotonic()
        with quiet():
            job = _Job(rows, validation, start, options, measure)
            work = folder / RESUME
            claim(work, job.told)
            sizes = micro_batches(options.batch_size, options.micro_batch_size, job.tokens)
            trainer = fit(lambda size: job.trainer(size, work), sizes, work, progress)
            merged = publish(trainer, start, options, job.config, job.tokenizer, folder, job.new_ends)
            summary = job.summary(trainer) | {"merged": merged, "seconds": time.monotonic() - began}
            if trainer.is_world_process_zero():
                (folder / "README.md").write_text(sft_card(start, options, summary), encoding="utf-8")
                shutil.rmtree(work)
            trainer.accelerator.wait_for_everyone()
            return summary


class _Job:
    """One training: what it starts from, and its rows as token ids."""

    def __init__(
        self,
        rows: Sequence[SFTRow],
        validation: Sequence[SFTRow],
        start: ModelSpec,
        options: SFTTrainOptions,
        measure: Measure | None,
    ) -> None:
        self.start, self.options, self.measure = start, options, measure
        identity = fingerprint(start)
        self.tokenizer, self.config = open_tokenizer(start)
        use_template(start, self.tokenizer, template_text(options.chat_template) if options.chat_template else None)
        template = PromptTemplate(self.tokenizer, start.chat_template_kwargs)
        template.check()
        # A template that was put in may end its turns with a token that the start has never ended anything with.
        own = generation_config(start, self.config)
        self.new_ends = end_ids(template, self.tokenizer, own) if options.chat_template else []
        window = getattr(self.config.get_text_config(), "max_position_embeddings", None) or options.max_length
        longest = min(options.max_length, window)
        self.training, self.validation = (tokenise(side, template, longest) for side in (rows, validation))
        if not self.training.rows:
            why = ", ".join(f"{count} {reason}" for reason, count in self.training.dropped.items()) or "none was given"
            raise InputError(
                f"no demonstration is left to train on: {why}; look at the data, or raise train.max_length ({longest})"
            )
        self.select = options.select if self.validation.rows else "last"
        digests = [self.training.digest, self.validation.digest]
        self.told = [*digests, identity, start.dtype, options.model_dump(mode="json"), self.tokenizer.chat_template]

    @property
    def tokens(self) -> int:
        """Of the longest row."""
        return max(self.training.longest, self.validation.longest)

    def trainer(self, micro_batch: int, work: Path) -> SelectingTrainer:
        options = self.options
        common = arguments(self.start, options, micro_batch, len(self.training.rows), work)
        config = trl.SFTConfig(
            **common,
            dataset_kwargs={"skip_prepare_dataset": True},
            packing=False,
            metric_for_best_model=None if self.select == "last" else SELECTION,
            greater_is_better=True,
        )
        # Evaluations are called by their own callback, so transformers' check of an evaluation strategy does not hold.
        config.load_best_model_at_end = self.select != "last"
        callbacks = reporters(options, work.parent)
        if self.validation.rows:
            callbacks.append(Evaluations(options.evaluations, work))
        columns = [{name: row[name] for name in ("input_ids", "labels")} for row in self.training.rows]
        return SelectingTrainer(
            model=open_trainable(self.start, options),
            args=one_device(config),
            processing_class=copy.deepcopy(self.tokenizer),  # TRL gives it a pad token
            train_dataset=datasets.Dataset.from_list(columns),
            peft_config=lora_config(options.lora, task_type="CAUSAL_LM"),
            callbacks=callbacks,
            validation=self.validation.rows,
            select=self.select,
            measure=self.measure,
            answering=lambda model: InTraining(model, self.tokenizer, self.start),
        )

    def summary(self, trainer: Any) -> dict[str, Any]:
        state = trainer.state
        return {
            "rows": len(self.training.rows),
            "validation_rows": len(self.validation.rows),
            "steps": state.global_step,
            "tokens": int(state.num_input_tokens_seen),
            "dropped": dict(self.training.dropped),
            "validation_dropped": dict(self.validation.dropped),
            "languages": dict(self.training.languages),
            "curve": [{"step": e["step"], "loss": e["loss"]} for e in state.log_history if "loss" in e],
            "checkpoints": [_figures(e) for e in state.log_history if "eval_loss" in e],
            "select": self.select,
            "selected": state.best_global_step or state.global_step,
            "micro_batch_size": trainer.args.per_device_train_batch_size,
        }


def _figures(entry: dict[str, Any]) -> dict[str, Any]:
    """An evaluation of the log: its step, every metric, and the same by language."""
    found: dict[str, Any] = {"step": entry["step"]}
    by_language: dict[str, dict[str, float]] = {}
    for name, value in entry.items():
        metric, slash, lang = name.removeprefix("eval_").partition("/")
        if slash:
            found[metric] = entry[f"eval_{metric}"]
            by_language.setdefault(lang, {})[metric] = value
    return found | {"by_language": by_language}
