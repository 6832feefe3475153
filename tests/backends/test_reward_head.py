"""The head and the pad token of a reward model, and when they are drawn, kept or added."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from polypref.backends.base import ModelSpec
from polypref.backends.reward_head import choose_pad, grows, keeps_head, open_reward_model, use_template
from polypref.backends.trl_setup import open_tokenizer
from polypref.errors import ModelError, RecipeError
from tiny_reward_training import options
from tiny_training import TEMPLATE, save_tiny_model

WORDS = ["<s>", "</s>", "<|user|>", "<|assistant|>", "a", "b", "c", "d"]


def tokenizer_of(words: list[str], pad: str | None = None) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [word for word in words if not word.isalpha()]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        pad_token=pad,
        additional_special_tokens=special,
        chat_template=TEMPLATE,
    )


def save(folder: Path, rows: int, **shape: Any) -> ModelSpec:
    config = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=rows, **config | shape)).save_pretrained(folder)
    return ModelSpec(path=str(folder), device="cpu")


def opened(spec: ModelSpec, tokenizer: Any, kept: bool = False, seed: int = 0) -> Any:
    return open_reward_model(spec, kept, "float32", seed, tokenizer)


# --- the head -----------------------------------------------------------------------------------------------------


def test_a_new_head_is_normal_with_the_deviation_of_the_paper(tmp_path: Path) -> None:
    """N(0, 1/√(d + 1)) with d = 4096: 0.015623. A sample of 4096 has that deviation within 3/√(2 · 4096) = 3.3%, the
    mean 0 within 3/√4096 of a deviation, and kurtosis 3 within 3 · √(24/4096) = 0.23; the seed is fixed. The library
    would draw with 0.02, and uniform noise of that deviation has kurtosis 1.8."""
    spec = save(tmp_path, 8, hidden_size=4096, intermediate_size=4)
    model = opened(spec, tokenizer_of(WORDS, "d"))
    assert model.score.bias is None
    weight = model.score.weight.detach().double()
    deviation = 1 / math.sqrt(4097)
    assert weight.shape == (1, 4096)
    assert weight.std().item() == pytest.approx(deviation, rel=0.033)
    assert abs(weight.mean().item()) < 3 * deviation / 64
    assert ((weight / weight.std()) ** 4).mean().item() == pytest.approx(3, abs=0.23)


def test_the_seed_alone_draws_the_head(tmp_path: Path) -> None:
    spec, tokenizer = save(tmp_path, 8), tokenizer_of(WORDS, "d")
    torch.manual_seed(1)
    first = opened(spec, tokenizer)
    torch.manual_seed(2)
    assert torch.equal(first.score.weight, opened(spec, tokenizer).score.weight)
    assert not torch.equal(first.score.weight, opened(spec, tokenizer, seed=1).score.weight)


def test_the_body_is_the_language_models(tmp_path: Path) -> None:
    spec = save(tmp_path, 8)
    ours = opened(spec, tokenizer_of(WORDS, "d")).model.state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def saved_classifier(folder: Path, labels: int = 1) -> ModelSpec:
    save(folder / "lm", 8)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "lm", num_labels=labels)
    model.save_pretrained(folder / "classifier")
    tokenizer_of(WORDS, "d").save_pretrained(folder / "classifier")
    return ModelSpec(path=str(folder / "classifier"), device="cpu")


def test_a_reward_model_keeps_its_head_unless_a_new_one_is_asked_for(tmp_path: Path) -> None:
    spec = saved_classifier(tmp_path)
    tokenizer, config = open_tokenizer(spec)
    own = AutoModelForSequenceClassification.from_pretrained(spec.path).score.weight
    for head, kept in (("auto", True), ("keep", True), ("new", False)):
        assert keeps_head(spec, config, options(head=head)) is kept
        assert torch.equal(opened(spec, tokenizer, kept).score.weight, own) is kept


def test_a_head_that_is_not_there_cannot_be_kept(tmp_path: Path) -> None:
    spec = ModelSpec(path=str(save_tiny_model(tmp_path / "tiny")))
    _, config = open_tokenizer(spec)
    assert not keeps_head(spec, config, options())
    with pytest.raises(RecipeError, match=r"no sequence classifier with one label.*set train\.head to new"):
        keeps_head(spec, config, options(head="keep"))


def test_a_classifier_of_other_labels_becomes_a_reward_model_only_where_that_is_said(tmp_path: Path) -> None:
    spec = saved_classifier(tmp_path, labels=3)
    tokenizer, config = open_tokenizer(spec)
    with pytest.raises(RecipeError, match="a classifier of 3 labels"):
        keeps_head(spec, config, options())
    assert not keeps_head(spec, config, options(head="new"))
    assert opened(spec, tokenizer).score.weight.shape == (1, 16)


def test_weights_that_are_missing_are_never_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    spec = saved_classifier(tmp_path)
    file = Path(spec.path) / "model.safetensors"
    whole = load_file(file)
    for lost in ("score.weight", "model.norm.weight"):
        save_file({name: value for name, value in whole.items() if name != lost}, file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=f"lacks 1 of its weights .such as {lost}"):
            opened(spec, tokenizer_of(WORDS, "d"), kept=True)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertForMaskedLM(BertConfig(vocab_size=8, **shape)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no linear head named score; start from a decoder"):
        opened(ModelSpec(path=str(tmp_path)), tokenizer_of(WORDS, "d"))


# --- padding ------------------------------------------------------------------------------------------------------


def test_a_pad_token_of_its_own_stays(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_tiny_model(tmp_path / "tiny"))
    assert choose_pad(tokenizer, 1) == "<pad>"
    assert len(tokenizer) == 25


@pytest.mark.parametrize(
    ("more", "pad", "expected"),
    [
        (["<pad>"], "</s>", "<pad>"),  # it would end the sequences that it pads
        (["<|finetune_right_pad_id|>"], None, "<|finetune_right_pad_id|>"),  # Llama 3
        (["[PAD]"], None, "[PAD]"),
        (["<|image_pad|>"], None, "<|pad|>"),  # the place of an image, no padding
        ([], "</s>", "<|pad|>"),
        ([], None, "<|pad|>"),
    ],
)
def test_the_end_is_never_the_padding(more: list[str], pad: str | None, expected: str) -> None:
    tokenizer = tokenizer_of([*WORDS, *more], pad)
    assert choose_pad(tokenizer, 1) == expected == tokenizer.pad_token
    assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, 1)
    assert len(tokenizer) == len(WORDS) + len(more) + (expected == "<|pad|>")


def test_an_end_of_turn_beside_the_end_of_sequence_is_no_padding_either() -> None:
    tokenizer = tokenizer_of([*WORDS, "<|end|>"], "<|end|>")
    assert choose_pad(tokenizer, tokenizer.convert_tokens_to_ids("<|end|>")) == "<|pad|>"


@pytest.mark.parametrize(("before", "after"), [(8, 9), (9, 9), (16, 16)])
def test_a_vocabulary_grows_only_where_it_must_and_never_shrinks(before: int, after: int, tmp_path: Path) -> None:
    """Eight tokens and a new pad token: the ninth row is missing, is there already, or is one of many spare ones."""
    spec, tokenizer = save(tmp_path, before), tokenizer_of(WORDS)
    choose_pad(tokenizer, 1)
    config = AutoModelForCausalLM.from_pretrained(tmp_path).config
    assert grows(config, tokenizer) == (after > before)
    model = opened(spec, tokenizer)
    rows = model.get_input_embeddings().weight
    assert (rows.shape[0], model.config.vocab_size, model.config.pad_token_id) == (after, after, 8)
    assert torch.equal(rows[:before], AutoModelForCausalLM.from_pretrained(tmp_path).get_input_embeddings().weight)
    assert not rows[before:].any()


# --- the template ---------------------------------------------------------------------------------------------------


def test_a_base_model_needs_a_template() -> None:
    tokenizer = tokenizer_of(WORDS)
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match=r"base has no chat template.*set chat_template to a Jinja file"):
        use_template(ModelSpec(path="base"), tokenizer, None)
    use_template(ModelSpec(path="base"), tokenizer, TEMPLATE)
    assert tokenizer.chat_template == TEMPLATE
