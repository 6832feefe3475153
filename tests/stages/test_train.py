"""The train stage: which prompt, which reference and which answers a trainer is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from polypref.backends.base import Answer, Context, Logprob, ModelSpec, PreferenceRow, Progress
from polypref.backends.training import LoraOptions, TrainOptions
from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair
from polypref.stages.score import ImplicitOptions
from polypref.stages.train import KEPT, TrainStageOptions, train, trained, training_rows


class Reference:
    """log p = −(characters), and a note of every answer that was asked for."""

    fingerprint = "reference"

    def __init__(self) -> None:
        self.asked: list[Answer] = []

    def logprobs(self, answers: Sequence[Answer]) -> list[Logprob]:
        self.asked += answers
        return [Logprob(-float(len(a.text)), 1, "beyond the window" if a.text == "long" else None) for a in answers]


class Noted:
    """A trainer that notes what it is given."""

    fingerprint = "noted"

    def train(
        self, rows: Sequence[PreferenceRow], start: ModelSpec, options: TrainOptions, folder: Path, progress: Progress
    ) -> dict[str, Any]:
        self.given = (rows, start, options, folder)
        return {"rows": len(rows)}


class House:
    """A context whose reference and trainer can be looked at afterwards; ``order`` is what was done with it."""

    def __init__(self) -> None:
        self.reference, self.trainer = Reference(), Noted()
        self.order: list[Any] = []
        self.told: list[tuple[str, int, int | None]] = []
        self.context = Context(
            open=self.open,
            release=lambda: self.order.append("release"),
            progress=lambda *news: self.told.append(news),
        )

    def open(self, role: str, spec: Any) -> Any:
        self.order.append((role, spec))
        return self.reference if role == "logprobs" else self.trainer


START, OTHER = ModelSpec(path="round-1"), ModelSpec(path="sft")
PROMPTS = {
    "en": [{"role": "user", "content": "Name a river."}],
    "es": [{"role": "user", "content": "Nombra un río."}],
}
EXAMPLE = Example(
    id="uf-1",
    prompts=PROMPTS,
    candidates=[
        Candidate("a", "es", "El Ebro.", token_ids=[7, 8], finish_reason="stop"),
        Candidate("b", "es", "El Duero y", finish_reason="length"),
        Candidate("c", "en", "The Thames."),
        Candidate("d", "en", "long"),
        Candidate("e", "en", "", error="refused"),
    ],
    pairs=[Pair("es", "a", "b"), Pair("es", "c", "b"), Pair("en", "c", "d")],
)


def options(**changes: Any) -> TrainStageOptions:
    return TrainStageOptions(**{"start": START, **changes})


def test_a_row_has_the_plain_prompt_of_its_pairs_language() -> None:
    """Also where the chosen answer is in another language: a pair's language is its prompt's."""
    rows = training_rows([EXAMPLE], options(), House().context)
    assert [(r.id, r.lang, r.chosen.text, r.rejected.text) for r in rows] == [
        ("uf-1/es", "es", "El Ebro.", "El Duero y"),
        ("uf-1/es", "es", "The Thames.", "El Duero y"),
        ("uf-1/en", "en", "The Thames.", "long"),
    ]
    assert [r.chosen.messages for r in rows] == [PROMPTS["es"], PROMPTS["es"], PROMPTS["en"]]
    assert all(r.chosen.messages == r.rejected.messages for r in rows)


def test_a_system_prompt_is_put_before_it_by_language() -> None:
    rows = training_rows([EXAMPLE], options(system={"spa": "Sé breve."}), House().context)
    assert rows[0].chosen.messages == [{"role": "system", "content": "Sé breve."}, *PROMPTS["es"]]
    assert rows[2].chosen.messages == PROMPTS["en"]


def test_sampled_ids_and_the_missing_end_of_turn_are_handed_on() -> None:
    first = training_rows([EXAMPLE], options(), House().context)[0]
    assert (first.chosen.token_ids, first.chosen.finished) == ([7, 8], True)
    assert (first.rejected.token_ids, first.rejected.finished) == (None, False)


def test_each_answer_is_scored_once_under_each_prompt() -> None:
    house = House()
    rows = training_rows([EXAMPLE], options(chunk=2), house.context)
    assert [(a.messages[0]["content"], a.text) for a in house.reference.asked] == [
        ("Nombra un río.", "El Ebro."),
        ("Nombra un río.", "El Duero y"),
        ("Nombra un río.", "The Thames."),
        ("Name a river.", "The Thames."),
        ("Name a river.", "long"),
    ]
    sums = [(r.reference_chosen.sum, r.reference_rejected.sum) for r in rows if r.reference_chosen]
    assert sums == [(-8.0, -10.0), (-11.0, -10.0), (-11.0, -4.0)]
    assert rows[2].reference_rejected is not None
    assert rows[2].reference_rejected.error == "beyond the window"
    assert house.told[-1] == ("score with the training reference", 5, 5)


def test_the_reference_is_the_start_model_unless_another_is_named() -> None:
    for told, expected in ((None, START), (OTHER, OTHER)):
        house = House()
        train([EXAMPLE], options(reference=told), house.context, Path("out"))
        assert house.order == [("logprobs", expected), "release", ("trainer", "dpo")]
        assert house.trainer.given[1] == START


def test_a_start_model_of_vllm_is_scored_by_transformers() -> None:
    house = House()
    training_rows([EXAMPLE], options(start={"path": "m", "backend": "vllm"}), house.context)
    assert house.order == [("logprobs", ModelSpec(path="m"))]


def scored_by(view: str, **changes: Any) -> ImplicitOptions:
    return ImplicitOptions(**{"policy": OTHER, "reference": START, "view": view, "name": view, **changes})


def with_scores(name: str) -> Example:
    """The example whose answers were told apart from what the reference would say now."""
    scores = {f"{name}_reference_logprob": 0.5}
    return dataclasses.replace(EXAMPLE, candidates=[dataclasses.replace(c, scores=scores) for c in EXAMPLE.candidates])


def stored_sums(example: Example, **changes: Any) -> tuple[list[float], list[str]]:
    """The rows' log-probabilities, and the answers that the reference was asked again."""
    house = House()
    rows = training_rows([example], options(**changes), house.context)
    known = [one for row in rows for one in (row.reference_chosen, row.reference_rejected)]
    return [one.sum for one in known if one], [answer.text for answer in house.reference.asked]


