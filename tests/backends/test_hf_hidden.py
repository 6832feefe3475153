"""Hidden states: transformers' own of one sequence, the same in any batch, of language models and classifiers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_rewards
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from polypref import registry
from polypref.backends.base import HiddenStates, ModelSpec, Text
from polypref.backends.hf_hidden import HFHiddenStates
from polypref.errors import ModelError
from polypref.records import Example
from polypref.stages.representation import RepresentationOptions, shift

pytestmark = pytest.mark.usefixtures("_closed")

TEXTS = [
    Text("a", [{"role": "user", "content": "Name three rivers of Spain"}]),
    Text("b", [{"role": "user", "content": "Nenne drei Flüsse: Rhein, Elbe"}], "Rhein, Elbe und Donau"),
    Text("c", [{"role": "user", "content": "Hi"}], ""),
    Text("d", [{"role": "user", "content": "Назови три реки"}, *[{"role": "user", "content": "Волга, Дон"}] * 3]),
]


def ids_by_hand(tokenizer, text: Text) -> list[int]:  # type: ignore[no-untyped-def]
    prompt = tokenizer.apply_chat_template(list(text.messages), add_generation_prompt=True, tokenize=False)
    ids = list(tokenizer(prompt, add_special_tokens=False).input_ids)
    if text.answer is not None:
        ids += [*tokenizer(text.answer, add_special_tokens=False).input_ids, tiny.END]
    return ids


def plain(model, ids: list[int], pooling: str) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
    """Every layer's state of one sequence from transformers' own forward pass."""
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True)
    layers = [states[0] for states in out.hidden_states]
    return [(states[-1] if pooling == "last" else states.mean(dim=0)).numpy() for states in layers]


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("family", ["Qwen3", "Llama", "GPT2", "Gemma2", "Phi3"])
def test_states_are_transformers_own(tmp_path: Path, family: str, pooling: str) -> None:
    folder = tiny.save(tmp_path / family, family)
    model, tokenizer = (
        AutoModel.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    opened = HFHiddenStates(ModelSpec(path=str(folder)))
    assert isinstance(opened, HiddenStates)
    assert opened.layers == 2
    layers = (0, 1, 2, -1)
    found = opened.hidden(TEXTS, layers, pooling)
    for i, text in enumerate(TEXTS):
        expected = plain(model, ids_by_hand(tokenizer, text), pooling)
        for k, layer in enumerate(layers):
            assert found[k].dtype == np.float32
            assert found[k][i] == pytest.approx(expected[layer], abs=1e-4), (text.id, layer)


@pytest.mark.parametrize("family", ["Qwen3", "Bert", "ModernBert", "Roberta"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_text_s_states_do_not_depend_on_its_batch(tmp_path: Path, family: str, pooling: str) -> None:
    folder = tiny_rewards.save(tmp_path / family, family)
    together = HFHiddenStates(ModelSpec(path=str(folder))).hidden(TEXTS, (0, 1, -1), pooling)
    opened = HFHiddenStates(ModelSpec(path=str(folder), batch_tokens=1))  # one sequence at a time
    for i, text in enumerate(TEXTS):
        for whole, alone in zip(together, opened.hidden([text], (0, 1, -1), pooling), strict=True):
            assert whole[i] == pytest.approx(alone[0], abs=1e-4)


def test_a_reward_model_gives_what_its_head_reads(tmp_path: Path) -> None:
    """score(state of the last layer) is the classifier's own output, so the states are those behind the reward."""
    folder = tiny_rewards.save(tmp_path / "rm", "Qwen3")
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    [states] = HFHiddenStates(ModelSpec(path=str(folder))).hidden(TEXTS, (-1,), "last")
    for text, state in zip(TEXTS, states, strict=True):
        with torch.no_grad():
            expected = model(torch.tensor([ids_by_hand(tokenizer, text)])).logits[0]
            assert model.score(torch.tensor(state)).numpy() == pytest.approx(expected.numpy(), abs=1e-4)


