"""The stage of supervised fine-tuning: which rows a trainer is given, and how its outcome is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from polypref.backends.base import Answer, Context, ModelSpec, Progress
from polypref.backends.sft_training import Measure, SFTRow, SFTTrainOptions
from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair
from polypref.stages.answer_quality import AnswerQuality
from polypref.stages.train_sft import TrainSFTOptions, remarks, train_sft, trained_sft

START = ModelSpec(path="base")
PROMPTS = {
    "en": [{"role": "user", "content": "Name a river."}],
    "es": [{"role": "user", "content": "Nombra un río."}],
}


def example(name: str, *candidates: Candidate, **rest: Any) -> Example:
    return Example(name, PROMPTS, list(candidates), **rest)


BOTH = example(
    "1",
    Candidate("a", "en", "The Thames.", origin="human", token_ids=[1, 2]),
    Candidate("b", "en", "The Severn and the", origin="human", finish_reason="length"),
    Candidate("c", "es", "El Ebro."),
)
SPANISH = example("2", Candidate("c", "es", "El Tajo."))


class House:
    """A context whose trainer notes what it is given; ``order`` is what was done with the context."""

    fingerprint = "noted"

    def __init__(self) -> None:
        self.order: list[Any] = []
        self.warnings: list[str] = []
        self.context = Context(open=self.open, release=lambda: self.order.append("release"), warn=self.warnings.append)

    def open(self, role: str, spec: Any) -> House:
        self.order.append((role, spec))
        return self

    def train(
        self,
        rows: Sequence[SFTRow],
        validation: Sequence[SFTRow],
        start: ModelSpec,
        options: SFTTrainOptions,
        folder: Path,
        progress: Progress,
        measure: Measure | None = None,
    ) -> dict[str, Any]:
        self.rows, self.validation, self.start, self.options, self.folder = rows, validation, start, options, folder
        self.measure = measure
        return {"rows": len(rows), "dropped": {}, "validation_dropped": {}}


def train(examples: list[Example], validation: list[Example] | None = None, **changes: Any) -> House:
    house = House()
    asked = TrainSFTOptions(**{"start": START, **changes})
    house.summary = train_sft(examples, validation or [], asked, house.context, Path("out"))  # type: ignore[attr-defined]
    return house


def test_a_demonstration_is_a_row_under_the_prompt_of_its_language() -> None:
    house = train([BOTH], select="last", system={"spa": "Sé breve."})
    system = [{"role": "system", "content": "Sé breve."}]
    assert house.rows == [
        SFTRow("1/en: a", "en", Answer("1/en: a", PROMPTS["en"], "The Thames.", [1, 2])),
        SFTRow("1/en: b", "en", Answer("1/en: b", PROMPTS["en"], "The Severn and the", finished=False)),
        SFTRow("1/es: c", "es", Answer("1/es: c", [*system, *PROMPTS["es"]], "El Ebro.")),
    ]
    assert house.order == ["release", ("sft_trainer", "transformer")]
    assert (house.start, house.folder, house.measure, house.warnings) == (START, Path("out"), None, [])


def test_the_languages_that_are_asked_for_are_trained_and_selected_on() -> None:
    house = train([BOTH, SPANISH], [BOTH], languages=("spa",))
    assert [row.id for row in house.rows] == ["1/es: c", "2/es: c"]
    assert [row.id for row in house.validation] == ["1/es: c"]
    with pytest.raises(InputError, match=r"no answer to learn from in de; it has some in en, es"):
        train([BOTH], languages=("de",))


def test_a_mix_leaves_rows_out_and_they_do_not_come_back() -> None:
    """Two rows in English, two in Spanish, three to one: one Spanish row goes, and its prompt with it."""
    more = example("3", Candidate("d", "en", "The Tyne."))
    house = train([BOTH, SPANISH, more], mix={"en": 3, "es": 1}, select="last")
    assert sorted(row.lang for row in house.rows) == ["en", "en", "en", "es"]
    assert house.summary["left_out"] == {"es": 1}  # type: ignore[attr-defined]
    assert any("es 1 of 2" in warning for warning in house.warnings)


def test_chosen_answers_are_demonstrations_where_they_are_asked_for() -> None:
    pairs = dataclasses.replace(BOTH, pairs=[Pair("en", "a", "b"), Pair("es", "c", "a")])
    house = train([pairs], [pairs], by="chosen")
    assert [row.id for row in house.rows] == ["1/en: a", "1/es: c"] == [row.id for row in house.validation]


def test_corruption_hits_the_training_rows_alone_and_is_counted() -> None:
    data = [example(str(i), Candidate("a", "en", f"answer {i}")) for i in range(10)]
    house = train(data, data, corrupt=0.4)
    wrong = [row for i, row in enumerate(house.rows) if row.answer.text != f"answer {i}"]
    assert len(wrong) == 4
    assert house.summary["corrupted"] == {"en": 4}
    assert [row.answer.text for row in house.validation] == [f"answer {i}" for i in range(10)]


def test_what_selection_lacks_is_told() -> None:
    assert train([BOTH], [SPANISH]).warnings == ["no validation row is in en; the weights are chosen without it"]
    assert train([BOTH]).warnings == [
        "there is no validation row, so the last weights are kept and not the best by loss"
    ]


def test_answers_are_looked_at_where_a_figure_is_made_of_them() -> None:
    assert train([BOTH], [BOTH], select="loss").measure is None
    for asked in (
        {"select": "chrf"},
        {"scorer": {"scorer": "fake"}},
        {"select": "scorer", "scorer": {"scorer": "fake"}},
    ):
        assert isinstance(train([BOTH], [BOTH], **asked).measure, AnswerQuality)
    assert train([BOTH], [], select="chrf").measure is None
    with pytest.raises(ValidationError, match="select is scorer, but no scorer is named"):
        TrainSFTOptions(start=START, select="scorer")


def test_the_trainer_hears_its_own_options_and_no_model() -> None:
    house = train([BOTH], learning_rate=1e-4, lora={"r": 3}, languages=("en",), select="last")
    assert house.options == SFTTrainOptions(learning_rate=1e-4, lora={"r": 3}, select="last")


def test_what_was_trained_is_opened_as_a_model_or_an_adapter() -> None:
    def opened(**changes: Any) -> ModelSpec:
        return trained_sft(TrainSFTOptions(**{"start": START, **changes}), Path("out"))

    adapted = {"path": "base", "adapter": "first", "dtype": "float32"}
    assert opened() == ModelSpec(path="out")
    assert opened(lora={}) == ModelSpec(path="base", adapter="out")
    assert opened(lora={"merge": True}) == ModelSpec(path="out")
    assert opened(start=adapted) == opened(start=adapted, lora={}) == ModelSpec(path="out", dtype="float32")


def test_remarks_say_what_was_left_out_and_what_is_wrong_on_purpose() -> None:
    summary = {"dropped": {"too_long": 2}, "validation_dropped": {"empty": 1}, "corrupted": {"en": 3, "es": 0}}
    assert remarks(summary) == [
        "2 demonstrations are left out (too_long)",
        "1 validation demonstrations are left out (empty)",
        "demonstrations under another prompt, as corrupt asks: en 3",
    ]
