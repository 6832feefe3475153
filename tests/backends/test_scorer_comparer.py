"""A scorer stands where a judge of pairs stands: the higher score wins."""

from __future__ import annotations

from collections.abc import Sequence

from polypref.backends.base import Comparer, Comparison, Judged, Verdict
from polypref.backends.scorer_comparer import ScorerComparer


class Length:
    """The number of characters; none for an empty answer. It keeps what it was shown."""

    fingerprint = "length:1"

    def __init__(self) -> None:
        self.seen: list[Judged] = []

    def score(self, answers: Sequence[Judged]) -> list[float | None]:
        self.seen += answers
        return [float(len(answer.text)) or None for answer in answers]


def comparison(id: str, first: str, second: str) -> Comparison:
    return Comparison(id, "es", [{"role": "user", "content": "¿Qué?"}], first, second)


def test_the_higher_score_wins_and_equal_scores_are_a_tie() -> None:
    comparer = ScorerComparer(Length())
    assert isinstance(comparer, Comparer)
    assert comparer.fingerprint == "higher:length:1"
    asked = [comparison("a", "long", "it"), comparison("b", "it", "long"), comparison("c", "one", "two")]
    verdicts = [Verdict(value, flipped=False, orders=(value, value)) for value in (1.0, 0.0, 0.5)]
    assert comparer.compare(asked) == verdicts
    assert comparer.compare([]) == []


def test_every_verdict_is_told_and_nothing_is_kept() -> None:
    kept: dict[str, object] = {}
    told: list[tuple[int, Verdict]] = []
    asked = [comparison("a", "long", "it"), comparison("b", "", "long")]
    verdicts = ScorerComparer(Length()).compare(asked, Kept(kept), lambda *one: told.append(one))
    assert told == list(enumerate(verdicts))
    assert kept == {}


class Kept:
    def __init__(self, values: dict[str, object]) -> None:
        self.get, self.put = values.get, values.__setitem__


def test_an_answer_without_a_score_gives_no_verdict() -> None:
    asked = [comparison("a", "", "it"), comparison("b", "it", ""), comparison("c", "", "")]
    assert [v.error for v in ScorerComparer(Length()).compare(asked)] == [
        "no score for the first answer",
        "no score for the second answer",
        "no score for the first and the second answer",
    ]
    assert {v.preference for v in ScorerComparer(Length()).compare(asked)} == {None}


def test_each_answer_is_scored_under_the_prompt_and_language() -> None:
    scorer = Length()
    [_] = ScorerComparer(scorer).compare([comparison("a", "long", "it")])
    question = [{"role": "user", "content": "¿Qué?"}]
    assert scorer.seen == [Judged("a/answer-1", "es", question, "long"), Judged("a/answer-2", "es", question, "it")]
