"""Stop rules, checkpoints and selection of a training by reinforcement, and what it does when it is interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from polypref.backends.base import Judged, ModelSpec
from tiny_rl import HELD, LONG, PROMPTS, late, run
from tiny_training import same, save_tiny_model, weights

FIGURES = {"reward", "reward_std", "kl", "length_tokens", "off_target_language", "truncated", "unscored"}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(save_tiny_model(tmp_path_factory.mktemp("start") / "tiny")), device="cpu")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("every", [1, 3])
def test_a_stop_keeps_the_last_checkpoint_that_was_within_the_limits(
    start: ModelSpec, tmp_path: Path, every: int
) -> None:
    """The policy runs away at this rate. The answers that broke the rule are those of the model of the step before, so
    that step is not kept either. The weights are those that a training of so many steps ends with."""
    told = {
        "max_steps": 40,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "beta": 0.0,
        "max_kl": 1.0,
        "stop_window": 2,
    }
    told |= {"eval_steps": every}
    summary = run(start, tmp_path / "out", **told)
    stopped = summary["stopped"]
    assert stopped["reason"] == "kl"
    assert stopped["said"].endswith("nats an answer over 2 updates, above max_kl 1")
    step = stopped["step"]
    assert step == summary["steps"] == summary["curve"][-1]["step"] < 40
    window = [entry["kl"] for entry in summary["curve"][-2:]]
    assert sum(window) / 2 > 1.0
    assert summary["selected"] == (step - 2) // every * every > 0
    assert [entry["step"] for entry in summary["checkpoints"]] == list(range(0, step, every))
    run(start, tmp_path / "short", **told | {"max_steps": summary["selected"], "max_kl": None})
    assert same(weights(tmp_path / "out"), weights(tmp_path / "short"))
    assert "Stopped after step" in (tmp_path / "out" / "README.md").read_text()


def test_where_nothing_was_within_the_limits_the_start_is_kept(start: ModelSpec, tmp_path: Path) -> None:
    told = {"learning_rate": 0.2, "schedule": "constant", "max_kl": 0.01, "stop_window": 1, "max_steps": 8}
    summary = run(start, tmp_path / "out", **told)
    assert summary["stopped"]["step"] == 2
    assert summary["selected"] == 0
    assert same(weights(tmp_path / "out"), weights(Path(start.path)))
    adapter = run(start, tmp_path / "adapter", **told, lora={"r": 2})
    assert (adapter["stopped"]["reason"], adapter["selected"]) == ("kl", 0)


def test_held_out_prompts_are_answered_at_every_checkpoint(start: ModelSpec, tmp_path: Path) -> None:
    """Without training the answers are the same each time, noise and all, and the KL is 0."""
    summary = run(start, tmp_path / "out", held=HELD, learning_rate=1e-12, max_steps=4, eval_steps=3)
    assert summary["validation_rows"] == 5
    assert [entry["step"] for entry in summary["checkpoints"]] == [0, 3, 4]
    assert {frozenset(entry) for entry in summary["checkpoints"]} == {frozenset({"step"} | FIGURES)}
    figures = [{name: entry[name] for name in FIGURES} for entry in summary["checkpoints"]]
    assert figures[0] == pytest.approx(figures[2], abs=1e-6)
    assert figures[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert summary["selected"] == 4


def test_the_best_on_held_out_prompts_is_kept(start: ModelSpec, tmp_path: Path) -> None:
    """A reward that pays for the held-out prompts what it takes for the others: training makes it worse there."""

    def against(answers: Sequence[Judged]) -> list[float | None]:
        signs = [-1 if int(str(answer.gold)) >= len(PROMPTS) else 1 for answer in answers]
        return [sign * (value or 0) for sign, value in zip(signs, late(answers), strict=True)]

    told = {"max_steps": 6, "eval_steps": 3, "beta": 0.0, "learning_rate": 3e-2}
    summary = run(start, tmp_path / "worse", against, held=HELD, select="reward", **told)
    rewards = {entry["step"]: entry["reward"] for entry in summary["checkpoints"]}
    assert rewards[0] > rewards[3] > rewards[6]
    assert summary["selected"] == 0
    assert same(weights(tmp_path / "worse"), weights(Path(start.path)))
    better = run(start, tmp_path / "better", held=HELD, select="reward", **told)
    rewards = {entry["step"]: entry["reward"] for entry in better["checkpoints"]}
    assert better["selected"] == max(rewards, key=lambda step: rewards[step]) > 0


def test_of_checkpoints_too_far_from_the_start_none_is_chosen(start: ModelSpec, tmp_path: Path) -> None:
    """The window is too wide to stop the training, but the held-out answers tell that the limit is passed."""
    told = {"max_steps": 6, "eval_steps": 3, "beta": 0.0, "learning_rate": 3e-2, "stop_window": 99, "max_kl": 1e-3}
    for select in ("reward", "last"):
        summary = run(start, tmp_path / select, held=HELD, select=select, **told)
        assert summary["stopped"] is None
        assert summary["checkpoints"][-1]["kl"] > 1e-3
        assert summary["selected"] == 0


KILLED = """
    import os, pathlib, signal, sys, torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from tiny_rl import HELD, LONG, ModelSpec, run

    def progress(what, done, total):
        if done == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    run(ModelSpec(path={start!r}, device="cpu"), pathlib.Path({folder!r}), held=HELD, progress=progress, asked=LONG)
