"""Answers' log-probabilities with a Hugging Face causal model: exact, the same in any batch, and within memory."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from polypref.backends.base import Answer, Logprob, ModelSpec
from polypref.backends.hf_batches import Batches
from polypref.backends.hf_heads import body, head, head_is_known, is_causal, vocabulary
from polypref.backends.hf_models import LoadedModel, open_model
from polypref.backends.hf_prefixes import Prefixes, can_share, worth_sharing
from polypref.errors import ModelError
from polypref.maths.logprobs import answer_positions, chunked_logprobs


@dataclass(frozen=True, slots=True)
class _Row:
    """One sequence: where its result goes, whose it is, and its tokens."""

    place: int
    id: str
    prompt: list[int]
    answer: list[int]
    prefix: int = 0
    group: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class HFLogprobs:
    """A ``LogprobModel`` on transformers.

    Only the hidden states that predict answer tokens meet the vocabulary, a chunk of rows at a time. A model whose head
    does something that ``hf_heads`` does not know is found out when it is opened, and scored by its own forward pass.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.loaded: LoadedModel = open_model(spec)
        self.fingerprint = self.loaded.fingerprint
        self._batches = Batches.of(spec, self.loaded.device, self.loaded.short_window)
        self._path = spec.path
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
        self.shares_prompts = (
            self._head_is_known
            and self.loaded.short_window is None  # LongRoPE turns short sequences otherwise
            and can_share(body(self.loaded.model), vocabulary(self.loaded.weights.base), self.loaded.device)
        )
        """Whether answers to one prompt are run behind its keys and values, where that is worth it."""
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
        waiting, out = self._rows(answers)
        alone, shared = self._arranged(waiting)
        for rows, work in ((alone, self._sums), (shared, self._sums_after_prompts)):
            for row, value in zip(rows, self._batches.run(rows, work), strict=True):
                if not math.isfinite(value):
                    raise ModelError(
                        f"{row.id}: its log-probability under {self._path} is {value}; the model is damaged or its "
                        "dtype too small, try float32"
                    )
                out[row.place] = Logprob(value, len(row.answer))
        return [logprob for logprob in out if logprob is not None]

    def _arranged(self, rows: list[_Row]) -> tuple[list[_Row], list[_Row]]:
        """Rows to run whole, and rows to run behind their prompt; longest first, so that memory runs out at once.

        A prompt is shared but for its last token, whose state predicts the first token of the answer.
        """
        groups: dict[tuple[int, ...], list[_Row]] = {}
        for row in rows:
            groups.setdefault(tuple(row.prompt), []).append(row)
        alone: list[_Row] = []
        shared: list[list[_Row]] = []
        for prompt, group in groups.items():
            if self.shares_prompts and worth_sharing(len(prompt) - 1, [len(row) for row in group]):
                group.sort(key=len, reverse=True)
                shared.append([dataclasses.replace(row, prefix=len(prompt) - 1, group=len(shared)) for row in group])
            else:
                alone += group
        shared.sort(key=lambda group: len(group[0]), reverse=True)
        return sorted(alone, key=len, reverse=True), [row for group in shared for row in group]

    def _rows(self, answers: Sequence[Answer]) -> tuple[list[_Row], list[Logprob | None]]:
        """The sequences to run, and the results that need no run."""
        window = self.loaded.window
        prompts: dict[str, list[int]] = {}
        rows: list[_Row] = []
        out: list[Logprob | None] = [None] * len(answers)
        foreign = False
        for place, answer in enumerate(answers):
            prompt = self._prompt(answer, prompts)
            tokens, kept = self.loaded.template.answer_tokens(answer)
            foreign |= not kept
            row = _Row(place, answer.id, prompt, tokens)
            if not tokens:
                out[place] = Logprob(0.0, 0)
            elif window is not None and len(row) > window:
                reason = f"{len(row)} tokens of prompt and answer are more than the window of {window}"
                out[place] = Logprob(0.0, len(tokens), reason)
            else:
                self._check_ids(row)
                rows.append(row)
        if foreign:
            warnings.warn(
                f"{self._path}: answers keep token ids that are not their text's under its tokenizer; "
                "their texts are tokenised instead",
                stacklevel=3,
            )
        return rows, out

    def _prompt(self, answer: Answer, known: dict[str, list[int]]) -> list[int]:
        template = self.loaded.template
        try:
            text = template.prompt_text(answer.messages)
        except ModelError as error:
            raise ModelError(f"{answer.id}: {error}") from None
        if text not in known:
            known[text] = template.ids(text)
        return known[text]

    def _check_ids(self, row: _Row) -> None:
        size = vocabulary(self.loaded.weights.base)
        worst = max(max(row.prompt, default=0), max(row.answer))
        if worst >= size:  # an index error on the host, and the end of the process on an accelerator
            raise ModelError(
                f"{row.id}: token {worst} is beyond the vocabulary of {size} of {self._path}; "
                "give the model its own tokenizer"
            )
        if not row.prompt:
            raise ModelError(f"{row.id}: its prompt has no token under {self._path}; mend the chat template")

    def _sums(self, batch: Sequence[_Row]) -> list[float]:
        return self._batch(batch) if self._head_is_known else [self._whole(row) for row in batch]

    @torch.inference_mode()
    def _batch(self, batch: Sequence[_Row]) -> list[float]:
        """The summed log-probability of each row's answer. Right-padded: a causal model never looks at its padding."""
        model, device = self.loaded.model, self.loaded.device
        ids = torch.zeros((len(batch), max(len(row) for row in batch)), dtype=torch.long)
        for i, row in enumerate(batch):
            ids[i, : len(row)] = torch.tensor(row.prompt + row.answer)
        hidden = body(model)(input_ids=ids.to(device), use_cache=False).last_hidden_state
        return self._read(hidden, [len(row.prompt) for row in batch], batch)

    @torch.inference_mode()
    def _sums_after_prompts(self, batch: Sequence[_Row]) -> list[float]:
        """The same; prompts are run first, each once, and the answers behind their keys and values."""
        unique = {prompt: k for k, prompt in enumerate(dict.fromkeys(tuple(row.prompt) for row in batch))}
        prefixes = Prefixes(body(self.loaded.model), [prompt[:-1] for prompt in unique], self.loaded.device)
        sums: list[float] = []
        for rows in self._batches.passes(batch):
            rests = [[row.prompt[-1], *row.answer] for row in rows]
            hidden = prefixes.before([unique[tuple(row.prompt)] for row in rows], rests)
            sums += self._read(hidden, [1] * len(rows), rows)
        return sums

    def _read(self, hidden: torch.Tensor, before: Sequence[int], batch: Sequence[_Row]) -> list[float]:
        """The sums from hidden states [n, T, D], whose row i has ``before[i]`` tokens of the prompt."""
        model, device = self.loaded.model, self.loaded.device
        at_row, at = answer_positions(before, [len(row.answer) for row in batch])
        states = hidden[at_row.to(device), at.to(device)]
        targets = torch.tensor([token for row in batch for token in row.answer], device=device)
        values = chunked_logprobs(states, targets, head(model), vocabulary(model)).double().cpu()
        return [float(part.sum()) for part in values.split([len(row.answer) for row in batch])]

    @torch.inference_mode()
    def _whole(self, row: _Row) -> float:
        """The same from the model's own logits."""
        ids = torch.tensor([row.prompt + row.answer], device=self.loaded.device)
        logits = self.loaded.model(input_ids=ids, use_cache=False).logits[0]
        start = len(row.prompt)
        values = chunked_logprobs(logits[start - 1 : -1], ids[0, start:], lambda chunk: chunk, logits.shape[-1])
        return float(values.double().sum())
