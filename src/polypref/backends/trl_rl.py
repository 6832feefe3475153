"""Reinforcement learning through TRL: RLOO or GRPO, full or LoRA, on one process or under ``accelerate launch``."""

from __future__ import annotations

import copy
import importlib.util
import math
import os
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.rloo_config import RLOOConfig

from polypref.backends.answers import end_ids
from polypref.backends.base import ModelSpec, Progress
from polypref.backends.fingerprints import fingerprint
from polypref.backends.hf_batches import TOKENS, Batches
from polypref.backends.rl_card import rl_card
from polypref.backends.rl_figures import ALL, StopRules, grouped
from polypref.backends.rl_training import Identify, RLOptions, RLPrompt, Score
from polypref.backends.templates import PromptTemplate
from polypref.backends.training import TrainOptions
from polypref.backends.trl import publish
from polypref.backends.trl_rl_data import order_of, steps_of, tokenise_all
from polypref.backends.trl_rl_trainer import Course, GroupRelative, LeaveOneOut, checkpoints
from polypref.backends.trl_runs import RESUME, claim, fit, micro_batches, quiet
from polypref.backends.trl_setup import (
    arguments,
    lora_config,
    one_device,
    open_tokenizer,
    open_trainable,
    reporters,
    without_dropout,
)
from polypref.errors import RecipeError

CACHE_SHARE = 4
"""On an accelerator the answers' cache holds so many times ``batch_tokens`` positions at once, on a CPU once."""


class TRLRLTrainer:
    """``RLTrainer`` on TRL. Devices are accelerate's, as in ``TRLTrainer``.

    TRL has no PPO any more: RLOO keeps the paper's objective, E[r − β·KL], with the other answers' mean reward in the
    place of a value model.
    """

    together = True  # in all processes of a launch at once

    def __init__(self) -> None:
        self.fingerprint = f"rl-trl-{trl.__version__}/transformers-{transformers.__version__}/torch-{torch.__version__}"

    def train(
        self,
        prompts: Sequence[RLPrompt],
        validation: Sequence[RLPrompt],
        start: ModelSpec,
        options: RLOptions,
        folder: Path,
        progress: Progress,
        score: Score,
        identify: Identify,
    ) -> dict[str, Any]:
        """See ``RLTrainer.train``. A pass that runs out of memory is taken up again with smaller micro-batches, which
        changes no step. The summary also has the ``micro_batch_size`` that fitted, ``tokens`` seen, and ``merged``:
        whether an adapter was trained but a whole model written."""
        began = time.monotonic()
        with quiet(), warnings.catch_warnings():
            # TRL asks transformers by a name that transformers has given up, at every update.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            job = _Job(prompts, validation, start, options, score, identify)
            work = folder / RESUME
            claim(work, job.told)
            trainer = fit(lambda size: job.trainer(size, work), job.sizes, work, progress)
            merged = publish(trainer, start, job.shared, job.config, job.tokenizer, folder)
            summary = job.summary(trainer) | {"merged": merged, "seconds": time.monotonic() - began}
            if trainer.is_world_process_zero():
                (folder / "README.md").write_text(rl_card(start, options, summary), encoding="utf-8")
                shutil.rmtree(work)
            trainer.accelerator.wait_for_everyone()
            return summary


