"""A run whose folder is a URL: the same as one here, killed anywhere and gone on with on another machine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

import runs
from polypref.recipe_file import read_recipe
from polypref.run import run
from polypref.store.jsonl import write_examples
from polypref.store.places import cache, named

CHILD = """
import os, signal, sys
from fsspec.implementations.local import LocalFileSystem
from polypref.recipe_file import read_recipe
from polypref.run import run

put, left = LocalFileSystem.put_file, [int(sys.argv[3])]

def counted(self, source, target, **options):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, source, target, **options)

LocalFileSystem.put_file = counted
run(read_recipe(sys.argv[1], ()), sys.argv[2])
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Begins the work of a machine that has nothing yet, by its name."""

    def of(name):
        monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / name))

    return of


def test_a_run_in_a_store_is_the_run_that_a_folder_has(tmp_path, machine):
    recipe = runs.small(tmp_path)
    runs.done(recipe, tmp_path / "plain")
    expected = runs.outcome(tmp_path / "plain")
    url = f"memory://{tmp_path.name}/run"
    fs = fsspec.filesystem("memory")
    machine("one")
    run(read_recipe(recipe, ()), url)
    machine("two")
    said = []
    run(read_recipe(recipe, ()), url, warn=said.append)
    folder = cache() / "runs" / named(url)
    assert runs.outcome(folder) == expected
    assert not said
    steps = json.loads((folder / "manifest.json").read_text())["steps"]
    assert all(step["done"] for step in steps.values())
    there = {path.removeprefix(f"/{tmp_path.name}/run/") for path in fs.find(f"/{tmp_path.name}/run")}
    assert there == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}
    fs.store.clear()


@pytest.mark.parametrize("puts", [pytest.param(7, marks=pytest.mark.faults), 27])
def test_a_killed_run_goes_on_on_another_machine(tmp_path, machine, puts):
    """27 is a file of the first round's checkpoint; the lock of a dead process of this host is taken over."""
    recipe, url = runs.small(tmp_path), f"file://{tmp_path}/store/run"
    machine("one")
    child = subprocess.run([sys.executable, "-c", CHILD, recipe, url, str(puts)], env=dict(os.environ), check=False)
    assert child.returncode == -signal.SIGKILL
    machine("two")
    said, begun = [], []
    run(read_recipe(recipe, ()), url, warn=said.append, progress=lambda name, done, total: begun.append(name))
    assert sum("took over the lock" in message for message in said) == 1
    runs.done(recipe, tmp_path / "plain")
    assert runs.outcome(tmp_path / "store" / "run") == runs.outcome(tmp_path / "plain")
    assert not (tmp_path / "store" / "run" / ".lock").exists()


def test_a_shard_that_was_damaged_is_made_again_and_that_is_said(tmp_path):
    recipe, out = runs.small(tmp_path), tmp_path / "run"
    runs.done(recipe, out)
    expected, stamps = runs.outcome(out), runs.stamps(out)
    damaged = out / "round-1" / "generate" / "es" / "part-00001.parquet"
    raw = bytearray(damaged.read_bytes())
    raw[len(raw) // 3] ^= 16
    damaged.write_bytes(bytes(raw))
    said = []
    run(read_recipe(recipe, ()), out, warn=said.append)
    assert [message for message in said if "damaged" in message] == [
        "round-1/generate/es/part-00001.parquet is damaged: it is not as it was written; it is made again"
    ]
    assert runs.outcome(out) == expected
    assert {name for name in runs.written(stamps, runs.stamps(out)) if name.endswith(".parquet")} == {
        "round-1/generate/es/part-00001.parquet"
    }


def test_prompts_are_read_from_a_store(tmp_path, machine):
    from polypref.records import parse_example

    machine("one")
    url = f"memory://{tmp_path.name}/prompts.jsonl"
    rows = [{"id": str(n), "prompts": {"en": f"What is {n}?", "es": f"¿Qué es {n}?"}} for n in range(5)]
    write_examples(url, [parse_example(row) for row in rows])
    recipe = runs.small(tmp_path, prompts={"path": url})
    runs.done(recipe, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["steps"]["prompts"]["examples"] == 5
    fsspec.filesystem("memory").store.clear()


def test_the_command_line_takes_urls(tmp_path, machine):
    """``Path`` takes a slash of a URL away; nothing may be written to a folder called ``file:``."""
    machine("one")
    recipe, url = runs.small(tmp_path), f"file://{tmp_path}/store/run"
    command = [sys.executable, "-m", "polypref", "run", str(recipe), "--out", url, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["config"]["name"] == "small"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "small.yaml", "store"]
    assert (Path(tmp_path) / "store" / "run" / "report.html").exists()
