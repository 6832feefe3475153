"""Answers' log-probabilities with a Hugging Face causal model: exact, the same in any batch, and within memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch

from polypref.backends.base import Answer, Logprob, ModelSpec
from polypref.backends.hf_engine import Engine, Row
from polypref.backends.hf_heads import head, head_is_known, is_causal, vocabulary
from polypref.backends.hf_models import LoadedModel, open_model
from polypref.backends.hf_tokens import Tokens, reading, tokenised
from polypref.errors import ModelError
from polypref.maths.logprobs import answer_positions, chunked_logprobs


class HFLogprobs:
    """A ``LogprobModel`` on transformers.

    Only the hidden states that predict answer tokens meet the vocabulary, a chunk of rows at a time. A model whose head
    does something that ``hf_heads`` does not know is found out when it is opened, and scored by its own forward pass.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.loaded: LoadedModel = open_model(spec)
        self.fingerprint = self.loaded.fingerprint
        self._path, self._reading = spec.path, reading(self.loaded.template)
        if not is_causal(self.loaded.model):
            raise ModelError(
                f"{spec.path} is no causal language model, it looks at tokens to come; give one that predicts the next"
            )
        self._head_is_known = head_is_known(self.loaded.model)
        if not self._head_is_known:
            warnings.warn(
                f"{spec.path}: its head is not a plain vocabulary product; scored by its whole forward pass, "
                "one sequence at a time",
                stacklevel=2,
            )
        self._engine = Engine(self.loaded, spec, share=self._head_is_known)
        if self.loaded.template.opens_thinking:
            warnings.warn(
                f"{spec.path}: its generation prompt opens a reasoning part, so answers are scored as thoughts; "
                "turn it off by chat_template_kwargs if the template allows it",
                stacklevel=2,
            )

    def logprobs(self, answers: Sequence[Answer]) -> list[Logprob]:
        """See ``LogprobModel.logprobs``.

        Kept token ids are scored where they are this tokenizer's (they decode to the text); else the text is tokenised.

        Raises:
            ModelError: a score is NaN or infinite, a conversation cannot be rendered, token ids lie beyond the
                vocabulary, or one sequence alone does not fit into memory; the message names the answer's id.
        """
        out: list[Logprob] = []
        foreign = False
        for tokens in tokenised(self.loaded.template, self._reading, answers):
            rows, found = self._rows(answers[len(out) : len(out) + len(tokens)], tokens)
            foreign |= not all(one.kept for one in tokens)
            for row, value in zip(rows, self._sums(rows), strict=True):
                if not math.isfinite(value):
                    raise ModelError(
                        f"{row.id}: its log-probability under {self._path} is {value}; the model is damaged or its "
                        "dtype too small, try float32"
                    )
                found[row.place] = Logprob(value, len(row) - row.unread - 1)
            out += [logprob for logprob in found if logprob is not None]
        if foreign:
            warnings.warn(
                f"{self._path}: answers keep token ids that are not their text's under its tokenizer; "
                "their texts are tokenised instead",
                stacklevel=2,
            )
        return out

    @property
    def shares_prompts(self) -> bool:
        """Whether answers to one prompt are run behind its keys and values, where that is worth it."""
        return self._engine.shares

    def _rows(self, answers: Sequence[Answer], tokens: Sequence[Tokens]) -> tuple[list[Row], list[Logprob | None]]:
        """The sequences to run, and the results that need no run.

        Answers to one prompt share it but for its last token, whose state predicts the first token of the answer.
        """
        window = self.loaded.window
        rows: list[Row] = []
        out: list[Logprob | None] = [None] * len(answers)
        for place, (asked, (prompt, answer, _)) in enumerate(zip(answers, tokens, strict=True)):
            ids = [*prompt, *answer]
            if not answer:
                out[place] = Logprob(0.0, 0)
            elif window is not None and len(ids) > window:
                reason = f"{len(ids)} tokens of prompt and answer are more than the window of {window}"
                out[place] = Logprob(0.0, len(answer), reason)
            else:
                self._check_ids(asked.id, prompt, ids)
                rows.append(Row(place, asked.id, ids, len(prompt) - 1, tuple(prompt)))
        return rows, out

    def _check_ids(self, name: str, prompt: list[int], ids: list[int]) -> None:
        size = vocabulary(self.loaded.weights.base)
        if max(ids) >= size:  # an index error on the host, and the end of the process on an accelerator
            raise ModelError(
                f"{name}: token {max(ids)} is beyond the vocabulary of {size} of {self._path}; "
                "give the model its own tokenizer"
            )
        if not prompt:
            raise ModelError(f"{name}: its prompt has no token under {self._path}; mend the chat template")

    def _sums(self, rows: Sequence[Row]) -> list[float]:
        """The summed log-probability of each row's answer."""
        if self._head_is_known:
            return self._engine.run(rows, self._read)
        return self._engine.batches.run(rows, lambda batch: [self._whole(row) for row in batch])

    def _read(self, hidden: torch.Tensor, before: Sequence[int], rows: Sequence[Row]) -> list[float]:
        """The sums from hidden states [n, T, D], before which row i has ``before[i]`` tokens."""
        lengths = [len(row) - row.unread - 1 for row in rows]
        prompts = [row.unread + 1 - gone for row, gone in zip(rows, before, strict=True)]
        at_row, at = (places.to(hidden.device) for places in answer_positions(prompts, lengths))
        targets = torch.tensor([token for row in rows for token in row.ids[row.unread + 1 :]], device=hidden.device)
        values = head(self.loaded.model).logprobs(hidden[at_row, at], targets).double().cpu()
        return [float(part.sum()) for part in values.split(lengths)]

    @torch.inference_mode()
    def _whole(self, row: Row) -> float:
        """The same from the model's own logits."""
        ids = torch.tensor([row.ids], device=self.loaded.device)
        logits = self.loaded.model(input_ids=ids, use_cache=False).logits[0]
        first = row.unread
        values = chunked_logprobs(logits[first:-1], ids[0, first + 1 :], lambda chunk: chunk, logits.shape[-1])
        return float(values.double().sum())
