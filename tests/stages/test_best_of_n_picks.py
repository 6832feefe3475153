"""Best-of-n: which sample is picked, what is paired and kept, and the curve over n."""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from polypref import registry
from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.errors import InputError
from polypref.maths.best_of_n import kl_bound, kl_terms
from polypref.mistakes import checked
from polypref.records import Candidate, Drop, Example, Pair, parse_example, to_json
from polypref.sandbox import world
from polypref.stages import best_of_n as stage
from polypref.stages import generate as generating
from polypref.stages import score as scoring
from polypref.stages.best_of_n import BestOfNOptions, best_of_n, curve, evaluations, mean_rows
from polypref.stages.evaluate import EvaluateOptions, compare, evaluate
from polypref.stages.pair import BestWorstOptions, best_worst
from polypref.stages.train import TrainStageOptions, training_rows
from polypref.store.atomic import digest

USER = [{"role": "user", "content": "Go."}]
CONTEXT = Context(open=lambda role, spec: FakeLanguageIdentifier(("en", "es")), languages=("en", "es"))


def sample(name: str, rm: float, text: str | None = None, lang: str = "es", **rest: Any) -> Candidate:
    scores = {"rm": rm} | rest.pop("scores", {})
    return Candidate(name, lang, text or name, **({"origin": "sampled", "scores": scores} | rest))


def example(*candidates: Candidate, name: str = "x", **rest: Any) -> Example:
    return Example(name, rest.pop("prompts", {"en": USER, "es": USER}), list(candidates), **rest)


def options(**values: Any) -> BestOfNOptions:
    return BestOfNOptions.model_validate({"score": "rm", "n": 2} | values)


def done(*examples: Example, **values: Any) -> list[Example]:
    return list(best_of_n(examples, options(**values), CONTEXT))


def reasons(found: Example) -> list[tuple[str | None, str]]:
    return [(drop.candidate, drop.reason) for drop in found.dropped]


# --- what is picked -------------------------------------------------------------------------------------------------


def test_the_best_of_the_first_n_is_paired_with_their_worst() -> None:
    """c is better than both and comes third."""
    four = example(sample("a", 1.0), sample("b", 0.25), sample("c", 9.0), sample("d", -9.0))
    (found,) = done(four, n=2)
    assert found.pairs == [Pair("es", "a", "b", "rm", 0.75, "best_of_n")]
    (found,) = done(four, n=[4, 1])
    assert found.pairs == [Pair("es", "c", "d", "rm", 18.0, "best_of_n")]


def test_equal_scores_go_to_the_earlier_sample() -> None:
    (found,) = done(example(sample("a", 0.0), sample("b", 1.0), sample("c", 1.0), sample("d", 0.0)), n=4)
    assert (found.pairs[0].chosen, found.pairs[0].rejected) == ("b", "a")


def test_every_language_has_its_own_pair_and_other_origins_do_not_compete() -> None:
    (found,) = done(
        example(
            sample("a", 1.0),
            sample("t", 9.0, origin="translated"),
            sample("h", 9.0, origin="human"),
            sample("r", 9.0, origin="reference"),
            sample("b", 0.0, origin=None),
            sample("c", 1.0, lang="en"),
            sample("d", 2.0, lang="en"),
        )
    )
    assert [(p.lang, p.chosen, p.rejected) for p in found.pairs] == [("en", "d", "c"), ("es", "a", "b")]


def test_what_failed_or_was_cut_short_counts_as_drawn_and_is_never_picked() -> None:
    four = example(
        sample("a", 5.0, error="timeout", scores={}),
        sample("b", 4.0, finish_reason="length"),
        sample("c", 1.0),
        sample("d", 0.0),
        sample("e", 8.0),
    )
    (found,) = done(four, n=4)
    assert (found.pairs[0].chosen, found.pairs[0].rejected) == ("c", "d")
    assert reasons(found) == [("a", "failed"), ("b", "truncated")]
    (found,) = done(four, n=4, drop_truncated=False)
    assert found.pairs[0].chosen == "b"
    (found,) = done(four, n=3)
    assert (found.pairs, reasons(found)[-1]) == ([], (None, "too_few"))


def test_an_answer_in_another_language_is_picked_unless_that_is_checked() -> None:
    three = example(sample("a", 5.0, "[en] yes"), sample("b", 1.0, "[es] sí"), sample("c", 0.0, "[es] no"))
    assert done(three, n=3)[0].pairs[0].chosen == "a"
    (found,) = done(three, n=3, language_check=True)
    assert (found.pairs[0].chosen, reasons(found)) == ("b", [("a", "language")])


