"""Scores: β·[log π − log π_ref] by hand, and every candidate either scored or dropped with a reason."""

import dataclasses

import pytest

from polypref.backends.base import Context, Logprob
from polypref.errors import InputError, ModelError, RecipeError
from polypref.mistakes import checked
from polypref.records import Candidate, Drop, Example
from polypref.stages.pair import BestWorstOptions, best_worst, fit_best_worst, pair_statistics
from polypref.stages.score import ImplicitOptions, ScorerOptions, by_scorer, implicit


def user(text):
    return [{"role": "user", "content": text}]


def example(*candidates):
    return Example("x", {"en": user("Rivers?"), "es": user("¿Ríos?")}, list(candidates))


class Logprobs:
    """−(number of words) for the policy and −2·(number of words) for the reference; keeps what it was asked."""

    def __init__(self, factor, broken=()):
        self.factor, self.broken, self.asked = factor, dict(broken), []

    def logprobs(self, answers):
        self.asked += answers
        out = []
        for answer in answers:
            words = len(answer.text.split())
            known = Logprob(-self.factor * words, words + answer.finished)
            out.append(self.broken.get(answer.text, known))
        return out


def scored(found, broken=(), **options):
    models = {"p": Logprobs(1.0, broken), "r": Logprobs(2.0)}
    read = checked(ImplicitOptions, {"policy": "p", "reference": "r", **options})
    return list(implicit(found, read, Context(lambda role, spec: models[spec.path]))), models["p"].asked


def test_the_reward_is_β_times_the_log_ratio():
    """Three words: log π = −3, log π_ref = −6, so β·(−3 + 6) = 0.1·3."""
    (found,), _ = scored([example(Candidate("a", "es", "uno dos tres"))])
    assert found.candidates[0].scores == pytest.approx({"implicit": 0.3, "policy_logprob": -3, "reference_logprob": -6})


def test_the_mean_is_over_the_answers_tokens_with_its_end():
    """Three words and the end of turn: 0.1·3/4; a truncated answer has no end: 0.1·3/3."""
    (found,), _ = scored(
        [example(Candidate("a", "es", "uno dos tres"), Candidate("b", "es", "uno dos tres", finish_reason="length"))],
        normalise="mean",
    )
    assert [c.scores["implicit"] for c in found.candidates] == pytest.approx([0.3 / 4, 0.1])


def test_named_scores_stand_side_by_side():
    (found,), _ = scored([example(Candidate("a", "es", "uno", scores={"old": 1.0}))], name="cross")
    assert list(found.candidates[0].scores) == ["old", "cross", "cross_policy_logprob", "cross_reference_logprob"]
    (again,), _ = scored([found], name="multi", view="multilingual")
    assert len(again.candidates[0].scores) == 7


def test_both_models_score_the_same_answer_under_the_same_prompt():
    _, asked = scored([example(Candidate("a", "es", "uno"))])
    assert [a.id for a in asked] == ["x: a"]
    assert asked[0].messages[-1]["content"].endswith("Rivers?")


def test_a_failed_candidate_is_neither_scored_nor_said_again():
    (found,), asked = scored([example(Candidate("a", "es", "", error="no answer"), Candidate("b", "es", "dos"))])
    assert [a.id for a in asked] == ["x: b"]
    assert (found.candidates[0].scores, found.dropped) == ({}, [])


