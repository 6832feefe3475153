"""The figures of a model's greedy answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sacrebleu.metrics import CHRF

from polypref.backends.base import Completion, Context, Judged, Request, Sampling, ScorerSpec
from polypref.errors import InputError, ModelError
from polypref.records import Candidate, Example
from polypref.stages.answer_quality import AnswerQuality

PROMPTS = {lang: [{"role": "user", "content": f"prompt in {lang}"}] for lang in ("en", "es")}
DATA = [
    Example("1", PROMPTS, [Candidate("a", "en", "the cat sat"), Candidate("b", "en", "a cat sat")], gold=7),
    Example("2", PROMPTS, [Candidate("a", "en", "dogs run"), Candidate("b", "es", "los perros corren")]),
]


class Model:
    """Answers as it is told, by request; a text in brackets is an error."""

    fingerprint = "told"

    def __init__(self, **answers: str) -> None:
        self.answers = {key.replace("_", "/"): text for key, text in answers.items()}

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        self.requests, self.sampling = list(requests), sampling
        told = [self.answers[request.id.removeprefix("r")] for request in requests]
        return [[Completion("", error=t.strip("[]")) if t.startswith("[") else Completion(t)] for t in told]


class Length:
    """Scores an answer by its length; an empty one gets none."""

    fingerprint = "length"

    def score(self, answers: Sequence[Judged]) -> list[float | None]:
        self.seen = list(answers)
        return [float(len(answer.text)) if answer.text else None for answer in answers]


def quality(scorer: Any = None, warnings: list[str] | None = None, **system: str) -> AnswerQuality:
    context = Context(open=lambda role, spec: scorer, warn=(warnings if warnings is not None else []).append)
    spec = ScorerSpec(scorer="length") if scorer is not None else None
    return AnswerQuality(DATA, spec, 9, system, context)


ANSWERS = {"1/en": "a cat sat", "2/en": "dogs ran", "2/es": "los perros"}


def model(**changes: str) -> Model:
    made = Model()
    made.answers = ANSWERS | {key.replace("_", "/"): text for key, text in changes.items()}
    return made


def test_chrf_is_that_of_a_languages_whole_set_against_all_references() -> None:
    """sacrebleu's own corpus score; the second prompt has one reference."""
    found = quality()(model())
    english = CHRF().corpus_score(["a cat sat", "dogs ran"], [["the cat sat", "dogs run"], ["a cat sat", None]])
    spanish = CHRF().corpus_score(["los perros"], [["los perros corren"]])
    assert found == {"chrf": {"en": pytest.approx(english.score), "es": pytest.approx(spanish.score)}}
    assert 0 < spanish.score < english.score < 100


def test_the_answers_are_greedy_and_asked_for_once_a_prompt_and_language() -> None:
    asked = model()
    quality(es="Sé breve.")(asked)
    assert [request.id for request in asked.requests] == ["1/en", "2/en", "2/es"]
    assert asked.requests[2].messages == [{"role": "system", "content": "Sé breve."}, *PROMPTS["es"]]
    assert (asked.sampling.temperature, asked.sampling.max_tokens, asked.sampling.n) == (0, 9, 1)


def test_a_scorer_sees_the_plain_prompt_and_what_is_right_and_its_mean_is_the_figure() -> None:
    scorer = Length()
    found = quality(scorer, es="Sé breve.")(model())
    assert found["score"] == {"en": (9 + 8) / 2, "es": 10.0}
    assert scorer.seen == [Judged("2/es", "es", PROMPTS["es"], "los perros")]


def test_an_answer_without_a_score_is_left_out_and_a_language_without_any_is_refused() -> None:
    assert quality(Length())(model(**{"1_en": ""}))["score"]["en"] == 8.0
    with pytest.raises(ModelError, match="length gives no answer in es a score"):
        quality(Length())(model(**{"2_es": ""}))


def test_a_prompt_that_cannot_be_answered_is_left_out_and_told() -> None:
    warnings: list[str] = []
    found = quality(Length(), warnings)(model(**{"1_en": "[no room]"}))
    assert found["score"]["en"] == 8.0
    assert warnings == ["1 of 3 validation prompts cannot be answered and are left out"]
    with pytest.raises(InputError, match=r"no validation prompt in es can be answered \(no room\); lower max_tokens"):
        quality()(model(**{"2_es": "[no room]"}))
