"""Opening models: what is refused, and one copy of the weights for a base and its adapters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from polypref.backends import hf_models
from polypref.backends.base import ModelSpec
from polypref.backends.hf_files import out_of_memory
from polypref.backends.hf_models import close_models, open_model
from polypref.errors import ModelError

Tiny = Callable[[str], Path]
IDS = torch.tensor([[5, 40, 41, 42, 99]])

pytestmark = pytest.mark.usefixtures("_closed")


def spec(path: Path, **fields: object) -> ModelSpec:
    return ModelSpec(path=str(path), device="cpu", **fields)  # type: ignore[arg-type]


@pytest.fixture
def copy(tiny_model: Tiny, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_model("Qwen3"), tmp_path / "copy"))


@pytest.fixture(scope="module")
def adapters(tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [tiny.save_adapter(folder / str(seed), tiny_model("Qwen3"), seed) for seed in (1, 2)]


def logits(path: Path, adapter: Path | None = None) -> torch.Tensor:
    """By a copy of the model that nothing else has touched."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_a_model_is_ready_to_run(tiny_model: Tiny) -> None:
    loaded = open_model(spec(tiny_model("Qwen3")))
    assert loaded.window == 256
    assert loaded.dtype == torch.float32
    assert loaded.device == torch.device("cpu")
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.template.end_of_turn == tiny.END
    assert torch.allclose(loaded.model(IDS).logits, logits(tiny_model("Qwen3")))


def test_the_dtype_that_was_asked_for(tiny_model: Tiny) -> None:
    loaded = open_model(spec(tiny_model("Qwen3"), dtype="bfloat16"))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


def test_opening_twice_is_one_copy_until_closed(tiny_model: Tiny) -> None:
    first = open_model(spec(tiny_model("Qwen3")))
    assert open_model(spec(tiny_model("Qwen3"), batch_tokens=7)).model is first.model
    assert open_model(spec(tiny_model("Qwen3"), dtype="bfloat16")).model is not first.model
    close_models()
    assert open_model(spec(tiny_model("Qwen3"))).model is not first.model


def test_adapters_share_one_base_and_do_not_leak_into_it(tiny_model: Tiny, adapters: list[Path]) -> None:
    base = tiny_model("Qwen3")
    loaded = [open_model(spec(base, adapter=str(a))) for a in adapters] + [open_model(spec(base))]
    want = [logits(base, a) for a in adapters] + [logits(base)]
    assert not any(torch.allclose(want[i], want[j], atol=1e-2) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert len({one.fingerprint for one in loaded}) == 3
    assert len({id(one.weights.base) for one in loaded}) == 1
    for k in (0, 1, 2, 0, 2, 1, 1, 0):
        assert torch.allclose(loaded[k].model(IDS).logits, want[k], atol=1e-5)
        assert not any(p.requires_grad for p in loaded[k].model.parameters())


def test_a_base_stays_itself_when_an_adapter_comes_later(tiny_model: Tiny, adapters: list[Path]) -> None:
    base = open_model(spec(tiny_model("Qwen3")))
    before = base.model(IDS).logits
    open_model(spec(tiny_model("Qwen3"), adapter=str(adapters[0])))
    assert torch.allclose(base.model(IDS).logits, before, atol=1e-6)


def test_an_adapters_folder_opens_on_its_base(tiny_model: Tiny, adapters: list[Path]) -> None:
    loaded = open_model(spec(adapters[0]))
    assert torch.allclose(loaded.model(IDS).logits, logits(tiny_model("Qwen3"), adapters[0]), atol=1e-5)
    assert open_model(spec(tiny_model("Qwen3"))).weights is loaded.weights


def test_an_adapter_of_another_base_is_refused_and_leaves_nothing_behind(
    tiny_model: Tiny, adapters: list[Path], tmp_path: Path
) -> None:
    other = tiny.save(tmp_path / "wide", "Qwen3", hidden_size=64)
    with pytest.raises(ModelError, match=r"cannot be put on .*wide as an adapter"):
        open_model(spec(other, adapter=str(adapters[0])))
    assert torch.allclose(open_model(spec(other)).model(IDS).logits, logits(other), atol=1e-6)


def test_an_adapter_of_a_deeper_base_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    """peft lays the layers that fit on it and says nothing of the others."""
    deep = tiny.save(tmp_path / "deep", "Qwen3", num_hidden_layers=3)
    adapter = tiny.save_adapter(tmp_path / "adapter", deep)
    before = open_model(spec(tiny_model("Qwen3")))
    with pytest.raises(ModelError, match=r"does not fit its base: 4 weights .*layers\.2\."):
        open_model(spec(tiny_model("Qwen3"), adapter=str(adapter)))
    assert torch.allclose(before.model(IDS).logits, logits(tiny_model("Qwen3")), atol=1e-6)


def test_half_an_adapter_is_refused(tiny_model: Tiny, adapters: list[Path], tmp_path: Path) -> None:
    """peft takes what is missing as untrained, and warns."""
    folder = Path(shutil.copytree(adapters[0], tmp_path / "half"))
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(min(weights))
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="does not fit its base: 1 weights"):
        open_model(spec(tiny_model("Qwen3"), adapter=str(folder)))


KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embeddings": {"target_modules": ["embed_tokens", "v_proj"]},
    "saved head": {"modules_to_save": ["lm_head"]},
    "saved embeddings and head": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "dora": {"use_dora": True},
    "tokens": {"trainable_token_indices": [5, 40, 41]},
}


@pytest.mark.parametrize("family", ["Qwen3", "Cohere"])
def test_adapters_of_every_kind_stand_side_by_side(tiny_model: Tiny, tmp_path: Path, family: str) -> None:
    """Some pairs (LoRA on the head, and a whole head) peft cannot lay on one base: they get a base each. Cohere's head
    is tied to its embeddings."""
    base = tiny_model(family)
    made = {kind: tiny.save_adapter(tmp_path / kind, base, 1, **fields) for kind, fields in KINDS.items()}
    loaded = {kind: open_model(spec(base, adapter=str(folder))) for kind, folder in made.items()}
    loaded["none"] = open_model(spec(base))
    want = {kind: logits(base, made.get(kind)) for kind in loaded}
    assert not any(torch.allclose(want["none"], want[kind], atol=1e-2) for kind in made)
    assert len({id(one.weights.base) for one in loaded.values()}) < len(loaded)
    for kind in [*loaded, *reversed(loaded)]:
        assert torch.allclose(loaded[kind].model(IDS).logits, want[kind], atol=1e-5), kind


def test_a_pickled_adapter_is_refused(tiny_model: Tiny, adapters: list[Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapters[0], tmp_path / "pickled"))
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        open_model(spec(tiny_model("Qwen3"), adapter=str(folder)))


def test_virtual_prompt_tokens_are_refused(tiny_model: Tiny, adapters: list[Path], tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(tiny_model("Qwen3"))
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(model, config).save_pretrained(tmp_path / "soft")
    with pytest.raises(ModelError, match="adapter of virtual prompt tokens"):
        open_model(spec(tiny_model("Qwen3"), adapter=str(tmp_path / "soft")))


def test_pickled_weights_are_refused(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"copy cannot be opened as a causal language model .* safetensors checkpoint"):
        open_model(spec(copy))


def test_code_in_a_checkpoint_does_not_run(copy: Path) -> None:
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass A: pass\nclass B: pass\n")
    config = json.loads((copy / "config.json").read_text())
    auto_map = {"AutoConfig": "evil.A", "AutoModelForCausalLM": "evil.B"}
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": auto_map}))
    with pytest.raises(ModelError, match=r"copy brings .* not run.*trust_remote_code: true"):
        open_model(spec(copy))
    assert not (copy / "ran").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_told_in_one_sentence(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"copy (cannot be opened|has no tokenizer)") as caught:
        open_model(spec(copy))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_not_drawn_at_random(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A reward model's checkpoint has no head of a language model."""
    weights = load_file(copy / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of a causal language model \(such as lm_head\.weight\)"):
        open_model(spec(copy))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["no-model", "nobody/no-model"])
def test_no_model_under_that_name(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} is no folder here"):
        open_model(ModelSpec(path=name))


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(ModelError, match="has no tokenizer that can be opened"):
        open_model(spec(tmp_path))


def test_no_chat_template_is_told_before_the_weights_are_read(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        open_model(spec(copy))


@pytest.mark.parametrize("device", ["nonsense", "cuda:77"])
def test_a_device_that_is_not_there(tiny_model: Tiny, device: str) -> None:
    with pytest.raises(ModelError, match=f"device '{device}' cannot be used"):
        open_model(ModelSpec(path=str(tiny_model("Qwen3")), device=device))


def test_a_model_in_the_hubs_cache_opens_offline(tiny_model: Tiny, tmp_path: Path) -> None:
    """In a process of its own, since the libraries read the cache's place when they are imported."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hub/models--org--tiny"
    shutil.copytree(tiny_model("Qwen3"), place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    code = (
        "from polypref.backends.base import ModelSpec\nfrom polypref.backends.hf_models import open_model\n"
        "print(open_model(ModelSpec(path='org/tiny', device='cpu')).fingerprint)"
    )
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == f"org/tiny@{commit}", done.stderr


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_out_of_memory(error: Exception, is_it: bool) -> None:
    assert out_of_memory(error) is is_it


def test_the_hosts_own_words_for_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert out_of_memory(caught.value)


def test_loading_leaves_transformers_as_talkative_as_it_was(tiny_model: Tiny) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    open_model(spec(tiny_model("Qwen3")))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert hf_models._open
