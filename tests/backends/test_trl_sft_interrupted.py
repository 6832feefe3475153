"""Supervised fine-tuning that is killed, shared between processes, out of memory, or given what it cannot use."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from polypref.backends.base import ModelSpec, silent
from polypref.backends.trl_sft import TRLSFTTrainer
from polypref.backends.trl_sft_trainer import SelectingTrainer
from polypref.errors import RecipeError
from tiny_sft_training import HELD, LONG, ROWS, measure, run
from tiny_training import same, save_tiny_model, weights


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(save_tiny_model(tmp_path_factory.mktemp("start") / "tiny")), device="cpu")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


KILLED = """
    import os, pathlib, signal, sys, torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from tiny_sft_training import HELD, LONG, ROWS, ModelSpec, TRLSFTTrainer, measure

    def progress(what, done, total):
        if done == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

    start = ModelSpec(path={start!r}, device="cpu")
    asked = LONG.model_copy(update={{"select": "chrf"}})
    TRLSFTTrainer().train(ROWS, HELD, start, asked, pathlib.Path({folder!r}), progress, measure)
"""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("step", [7, 11])
def test_killed_in_the_middle_and_started_again_it_ends_the_same(start: ModelSpec, tmp_path: Path, step: int) -> None:
    """Looked at after steps 4, 8 and 12, saved after every second; the folder may even lie elsewhere by then."""
    before, folder = tmp_path / "before", tmp_path / "killed"
    before.mkdir()
    tests = str(Path(__file__).parent.parent)
    script = textwrap.dedent(KILLED).format(tests=tests, start=start.path, folder=str(before), step=step)
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == -9
    before.rename(folder)
    asked = LONG.model_copy(update={"select": "chrf"})
    steps: list[int] = []
    resumed = TRLSFTTrainer().train(
        ROWS, HELD, start, asked, folder, lambda what, done, total: steps.append(done), measure
    )
    assert steps[0] == step
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    whole = TRLSFTTrainer().train(ROWS, HELD, start, asked, undisturbed, silent, measure)
    assert same(weights(folder), weights(undisturbed))
    assert {k: v for k, v in resumed.items() if k != "seconds"} == {k: v for k, v in whole.items() if k != "seconds"}
    assert not (folder / ".resume").exists()


TWO = """
    import json, os, pathlib, sys
    sys.path.insert(0, {tests!r})
    from tiny_sft_training import HELD, ROWS, ModelSpec, TRLSFTTrainer, measure, options, silent

    asked = options(micro_batch_size=2, optimizer="sgd", learning_rate=0.1, select="chrf", evaluations=3)
    folder = pathlib.Path({folder!r})
    asks = []

    def counting(generator):
        asks.append(1)
        return measure(generator)

    found = TRLSFTTrainer().train(ROWS, HELD, ModelSpec(path={start!r}), asked, folder, silent, counting)
    found["asks"] = len(asks)
    (folder / f"summary-{{os.environ['RANK']}}.json").write_text(json.dumps(found))
"""


def test_two_processes_train_select_and_look_as_one_does(start: ModelSpec, tmp_path: Path) -> None:
    """Two processes with one micro-batch of 2 each, or one with two: the same steps of 4 rows, the same answers."""
    import json

    folder, script = tmp_path / "two", tmp_path / "two.py"
    folder.mkdir()
    tests = str(Path(__file__).parent.parent)
    script.write_text(textwrap.dedent(TWO).format(tests=tests, start=start.path, folder=str(folder)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    asked = {"micro_batch_size": 2, "optimizer": "sgd", "learning_rate": 0.1, "select": "chrf", "evaluations": 3}
    alone = run(ROWS, start, tmp_path / "one", HELD, measure=measure, **asked)
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, weights(tmp_path / "one")[name], rtol=1e-4, atol=1e-5)
    for rank in (0, 1):
        found = json.loads((folder / f"summary-{rank}.json").read_text())
        assert found["selected"] == alone["selected"]
        assert found["asks"] == (0 if rank else 3)
        for shared, own in zip(found["checkpoints"], alone["checkpoints"], strict=True):
            assert shared["chrf"] == own["chrf"]
            assert shared["loss"] == pytest.approx(own["loss"], rel=1e-4)
            assert shared["by_language"].keys() == own["by_language"].keys() == {"en", "es"}


def test_another_recipe_does_not_resume_what_was_left(start: ModelSpec, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        run(ROWS, start, tmp_path, progress=interrupt, save_steps=1)
    assert (tmp_path / ".resume" / "checkpoint-1").is_dir()
    steps: list[int] = []
    run(ROWS[:8], start, tmp_path, progress=lambda what, done, total: steps.append(done), save_steps=1)
    assert steps == [1, 2]


def test_out_of_memory_takes_smaller_micro_batches(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SelectingTrainer.compute_loss

    def scarce(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, model, inputs, *args, **kwargs)

    whole = run(ROWS, start, tmp_path / "whole")
    monkeypatch.setattr(SelectingTrainer, "compute_loss", scarce)
    smaller = run(ROWS, start, tmp_path / "smaller")
    assert (whole["micro_batch_size"], smaller["micro_batch_size"]) == (4, 2)
    for name, value in weights(tmp_path / "smaller").items():
        torch.testing.assert_close(value, weights(tmp_path / "whole")[name], rtol=1e-3, atol=1e-4)


def test_a_model_in_parts_cannot_answer_and_that_is_told(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polypref.backends.trl_sft_trainer.is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(RecipeError, match="select by loss or last, and name no scorer"):
        run(ROWS, start, tmp_path, HELD, measure=measure, select="chrf")
    run(ROWS, start, tmp_path, HELD)


def test_options_that_trl_refuses_are_told_in_a_sentence(start: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not a valid OptimizerNames"):
        run(ROWS, start, tmp_path, optimizer="adamm")
