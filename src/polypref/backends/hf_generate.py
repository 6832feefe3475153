"""Answers drawn by a transformers model in this process.

Batches are cut by length and by memory, never by meaning: a sample's noise belongs to (seed, request, k), so what
else is in its batch does not matter, and the first four of ten samples are the four of four.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from polypref.backends.answers import AnswerReader, end_ids
from polypref.backends.base import Completion, ModelSpec, Request, Sampling
from polypref.backends.hf_batches import TOKENS
from polypref.backends.hf_decode import NotFinite, Row, decode
from polypref.backends.hf_files import out_of_memory
from polypref.backends.hf_models import open_model
from polypref.backends.hf_noise import row_key
from polypref.backends.hf_sampling import Sampler
from polypref.errors import ModelError

CACHE_SHARE = 4
"""On an accelerator a batch's cache holds up to this many times ``batch_tokens`` positions: one takes far less memory
there than in a forward pass, and wide batches are fast. On a CPU it is once: narrow ones stay in its caches."""
LOGITS = 2**27
"""Logits of one step at most (512 MiB in float32)."""


@dataclass(frozen=True, slots=True)
class _Job:
    """Samples ``first`` … ``last - 1`` of one request."""

    request: int
    prompt: list[int]
    first: int
    last: int

    @property
    def samples(self) -> int:
        return self.last - self.first


class HFGenerator:
    """A ``Generator`` on transformers: batched, sorted by length, each prompt computed once for its samples."""

    def __init__(self, spec: ModelSpec) -> None:
        self.loaded = open_model(spec)
        self.fingerprint: str = self.loaded.fingerprint
        self.batch_tokens = spec.batch_tokens or TOKENS
        self.cache_tokens = self.batch_tokens * (1 if self.loaded.device.type == "cpu" else CACHE_SHARE)
        loaded, tokenizer = self.loaded, self.loaded.tokenizer
        self.end_ids = end_ids(loaded.template, tokenizer, getattr(loaded.model, "generation_config", None))
        self.reader = AnswerReader(tokenizer)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """For each request its n completions, in order.

        A prompt that leaves no room for ``max_tokens`` in the model's window gives completions with ``error``.

        Raises:
            ModelError: logits are NaN or infinite (the message names the request), or one sample alone does not fit
                into memory.
        """
        if sampling.temperature == 0 and sampling.n > 1:
            warnings.warn(f"temperature 0 has one answer a prompt: the {sampling.n} samples are equal", stacklevel=2)
            singles = self.generate(requests, sampling.model_copy(update={"n": 1}))
            return [[single] * sampling.n for (single,) in singles]
        out: list[list[Completion]] = [[] for _ in requests]
        jobs = []
        for index, request in enumerate(requests):
            prompt = self.loaded.template.request_ids(request)
            if self.loaded.window is not None and len(prompt) + sampling.max_tokens > self.loaded.window:
                error = (
                    f"prompt of {len(prompt)} tokens leaves no room for {sampling.max_tokens} new tokens"
                    f" in a window of {self.loaded.window}"
                )
                out[index] = [Completion(text="", finish_reason=None, error=error, too_long=True)] * sampling.n
            else:
                jobs.append(_Job(index, prompt, 0, sampling.n))
                out[index] = [Completion("")] * sampling.n
        for batch in self._batches(jobs, sampling.max_tokens):
            for job, rows in self._decode(batch, requests, sampling):
                ids, finished = [row.ids for row in rows], [row.finished for row in rows]
                completions = self.reader.read(ids, finished, job.prompt, sampling.stop)
                out[job.request][job.first : job.last] = completions
        return out

    def _batches(self, jobs: list[_Job], max_tokens: int) -> Iterator[list[_Job]]:
        """Jobs of similar length, longest first, so that memory runs out at once or not at all."""
        batch: list[_Job] = []
        rows = 0
        most = max(1, LOGITS // self.loaded.model.config.get_text_config().vocab_size)
        for whole in sorted(jobs, key=lambda job: -len(job.prompt)):
            for job in self._split(whole, max_tokens, most):
                width = len(batch[0].prompt) if batch else len(job.prompt)
                fits = (
                    (len(batch) + 1) * width <= self.batch_tokens
                    and (rows + job.samples) * (width + max_tokens) <= self.cache_tokens
                    and rows + job.samples <= most
                )
                if batch and not fits:
                    yield batch
                    batch, rows = [], 0
                batch.append(job)
                rows += job.samples
        if batch:
            yield batch

    def _split(self, job: _Job, max_tokens: int, most: int) -> Iterator[_Job]:
        """The job in parts of as many samples as one batch holds."""
        size = min(most, max(1, self.cache_tokens // (len(job.prompt) + max_tokens)))
        for first in range(job.first, job.last, size):
            yield replace(job, first=first, last=min(first + size, job.last))

    def _decode(
        self, batch: list[_Job], requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[_Job, list[Row]]]:
        """The rows of each job; a batch that does not fit into memory is halved."""
        owners = [(requests[job.request].id, k) for job in batch for k in range(job.first, job.last)]
        try:
            rows = decode(
                self.loaded.model,
                [job.prompt for job in batch],
                [job.samples for job in batch],
                [row_key(sampling.seed, owner, k) for owner, k in owners],
                Sampler(sampling),
                sampling.max_tokens,
                self.end_ids,
                self.reader.stopper(sampling.stop),
                self.loaded.tokenizer.pad_token_id or 0,
            )
        except NotFinite as error:
            owner, k = owners[error.position]
            raise ModelError(
                f"the model's logits are NaN or infinite for request {owner}, sample {k};"
                " try dtype: float32, and check the checkpoint"
            ) from None
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(owners) == 1:
                raise ModelError(
                    f"memory is out for one sample of request {owners[0][0]} ({len(batch[0].prompt)} tokens and"
                    f" {sampling.max_tokens} new ones); lower max_tokens or choose a smaller model"
                ) from None
        else:
            for job in batch:
                yield job, rows[: job.samples]
                rows = rows[job.samples :]
            return
        # Outside the except block, where the traceback no longer holds the tensors of the failed pass. Later batches
        # are cut by what was learnt.
        width = len(batch[0].prompt)
        self.batch_tokens = min(self.batch_tokens, len(batch) * width // 2)
        self.cache_tokens = min(self.cache_tokens, len(owners) * (width + sampling.max_tokens) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for half in _halves(batch):
            yield from self._decode(half, requests, sampling)


def _halves(batch: list[_Job]) -> list[list[_Job]]:
    if len(batch) > 1:
        middle = len(batch) // 2
        return [batch[:middle], batch[middle:]]
    (job,) = batch
    middle = (job.first + job.last) // 2
    return [[replace(job, last=middle)], [replace(job, first=middle)]]
