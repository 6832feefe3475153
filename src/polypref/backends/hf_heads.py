"""The vocabulary product of a causal language model with its own scaling and capping, and proof that it is the model's.

    logits = cap · tanh( scale · (W h + b) / cap )

with Cohere's logit_scale, Granite's 1 / logits_scaling and Gemma's final_logit_softcapping; the bias and LoRA on the
head are the module's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from polypref.maths.logprobs import chunked_logprobs, tiled_logprobs

LARGE = 200.0
"""Logits at which a soft cap (30 in Gemma 2) cannot be overlooked."""


def body(model: Any) -> Any:
    """The model below its head."""
    return getattr(model, model.base_model_prefix)


def vocabulary(model: Any) -> int:
    """V, the number of logits."""
    return int(model.config.get_text_config().vocab_size)


class Head:
    """Hidden states [n, D] to logits [n, V], or to the log-probabilities of tokens without all the logits at once.

    A plain matrix is multiplied by tiles of the vocabulary. Any other module (one with LoRA on it, say) is called on
    chunks of rows.
    """

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config()
        self.module: Any = model.get_output_embeddings()
        self.vocabulary = vocabulary(model)
        self._multiply = getattr(model, "logit_scale", None) or getattr(config, "logit_scale", None)
        self._divide = getattr(config, "logits_scaling", None)
        self._cap = getattr(config, "final_logit_softcapping", None)

    def __call__(self, hidden: Tensor) -> Tensor:
        return self._finished(self.module(hidden))

    def logprobs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The log-probability of each target [n] at its hidden state [n, D]: [n] float32."""
        if _is_matrix(self.module):
            return tiled_logprobs(hidden, targets, self.module.weight, self.module.bias, self._finished)
        return chunked_logprobs(hidden, targets, self, self.vocabulary)

    def _finished(self, logits: Tensor) -> Tensor:
        if self._multiply is not None:
            logits = logits * self._multiply
        if self._divide is not None:
            logits = logits / self._divide
        if self._cap is not None:
            logits = torch.tanh(logits / self._cap) * self._cap
        return logits


def _is_matrix(module: Any) -> bool:
    """Whether calling the module is nothing but its product: no subclass, no hook, no quantised weight."""
    if type(module) is not torch.nn.Linear or type(module.weight) is not torch.nn.Parameter:
        return False
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return not hooked and module.weight.device.type != "meta"


def head(model: Any) -> Head:
    """The model's head as it is now: ask again after an adapter was put on it."""
    return Head(model)


@torch.inference_mode()
def head_is_known(model: Any) -> bool:
    """Whether ``head(body(tokens))`` is the model's own forward pass, on a few tokens.

    It is tried with the head's input as it is, and blown up until logits are large: a cap that ``head`` knows nothing
    of hardly shows in small ones.
    """
    module = model.get_output_embeddings()
    ids = (torch.arange(8, device=model.device) * 7 % vocabulary(model)).unsqueeze(0)
    try:
        largest = float(head(model)(body(model)(input_ids=ids, use_cache=False).last_hidden_state).abs().max())
        for factor in (1.0, max(1.0, LARGE / max(largest, 1e-3))):
            hook = module.register_forward_pre_hook(lambda _, args, factor=factor: (args[0] * factor, *args[1:]))
            try:
                ours = head(model)(body(model)(input_ids=ids, use_cache=False).last_hidden_state)
                theirs = model(input_ids=ids, use_cache=False).logits
            finally:
                hook.remove()
            if ours.shape != theirs.shape or not close(ours, theirs):
                return False
    except (AttributeError, TypeError):
        return False
    return True


@torch.inference_mode()
def is_causal(model: Any) -> bool:
    """Whether a token leaves all logits before it as they are; then padding on the right does, too."""
    ids = torch.arange(8, device=model.device).unsqueeze(0) % vocabulary(model)
    other = torch.cat([ids[:, :-1], (ids[:, -1:] + 1) % vocabulary(model)], dim=-1)
    one, two = (model(input_ids=tokens, use_cache=False).logits[:, :-1] for tokens in (ids, other))
    return close(one, two)


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two results of a model are equal but for rounding."""
    if not theirs.isfinite().all():
        return True  # a damaged model: its scores are refused one by one, with the names of their answers
    loose = 1e-4 if ours.dtype == theirs.dtype == torch.float32 else 0.05
    ours, theirs = ours.float(), theirs.float()
    return bool((ours - theirs).abs().max() < loose * theirs.abs().max().clamp(min=1.0))
