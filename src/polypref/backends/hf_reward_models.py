"""Opening sequence classifiers as reward models: which of their forward passes is exact, and where they are read.

A decoder is read at its last token that is not the pad token, as transformers does; an encoder by its own head. A LoRA
reward adapter on a language model brings the head with it (``modules_to_save``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from polypref.backends.bag_of_words import is_bag_of_words
from polypref.backends.base import ModelSpec
from polypref.backends.hf_files import first_line, load_weights, quiet, source
from polypref.backends.hf_heads import body, close, vocabulary
from polypref.backends.hf_models import Opening, Weights, short_window, window
from polypref.backends.reward_training import ADAPTER_NOTE
from polypref.errors import ModelError

KIND = "a sequence classifier"
INSTEAD = (
    "give a reward model (a sequence classifier, such as polypref train reward writes), or score with judge or implicit"
)


@dataclass(frozen=True)
class RewardModel:
    """A classifier ready to run: evaluation mode, no gradients.

    ``pad`` is the token that the last one may not be, None where the very last is read; ``own`` is what training wrote
    into config.json under "polypref", or beside the adapter, and empty for a model that is not ours.
    """

    weights: Weights
    adapter: str | None
    tokenizer: PreTrainedTokenizerBase
    spec: ModelSpec
    window: int | None
    short_window: int | None
    device: torch.device
    fingerprint: str
    pad: int | None
    own: dict[str, Any]

    @property
    def model(self) -> Any:
        """The weights with this model's adapter switched on (or off): ask again after another model has run."""
        return self.weights.switch(self.adapter)

    def last(self, ids: Sequence[int]) -> int:
        """The position that a decoder is read at."""
        return next((at for at in range(len(ids) - 1, -1, -1) if ids[at] != self.pad), 0)


def open_reward_model(spec: ModelSpec) -> RewardModel:
    """Open a reward model, or find its weights open already; ``close_models`` lets go of it.

    Raises:
        ModelError: nothing is there under that name, its files are no safetensors checkpoint of a sequence classifier
            (a bag of words, say), or the adapter does not fit or brings no head where the base has none.
    """
    if is_bag_of_words(Path(spec.path).expanduser()):
        raise ModelError(f"{spec.path} is a bag_of_words model, not a transformer; choose the scorer bag_of_words")
    found = Opening.of(spec)
    config = _config(found.spec)
    saved = tuple(getattr(found.config, "modules_to_save", None) or ())
    settings: dict[str, Any] = {}
    headless = _language_model(config)
    if headless and not {"score", "classifier"} & set(saved):
        what = f"its adapter {spec.adapter} keeps no head" if spec.adapter else "it has no head that gives a reward"
        raise ModelError(f"{found.spec.path} is a language model ({headless}) and {what}; {INSTEAD}")
    if headless:
        settings["num_labels"] = 1

    def load(found: Opening) -> PreTrainedModel:
        return load_weights(
            AutoModelForSequenceClassification,
            found.spec,
            found.device,
            found.dtype,
            kind=KIND,
            give=INSTEAD,
            lacks=INSTEAD,
            later=saved if headless else (),
            **settings,
        )

    weights = found.weights(f"classifier {settings}", load)
    own = (_read(found.folder / ADAPTER_NOTE) if found.folder is not None else {}) or getattr(config, "polypref", None)
    own = own or {}
    return RewardModel(
        weights,
        found.adapter,
        found.tokenizer,
        found.spec,
        _window(weights.base),
        short_window(weights.base),
        found.device,
        found.fingerprint,
        # Ours end in an end-of-turn, which is read even where the base of an adapter pads with it.
        None if own.get("input") == "turns" else _pad(weights.base),
        own,
    )


def _config(spec: ModelSpec) -> Any:
    try:
        with quiet():
            return AutoConfig.from_pretrained(
                **source(spec.path, spec.revision), trust_remote_code=spec.trust_remote_code
            )
    except Exception as error:  # the files are the user's; a refusal of its code is told by the weights' loading
        if "trust_remote_code" in str(error):
            return None
        raise ModelError(f"{spec.path} cannot be opened as {KIND} ({first_line(error)}); {INSTEAD}") from None


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({first_line(error)}); save the adapter again") from None
    return found if isinstance(found, dict) else {}


def _language_model(config: Any) -> str | None:
    """The architecture of a checkpoint that was saved as a language model, or as one without any head."""
    names = getattr(config, "architectures", None) or []
    kinds = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM")
    return next((n for n in names if n.endswith(kinds) or (n.endswith("Model") and "For" not in n)), None)


def _pad(model: PreTrainedModel) -> int | None:
    pad = model.config.get_text_config().pad_token_id
    return int(pad) if pad is not None else None


def _window(model: PreTrainedModel) -> int | None:
    """The tokens that its positions reach; RoBERTa counts them from behind its pad token's."""
    whole = window(model)
    positions = getattr(getattr(body(model), "embeddings", None), "position_embeddings", None)
    offset = getattr(positions, "padding_idx", None)
    return whole if whole is None or offset is None else whole - int(offset) - 1


# --- which forward pass is exact -------------------------------------------------------------------------------------


@torch.inference_mode()
def is_causal(model: Any) -> bool:
    """Whether a token leaves all hidden states before it as they are; then padding on the right does, too."""
    one = _some_tokens(model, 8)
    two = torch.cat([one[:, :-1], (one[:, -1:] + 1) % vocabulary(model)], dim=-1)
    try:
        states = [body(model)(input_ids=ids).last_hidden_state[:, :-1] for ids in (one, two)]
    except (AttributeError, TypeError):
        return False
    return close(*states)


@torch.inference_mode()
def is_read_at_the_end(model: Any, pad: int | None) -> bool:
    """Whether ``score(body(tokens))`` at the last token that is not ``pad`` is the model's own forward pass."""
    ids = _some_tokens(model, 8)
    tries = [ids] if pad is None else [ids, torch.cat([ids, torch.full_like(ids[:, :1], pad)], dim=-1)]
    try:
        for tokens in tries:
            at = int((tokens[0] != pad).nonzero().max()) if pad is not None else -1
            ours = model.score(body(model)(input_ids=tokens, use_cache=False).last_hidden_state[:, at])
            theirs = model(input_ids=tokens, use_cache=False).logits
            if ours.shape != theirs.shape or not close(ours, theirs):
                return False
    except (AttributeError, TypeError):
        return False
    return True


@torch.inference_mode()
def bears_padding(model: Any, pad: int | None) -> bool:
    """Whether padded tokens under an attention mask leave its own forward pass as it is."""
    ids = _some_tokens(model, 8)
    padded = torch.cat([ids[:, :5], torch.full_like(ids[:, 5:], pad or 0)], dim=-1)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3], device=model.device)
    alone = torch.cat([model(input_ids=ids).logits, model(input_ids=ids[:, :5]).logits])
    try:
        together = model(input_ids=torch.cat([ids, padded]), attention_mask=mask).logits
    except ValueError:  # transformers' decoders refuse a batch where no pad token is known
        return False
    return close(together, alone)


def _some_tokens(model: Any, length: int) -> Tensor:
    """Token ids [1, length], without the lowest, which are special in most vocabularies."""
    size = vocabulary(model)
    return ((torch.arange(length, device=model.device) * 7 + size // 2) % size).unsqueeze(0)
