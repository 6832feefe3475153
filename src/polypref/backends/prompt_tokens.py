"""How many tokens a conversation is as a prompt, without opening the model's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polypref.backends.base import ModelSpec, Request
from polypref.records import Message


def counter(spec: ModelSpec) -> Callable[[Sequence[Message]], int] | None:
    """Counts a conversation's tokens in the model's chat template, generation prompt included; None for a model whose
    tokenizer is not here (a server's, a fake). The function raises a ModelError where the template refuses it.

    Raises:
        ModelError: the model is not there, or has no chat template.
    """
    if spec.backend not in ("hf", "vllm"):
        return None
    from polypref.backends.hf_models import Opening
    from polypref.backends.templates import PromptTemplate

    template = PromptTemplate(Opening.of(spec).tokenizer, spec.chat_template_kwargs)
    return lambda messages: len(template.request_ids(Request("prompt", messages)))
