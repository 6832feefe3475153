"""Server processes for tests: ``polypref serve``, ``transformers serve``, and a judge that follows a script."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import string
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
START_WITHIN = 120.0
END = len(string.ascii_lowercase)
WIDTH = 32  # more than the 27 tokens, and two heads of 16


@contextlib.contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The base URL of a server, ready, and its process, which is gone afterwards."""
    command = [sys.executable, "-m", "polypref", "serve", "best-of-n", "--port", "0", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=os.environ | ENVIRONMENT | environment, **pipes)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"the server did not start:\n{process.communicate()[1]}")
        yield line.split()[0], process
    finally:
        process.kill()
        process.communicate()


def alphabet_model(folder: Path) -> None:
    """Write a checkpoint that knows the alphabet: config, weights, tokenizer, and a chat template that shows the last
    message bare.

    It is a one-layer Llama whose attention and MLP are zero, with one-hot embeddings and an output row that follows
    each letter with the next, and z with the end: greedy decoding of a prompt that ends in ``w`` must say ``xyz`` and
    stop.
    """
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": WIDTH,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "eos_token_id": END,
        "bos_token_id": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    nothing = np.zeros((WIDTH, WIDTH), dtype=np.float32)
    ones = np.ones(WIDTH, dtype=np.float32)
    one_hot = np.eye(WIDTH, dtype=np.float32)
    layer = "model.layers.0."
    weights = {
        "model.embed_tokens.weight": one_hot,
        "lm_head.weight": np.roll(one_hot, 1, axis=0).copy(),  # row of token k + 1 answers token k
        "model.norm.weight": ones,
        f"{layer}input_layernorm.weight": ones.copy(),
        f"{layer}post_attention_layernorm.weight": ones.copy(),
    }
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
        weights[f"{layer}{name}.weight"] = nothing.copy()
    for name in ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
        weights[f"{layer}{name}.weight"] = nothing.copy()
    vocabulary = {letter: k for k, letter in enumerate(string.ascii_lowercase)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": END,
                "content": "<end>",
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {**vocabulary, "<end>": END}, "merges": []},
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<end>",
                "chat_template": "{{ messages[-1]['content'] }}",
            }
        )
    )
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def transformers_serving(folder: Path, log: Path) -> Iterator[str]:
    """The base URL of a ``transformers serve`` of that model, ready; its whole process group is gone afterwards."""
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | ENVIRONMENT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_WITHIN
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            with contextlib.suppress(OSError):
                if direct.open(f"http://127.0.0.1:{port}/health", timeout=5.0).status == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"transformers serve did not start (exit status {process.poll()}):\n{log.read_text()}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        for signum, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 30.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)


@contextlib.contextmanager
def scripted_judge(log: Path) -> Iterator[str]:
    """The base URL of ``judge_server`` in a process of its own, which keeps a line for every request in ``log``."""
    command = [sys.executable, str(Path(__file__).with_name("judge_server.py")), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()