def test_what_the_scoring_has_asked_of_the_same_model_is_not_asked_again() -> None:
    """But an English answer under a Spanish prompt was scored under its own, so it is."""
    sums, asked = stored_sums(with_scores("multilingual"), scored=scored_by("multilingual"))
    assert sums == [0.5, 0.5, -11.0, 0.5, 0.5, 0.5]
    assert asked == ["The Thames."]


def test_under_the_pivot_prompt_only_the_pivot_answers_were_asked_the_same() -> None:
    sums, asked = stored_sums(with_scores("cross_lingual"), scored=scored_by("cross_lingual"))
    assert sums[4:] == [0.5, 0.5]
    assert asked == ["El Ebro.", "El Duero y", "The Thames."]


@pytest.mark.parametrize(
    "changes",
    [
        {"scored": scored_by("multilingual", reference=OTHER)},
        {"scored": scored_by("multilingual", reference=START.model_copy(update={"dtype": "bfloat16"}))},
        {"scored": scored_by("multilingual", name="another")},
        {"scored": scored_by("multilingual"), "system": {"es": "Sé breve.", "en": "Be brief."}},
        {"scored": None},
    ],
)
def test_of_another_model_score_or_prompt_nothing_is_taken(changes: dict[str, Any]) -> None:
    sums, asked = stored_sums(with_scores("multilingual"), **changes)
    assert sums == [-8.0, -10.0, -11.0, -10.0, -11.0, -4.0]
    assert len(asked) == 5


def test_how_the_answers_were_scored_changes_no_training() -> None:
    asked = [options(scored=scored).identity(lambda spec: spec.path) for scored in (None, scored_by("multilingual"))]
    assert asked[0] == asked[1]


def test_an_interrupted_training_does_not_ask_the_reference_again(tmp_path: Path) -> None:
    class Interrupted(Noted):
        def train(self, *given: Any) -> dict[str, Any]:
            raise KeyboardInterrupt

    first, second, other = House(), House(), House()
    first.trainer = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        train([EXAMPLE], options(), first.context, tmp_path)
    assert len(first.reference.asked) == 5
    assert (tmp_path / KEPT).exists()
    rows = training_rows([EXAMPLE], options(), other.context)
    training_rows([EXAMPLE], options(reference=OTHER), other.context, tmp_path / KEPT)
    assert len(other.reference.asked) == 10  # another reference is asked, and what it says is kept in its turn
    (tmp_path / KEPT).unlink()
    training_rows([EXAMPLE], options(), other.context, tmp_path / KEPT)
    train([EXAMPLE], options(), second.context, tmp_path)
    assert second.reference.asked == []
    assert second.trainer.given[0] == rows
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["sft", "kto"])
def test_sft_and_kto_need_no_scores(method: str) -> None:
    house = House()
    rows = training_rows([EXAMPLE], options(method=method), house.context)
    assert house.order == []
    assert all(r.reference_chosen is None and r.reference_rejected is None for r in rows)


def test_kto_refuses_a_reference_that_it_could_not_hold_to() -> None:
    assert options(method="kto", reference=START)
    with pytest.raises(ValidationError, match="reference differs from start"):
        options(method="kto", reference=OTHER)


def test_the_trainer_hears_its_own_options_and_no_model() -> None:
    house = House()
    asked = options(learning_rate=1e-4, lora={"r": 3}, system={"en": "Hi."})
    summary = train([EXAMPLE], asked, house.context, Path("out"))
    rows, start, told, folder = house.trainer.given
    assert told == TrainOptions(learning_rate=1e-4, lora=LoraOptions(r=3))
    assert (len(rows), start, folder, summary) == (3, START, Path("out"), {"rows": 3})


def test_a_pair_without_prompt_or_with_a_failed_answer_is_refused() -> None:
    orphan = dataclasses.replace(EXAMPLE, pairs=[Pair("de", "a", "b")])
    with pytest.raises(InputError, match=r"uf-1.*no prompt"):
        training_rows([orphan], options(), House().context)
    failed = dataclasses.replace(EXAMPLE, pairs=[Pair("en", "c", "e")])
    with pytest.raises(InputError, match="'e', which failed"):
        training_rows([failed], options(), House().context)


def test_what_was_trained_is_opened_as_a_model_or_as_an_adapter() -> None:
    out = Path("out")
    base = {"path": "base", "adapter": "first"}
    assert trained(options(), out) == ModelSpec(path="out")
    assert trained(options(lora={}), out) == ModelSpec(path="round-1", adapter="out")
    assert trained(options(lora={"merge": True}), out) == ModelSpec(path="out")
    assert trained(options(start=base, lora={}), out) == ModelSpec(path="out")
