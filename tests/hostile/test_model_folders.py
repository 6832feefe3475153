"""Model folders that bring code, pickles, links to elsewhere, or broken files. Nothing of them is run."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shapes
from attempts import check_refusal, depths, fuzz, tell
from hypothesis import strategies as st

from backends.tiny import CHATML
from polypref.backends import hf_models
from polypref.backends.base import ModelSpec
from polypref.backends.fingerprints import fingerprint
from polypref.errors import ModelError
from servers import alphabet_model


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One of a few kilobytes, with a template that shows whole conversations."""
    folder = tmp_path / "model"
    alphabet_model(folder)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(about | {"chat_template": CHATML}))
    return folder


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "run-by-the-model"


def spec(folder: Path, **more: Any) -> ModelSpec:
    return ModelSpec(path=str(folder), device="cpu", dtype="float32", **more)


def opened(folder: Path, **more: Any) -> None:
    try:
        hf_models.open_model(spec(folder, **more))
    finally:
        hf_models.close_models()


def refused(what: str, folder: Path, **more: Any) -> str:
    with pytest.raises(ModelError) as caught:
        opened(folder, **more)
    check_refusal(caught.value)
    tell(what, Counter(refused=1))
    return str(caught.value)


def test_the_payload_would_leave_its_mark(mark: Path) -> None:
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "model.pt", "pytorch_model-00001-of-00001.bin"]
)
def test_a_pickle_in_the_place_of_weights_is_not_unpickled(name: str, model: Path, mark: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Payload(mark)))
    refused("pickles in the place of weights", model)
    assert not mark.exists()


def test_pickles_beside_safetensors_are_left_alone(model: Path, mark: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt"):
        (model / name).write_bytes(pickle.dumps(Payload(mark)))
    opened(model)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_a_pickle_in_the_place_of_an_adapter_is_not_unpickled(
    name: str, model: Path, mark: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    about = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(model)}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    (adapter / name).write_bytes(pickle.dumps(Payload(mark)))
    refused("pickles in the place of weights", model, adapter=str(adapter))
    assert not mark.exists()


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_is_not_run_unless_it_is_trusted(where: str, model: Path, mark: Path) -> None:
    (model / "evil.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Evil: pass\n")
    about = json.loads((model / where).read_text())
    if where == "config.json":
        about |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    else:
        about |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (model / where).write_text(json.dumps(about))
    said = refused("models that bring code", model)
    assert "brings its own Python code, which is not run" in said
    assert not mark.exists()


def test_a_link_out_of_the_folder_is_hashed_and_never_shown(model: Path, tmp_path: Path) -> None:
    """The hub's cache is made of such links, so they are followed; what is told of a file is its hash."""
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2-of-a-link")
    before = fingerprint(spec(model))
    (model / "notes.txt").symlink_to(secret)
    after = fingerprint(spec(model))
    assert after != before
    assert "hunter2" not in after
    (model / "loop").symlink_to(model / "loop")
    (model / "zero").symlink_to("/dev/zero")
    (model / "up").symlink_to(model.parent)
    os.mkfifo(model / "pipe")
    assert fingerprint(spec(model)) == after  # no regular files: no hash without end


FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "generation_config.json")


@depths
@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_of_a_model_is_refused(name: str, examples: int, model: Path) -> None:
    path = model / name
    whole = path.read_bytes() if path.exists() else b'{"eos_token_id": 26}'
    values = shapes.mangled(st.just(whole) | shapes.deep() if name != "model.safetensors" else st.just(whole))

    def read(content: bytes) -> None:
        path.write_bytes(content)
        opened(model)

    fuzz("files of a model", values, read, max(examples // 8, 4))
