"""Training of reward models that is killed, shared between processes, out of memory, or given what it cannot use."""

from __future__ import annotations

import json
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
from polypref.backends.trl_reward import TRLRewardTrainer
from polypref.backends.trl_reward_trainer import RewardModelTrainer
from polypref.errors import InputError, ModelError, RecipeError
from tiny_reward_training import HELD, LONG, PAIRS, judged, options, run
from tiny_training import same, save_tiny_model, weights


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(save_tiny_model(tmp_path_factory.mktemp("start") / "tiny")), device="cpu")


KILLED = """
    import os, pathlib, signal, sys, torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from tiny_reward_training import HELD, LONG, PAIRS, ModelSpec, TRLRewardTrainer

    def progress(what, done, total):
        if done == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    start = ModelSpec(path={start!r}, device="cpu")
    TRLRewardTrainer().train(PAIRS, HELD, start, LONG, pathlib.Path({folder!r}), progress)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_killed_in_the_middle_and_started_again_it_ends_the_same(start: ModelSpec, tmp_path: Path) -> None:
    """Killed after step 7: judged at step 4, saved at 6. The folder may even lie elsewhere by then."""
    before, folder = tmp_path / "before", tmp_path / "killed"
    before.mkdir()
    tests = str(Path(__file__).parent.parent)
    script = textwrap.dedent(KILLED).format(tests=tests, start=start.path, folder=str(before))
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == -9
    assert "checkpoint-6" in [path.name for path in (before / ".resume").iterdir()]
    before.rename(folder)
    steps: list[int] = []
    summary = TRLRewardTrainer().train(PAIRS, HELD, start, LONG, folder, lambda what, done, total: steps.append(done))
    assert steps == [7, 8, 9, 10, 11, 12]
    (tmp_path / "undisturbed").mkdir()
    whole = TRLRewardTrainer().train(PAIRS, HELD, start, LONG, tmp_path / "undisturbed", silent)
    assert [point["step"] for point in whole["validation"]] == [4, 8, 12]
    assert summary | {"seconds": 0} == whole | {"seconds": 0}
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in (tmp_path / "undisturbed").iterdir()}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name


class Stop(Exception):
    pass


@pytest.mark.usefixtures("one_thread")
def test_stopped_after_its_best_step_it_still_finds_it(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best is step 4, the stop comes after step 11; with save_steps of 100 step 8 alone would not be saved."""
    monkeypatch.setattr(RewardModelTrainer, "_totals", judged({4: (6.0, 0.4), 8: (5.0, 0.4), 12: (5.0, 0.4)}))
    asked = LONG.model_copy(update={"save_steps": 5})

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 11:
            raise Stop

    tmp_path.joinpath("out").mkdir()
    with pytest.raises(Stop):
        TRLRewardTrainer().train(PAIRS, HELD, start, asked, tmp_path / "out", interrupt)
    kept = {path.name for path in (tmp_path / "out" / ".resume").glob("checkpoint-*")}
    assert kept == {"checkpoint-4", "checkpoint-10"}
    summary = TRLRewardTrainer().train(PAIRS, HELD, start, asked, tmp_path / "out", silent)
    assert summary["selected_step"] == 4
    tmp_path.joinpath("whole").mkdir()
    TRLRewardTrainer().train(PAIRS, HELD, start, asked, tmp_path / "whole", silent)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def test_other_validation_rows_do_not_resume_what_was_left(start: ModelSpec, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        run(PAIRS, start, tmp_path, HELD, interrupt, save_steps=1)
    steps: list[int] = []
    run(PAIRS, start, tmp_path, HELD[:5], lambda what, done, total: steps.append(done), save_steps=1)
    assert steps == [1, 2, 3]


TWO = """
    import json, pathlib, sys
    sys.path.insert(0, {tests!r})
    from tiny_reward_training import HELD, PAIRS, ModelSpec, run

    summary = run(PAIRS, ModelSpec(path={start!r}), pathlib.Path({folder!r}), HELD, {told})
    import os
    pathlib.Path({folder!r} + os.environ["RANK"] + ".json").write_text(json.dumps(summary))
"""


def test_two_processes_train_the_same_model(start: ModelSpec, tmp_path: Path) -> None:
    """Two processes with one micro-batch of 2 each, or one process with two: the same steps of 4 rows. The seven
    validation rows are shared unevenly, and both processes select the same step."""
    folder, script = tmp_path / "two", tmp_path / "two.py"
    told = {"micro_batch_size": 2, "optimizer": "sgd", "learning_rate": 0.1, "evaluations": 2}
    tests = str(Path(__file__).parent.parent)
    arguments = ", ".join(f"{name}={value!r}" for name, value in told.items())
    script.write_text(textwrap.dedent(TWO).format(tests=tests, start=start.path, folder=str(folder), told=arguments))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = run(PAIRS, start, tmp_path / "one", HELD, **told)
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, weights(tmp_path / "one")[name], rtol=1e-4, atol=1e-5)
    for rank in (0, 1):
        told_by = json.loads(Path(f"{folder}{rank}.json").read_text())
        assert told_by["selected_step"] == alone["selected_step"]
        for figures in ("curve", "validation"):
            for ours, theirs in zip(told_by[figures], alone[figures], strict=True):
                assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert not (folder / ".resume").exists()


def test_out_of_memory_takes_smaller_micro_batches_or_says_so(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training, or only when the validation rows are judged."""
    real = RewardModelTrainer._forward
    whole = run(PAIRS, start, tmp_path / "whole", HELD)
    for name, everywhere in (("always", True), ("validation", False)):

        def scarce(self: Any, model: Any, inputs: Any, everywhere: bool = everywhere) -> Any:
            if len(inputs["input_ids"]) > 4 and (everywhere or not self.model.training):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(self, model, inputs)

        monkeypatch.setattr(RewardModelTrainer, "_forward", scarce)
        smaller = run(PAIRS, start, tmp_path / name, HELD)
        assert (whole["micro_batch_size"], smaller["micro_batch_size"]) == (4, 2)
        for key, value in weights(tmp_path / name).items():
            torch.testing.assert_close(value, weights(tmp_path / "whole")[key], rtol=1e-3, atol=1e-4)
        with pytest.raises(ModelError, match=r"4 rows a forward pass; lower train\.micro_batch_size"):
            run(PAIRS, start, tmp_path / f"{name}-given", HELD, micro_batch_size=4)


def test_a_loss_that_is_no_number_stops_with_its_step_whether_it_is_logged_or_not(
    start: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate of 1e30 makes the second step's rewards infinite; nothing but the first step is logged."""
    with pytest.raises(ModelError, match=r"training step 2 has the loss (nan|inf); lower train\.learning_rate"):
        run(PAIRS, start, tmp_path, optimizer="sgd", learning_rate=1e30, max_grad_norm=1e9, logging_steps=100)
    assert not (tmp_path / "config.json").exists()


def test_what_cannot_be_trained_is_told(start: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row is left to train on: none was given"):
        run([], start, tmp_path)
    with pytest.raises(RecipeError, match="name it as start"):
        TRLRewardTrainer().train(PAIRS, [], None, options(), tmp_path, silent)
    with pytest.raises(RecipeError, match="not a valid OptimizerNames"):
        run(PAIRS, start, tmp_path, optimizer="adamm")
    with pytest.raises(ModelError, match="nowhere is no folder"):
        run(PAIRS, ModelSpec(path=str(tmp_path / "nowhere"), device="cpu"), tmp_path)