class _Job:
    """One training: what it starts from, and its prompts as token ids."""

    def __init__(
        self,
        prompts: Sequence[RLPrompt],
        validation: Sequence[RLPrompt],
        start: ModelSpec,
        options: RLOptions,
        score: Score,
        identify: Identify,
    ) -> None:
        _check(options)
        self.start, self.options, self.score, self.identify = start, options, score, identify
        self.tokenizer, self.config = open_tokenizer(start)
        self.template = PromptTemplate(self.tokenizer, start.chat_template_kwargs)
        self.template.check()
        window = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        self.training, self.held = tokenise_all(prompts, validation, self.template, options, window)
        self.steps = steps_of(options, len(self.training.rows))
        longest = max(self.training.longest, self.held.longest) + options.max_tokens
        self.sizes = micro_batches(options.batch_size * options.n, options.micro_batch_size, longest)
        # What preference training calls these settings; a row of its batch is an answer.
        same = RLOptions.model_fields.keys() & TrainOptions.model_fields.keys()
        same -= {"method", "loss_type", "beta", "micro_batch_size"}
        self.shared = TrainOptions.model_validate(
            {name: getattr(options, name) for name in same}
            | {"batch_size": options.batch_size * options.n, "max_steps": self.steps, "method": "sft"}
        )
        self.told = [
            self.training.digest,
            self.held.digest,
            fingerprint(start),
            start.dtype,
            options.model_dump(mode="json"),
        ]

    def trainer(self, micro_batch: int, work: Path) -> LeaveOneOut | GroupRelative:
        options, start = self.options, self.start
        common = arguments(start, self.shared, micro_batch, len(self.training.rows), work)
        del common["max_length"]
        rules = StopRules.of(options)
        watching = bool(self.held.rows) or bool(rules)
        common |= {
            "num_generations": options.n,
            "max_completion_length": options.max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "beta": 0.0,  # said to the trainer itself, which has its own reference
            "num_iterations": options.iterations,
            "epsilon": options.epsilon,
            "disable_dropout": True,
            "shuffle_dataset": False,  # the order is laid out already
            "include_num_input_tokens_seen": "no",  # TRL counts prompts and answers
            "logging_steps": options.iterations,
            "logging_first_step": False,
            "save_steps": self._rounded(options.save_steps),
            "remove_unused_columns": False,
            "use_vllm": options.vllm,
            "vllm_mode": "colocate",
        }
        kind: type[LeaveOneOut] | type[GroupRelative] = LeaveOneOut
        if options.method == "rloo":
            config: Any = RLOOConfig(**common, normalize_advantages=options.scale_rewards == "batch")
        else:
            kind = GroupRelative
            config = GRPOConfig(
                **common,
                loss_type=options.loss_type or "dapo",
                scale_rewards=options.scale_rewards or "group",
                use_bias_correction_kl=True,
            )
        model = open_trainable(start, self.shared)
        without_dropout(model)
        every = self._rounded(options.eval_steps or math.ceil(self.steps / 4))
        course = Course(rules, every, watching, work)
        order = order_of(len(self.training.rows), options)
        trainer = kind(
            model=model,
            args=one_device(config),
            processing_class=copy.deepcopy(self.tokenizer),  # TRL gives it a pad token
            train_dataset=datasets.Dataset.from_dict({"prompt": [str(place) for place in range(len(order))]}),
            peft_config=lora_config(options.lora, task_type="CAUSAL_LM"),
            callbacks=[*reporters(self.shared, work.parent), course],
            asked=self.training.rows,
            order=order,
            held=self.held.rows,
            end_ids=end_ids(self.template, self.tokenizer, model.generation_config),
            options=options,
            score=self.score,
            identify=self.identify,
            batches=Batches((start.batch_tokens or TOKENS) * (1 if config.use_cpu else CACHE_SHARE)),
        )
        # The course says which is the best, not transformers, which would refuse this without a metric of its own.
        trainer.args.load_best_model_at_end = watching
        course.trainer = trainer
        self.course = course
        return trainer

    def _rounded(self, steps: int) -> int:
        """Up to a multiple of μ: only there new answers are drawn, so only there a training can be taken up."""
        return math.ceil(steps / self.options.iterations) * self.options.iterations

    def summary(self, trainer: Any) -> dict[str, Any]:
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        told = [(entry, grouped(entry)) for entry in history]
        languages = sorted({group for _, groups in told for group in groups} - {ALL})
        by_language = {
            lang: [{"step": entry["step"], **groups[lang]} for entry, groups in told if lang in groups]
            for lang in languages
        }
        curve = [{"step": entry["step"], **groups[ALL], "loss": entry["loss"]} for entry, groups in told]
        watching = bool(trainer.args.load_best_model_at_end)
        return {
            "method": self.options.method,
            "rows": len(self.training.rows),
            "validation_rows": len(self.held.rows),
            "steps": trainer.state.global_step,
            "tokens": int(trainer.state.num_input_tokens_seen),
            "dropped": dict(self.training.dropped + self.held.dropped),
            "languages": dict(self.training.languages),
            "unscored": int(sum(entry["unscored"] or 0 for entry in curve)),
            "curve": curve,
            "by_language": by_language,
            "stopped": self.course.stopped,
            "checkpoints": checkpoints(trainer.state.log_history),
            "selected": (trainer.state.best_global_step or 0) if watching else trainer.state.global_step,
            "micro_batch_size": trainer.args.per_device_train_batch_size,
        }


def _check(options: RLOptions) -> None:
    """
    Raises:
        RecipeError: the options cannot be used here.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch_size % processes:
        raise RecipeError(
            f"train.batch_size is {options.batch_size} prompts, which {processes} processes cannot share equally; "
            "make it a multiple of them"
        )
    if options.vllm and importlib.util.find_spec("vllm") is None:
        raise RecipeError("train.vllm needs vllm, which is not installed here; install it, or leave train.vllm out")
