"""Chat templates: the exact tokens of a prompt, of an answer, and the token that ends an assistant's turn.

A prompt is the rendered template with its generation prompt; an answer is tokenised apart from it, as generation makes
it, so that no token spans both. Special tokens come from the template alone: never a second BOS.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from polypref.backends.base import Answer, Request
from polypref.backends.template_limits import SECONDS, OutOfTime, unbounded, within_limits
from polypref.errors import ModelError
from polypref.records import Message

_QUESTION, _MARK = "polyprefquestion", "polyprefanswer"
DATE = datetime(2024, 7, 26)
"""Today, for templates that ask: scores may not change overnight. It is what Llama 3's template has without a clock."""
_THINKING = re.compile(r"<think>\s*(</think>\s*)?$")


class PromptTemplate:
    """A tokenizer's chat template with fixed template arguments."""

    def __init__(self, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None) -> None:
        """
        Raises:
            ModelError: the tokenizer has no chat template, or one that could make values of any size.
        """
        self.tokenizer = tokenizer
        self.arguments = dict(chat_template_kwargs or {})
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                f"{self._name} has no chat template; use an instruction-tuned model, or put a chat_template.jinja "
                "beside its tokenizer"
            )
        given = tokenizer.chat_template  # several by name, or one
        texts = given.values() if isinstance(given, dict) else [given]
        if what := next(filter(None, map(unbounded, map(str, texts))), None):
            raise ModelError(
                f"the chat template of {self._name} has {what}, which could fill the memory or take for ever; put "
                "another chat_template.jinja beside its tokenizer"
            )
        self._asks_for_the_date = "strftime_now" in str(tokenizer.chat_template)
        if self._asks_for_the_date:
            self._hold(DATE)

    def _hold(self, date: datetime) -> None:
        """Make the date of the template's clock this one. Its clock is a function, so it is no template argument; a
        macro of its name stands before it."""
        codes = {f"%{code}": date.strftime(f"%{code}") for code in "aAbBdHIjmMpSyY"} | {"%-d": str(date.day)}
        shown = "".join(f"|replace({code!r}, {text!r})" for code, text in codes.items())
        clock = "{% macro strftime_now(format) %}{{ format" + shown + " }}{% endmacro %}"
        self.arguments["chat_template"] = clock + self.tokenizer.get_chat_template()

    @property
    def _name(self) -> str:
        return str(getattr(self.tokenizer, "name_or_path", "") or "the tokenizer")

    def prompt_text(self, messages: Sequence[Message], *, generation_prompt: bool = True) -> str:
        """The rendered conversation.

        Raises:
            ModelError: the template refuses the conversation, or leaves its system turn out in silence.
        """
        try:
            with within_limits():
                text = str(
                    self.tokenizer.apply_chat_template(
                        list(messages), tokenize=False, add_generation_prompt=generation_prompt, **self.arguments
                    )
                )
        except OutOfTime:
            raise ModelError(
                f"the chat template of {self._name} renders for more than {SECONDS:g} s; mend the template"
            ) from None
        except Exception as error:  # a template is the model author's program, and raises what it likes
            roles = ", ".join(str(m["role"]) for m in messages)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"the chat template of {self._name} refuses a conversation of {roles} ({reason}); "
                "change the conversation or the template"
            ) from None
        for message in messages:
            content = message["content"]
            if message["role"] == "system" and isinstance(content, str) and content.strip() not in text:
                raise ModelError(
                    f"the chat template of {self._name} leaves the system turn out; put its text into the user turn"
                )
        return text

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a prompt, generation prompt included."""
        return self.ids(self.prompt_text(messages))

    def request_ids(self, request: Request) -> list[int]:
        """The token ids of a request: its prompt, then what opens the turn, tokenised apart as answers are."""
        return [*self.prompt_ids(request.messages), *(self.ids(request.prefill) if request.prefill else ())]

    def answer_ids(self, text: str) -> list[int]:
        """The token ids of an answer, without its end-of-turn."""
        return self.ids(text)

    def answer_tokens(self, answer: Answer) -> tuple[list[int], bool]:
        """The ids of an answer that are scored and trained on, and whether those that it keeps could be used.

        They can where they are this tokenizer's, that is where they decode to the text; else the text is tokenised.
        The end-of-turn belongs to an answer that was finished, once.
        """
        tokens = None if answer.token_ids is None else list(answer.token_ids)
        if tokens and tokens[-1] == self.end_of_turn:
            tokens.pop()
        kept = tokens is None or self.text(tokens) == answer.text
        if tokens is None or not kept:
            tokens = self.answer_ids(answer.text)
        return ([*tokens, self.end_of_turn] if answer.finished else tokens), kept

    def ids(self, text: str) -> list[int]:
        """The token ids of a text, nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids as generation reads it: without special tokens, white space as it is."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @functools.cached_property
    def end_of_turn(self) -> int:
        """The special token that the template renders right after an assistant's text (white space between them does
        not count), else the tokenizer's end of sequence.

        Raises:
            ModelError: there is neither.
        """
        rendered = self.prompt_text(_turns(_MARK), generation_prompt=False)
        if _MARK not in rendered:
            raise ModelError(
                f"the chat template of {self._name} does not render an assistant's text; its answers cannot be scored"
            )
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        for token in self.ids(rendered.rpartition(_MARK)[2]):
            if not self.tokenizer.decode([token]).strip():
                continue  # some tokenizers have runs of white space as added tokens
            if token in special:
                return int(token)
            break
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                f"{self._name} has no end-of-turn: its template renders none and it has no eos_token; "
                "set eos_token in tokenizer_config.json"
            )
        return int(self.tokenizer.eos_token_id)

    @property
    def opens_thinking(self) -> bool:
        """Whether the generation prompt ends inside a reasoning part, so that what follows it is no answer yet."""
        return self.prompt_text(_turns()).rstrip().endswith("<think>")

    def check(self) -> None:
        """Refuse a template under which scores would not mean what they should, and warn of what is odd.

        Raises:
            ModelError: in one sentence: the prompt is not how the whole conversation begins, the template has no
                generation prompt, there is more than one BOS, or no end-of-turn exists.
        """
        self._check_context()
        self._check_bos()
        self._check_date()

    def _check_context(self) -> None:
        prompt = self.prompt_text(_turns())
        whole = self.prompt_text(_turns(_MARK), generation_prompt=False)
        # A generation prompt may open a reasoning part that a finished conversation does not show.
        start = _THINKING.sub("", prompt)
        if not whole.startswith(start) or _QUESTION not in start:
            raise ModelError(
                f"the chat template of {self._name} renders a prompt that is not the beginning of the whole "
                "conversation, so an answer would be scored in another context than it is trained in; mend the template"
            )
        between = _THINKING.sub("", whole[len(start) :].partition(_MARK)[0]).strip()
        if between and prompt == self.prompt_text(_turns(), generation_prompt=False):
            raise ModelError(
                f"the chat template of {self._name} has no generation prompt: a prompt ends before {between!r}, "
                "which opens the assistant's turn; mend the template"
            )
        if between:
            warnings.warn(
                f"{self._name}: its chat template renders {between!r} between generation prompt and answer; "
                "an answer that has no sampled token ids is scored without it",
                stacklevel=4,
            )

    def _check_bos(self) -> None:
        bos, ends = self.tokenizer.bos_token_id, {self.end_of_turn, self.tokenizer.eos_token_id}
        if bos is None:
            return
        ids = self.prompt_ids(_turns())
        count = ids.count(bos)
        # A token that begins texts and ends turns, too, may stand in a prompt again, but not twice at its start.
        if ids[:2] == [bos, bos] or (count > 1 and bos not in ends):
            raise ModelError(f"the chat template of {self._name} renders {count} BOS tokens; leave one in the template")
        if count == 0 and self.tokenizer("a")["input_ids"][:1] == [bos]:
            warnings.warn(
                f"{self._name}: its tokenizer begins a text with {self.tokenizer.bos_token!r}, its chat template "
                "does not; the template is taken as it is, as servers and trainers do",
                stacklevel=4,
            )

    def _check_date(self) -> None:
        if not self._asks_for_the_date:
            return
        today = self.prompt_text(_turns())
        self._hold(DATE + timedelta(days=1))
        tomorrow = self.prompt_text(_turns())
        self._hold(DATE)
        if today != tomorrow:
            warnings.warn(
                f"{self._name}: its chat template tells today's date, which is held at {DATE:%Y-%m-%d}, so that scores "
                "do not change from day to day; name another by chat_template_kwargs where the template takes one",
                stacklevel=4,
            )


def _turns(answer: str | None = None) -> list[Message]:
    turns: list[Message] = [{"role": "user", "content": _QUESTION}]
    return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]