def test_an_adapter_changes_the_states_of_its_base_and_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", "Qwen3")
    adapter = tiny_rewards.save_adapter(tmp_path / "adapter", base)
    [before] = HFHiddenStates(ModelSpec(path=str(base))).hidden(TEXTS, (-1,), "last")
    [tuned] = HFHiddenStates(ModelSpec(path=str(base), adapter=str(adapter))).hidden(TEXTS, (-1,), "last")
    [after] = HFHiddenStates(ModelSpec(path=str(base))).hidden(TEXTS, (-1,), "last")
    [by_path] = HFHiddenStates(ModelSpec(path=str(adapter))).hidden(TEXTS, (-1,), "last")
    assert np.abs(tuned - before).max() > 1e-2
    assert (after == before).all()
    assert by_path == pytest.approx(tuned, abs=1e-6)

    from peft import PeftModel

    model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32, num_labels=1)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    ids = ids_by_hand(AutoTokenizer.from_pretrained(base), TEXTS[1])
    with torch.no_grad():
        expected = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
    assert tuned[1] == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_text_beyond_the_window_keeps_its_last_tokens_and_that_is_said(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "short", "Llama", max_position_embeddings=30)
    model, tokenizer = (
        AutoModel.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    opened = HFHiddenStates(ModelSpec(path=str(folder)))
    with pytest.warns(UserWarning, match="3 of 4 texts are longer than its window of 30 tokens"):
        [states] = opened.hidden(TEXTS, (-1,), "last")
    lengths = [len(ids_by_hand(tokenizer, text)) for text in TEXTS]
    assert opened.truncated == sum(n > 30 for n in lengths) == 3
    for text, state in zip(TEXTS, states, strict=True):
        assert state == pytest.approx(plain(model, ids_by_hand(tokenizer, text)[-30:], "last")[-1], abs=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened.hidden(TEXTS, (-1,), "last")
    assert opened.truncated == 6


def test_an_encoder_reads_prompt_and_answer_as_its_tokenizer_joins_them(tmp_path: Path) -> None:
    folder = tiny_rewards.save(tmp_path / "bert", "Bert")
    model, tokenizer = (
        AutoModel.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    [states] = HFHiddenStates(ModelSpec(path=str(folder))).hidden(TEXTS[:2], (-1,), "mean")
    alone = tokenizer("Name three rivers of Spain", return_tensors="pt")
    pair = tokenizer("Nenne drei Flüsse: Rhein, Elbe", "Rhein, Elbe und Donau", return_tensors="pt")
    with torch.no_grad():
        expected = [model(**inputs).last_hidden_state[0].mean(dim=0).numpy() for inputs in (alone, pair)]
    assert states == pytest.approx(np.array(expected), abs=1e-4)


def test_states_that_are_not_finite_are_refused_with_the_text_s_name(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "nan", "Qwen3")
    opened = HFHiddenStates(ModelSpec(path=str(folder)))
    with torch.no_grad():
        opened.loaded.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"a: its hidden states under .* are not finite"):
        opened.hidden(TEXTS[:1], (-1,), "last")


def test_what_is_no_model_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no folder"):
        HFHiddenStates(ModelSpec(path=str(tmp_path / "nothing")))


def test_a_shift_is_measured_of_real_checkpoints(tmp_path: Path) -> None:
    """A copy of the base has not moved; a LoRA reward adapter on it has, and shares its weights."""
    base = tiny.save(tmp_path / "base", "Qwen3")
    adapter = tiny_rewards.save_adapter(tmp_path / "adapter", base)
    prompts = [f"{text} {i}" for text in tiny.TEXTS[:3] for i in range(4)]
    texts = [
        Example(str(i), {tag: [{"role": "user", "content": f"{tag} {prompt}"}] for tag in ("en", "es")})
        for i, prompt in enumerate(prompts)
    ]
    models = {"same": ModelSpec(path=str(base)), "rm": ModelSpec(path=str(base), adapter=str(adapter))}
    context, opener = registry.context(languages=("en", "es"))
    found = shift(texts, models, ModelSpec(path=str(base)), RepresentationOptions(layers=(1, -1)), context)
    opener.close()
    for layer in ("1", "-1"):
        same, moved = (found.overall[name][layer] for name in ("same", "rm"))
        assert (same["cka_to_base"], same["cosine_to_base"]) == pytest.approx((1.0, 1.0), abs=1e-6)
        assert same["singular_value_ratio_change"] == pytest.approx(0.0, abs=1e-6)
        assert moved["cka_to_base"] < 0.999
        assert found.closest[layer]["model"] == "same"
