"""A byte-level BPE tokenizer, trained on the spot on the sandbox's own sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from polypref.sandbox.world import TASKS, prompts, sft_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["CHAT_TEMPLATE", "build_tokenizer"]

_BEGIN, _END, _PAD = "<|begin|>", "<|end|>", "<|pad|>"
_ROLES: Final = ("system", "user", "assistant")
# A translation's tags are tokens of their own, but ordinary ones: decoding keeps them.
_TAGS: Final = ("<sentence>", "</sentence>", "<translated>", "</translated>")
_VOCABULARY: Final = 1024
_WINDOW: Final = 1024

# Words take their leading space along; so does a digit, and digits never merge with one another.
_PRE_TOKENS: Final = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE: Final = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('unknown role: ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + eos_token -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""`<|begin|>`, then each message as `<|role|>text<|end|>`: the end of a turn is the end of sequence."""


def build_tokenizer(seed: int, *, tasks: Sequence[str] = TASKS) -> PreTrainedTokenizerFast:
    """A tokenizer for any UTF-8 text in which the words of the sandbox's tasks are single tokens.

    It adds no special token by itself; `CHAT_TEMPLATE` writes the one begin token. Padding is on the right.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = [_BEGIN, _END, _PAD, *(f"<|{role}|>" for role in _ROLES)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRE_TOKENS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed, tasks), trainer=trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in _TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BEGIN,
        eos_token=_END,
        pad_token=_PAD,
        padding_side="right",
        model_max_length=_WINDOW,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def _corpus(seed: int, tasks: Sequence[str]) -> list[str]:
    rows = [text for row in sft_rows(6000, seed, tasks=tasks) for text in (row["prompt"], row["completion"])]
    asked = prompts("train", 1000, seed, tasks=tasks)
    return rows + [text for example in asked for text in example["prompts"].values()]
