"""A start model opened as a reward model: its head, its pad token, and a vocabulary that only ever grows."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from polypref.backends.base import ModelSpec
from polypref.backends.hf_files import first_line, quiet
from polypref.backends.reward_training import RewardTrainOptions
from polypref.backends.trl_setup import local
from polypref.errors import ModelError, RecipeError

HEAD = "score"
"""The name of the head in transformers' decoders with a sequence classifier."""
NEW_PAD = "<|pad|>"
_NAMED_PAD = re.compile(r"^\W*(finetune_right_)?pad(ding)?(_token|_id)?\W*$", re.IGNORECASE)
"""Not the placeholders of images, such as <|image_pad|>."""


def choose_pad(tokenizer: PreTrainedTokenizerBase, end_of_turn: int) -> str:
    """Give the tokenizer a pad token of its own, and return it.

    The reward is read off the last token that is no padding, which is the end-of-turn, so padding must be another
    token than that: the tokenizer's pad token where it is, else a special token of the vocabulary that is named a pad
    (Llama 3 has one), else a new token.
    """
    taken = {end_of_turn, tokenizer.eos_token_id}
    known = [] if tokenizer.pad_token_id is None else [(tokenizer.pad_token_id, str(tokenizer.pad_token))]
    named = [(number, str(token)) for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    known += [(number, token) for number, token in sorted(named) if _NAMED_PAD.search(token)]
    pad = next((token for number, token in known if number not in taken), NEW_PAD)
    tokenizer.add_special_tokens({"pad_token": pad})
    return pad


def keeps_head(start: ModelSpec, config: Any, options: RewardTrainOptions) -> bool:
    """Whether training goes on with the head that the start has.

    Raises:
        RecipeError: ``head`` is keep and there is none, or auto and it is another classifier's.
    """
    classifier = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    found = _adapter_has_head(start) or (classifier and config.num_labels == 1)
    if options.head == "keep" and not found:
        raise RecipeError(
            f"train.head is keep, but {start.path} is no sequence classifier with one label; give a reward model, or "
            "set train.head to new"
        )
    if options.head == "auto" and classifier and not found:
        raise RecipeError(
            f"{start.path} is a classifier of {config.num_labels} labels, not a reward model; set train.head to new if "
            "a reward model shall be made of it"
        )
    return found and options.head != "new"


def _adapter_has_head(start: ModelSpec) -> bool:
    if start.adapter is None:
        return False
    from peft import PeftConfig

    return PeftConfig.from_pretrained(local(start.adapter)).task_type == "SEQ_CLS"


def open_reward_model(
    start: ModelSpec, kept: bool, dtype: str, seed: int, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """The start model as a sequence classifier with one label.

    A new head is drawn from N(0, 1/√(d + 1)), that deviation, d the hidden size (Stiennon et al. 2020, arXiv
    2009.01325), by the seed alone. Embeddings grow by zeros where the pad token has no row, and never shrink: many
    released models have more rows than tokens.

    Raises:
        ModelError: the files are no such model, lack weights, or its architecture has no linear head of that name.
    """
    own_head = kept and not _adapter_has_head(start)
    try:
        with quiet():
            model, found = AutoModelForSequenceClassification.from_pretrained(
                local(start.path),
                revision=start.revision,
                num_labels=1,
                use_safetensors=True,
                trust_remote_code=start.trust_remote_code,
                attn_implementation=start.attention,
                dtype=dtype,
                ignore_mismatched_sizes=not own_head,  # of another classifier's head
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{start.path} cannot be opened as a model to train: {first_line(error)}") from None
    head = getattr(model, HEAD, None)
    if not isinstance(head, torch.nn.Linear):
        raise ModelError(
            f"{start.path} ({type(model).__name__}) has no linear head named {HEAD}; start from a decoder, such as an "
            "instruction-tuned language model"
        )
    new = set() if own_head else {f"{HEAD}.weight", f"{HEAD}.bias"}
    missing = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])} - new
    if missing:
        # transformers would draw them at random.
        raise ModelError(f"{start.path} lacks {len(missing)} of its weights (such as {min(missing)}); mend its files")
    if not own_head:
        _draw(head, seed)
    if start.adapter is not None:
        model = _merged(model, start.adapter)
        if not kept:
            _draw(getattr(model, HEAD), seed)
    _make_room(model, tokenizer)
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return model


def _draw(head: torch.nn.Linear, seed: int) -> None:
    noise = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        head.weight.copy_(noise / math.sqrt(head.in_features + 1))
        if head.bias is not None:
            head.bias.zero_()


def _merged(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model with an adapter merged in, its head with it where it has one."""
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(local(adapter))
    if config.task_type != "SEQ_CLS":
        config.task_type = None  # peft would look for the methods of a generating model
    try:
        merged: PreTrainedModel = PeftModel.from_pretrained(model, local(adapter), config=config).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"the adapter {adapter} does not fit its base: {first_line(error)}") from None
    merged.requires_grad_(True)  # peft froze what the adapter lay on
    return merged


def _make_room(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.pad_token_id < rows:
        return
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[rows:] = 0  # no token reads padding


def grows(config: Any, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the pad token has no row in a model of that configuration."""
    return bool(tokenizer.pad_token_id >= config.get_text_config().vocab_size)


def use_template(start: ModelSpec, tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
    """Put a chat template in the place of the tokenizer's.

    Raises:
        ModelError: there is neither, as in most base models.
    """
    if template is not None:
        tokenizer.chat_template = template
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{start.path} has no chat template, as most base models; set chat_template to a Jinja file, such as "
            "the chat_template.jinja of the instruction-tuned model beside it, or start from that model"
        )
