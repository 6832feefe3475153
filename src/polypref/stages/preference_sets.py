"""What of an example is preference or SFT data in one language: its pairs, its labelled answers, its demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polypref.records import Candidate, Example, Pair, live

DEMONSTRATES = ("human", "reference", None)
"""The origins of answers that show how it is done; sampled ones do so only where they are labelled or paired."""


@dataclass(frozen=True, slots=True)
class PreferenceSet:
    """An example's data in one language. ``demonstrations`` are looked for only where it has neither of the others."""

    pairs: Sequence[Pair] = ()
    labelled: Sequence[Candidate] = ()
    demonstrations: Sequence[Candidate] = ()

    def __bool__(self) -> bool:
        return bool(self.pairs or self.labelled or self.demonstrations)

    @property
    def answers(self) -> frozenset[str]:
        """The ids of all candidates that it names."""
        alone = {candidate.id for candidate in (*self.labelled, *self.demonstrations)}
        return frozenset(alone | {one for pair in self.pairs for one in (pair.chosen, pair.rejected)})

    @property
    def compares(self) -> bool:
        """Whether the labelled answers are told apart by their labels, so that one alone says less than all do."""
        return any(candidate.label != self.labelled[0].label for candidate in self.labelled)


def preference_set(example: Example, lang: str) -> PreferenceSet:
    """The pairs under the prompt in ``lang``, and the answers in it that have a label, or else that demonstrate.

    Answers that failed are no part of it, pairs of them are.
    """
    pairs = [pair for pair in example.pairs if pair.lang == lang]
    own = [candidate for candidate in example.candidates if candidate.lang == lang and live(candidate)]
    labelled = [candidate for candidate in own if candidate.label is not None]
    shown = [] if pairs or labelled else [c for c in own if c.origin in DEMONSTRATES and c.text.strip()]
    return PreferenceSet(pairs, labelled, shown)


def lacking(example: Example, source: str, lang: str) -> PreferenceSet:
    """What ``source`` has and ``lang`` has none of that was not itself translated: each kind for itself."""
    there, here = preference_set(example, source), preference_set(example, lang)
    translated = {candidate.id for candidate in example.candidates if candidate.origin == "translated"}
    return PreferenceSet(
        [] if any(not {p.chosen, p.rejected} <= translated for p in here.pairs) else there.pairs,
        [] if any(c.id not in translated for c in here.labelled) else there.labelled,
        [] if here.demonstrations else there.demonstrations,
    )
