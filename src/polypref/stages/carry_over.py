"""What is known of answers, carried over to their translations: preferences, labels. A pair is all or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from polypref.records import Candidate, Drop, Example, Pair, live
from polypref.stages.preference_sets import PreferenceSet

STAGE = "translate_preferences"
"""The stage of the drops of pairs, labels and replaced answers; those of prompts and answers are of ``translate``."""

RULE, BACK_RULE = "translated", "back_translated"
"""The rules of pairs that were carried over."""

REPLACED = "replaced"
"""Of an answer that goes no further because its back-translation does."""


def follow(example: Example, answer: Candidate, path: Sequence[str]) -> Candidate | None:
    """The translation of an answer through the languages of ``path``, or the first on the way that failed; None where
    one is not there. Of several, one that did not fail."""
    for lang in path:
        if not live(answer):
            return answer
        children = [c for c in example.candidates if c.parent == answer.id and c.lang == lang]
        if not children:
            return None
        answer = next(filter(live, children), children[0])
    return answer


def sent(example: Example, data: PreferenceSet, lang: str) -> list[Candidate]:
    """The answers of a set that can be translated from ``lang``, in the example's order."""
    named = data.answers
    return [c for c in example.candidates if c.id in named and _unfit(c, lang) is None]


def _unfit(answer: Candidate, lang: str) -> str | None:
    if not live(answer):
        return "failed"
    if answer.lang != lang:
        return "other_language"
    return None if answer.text.strip() else "no_text"


def carried_over(example: Example, data: PreferenceSet, way: Sequence[str], *, prompted: bool) -> Example:
    """The example with the set's pairs and labels on the translations of its answers, and a drop for all that is not.

    Args:
        way: the languages from the set's to the translations'; where both are the same the set is replaced.
        prompted: whether the prompt of the translations is there; without it nothing is carried over.
    """
    carrying = _Carrying(example, data, tuple(way), prompted)
    return carrying.replaced() if way[0] == way[-1] else carrying.added()


class _Carrying:
    """One example's set on its way over. ``labels`` are by translation, ``pairs`` in the order of the set's."""

    def __init__(self, example: Example, data: PreferenceSet, way: tuple[str, ...], prompted: bool) -> None:
        self._example, self._data, self._way = example, data, way
        named = [c for c in example.candidates if c.id in data.answers]
        self._children = {c.id: follow(example, c, way[1:]) for c in sent(example, data, way[0])}
        self._reasons = {c.id: self._reason(c, prompted) for c in named}
        self._drops: list[Drop] = []
        self._pairs = [self._pair(pair) for pair in data.pairs]
        self._labels = self._labelled()

    def _reason(self, answer: Candidate, prompted: bool) -> str | None:
        """Why an answer has no translation to carry over to; None where it has one."""
        if unfit := _unfit(answer, self._way[0]):
            return unfit
        if not prompted:
            return "no_prompt"
        child = self._children[answer.id]
        if child is None:
            return "no_translation"
        return None if child.error is None else child.error.partition(":")[0]

    def _drop(self, reason: str, candidate: str | None = None, **extra: Any) -> None:
        drop = Drop(STAGE, reason, self._way[-1], candidate, extra)
        if drop not in self._example.dropped and drop not in self._drops:
            self._drops.append(drop)

    def _pair(self, pair: Pair) -> Pair | None:
        chosen, rejected = self._children.get(pair.chosen), self._children.get(pair.rejected)
        reason = self._reasons[pair.chosen] or self._reasons[pair.rejected]
        if chosen is not None and rejected is not None and reason is None:
            if chosen.text != rejected.text:
                rule = BACK_RULE if self._way[0] == self._way[-1] else RULE
                return dataclasses.replace(pair, lang=self._way[-1], chosen=chosen.id, rejected=rejected.id, rule=rule)
            reason = "duplicate"
        self._drop(str(reason), chosen=pair.chosen, rejected=pair.rejected)
        return None

    def _labelled(self) -> dict[str, Any]:
        """Translation → its label. A set that compares is carried over whole or not at all."""
        broken = self._data.compares and any(self._reasons[c.id] for c in self._data.labelled)
        labels = {}
        for answer in (*self._data.labelled, *self._data.demonstrations):
            child, reason = self._children.get(answer.id), self._reasons[answer.id]
            if child is None or reason or broken:
                self._drop(reason or "incomplete", answer=answer.id)
            elif answer.label is not None:
                labels[child.id] = answer.label
        return labels

    def added(self) -> Example:
        """With the pairs that it has not yet, after its own."""
        have = {(pair.lang, pair.chosen, pair.rejected) for pair in self._example.pairs}
        new = [p for p in self._pairs if p is not None and (p.lang, p.chosen, p.rejected) not in have]
        return self._finished([*self._example.pairs, *new], self._example.candidates)

    def replaced(self) -> Example:
        """With the pairs in their old ones' places; the answers that were replaced say so and have no label."""
        lang, pairs = self._way[0], iter(self._pairs)
        kept = [next(pairs) if pair.lang == lang else pair for pair in self._example.pairs]
        candidates = []
        for answer in self._example.candidates:
            if answer.id in self._reasons and answer.lang == lang and live(answer):
                label = {} if answer.label is None else {"label": answer.label}
                self._drop(self._reasons[answer.id] or REPLACED, answer.id, **label)
                answer = dataclasses.replace(answer, label=None)
            candidates.append(answer)
        return self._finished([pair for pair in kept if pair is not None], candidates)

    def _finished(self, pairs: list[Pair], candidates: Sequence[Candidate]) -> Example:
        labels = self._labels
        return dataclasses.replace(
            self._example,
            candidates=[
                dataclasses.replace(c, label=labels[c.id]) if c.id in labels and c.label is None else c
                for c in candidates
            ],
            pairs=pairs,
            dropped=[*self._example.dropped, *self._drops],
        )
