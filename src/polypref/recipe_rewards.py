"""The sections of a recipe that are about reward models: trained, judged, looked into, and used as the reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, field_validator
from pydantic import Tag as Branch

from polypref.backends.base import ModelSpec, Options, Tag
from polypref.backends.reward_training import RewardTrainOptions
from polypref.recipe_sections import NAME, Reward, Translating
from polypref.stages.judge_rewards import Benchmark
from polypref.stages.preference_data import Mix
from polypref.stages.prompts import PromptOptions
from polypref.stages.representation import RepresentationOptions
from polypref.stages.reward_items import Items
from polypref.stages.translate_preferences import TranslatePreferencesOptions

Name = Annotated[str, StringConstraints(pattern=NAME)]


class PreferenceTranslation(Translating):
    """Makes the preference data of the other languages from the pivot's (translate-train), and says what is good
    enough."""

    model: ModelSpec | None = Field(None, description="left out: models.policy")
    round_trip: bool = Field(False, description="translate each translation back, for its chrF; twice the work")
    min_chrf: float | None = Field(None, ge=0, le=100, description="of the round trip; with less it is refused")
    max_length_ratio: float | None = Field(
        None, ge=1, description="refuse what is more than so many times longer than usual, or shorter"
    )
    max_numbers_lost: int | None = Field(None, ge=0, description="refuse what lacks more numbers than that")

    def options(self, model: ModelSpec, languages: tuple[str, ...]) -> TranslatePreferencesOptions:
        """The stage's options; ``model`` translates where the section names none of its own."""
        return TranslatePreferencesOptions(
            **self.common(model),
            languages=languages,
            role=self.role(model.name or model.path),
            round_trip=self.round_trip,
            min_chrf=self.min_chrf,
            max_length_ratio=self.max_length_ratio,
            max_numbers_lost=self.max_numbers_lost,
        )


class RewardModels(Options):
    """Reward models, trained on preference data: one a language, or on the mixtures that are named.

    The data holds pairs (chosen, rejected) or labelled answers, in any of the shapes of docs/inputs.md.
    """

    data: PromptOptions = Field(description="preference data: its pairs, or for the pointwise loss its labels")
    validation: PromptOptions | None = Field(None, description="left out: a share of data, by prompt")
    validation_share: float = Field(0.1, gt=0, lt=1, description="of data, where no validation is given")
    start: ModelSpec | None = Field(None, description="what they are made of; left out: models.reference, else policy")
    sources: dict[Name, tuple[Tag, ...]] = Field(
        default_factory=dict, description="a model's name and its languages; left out: rm-<language>, one a language"
    )
    translate: PreferenceTranslation | None = Field(
        None, description="makes the data of the languages that it lacks, from the pivot's"
    )
    mix: Mix = Field(
        "natural", description="of several languages: natural takes all rows, even as many of each, or weights"
    )
    noise: float = Field(
        0.0, ge=0, le=1, description="share of the training pairs or labels that are turned round, to try out what errs"
    )
    train: RewardTrainOptions = Field(RewardTrainOptions(), description="how each is trained")

    @field_validator("sources")
    @classmethod
    def _each_has_a_language(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, languages in value.items():
            if not languages:
                raise ValueError(f"{name} has no language; name those that it is trained on")
        return {name: tuple(dict.fromkeys(languages)) for name, languages in value.items()}

    def languages_of(self, languages: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Model's name → its training languages, where the run's are ``languages``."""
        return self.sources or {f"rm-{lang}": (lang,) for lang in languages}


class Judge(Options):
    """Every reward is judged on right and wrong answers in every language."""

    data: PromptOptions | None = Field(None, description="left out: the reward models' validation data")
    benchmark: Benchmark | None = Field(None, description="whose sections and weights make the score")
    items: Items = Field(
        "auto", description="pairs, groups of labelled answers, or points: labelled answers one by one"
    )
    threshold: float = Field(0.0, description="of points: an answer that scores above it is called right")
    training: PromptOptions | None = Field(
        None, description="what baselines are fitted on and the gap is read off; left out: reward_models.data"
    )
    trained_on: dict[Name, tuple[Tag, ...]] = Field(
        default_factory=dict, description="the training languages of rewards that the user brings, where known"
    )
    training_limit: int = Field(
        1000, ge=0, description="training prompts a language that the generalisation gap is read off; 0: no gap"
    )
    resamples: int = Field(1000, gt=0, description="of the bootstrap over prompts that tells the best source")


class Representation(RepresentationOptions):
    """What reward training did to the hidden states of parallel texts (representation shift)."""

    texts: PromptOptions | None = Field(None, description="parallel prompts; left out: those of the judged data")
    base: ModelSpec | None = Field(None, description="what the shift is from; left out: what the models are made of")


class ModelReward(Options):
    """The answers are scored by a reward model, or by any scorer of ``rewards``."""

    by: Literal["model"] = Field("model", description="must be said")
    model: Name = Field(description="a model of reward_models, or a name under rewards")


def _by(value: Any) -> str:
    by = value.get("by") if isinstance(value, Mapping) else getattr(value, "by", None)
    return "model" if by == "model" else "implicit"


AnyReward = Annotated[
    Annotated[Reward, Branch("implicit")] | Annotated[ModelReward, Branch("model")], Discriminator(_by)
]
"""What scores the answers, told by its ``by``."""