def test_an_answer_beyond_the_window_is_dropped_with_its_reason():
    broken = {"dos": Logprob(0.0, 1, error="9 tokens are more than 8")}
    (found,), _ = scored([example(Candidate("a", "es", "uno"), Candidate("b", "es", "dos"))], broken)
    assert found.candidates[1].error == "not scored: 9 tokens are more than 8"
    assert found.candidates[1].scores == {}
    assert found.dropped == [Drop("score", "too_long", "es", "b")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_stops_the_stage(value):
    with pytest.raises(ModelError, match="candidate 'b' of example 'x' scores"):
        scored([example(Candidate("a", "es", "uno"), Candidate("b", "es", "dos"))], {"dos": Logprob(value, 1)})


def translated():
    return example(
        Candidate("a", "es", "uno dos"),
        Candidate("b", "es", "tres"),
        Candidate("c", "es", "cuatro"),
        Candidate("e", "en", "five"),
        Candidate("a-en", "en", "one two three", origin="translated", parent="a"),
        Candidate("c-en", "en", "four", origin="translated", parent="c"),
    )


def test_the_translated_view_scores_the_translation_for_what_it_translates():
    """a is read as three English words: 0.1·3. b has no translation: dropped, not scored."""
    (found,), asked = scored([translated()], view="translated")
    assert [(a.id, a.text) for a in asked] == [("x: a", "one two three"), ("x: c", "four"), ("x: e", "five")]
    rewards = {c.id: c.scores.get("implicit") for c in found.candidates}
    assert rewards == {"a": pytest.approx(0.3), "b": None, "c": pytest.approx(0.1), "e": pytest.approx(0.1),
                       "a-en": None, "c-en": None}  # fmt: skip
    assert found.dropped == [Drop("score", "no_translation", "es", "b")]


def test_what_has_no_translation_counts_as_failed_when_pairs_are_made():
    found, _ = scored([translated()], view="translated")
    options = BestWorstOptions(score="implicit", language_check=False, length_control="auto")
    context = Context(lambda role, spec: None, ("en", "es"))
    alphas = fit_best_worst(found, options, context)
    (paired,) = best_worst(found, options, context, alphas=alphas)
    assert [(p.chosen, p.rejected) for p in paired.pairs] == [("a", "c")]
    statistics = pair_statistics([paired], options, alphas)
    assert statistics["es"]["dropped"] == {"failed": 1}
    assert statistics["en"]["without_pair"] == {"too_few": 1}


def test_scoring_twice_says_a_drop_once():
    once, _ = scored([translated()], view="translated")
    twice, _ = scored(once, view="translated")
    assert twice == once


def test_the_chunk_does_not_change_the_scores_or_their_order():
    many = [dataclasses.replace(translated(), id=f"x{i}") for i in range(5)]
    whole, _ = scored(many)
    assert scored(many, chunk=2)[0] == whole
    assert [e.id for e in whole] == [e.id for e in many]
    assert many[0] == dataclasses.replace(translated(), id="x0")


def test_a_language_without_its_prompt_is_told():
    with pytest.raises(InputError, match="example 'x' has no prompt in de, which the multilingual view"):
        scored([example(Candidate("a", "de", "eins"))], view="multilingual")


class Length:
    fingerprint = "length-1"

    def __init__(self, worth=len):
        self.worth, self.judged = worth, []

    def score(self, answers):
        self.judged += answers
        return [float(self.worth(a.text)) for a in answers]


def by(found, scorer, **options):
    read = checked(ScorerOptions, {"scorer": "length", **options})
    return list(by_scorer(found, read, Context(lambda role, spec: scorer)))


def test_a_scorer_sees_the_answers_own_prompt_and_gold():
    scorer = Length()
    given = dataclasses.replace(example(Candidate("a", "es", "uno"), Candidate("b", "en", "", error="no")), gold=7)
    (found,) = by([given], scorer)
    assert [c.scores for c in found.candidates] == [{"length": 3.0}, {}]
    (judged,) = scorer.judged
    assert (judged.id, judged.lang, judged.gold, judged.messages) == ("x: a", "es", 7, user("¿Ríos?"))
    assert by([given], Length(), name="other")[0].candidates[0].scores == {"other": 3.0}


def test_a_scorer_that_gives_no_number_or_too_few_is_found_out():
    with pytest.raises(ModelError, match="scores candidate 'a' of example 'x' nan"):
        by([example(Candidate("a", "es", "uno"))], Length(lambda text: float("nan")))
    with pytest.raises(InputError, match="has no prompt in de, the language of candidate 'a'"):
        by([example(Candidate("a", "de", "eins"))], Length())
    short = Length()
    short.score = lambda answers: []
    with pytest.raises(ValueError, match="shorter"):
        by([example(Candidate("a", "es", "uno"))], short)


def test_a_candidate_that_gets_no_score_is_dropped_with_the_reason():
    """An answer of four letters gets none: an error, so that it is in no pair, and one drop, said once."""
    given = example(Candidate("a", "es", "uno"), Candidate("b", "es", "tres"), Candidate("c", "en", "two"))
    scorer = Length()
    scorer.score = lambda answers: [None if len(a.text) == 4 else float(len(a.text)) for a in answers]
    (found,) = by([given], scorer, name="judge")
    assert [c.scores for c in found.candidates] == [{"judge": 3.0}, {}, {"judge": 3.0}]
    assert [c.error for c in found.candidates] == [None, "not scored: length gave no score", None]
    assert found.dropped == [Drop("score", "no_verdict", "es", "b")]
    again = dataclasses.replace(found, candidates=given.candidates)
    assert by([again], scorer, name="judge")[0] == found


def test_progress_is_told_by_chunks():
    done = []
    read = checked(ScorerOptions, {"scorer": "length", "chunk": 2})
    context = Context(lambda role, spec: Length(), progress=lambda *told: done.append(told))
    list(by_scorer([dataclasses.replace(example(), id=f"{i}") for i in range(3)], read, context))
    assert done == [("score length", 2, None), ("score length", 3, None)]


def test_a_scorer_is_opened_by_its_whole_spec():
    asked = []
    settings = {"beta": 0.2}
    read = checked(ScorerOptions, {"scorer": "implicit", "model": "p", "reference": "r", "settings": settings})
    context = Context(lambda role, spec: asked.append((role, spec)) or Length())
    list(by_scorer([example(Candidate("a", "es", "uno"))], read, context))
    ((role, spec),) = asked
    assert (role, spec.model.path, spec.reference.path, spec.settings) == ("scorer", "p", "r", settings)


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"beta": -1}, {"name": ""}, {"view": "x"}, {"pivot": "xx-nope"}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        scored([], **wrong)