@pytest.mark.parametrize(
    ("candidates", "reason"),
    [
        ([sample("a", 1.0), sample("b", 1.0)], "tied"),
        ([sample("a", 1.0, "same"), sample("b", 0.0, "same")], "duplicate"),
        ([sample("a", 1.0, origin="human")], "too_few"),
        ([sample("a", 1.0, lang="de"), sample("b", 0.0, lang="de")], "no_prompt"),
    ],
)
def test_a_language_without_a_pair_says_why(candidates: list[Candidate], reason: str) -> None:
    (found,) = done(example(*candidates))
    assert (found.pairs, reasons(found)) == ([], [(None, reason)])


def test_one_sample_has_nothing_to_be_paired_with() -> None:
    (found,) = done(example(sample("a", 1.0), sample("b", 2.0)), n=1)
    assert (found.pairs, reasons(found)) == ([], [(None, "too_few")])


def test_a_second_pass_gives_the_same_and_changes_no_example() -> None:
    given = example(sample("a", 5.0, finish_reason="length"), sample("b", 1.0), sample("c", 0.0), name="q")
    given.dropped.append(Drop("generate", "prompt_too_long", "en"))
    before = copy.deepcopy(given)
    once = done(given, n=3)
    assert given == before
    assert done(*once, n=3) == once
    assert [drop.stage for drop in once[0].dropped] == ["generate", "pair"]


# --- soft picks -----------------------------------------------------------------------------------------------------


def test_soft_picks_come_as_often_as_their_softmax_says() -> None:
    """Scores 0 and log 3 at temperature 1: the second in ¾ of 2000 prompts, standard error 0.0097."""
    prompts = [example(sample("a", 0.0), sample("b", math.log(3)), name=str(i)) for i in range(2000)]
    kept = done(*prompts, temperature=1.0, keep="picked")
    share = Counter(found.candidates[0].id for found in kept)["b"] / 2000
    assert share == pytest.approx(0.75, abs=0.04)
    assert kept == done(*prompts, temperature=1.0, keep="picked")
    assert kept != done(*prompts, temperature=1.0, keep="picked", seed=1)
    assert kept[7:8] == done(prompts[7], temperature=1.0, keep="picked")


def test_a_low_temperature_is_best_of_n_itself() -> None:
    prompts = [example(sample("a", 0.0), sample("b", 0.5), sample("c", 0.4), name=str(i)) for i in range(50)]
    assert done(*prompts, n=3, temperature=1e-3) == done(*prompts, n=3)


def test_a_soft_pick_that_is_the_worst_has_no_pair() -> None:
    prompts = [example(sample("a", 0.0), sample("b", 0.5), name=str(i)) for i in range(50)]
    found = done(*prompts, temperature=1e6)
    assert {(bool(e.pairs), *reasons(e)) for e in found} == {(True,), (False, (None, "tied"))}


# --- what becomes of it ---------------------------------------------------------------------------------------------


def test_picked_samples_alone_are_records_like_any_other() -> None:
    """They are read again, and their quality is that of the picked ones: b's 1 and d's 0."""
    given = [
        example(sample("a", 0.0, scores={"judge": 0.0}), sample("b", 1.0, scores={"judge": 1.0}), name="p"),
        example(sample("c", 0.0, scores={"judge": 1.0}), sample("d", 1.0, scores={"judge": 0.0}), name="q"),
        example(sample("e", 0.0, error="timeout"), sample("f", 0.0, finish_reason="length"), name="r"),
    ]
    kept = [parse_example(to_json(e)) for e in done(*given, keep="picked")]
    assert [[(c.id, c.extra) for c in e.candidates] for e in kept] == [
        [("b", {"best_of": 2})],
        [("d", {"best_of": 2})],
        [],
    ]
    assert reasons(kept[2]) == [("e", "failed"), ("f", "truncated"), (None, "too_few")]
    figures = evaluate(kept, EvaluateOptions(quality="judge", language_fidelity=False), CONTEXT).figures()
    assert (figures["es"]["quality"], figures["es"]["quality_n"]) == (0.5, 2)


def test_sft_trains_on_the_picked_sample_of_every_prompt() -> None:
    """Rejection-sampling fine-tuning; the first sample may be the best, so it is no use as the rejected side."""
    given = [
        example(sample("a", 1.0, "uno"), sample("b", 0.0, "dos"), name="p"),
        example(sample("c", 0.0, "tres"), sample("d", 1.0, "cuatro"), name="q"),
    ]
    rows = training_rows(done(*given), TrainStageOptions(method="sft", start="fake"), CONTEXT)
    assert [row.chosen.text for row in rows] == ["uno", "cuatro"]


def test_the_output_can_be_paired_by_another_rule() -> None:
    (paired,) = best_worst(
        done(example(sample("a", 1.0), sample("b", 0.0), sample("c", 2.0))),
        BestWorstOptions(score="rm", language_check=False),
        CONTEXT,
    )
    assert [(p.chosen, p.rejected, p.rule) for p in paired.pairs] == [("c", "b", "best_worst")]


