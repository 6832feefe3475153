"""Tiny randomly initialised sequence classifiers of real families, and the plain way to score with them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import tiny
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from polypref.backends.base import Judged

DECODERS = ("Llama", "Qwen3", "GPT2", "OPT", "Mistral", "Gemma3Text", "Phi3", "Qwen3Next")
ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": {},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "Roberta": {"max_position_embeddings": 258},
    "ModernBert": {"local_attention": 8, "global_attn_every_n_layers": 2},
}


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece with [CLS] a [SEP] b [SEP] and segments 0 and 1, and no chat template.

    Its vocabulary is put together by hand: that of a trained WordPiece has other ids in every process.
    """
    splitter = pre_tokenizers.BertPreTokenizer()
    words = sorted({word for text in tiny.TEXTS for word, _ in splitter.pre_tokenize_str(text)})
    letters = sorted({*"".join(words), *string.ascii_letters})
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*known, *words]))}
    core = Tokenizer(tokenizer_models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = splitter
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save(folder: Path, family: str, seed: int = 0, own: dict[str, Any] | None = None, **config: Any) -> Path:
    """The checkpoint of a classifier; ``own`` is what polypref's training writes into its configuration."""
    if family in ENCODERS:
        tokenizer = encoder_tokenizer()
        fields = tiny.SHAPE | {"pad_token_id": 0} | ENCODERS[family]
    else:
        bos = family in tiny.WITH_BOS
        tokenizer = tiny.build_tokenizer(bos, tiny.SPACED if family == "Llama" else tiny.CHATML)
        fields = tiny.SHAPE | tiny.FAMILIES[family][1]
    name = "Gemma3TextConfig" if family == "Gemma3Text" else f"{family}Config"
    if own is not None:
        config["polypref"] = own
    labels = {} if "id2label" in config else {"num_labels": 1}
    settings = getattr(transformers, name)(**fields | {"vocab_size": len(tokenizer)} | labels | config)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            # So far from the beginning that an answer's last word counts; an encoder mixes its tokens more evenly.
            parameter.add_(torch.randn_like(parameter), alpha=0.4 if family in ENCODERS else 0.1)
        head = getattr(model, "score", None) or model.classifier
        for parameter in head.parameters():
            parameter.mul_(1 if family in ENCODERS else 10)  # so that scores are far apart
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def change(folder: Path, **fields: Any) -> Path:
    """Another config.json; a field that is None is written as null."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def save_adapter(folder: Path, base: Path, seed: int = 1, **fields: Any) -> Path:
    """A LoRA adapter of a reward model with one label and a head of its own, on a language model."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "SEQ_CLS"} | {
        "modules_to_save": ["score"]
    }
    base_model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32, num_labels=1)
    model = get_peft_model(base_model, LoraConfig(**settings | fields))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(folder)
    return folder


def plain(folder: Path, answers: list[Judged], adapter: Path | None = None) -> list[torch.Tensor]:
    """The logits [labels] of each answer: transformers' own forward pass of one sequence.

    The tokens by hand: a chat model's of the whole conversation, an encoder's of prompt and answer.
    """
    labels = {} if adapter is None else {"num_labels": 1}
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **labels)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.eval()
    out = []
    for answer in answers:
        if tokenizer.chat_template:
            turns = [*answer.messages, {"role": "assistant", "content": answer.text}]
            ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
            inputs = {"input_ids": torch.tensor([ids])}
        else:
            inputs = dict(tokenizer(answer.messages[0]["content"], answer.text, return_tensors="pt"))
        with torch.no_grad():
            out.append(model(**inputs).logits[0])
    return out
