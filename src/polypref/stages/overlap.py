"""Prompts that training and evaluation share, in any language, by id and by text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polypref.errors import InputError
from polypref.records import Example, Message
from polypref.stages.prompt_instruction import plain

SHOWN = 3


@dataclass(frozen=True, slots=True)
class SharedText:
    """One text on both sides: where it stands, and how it begins."""

    train_id: str
    train_lang: str
    evaluation_id: str
    evaluation_lang: str
    text: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """``ids`` are on both sides (in the training order); ``texts`` are equal after normalisation."""

    ids: tuple[str, ...]
    texts: tuple[SharedText, ...]

    def __bool__(self) -> bool:
        return bool(self.ids or self.texts)

    @property
    def train_ids(self) -> frozenset[str]:
        """The training examples that would have to go."""
        return frozenset(self.ids) | {shared.train_id for shared in self.texts}


def normalise_text(text: str) -> str:
    """Text as it is compared: NFKC, case folded, every run of white space one space, none at the ends.

    >>> normalise_text(" Ｗhat  IS\\tit? ") == normalise_text("what is it?")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def said_in(prompt: Sequence[Message]) -> str:
    """What a prompt says beside its system message."""
    return normalise_text("\n".join(str(message["content"]) for message in prompt if message["role"] != "system"))


def find_overlap(train: Iterable[Example], evaluation: Iterable[Example]) -> Overlap:
    """What the two share: ids, and texts in any language of one and any language of the other (empty texts aside)."""
    by_text: dict[str, tuple[str, str]] = {}
    evaluation_ids = set()
    for example in evaluation:
        evaluation_ids.add(example.id)
        for tag, prompt in plain(example).prompts.items():
            by_text.setdefault(said_in(prompt), (example.id, tag))
    by_text.pop("", None)
    ids, texts = [], []
    for example in train:
        if example.id in evaluation_ids:
            ids.append(example.id)
        for tag, prompt in plain(example).prompts.items():
            said = said_in(prompt)
            if said in by_text:
                texts.append(SharedText(example.id, tag, *by_text[said], text=said[:80]))
    return Overlap(tuple(ids), tuple(texts))


def refuse_overlap(train: Iterable[Example], evaluation: Iterable[Example], *, allow: bool = False) -> Overlap:
    """``find_overlap``, refused unless ``allow``.

    Raises:
        InputError: the two share prompts; the message counts them, shows the first and says what to do.
    """
    overlap = find_overlap(train, evaluation)
    if overlap and not allow:
        by_text = len({shared.train_id for shared in overlap.texts})
        shown = [
            f"{shared.train_id} ({shared.train_lang}) and {shared.evaluation_id} ({shared.evaluation_lang}): "
            f"{shared.text[:40]!r}"
            for shared in overlap.texts[:SHOWN]
        ] or [f"id {example_id!r}" for example_id in overlap.ids[:SHOWN]]
        counted = "" if by_text else " (no text is shared: if these ids only count rows, allow it)"
        raise InputError(
            f"{len(overlap.train_ids)} training prompts are also evaluated on ({len(overlap.ids)} by id, {by_text} by "
            f"text), such as {'; '.join(shown)}. Remove them from one of the two, or say allow_overlap: true{counted}"
        )
    return overlap
