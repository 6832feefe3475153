"""The small runs that faults strike."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

import runs
from polypref import reporting

SMALLEST: dict[str, Any] = {
    "prompts": {"path": "sandbox:train", "limit": 3},
    "generate": {"n": 3, "max_tokens": 16},
    "shard_size": 2,
    "rounds": 1,
}
TINY_TRAINING = {"method": "dpo", "max_steps": 3, "save_steps": 1, "batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch):
    monkeypatch.setattr(reporting, "render", lambda data: data.name)


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    """A recipe and its run, undisturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "render", lambda data: data.name)
        folder = tmp_path_factory.mktemp("base")
        recipe = runs.small(folder)
        runs.done(recipe, folder / "run")
    return recipe, folder / "run"


@pytest.fixture
def copy(base, tmp_path):
    """The recipe, and a copy of its run to be damaged."""
    shutil.copytree(base[1], tmp_path / "run")
    return base[0], tmp_path / "run"


@pytest.fixture
def smallest(tmp_path):
    """The recipe of the smallest run that has every kind of step."""
    return runs.small(tmp_path, name="smallest.yaml", **SMALLEST)


@pytest.fixture
def tiny(tmp_path):
    """The recipe of a run with real models and a real training, each of a moment."""
    import launched

    return launched.icr(tmp_path, train=TINY_TRAINING, rounds=1)
