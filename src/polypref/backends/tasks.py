"""What a harness of standard tasks is asked: its options, its protocol, and what it answers. Light: no harness is
imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from pydantic import Field, model_validator

from polypref.backends.base import ModelSpec, Options, Progress, silent


class TaskSettings(Options):
    """How a task is put to a model. What is left out is as the task's own file says."""

    BESIDE: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    limit: int | None = Field(None, gt=0, description="items of a task, its first; all when left out")
    num_fewshot: int | None = Field(
        None, ge=0, description="worked examples before the question; a task that fixes 0 keeps it"
    )
    apply_chat_template: bool = Field(False, description="put the question as a user's turn of the model's template")
    system: str | None = Field(None, description="the system's turn, with apply_chat_template")
    max_tokens: int | None = Field(None, gt=0, description="tokens of one answer, where a task has the model write")
    batch_size: int = Field(8, gt=0, description="items of one forward pass")
    seed: int = Field(0, ge=0, description="of the worked examples, where a task draws them")

    @model_validator(mode="after")
    def _system_has_its_turn(self) -> Self:
        if self.system is not None and not self.apply_chat_template:
            raise ValueError("system is a turn of the chat template; add apply_chat_template")
        return self


@dataclass(frozen=True, slots=True)
class Ran:
    """What one task of the harness gave.

    ``items`` is metric → item → value, an item named alike in every language of a parallel task. A metric's filter
    stands behind its name after a comma (``exact_match,strict-match``), as the harness writes it. A metric that is no
    mean over items is in ``left_out`` alone, with what the harness says of it. ``samples`` is what the harness kept of
    every item, JSON objects; ``about`` says how it was put: worked examples, the task's version and definition.
    ``remarks`` are sentences for the user.
    """

    items: Mapping[str, Mapping[str, float]]
    samples: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]
    left_out: Mapping[str, float | None] = field(default_factory=dict)
    remarks: Sequence[str] = ()


@runtime_checkable
class Harness(Protocol):
    """Puts standard tasks to a model."""

    version: str

    def names(self) -> frozenset[str]:
        """Every task and group of tasks that there is."""
        ...

    def identity(self, task: str) -> Any:
        """What a task is beside the harness's version: its definition and its local data, as a JSON value."""
        ...

    def run(self, model: ModelSpec, task: str, settings: TaskSettings, progress: Progress = silent) -> Ran:
        """Put a task, or a group of tasks, to a model; of a group, the items of all its tasks together.

        Raises:
            InputError: the task's data cannot be read.
            ModelError: the model cannot be opened.
        """
        ...
