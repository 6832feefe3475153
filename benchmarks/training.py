"""A step of DPO: polypref's trainer with stored reference log-probabilities beside TRL's with a reference model.

    python benchmarks/training.py [--vocabularies 32000 151936] [--steps 4] [--rows 2] [--repeat 5] [--threads 2]

The model is that of the scoring benchmark, with random weights, in float32; rows have 48 prompt tokens and answers of
114 to 456, the same for both, in the same micro-batches. polypref scores all answers once before the first step
(``before``; an answer that is trained on in several passes needs it once); TRL's stock ``DPOTrainer`` holds a reference
model and asks it in every step. Each training is a child process: seconds are the median over its steps after the
first, and of these the median of the repeats; memory is the process's peak resident set. Both have λ·NLL, TRL as its
``sft`` term. A step is one forward pass of ``--rows`` rows.
"""

from __future__ import annotations

import argparse
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

from polypref.backends.base import Answer, ModelSpec, PreferenceRow


def rows_of(vocabulary: int, count: int) -> list[PreferenceRow]:
    """Pairs of answers to one prompt, of which ``answers`` gives ten each."""
    found: dict[str, list[Answer]] = {}
    for answer in answers(vocabulary, SHAPES["short"], -(-count // 5)):
        found.setdefault(answer.id.partition("/")[0], []).append(answer)
    pairs = [pair for same in found.values() for pair in zip(same[::2], same[1::2], strict=True)]
    return [PreferenceRow(str(k), "en", *pair) for k, pair in enumerate(pairs[:count])]


def ours(folder: Path, rows: list[PreferenceRow], steps: int, size: int) -> dict[str, Any]:
    """Times of polypref's steps, and of the pass before them."""
    from polypref.backends.hf_logprobs import HFLogprobs
    from polypref.backends.hf_models import close_models
    from polypref.backends.training import TrainOptions
    from polypref.backends.trl import TRLTrainer

    spec = ModelSpec(path=str(folder), dtype="float32", device="cpu")
    begun = perf_counter()
    scorer = HFLogprobs(spec)
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
    for name, default in (("steps", 4), ("rows", 2), ("repeat", 5), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", choices=("ours", "stock"), help="do one training and tell its times")
    asked = parser.parse_args()
    if asked.one:
        torch.set_num_threads(asked.threads)
        warnings.simplefilter("ignore")
        (vocabulary,) = asked.vocabularies
        with tempfile.TemporaryDirectory() as name:
            save(Path(name), vocabulary, torch.float32)
            rows = rows_of(vocabulary, asked.rows * asked.steps)
            train = {"ours": ours, "stock": stock}[asked.one]
            told = train(Path(name), rows, asked.steps, asked.rows)
        print("\n" + json.dumps(told))
        return
    lines = []
    for vocabulary in asked.vocabularies:
        found: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
        peaks: dict[str, float] = {}
        for _ in range(asked.repeat):
            for way, times in found.items():
                shape = ("--steps", asked.steps, "--rows", asked.rows, "--threads", asked.threads)
                used = child([sys.executable, __file__, "--one", way, "--vocabularies", vocabulary, *shape])
                told = json.loads(used.out.strip().splitlines()[-1])
                steps = [after - before for before, after in zip(told["at"], told["at"][1:], strict=False)]
                times.append((statistics.median(steps), told.get("before", 0.0)))
                peaks[way] = max(peaks.get(way, 0), used.mib)
        step = {way: statistics.median(seconds for seconds, _ in times) for way, times in found.items()}
        before = statistics.median(seconds for _, seconds in found["ours"])
        cells = f"{step['ours']:.2f}", f"{step['stock']:.2f}", f"{step['stock'] / step['ours']:.2f}"
        once = before / asked.steps
        whole = f"{step['stock'] / (step['ours'] + once):.2f}"
        lines.append((vocabulary, *cells, f"{once:.2f}", whole, f"{peaks['ours']:.0f}", f"{peaks['stock']:.0f}"))
    columns = (
        *("vocabulary", "a step, s", "TRL's, s", "TRL ÷ ours", "before, s a step", "TRL ÷ ours with it"),
        *("peak, MiB", "TRL's, MiB"),
    )
    print(table(columns, lines))


if __name__ == "__main__":
    main()
