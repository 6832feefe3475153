"""The stage that trains reward models: which rows a trainer is given, and how its outcome is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from polypref.backends.base import Context, ModelSpec, Progress, ScorerSpec
from polypref.backends.reward_training import PairRow, PointRow, RewardRow, RewardTrainOptions
from polypref.errors import InputError
from polypref.records import Candidate, Example, Pair
from polypref.stages.train_reward import TrainRewardOptions, train_reward, trained_reward

START = ModelSpec(path="base")
PROMPTS = {
    "en": [{"role": "user", "content": "Name a river."}],
    "es": [{"role": "user", "content": "Nombra un río."}],
}
BOTH = Example(
    id="1",
    prompts=PROMPTS,
    candidates=[
        Candidate("a", "en", "The Thames.", origin="human"),
        Candidate("b", "en", "Paris.", origin="human"),
        Candidate("c", "es", "El Ebro."),
        Candidate("d", "es", "Madrid."),
    ],
    pairs=[Pair("en", "a", "b", margin=0.5), Pair("es", "c", "d")],
)
SPANISH = dataclasses.replace(BOTH, id="2", pairs=[Pair("es", "c", "d")])
LABELLED = Example(
    id="3",
    prompts=PROMPTS,
    candidates=[
        Candidate("a", "en", "The Thames.", label="Chosen"),
        Candidate("b", "en", "Paris.", label=0.25),
        Candidate("c", "es", "El Ebro.", label=True),
        Candidate("d", "es", "", label=False, error="refused"),
        Candidate("e", "es", "Madrid."),
    ],
)


class House:
    """A context whose trainer notes what it is given; ``order`` is what was done with the context."""

    def __init__(self) -> None:
        self.order: list[Any] = []
        self.warnings: list[str] = []
        self.context = Context(open=self.open, release=lambda: self.order.append("release"), warn=self.warnings.append)

    fingerprint = "noted"

    def open(self, role: str, spec: Any) -> House:
        self.order.append((role, spec))
        return self

    def train(
        self,
        rows: Sequence[RewardRow],
        validation: Sequence[RewardRow],
        start: ModelSpec | None,
        options: RewardTrainOptions,
        folder: Path,
        progress: Progress,
    ) -> dict[str, Any]:
        self.rows, self.validation, self.start, self.options, self.folder = rows, validation, start, options, folder
        return {"rows": len(rows)}


def train(examples: list[Example], validation: list[Example] | None = None, **changes: Any) -> House:
    house = House()
    asked = TrainRewardOptions(**{"start": START, **changes})
    house.summary = train_reward(examples, validation or [], asked, house.context, Path("out"))  # type: ignore[attr-defined]
    return house


def test_a_pair_is_a_row_under_the_plain_prompt_of_its_language() -> None:
    house = train([BOTH])
    assert house.rows == [
        PairRow("1/en: a over b", "en", PROMPTS["en"], "The Thames.", "Paris.", 0.5),
        PairRow("1/es: c over d", "es", PROMPTS["es"], "El Ebro.", "Madrid.", None),
    ]
    assert house.order == ["release", ("reward_trainer", "transformer")]
    assert (house.start, house.folder) == (START, Path("out"))


def test_a_label_is_a_row_and_what_has_none_or_failed_is_not() -> None:
    assert train([LABELLED], loss="pointwise").rows == [
        PointRow("3/en: a", "en", PROMPTS["en"], "The Thames.", 1.0),
        PointRow("3/en: b", "en", PROMPTS["en"], "Paris.", 0.25),
        PointRow("3/es: c", "es", PROMPTS["es"], "El Ebro.", 1.0),
    ]


def test_the_languages_that_are_asked_for_are_trained_and_judged_on() -> None:
    house = train([BOTH, SPANISH], [BOTH], languages=("spa",))
    assert [row.id for row in house.rows] == ["1/es: c over d", "2/es: c over d"]
    assert [row.id for row in house.validation] == ["1/es: c over d"]
    assert house.warnings == []
    with pytest.raises(InputError, match="no pair and no label in de"):
        train([BOTH], languages=("de",))


def test_an_even_mix_leaves_rows_out_and_says_so() -> None:
    house = train([BOTH, SPANISH], mix="even")
    assert sorted(row.lang for row in house.rows) == ["en", "es"]
    assert house.summary == {"rows": 2, "left_out": {"es": 1}}  # type: ignore[attr-defined]
    assert any("es 1 of 2" in warning for warning in house.warnings)


def test_a_mix_counts_the_rows_of_the_loss_alone() -> None:
    """Three labels in English and one in Spanish beside one pair in each: of the pairs none is left out."""
    labels = [Candidate(f"l{index}", lang, "x", label=1) for index, lang in enumerate(("en", "en", "en", "es"))]
    mixed = dataclasses.replace(BOTH, candidates=[*BOTH.candidates, *labels])
    assert len(train([mixed], mix="even").rows) == 2
    assert len(train([mixed], mix="even", loss="pointwise").rows) == 2


def test_validation_without_a_training_language_is_told() -> None:
    house = train([BOTH], [SPANISH])
    assert [row.lang for row in house.validation] == ["es"]
    assert house.warnings == ["no validation row is in en; the weights are chosen without it"]


def test_data_of_the_other_loss_is_refused_with_the_fix() -> None:
    with pytest.raises(InputError, match=r"labels but no pair; set loss to pointwise"):
        train([LABELLED])
    with pytest.raises(InputError, match=r"pairs but no label; set loss to bradley_terry"):
        train([BOTH], loss="pointwise")


def test_a_row_without_prompt_answer_or_label_is_never_mended() -> None:
    lost = dataclasses.replace(BOTH, prompts={"en": PROMPTS["en"]})
    with pytest.raises(InputError, match=r"example '1' has answers in es but no prompt in it"):
        train([lost])
    failed = dataclasses.replace(
        BOTH, candidates=[dataclasses.replace(c, error="refused" if c.id == "b" else None) for c in BOTH.candidates]
    )
    with pytest.raises(InputError, match=r"pair in en with 'b', which failed"):
        train([failed])
    for label in (2, "fine", float("nan")):
        odd = dataclasses.replace(LABELLED, candidates=[Candidate("a", "en", "x", label=label)])
        with pytest.raises(InputError, match=r"label of 'a' of example '3' is"):
            train([odd], loss="pointwise")


def test_the_trainer_hears_its_own_options_and_no_model() -> None:
    house = train([BOTH], learning_rate=1e-4, centre=0.01, lora={"r": 3}, languages=("en",))
    assert house.options == RewardTrainOptions(learning_rate=1e-4, centre=0.01, lora={"r": 3})


def test_what_was_trained_is_opened_as_a_model_an_adapter_or_a_bag_of_words() -> None:
    def opened(**changes: Any) -> ScorerSpec:
        return trained_reward(TrainRewardOptions(**{"start": START, **changes}), Path("out"))

    def reward(**model: Any) -> ScorerSpec:
        return ScorerSpec(scorer="reward_model", model=ModelSpec(**model))

    adapted = {"path": "base", "adapter": "first", "dtype": "float32"}
    assert opened() == reward(path="out")
    assert opened(lora={}) == reward(path="base", adapter="out")
    assert opened(lora={"merge": True}) == reward(path="out")
    assert opened(start=adapted) == opened(start=adapted, lora={}) == reward(path="out", dtype="float32")
    assert opened(method="bag_of_words", start=None) == ScorerSpec(scorer="bag_of_words", model="out")
    fake = ScorerSpec(scorer="fake", model=ModelSpec(path="out", backend="fake"))
    assert opened(method="fake") == opened(method="fake", start=None) == fake


def test_options_that_do_not_fit_together_are_refused() -> None:
    for wrong in ({"loss": "pointwise", "centre": 0.1}, {"loss": "pointwise", "margin": True}):
        with pytest.raises(ValidationError, match="centre and margin are of bradley_terry"):
            TrainRewardOptions(**wrong)
    with pytest.raises(ValidationError, match="micro_batch_size 3 does not divide batch_size 8"):
        TrainRewardOptions(batch_size=8, micro_batch_size=3)


def test_a_bag_of_words_is_refused_to_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    TrainRewardOptions(method="bag_of_words")
    monkeypatch.setenv("WORLD_SIZE", "2")
    TrainRewardOptions(start=START)
    with pytest.raises(ValidationError, match="bag_of_words is trained in one process"):
        TrainRewardOptions(method="bag_of_words")


def test_a_template_is_known_by_what_its_file_says(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    told = []
    for text in ("{{ one }}", "{{ two }}"):
        file.write_text(text)
        told.append(TrainRewardOptions(chat_template=str(file)).identity(str)["chat_template"])
    assert told == ["{{ one }}", "{{ two }}"]
    assert TrainRewardOptions().identity(str)["chat_template"] is None
