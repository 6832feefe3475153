"""Which comparisons a page shows, and what it shows of each: both answers, and what every judge said of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from polypref.stages.judgments import Judgment
from polypref.stages.report_tables import name_of

FOLDED, LONGEST = 1000, 20_000
"""Characters of a text that stand open, and those that the page holds at all."""

WIN, TIE, LOSS, NONE = "win", "tie", "loss", "none"
"""What a judge's verdict is for the model."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text as the page has it: what stands open, what is folded, and how many characters are only in the file."""

    head: str
    rest: str = ""
    left: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """Two answers to one prompt, and the judgments of them, one a judge."""

    id: str
    language: str
    model: str
    baseline: str
    judgments: list[Judgment] = field(default_factory=list)

    @property
    def first(self) -> Judgment:
        return self.judgments[0]

    @property
    def split(self) -> bool:
        """Whether the judges that gave a verdict gave different ones."""
        return len({outcome(judgment) for judgment in self.judgments} - {NONE}) > 1


def outcome(judgment: Judgment) -> str:
    """Who wins: any preference above one half is a win of the model's, one half itself a tie."""
    if judgment.preference is None:
        return NONE
    return WIN if judgment.preference > 0.5 else TIE if judgment.preference == 0.5 else LOSS


def compared(judgments: Sequence[Judgment]) -> list[Compared]:
    """The judgments by what was compared, in the order of a hash of the prompt's id.

    So the first of them are a sample that nobody picked, and hold a prompt in all its languages and for all models.
    Judges that saw other answers of the same models stand apart.
    """
    found: dict[tuple[str | None, ...], Compared] = {}
    for j in judgments:
        key = (j.id, j.language, j.model, j.baseline, j.model_answer, j.baseline_answer)
        found.setdefault(key, Compared(j.id, j.language, j.model, j.baseline)).judgments.append(j)
    rank = {one.id: hashlib.sha256(one.id.encode(errors="surrogatepass")).digest() for one in found.values()}
    return sorted(found.values(), key=lambda one: rank[one.id])


def folded(text: str) -> Text:
    """A text, the end of a long one folded at a blank."""
    if len(text) <= FOLDED:
        return Text(text)
    cut = max(text.rfind(" ", FOLDED // 2, FOLDED), text.rfind("\n", FOLDED // 2, FOLDED)) + 1 or FOLDED
    return Text(text[:cut], text[cut:LONGEST], max(0, len(text) - LONGEST))


def verdict(judgment: Judgment) -> str:
    """The outcome in words, by name."""
    found = outcome(judgment)
    if found in (TIE, NONE):
        return "tie" if found == TIE else "no verdict"
    return f"{name_of(judgment.model if found == WIN else judgment.baseline)} wins"


def orders(judgment: Judgment) -> str:
    """What became of the two orders: they ``agree``, ``contradict``, only ``one`` was read or ``none``; empty where
    nothing is known of them."""
    if judgment.flipped is not None:
        return "contradict" if judgment.flipped else "agree"
    if judgment.orders is None:
        return ""
    return "one" if any(told is not None for told in judgment.orders) else "none"
