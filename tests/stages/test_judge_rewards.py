"""Judging rewards on tables worked by hand: credits, clusters, intervals, κ against the pivot, the gap."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Verdict
from polypref.errors import InputError
from polypref.maths.stats import Estimate, wilson_interval
from polypref.records import Candidate, Example, Pair
from polypref.stages.judge_rewards import (
    Judgement,
    JudgeOptions,
    credit,
    figures,
    judge,
    judge_by_comparer,
    share_interval,
)
from polypref.stages.reward_baselines import fit_baselines

USER = [{"role": "user", "content": "Go."}]
OPTIONS = JudgeOptions(score="rm")


def answer(name, score=None, lang="en", text="yes", **rest):
    return Candidate(id=name, lang=lang, text=text, scores={} if score is None else {"rm": score}, **rest)


def paired(name, margins, category=None, **extra):
    """One pair a language: the chosen answer scores the margin, the rejected one 0."""
    sides = {lang: (answer(f"{lang}+", m, lang), answer(f"{lang}-", 0.0, lang)) for lang, m in margins.items()}
    return Example(
        id=name,
        prompts=dict.fromkeys(margins, USER),
        candidates=[candidate for side in sides.values() for candidate in side],
        pairs=[Pair(lang, f"{lang}+", f"{lang}-") for lang in margins],
        category=category,
        extra=extra,
    )


def grouped(name, right, wrong, lang="en", **rest):
    candidates = [answer(f"r{i}", s, lang, label=True) for i, s in enumerate(right)]
    candidates += [answer(f"w{i}", s, lang, label="rejected") for i, s in enumerate(wrong)]
    return Example(id=name, prompts={lang: USER}, candidates=candidates, **rest)


class Comparer:
    """Prefers the longer answer; between equal ones it flips, and it has nothing to say about "?"."""

    fingerprint = "longer"

    def __init__(self):
        self.asked = []

    def compare(self, comparisons, recall=None, each=None):
        self.asked += comparisons
        return [self.verdict(c) for c in comparisons]

    def verdict(self, c):
        if "?" in c.first + c.second:
            return Verdict(None, error="no verdict")
        if len(c.first) == len(c.second):
            return Verdict(0.5, flipped=True)
        return Verdict(float(len(c.first) > len(c.second)), flipped=False)


# --- credits -------------------------------------------------------------------------------------------------------


def test_a_pair_is_right_wrong_or_tied():
    examples = [paired("a", {"en": 1.0}), paired("b", {"en": -1.0}), paired("c", {"en": 0.0})]
    found = judge(examples, OPTIONS)
    assert [item.credit for item in found.items] == [1.0, 0.0, 0.5]
    assert (found.items[0].right, found.items[0].wrong, found.items[0].right_lengths) == ((1.0,), (0.0,), (3,))


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ((3.0,), (1.0, 2.0, 0.0), 1.0),
        ((2.0,), (1.0, 2.0, 0.0), 1 / 2),
        ((2.0,), (2.0, 2.0, 2.0), 1 / 4),
        ((1.0,), (1.0, 2.0, 0.0), 0.0),
        ((2.0, 0.0), (1.0, 2.0), 1 / 2),
        ((2.0, 2.0), (2.0, 1.0), 2 / 3),
    ],
)
def test_one_right_answer_among_wrong_ones_shares_the_best_score(right, wrong, expected):
    """RewardBench 2: 1/m where the right answer is among the m that score best, 0 where it is not."""
    (item,) = judge([grouped("g", right, wrong)], OPTIONS).items
    assert (item.kind, item.credit) == ("group", pytest.approx(expected))


def test_single_answers_are_judged_by_the_threshold():
    """Labelled answers of which no prompt has both kinds: right ones should score above 0, wrong ones below."""
    examples = [grouped("a", [0.5], []), grouped("b", [], [0.5]), grouped("c", [], [-0.5]), grouped("d", [0.0], [])]
    found = judge(examples, OPTIONS)
    assert [(i.kind, i.credit) for i in found.items] == [("point", c) for c in (1.0, 0.0, 1.0, 0.5)]
    above = judge(examples, JudgeOptions(score="rm", threshold=0.75))
    assert [i.credit for i in above.items] == [0.0, 1.0, 1.0, 0.0]


def test_a_number_as_label_is_right_above_a_half_and_says_nothing_at_it():
    numbers = [answer(f"{n}", n, label=n) for n in (0.2, 0.5, 0.9)]
    found = judge([Example("e", {"en": USER}, numbers)], OPTIONS)
    assert [(i.kind, i.right_ids, i.wrong_ids, i.credit) for i in found.items] == [("group", ("0.9",), ("0.2",), 1.0)]


def test_what_is_judged_can_be_said():
    """A prompt with right and wrong answers is one group, or as many points."""
    example = grouped("g", [2.0], [1.0, -1.0])
    assert [i.kind for i in judge([example], JudgeOptions(score="rm", items="points")).items] == ["point"] * 3
    one_sided = [example, grouped("h", [1.0], [])]
    assert [i.kind for i in judge(one_sided, OPTIONS).items] == ["point"] * 4
    assert [i.example for i in judge(one_sided, JudgeOptions(score="rm", items="groups")).items] == ["g"]


def test_an_answer_that_failed_gives_no_verdict():
    example = paired("a", {"en": 1.0, "es": 1.0})
    example.candidates[0] = replace(example.candidates[0], scores={}, error="not scored: the judge said nothing")
    found = judge([example, paired("b", {"en": 1.0})], OPTIONS)
    assert [item.credit for item in found.items] == [None, 1.0, 1.0]
    by_language = figures(found)
    assert (by_language["en"]["no_verdict"], by_language["en"]["accuracy_n"]) == (0.5, 1)
    assert by_language["es"]["no_verdict"] == 0


@pytest.mark.parametrize(
    ("example", "options", "says"),
    [
        (Example("e", {"en": USER}), {}, "neither a pair nor a labelled answer"),
        (Example("e", {"en": USER}), {"items": "pairs"}, "no pair of a chosen and a rejected answer"),
        (grouped("e", [1.0], []), {"items": "groups"}, "no prompt with both right and wrong answers"),
        (paired("e", {"en": 1.0}), {"score": "mr"}, "the answer 'en\\+' of example 'e' has no score 'mr'.*known: rm"),
        (grouped("e", [None], [1.0]), {}, "'r0' of example 'e' has no score 'rm'.*no score at all"),
        (
            Example("e", {"en": USER}, [answer("a", 1.0, label="so-so")]),
            {},
            "the label of 'a' of example 'e' is 'so-so'",
        ),
        (
            Example("e", {"en": USER}, [answer("a", 1.0, label=7)]),
            {},
            "is 7; write true or false, a number from 0 to 1",
        ),
    ],
)
def test_what_cannot_be_judged_is_told(example, options, says):
    with pytest.raises(InputError, match=says):
        judge([example], JudgeOptions(**{"score": "rm", **options}))


# --- a judge of pairs ----------------------------------------------------------------------------------------------


def texts(name, right, wrong, lang="en"):
    candidates = [answer(f"r{i}", None, lang, t, label=1) for i, t in enumerate(right)]
    candidates += [answer(f"w{i}", None, lang, t, label=0) for i, t in enumerate(wrong)]
    return Example(name, {lang: USER}, candidates)


def test_a_comparer_judges_pairs_with_flips_and_silences():
    examples = [
        texts("longer", ["longest"], ["short"]),
        texts("shorter", ["a"], ["long"]),
        texts("equal", ["one"], ["two"]),
        texts("silent", ["?"], ["long"]),
    ]
    found = judge_by_comparer(examples, Comparer(), OPTIONS)
    assert [(i.credit, i.flipped) for i in found.items] == [(1.0, False), (0.0, False), (0.5, True), (None, None)]
    told = figures(found)["en"]
    assert (told["accuracy"], told["accuracy_n"]) == (0.5, 3)
    assert (told["no_verdict"], told["no_verdict_n"]) == (0.25, 4)
    assert (told["flip_rate"], told["flip_rate_n"]) == (pytest.approx(1 / 3), 3)


def test_a_comparer_holds_every_right_answer_against_every_wrong_one():
    """The best right answer counts, by its worst comparison: 7 letters beat 5 and 3; 4 beat only 3."""
    comparer = Comparer()
    found = judge_by_comparer(
        [texts("g", ["1234", "1234567"], ["12345", "123"]), texts("h", ["1234"], ["12345", "123"])], comparer, OPTIONS
    )
    assert [item.credit for item in found.items] == [1.0, 0.0]
    assert len(comparer.asked) == 6
    assert len({c.id for c in comparer.asked}) == 6


def test_a_comparer_is_not_asked_about_what_failed_nor_twice_about_the_same():
    comparer = Comparer()
    failed, doubled = paired("a", {"en": 1.0}), paired("b", {"en": 1.0})
    failed.candidates[0] = replace(failed.candidates[0], error="failed")
    doubled.pairs *= 2
    found = judge_by_comparer([failed, doubled], comparer, OPTIONS)
    assert [item.credit for item in found.items] == [None, 0.5, 0.5]
    assert len(comparer.asked) == 1


def test_a_comparer_cannot_judge_single_answers():
    """A shard of a language without anything to compare is an empty judgement, as others may have it."""
    assert judge_by_comparer([grouped("a", [1.0], [])], Comparer(), OPTIONS).items == []
    with pytest.raises(InputError, match="a judge of pairs cannot judge single answers"):
        judge_by_comparer([grouped("a", [1.0], [])], Comparer(), JudgeOptions(score="rm", items="points"))


# --- figures -------------------------------------------------------------------------------------------------------


def test_accuracy_counts_prompts_as_clusters():
    """Prompt p has two pairs, both right, q one, wrong: accuracy 2/3 of 2 prompts. Cluster sums about it are 2·1/3 and
    −2/3, so s = √(2·(4/9 + 4/9))/3 = 4/9."""
    p, q = paired("p", {"en": 1.0}), paired("q", {"en": -1.0})
    p.pairs *= 2
    found = figures(judge([p, q], OPTIONS))["en"]
    assert (found["accuracy"], found["accuracy_n"]) == (pytest.approx(2 / 3), 2)
    assert found["accuracy_stderr"] == pytest.approx(4 / 9)
    assert 0 < found["accuracy_low"] < 2 / 3 < found["accuracy_high"] < 1


def test_the_interval_is_wilsons_on_the_number_of_independent_items():
    """s² = p(1 − p)/(n − 1) of single items, so n − 1 of them; prompts that are all right have as many as there are."""
    single = Estimate(0.75, math.sqrt(0.75 * 0.25 / 99), 100)
    assert share_interval(single) == pytest.approx(wilson_interval(0.75 * 99, 99))
    assert share_interval(Estimate(1.0, 0.0, 20)) == wilson_interval(20, 20)
    assert share_interval(Estimate(0.5, None, 1)) == wilson_interval(0.5, 1)
    assert share_interval(Estimate(0.75, 0.2, 100))[0] < share_interval(single)[0], "clusters widen it"


def test_accuracy_by_category_or_by_subset():
    examples = [
        paired("a", {"en": 1.0}, category="Chat Hard"),
        paired("b", {"en": -1.0}, category="Chat Hard"),
        paired("c", {"en": 1.0}, subset="math-prm"),
        paired("d", {"en": 1.0}, subset={"en": "low", "es": "other"}),
    ]
    found = figures(judge(examples, OPTIONS))["en"]
    assert (found["accuracy_chat_hard"], found["accuracy_chat_hard_n"]) == (0.5, 2)
    assert found["accuracy_math_prm"] == 1
    assert found["accuracy_section_low"] == 1
    assert found["accuracy_low"] < 0.75


def test_kappa_against_the_pivot_on_the_same_items():
    """In en right, right, wrong, wrong; in es right, wrong, wrong, wrong: p_o = ¾, p_e = ½·¼ + ½·¾ = ½, κ = ½. The
    fifth item is in es alone."""
    examples = [paired(str(k), {"en": e, "es": s}) for k, (e, s) in enumerate([(1, 1), (1, -1), (-1, -1), (-1, -1)])]
    found = figures(judge([*examples, paired("es alone", {"es": 1})], OPTIONS))
    assert (found["es"]["kappa"], found["es"]["kappa_n"]) == (pytest.approx(0.5), 4)
    assert "kappa" not in found["en"]
    assert "kappa" in figures(judge(examples, OPTIONS), pivot="es")["en"]


def test_an_undefined_kappa_is_none():
    found = figures(judge([paired("a", {"en": 1, "es": 1}), paired("b", {"en": 1, "es": 2})], OPTIONS))
    assert (found["es"]["kappa"], found["es"]["kappa_stderr"], found["es"]["kappa_n"]) == (None, None, 2)
    assert "kappa" not in figures(judge([paired("a", {"es": 1})], OPTIONS))["es"], "no item in the pivot"


def test_the_generalisation_gap_is_training_less_validation():
    """1 of 1·2 prompts against ½ of 2: the gap is ½ with √(0² + ½²), over all four prompts."""
    training = judge([paired("s", {"en": 1.0}), paired("t", {"en": 1.0})], OPTIONS)
    here = judge([paired("a", {"en": 1.0}), paired("b", {"en": -1.0}), paired("c", {"es": 1.0})], OPTIONS)
    found = figures(here, training=training)
    assert found["en"]["generalisation_gap"] == pytest.approx(0.5)
    assert found["en"]["generalisation_gap_stderr"] == pytest.approx(0.5)
    assert found["en"]["generalisation_gap_n"] == 4
    assert "generalisation_gap" not in found["es"]


def test_baselines_stand_beside_the_accuracy_on_the_same_items():
    """The training data prefers the longer answer; here it is chosen once of twice."""

    def lengths(name, chosen, rejected):
        example = paired(name, {"en": 1.0})
        example.candidates = [
            replace(c, text="x" * n) for c, n in zip(example.candidates, (chosen, rejected), strict=True)
        ]
        return example

    baselines = fit_baselines([lengths("t", 9, 3), lengths("u", 8, 2)])
    found = figures(judge([lengths("a", 9, 3), lengths("b", 3, 9)], OPTIONS), baselines=baselines)["en"]
    assert (found["length_baseline"], found["length_baseline_stderr"], found["length_baseline_n"]) == (0.5, 0.5, 2)
    assert (found["majority_baseline"], found["majority_baseline_stderr"]) == (0.5, 0)
    assert "length_baseline" not in figures(judge([lengths("a", 9, 3)], OPTIONS))["en"]


def test_a_judgement_is_written_and_read():
    examples = [paired("a", {"en": 1.0, "es": -1.0}, category="chat", subset="x")]
    found = judge([*examples, paired("b", {"es": 0.0})], OPTIONS)
    assert Judgement.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.languages == ["en", "es"]
    assert [item.example for item in found.of("es")] == ["a", "b"]


# --- what holds of any table ---------------------------------------------------------------------------------------

LANGS = ("en", "es", "de")
margins = st.dictionaries(st.sampled_from(LANGS), st.integers(-2, 2).map(float), min_size=1)
tables = st.lists(margins, min_size=1, max_size=12).map(
    lambda rows: [paired(str(i), row, category=f"c{i % 2}") for i, row in enumerate(rows)]
)


@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_the_examples_changes_no_figure(examples, random):
    shuffled = random.sample(examples, len(examples))
    found, again = figures(judge(examples, OPTIONS)), figures(judge(shuffled, OPTIONS))
    assert found.keys() == again.keys()
    for lang in found:
        assert again[lang] == {name: pytest.approx(value, abs=1e-12) for name, value in found[lang].items()}


@given(tables)
def test_renaming_the_languages_renames_the_figures(examples):
    names = {"en": "ar", "es": "fr", "de": "sw"}
    renamed = [paired(e.id, {names[p.lang]: _margin(e, p) for p in e.pairs}, category=e.category) for e in examples]
    found = figures(judge(renamed, OPTIONS), pivot="ar")
    assert found == {names[lang]: of for lang, of in figures(judge(examples, OPTIONS)).items()}


@given(tables)
def test_negated_scores_have_the_complement_of_the_accuracy(examples):
    """Ties count half, so they are their own complement."""
    negated = [paired(e.id, {p.lang: -_margin(e, p) for p in e.pairs}, category=e.category) for e in examples]
    found, opposite = figures(judge(examples, OPTIONS)), figures(judge(negated, OPTIONS))
    for lang in found:
        assert opposite[lang]["accuracy"] == pytest.approx(1 - found[lang]["accuracy"], abs=1e-12)
        assert opposite[lang]["accuracy_low"] == pytest.approx(1 - found[lang]["accuracy_high"], abs=1e-9)


def _margin(example, pair):
    return example.candidate(pair.chosen).scores["rm"]


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=4),
    st.lists(st.floats(-5, 5), min_size=1, max_size=4),
    st.floats(0.1, 9),
    st.floats(-9, 9),
)
def test_a_credit_depends_on_the_order_of_the_scores_alone(right, wrong, scale, shift):
    ranks = {score: float(i) for i, score in enumerate(sorted({*right, *wrong}))}
    found = credit(right, wrong)
    assert 0 <= found <= 1
    assert credit([ranks[s] for s in right], [ranks[s] for s in wrong]) == found
    stretched = {s: scale * i + shift for s, i in ranks.items()}
    assert credit([stretched[s] for s in right], [stretched[s] for s in wrong]) == found
