"""What every training through TRL shares: its resume state, micro-batches that fit, and a checkpoint on disk."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback

from polypref.backends.base import Progress
from polypref.backends.trl_trainers import Watch
from polypref.errors import ModelError, RecipeError

RESUME = ".resume"
MICRO_BATCH_TOKENS = 8192


class _OutOfMemory(Exception):
    pass


def micro_batches(batch_size: int, given: int | None, tokens: int, least: int = 1) -> list[int]:
    """The rows of a forward pass to try, largest first: divisors of a process' share of the batch.

    Args:
        batch_size: rows of one step, over all processes.
        given: what the user wants; then nothing else is tried.
        tokens: of the longest row.
        least: rows that a micro-batch cannot do without.

    Raises:
        RecipeError: processes cannot share the batch equally, or ``given`` does not divide a share.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if batch_size % processes:
        raise RecipeError(
            f"train.batch_size is {batch_size} rows, which {processes} processes cannot share equally; "
            "make it a multiple of them"
        )
    share = batch_size // processes
    if given is not None:
        if share % given:
            raise RecipeError(
                f"train.micro_batch_size {given} does not divide a process' share of the batch, {share} rows"
            )
        return [given]
    sizes = [n for n in range(share, 0, -1) if share % n == 0 and n >= least]
    if not sizes:
        raise RecipeError(f"train.batch_size leaves a process {share} rows; it needs at least {least}")
    fitting = [n for n in sizes if n * tokens <= MICRO_BATCH_TOKENS] or sizes[-1:]
    return fitting if processes == 1 else fitting[:1]


def claim(work: Path, told: list[Any]) -> None:
    """Keep the resume state of the very same training, and throw another's away."""
    if int(os.environ.get("RANK", "0")) == 0:
        key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        mark = work / "key"
        if not (mark.is_file() and mark.read_text(encoding="utf-8") == key):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True, exist_ok=True)
            mark.write_text(key, encoding="utf-8")
        for checkpoint in work.glob("checkpoint-*"):
            if not _whole(checkpoint):
                shutil.rmtree(checkpoint)


def _whole(checkpoint: Path) -> bool:
    """Whether a save came to its end: the trainer's state is written last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _last_checkpoint(work: Path) -> str | None:
    steps = sorted(int(path.name.rpartition("-")[2]) for path in work.glob("checkpoint-*"))
    return str(work / f"checkpoint-{steps[-1]}") if steps else None


def fit(build: Callable[[int], Any], sizes: Sequence[int], work: Path, progress: Progress) -> Any:
    """The trainer of ``build(micro_batch)`` after its training, which goes on from the last save in ``work``.

    A pass that runs out of memory is taken up again with the next size.

    Raises:
        RecipeError: the libraries refuse the options.
        ModelError: no size fits into memory.
    """
    for size in sizes:
        with contextlib.suppress(_OutOfMemory):
            return _fit(build, size, work, progress)
        gc.collect()
        torch.cuda.empty_cache()
    raise ModelError(
        f"out of memory with {sizes[-1]} rows a forward pass; lower train.micro_batch_size or "
        "train.max_length (train.max_tokens), or set train.gradient_checkpointing or train.lora"
    )


def _fit(build: Callable[[int], Any], micro_batch: int, work: Path, progress: Progress) -> Any:
    try:
        trainer = build(micro_batch)
    except ValueError as error:
        raise RecipeError(f"the train options cannot be used: {str(error).splitlines()[0]}") from error
    trainer.add_callback(Watch(progress))
    trainer.remove_callback(PrinterCallback)
    trainer.accelerator.wait_for_everyone()
    try:
        trainer.train(resume_from_checkpoint=_last_checkpoint(work))
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _OutOfMemory from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise _OutOfMemory from error
    return trainer


def merge(trainer: Any) -> None:
    """Put the adapter into the weights that it lies on."""
    trainer.model = trainer.model_wrapped = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()


def save(trainer: Any, whole: bool, config: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what was trained, a ``whole`` model in the start's dtype; no file of it is a pickle."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if whole and not sharded and isinstance(config.dtype, torch.dtype):
        model.to(config.dtype)
    trainer.processing_class = tokenizer
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        (folder / "training_args.bin").unlink(missing_ok=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Bars and prints are the caller's, through ``progress``."""
    libraries = [logging.getLogger(name) for name in ("trl", "accelerate", "peft", "datasets", "transformers")]
    levels = [library.level for library in libraries]
    bars, sets = transformers.logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    for library in libraries:
        library.setLevel(logging.ERROR)
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # Of the libraries about each other: nothing that a user could act on.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|trl|accelerate)\b")
            yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.setLevel(level)
        if bars:
            transformers.logging.enable_progress_bar()
        if not sets:
            datasets.enable_progress_bars()
