"""Trainings of a tiny model, done by every process of a launch or by one alone; run with a folder as the argument."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from polypref.backends.base import ModelSpec, Progress, silent
from polypref.backends.trl import TRLTrainer
from polypref.backends.trl_reward import TRLRewardTrainer
from polypref.backends.trl_sft import TRLSFTTrainer
from tiny_reward_training import PAIRS
from tiny_reward_training import options as reward_options
from tiny_sft_training import ROWS as DEMONSTRATIONS
from tiny_sft_training import options as sft_options
from tiny_training import ROWS, options

RAGGED = ROWS[:7]
"""Seven rows in steps of four: the last step of an epoch has three, so two processes have one and two."""

DPO = options(epochs=4, save_steps=2, micro_batch_size=2, schedule="cosine", optimizer="sgd", learning_rate=0.1)
KILLED, STOPPED, STEPS = 3, 5, 8


class Stop(Exception):
    """Raised by ``progress`` where a test interrupts a training in its own process."""


def start(folder: Path) -> ModelSpec:
    return ModelSpec(path=str(folder / "start"), device="cpu")


def dpo(folder: Path, name: str, progress: Progress = silent) -> dict[str, Any]:
    return _told(TRLTrainer().train(RAGGED, start(folder), DPO, folder / name, progress))


def others(folder: Path, name: str, processes: int) -> dict[str, Any]:
    """SFT, KTO and a reward model; of KTO micro-batches as large, all processes together, as one process has."""

    def place(kind: str) -> Path:
        found = folder / f"{kind}-{name}"
        found.mkdir(exist_ok=True)
        return found

    model, plain = start(folder), {"optimizer": "sgd", "learning_rate": 0.1}
    sft = options(method="sft", micro_batch_size=2, epochs=2, **plain)
    kto = options(method="kto", micro_batch_size=4 // processes, **plain)
    reward = reward_options(micro_batch_size=2, batch_size=4, epochs=2, **plain)
    chosen = sft_options(micro_batch_size=2, batch_size=4, epochs=2, **plain)
    return {
        "sft": _told(TRLTrainer().train(RAGGED, model, sft, place("sft"), silent)),
        "kto": _told(TRLTrainer().train(ROWS, model, kto, place("kto"), silent)),
        "reward": _told(TRLRewardTrainer().train(PAIRS[:7], PAIRS, model, reward, place("reward"), silent)),
        "select": _told(
            TRLSFTTrainer().train(DEMONSTRATIONS[:7], DEMONSTRATIONS, model, chosen, place("select"), silent)
        ),
    }


def _told(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in ("seconds", "micro_batch_size")}


def _killed(what: str, done: int, total: int | None) -> None:
    if done == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work = Path(sys.argv[1])
    if sys.argv[2] == "others":
        found = others(work, "two", 2)
    else:
        found = dpo(work, "dpo", _killed if sys.argv[2] == "begin" else silent)
    (work / f"told-{os.environ['RANK']}.json").write_text(json.dumps(found))
