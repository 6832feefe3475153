"""The vocabulary product of each family, and the proof that it is the model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from polypref.backends.hf_heads import body, head, head_is_known

IDS = torch.tensor([[5, 40, 41, 42, 99, 7]])


def opened(folder: Path, **config: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **config).eval()


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_the_head_is_the_models_own(tiny_model: Callable[[str], Path], family: str) -> None:
    model = opened(tiny_model(family))
    with torch.no_grad():
        ours = head(model)(body(model)(IDS).last_hidden_state)
        assert torch.allclose(ours, model(IDS).logits, atol=1e-5)
    assert head_is_known(model)


@pytest.mark.parametrize(
    ("family", "rule"),
    [("Gemma2", "final_logit_softcapping"), ("Cohere", "logit_scale"), ("Granite", "logits_scaling")],
)
def test_a_rule_that_the_head_did_not_know_would_be_found_out(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, family: str, rule: str
) -> None:
    model = opened(tiny_model(family))
    module = model.get_output_embeddings()
    monkeypatch.setattr("polypref.backends.hf_heads.head", lambda model: module)
    assert not head_is_known(model)


def test_a_cap_is_found_out_even_where_logits_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap of 1000 moves logits of a few units by x³ / 3·1000² < 1e-4."""
    model = opened(tiny.save(tmp_path, "Gemma2", final_logit_softcapping=1000.0))
    module = model.get_output_embeddings()
    with torch.no_grad():
        assert torch.allclose(module(body(model)(IDS).last_hidden_state), model(IDS).logits, atol=1e-3)
    monkeypatch.setattr("polypref.backends.hf_heads.head", lambda model: module)
    assert not head_is_known(model)


def test_half_precision_heads_are_known(tiny_model: Callable[[str], Path]) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        assert head_is_known(opened(tiny_model("Gemma2")).to(dtype))


def test_a_body_in_another_place_is_not_known(tiny_model: Callable[[str], Path]) -> None:
    model = opened(tiny_model("Qwen3"))
    model.base_model_prefix = "elsewhere"
    assert not head_is_known(model)


def test_the_trial_leaves_no_hook(tiny_model: Callable[[str], Path]) -> None:
    model = opened(tiny_model("Qwen3"))
    assert head_is_known(model)
    assert not model.get_output_embeddings()._forward_pre_hooks


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_tiles_of_the_head_give_the_models_own_log_probabilities(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr("polypref.maths.logprobs.TILE", 64)
    model, targets = opened(tiny_model(family)), torch.tensor([40, 41, 42, 99, 7, 359])
    with torch.no_grad():
        ours = head(model).logprobs(body(model)(IDS).last_hidden_state[0], targets)
        theirs = model(IDS).logits[0].log_softmax(-1)[torch.arange(6), targets]
    assert torch.allclose(ours, theirs, atol=1e-4)
