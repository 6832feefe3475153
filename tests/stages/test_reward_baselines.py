"""The length and majority baselines: rules fitted by hand, and against trying every rule there is."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair
from polypref.stages.reward_baselines import ALL, Baselines, LengthRule, fit_baselines
from polypref.stages.reward_items import items_of

USER = [{"role": "user", "content": "Go."}]


def example(name, lang, right, wrong, pairs=True):
    """Answers of those lengths; a pair of the first right and the first wrong one, or labels."""
    answers = [Candidate(f"{lang}{i}", lang, "x" * n, label=i < len(right)) for i, n in enumerate([*right, *wrong])]
    return Example(name, {lang: USER}, answers, [Pair(lang, answers[0].id, answers[len(right)].id)] if pairs else [])


def between(*lengths, lang="en"):
    """One pair for every (chosen, rejected)."""
    return [example(f"{lang}{i}", lang, [a], [b]) for i, (a, b) in enumerate(lengths)]


def single(right, wrong, lang="en"):
    """One labelled answer a prompt."""
    return [
        example(f"{lang}{good}{i}", lang, [n] if good else [], [] if good else [n], pairs=False)
        for good, lengths in ((True, right), (False, wrong))
        for i, n in enumerate(lengths)
    ]


def credits(baselines, examples):
    return [baselines.length(item) for _, item in items_of(examples)]


def test_the_longer_or_the_shorter_answer_is_preferred_by_language():
    """In en the longer is chosen 3 of 4 times, in de the shorter always; together the longer is 3 of 6 and the shorter
    3 of 6, but differences of 1 and 2 (shorter chosen) set apart by a threshold of 2 leave 3 right and 3 ties of 6."""
    data = [*between((9, 1), (8, 2), (7, 3), (1, 2)), *between((2, 4), (3, 4), lang="de")]
    found = fit_baselines(data)
    assert found.between == {
        "en": LengthRule("longer", 1.0, 3.5 / 4),
        "de": LengthRule("shorter", 0.0, 1.0),
        ALL: LengthRule("longer", 2.0, 4.5 / 6),
    }
    assert credits(found, between((5, 3), (3, 5), (5, 4), (4, 4))) == [1.0, 0.0, 0.5, 0.5]
    assert credits(found, between((5, 3), (3, 5), lang="de")) == [0.0, 1.0]


def test_a_language_without_training_data_has_the_rule_of_all_of_it():
    found = fit_baselines(between((9, 1), (9, 1)))
    assert credits(found, between((5, 1), (1, 5), lang="sw")) == [1.0, 0.0]
    assert fit_baselines(single([9, 9, 9], [1])).most_frequent(_first(single([1], [], "sw"))) == 1.0


def test_where_length_says_nothing_it_is_even():
    """Of lengths that are equal, or longer as often as shorter by the same, the best is to call everything a tie."""
    assert fit_baselines(between((3, 3))).between["en"].accuracy == 0.5
    assert fit_baselines(between((5, 1), (1, 5))).between["en"] == LengthRule("longer", 0.0, 0.5)
    near_and_far = fit_baselines(between((5, 1), (1, 5), (9, 1)))
    assert near_and_far.between["en"] == LengthRule("longer", 0.0, 2 / 3)


def test_one_right_answer_among_several_shares_the_first_place():
    """Three of lengths 9, 8, 1, the right one 8: the longer rule is wrong until its threshold reaches 1, then ½; up to
    8 it is ⅓. The shorter rule is wrong until 7."""
    data = [example("g", "en", [8], [9, 1], pairs=False)]
    found = fit_baselines(data)
    assert found.between["en"] == LengthRule("longer", 1.0, 0.5)
    assert credits(found, [example("h", "en", [5], [5, 2, 1], pairs=False)]) == [0.5]
    assert found.most_frequent(_first(data)) == pytest.approx(1 / 3), "chance"


def test_a_single_answer_is_called_right_by_its_length():
    """Right 8, 9 and 2, wrong 1 and 3: longer than 5½ has 4 of 5, as has longer than 1½; the smaller one is taken."""
    found = fit_baselines(single([8, 9, 2], [1, 3]))
    assert found.single["en"] == LengthRule("longer", 1.5, 0.8)
    assert credits(found, single([2], [])) == [1.0]
    assert credits(found, single([], [1])) == [1.0]
    assert credits(found, single([1], [])) == [0.0]
    assert fit_baselines(single([1, 2], [8, 9])).single["en"] == LengthRule("shorter", 5.0, 1.0)


def test_a_rule_may_call_every_answer_the_same():
    """All of length 4, two of three right: everything is called right, whatever its length."""
    found = fit_baselines(single([4, 4], [4]))
    assert found.single["en"] == LengthRule("longer", 3.0, 2 / 3)


def test_the_more_frequent_label_is_the_majority():
    found = fit_baselines([*single([1, 1, 1], [1]), *single([1], [1, 1], "de"), *single([1], [1], "es")])
    right, wrong = (_first(single([1], [], lang)) for lang in ("en", "de")), _first(single([], [1], "de"))
    assert [found.most_frequent(item) for item in right] == [1.0, 0.0]
    assert found.most_frequent(wrong) == 1.0
    assert found.most_frequent(_first(single([1], [], "es"))) == 0.5
    assert found.most_frequent(_first(between((1, 2)))) == 0.5, "neither side of a pair is the more frequent one"


def test_rules_of_the_other_kind_say_nothing():
    pairs, points = fit_baselines(between((2, 1))), fit_baselines(single([2], []))
    assert pairs.length(_first(single([2], []))) is None
    assert pairs.most_frequent(_first(single([2], []))) is None
    assert points.length(_first(between((2, 1)))) is None


def test_baselines_are_written_and_read():
    for found in (fit_baselines(between((9, 1))), fit_baselines(single([9], [1]))):
        assert Baselines.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_nothing_to_learn_from_is_told():
    with pytest.raises(InputError, match="neither a pair nor a labelled answer"):
        fit_baselines([Example("e", {"en": USER})])


def _first(examples):
    return items_of(examples)[0][1]


lengths = st.integers(0, 8)
groups = st.tuples(st.lists(lengths, min_size=1, max_size=3), st.lists(lengths, min_size=1, max_size=3))


@given(st.lists(groups, min_size=1, max_size=8))
def test_no_rule_between_answers_is_better_than_the_fitted_one(rows):
    data = [example(str(i), "en", right, wrong, pairs=False) for i, (right, wrong) in enumerate(rows)]
    found = fit_baselines(data).between["en"]
    items = [item for _, item in items_of(data)]
    assert _accuracy(found, items) == pytest.approx(found.accuracy, abs=1e-12)
    for prefer in ("longer", "shorter"):
        for threshold in range(9):
            assert _accuracy(LengthRule(prefer, threshold, 0.0), items) <= found.accuracy + 1e-9


@given(st.lists(lengths, max_size=8), st.lists(lengths, max_size=8))
def test_no_rule_of_single_answers_is_better_than_the_fitted_one(right, wrong):
    if not right and not wrong:
        return
    data = single(right, wrong)
    baselines = fit_baselines(data)
    found, items = baselines.single["en"], [item for _, item in items_of(data)]
    assert _accuracy(found, items) == pytest.approx(found.accuracy, abs=1e-12)
    for prefer in ("longer", "shorter"):
        for threshold in range(-1, 10):
            assert _accuracy(LengthRule(prefer, threshold + 0.5, 0.0), items) <= found.accuracy + 1e-9
    majority = math.fsum(baselines.most_frequent(item) for item in items) / len(items)
    assert majority <= found.accuracy + 1e-9, "calling all the same is a rule of length, too"


def _accuracy(rule, items):
    return math.fsum(rule.credit(item) for item in items) / len(items)
