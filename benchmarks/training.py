"""A step of DPO: polypref's trainer with stored reference log-probabilities beside TRL's with a reference model.

    python benchmarks/training.py [--vocabularies 32000 151936] [--rows 1] [--repeat 5] [--threads 2]

The model is that of the scoring benchmark, with random weights, in float32; a row has a prompt of 48 tokens and answers
of 266 and 304, the same for both trainers, and a step is one forward pass of ``--rows`` rows. polypref scores all
answers once before the first step (``before``; an answer that is trained on in several passes needs it once); TRL's
stock ``DPOTrainer`` holds a reference model and asks it in every step. Each training is a child process: seconds are
the median of ``--repeat`` steps after the first; memory is the process's peak resident set. Both have λ·NLL, TRL as its
``sft`` term.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from measuring import child, table
from scoring_cases import SHAPES, answers, save

from polypref.backends.base import ModelSpec, PreferenceRow


def rows_of(vocabulary: int, count: int) -> list[PreferenceRow]:
    """A row a prompt, of the two answers of middle length, so that all steps cost the same."""
    found = {answer.id: answer for answer in answers(vocabulary, SHAPES["short"], count)}
    return [PreferenceRow(str(k), "en", found[f"{k}/4"], found[f"{k}/5"]) for k in range(count)]


def ours(folder: Path, rows: list[PreferenceRow], steps: int, size: int) -> dict[str, Any]:
    """Times of polypref's steps, and of the pass before them."""
    from polypref.backends.hf_logprobs import HFLogprobs
    from polypref.backends.hf_models import close_models
    from polypref.backends.training import TrainOptions
    from polypref.backends.trl import TRLTrainer

    spec = ModelSpec(path=str(folder), dtype="float32", device="cpu")
    scorer = HFLogprobs(spec)
    begun = perf_counter()
    flat = scorer.logprobs([answer for row in rows for answer in (row.chosen, row.rejected)])
    before = perf_counter() - begun
    del scorer
    close_models()
    known = [
        PreferenceRow(r.id, r.lang, r.chosen, r.rejected, *pair)
        for r, pair in zip(rows, zip(flat[::2], flat[1::2], strict=True), strict=True)
    ]
    at: list[float] = []
    options = TrainOptions(
        max_steps=steps, batch_size=size, micro_batch_size=size, learning_rate=1e-6, save_steps=10**6
    )
    (folder / "ours").mkdir()
    TRLTrainer().train(known, spec, options, folder / "ours", lambda what, done, total: at.append(perf_counter()))
    return {"at": at, "before": before}


def stock(folder: Path, rows: list[PreferenceRow], steps: int, size: int) -> dict[str, Any]:
    """Times of TRL's steps."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    at: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **rest: Any) -> None:
            at.append(perf_counter())

    config = DPOConfig(
        output_dir=str(folder / "stock"),
        per_device_train_batch_size=size,
        max_steps=steps,
        learning_rate=1e-6,
        max_length=None,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 1.0],
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        model_init_kwargs={"dtype": "float32"},
    )
    data = Dataset.from_list(
        [
            {
                "prompt": row.chosen.messages,
                "chosen": [{"role": "assistant", "content": row.chosen.text}],
                "rejected": [{"role": "assistant", "content": row.rejected.text}],
            }
            for row in rows
        ]
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = DPOTrainer(str(folder), args=config, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])
    trainer.train()
    return {"at": at}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 151_936])
    for name, default in (("rows", 1), ("repeat", 5), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", choices=("ours", "stock"), help="do one training and tell its times")
    asked = parser.parse_args()
    steps = asked.repeat + 1
    if asked.one:
        torch.set_num_threads(asked.threads)
        warnings.simplefilter("ignore")
        (vocabulary,) = asked.vocabularies
        with tempfile.TemporaryDirectory() as name:
            save(Path(name), vocabulary, torch.float32)
            rows = rows_of(vocabulary, asked.rows * steps)
            train = {"ours": ours, "stock": stock}[asked.one]
            told = train(Path(name), rows, steps, asked.rows)
        print("\n" + json.dumps(told))
        return
    lines = []
    for vocabulary in asked.vocabularies:
        step, peak, before = {}, {}, 0.0
        for way in ("ours", "stock"):
            shape = ("--rows", asked.rows, "--repeat", asked.repeat, "--threads", asked.threads)
            used = child([sys.executable, __file__, "--one", way, "--vocabularies", vocabulary, *shape])
            told = json.loads(used.out.strip().splitlines()[-1])
            step[way] = statistics.median(b - a for a, b in itertools.pairwise(told["at"]))
            peak[way] = used.mib
            before += told.get("before", 0.0) / steps
        ratios = (step["stock"] / seconds for seconds in (step["ours"], step["ours"] + before))
        alone, whole = (f"{ratio:.2f}" for ratio in ratios)
        cells = (f"{step['ours']:.2f}", f"{step['stock']:.2f}", alone, f"{before:.2f}", whole)
        lines.append((vocabulary, *cells, f"{peak['ours']:.0f}", f"{peak['stock']:.0f}"))
    columns = (
        *("vocabulary", "a step, s", "TRL's, s", "TRL ÷ ours", "before, s a step", "TRL ÷ ours with it"),
        *("peak, MiB", "TRL's, MiB"),
    )
    print(table(columns, lines))


if __name__ == "__main__":
    main()
