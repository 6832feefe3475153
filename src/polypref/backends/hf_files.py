"""Opening a Hugging Face checkpoint of any kind: where its files lie, its device, and what is said of wrong ones."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from polypref.backends.base import ModelSpec
from polypref.backends.fingerprints import hub_commit
from polypref.errors import ModelError


def load_weights(
    auto: Any,
    spec: ModelSpec,
    device: torch.device,
    dtype: torch.dtype,
    *,
    kind: str,
    give: str,
    lacks: str,
    later: Collection[str] = (),
    **settings: Any,
) -> PreTrainedModel:
    """The model of a safetensors checkpoint, in evaluation mode and without gradients.

    Args:
        auto: the class of transformers that opens its kind.
        kind: what it must be, ``give`` what to give instead, ``lacks`` what to do about missing weights: for messages.
        later: modules of it whose weights may be missing, since an adapter brings them.
        settings: of the model's configuration, in the place of the checkpoint's.

    Raises:
        ModelError: the files are no such checkpoint, lack weights, or do not fit into memory.
    """
    extra = {} if spec.attention is None else {"attn_implementation": spec.attention}
    try:
        with quiet():
            model, found = auto.from_pretrained(
                **source(spec.path, spec.revision),
                dtype=dtype,
                trust_remote_code=spec.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **extra,
                **settings,
            )
        model = model.to(device).eval().requires_grad_(False)
    except Exception as error:  # the files are the user's, and each library has its own complaints about them
        _refuse_code(spec.path, error)
        if out_of_memory(error):
            raise ModelError(f"{spec.path} does not fit into the memory of {device}; use a smaller dtype") from None
        raise ModelError(f"{spec.path} cannot be opened as {kind} ({first_line(error)}); {give}") from None
    if missing := [name for name in found["missing_keys"] if name.partition(".")[0] not in later]:
        # transformers would draw them at random, and every score with them.
        raise ModelError(f"{spec.path} lacks {len(missing)} weights of {kind} (such as {min(missing)}); {lacks}")
    opened: PreTrainedModel = model
    return opened


def load_tokenizer(path: str, revision: str | None, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """
    Raises:
        ModelError: there is none that can be opened.
    """
    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                **source(path, revision), trust_remote_code=trust_remote_code
            )
            return tokenizer
    except Exception as error:  # as above
        _refuse_code(path, error)
        raise ModelError(f"{path} has no tokenizer that can be opened ({first_line(error)}); add its files") from None


def source(path: str, revision: str | None) -> dict[str, Any]:
    """Where transformers finds it: a folder, or the very commit that the fingerprint names."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
    commit, online = hub_commit(path, revision)
    return {"pretrained_model_name_or_path": path, "revision": commit, "local_files_only": not online}


def chosen_device(name: str | None) -> torch.device:
    """The device of that name, else the best there is.

    Raises:
        ModelError: it cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"device {name!r} cannot be used ({first_line(error)}); leave it out, or give cpu") from None
    return device


def chosen_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type of that name; ``auto`` is bfloat16 where CUDA has it, else float32."""
    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is out, on an accelerator or on the host.

    The host's allocator raises a plain RuntimeError: "DefaultCPUAllocator: can't allocate memory" on Linux,
    "not enough memory" on Windows.
    """
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in told for words in ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED"))
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers' bars and load reports off: what matters of them is told as an error."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an exception says, in at most 160 characters."""
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:160]


def _refuse_code(path: str, error: Exception) -> None:
    if "trust_remote_code" in str(error):
        raise ModelError(
            f"{path} brings its own Python code, which is not run; if you trust it, add --trust-remote-code "
            "(in a recipe: trust_remote_code: true)"
        ) from None
