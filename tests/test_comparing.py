"""A folder of comparisons: what is known is not scored again, and what changed is."""

import dataclasses
import json

import pytest

from polypref import registry
from polypref.backends.base import ScorerSpec
from polypref.comparing import compare
from polypref.errors import RecipeError, RunLockedError
from polypref.stages.judgments import write_judgments
from polypref.stages.matches import Match
from polypref.store.lock import locked

SCORED = []


class Length:
    """Prefers the longer answer, and remembers what it was asked."""

    VERSION = 1
    fingerprint = "length:1"

    def __init__(self, model=None):
        pass

    def score(self, answers):
        SCORED.extend(answer.text for answer in answers)
        return [float(len(answer.text)) for answer in answers]


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """``judged(matches)`` → (what it found, how many answers were scored for it)."""
    monkeypatch.setitem(registry.SCORERS, "length", "test_comparing:Length")

    def call(matches, judge="long", **more):
        SCORED.clear()
        context, opener = registry.context()
        judges = {judge: ScorerSpec(scorer="length")}
        arguments = {"baseline": "base", "config": {"name": "test"}} | more
        try:
            found = compare(matches, judges, tmp_path / "out", context, **arguments)
        finally:
            opener.close()
        return found, len(SCORED)

    return call


def match(id, model, answer, language="es"):
    return Match(id, language, [{"role": "user", "content": f"q{id}"}], model, "base", answer, "four")


ONE = [match(str(i), "one", "x" * (3 + i)) for i in range(4)]
"""Shorter, a tie by length, longer, longer than the baseline's four letters."""


def test_the_same_answers_are_scored_once(judged):
    found, scored = judged(ONE)
    assert (scored, [j.preference for j in found.judgments]) == (8, [0.0, 0.5, 1.0, 1.0])
    assert found.results["results"]["one"]["es"]["win_rate"] == 0.625
    again, scored = judged(ONE)
    assert (scored, again.judgments, again.results) == (0, found.judgments, found.results)
    assert again.spent["long"]["requests"] == 0


def test_failed_answers_are_told_of_judgments_that_do_not_tell_them(judged, tmp_path):
    """A folder's judgments of before lack ``failed``; they are known, and made as they would be now."""
    matches = [dataclasses.replace(ONE[0], model_answer=None), *ONE[1:]]
    found, _ = judged(matches)
    assert [j.failed for j in found.judgments] == ["model", None, None, None]
    assert found.results["results"]["one"]["es"]["failed"] == 0.25
    write_judgments(
        tmp_path / "out/judgments.jsonl", [dataclasses.replace(one, failed=None) for one in found.judgments]
    )
    again, scored = judged(matches)
    assert (scored, again.judgments, again.results) == (0, found.judgments, found.results)


def test_another_model_is_scored_alone(judged):
    judged(ONE)
    two = [match("0", "two", "long enough"), match("1", "two", "x")]
    found, scored = judged([*ONE, *two])
    assert (scored, [j.preference for j in found.judgments]) == (4, [0.0, 0.5, 1.0, 1.0, 1.0, 0.0])
    fewer, scored = judged(two)
    assert (scored, list(fewer.results["results"])) == (0, ["two"])


def test_a_changed_answer_prompt_or_version_is_scored_again(judged, monkeypatch):
    judged(ONE)
    changed = dataclasses.replace(ONE[0], model_answer="longer now")
    found, scored = judged([changed, *ONE[1:]])
    assert (scored, found.judgments[0].preference) == (2, 1.0)
    asked = dataclasses.replace(changed, messages=[{"role": "user", "content": "another question"}])
    assert judged([asked, *ONE[1:]])[1] == 2
    before = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    turns = [dataclasses.replace(one, messages=[*before, *one.messages]) for one in [asked, *ONE[1:]]]
    assert judged(turns)[1] == 8  # the last turn is what it was
    assert judged(turns)[1] == 0
    assert judged([asked, *ONE[1:]])[1] == 8
    monkeypatch.setattr(Length, "VERSION", 2)
    assert judged([asked, *ONE[1:]])[1] == 8


def test_a_category_that_came_later_costs_no_score(judged):
    judged(ONE)
    found, scored = judged([dataclasses.replace(one, category="rivers") for one in ONE])
    assert (scored, {j.category for j in found.judgments}) == (0, {"rivers"})


def test_results_that_stand_are_left_as_they_are_and_a_file_that_is_gone_comes_back(judged, tmp_path):
    judged(ONE)
    results = tmp_path / "out/results.json"
    before = results.stat().st_mtime_ns
    judged(ONE)
    assert results.stat().st_mtime_ns == before
    for name in ("report.html", "figures.json"):
        (tmp_path / "out" / name).unlink()
        judged(ONE)
        assert (tmp_path / "out" / name).exists()


def test_a_kill_between_judgments_and_results_takes_nothing_for_known_that_is_not(judged, tmp_path):
    """judgments.jsonl is of other answers than results.json, as after a kill between the two."""
    judged(ONE)
    results = (tmp_path / "out/results.json").read_bytes()
    judged([dataclasses.replace(ONE[0], model_answer="longer now")])
    (tmp_path / "out/results.json").write_bytes(results)
    found, scored = judged(ONE)
    assert (scored, [j.preference for j in found.judgments]) == (8, [0.0, 0.5, 1.0, 1.0])
    assert json.loads((tmp_path / "out/results.json").read_bytes())["results"] == found.results["results"]


def test_a_warning_is_said_once_with_all_that_it_is_true_of(judged):
    """All answers are of one length, so that length tells nothing: in both languages, and in all."""
    same = [match(str(i), "one", text, lang) for lang in ("de", "es") for i, text in enumerate(("abcd", "efgh"))]
    found, _ = judged(same)
    warning = found.figures["win_rates"]["warning"]
    assert "the length difference is the same" in warning
    assert found.results["notes"] == [f"long one, long one de, long one es: {warning}"]


def test_one_writer_at_a_time(judged, tmp_path):
    with locked(tmp_path / "out", print), pytest.raises(RunLockedError, match="is being written by process"):
        judged(ONE)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "ends."])
def test_a_judge_is_called_as_a_file_can_be(judged, name):
    with pytest.raises(RecipeError, match="a judge is called"):
        judged(ONE, judge=name)
