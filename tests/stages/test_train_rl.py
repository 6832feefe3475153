"""Training by reinforcement as a stage: which prompts, which reward, what becomes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref import registry
from polypref.backends.base import Context, Identified, Judged, ModelSpec, Progress, ScorerSpec
from polypref.backends.rl_training import Identify, RLOptions, RLPrompt, Score
from polypref.errors import InputError
from polypref.records import Example
from polypref.stages.train_rl import TrainRLOptions, split_prompts, train_rl, trained

START, REWARD = ModelSpec(path="sft"), ScorerSpec(scorer="reward_model", model="rm")
EXAMPLES = [
    Example(
        id=f"{index}",
        prompts={"en": [{"role": "user", "content": f"Hi {index}"}], "es": [{"role": "user", "content": f"¡{index}!"}]},
        gold=index,
        category="greeting",
    )
    for index in range(40)
]


class House:
    """A context that notes what is opened; its trainer asks the reward and the identifier of one answer."""

    fingerprint = "noted"

    def __init__(self) -> None:
        self.order: list[Any] = []
        self.context = Context(open=self.open, release=lambda: self.order.append("release"))

    def open(self, role: str, spec: Any) -> House:
        self.order.append((role, spec))
        return self

    def score(self, answers: Sequence[Judged]) -> list[float]:
        return [float(len(answer.text)) for answer in answers]

    def identify(self, texts: Sequence[str]) -> list[Identified]:
        return [Identified("en", 1.0, "fake") for _ in texts]

    def train(
        self,
        prompts: Sequence[RLPrompt],
        validation: Sequence[RLPrompt],
        start: ModelSpec,
        options: RLOptions,
        folder: Path,
        progress: Progress,
        score: Score,
        identify: Identify,
    ) -> dict[str, Any]:
        self.prompts, self.validation, self.options = prompts, validation, options
        self.order.append("train")
        assert score([Judged("a", "en", prompts[0].messages, "four")]) == [4.0]
        assert identify(["x"])[0].tag == "en"
        return {"start": start, "folder": folder}


def asked(**changes: Any) -> TrainRLOptions:
    return TrainRLOptions(**{"start": START, "reward": REWARD, **changes})


def train(examples: Sequence[Example] = EXAMPLES, **changes: Any) -> House:
    house = House()
    house.summary = train_rl(examples, asked(**changes), house.context, Path("out"))  # type: ignore[attr-defined]
    return house


def test_every_language_of_an_example_is_a_prompt() -> None:
    house = train(EXAMPLES[:1], validation_share=0.0)
    assert house.prompts == [
        RLPrompt("0/en", "en", EXAMPLES[0].prompts["en"], 0, "greeting"),
        RLPrompt("0/es", "es", EXAMPLES[0].prompts["es"], 0, "greeting"),
    ]
    assert house.validation == []
    assert house.summary == {"start": START, "folder": Path("out")}  # type: ignore[attr-defined]


def test_the_scorer_is_opened_after_the_others_were_let_go_and_stays_open() -> None:
    assert train(language_identifier="fake").order == [
        "release",
        ("rl_trainer", "rloo"),
        "train",
        ("scorer", REWARD),
        ("language_identifier", "fake"),
    ]


def test_the_languages_that_are_asked_for_are_trained_on_under_their_system_prompt() -> None:
    house = train(EXAMPLES[:1], languages=("spa",), system={"Spanish": "Sé breve."}, validation_share=0.0)
    [row] = house.prompts
    assert (row.id, row.messages[0]) == ("0/es", {"role": "system", "content": "Sé breve."})
    with pytest.raises(InputError, match="there is no prompt in de; there are some in en, es"):
        train(languages=("de",))


@given(share=st.floats(0.05, 0.9), seed=st.integers(0, 9))
def test_an_example_is_held_out_in_all_its_languages_whatever_else_there_is(share: float, seed: int) -> None:
    options = asked(validation_share=share, seed=seed)
    training, held = split_prompts(EXAMPLES, options)
    names = [{row.id.partition("/")[0] for row in side} for side in (training, held)]
    assert not names[0] & names[1]
    assert len(training) + len(held) == 80
    # What is held out of a part is what is held out of the whole, and more is held out at a higher share.
    fewer = {row.id for row in split_prompts(EXAMPLES[7:], options)[1]}
    assert fewer == {row.id for row in held if int(row.id.partition("/")[0]) >= 7}
    more = split_prompts(EXAMPLES, options.model_copy(update={"validation_share": share / 2}))[1]
    assert {row.id for row in more} <= {row.id for row in held}


def test_a_limit_by_the_same_seed_does_not_change_the_share_that_is_held_out() -> None:
    """``limit`` takes the first by SHA-256 of (seed, id); held out by the same hash, it would be all of them."""
    from polypref.stages.prompts import subset

    many = [dataclasses.replace(EXAMPLES[0], id=str(index)) for index in range(4000)]
    held = split_prompts(subset(many, 400, 0), asked(validation_share=0.1))[1]
    assert 20 <= len(held) / 2 <= 65  # 40 of 400 are expected, with a standard deviation of 6


def test_what_leaves_nothing_to_do_is_told() -> None:
    with pytest.raises(InputError, match=r"there is no prompt to train on \(0 examples\)"):
        train([])
    with pytest.raises(InputError, match="no prompt of 1 examples is held out at validation_share 1e-09"):
        train(EXAMPLES[:1], validation_share=1e-9, select="reward")


def test_the_trainer_hears_its_own_options() -> None:
    house = train(learning_rate=1e-4, n=3, lora={"r": 3}, languages=("en",))
    assert house.options == RLOptions(learning_rate=1e-4, n=3, lora={"r": 3})


def test_what_was_trained_is_opened_as_a_model_or_as_an_adapter() -> None:
    def opened(**changes: Any) -> ModelSpec:
        return trained(asked(**changes), Path("out"))

    adapted = {"path": "base", "adapter": "first", "dtype": "float32"}
    assert opened() == ModelSpec(path="out")
    assert opened(lora={}) == ModelSpec(path="sft", adapter="out")
    assert opened(lora={"merge": True}) == ModelSpec(path="out")
    assert opened(start=adapted) == opened(start=adapted, lora={}) == ModelSpec(path="out", dtype="float32")


def test_a_fake_trains_what_fakes_can_open(tmp_path: Path) -> None:
    context, opener = registry.context(("en", "es"), identifier="fake")
    options = asked(
        start={"path": "fake-sft", "backend": "fake"}, reward={"scorer": "fake"}, method="fake", max_steps=3
    )
    summary = train_rl(EXAMPLES, options, context, tmp_path)
    assert [entry["step"] for entry in summary["curve"]] == [1, 2, 3]
    assert summary["by_language"].keys() == summary["languages"].keys() == {"en", "es"}
    assert summary["curve"][0].keys() - {"loss"} == summary["by_language"]["es"][0].keys()
    assert [entry["step"] for entry in summary["checkpoints"]] == [3]
    model = trained(options, tmp_path)
    first = context.open("generator", model).fingerprint
    assert first != context.open("generator", options.start).fingerprint
    again = train_rl(EXAMPLES, options, context, tmp_path)
    assert again == summary
    opener.close()
    train_rl(EXAMPLES, options.model_copy(update={"beta": 0.0}), context, tmp_path)
    assert context.open("generator", model).fingerprint != first
