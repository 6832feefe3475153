"""Training in two real processes: the curve and the end of one process, whatever interrupts it in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import launched
import two_trainings
from polypref.backends.trl_batches import VOID, Order, collating
from tiny_training import save_tiny_model, weights

SCRIPT = str(Path(two_trainings.__file__))


def test_a_step_has_the_same_rows_whatever_the_processes() -> None:
    """Ten rows, micro-batches of 2: one process with two a step, or two processes with one."""
    alone = list(Order(10, 2, seed=5))
    dealt = [list(Order(10, 2, 5, process, 2)) for process in (0, 1)]
    assert sorted(index for batch in alone for index in batch) == list(range(10))
    assert [len(batches) for batches in dealt] == [3, 3]
    for step in range(2):
        assert dealt[0][step] + dealt[1][step] == alone[2 * step] + alone[2 * step + 1]
    assert dealt[0][2] == alone[4]
    assert dealt[1][2] == [~alone[0][0]]


def test_epochs_differ_and_are_remembered() -> None:
    order, again = Order(6, 1, seed=0), Order(6, 1, seed=0)
    first = list(order)
    order.set_epoch(1)
    again.set_epoch(1)
    assert list(order) == list(again) != first


def test_a_micro_batch_that_counts_nothing_says_so_beside_its_rows() -> None:
    collate = collating(lambda rows: {"n": torch.tensor([row["n"] for row in rows])})
    assert VOID not in collate([{"n": 1}])
    assert collate([{"n": 1, VOID: True}]).keys() == {"n", VOID}


@pytest.mark.timeout(900)
def test_two_processes_go_on_and_end_as_one_that_was_never_interrupted(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "start")

    def stop(what: str, done: int, total: int | None) -> None:
        if done == two_trainings.KILLED:
            raise two_trainings.Stop

    for name in ("dpo", "alone"):
        (tmp_path / name).mkdir()
    with pytest.raises(two_trainings.Stop):
        two_trainings.dpo(tmp_path, "dpo", stop)
    assert _saved(tmp_path) == ["checkpoint-2"]
    finished = launched.launch(2, SCRIPT, str(tmp_path), "finish")
    assert finished.returncode == 0, finished.stderr[-3000:]
    _told_alike(tmp_path, two_trainings.dpo(tmp_path, "alone"))
    _alike_weights(tmp_path / "dpo", tmp_path / "alone")


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_processes_and_two_interruptions_end_as_one_that_was_never_interrupted(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "start")
    (tmp_path / "dpo").mkdir()
    killed = launched.launch(2, SCRIPT, str(tmp_path), "begin")  # two processes, of which the first is killed
    assert killed.returncode != 0
    assert _saved(tmp_path) == ["checkpoint-2"]

    steps: list[int] = []

    def stop(what: str, done: int, total: int | None) -> None:
        steps.append(done)
        if done == two_trainings.STOPPED:
            raise two_trainings.Stop

    with pytest.raises(two_trainings.Stop):  # one process
        two_trainings.dpo(tmp_path, "dpo", stop)
    assert steps == [3, 4, 5]
    assert _saved(tmp_path) == ["checkpoint-4"]
    finished = launched.launch(2, SCRIPT, str(tmp_path), "finish")  # and two again
    assert finished.returncode == 0, finished.stderr[-3000:]

    (tmp_path / "alone").mkdir()
    alone = two_trainings.dpo(tmp_path, "alone")
    assert len(alone["curve"]) == two_trainings.STEPS
    _told_alike(tmp_path, alone)
    _alike_weights(tmp_path / "dpo", tmp_path / "alone")
    assert not (tmp_path / "dpo" / ".resume").exists()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_processes_train_the_other_methods_as_one_does(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "start")
    done = launched.launch(2, SCRIPT, str(tmp_path), "others")
    assert done.returncode == 0, done.stderr[-3000:]
    _told_alike(tmp_path, two_trainings.others(tmp_path, "one", 1))
    for kind in ("sft", "kto", "reward", "select"):
        _alike_weights(tmp_path / f"{kind}-two", tmp_path / f"{kind}-one")


def _told_alike(folder: Path, alone: dict[str, Any]) -> None:
    """Both processes have told the same, and what one process tells."""
    told = [json.loads((folder / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0] == told[1]
    _alike(told[0], json.loads(json.dumps(alone)))


def _saved(folder: Path) -> list[str]:
    return [path.name for path in (folder / "dpo" / ".resume").glob("checkpoint-*")]


def _alike(two: Any, one: Any) -> None:
    """Equal in all that is said, numbers to rounding."""
    if isinstance(one, dict):
        assert two.keys() == one.keys()
        for name in one:
            _alike(two[name], one[name])
    elif isinstance(one, list):
        assert len(two) == len(one)
        for a, b in zip(two, one, strict=True):
            _alike(a, b)
    else:
        assert two == (pytest.approx(one, rel=1e-4, abs=1e-5) if isinstance(one, float) else one)


def _alike_weights(two: Path, one: Path) -> None:
    for name, value in weights(two).items():
        torch.testing.assert_close(value, weights(one)[name], rtol=1e-4, atol=1e-5)
