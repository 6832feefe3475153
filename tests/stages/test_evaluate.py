"""Figures by language from examples, and their comparison."""

import json
import math
from dataclasses import replace

import pytest

from polypref.backends.base import Context
from polypref.backends.fake import FakeLanguageIdentifier
from polypref.errors import InputError, RecipeError
from polypref.records import Candidate, Example, Pair
from polypref.stages import evaluate as evaluating
from polypref.stages.evaluate import EvaluateOptions, Evaluation, category_name, compare, evaluate, signature

CONTEXT = Context(open=lambda role, spec: FakeLanguageIdentifier(("en", "es")))
USER = [{"role": "user", "content": "Go."}]


def answer(name, lang="es", text="[es] sí", **rest):
    return Candidate(id=name, lang=lang, text=text, **{"origin": "sampled", "finish_reason": "stop", **rest})


def example(name, *candidates, **rest):
    return Example(id=name, prompts={"en": USER, "es": USER}, candidates=list(candidates), **rest)


def figures(examples, **options):
    return evaluate(examples, EvaluateOptions(**{"language_fidelity": False, **options}), CONTEXT).figures()


def test_quality_is_the_mean_of_the_prompts_means():
    """p answers 1 and 0, q answers 1: means ½ and 1, their mean ¾ with s/√2 = ¼; three answers are two prompts."""
    found = figures(
        [
            example("p", answer("p/0", scores={"oracle": 1.0}), answer("p/1", scores={"oracle": 0.0})),
            example("q", answer("q/0", scores={"oracle": 1.0})),
        ],
        quality="oracle",
    )
    assert (found["es"]["quality"], found["es"]["quality_n"]) == (0.75, 2)
    assert found["es"]["quality_stderr"] == pytest.approx(0.25)


def test_quality_is_told_by_category_as_well():
    """sort: 1 and 0, mean ½; Open QA: 1; c has no category and counts in the whole alone: (1 + 0 + 1 + 0) / 4 = ½."""
    said = {"a": ("sort", 1.0), "b": ("sort", 0.0), "o": ("Open QA!", 1.0), "c": (None, 0.0)}
    examples = [
        example(name, answer(f"{name}/0", scores={"oracle": score}), category=category)
        for name, (category, score) in said.items()
    ]
    found = figures(examples, quality="oracle", by_category=True)["es"]
    assert {k: v for k, v in found.items() if k.startswith("quality") and not k.endswith("stderr")} == {
        "quality": 0.5,
        "quality_n": 4,
        "quality_sort": 0.5,
        "quality_sort_n": 2,
        "quality_open_qa": 1.0,
        "quality_open_qa_n": 1,
    }
    assert found["quality_sort_stderr"] == pytest.approx(0.5)
    assert "quality_sort" not in figures(examples, quality="oracle")["es"]
    with pytest.raises(RecipeError, match="by_category needs quality"):
        figures(examples, by_category=True)


def test_a_metric_that_is_added_later_may_be_told_by_category():
    out = Evaluation()
    for prompt, value in {"p": 1.0, "q": 0.5, "r": 0.0}.items():
        out.add("win_rate", "es", prompt, value)
    out.add_by_category("win_rate", {"p": "sort", "q": None})
    assert out.values == {
        "win_rate": {"es": {"p": 1.0, "q": 0.5, "r": 0.0}},
        "win_rate_sort": {"es": {"p": 1.0}},
    }
    out.add_by_category("quality", {"p": "sort"})
    assert set(out.values) == {"win_rate", "win_rate_sort"}


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("Chat (Hard)", "chat_hard"),
        ("Création", "creation"),
        ("n", "n_category"),
        ("top N", "top_n_category"),
        ("stderr", "stderr_category"),
        ("pin", "pin"),
    ],
)
def test_a_category_is_named_in_letters_and_digits_and_is_no_part_of_a_figure(category, name):
    assert category_name(category) == name


def test_a_category_of_which_no_name_is_left_is_refused():
    with pytest.raises(InputError, match="'数学' has no letter from a to z"):
        category_name("数学")


