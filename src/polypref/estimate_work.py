"""What a recipe asks of models, step by step, before anything is opened: requests, sequences, tokens, bytes.

A piece of work is called as manifest.json calls the step, so that what was planned can be laid beside what was done.
Counts are upper bounds where the outcome decides: no answer fails, every prompt and language gives a pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pydantic import Field

from polypref import languages
from polypref.backends.base import Options
from polypref.stages.judge_plan import OTHER_ALPHABETS, TOKENS_A_LETTER

Kind = Literal["generate", "translate", "score", "train", "judge", "pair", "figures"]
"""``judge``: asked of a server that is paid by tokens. ``pair`` and ``figures`` ask no model."""

Who = Literal["policy", "reward", "server", "none"]


class Assumed(Options):
    """What nothing tells before a run. Each can be set; what a calibration has measured replaces it."""

    answer_tokens: float = 400
    prompt_tokens: float = 120
    pair_share: float = Field(1.0, ge=0, le=1)
    verdict_tokens: float = 150
    template_tokens: float = 30
    prefill_share: float = Field(0.5, gt=0, le=1)
    score_share: float = Field(0.4, gt=0, le=1)
    train_share: float = Field(0.4, gt=0, le=1)
    decode_share: float = Field(0.5, gt=0, le=1)
    bandwidth_share: float = Field(0.6, gt=0, le=1)
    decode_batch: float = 0
    layer_seconds: float = Field(0.0008, le=10)
    longest_answer: float = Field(2.0, ge=1, le=100)
    text_ratio: float = 0.45
    identify_seconds: float = 0.04


TOLD: Final = {
    "answer_tokens": "tokens of an answer, in every language; never more than max_tokens",
    "prompt_tokens": "tokens of a prompt, where the data is not read",
    "pair_share": "pairs a prompt and language, of those that there can be",
    "verdict_tokens": "tokens that a judge answers",
    "template_tokens": "tokens that a chat template, a view's prefix or a translator's words add to a sequence",
    "prefill_share": "of the peak FLOP/s, while prompts are read (MFU)",
    "score_share": "of the peak FLOP/s, while answers are scored (MFU)",
    "train_share": "of the peak FLOP/s in training (MFU)",
    "decode_share": "of the peak FLOP/s in decoding, where it is bound by arithmetic",
    "bandwidth_share": "of the memory's bandwidth, where decoding is bound by it",
    "decode_batch": "answers decoded at once a copy of the model; 0: 65536 tokens' worth (hf), 256 (vllm, a server)",
    "layer_seconds": "at least of one decoding step a layer, with hf: its kernels are started one by one",
    "longest_answer": "the longest answer of a batch beside the mean: with hf a batch takes as many steps",
    "text_ratio": "bytes on disk a byte of text: measured at most on real answers, zstd",
    "identify_seconds": "of a processor core, to tell the language of 1000 tokens (lingua, 5 languages; 0.07 with 25)",
}


@dataclass(frozen=True)
class Part:
    """One language of some data: its prompts, their mean length; what rows come with them, their sequences' length."""

    prompts: int
    prompt_tokens: float
    rows: int = 0
    row_tokens: float = 0.0


Texts = Mapping[str, Part]
"""Language → its part."""

NO_TEXTS: Final[Texts] = {}


@dataclass(frozen=True)
class Data:
    """All that a run reads. ``preferences`` are for reward models, ``judged`` tell how good rewards are."""

    training: Texts = field(default_factory=dict)
    held_out: Texts = field(default_factory=dict)
    alignment: Texts = field(default_factory=dict)
    diagnosis: Texts = field(default_factory=dict)
    preferences: Texts = field(default_factory=dict)
    validation: Texts = field(default_factory=dict)
    judged: Texts = field(default_factory=dict)
    demonstrations: Texts = field(default_factory=dict)
    demonstrations_held: Texts = field(default_factory=dict)
    counted: str = ""


@dataclass(frozen=True)
class Work:
    """One step's work.

    ``passes``: forward passes that a token in costs, a backward one counting as two. ``shards``: files that it writes.
    ``checkpoint``: whole checkpoints. ``full``: all weights are trained.
    ``identified``: tokens whose language is told. ``paid``: price of a million tokens asked and
    answered, where a server is paid.
    """

    stage: str
    kind: Kind
    who: Who = "none"
    requests: int = 0
    sequences: int = 0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    passes: float = 1.0
    max_tokens: int = 0
    backend: str = "hf"
    text_bytes: float = 0.0
    row_bytes: float = 0.0
    shards: int = 0
    checkpoint: float = 0.0
    full: bool = True
    identified: float = 0.0
    paid: tuple[float, float] | None = None

    @property
    def context(self) -> float:
        """Tokens of a whole sequence."""
        return (self.tokens_in + self.tokens_out) / self.sequences if self.sequences else 0.0

    @property
    def context_of_answer(self) -> float:
        """Tokens of a prompt and one answer at its end."""
        return self.tokens_in / max(self.requests, 1) + self.tokens_out / max(self.sequences, 1)


def prompts_of(texts: Texts) -> int:
    """Prompts times languages."""
    return sum(part.prompts for part in texts.values())


def prompt_tokens_of(texts: Texts) -> float:
    """Tokens of all prompts in all languages."""
    return sum(part.prompts * part.prompt_tokens for part in texts.values())


def row_tokens_of(texts: Texts) -> float:
    """Tokens of all sequences that come with the prompts."""
    return sum(part.rows * part.row_tokens for part in texts.values())


def first(texts: Texts, limit: int | None) -> Texts:
    """At most so many prompts a language."""
    if limit is None:
        return texts
    return {lang: replace(part, prompts=min(part.prompts, limit)) for lang, part in texts.items()}


def only(texts: Texts, *wanted: str) -> Texts:
    """Those languages."""
    return {lang: part for lang, part in texts.items() if lang in wanted}


def without(texts: Texts, lang: str) -> Texts:
    """All languages but one."""
    return {other: part for other, part in texts.items() if other != lang}


_ALPHABETS: Final = {
    "Latn": ("LATIN", 1.05), "Cyrl": ("CYRILLIC", 1.75), "Arab": ("ARABIC", 1.8), "Thai": ("THAI", 2.9),
    "Kore": ("HANGUL", 2.5), "Jpan": ("HIRAGANA", 2.9), "Hans": ("CJK", 2.9), "Hant": ("CJK", 2.9),
    "Beng": ("BENGALI", 2.7), "Telu": ("TELUGU", 2.7),
}  # fmt: skip
"""By script: the alphabet in ``TOKENS_A_LETTER``, and bytes of UTF-8 a character, blanks and signs included."""


def bytes_a_token(lang: str) -> float:
    """Bytes of UTF-8 that a token of a language stands for. A language without a tag counts as Latin."""
    alphabet, size = _ALPHABETS.get(languages.script(lang) if not lang.startswith("#") else "Latn", ("", 2.8))
    return size / TOKENS_A_LETTER.get(alphabet, OTHER_ALPHABETS)


def text_bytes(texts: Texts, tokens_each: float, times: float) -> float:
    """Bytes of ``times`` texts of so many tokens to each prompt."""
    return sum(part.prompts * times * tokens_each * bytes_a_token(lang) for lang, part in texts.items())


def shards(texts: Texts, size: int) -> int:
    """Files of one layer: a language and shard each."""
    return sum(-(-part.prompts // size) for part in texts.values())


def whole_shards(texts: Texts, size: int) -> int:
    """Files of a layer that has all languages of a shard in one file."""
    return max((-(-part.prompts // size) for part in texts.values()), default=0)
