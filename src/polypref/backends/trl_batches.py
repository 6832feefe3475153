"""The order of the rows: the same rows in every optimiser step, whatever the processes and however often one resumes.

accelerate makes the processes' shares of an epoch's last step equal by showing rows twice. Here a process that has no
micro-batch left computes one that counts nothing, since a sharded model waits for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

VOID = "void"
"""The key of a micro-batch that counts nothing."""


class Order(Sampler[list[int]]):
    """The micro-batches of one process as indices of rows; ~i is row i in a micro-batch that counts nothing.

    The rows of an epoch are shuffled by (seed, epoch) as accelerate does it, cut into micro-batches, and dealt to the
    processes one by one, so that a step is always the next ``batch_size`` rows.
    """

    def __init__(self, rows: int, size: int, seed: int, process: int = 0, processes: int = 1) -> None:
        self.rows, self.size, self.seed = rows, size, seed
        self.process, self.processes = process, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.rows / self.size) / self.processes)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order: list[int] = torch.randperm(self.rows, generator=generator).tolist()
        for turn in range(len(self)):
            first = (turn * self.processes + self.process) * self.size
            yield order[first : first + self.size] or [~order[0]]


class _Rows(Dataset[dict[str, Any]]):
    def __init__(self, columns: Any) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.columns[index] if index >= 0 else {**self.columns[~index], VOID: True}


class _Loader(DataLoader[dict[str, Any]]):
    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def collating(collator: Callable[[list[dict[str, Any]]], Any]) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """``collator``, which hands on whether the batch counts."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        void = VOID in rows[0]
        batch = collator([{name: row[name] for name in row if name != VOID} for row in rows])
        return {**batch, VOID: torch.ones(())} if void else batch

    return collate


class Dealt:
    """What the trainers share, before TRL's own class in the order of bases."""

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        accelerator = self.accelerator
        order = Order(
            len(self.train_dataset),
            self._train_batch_size,
            self.args.seed,
            accelerator.process_index,
            accelerator.num_processes,
        )
        return _Loader(
            _Rows(self.train_dataset),
            batch_sampler=order,
            collate_fn=collating(self.data_collator),
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of one optimiser step, and what they count over all processes."""
        samples = [next(epoch_iterator) for _ in range(num_batches)]
        return samples, self.counted(samples, device)

    def counted(self, samples: Sequence[dict[str, Tensor]], device: torch.device) -> Tensor:
        """The rows of a step over all processes."""
        rows = sum(self.rows_of(sample) for sample in samples if VOID not in sample)
        return self.accelerator.gather(torch.tensor([rows], device=device)).sum()

    def rows_of(self, batch: dict[str, Tensor]) -> int:
        """How many rows a micro-batch has."""
        raise NotImplementedError

    def _track_num_input_tokens(self, inputs: dict[str, Tensor]) -> None:
        if VOID in inputs:
            inputs = {**inputs, "attention_mask": torch.zeros_like(inputs["attention_mask"])}
        super()._track_num_input_tokens(inputs)