"""


@pytest.mark.usefixtures("one_thread")
def test_killed_in_the_middle_and_started_again_it_ends_the_same(start: ModelSpec, tmp_path: Path) -> None:
    """Killed after step 7: a checkpoint at 4, a resume point at 6. The folder may even lie elsewhere by then."""
    before, folder = tmp_path / "before", tmp_path / "killed"
    script = textwrap.dedent(KILLED).format(
        tests=str(Path(__file__).parent.parent), start=start.path, folder=str(before)
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    assert {path.name for path in (before / ".resume").glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}
    before.rename(folder)
    steps: list[int] = []
    summary = run(start, folder, held=HELD, asked=LONG, progress=lambda what, done, total: steps.append(done))
    assert steps == [7, 8, 9, 10, 11, 12]
    whole = run(start, tmp_path / "undisturbed", held=HELD, asked=LONG)
    assert [entry["step"] for entry in whole["checkpoints"]] == [0, 4, 8, 12]
    assert summary | {"seconds": 0} == whole | {"seconds": 0}
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in (tmp_path / "undisturbed").iterdir()}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name


class Stop(Exception):
    pass


@pytest.mark.usefixtures("one_thread")
def test_it_is_taken_up_where_new_answers_are_drawn(start: ModelSpec, tmp_path: Path) -> None:
    """Three steps an update; saves are asked for every 2, and made every 3. Stopped after step 7, it goes on at 7."""
    told: dict[str, Any] = {"max_steps": 12, "iterations": 3, "save_steps": 2, "optimizer": "sgd"}

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 7:
            raise Stop

    with pytest.raises(Stop):
        run(start, tmp_path / "out", progress=interrupt, **told)
    assert [path.name for path in (tmp_path / "out" / ".resume").glob("checkpoint-*")] == ["checkpoint-6"]
    summary = run(start, tmp_path / "out", **told)
    whole = run(start, tmp_path / "whole", **told)
    assert summary | {"seconds": 0} == whole | {"seconds": 0}
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


TWO = """
    import json, os, pathlib, sys
    sys.path.insert(0, {tests!r})
    from tiny_rl import HELD, ModelSpec, run

    summary = run(ModelSpec(path={start!r}), pathlib.Path({folder!r}), held=HELD, **{told})
    pathlib.Path({folder!r} + os.environ["RANK"] + ".json").write_text(json.dumps(summary))
"""


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_two_processes_train_the_same_model(start: ModelSpec, tmp_path: Path, method: str) -> None:
    """Two processes with two prompts each, or one with four: the same answers, the same figures, the same steps."""
    folder, script = tmp_path / "two", tmp_path / "two.py"
    told = {"method": method, "micro_batch_size": 4, "optimizer": "sgd", "learning_rate": 0.05, "eval_steps": 2}
    tests = str(Path(__file__).parent.parent)
    script.write_text(textwrap.dedent(TWO).format(tests=tests, start=start.path, folder=str(folder), told=told))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = run(start, tmp_path / "one", held=HELD, **told)
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, weights(tmp_path / "one")[name], rtol=1e-4, atol=1e-5)
    found = [json.loads((tmp_path / f"two{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0]["curve"] == found[1]["curve"]
    for name in ("curve", "checkpoints"):
        for one, two in zip(alone[name], found[0][name], strict=True):
            assert two == pytest.approx(one, abs=1e-4)
    for lang, entries in alone["by_language"].items():
        for one, two in zip(entries, found[0]["by_language"][lang], strict=True):
            assert two == pytest.approx(one, abs=1e-4)
    assert found[0]["tokens"] == alone["tokens"]


def test_other_prompts_do_not_resume_what_was_left(start: ModelSpec, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int | None) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        run(start, tmp_path, progress=interrupt, save_steps=1)
    steps: list[int] = []
    run(start, tmp_path, prompts=PROMPTS[:11], save_steps=1, progress=lambda what, done, total: steps.append(done))
    assert steps == [1, 2, 3]