def test_languages_have_figures_of_their_own():
    one = example("p", answer("p/0", scores={"oracle": 1.0}), answer("p/1", lang="en", scores={"oracle": 0.0}))
    found = figures([one], quality="oracle")
    assert (found["es"]["quality"], found["en"]["quality"]) == (1.0, 0.0)
    assert json.loads(json.dumps(found, allow_nan=False))["es"]["quality_stderr"] is None


def test_reward_accuracy_takes_right_against_wrong_answers_of_one_prompt_and_language():
    """p: 2 beats 1 but ties the right 1's own score: wins 1, tie ½ of two pairs; q has no wrong answer and no say."""
    p = example(
        "p",
        answer("p/0", scores={"cross": 2.0, "oracle": 1.0}),
        answer("p/1", scores={"cross": 1.0, "oracle": 1.0}),
        answer("p/2", scores={"cross": 1.0, "oracle": 0.0}),
        answer("p/3", lang="en", scores={"cross": 9.0, "oracle": 0.0}),
    )
    q = example("q", answer("q/0", scores={"cross": -5.0, "oracle": 1.0}))
    found = figures([p, q], quality="oracle", reward_accuracy={"cross_lingual": "cross"})
    assert (found["es"]["reward_accuracy_cross_lingual"], found["es"]["reward_accuracy_cross_lingual_n"]) == (0.75, 1)
    assert "reward_accuracy_cross_lingual" not in found["en"]


@pytest.mark.parametrize("labels", [(True, False), (1, 0), ("right", "wrong"), ("Chosen", "rejected")])
def test_reward_accuracy_reads_labels(labels):
    right, wrong = labels
    p = example("p", answer("p/0", scores={"r": 1.0}, label=right), answer("p/1", scores={"r": 2.0}, label=wrong))
    found = figures([p], reward_accuracy={"translated": "r"})
    assert found["es"]["reward_accuracy_translated"] == 0.0


def test_a_label_that_says_nothing_known_is_refused():
    p = example("p", answer("p/0", scores={"r": 1.0}, label="meh"))
    with pytest.raises(InputError, match=r"'p/0' of example 'p' is 'meh'"):
        figures([p], reward_accuracy={"translated": "r"})


def test_reward_accuracy_reads_pairs():
    p = example(
        "p",
        answer("p/0", scores={"r": 1.0}),
        answer("p/1", scores={"r": 0.0}),
        answer("p/2", scores={"r": 1.0}),
        pairs=[Pair("es", "p/0", "p/1"), Pair("es", "p/0", "p/2"), Pair("es", "p/1", "p/0"), Pair("es", "p/1", "p/2")],
    )
    found = figures([p], reward_accuracy={"cross_lingual": "r"}, truth="pairs")
    assert found["es"]["reward_accuracy_cross_lingual"] == (1 + 0.5 + 0 + 0) / 4


def test_the_quality_of_the_pairs_sides():
    p = example(
        "p",
        answer("p/0", scores={"oracle": 1.0}),
        answer("p/1", scores={"oracle": 0.25}),
        pairs=[Pair("es", "p/0", "p/1")],
    )
    found = figures([p], quality="oracle", pair_quality=True)
    assert (found["es"]["chosen_quality"], found["es"]["rejected_quality"]) == (1.0, 0.25)


def test_language_fidelity_counts_what_can_be_told():
    """Of [es], [en] and an unmarked answer one of the two told is Spanish; a third cannot be told."""
    texts = ("[es] sí", "[en] yes", "42")
    found = figures([example("p", *(answer(t, text=t) for t in texts))], language_fidelity=True)["es"]
    assert found["language_fidelity"] == 0.5
    assert found["language_undetermined"] == pytest.approx(1 / 3)


def test_the_off_target_rate_is_what_fidelity_leaves_with_its_own_error_and_n():
    """p: one of two in another language, q: none of one, r: cannot be told. ½ and 0: mean ¼ ± ¼ over two prompts."""
    texts = {"p": ("[es] sí", "[en] yes"), "q": ("[es] no",), "r": ("42",)}
    found = figures(
        [example(name, *(answer(f"{name}/{t}", text=t) for t in said)) for name, said in texts.items()],
        language_fidelity=True,
    )["es"]
    assert (found["off_target_language"], found["off_target_language_n"]) == (0.25, 2)
    assert found["off_target_language_stderr"] == pytest.approx(0.25)
    assert found["language_fidelity"] == 0.75
    assert "off_target_language" not in figures([example("p", answer("p/0"))])["es"]