# --- the curve ------------------------------------------------------------------------------------------------------


def test_the_curve_by_hand() -> None:
    """p: rm 1, 2, 3 with a judge that says 0, 6, 3; q: rm 0 throughout, judged 3, 3, 9.

    n = 1 gives p's means 2 and 3, q's 0 and 5; n = 2 gives p (2 + 3 + 3)/3 = 8/3 and (6 + 3 + 3)/3 = 4, q 0 and, ties
    shared, 5; n = 3 gives 3 and 3, 0 and 5. Over the two prompts: mean and half the difference.
    """
    p = example(*(sample(f"p{i}", s, scores={"judge": j}) for i, (s, j) in enumerate([(1, 0), (2, 6), (3, 3)])))
    q = example(*(sample(f"q{i}", 0.0, scores={"judge": j}) for i, j in enumerate([3, 3, 9])), name="q")
    rows = curve([p, q], options(n=[3, 1, 2], quality="judge"), CONTEXT)["es"]
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert [row["score"] for row in rows] == pytest.approx([1, 4 / 3, 1.5])
    assert [row["score_stderr"] for row in rows] == pytest.approx([1, 4 / 3, 1.5])
    assert [row["quality"] for row in rows] == pytest.approx([4, 4.5, 4])
    assert [row["quality_stderr"] for row in rows] == pytest.approx([1, 0.5, 1])
    assert [row["quality_n"] for row in rows] == [2, 2, 2]
    assert [row["kl_bound"] for row in rows] == [kl_bound(n) for n in (1, 2, 3)]
    assert [row["length_characters"] for row in rows] == [2, 2, 2]
    assert "kl" not in rows[0]


def test_languages_have_curves_of_their_own_and_a_mean_clustered_by_prompt() -> None:
    """es 0 and 2, en 1 and 3 by prompt: means 1 and 2, together 3/2; by prompt ½ and 5/2, so s/√2 = 1."""
    given = [
        example(sample("a", es), sample("b", en, lang="en"), name=name) for name, es, en in (("p", 0, 1), ("q", 2, 3))
    ]
    found = evaluations(given, options(n=1), CONTEXT)
    assert {lang: rows[0]["score"] for lang, rows in stage.rows(found).items()} == {"es": 1, "en": 2}
    (mean,) = mean_rows(found)
    assert (mean["n"], mean["score"], mean["score_n"]) == (1, 1.5, 2)
    assert mean["score_stderr"] == pytest.approx(1)


def test_the_gain_from_one_n_to_another_is_paired_by_prompt() -> None:
    """p gains ½, q gains 1 from n = 1 to n = 2."""
    given = [
        example(sample("a", 0.0), sample("b", 1.0), name="p"),
        example(sample("c", 5.0), sample("d", 7.0), name="q"),
    ]
    found = evaluations(given, options(n=[1, 2]), CONTEXT)
    gain = compare(found[1], found[2], names=("best of 1", "best of 2"), metric="score")
    assert (gain["gain"], gain["stderr"], gain["n"]) == (0.75, pytest.approx(0.25), 2)


def test_what_may_not_be_given_counts_in_the_curve_as_drawn() -> None:
    """1, 2 and one cut short: the sets of 2 give 2, 1, 2; a prompt without any answer has no value."""
    p = example(sample("a", 1.0), sample("b", 2.0), sample("c", 9.0, finish_reason="length"))
    q = example(*(sample(f"q{i}", 0.0, error="timeout") for i in range(3)), name="q")
    (row,) = curve([p, q], options(n=2), CONTEXT)["es"]
    assert (row["score"], row["score_n"]) == (pytest.approx(5 / 3), 1)


def test_the_kl_is_read_off_the_picked_samples() -> None:
    """Of 0 and 1 the second is always the best of two: its log π = log ½ counts, and its log-ratio log ½ − log ¼."""
    logprobs = [(-3.0, -9.0), (math.log(0.5), math.log(0.25))]
    p = example(*(sample(f"p{i}", i, scores={"own": a, "sft": b}) for i, (a, b) in enumerate(logprobs)))
    (row,) = curve([p], options(n=2, policy_logprob="own", reference_logprob="sft"), CONTEXT)["es"]
    expected = kl_terms(2, [math.log(0.5)])[0]
    assert row["kl"] == pytest.approx(expected)
    assert row["kl_from_reference"] == pytest.approx(expected + math.log(2))
    assert row["kl"] < row["kl_bound"]


