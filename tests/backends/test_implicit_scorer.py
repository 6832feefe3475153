"""The implicit reward as a scorer: by hand, and equal to the scoring stage's multilingual view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from polypref import registry
from polypref.backends.base import Answer, Judged, Logprob, ModelSpec, Scorer, ScorerSpec
from polypref.backends.implicit_scorer import ImplicitScorer
from polypref.backends.judging import ImplicitSettings
from polypref.errors import ModelError, RecipeError
from polypref.mistakes import checked
from polypref.records import Candidate, Example
from polypref.stages.score import ImplicitOptions, ScorerOptions, by_scorer, implicit


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class Words:
    """−factor a word, and the end of the turn for nothing; texts in ``broken`` have what it says."""

    def __init__(self, factor: float, broken: dict[str, Logprob] | None = None) -> None:
        self.factor, self.broken, self.fingerprint = factor, broken or {}, f"words-{factor}"

    def logprobs(self, answers: Sequence[Answer]) -> list[Logprob]:
        assert all(answer.finished for answer in answers)
        words = [len(answer.text.split()) for answer in answers]
        made = [Logprob(-self.factor * count, count + 1) for count in words]
        return [self.broken.get(answer.text, known) for answer, known in zip(answers, made, strict=True)]


ROWS = [Judged("1", "es", asked("x"), "uno dos tres"), Judged("2", "es", asked("x"), "uno")]


def test_the_reward_is_β_times_the_log_ratio() -> None:
    """Three words: log π = −3, log π_ref = −6, so 0.2·(−3 + 6); over 4 tokens with the end in the mean."""
    scorer = ImplicitScorer(Words(1), Words(2), ImplicitSettings(beta=0.2))
    assert isinstance(scorer, Scorer)
    assert scorer.score(ROWS) == pytest.approx([0.6, 0.2])
    mean = ImplicitScorer(Words(1), Words(2), ImplicitSettings(beta=0.2, normalise="mean"))
    assert mean.score(ROWS) == pytest.approx([0.6 / 4, 0.2 / 2])
    assert mean.fingerprint != scorer.fingerprint


def test_it_is_the_stages_multilingual_view() -> None:
    policy, reference = ({"path": path, "backend": "fake"} for path in ("fake?version=2", "fake"))
    example = Example(
        "x",
        {"en": asked("Rivers?"), "es": asked("¿Ríos?")},
        [Candidate("a", "es", "el río"), Candidate("b", "en", "the river runs")],
    )
    context, _ = registry.context(("en", "es"), "en", "fake")
    options = {"policy": policy, "reference": reference, "view": "multilingual", "beta": 0.3}
    (stage,) = implicit([example], checked(ImplicitOptions, options), context)
    spec = {"scorer": "implicit", "model": policy, "reference": reference, "settings": {"beta": 0.3}}
    (scored,) = by_scorer([example], checked(ScorerOptions, spec), context)
    for one, two in zip(scored.candidates, stage.candidates, strict=True):
        assert one.scores["implicit"] == pytest.approx(two.scores["implicit"], abs=1e-12)


def test_beyond_the_window_there_is_no_score() -> None:
    scorer = ImplicitScorer(Words(1), Words(2, {"uno": Logprob(0, 1, "too long")}), ImplicitSettings())
    assert scorer.score(ROWS) == [pytest.approx(0.3), None]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_score_that_is_no_number_names_its_answer(value: float) -> None:
    scorer = ImplicitScorer(Words(1, {"uno": Logprob(value, 1)}), Words(2), ImplicitSettings())
    with pytest.raises(ModelError, match="2: its log-probabilities are"):
        scorer.score(ROWS)


@pytest.mark.parametrize(
    ("given", "missing"), [({}, "model"), ({"model": "p"}, "reference"), ({"reference": "p"}, "model")]
)
def test_both_models_are_needed(given: dict[str, str], missing: str) -> None:
    spec = ScorerSpec(scorer="implicit", **{name: ModelSpec(path=path) for name, path in given.items()})
    with pytest.raises(ModelError, match=f"implicit needs a {missing};"):
        ImplicitScorer.opened(spec, _no_model)


def test_a_wrong_setting_is_told_before_a_model_opens() -> None:
    models = {name: ModelSpec(path="p") for name in ("model", "reference")}
    with pytest.raises(RecipeError, match=r"settings\.beta"):
        ImplicitScorer.opened(ScorerSpec(scorer="implicit", **models, settings={"beta": 0}), _no_model)


def _no_model(*args: Any) -> Any:
    raise AssertionError("opened a model")
