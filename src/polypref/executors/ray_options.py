"""What the Ray executor may be told."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from polypref.backends.base import Options


class RayOptions(Options):
    """Which cluster, how many actors, and what each of them takes. None of it changes a result or a key."""

    address: str | None = Field(
        None, description="of a cluster: auto on one of its nodes; RAY_ADDRESS or this machine alone when left out"
    )
    actors: tuple[int, int] | None = Field(
        None, description="how many hold the models: N, or MIN,MAX; up to one a GPU, or one a node without GPUs"
    )
    cpus: float | None = Field(
        None, gt=0, description="of one actor, a fraction or a whole number; they take half of a node when left out"
    )
    gpus: float | None = Field(
        None, ge=0, description="of one actor, a fraction or a whole number; 1 where there are any"
    )
    batch: int = Field(64, gt=0, description="examples that an actor works on at once, and that its death costs")
    retries: int = Field(3, ge=0, description="how often a batch is given out again after its actor died")
    object_store_mb: int | None = Field(
        None,
        ge=80,
        description="MB of shared memory for objects, where Ray is started here; its own choice when left out",
    )
    verbose: bool = Field(False, description="show what Ray says")

    @field_validator("actors", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        """``4`` is (4, 4), ``1,4`` is (1, 4)."""
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if isinstance(value, int):
            value = [value]
        return (value[0], value[-1]) if isinstance(value, list | tuple) and len(value) in (1, 2) else value

    @field_validator("actors")
    @classmethod
    def _ascending(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 1 <= value[0] <= value[1]:
            raise ValueError("must be a number from 1, or the least and the most of them, such as 1,8")
        return value

    @field_validator("cpus", "gpus")
    @classmethod
    def _whole_beyond_one(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("must be a whole number beyond 1")
        return value

    @model_validator(mode="after")
    def _started_here(self) -> RayOptions:
        if self.address is not None and self.object_store_mb is not None:
            raise ValueError("object_store_mb is for a Ray that is started here; leave it out beside an address")
        return self