def test_language_fidelity_looks_at_the_language_and_not_the_script():
    one = Example(id="p", prompts={"zh-Hans": USER}, candidates=[answer("p/0", lang="zh-Hans", text="[zh] 好")])
    assert figures([one], language_fidelity=True)["zh-Hans"]["language_fidelity"] == 1.0


def test_when_no_language_can_be_told_fidelity_has_no_figure():
    found = figures([example("p", answer("p/0", text="42"))], language_fidelity=True)["es"]
    assert "language_fidelity" not in found
    assert "off_target_language" not in found
    assert found["language_undetermined"] == 1.0


def test_length_truncation_and_failure():
    """A failed answer counts as failed and nowhere else; characters are code points."""
    p = example(
        "p",
        answer("p/0", text="ñ🙂", tokens=4, scores={"oracle": 1.0}),
        answer("p/1", text="abcd", finish_reason="length", scores={"oracle": 0.0}),
        answer("p/2", text="", error="timeout"),
    )
    found = figures([p], quality="oracle")["es"]
    assert found["length_characters"] == 3.0
    assert found["length_tokens"] == 4.0
    assert found["truncated"] == 0.5
    assert found["failed"] == pytest.approx(1 / 3)
    assert found["quality"] == 0.5


def test_a_prompt_whose_answers_all_failed_is_no_zero():
    found = figures([example("p", answer("p/0", error="timeout"))], quality="oracle")["es"]
    assert found["failed"] == 1.0
    assert "quality" not in found


@pytest.mark.parametrize(("estimator", "expected"), [("k1", 1.0), ("k3", (math.exp(-3) + 2 + math.exp(1) - 2) / 2)])
def test_kl_from_the_reference(estimator, expected):
    """Log-ratios 3 and −1: k1's mean is 1, k3's that of e⁻³ − 1 + 3 and e − 1 − 1."""
    p = example(
        "p",
        answer("p/0", scores={"policy_logprob": -10.0, "reference_logprob": -13.0}),
        answer("p/1", scores={"policy_logprob": -8.0, "reference_logprob": -7.0}),
    )
    options = {"policy_logprob": "policy_logprob", "reference_logprob": "reference_logprob", "kl_estimator": estimator}
    assert figures([p], **options)["es"]["kl"] == pytest.approx(expected)


def test_only_answers_of_the_model_and_origin_that_are_asked_for_count():
    p = example(
        "p",
        answer("p/0", model="policy", scores={"oracle": 1.0}),
        answer("p/1", model="reference", scores={"oracle": 0.0}),
        answer("p/2", model="policy", origin="translated", scores={}),
    )
    assert figures([p], quality="oracle", model="policy")["es"]["quality"] == 1.0
    assert figures([p], quality="oracle")["es"]["quality"] == 0.5


def test_a_missing_score_names_the_answer_and_what_is_near():
    p = example("p", answer("p/7", scores={"oracle": 1.0}))
    with pytest.raises(InputError, match=r"'p/7' of example 'p' has no score 'oracel'.*did you mean oracle\?"):
        figures([p], quality="oracel")


def test_an_example_that_comes_twice_is_refused():
    p = example("p", answer("p/0"))
    with pytest.raises(InputError, match="'p' comes a second time"):
        figures([p, p])


@pytest.mark.parametrize("options", [{"policy_logprob": "x"}, {"pair_quality": True}])
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(RecipeError):
        figures([], **options)


def test_examples_are_not_changed():
    p = example("p", answer("p/0", scores={"oracle": 1.0}))
    before = replace(p, candidates=[replace(c) for c in p.candidates])
    figures([p], quality="oracle", language_fidelity=True)
    assert p == before


