"""Hidden states of a Hugging Face checkpoint: of a language model or of a sequence classifier, adapters included.

A reward model and the base that it came from are shown the same tokens: the templated prompt with its generation
prompt, then the answer with its end-of-turn, as polypref trains and scores; without a chat template prompt and answer
as the tokenizer joins them. A sequence that is longer than the model's window keeps its last tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from polypref.backends.base import Answer, ModelSpec, Pooling, Text
from polypref.backends.hf_engine import Engine, Row
from polypref.backends.hf_files import quiet, source
from polypref.backends.hf_heads import body, vocabulary
from polypref.backends.hf_models import LoadedModel, Opening, open_model
from polypref.backends.hf_prefixes import padded
from polypref.backends.hf_reward_models import RewardModel, is_causal, open_reward_model
from polypref.backends.templates import PromptTemplate
from polypref.errors import ModelError


@dataclass(frozen=True, slots=True)
class _Row(Row):
    """A sequence whose tokens may have segments."""

    segments: list[int] | None = None


class HFHiddenStates:
    """A ``HiddenStates`` on transformers.

    Layer 0 is the embedding, layer L what the head of the model reads. Rows are padded on the right: a causal model
    never looks there, any other has an attention mask.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """
        Raises:
            ModelError: the checkpoint or its adapter cannot be opened.
        """
        self.loaded: LoadedModel | RewardModel = open_reward_model(spec) if _classifies(spec) else open_model(spec)
        self.name, self.fingerprint = spec.path, self.loaded.fingerprint
        self.tokenizer = self.loaded.tokenizer
        templated = getattr(self.tokenizer, "chat_template", None)
        self._template = PromptTemplate(self.tokenizer, spec.chat_template_kwargs) if templated else None
        model = self.loaded.model
        self.layers = int(model.config.get_text_config().num_hidden_layers)
        self._causal = is_causal(model)
        self._engine = Engine(self.loaded, spec, share=self._causal)
        self.truncated = 0
        """Texts so far that lost their beginning."""

    def hidden(self, texts: Sequence[Text], layers: Sequence[int], pooling: Pooling) -> list[Any]:
        """See ``HiddenStates.hidden``; ``last`` is the last token's state, ``mean`` that of all tokens.

        Raises:
            ModelError: a state is NaN or infinite, a conversation cannot be rendered, or one sequence alone does not
                fit into memory; the message names the text's id.
        """
        numbers = [range(self.layers + 1)[layer] for layer in layers]
        rows = sorted(self._rows(texts), key=len, reverse=True)  # so that memory runs out at once or not at all
        if self._causal and pooling == "last" and set(numbers) == {self.layers} and rows and rows[0].segments is None:
            pooled = [state.expand(len(numbers), -1) for state in self._engine.run(rows, _at_last)]
        else:
            pooled = self._engine.batches.run(rows, lambda batch: self._pooled(batch, numbers, pooling))
        out: list[Tensor] = [torch.empty(0)] * len(texts)
        for row, states in zip(rows, pooled, strict=True):
            if not states.isfinite().all():
                raise ModelError(
                    f"{row.id}: its hidden states under {self.name} are not finite; the model is damaged or its dtype "
                    "too small, try float32"
                )
            out[row.place] = states
        return [torch.stack([states[k] for states in out]).numpy() for k in range(len(numbers))]

    def _rows(self, texts: Sequence[Text]) -> list[_Row]:
        window, cut, rows = self.loaded.window, 0, []
        size = vocabulary(self.loaded.weights.base)
        for place, text in enumerate(texts):
            try:
                ids, segments = self._templated(text) if self._template else self._joined(text, None)
                if window is not None and len(ids) > window:
                    cut += 1
                    ids, segments = (ids[-window:], None) if self._template else self._joined(text, window)
            except ModelError as error:
                raise ModelError(f"{text.id}: {error}") from None
            if not ids or max(ids) >= size:  # an index error on the host, the end of the process on an accelerator
                raise ModelError(
                    f"{text.id}: its tokens are none, or beyond the vocabulary of {size} of {self.name}; "
                    "give the model its own tokenizer"
                )
            rows.append(_Row(place, text.id, ids, len(ids) - 1, repr(list(text.messages)), segments=segments))
        if cut and not self.truncated:
            warnings.warn(
                f"{self.name}: {cut} of {len(texts)} texts are longer than its window of {window} tokens and were read "
                "without their beginning; this is said once",
                stacklevel=3,
            )
        self.truncated += cut
        return rows

    def _templated(self, text: Text) -> tuple[list[int], None]:
        assert self._template is not None
        ids = self._template.prompt_ids(text.messages)
        if text.answer is not None:
            ids += self._template.answer_tokens(Answer(text.id, text.messages, text.answer))[0]
        return ids, None

    def _joined(self, text: Text, most: int | None) -> tuple[list[int], list[int] | None]:
        """Without a chat template: the turns' texts with an empty line between them, then the answer."""
        parts = ["\n\n".join(str(message["content"]) for message in text.messages)]
        parts += [] if text.answer is None else [text.answer]
        self.tokenizer.truncation_side = "left"
        found = self.tokenizer(*parts, truncation=most is not None, max_length=most)
        return list(found["input_ids"]), found.get("token_type_ids")

    @torch.inference_mode()
    def _pooled(self, rows: Sequence[_Row], layers: Sequence[int], pooling: Pooling) -> list[Tensor]:
        """The states [layers, d] of each row, float32."""
        lengths = torch.tensor([len(row) for row in rows])
        inside = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        extra: dict[str, Any] = {"use_cache": False} if self._causal else {"attention_mask": self._put(inside.long())}
        if rows[0].segments is not None:
            extra["token_type_ids"] = padded([row.segments or [] for row in rows], 0, self.loaded.device)
        padding = 0 if self._causal else self.tokenizer.pad_token_id or 0
        ids = padded([row.ids for row in rows], padding, self.loaded.device)
        between = any(layer != self.layers for layer in layers)
        found = body(self.loaded.model)(input_ids=ids, output_hidden_states=between, **extra)
        states = []
        for layer in layers:
            whole = found.last_hidden_state if layer == self.layers else found.hidden_states[layer]
            if pooling == "last":
                one = whole[torch.arange(len(rows)), (lengths - 1).to(whole.device)].float()
            else:
                mask = self._put(inside).unsqueeze(-1)
                one = whole.float().masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1)
            states.append(one.cpu())
        return list(torch.stack(states, dim=1))

    def _put(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.loaded.device)


def _classifies(spec: ModelSpec) -> bool:
    """Whether the checkpoint or its adapter is that of a sequence classifier.

    Raises:
        ModelError: nothing is there, or the adapter cannot be read.
    """
    found = Opening.of(spec)
    if found.config is not None and str(getattr(found.config.task_type, "value", found.config.task_type)) == "SEQ_CLS":
        return True
    try:
        with quiet():
            config = AutoConfig.from_pretrained(
                **source(found.spec.path, found.spec.revision), trust_remote_code=found.spec.trust_remote_code
            )
    except Exception:  # whatever is wrong with it is told by opening the model
        return False
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())


def _at_last(hidden: Tensor, before: Sequence[int], rows: Sequence[Row]) -> list[Tensor]:
    """The state [d] of each row's last token, float32."""
    at = torch.tensor([row.unread - gone for row, gone in zip(rows, before, strict=True)], device=hidden.device)
    return list(hidden[torch.arange(len(rows), device=hidden.device), at].float().cpu())
