"""A command in several processes: the first runs it, the others follow; results, errors and deaths."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import launched
from polypref import registry
from polypref.backends import processes
from polypref.errors import InternalError, MissingExtraError, ModelError

TESTS = str(Path(__file__).parent)


# --- one process --------------------------------------------------------------------------------------------------


def test_slices_are_in_order_and_leave_nothing_out() -> None:
    for items in range(9):
        cut = [processes._slice(items, number, 4) for number in range(4)]
        assert [one for part in cut for one in range(items)[part]] == list(range(items))


def test_without_a_launch_nothing_stands_between() -> None:
    opener = registry.Opener(("en",), "en")
    with processes.leading():
        assert type(opener("trainer", "fake")).__name__ == "FakeTrainer"


def test_what_is_sent_opens_with_the_other_process_own_opener() -> None:
    import io

    here, there = registry.Opener(("en",), "en"), registry.Opener(("en", "es"), "en", "fake")
    file = io.BytesIO()
    processes._Pickler(file, here).dump(processes.Opened(here, "language_identifier", None, "identify"))
    found = processes._Unpickler(io.BytesIO(file.getvalue()), there).load()
    assert found.open is there
    assert [one.tag for one in found(["hola"])] == [
        one.tag for one in there("language_identifier", None).identify(["hola"])
    ]


def test_an_error_keeps_its_kind_on_the_way() -> None:
    done, told = processes._tried(lambda: (_ for _ in ()).throw(ModelError("the model is damaged")))
    assert not done
    assert (type(processes._error(told, 1)), str(processes._error(told, 1))) == (ModelError, "the model is damaged")
    _, told = processes._tried(lambda: (_ for _ in ()).throw(MissingExtraError("ray", "ray")))
    assert isinstance(processes._error(pickle.loads(pickle.dumps(told)), 1), InternalError)
    _, told = processes._tried(lambda: 1 / 0)
    assert "process 3 of this launch" in str(processes._error(told, 3))
    assert "ZeroDivisionError" in str(processes._error(told, 3))


# --- two ----------------------------------------------------------------------------------------------------------

CALLS = """
    import os, signal, sys, json, pathlib
    from polypref import registry
    from polypref.backends import processes
    from polypref.backends.base import Answer, ModelSpec
    from polypref.errors import PolyprefError

    class Model:
        fingerprint = "m"
        def __init__(self, spec): self.path = spec.path
        def logprobs(self, answers):
            if self.path == "deadly" and processes.rank(): os.kill(os.getpid(), signal.SIGKILL)
            if self.path == "wrong" and processes.rank(): registry.Opener((), "en")("trainer", "nothing")
            return [(answer, processes.rank()) for answer in answers]

    class Trainer:
        together, fingerprint = True, "t"
        def train(self, how, folder, progress):
            import torch.distributed as dist
            progress("train", 1, 1)
            if how == "fails" and processes.rank(): raise ValueError("of its own")
            dist.barrier()
            return how

    registry.BACKENDS["logprobs", "hf"] = "__main__:Model"
    registry.BACKENDS["trainer", "dpo"] = "__main__:Trainer"
    if processes.rank():
        processes.follow(registry.Opener)
        sys.exit()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, when the other has died
    told = []
    def tell(work):
        try: told.append(work())
        except PolyprefError as error: told.append(f"{type(error).__name__}: {error}")
    with processes.leading():
        opener = registry.Opener((), "en")
        spec = lambda path: ModelSpec(path=path)
        tell(lambda: opener("logprobs", spec("m")).logprobs([1, 2, 3, 4, 5]))
        tell(lambda: opener("logprobs", spec("m")).fingerprint)
        tell(lambda: opener("logprobs", spec("wrong")).logprobs([1, 2]))
        opener.close()
        tell(lambda: opener("trainer", "dpo").train("well", "folder", lambda *news: told.append(news)))
        if sys.argv[2] == "fails":
            tell(lambda: opener("trainer", "dpo").train("fails", "folder", lambda *news: None))
            tell(lambda: opener("logprobs", spec("m")).logprobs([1, 2]))
        else:
            tell(lambda: opener("logprobs", spec("deadly")).logprobs([1, 2]))
        pathlib.Path(sys.argv[1]).write_text(json.dumps(told))
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ("fails", ["InternalError: process 1 of this launch failed: Traceback", "ModelError: the processes of this"]),
        ("dies", ["ModelError: a process of this launch has ended without a word"]),
    ],
)
def test_calls_are_shared_and_errors_told_once(tmp_path: Path, how: str, ends: list[str]) -> None:
    import textwrap

    script = tmp_path / "calls.py"
    script.write_text(textwrap.dedent(CALLS))
    done = launched.launch(2, str(script), str(tmp_path / "told.json"), how)
    assert (tmp_path / "told.json").exists(), done.stderr[-3000:]
    scored, fingerprint, wrong, news, trained, *rest = json.loads((tmp_path / "told.json").read_text())
    assert scored == [[1, 0], [2, 0], [3, 1], [4, 1], [5, 1]]
    assert fingerprint == "m"
    assert wrong.startswith("RecipeError: 'nothing' is no trainer")
    assert (news, trained) == (["train", 1, 1], "well")
    assert len(rest) == len(ends)
    for said, begin in zip(rest, ends, strict=True):
        assert said.startswith(begin)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_run_of_two_processes_is_the_run_of_one(tmp_path: Path) -> None:
    recipe = launched.icr(tmp_path)
    for count in (1, 2):
        done = launched.polypref(count, "run", recipe, "--out", tmp_path / f"out-{count}")
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = tmp_path / "out-1", tmp_path / "out-2"
    names = sorted(path.relative_to(one) for path in one.rglob("*.parquet"))
    assert names == sorted(path.relative_to(two) for path in two.rglob("*.parquet"))
    for name in names:
        _alike(pyarrow.parquet.read_table(two / name).to_pylist(), pyarrow.parquet.read_table(one / name).to_pylist())
    note = "round-1/train/checkpoint/polypref.json"
    curves = [json.loads((out / note).read_text())["summary"]["curve"] for out in (two, one)]
    assert len(curves[0]) == 4  # of 14 rows in steps of 4
    _alike(*curves)
    results = [json.loads((out / "results.json").read_text())["results"] for out in (two, one)]
    _alike(*results)


def _alike(two: Any, one: Any) -> None:
    """Texts and pairs equal, numbers to 1e-4."""
    if isinstance(one, dict):
        assert two.keys() == one.keys()
        for name in one:
            _alike(two[name], one[name])
    elif isinstance(one, list):
        assert len(two) == len(one)
        for a, b in zip(two, one, strict=True):
            _alike(a, b)
    else:
        assert two == (pytest.approx(one, rel=1e-4, abs=1e-4) if isinstance(one, float) else one)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("mistake", "said"), [("train.batch_size=3", "cannot share equally")])
def test_a_mistake_is_told_once_by_the_first_process(tmp_path: Path, mistake: str, said: str) -> None:
    recipe = launched.icr(tmp_path)
    done = launched.polypref(2, "run", recipe, "--set", mistake, "--out", tmp_path / "out")
    assert done.returncode != 0
    assert done.stderr.count(said) == 1
    assert "exitcode  : 2" in done.stderr
