"""Opening Hugging Face models: one copy of the weights for a base and all of its LoRA adapters."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from polypref.backends.base import ModelSpec
from polypref.backends.fingerprints import fingerprint, hub_commit, resolved
from polypref.backends.hf_files import chosen_device, chosen_dtype, first_line, load_tokenizer, load_weights
from polypref.backends.templates import PromptTemplate
from polypref.errors import ModelError

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = ["adapter_config.json", ADAPTER_WEIGHTS, "*token*", "vocab*", "merges.txt", "*.jinja"]


@dataclass
class Weights:
    """One base in memory, and the adapters that were put on it, of which at most one is on."""

    base: PreTrainedModel
    peft: Any = None
    wrapping: Any = None
    adapters: dict[str, str] = field(default_factory=dict)
    active: str | None = None

    def switch(self, adapter: str | None) -> Any:
        """The model with that adapter on and every other one off."""
        if self.peft is None:
            return self.base
        if adapter != self.active:
            if adapter is None:
                self.peft.base_model.disable_adapter_layers()
            else:
                self.peft.base_model.enable_adapter_layers()
                self.peft.set_adapter(self.adapters[adapter])
            self.peft.requires_grad_(False)
            self.active = adapter
        return self.base

    def takes(self, config: Any) -> bool:
        """Whether an adapter can be put beside those that are there."""
        return self.peft is None or config is None or self.wrapping == _wrapping(config)

    def add(self, adapter: str, folder: Path, config: Any) -> None:
        """Load an adapter beside those that are there; they change the base's modules in place.

        Raises:
            ModelError: its weights are not those that the base has room for.
        """
        from peft import PeftModel

        name = f"adapter{len(self.adapters)}"
        self.active = ""  # whatever peft switches on, now or in half an attempt
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of peft: a base that has adapters already, which is the point here
            if self.peft is None:
                config.inference_mode = True
                self.wrapping = _wrapping(config)
                self.peft = PeftModel(self.base, config, adapter_name=name)
            found = self.peft.load_adapter(str(folder), adapter_name=name)
        if homeless := [*found.missing_keys, *found.unexpected_keys]:
            raise ModelError(
                f"{folder} does not fit its base: {len(homeless)} weights are in one and not in the other (such as "
                f"{min(homeless)}); give the base that it was trained on"
            )
        self.peft.eval()
        self.adapters[adapter] = name


@dataclass(frozen=True)
class Opening:
    """What is known of a model before any of its weights is read. ``adapter`` is its key among a base's adapters."""

    spec: ModelSpec
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    tokenizer: PreTrainedTokenizerBase
    adapter: str | None
    folder: Path | None
    config: Any

    @classmethod
    def of(cls, spec: ModelSpec) -> Opening:
        """
        Raises:
            ModelError: nothing is there under that name, or the adapter or the tokenizer cannot be read.
        """
        spec = resolved(spec)
        whole = fingerprint(spec)
        device = chosen_device(spec.device)
        folder = _adapter_folder(spec.adapter) if spec.adapter is not None else None
        return cls(
            spec,
            whole,
            device,
            chosen_dtype(spec.dtype, device),
            _tokenizer(spec, folder),
            whole if folder is not None else None,
            folder,
            _adapter_config(folder) if folder is not None else None,
        )

    def weights(self, kind: str, load: Callable[[Opening], PreTrainedModel]) -> Weights:
        """The base in memory with the adapter on its list: the one that is open already as this ``kind``, else what
        ``load`` gives.

        Raises:
            ModelError: the adapter does not fit, or ``load`` says so.
        """
        bare = self.spec.model_copy(update={"adapter": None})
        key = (fingerprint(bare), str(self.device), f"{self.dtype} {self.spec.attention} {kind}")
        opened = _open.setdefault(key, [])
        weights = next((one for one in opened if self.adapter in one.adapters or one.takes(self.config)), None)
        if weights is None:
            weights = Weights(load(self))
            opened.append(weights)
        if self.adapter is not None and self.folder is not None and self.adapter not in weights.adapters:
            try:
                weights.add(self.adapter, self.folder, self.config)
            except SafetensorError as error:
                opened.remove(weights)
                raise ModelError(
                    f"{self.folder / ADAPTER_WEIGHTS} cannot be read ({first_line(error)}); save the adapter as "
                    "safetensors"
                ) from None
            except (ModelError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
                opened.remove(weights)  # half an adapter may be in its layers
                if isinstance(error, ModelError):
                    raise
                raise ModelError(
                    f"{self.spec.adapter} cannot be put on {self.spec.path} as an adapter ({first_line(error)}); "
                    "give an adapter that was trained on it"
                ) from None
        return weights


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: evaluation mode, no gradients, its template checked."""

    weights: Weights
    adapter: str | None
    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    window: int | None
    short_window: int | None
    device: torch.device
    dtype: torch.dtype
    fingerprint: str

    @property
    def model(self) -> Any:
        """The weights with this model's adapter switched on (or off): ask again after another model has run."""
        return self.weights.switch(self.adapter)


_open: dict[tuple[str, str, str], list[Weights]] = {}
"""Seldom more than one base of a kind: only where adapters wrap one module in different ways."""


def close_models() -> None:
    """Forget every open model and give its memory back."""
    _open.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def open_model(spec: ModelSpec) -> LoadedModel:
    """Open a causal language model, or find its weights open already.

    Raises:
        ModelError: nothing is there under that name, its files are no safetensors checkpoint of a causal language
            model, the adapter does not fit, or its chat template cannot be scored with.
    """
    found = Opening.of(spec)
    template = PromptTemplate(found.tokenizer, found.spec.chat_template_kwargs)
    template.check()
    weights = found.weights("causal", load_causal)
    return LoadedModel(
        weights,
        found.adapter,
        found.tokenizer,
        template,
        window(weights.base),
        short_window(weights.base),
        found.device,
        found.dtype,
        found.fingerprint,
    )


def load_causal(found: Opening) -> PreTrainedModel:
    """The language model of an opening, on its device."""
    return load_weights(
        AutoModelForCausalLM,
        found.spec,
        found.device,
        found.dtype,
        kind="a causal language model",
        give="give a folder or hub name of a safetensors checkpoint",
        lacks="give one that has them: a reward model or an encoder cannot be used here",
    )


def _tokenizer(spec: ModelSpec, adapter: Path | None) -> PreTrainedTokenizerBase:
    """The base's tokenizer, or the adapter's own where it brings one."""
    own = adapter is not None and (adapter / "tokenizer_config.json").exists()
    path, revision = (str(adapter), None) if own else (spec.path, spec.revision)
    return load_tokenizer(path, revision, trust_remote_code=spec.trust_remote_code)


def _adapter_folder(adapter: str) -> Path:
    folder = Path(adapter).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    commit, online = hub_commit(adapter, None)
    try:
        return Path(
            snapshot_download(adapter, revision=commit, allow_patterns=ADAPTER_FILES, local_files_only=not online)
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the adapter {adapter} cannot be fetched from the hub ({first_line(error)}); check your connection"
        ) from None


def _adapter_config(folder: Path) -> Any:
    """Refuses what is no safetensors adapter, and adapters that are no change of the base's layers."""
    from peft import PeftConfig

    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{folder} holds no {ADAPTER_WEIGHTS}; save the adapter as safetensors")
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} has no adapter_config.json that can be read ({first_line(error)})") from None
    if config.is_prompt_learning:
        raise ModelError(f"{folder} is an adapter of virtual prompt tokens; give one on the layers, such as LoRA")
    return config


def _wrapping(config: Any) -> Any:
    """How an adapter wraps modules beside its own layers. peft cannot wrap one module in two ways, and some pairs fail
    only when they run, so adapters share a base where they agree in this."""
    tokens = getattr(config, "trainable_token_indices", None)
    whole = sorted(getattr(config, "modules_to_save", None) or [])
    tied = bool(getattr(config, "ensure_weight_tying", False))
    return str(config.peft_type), whole, sorted(tokens) if isinstance(tokens, dict) else bool(tokens), tied


def window(model: PreTrainedModel) -> int | None:
    """The tokens that its positions reach, None where it names no number."""
    config = model.config.get_text_config()
    found = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len", "seq_length"))
    return next((length for length in found if isinstance(length, int)), None)


def short_window(model: PreTrainedModel) -> int | None:
    """The longest batch that LongRoPE (Phi 3, MiniCPM) turns by its short factors; a longer one turns by others."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    for settings in (rope, *rope.values()):  # one for all layers, or by their type
        if isinstance(settings, dict) and settings.get("rope_type") == "longrope":
            return int(settings["original_max_position_embeddings"])
    return None
