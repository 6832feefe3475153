"""Scores of sequence classifiers, our reward models and any other: the same in any batch, and within memory.

An answer's score is the model's own output for its sequence alone. Decoders are padded on the right without a mask
(they never look there) and read at the last token; answers to one prompt share the keys and values of the tokens that
they begin with. Encoders are padded under an attention mask.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from polypref.backends.base import Judged, ScorerSpec
from polypref.backends.hf_engine import Engine, Row
from polypref.backends.hf_files import quiet
from polypref.backends.hf_heads import vocabulary
from polypref.backends.hf_prefixes import padded
from polypref.backends.hf_reward_models import (
    RewardModel,
    bears_padding,
    is_causal,
    is_read_at_the_end,
    open_reward_model,
)
from polypref.backends.judging import RewardModelSettings, settings_of
from polypref.backends.reward_inputs import Input, RewardInputs
from polypref.errors import ModelError


@dataclass(frozen=True, slots=True)
class _Row(Row):
    """A sequence whose tokens may have segments."""

    segments: list[int] | None = None


class HFRewardModel:
    """A ``Scorer`` on a sequence classifier of transformers, LoRA adapters included; higher is better.

    The score is the only output, or the one that ``settings.label`` names: as it is for regression and independent
    labels, its log-odds against the other labels where they exclude each other (``config.problem_type``; transformers
    takes several labels for exclusive when nothing is said).
    """

    VERSION: ClassVar[int] = 1

    @classmethod
    def opened(cls, spec: ScorerSpec, open: Callable[..., Any]) -> HFRewardModel:
        """
        Raises:
            RecipeError: a wrong setting.
            ModelError: there is no model, or it cannot be used as asked.
        """
        if spec.model is None:
            raise ModelError("reward_model needs a model; give a folder or hub name of a sequence classifier")
        settings = settings_of(RewardModelSettings, spec)
        return cls(open_reward_model(spec.model), settings)

    def __init__(self, loaded: RewardModel, settings: RewardModelSettings) -> None:
        self.loaded, self.name = loaded, loaded.spec.path
        self.truncated = 0
        """Answers so far whose sequence lost its beginning."""
        model = loaded.model
        with quiet():
            causal = is_causal(model)
            self._at_the_end = causal and is_read_at_the_end(model, loaded.pad)
            self._masked = not self._at_the_end and bears_padding(model, loaded.pad)
            self._engine = Engine(loaded, loaded.spec, share=settings.share_prompts and self._at_the_end)
        if not (self._at_the_end or self._masked):
            warnings.warn(f"{self.name}: padding changes its scores, so it is run one sequence at a time", stacklevel=2)
        self.inputs = RewardInputs(
            loaded.tokenizer,
            loaded.spec.chat_template_kwargs,
            _input(settings, loaded, causal),
            _max_length(settings, loaded),
            self.name,
        )
        self._label = _label(settings, model.config, self.name)
        read = f"{self.inputs.input}:{self._label[0]}:{self.inputs.max_length}"
        self.fingerprint = f"reward_model:{read}:{loaded.fingerprint}"

    def score(self, answers: Sequence[Judged]) -> list[float]:
        """See ``Scorer.score``.

        Raises:
            ModelError: a score is NaN or infinite, a conversation cannot be rendered, or one sequence alone does not
                fit into memory; the message names the answer's id.
        """
        rows = self._rows(answers)
        with quiet():  # transformers takes an end-of-turn that is the pad token as well for padding, and says so
            values = self._engine.run(rows, self._at_last) if self._at_the_end else self._own(rows)
        for row, value in zip(rows, values, strict=True):
            if not math.isfinite(value):
                raise ModelError(
                    f"{row.id}: its score under {self.name} is {value}; the model is damaged or its dtype too "
                    "small, try float32"
                )
        return values

    @property
    def shares_prompts(self) -> bool:
        """Whether answers to one prompt share the pass over the tokens that they begin with, where it is worth it."""
        return self._engine.shares

    # --- rows --------------------------------------------------------------------------------------------------------

    def _rows(self, answers: Sequence[Judged]) -> list[_Row]:
        """A decoder's row is read at its last token; answers to one prompt may share what is before, unless cut."""
        found = [self.inputs.of(answer) for answer in answers]
        size = vocabulary(self.loaded.weights.base)
        for answer, tokens in zip(answers, found, strict=True):
            if max(tokens.ids) >= size:  # an index error on the host, the end of the process on an accelerator
                raise ModelError(
                    f"{answer.id}: token {max(tokens.ids)} is beyond the vocabulary of {size} of {self.name}; "
                    "give the model its own tokenizer"
                )
        if cut := sum(tokens.cut > 0 for tokens in found):
            if not self.truncated:
                warnings.warn(
                    f"{self.name}: {cut} of {len(found)} answers are longer than {self.inputs.max_length} tokens with "
                    "their prompt and were scored without their beginning; this is said once",
                    stacklevel=3,
                )
            self.truncated += cut
        return [
            _Row(
                place,
                answer.id,
                tokens.ids,
                self.loaded.last(tokens.ids),
                None if tokens.cut else repr(list(answer.messages)),
                segments=tokens.segments,
            )
            for place, (answer, tokens) in enumerate(zip(answers, found, strict=True))
        ]

    # --- forward passes ----------------------------------------------------------------------------------------------

    def _at_last(self, hidden: Tensor, before: Sequence[int], rows: Sequence[Row]) -> list[float]:
        """The scores of decoders from hidden states [n, T, D], before which row i has ``before[i]`` tokens."""
        at = torch.tensor([row.unread - gone for row, gone in zip(rows, before, strict=True)], device=hidden.device)
        return self._read(self.loaded.model.score(hidden[torch.arange(len(rows), device=hidden.device), at]))

    def _own(self, rows: Sequence[_Row]) -> list[float]:
        """The scores by the model's own forward pass: under a mask, or one by one."""
        ordered = sorted(rows, key=len, reverse=True)
        values = self._engine.batches.run(ordered, self._masked_scores if self._masked else self._one_by_one)
        found = {row.place: value for row, value in zip(ordered, values, strict=True)}
        return [found[row.place] for row in rows]

    def _one_by_one(self, rows: Sequence[_Row]) -> list[float]:
        return [value for row in rows for value in self._masked_scores([row])]

    @torch.inference_mode()
    def _masked_scores(self, rows: Sequence[_Row]) -> list[float]:
        model, extra = self.loaded.model, {}
        ids = self._padded([row.ids for row in rows], self.loaded.pad or 0)
        if rows[0].segments is not None:
            segments = [row.segments or [] for row in rows]
            extra["token_type_ids"] = self._padded(segments, self.loaded.tokenizer.pad_token_type_id)
        mask = self._padded([[1] * len(row) for row in rows], 0)
        return self._read(model(input_ids=ids, attention_mask=mask, **extra).logits)

    def _padded(self, rows: Sequence[Sequence[int]], padding: int) -> Tensor:
        return padded(rows, padding, self.loaded.device)

    def _read(self, logits: Tensor) -> list[float]:
        """The rewards of outputs [n, labels]."""
        label, exclusive = self._label
        values = logits.double().cpu()
        if exclusive:
            others = [k for k in range(values.shape[1]) if k != label]
            return [float(v) for v in values[:, label] - values[:, others].logsumexp(-1)]
        return [float(v) for v in values[:, label]]


