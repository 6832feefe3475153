"""Commands of polypref under several processes of torchrun, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from polypref.sandbox.model import build_model, build_tokenizer
from polypref.sandbox.settings import SftSettings

TINY = SftSettings(width=16, layers=1, heads=1)


def sandbox_models(folder: Path) -> tuple[Path, Path]:
    """Two models that have learnt nothing, and speak the sandbox's words."""
    made = []
    for seed in (0, 1):
        tokenizer = build_tokenizer(0)
        build_model(tokenizer, seed, TINY).save_pretrained(folder / f"model-{seed}")
        tokenizer.save_pretrained(folder / f"model-{seed}")
        made.append(folder / f"model-{seed}")
    return made[0], made[1]


def icr(folder: Path, **changes) -> Path:
    """The smallest recipe of ICR with real models: answers, scores of two models, pairs, a training, an evaluation."""
    reference, policy = sandbox_models(folder)
    device = {"device": "cpu"}
    recipe = {
        "name": "tiny",
        "languages": ["en", "es"],
        "models": {"reference": {"path": str(reference), **device}, "policy": {"path": str(policy), **device}},
        "prompts": {"path": "sandbox:train", "limit": 7},
        "rounds": 1,
        "generate": {"n": 2, "max_tokens": 6},
        "pair": {"length_control": "off", "language_check": False, "drop_truncated": False},
        "train": {"method": "dpo", "learning_rate": 1e-3, "batch_size": 4, "optimizer": "sgd", "schedule": "linear"},
        "evaluate": {"prompts": {"path": "sandbox:test", "limit": 2}, "quality": "oracle"},
        "language_identifier": "sandbox",
        "shard_size": 4,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe | changes), encoding="utf-8")
    return path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **more}


def launch(processes: int, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command line in so many processes; one is started without a launcher."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment(**more), check=False, timeout=900
    )


def polypref(processes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return launch(processes, "-m", "polypref", *map(str, arguments))
