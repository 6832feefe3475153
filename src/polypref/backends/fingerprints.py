"""What a model is: a hub commit, or the hash of its folder's files, adapters included."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from polypref.backends.base import ModelSpec
from polypref.errors import ModelError

HUB_SECONDS = 10
"""How long the hub may take to say which commit a name means; then its cache answers."""

_known: dict[str, str] = {}


def fingerprint(spec: ModelSpec) -> str:
    """The identity of a model's weights, tokenizer and configuration; how it is opened is not part of it.

    Raises:
        ModelError: the path is neither a folder nor a model that the hub or its cache knows.
    """
    spec = resolved(spec)
    parts = [_one(spec.path, spec.revision)]
    if spec.adapter is not None:
        parts.append(_one(spec.adapter, None))
    return "+".join(parts)


def resolved(spec: ModelSpec) -> ModelSpec:
    """The same model; where ``path`` is the folder of a LoRA adapter, as that adapter on the base that it names.

    Raises:
        ModelError: the adapter names no base.
    """
    folder = Path(spec.path).expanduser()
    config = folder / "adapter_config.json"
    if spec.adapter is not None or not config.is_file() or (folder / "config.json").exists():
        return spec
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{config} names no base_model_name_or_path; give the base as the model and {folder} as its adapter"
        )
    return spec.model_copy(update={"path": base, "adapter": spec.path, "revision": found.get("revision")})


def _one(path: str, revision: str | None) -> str:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if path.startswith(("/", "./", "../", "~")) or path.count("/") > 1:
        raise ModelError(f"{path} is no folder; give a checkpoint's folder or a hub name")
    return f"{path}@{hub_commit(path, revision)[0]}"


@functools.cache
def hub_commit(name: str, revision: str | None) -> tuple[str, bool]:
    """The commit that a hub name means in this process, and whether the hub said so (else its cache did).

    Raises:
        ModelError: neither knows the name.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit = HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS).sha
        if commit:
            return commit, True
        reason = "the hub tells no commit"
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        reason = "no such revision" if isinstance(error, RevisionNotFoundError) else "no such model"
    except Exception as error:  # offline, a proxy, a hub in trouble: whatever the HTTP client calls it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(":")[0]
        for file in ("config.json", "adapter_config.json"):
            found = try_to_load_from_cache(name, file, revision=revision)
            if isinstance(found, str):
                return Path(found).parent.name, False
    raise ModelError(
        f"{name} is no folder here and no model that the hub gives ({reason}); check the name, your connection, and "
        "HF_TOKEN if it is gated"
    )


def _folder(folder: Path) -> str:
    """A hash of the names and contents of the files that make the model; README, our notes and dot-files are not."""
    places = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    files = sorted(p for p in places if p.is_file() and not p.name.startswith(".") and p.suffix != ".md")
    files = [p for p in files if p.name != "polypref.json"]
    if not files:
        raise ModelError(f"{folder} is empty; give a checkpoint's folder or a hub name")
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.relative_to(folder).as_posix()}\0{_file(path)}\n".encode())
    return "sha256:" + whole.hexdigest()[:32]


def _file(path: Path) -> str:
    """The hash of a file, remembered by its path, size and time of change."""
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"
    if not _known:
        _known.update(_remembered())
    if key not in _known:
        with path.open("rb") as file:
            _known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        if stat.st_size > 2**20:  # hashing a smaller one is quicker than remembering it
            _remember(key, _known[key])
    return _known[key]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polypref" / "fingerprints.json"


def _remembered() -> dict[str, str]:
    try:
        found: Any = json.loads(_cache().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # a cache that cannot be read is only slower
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _remember(key: str, value: str) -> None:
    path = _cache()
    with contextlib.suppress(OSError):  # nor is one that cannot be written more than slower
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".fingerprints-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({**_remembered(), key: value}, file)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
