"""A scorer in the place of a judge of pairs: the answer with the higher score is the better one."""

from __future__ import annotations

from collections.abc import Sequence

from polypref.backends.base import Comparison, Each, Judged, Recall, Scorer, Verdict


class ScorerComparer:
    """A ``Comparer`` made of a ``Scorer``. It sees one answer at a time, so that the order cannot change a verdict."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.fingerprint: str = f"higher:{scorer.fingerprint}"

    def compare(
        self, comparisons: Sequence[Comparison], recall: Recall | None = None, each: Each | None = None
    ) -> list[Verdict]:
        """One verdict per comparison, in order; equal scores are a tie. None where an answer got no score.

        Scores are computed at once and not kept in ``recall``; ``each`` is told when all of them are there.
        """
        scores = self._scorer.score([answer for comparison in comparisons for answer in _answers(comparison)])
        verdicts = [_verdict(scores[i], scores[i + 1]) for i in range(0, len(scores), 2)]
        if each is not None:
            for index, verdict in enumerate(verdicts):
                each(index, verdict)
        return verdicts


def _answers(comparison: Comparison) -> list[Judged]:
    about = comparison.lang, comparison.messages
    return [
        Judged(f"{comparison.id}/answer-{number}", *about, text, comparison.gold, comparison.category)
        for number, text in enumerate((comparison.first, comparison.second), 1)
    ]


def _verdict(first: float | None, second: float | None) -> Verdict:
    if first is None or second is None:
        unscored = [name for name, score in (("first", first), ("second", second)) if score is None]
        return Verdict(None, error=f"no score for the {' and the '.join(unscored)} answer")
    preference = (first > second) + 0.5 * (first == second)
    return Verdict(preference, flipped=False, orders=(preference, preference))
