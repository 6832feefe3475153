"""Many files in one commit of a hub's repository, which fsspec cannot say: its every write is a commit of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def commit(fs: Any, root: str, put: Mapping[str, Path], removed: Iterable[str]) -> None:
    """Put files and remove others under ``root``, all or nothing.

    Args:
        fs: huggingface_hub's ``HfFileSystem``.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    def inside(name: str) -> str:
        return f"{place.path_in_repo}/{name}".lstrip("/")

    place = fs.resolve_path(root)
    there = {name for name in removed if fs.exists(f"{root}/{name}")}
    operations: list[Any] = [CommitOperationAdd(inside(name), str(path)) for name, path in put.items()]
    operations += [CommitOperationDelete(inside(name)) for name in sorted(there)]
    HfApi(endpoint=fs.endpoint, token=fs.token).create_commit(
        repo_id=place.repo_id,
        repo_type=place.repo_type,
        revision=place.revision,
        operations=operations,
        commit_message="polypref: a step of a run",
    )
    fs.invalidate_cache()
