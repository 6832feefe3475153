"""What a folder of judgments loses, in words: verdicts that cannot be had, rows that a narrower command drops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from polypref.backends.base import Context, Recall
from polypref.stages.judge_matches import JudgeOptions, question
from polypref.stages.judge_plan import Asker
from polypref.stages.matches import Match

Row: TypeAlias = tuple[str, str, str, object]
"""(judge, model, language, what else tells a row from others)."""
PARTS = ("judge", "model", "language")


def asked_again(lost: Sequence[Match], options: JudgeOptions, context: Context, recall: Recall | None) -> int:
    """Of comparisons without a verdict, how many the same command asks for again: those of which an order is not in
    ``recall``. A judge that keeps nothing is asked for all of them."""
    judge = context.open("comparer", options.judge)
    if recall is None or not isinstance(judge, Asker):
        return len(lost)
    questions = [asked for match in lost if (asked := question(match, options.name)) is not None]
    return sum(any(recall.get(judge.key(request)) is None for request in judge.requests(q)) for q in questions)


def counted(n: int, noun: str) -> str:
    """
    >>> counted(1, "comparison"), counted(2, "comparison")
    ('1 comparison', '2 comparisons')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def by_language(who: str, tags: Iterable[str], noun: str, lacking: str) -> str:
    """Who left how many without a verdict or a number, and in which languages."""
    found = Counter(tags)
    told = ", ".join(f"{n} in {tag}" for tag, n in sorted(found.items()))
    return f"{who}: {counted(found.total(), noun)} without {lacking} ({told})"


def what_to_do(again: int, kept: int, settings: str) -> str:
    """What becomes of questions without an answer that can be used: those that failed on the way, and those whose
    answer is kept. ``settings`` are those of which another value asks anew."""
    told = []
    if again:
        it = "it" if again == 1 else "them"
        told.append(f"{again} failed on the way, and the same command asks for {it} again")
    if kept:
        verb = "is" if kept == 1 else "are"
        told.append(
            f"{kept} {verb} kept and not asked again, since what was said cannot be read or the prompt does not fit: "
            f"another {settings} asks anew"
        )
    return "; ".join(told)


def left_out(file: str, before: Iterable[Row], now: Iterable[Row], noun: str) -> str | None:
    """What a file of judgments held and holds no more, in a sentence; None where all of it is still there."""
    old, new = dict.fromkeys(before), dict.fromkeys(now)
    gone = [row for row in old if row not in new]
    if not gone:
        return None
    told = []
    for place, part in enumerate(PARTS):
        there = {row[place] for row in new}
        if names := dict.fromkeys(row[place] for row in gone if row[place] not in there):
            told.append(f"{part if len(names) == 1 else part + 's'} {', '.join(map(str, names))}")
            gone = [row for row in gone if row[place] not in names]
    if gone:
        told.append(counted(len(gone), noun) + (" more" if told else " that this command does not ask for"))
    return (
        f"{file} held {counted(len(old), noun)} and now holds {len(new)}; left out: {'; '.join(told)} (the judges' "
        "words stay in their journals)"
    )
