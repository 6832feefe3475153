"""Translation by a dedicated encoder–decoder: MADLAD-400 (T5), NLLB and M2M-100.

They differ in how they are told the languages. MADLAD is shown ``<2es>`` before the text; NLLB and M2M-100 are told the
source by their tokenizer and the target by the first token that the decoder writes (``spa_Latn``, ``__es__``).
"""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import langcodes
import torch
from transformers import AutoModelForSeq2SeqLM

from polypref import languages
from polypref.backends.base import ModelSpec
from polypref.backends.fingerprints import fingerprint
from polypref.backends.hf_batches import TOKENS
from polypref.backends.hf_files import chosen_device, chosen_dtype, load_tokenizer, load_weights, out_of_memory
from polypref.backends.translation import Translation, TranslationRequest, TranslatorSpec
from polypref.errors import ModelError

NON_COMMERCIAL = (
    "{path}: NLLB's weights are published under CC-BY-NC-4.0, for non-commercial use alone; whether what it translates "
    "may train your model is for you to settle (MADLAD-400 is under Apache-2.0)"
)
_NLLB_MEMBERS = {
    "ar": "arb", "ay": "ayr", "az": "azj", "et": "est", "fa": "pes", "ku": "kmr", "lv": "lvs", "mg": "plt",
    "mn": "khk", "ms": "zsm", "ne": "npi", "no": "nob", "om": "gaz", "or": "ory", "ps": "pbt", "qu": "quy",
    "sq": "als", "sw": "swh", "uz": "uzn", "yi": "ydd",
}  # fmt: skip
"""Macrolanguages, by the member that NLLB (FLORES-200) means."""


_Row: TypeAlias = tuple[int, list[int]]
"""A request's index, and its token ids."""