def _input(settings: RewardModelSettings, loaded: RewardModel, causal: bool) -> Input:
    if settings.input != "auto":
        return settings.input
    told = loaded.own.get("input")
    if told is not None:
        if told not in ("turns", "template", "pair"):
            raise ModelError(
                f"{loaded.spec.path}: its configuration says polypref.input {told!r}; give settings.input: "
                "turns, template or pair"
            )
        return told  # type: ignore[no-any-return]
    if getattr(loaded.tokenizer, "chat_template", None):
        return "template"
    if not causal:
        return "pair"
    raise ModelError(
        f"{loaded.spec.path} has no chat template, so nothing says how a conversation is written for it; put a "
        "chat_template.jinja beside its tokenizer, or give settings.input: pair"
    )


def _max_length(settings: RewardModelSettings, loaded: RewardModel) -> int | None:
    """The bound that was asked for, else the one of training, else the tokenizer's, and never beyond the window."""
    told = loaded.own.get("max_length")
    own = told if isinstance(told, int) else loaded.tokenizer.model_max_length  # where unknown, of 31 digits
    if settings.max_length is not None:
        own = settings.max_length
        if loaded.window is not None and own > loaded.window:
            raise ModelError(
                f"settings.max_length {own} is more than the {loaded.window} tokens that {loaded.spec.path} can read"
            )
    return min(own, loaded.window) if loaded.window is not None else own


def _label(settings: RewardModelSettings, config: Any, name: str) -> tuple[int, bool]:
    """Which output is the reward, and whether the labels exclude each other."""
    names = [str(config.id2label.get(k, k)) for k in range(config.num_labels)]
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    label = settings.label
    if label is None:
        if len(names) > 1:
            raise ModelError(f"{name} has {len(names)} labels ({shown}); say by settings.label which is the reward")
        label = 0
    elif isinstance(label, str):
        if label not in names:
            raise ModelError(f"{name} has no label {label!r}; its labels are {shown}")
        label = names.index(label)
    elif not 0 <= label < len(names):
        raise ModelError(f"{name} has no label {label}; its labels are 0 to {len(names) - 1} ({shown})")
    return label, len(names) > 1 and config.problem_type in (None, "single_label_classification")
