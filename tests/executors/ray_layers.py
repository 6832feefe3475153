"""Layers for tests of the Ray executor: scorers that an actor opens by name, and a driver that can be killed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from polypref import registry
from polypref.backends.base import Judged, ModelSpec, silent
from polypref.errors import ModelError
from polypref.executors import Executor, chosen
from polypref.executors.units import Layer, Task
from polypref.records import Candidate, Example
from polypref.stages.generate import VERSION, GenerateOptions
from polypref.stages.score import ScorerOptions
from polypref.store.shards import Track, write_prompts

LANGUAGES = ("en", "es")


class Slow:
    """Scores by length, slowly, and leaves word of its process in the folder that is its model's path."""

    fingerprint = "slow"

    def __init__(self, model: ModelSpec) -> None:
        self.folder = Path(model.path)
        (self.folder / str(os.getpid())).touch()

    def score(self, answers: Sequence[Judged]) -> list[float]:
        time.sleep(0.2)
        return [float(len(answer.text)) for answer in answers]


class Deadly(Slow):
    """Dies of the example 5."""

    def score(self, answers: Sequence[Judged]) -> list[float]:
        if any(answer.id.startswith("5:") for answer in answers):
            os._exit(1)
        return super().score(answers)


class Spoiled(Slow):
    """Cannot be used."""

    def score(self, answers: Sequence[Judged]) -> list[float]:
        raise ModelError("the model is spoiled; take another")


def track(folder: Path, count: int = 12, size: int = 4) -> Track:
    """Prompts of two languages, each with an answer that came with it."""
    examples = [
        Example(
            str(number),
            {lang: [{"role": "user", "content": f"{lang} {number}"}] for lang in LANGUAGES},
            [Candidate(f"{number}/{lang}", lang, "a" * number) for lang in LANGUAGES],
        )
        for number in range(count)
    ]
    write_prompts(folder / "prompts", examples, size)
    return Track(folder, "prompts", LANGUAGES, "en")


def layer(name: str, task: Task, settings: object = 1, retry: bool = False) -> Layer:
    """A layer that any executor can work on."""
    context, _ = registry.context(task.languages, task.pivot, task.identifier)
    return Layer(name, settings, task.bound(context), retry=retry, task=task)


def drawing(path: str = "fake", n: int = 2) -> Layer:
    """Answers of a fake model."""
    options = GenerateOptions(sources=[{"role": "policy", "model": {"path": path, "backend": "fake"}, "n": n}])
    task = Task("polypref.stages.generate:generate", options, LANGUAGES, "en", "fake", one_language=True)
    return layer("generate", task, VERSION, retry=True)


def scoring(kind: str, pids: Path) -> Layer:
    """Scores by a class of this module."""
    spec = {"scorer": f"executors.ray_layers:{kind}", "model": {"path": str(pids), "backend": "fake"}, "name": "s"}
    return layer("score", Task("polypref.stages.score:by_scorer", ScorerOptions(**spec), LANGUAGES, "en", "fake"))


def work(executor: Executor, on: Track, *layers: Layer) -> list[int]:
    """How many units of each layer were worked on."""
    return [executor.map_units(on, one, silent) for one in layers]


def files(on: Track) -> dict[str, bytes]:
    """Every file of the layers."""
    names = [p for p in sorted(on.root.rglob("*.parquet")) if p.parent.name != "prompts"]
    return {str(p.relative_to(on.root)): p.read_bytes() for p in names}


if __name__ == "__main__":  # a driver that its parent kills: folder, where pids go, executor
    on = Track(Path(sys.argv[1]), "prompts", LANGUAGES, "en")
    with chosen(sys.argv[3], {"batch": "1"} if sys.argv[3] == "ray" else None) as executor:
        work(executor, on, scoring("Slow", Path(sys.argv[2])))