class Seq2SeqTranslator:
    """A ``Translator`` on an encoder–decoder of transformers: greedy or by beams, batched by length."""

    def __init__(self, spec: TranslatorSpec) -> None:
        """
        Raises:
            ModelError: nothing is there under that name, or it is no safetensors checkpoint of such a model.
        """
        self._spec = spec
        self.model, self.tokenizer = _load(spec.model)
        self._batch_tokens = spec.model.batch_tokens or TOKENS
        self._names = self.tokenizer.get_vocab()
        self._prefixed = "<2en>" in self._names
        if "eng_Latn" in self._names:  # FLORES-200's names are NLLB's, under whatever name a folder has it
            warnings.warn(NON_COMMERCIAL.format(path=spec.model.path), stacklevel=2)
        settings = json.dumps([spec.max_tokens, spec.beams, spec.repetition_penalty, sorted(spec.codes.items())])
        self.fingerprint: str = (
            f"seq2seq:{hashlib.sha256(settings.encode()).hexdigest()[:12]}:{fingerprint(spec.model)}"
        )

    @functools.cached_property
    def window(self) -> int | None:
        """Tokens that the encoder takes; of a T5, whose positions are relative, those that it was trained on."""
        found = (getattr(self.model.config, name, None) for name in ("max_position_embeddings", "n_positions"))
        return next((length for length in found if isinstance(length, int)), None)

    def code(self, tag: str) -> str:
        """How the model writes a language.

        Raises:
            ModelError: none of its names is one that the model knows.
        """
        tried = [self._spec.codes[tag]] if tag in self._spec.codes else list(_codes(tag))
        for code in tried:
            for name in (f"<2{code}>",) if self._prefixed else (code, f"__{code}__"):
                if name in self._names:
                    return name
        raise ModelError(
            f"{self._spec.model.path} knows no language {tag} (tried {', '.join(tried)}); say how the model writes it "
            f"under codes, or translate {languages.name(tag)} with another one"
        )

    def translate(self, requests: Sequence[TranslationRequest]) -> list[Translation]:
        """One ``Translation`` per request, in order; a text beyond the window is ``too_long``.

        Raises:
            ModelError: the model does not know a language, or one text alone does not fit into memory.
        """
        out: list[Translation] = [Translation(None, "empty")] * len(requests)
        fitting: dict[tuple[str, str], list[_Row]] = {}
        for index, request in enumerate(requests):
            ids = self._ids(request)
            if self.window is not None and len(ids) > self.window:
                error = f"too_long: {len(ids)} tokens in a window of {self.window}"
                out[index] = Translation(None, error)
            else:
                fitting.setdefault((request.source, request.target), []).append((index, ids))
        for (_, target), rows in fitting.items():
            for batch in self._batches(rows):
                for index, translation in self._translated(batch, target):
                    out[index] = translation
        return out

    def _ids(self, request: TranslationRequest) -> list[int]:
        if self._prefixed:
            return list(self.tokenizer(f"{self.code(request.target)} {request.text}")["input_ids"])
        self.tokenizer.src_lang = self.code(request.source).strip("_")
        return list(self.tokenizer(request.text)["input_ids"])

    def _batches(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """Rows of similar length, longest first, of at most ``batch_tokens`` tokens with their padding."""
        batch: list[_Row] = []
        for row in sorted(rows, key=lambda row: -len(row[1])):
            width = len((batch or [row])[0][1])
            if batch and (len(batch) + 1) * width * self._spec.beams > self._batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _translated(self, batch: list[_Row], target: str) -> Iterator[tuple[int, Translation]]:
        """(index, translation) of each row; a batch that does not fit into memory is halved."""
        try:
            translations = self._generate(batch, target)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise ModelError(
                    f"memory is out for one text of {len(batch[0][1])} tokens and at most {self._spec.max_tokens} new "
                    "ones; lower max_tokens or beams, or choose a smaller model"
                ) from None
        else:
            yield from zip((index for index, _ in batch), translations, strict=True)
            return
        # Outside the except block, where the traceback no longer holds the tensors of the failed pass. Later batches
        # are cut by what was learnt.
        self._batch_tokens = min(self._batch_tokens, len(batch) * len(batch[0][1]) * self._spec.beams // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
            yield from self._translated(half, target)

    @torch.inference_mode()
    def _generate(self, batch: list[_Row], target: str) -> list[Translation]:
        padded = self.tokenizer.pad({"input_ids": [ids for _, ids in batch]}, return_tensors="pt")
        settings: dict[str, Any] = {} if self._prefixed else {"forced_bos_token_id": self._names[self.code(target)]}
        if self._spec.repetition_penalty is not None:
            settings["repetition_penalty"] = self._spec.repetition_penalty
        rows = self.model.generate(
            input_ids=padded["input_ids"].to(self.model.device),
            attention_mask=padded["attention_mask"].to(self.model.device),
            max_new_tokens=self._spec.max_tokens,
            num_beams=self._spec.beams,
            do_sample=False,
            **settings,
        )
        return [self._read(row.tolist()) for row in rows]

    def _read(self, row: list[int]) -> Translation:
        end = self.model.config.eos_token_id
        # A decoder may start with the end token (M2M-100), so the first place says nothing.
        if end not in row[1:]:
            return Translation(None, "truncated")
        text = self.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        return Translation(text) if text else Translation(None, "empty")


def _codes(tag: str) -> Iterable[str]:
    """How a language may be called, the most exact name first: spa_Latn, zh_Hant, zh, spa."""
    language = langcodes.Language.get(tag)
    short = str(language.language)
    script = languages.script(tag)
    three = _NLLB_MEMBERS.get(short, language.to_alpha3())
    return dict.fromkeys((f"{three}_{script}", tag.replace("-", "_"), f"{short}_{script}", short, three))


def _load(spec: ModelSpec) -> tuple[Any, Any]:
    device = chosen_device(spec.device)
    model = load_weights(
        AutoModelForSeq2SeqLM,
        spec,
        device,
        chosen_dtype(spec.dtype, device),
        kind="a translation model",
        give="give a folder or hub name of a safetensors checkpoint of MADLAD-400, NLLB or M2M-100",
        lacks="give a whole one",
    )
    return model, load_tokenizer(spec.path, spec.revision, trust_remote_code=spec.trust_remote_code)