def test_the_evaluation_is_what_it_was_under_this_version():
    """A change of these figures must raise VERSION, so that stored evaluations are made again."""
    p = example(
        "p",
        answer("p/0", scores={"oracle": 1.0, "r": 2.0}, tokens=3),
        answer("p/1", text="[en] no", scores={"oracle": 0.0, "r": 1.0}, finish_reason="length"),
        answer("p/2", error="timeout"),
    )
    options = EvaluateOptions(quality="oracle", reward_accuracy={"cross_lingual": "r"})
    assert (evaluating.VERSION, evaluate([p], options, CONTEXT).to_json()["values"]) == (
        2,
        {
            "failed": {"es": {"p": 1 / 3}},
            "quality": {"es": {"p": 0.5}},
            "reward_accuracy_cross_lingual": {"es": {"p": 1.0}},
            "length_characters": {"es": {"p": 7.0}},
            "length_tokens": {"es": {"p": 3.0}},
            "truncated": {"es": {"p": 0.5}},
            "language_fidelity": {"es": {"p": 0.5}},
            "off_target_language": {"es": {"p": 0.5}},
            "language_undetermined": {"es": {"p": 0.0}},
        },
    )


# --- comparing and writing down ----------------------------------------------------------------------------------


def step(values):
    return Evaluation({"quality": values})


def test_a_comparison_is_paired_by_prompt():
    """Gains 1 and 0 in es: mean ½ ± ½; 1 and 0 in de on the same prompts: the mean over both is no more certain."""
    before = step({"es": {"p": 0.0, "q": 1.0, "only": 1.0}, "de": {"p": 0.0, "q": 0.0}, "fr": {"p": 1.0}})
    after = step({"es": {"p": 1.0, "q": 1.0}, "de": {"p": 1.0, "q": 0.0}})
    found = compare(before, after, names=("a", "b"))
    assert (found["from"], found["to"], found["metric"], found["mean_over"]) == ("a", "b", "quality", ["es", "de"])
    assert (found["gain"], found["n"]) == (0.5, 2)
    assert found["stderr"] == pytest.approx(0.5)
    assert found["low"] == pytest.approx(0.5 - 12.7062 * 0.5, abs=1e-4)  # Student's t with one degree of freedom
    assert set(found["languages"]) == {"es", "de"}
    assert found["languages"]["es"]["n"] == 2


def test_the_mean_gain_may_leave_the_pivot_out():
    before, after = step({"en": {"p": 1.0}, "es": {"p": 0.0}}), step({"en": {"p": 0.0}, "es": {"p": 1.0}})
    found = compare(before, after, names=("a", "b"), mean_over=["es"])
    assert (found["gain"], found["low"], found["languages"]["en"]["gain"]) == (1.0, None, -1.0)


@pytest.mark.parametrize(("mean_over", "says"), [(["xx"], "in xx; known languages: es"), (None, "in any language")])
def test_a_comparison_without_common_prompts_is_refused(mean_over, says):
    before = step({"es": {"p": 0.0}})
    with pytest.raises(InputError, match=says):
        compare(before, before if mean_over else step({"es": {"q": 0.0}}), names=("a", "b"), mean_over=mean_over)


def test_an_evaluation_survives_json_and_merging():
    one, two = step({"es": {"p": 0.5}}), Evaluation({"kl": {"es": {"p": 2.0}}, "quality": {"es": {"q": 1.0}}})
    both = one.merge(two)
    assert Evaluation.from_json(json.loads(json.dumps(both.to_json()))) == both
    assert both.values == {"quality": {"es": {"p": 0.5, "q": 1.0}}, "kl": {"es": {"p": 2.0}}}
    assert one.values == {"quality": {"es": {"p": 0.5}}}
    assert both.mean("quality").value == 0.75


def test_results_have_the_shape_of_results_json():
    figures = step({"es": {"p": 0.0, "q": 1.0}}).figures()
    found = evaluating.results(
        {"sft": figures}, config={"a": 1}, versions={"polypref": "0"}, date="d", seed=3, signature="s"
    )
    assert found["results"]["sft"]["es"] == {"quality": 0.5, "quality_stderr": pytest.approx(0.5), "quality_n": 2}
    assert [*found] == ["results", "comparisons", "config", "versions", "date", "seed", "signature"]


def test_a_signature_does_not_depend_on_the_order_of_settings():
    one = signature({"view": "cross_lingual", "beta": 0.1, "nll": None, "lc": True, "of": ["a|b", 2]}, "0.1.0")
    assert one == "polypref:0.1.0|beta:0.1|lc:yes|nll:none|of:a/b+2|view:cross_lingual"
    assert one == signature({"of": ["a|b", 2], "lc": True, "nll": None, "beta": 0.1, "view": "cross_lingual"}, "0.1.0")
