"""Tokens of answers: a window at a time, once for two models that read alike, and never another's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import tiny

from polypref.backends import hf_tokens
from polypref.backends.base import Answer
from polypref.backends.hf_tokens import reading, tokenised
from polypref.backends.templates import PromptTemplate


def answers(count: int) -> list[Answer]:
    return [Answer(f"{k}", [{"role": "user", "content": tiny.TEXTS[k % 2]}], tiny.TEXTS[2][:k]) for k in range(count)]


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    hf_tokens._last.clear()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call tokenises."""
    sizes: list[int] = []
    whole: Callable[..., list[hf_tokens.Tokens]] = hf_tokens._tokens
    monkeypatch.setattr(hf_tokens, "_tokens", lambda t, part, known: sizes.append(len(part)) or whole(t, part, known))
    return sizes


@pytest.mark.parametrize("window", [1, 3, 7, 100])
def test_windows_hold_every_answer_in_order(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(hf_tokens, "WINDOW", window)
    template, rows = PromptTemplate(tiny.build_tokenizer()), answers(7)
    found = list(tokenised(template, None, rows))
    assert [len(part) for part in found] == [len(rows[k : k + window]) for k in range(0, 7, window)]
    want = [(template.prompt_ids(row.messages), *template.answer_tokens(row)) for row in rows]
    assert [tuple(one) for part in found for one in part] == want


def test_no_answers_are_no_windows() -> None:
    assert list(tokenised(PromptTemplate(tiny.build_tokenizer()), "key", [])) == []


def test_a_reference_that_reads_alike_has_the_policys_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, rows = counted(monkeypatch), answers(5)
    policy, reference = (PromptTemplate(tiny.build_tokenizer()) for _ in range(2))
    assert reading(policy) == reading(reference)
    first = list(tokenised(policy, reading(policy), rows))
    assert list(tokenised(reference, reading(reference), list(rows))) == first
    assert sizes == [5]


@pytest.mark.parametrize("change", ["template", "arguments", "tokenizer", "answers"])
def test_another_reading_or_other_answers_are_tokenised_anew(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    sizes, rows = counted(monkeypatch), answers(5)
    policy = PromptTemplate(tiny.build_tokenizer())
    tokenizer = tiny.build_tokenizer(bos=change == "tokenizer")
    if change == "template":
        tokenizer.chat_template += " "
    reference = PromptTemplate(tokenizer, {"thinking": True} if change == "arguments" else None)
    asked = [*rows[:-1], dataclasses.replace(rows[-1], text="other")] if change == "answers" else rows
    list(tokenised(policy, reading(policy), rows))
    found = [one for part in tokenised(reference, reading(reference), asked) for one in part]
    assert sizes == [5, 5]
    assert [one.answer for one in found] == [reference.answer_tokens(row)[0] for row in asked]