def test_a_soft_curve_is_the_mean_softmax() -> None:
    """Scores 0 and log 3, judged 0 and 1: ¾ at n = 2, ½ at n = 1."""
    p = example(sample("a", 0.0, scores={"judge": 0}), sample("b", math.log(3), scores={"judge": 1}))
    rows = curve([p], options(n=[1, 2], quality="judge", temperature=1.0), CONTEXT)["es"]
    assert [row["quality"] for row in rows] == pytest.approx([0.5, 0.75])


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [lambda *a: list(best_of_n(*a)), curve])
def test_n_beyond_the_samples_is_refused_with_the_fix(work: Any) -> None:
    two = [example(sample("a", 1.0), sample("b", 0.0), name="q-7")]
    told = (
        "example 'q-7' has 2 samples in es, so there is no best of 64; draw 64 with polypref generate --n 64, or ask "
        "for n up to 2"
    )
    with pytest.raises(InputError) as error:
        work(two, options(n=[1, 64]), CONTEXT)
    assert str(error.value) == told


def test_samples_of_several_models_are_refused_unless_one_is_named() -> None:
    four = example(*(sample(name, s, model=name[0]) for name, s in (("p1", 0), ("r1", 9), ("p2", 1), ("r2", 8))))
    with pytest.raises(InputError, match="of example 'x' in es are of the models p, r; name the one"):
        done(four)
    assert done(four, model="p")[0].pairs[0].chosen == "p2"
    with pytest.raises(InputError, match="no sample of the model 'z' may be picked in 1 examples"):
        curve([four], options(model="z"), CONTEXT)


@pytest.mark.parametrize("name", ["score", "quality", "policy_logprob"])
def test_a_score_that_is_not_there_is_refused(name: str) -> None:
    two = example(sample("a", 1.0, scores={"judge": 1.0}), sample("b", 0.0, scores={"judge": 1.0}))
    with pytest.raises(InputError, match=r"candidate 'a' of example 'x' has no score 'juge'; score it first .*judge\?"):
        curve([two], options(**{name: "juge"}), CONTEXT)


def test_an_id_that_comes_twice_is_refused() -> None:
    two = example(sample("a", 1.0), sample("b", 0.0))
    with pytest.raises(InputError, match="'x' comes a second time"):
        curve([two, two], options(), CONTEXT)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"n": []}, "at least 1 item"),
        ({"n": [4, 0]}, "holds 0; every n must be at least 1"),
        ({"temperature": 0}, "greater than 0"),
        ({"reference_logprob": "sft"}, "reference_logprob needs policy_logprob"),
        ({"keep": "best"}, "'all' or 'picked'"),
    ],
)
def test_options_that_make_no_sense_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        options(**values)


def test_n_is_sorted_and_each_counts_once() -> None:
    assert (options(n=[16, 1, 4, 4]).n, options(n=8).n, options(n=[2, 8]).most) == ((1, 4, 16), (8,), 8)


# --- from prompts to a pick -----------------------------------------------------------------------------------------


def drawn_and_scored() -> tuple[list[Example], Context]:
    """Eight samples of a fake model a prompt and language, scored by a fake."""
    languages = ("en", "es")
    context, _ = registry.context(languages, "en", "fake")
    prompts = [Example(row["id"], dict.fromkeys(languages, USER)) for row in world.prompts("train", 6, 0)]
    source = {"role": "policy", "model": {"path": "fake?errors=0.1", "backend": "fake"}, "n": 8}
    sampling = {"temperature": 0.9, "max_tokens": 40, "seed": 3}
    asked = checked(generating.GenerateOptions, {"sources": [source], "sampling": sampling})
    drawn = generating.generate(prompts, asked, context)
    return list(scoring.by_scorer(drawn, scoring.ScorerOptions(scorer="fake", name="rm"), context)), context


def test_sampled_and_scored_answers_go_straight_in() -> None:
    """The curve rises with n, and at n = 8 of 8 it is the score of the picked samples."""
    examples, context = drawn_and_scored()
    asked = options(n=[1, 2, 4, 8], keep="picked")
    rows = curve(examples, asked, context)
    kept = list(best_of_n(examples, asked, context))
    for lang in ("en", "es"):
        scores = [row["score"] for row in rows[lang]]
        assert scores == sorted(scores)
        picked = [c.scores["rm"] for e in kept for c in e.candidates if c.lang == lang]
        assert scores[-1] == pytest.approx(sum(picked) / len(picked))


def test_the_output_is_what_it_was_under_this_version() -> None:
    examples, context = drawn_and_scored()
    made = [to_json(e) for soft in (None, 0.5) for e in best_of_n(examples, options(n=8, temperature=soft), context)]
    output = digest([[found["pairs"], found["dropped"]] for found in made])
    assert (stage.VERSION, output[:16]) == (1, "72abc7d188b4f6d6")
