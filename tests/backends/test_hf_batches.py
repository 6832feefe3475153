"""How rows are cut into batches and passes, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from polypref.backends.base import ModelSpec
from polypref.backends.hf_batches import CACHED, CPU_TOKENS, TOKENS, Batches


@dataclass(frozen=True)
class Row:
    length: int
    prefix: int = 0
    group: int = 0
    id: str = "r"

    def __len__(self) -> int:
        return self.length


def cut(batches: Batches, rows: Sequence[Row]) -> list[list[Row]]:
    seen: list[list[Row]] = []

    def work(batch: Sequence[Row]) -> list[None]:
        seen.append(list(batch))
        return [None] * len(batch)

    batches.run(rows, work)
    return seen


def test_whole_rows_fill_a_pass_with_their_padding() -> None:
    """30 + 30 + 20 padded to 30 is 90 of 100; a fourth would make 120."""
    rows = [Row(30), Row(30), Row(20), Row(20), Row(20)]
    assert cut(Batches(100), rows) == [rows[:3], rows[3:]]


def test_a_row_that_is_too_long_runs_alone() -> None:
    assert cut(Batches(10), [Row(30), Row(5)]) == [[Row(30)], [Row(5)]]


def test_behind_prefixes_the_cache_is_what_fills() -> None:
    """Each row holds 80 + 20 positions: of 300, three; a pass of 50 tokens takes two rests of 20."""
    rows = [Row(100, prefix=80) for _ in range(5)]
    batches = Batches(50, positions=300)
    assert cut(batches, rows) == [rows[:3], rows[3:]]
    assert list(batches.passes(rows[:3])) == [rows[:2], rows[2:3]]


def test_prefixes_that_are_run_together_fit_a_pass() -> None:
    """Two prefixes of 80 are more than 100 tokens: each group is a batch, however much the cache holds."""
    one, two = [Row(100, 80, 0)] * 3, [Row(100, 80, 1)] * 3
    assert cut(Batches(100, positions=10**6), [*one, *two]) == [one, two]
    short, other = [Row(30, 20, 0)] * 3, [Row(30, 20, 1)] * 3
    assert cut(Batches(100, positions=10**6), [*short, *other]) == [[*short, *other]]


def test_a_rest_that_is_longer_than_a_pass_runs_alone() -> None:
    rows = [Row(100, 20), Row(60, 20), Row(40, 20)]
    assert list(Batches(50).passes(rows)) == [rows[:1], rows[1:2], rows[2:]]


@pytest.mark.parametrize(
    ("device", "asked", "tokens", "positions"),
    [
        ("cpu", None, CPU_TOKENS, CACHED * TOKENS),
        ("cuda", None, TOKENS, CACHED * TOKENS),
        ("cpu", 300, 300, 300),
        ("cuda", 300, 300, 300),
    ],
)
def test_the_device_says_how_much_unless_the_spec_does(
    device: str, asked: int | None, tokens: int, positions: int
) -> None:
    made = Batches.of(ModelSpec(path="m", batch_tokens=asked), torch.device(device), None)
    assert (made.tokens, made.positions) == (tokens, positions)


def test_without_memory_both_become_fewer() -> None:
    """Five rows of 80 + 20 positions do not fit: half of 500 positions are left, and no more tokens than that."""
    rows = [Row(100, 80)] * 5
    batches = Batches(400, positions=1000)
    seen = []

    def work(batch: Sequence[Row]) -> list[None]:
        seen.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [None] * len(batch)

    batches.run(rows, work)
    assert seen == [5, 2, 2, 1]
    assert (batches.tokens, batches.positions) == (250, 250)
