"""The tokens that a classifier reads of a conversation and an answer.

turns     ids(prompt with its generation prompt) + ids(answer) + end-of-turn: what polypref trains reward models on
template  the whole conversation rendered by the template in one piece: what chat reward models of the hub are made with
pair      tokenizer(prompt, answer): what encoders without a template are made with

An assistant's turn is never rendered alone: many templates would put their default system block before it. Of a
sequence that is too long the last tokens are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polypref.backends.base import Answer, Judged
from polypref.backends.templates import PromptTemplate
from polypref.errors import ModelError
from polypref.records import Message

Input = Literal["turns", "template", "pair"]
_PROBE = "polyprefanswer"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A sequence: its ids, the segment of each where the tokenizer tells segments, and how many were cut off."""

    ids: list[int]
    segments: list[int] | None = None
    cut: int = 0


class RewardInputs:
    """Conversations with answers as one model's tokens, at most ``max_length`` of them (None: no bound)."""

    def __init__(
        self, tokenizer: Any, arguments: dict[str, Any], input: Input, max_length: int | None, name: str
    ) -> None:
        """
        Args:
            arguments: of the chat template.
            name: the model's, for messages.

        Raises:
            ModelError: the input needs a chat template and there is none, or it does not render what is judged.
        """
        self.tokenizer, self.input, self.max_length, self.name = tokenizer, input, max_length, name
        self.template = None if input == "pair" else PromptTemplate(tokenizer, arguments)
        if self.template is None:
            return
        if input == "turns":
            self.template.check()
            return
        turns: list[Message] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}]
        whole = self.template.prompt_text(turns, generation_prompt=False)
        if _PROBE not in whole:
            raise ModelError(
                f"the chat template of {name} does not render an assistant's text; its answers cannot be scored"
            )
        bos = tokenizer.bos_token_id
        if bos is not None and self.template.ids(whole)[:2] == [bos, bos]:
            raise ModelError(f"the chat template of {name} begins with two BOS tokens; leave one in the template")

    def of(self, answer: Judged) -> Tokens:
        """
        Raises:
            ModelError: the conversation cannot be rendered, or gives no token; the message names the answer's id.
        """
        try:
            found = self._pair(answer) if self.template is None else self._templated(answer, self.template)
        except ModelError as error:
            raise ModelError(f"{answer.id}: {error}") from None
        if not found.ids:
            raise ModelError(f"{answer.id}: it has no token under {self.name}; mend the chat template")
        return found

    def _templated(self, answer: Judged, template: PromptTemplate) -> Tokens:
        if self.input == "turns":
            ids = template.prompt_ids(answer.messages)
            ids += template.answer_tokens(Answer(answer.id, answer.messages, answer.text))[0]
        else:
            turns: list[Message] = [*answer.messages, {"role": "assistant", "content": answer.text}]
            ids = template.ids(template.prompt_text(turns, generation_prompt=False))
        cut = max(0, len(ids) - self.max_length) if self.max_length is not None else 0
        return Tokens(ids[cut:], None, cut)

    def _pair(self, answer: Judged) -> Tokens:
        """Cut on the left of the text; the tokens around it stay."""
        found = self.tokenizer(_text(answer.messages), answer.text, return_special_tokens_mask=True)
        ids, segments = list(found["input_ids"]), found.get("token_type_ids")
        cut = max(0, len(ids) - self.max_length) if self.max_length is not None else 0
        gone = set([at for at, special in enumerate(found["special_tokens_mask"]) if not special][:cut])
        kept = [at for at in range(len(ids)) if at not in gone]
        return Tokens([ids[at] for at in kept], None if segments is None else [segments[at] for at in kept], len(gone))


def _text(messages: Sequence[Message]) -> str:
    """The prompt of an encoder, which knows no turns: their texts, with an empty line between them."""
    texts = [message["content"] for message in messages]
    if not all(isinstance(text, str) for text in texts):
        raise ModelError("its prompt holds more than text; give a model with a chat template")
    return "\n\n".join(texts)
