"""Supervised fine-tuning with a look at the validation rows, again and again, that says which weights are the best.

The validation loss of a language is the mean over the tokens of its answers, end-of-turn included:

    L_ℓ = 1/Σ_i |y_i| Σ_i Σ_t −log π(y_i,t | x_i, y_i,<t)        in nats

and every metric's figure is the mean over the languages, each counting the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from polypref.backends.answers import AnswerReader, end_ids
from polypref.backends.base import Completion, Generator, ModelSpec, Request, Sampling
from polypref.backends.hf_batches import TOKENS
from polypref.backends.hf_generate import HFGenerator
from polypref.backends.hf_models import LoadedModel, Weights, short_window, window
from polypref.backends.sft_training import METRIC, Figures, Measure
from polypref.backends.templates import PromptTemplate
from polypref.backends.trl_reward_trainer import SELECTION
from polypref.backends.trl_trainers import ChosenTrainer
from polypref.errors import ModelError, RecipeError


class InTraining(HFGenerator):
    """A ``Generator`` on the model that is being trained, as it is now."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, start: ModelSpec) -> None:
        template = PromptTemplate(tokenizer, start.chat_template_kwargs)
        if hasattr(model, "get_base_model"):  # the adapter lies in its layers, and its forward takes positions
            model = model.get_base_model()
        self.fingerprint = "in-training"
        self.loaded = LoadedModel(
            Weights(model),
            None,
            tokenizer,
            template,
            window(model),
            short_window(model),
            model.device,
            model.dtype,
            self.fingerprint,
        )
        # Beside the optimiser's state there is little room.
        self.batch_tokens = self.cache_tokens = start.batch_tokens or TOKENS
        self.end_ids = end_ids(template, tokenizer, model.generation_config)
        self.reader = AnswerReader(tokenizer)


class _Shared:
    """A ``Generator`` of the first process, whose requests all processes share; the others ``follow`` meanwhile."""

    fingerprint = "shared"

    def __init__(self, inner: Generator, process: int, processes: int) -> None:
        self._inner, self._process, self._processes = inner, process, processes

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        broadcast_object_list([(requests, sampling)])
        return self._share(requests, sampling)

    def follow(self) -> None:
        """Answer one's share of whatever the first process asks, until it is done."""
        while (asked := broadcast_object_list([None])[0]) is not None:
            self._share(*asked)

    def dismiss(self) -> None:
        """Let the followers go."""
        broadcast_object_list([None])

    def _share(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        mine = range(self._process, len(requests), self._processes)
        found = self._inner.generate([requests[index] for index in mine], sampling)
        every = dict(gather_object(list(zip(mine, found, strict=True))))
        return [every[index] for index in range(len(requests))]


class SelectingTrainer(ChosenTrainer):
    """Supervised fine-tuning on rows with ``input_ids`` and ``labels``; ``validation`` rows have a ``lang`` as well.

    ``select`` says which figure makes an evaluation the best, or last; ``measure`` is given ``answering`` (the model in
    training as a ``Generator``) and adds figures of its own.
    """

    def __init__(
        self,
        *args: Any,
        validation: Sequence[dict[str, Any]],
        select: str,
        measure: Measure | None,
        answering: Callable[[Any], Generator],
        **kwargs: Any,
    ) -> None:
        self.validation = sorted(validation, key=lambda row: len(row["input_ids"]))
        self.select, self.measure, self.answering = select, measure, answering
        super().__init__(*args, **kwargs)
        if measure is not None and (self.is_fsdp_enabled or is_deepspeed_zero3_enabled()):
            raise RecipeError(
                "the model's parts lie on several devices (FSDP or ZeRO-3), where it cannot answer while it is "
                "trained; select by loss or last, and name no scorer"
            )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Every figure, overall and by language (``eval_loss``, ``eval_loss/es``), and whether they are the best yet.

        Raises:
            ModelError: the loss is not finite.
        """
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            figures: Figures = {"loss": self._losses()} | self._measured()
        metrics = {}
        for name, values in figures.items():
            metrics[f"eval_{name}"] = math.fsum(values.values()) / len(values)
            metrics |= {f"eval_{name}/{lang}": value for lang, value in values.items()}
        if self.select != "last":
            value = metrics[f"eval_{METRIC[self.select]}"]
            metrics[SELECTION] = -value if self.select == "loss" else value
            if self.state.best_metric is None or metrics[SELECTION] > self.state.best_metric:
                self.control.should_save = True
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.model.train(training)
        return metrics

    def _losses(self) -> dict[str, float]:
        """Language → validation loss; each row is counted once, whatever the processes."""
        size, processes = self.args.per_device_train_batch_size, self.accelerator.num_processes
        batches = [self.validation[i : i + size] for i in range(0, len(self.validation), size)]
        passes = math.ceil(len(batches) / processes)
        found: list[tuple[str, float, int]] = []
        # Every process makes as many passes as the others, since a sharded model waits for all of them.
        for index in range(self.accelerator.process_index, passes * processes, processes):
            rows = batches[index % len(batches)]
            sums, tokens = self._rows(rows)
            if index < len(batches):
                found += zip((row["lang"] for row in rows), sums.tolist(), tokens.tolist(), strict=True)
        every = gather_object(found)
        losses = {}
        for lang in sorted({lang for lang, _, _ in every}):
            own = [row for row in every if row[0] == lang]
            losses[lang] = math.fsum(row[1] for row in own) / sum(row[2] for row in own)
            if not math.isfinite(losses[lang]):
                raise ModelError(
                    f"the validation loss in {lang} is {losses[lang]} after step {self.state.global_step}; lower "
                    "train.learning_rate, or set train.bf16 to false"
                )
        return losses

    def _rows(self, rows: Sequence[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Of each row Σ_t −log π of its answer's tokens, and their number."""
        tokens = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
        inputs = self._prepare_inputs(self.data_collator(tokens))
        outputs = self.model(**inputs, use_cache=False, fused_lm_head=True)
        return -outputs.log_probs.double().sum(dim=1), outputs.label_mask.sum(dim=1)

    def _measured(self) -> Figures:
        """What ``measure`` finds. The first process asks it and tells the others, so that a judge is asked once and all
        of them keep the same checkpoint."""
        if self.measure is None:
            return {}
        inner = self.answering(self.accelerator.unwrap_model(self.model))
        if self.accelerator.num_processes == 1:
            return self.measure(inner)
        shared = _Shared(inner, self.accelerator.process_index, self.accelerator.num_processes)
        found: list[Figures | None] = [None]
        if not self.accelerator.is_main_process:
            shared.follow()
        else:
            try:
                found = [self.measure(shared)]
            finally:
                shared.dismiss()
        return broadcast_object_list(found)[0] or {}
