"""The section of a recipe that makes the SFT model, which everything after it starts from and is held against."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from polypref.backends.base import ModelSpec, Options, ScorerSpec, Tag
from polypref.backends.sft_training import SFTTrainOptions
from polypref.recipe_rewards import PreferenceTranslation
from polypref.recipe_sections import NAME
from polypref.stages.demonstrations import By
from polypref.stages.preference_data import Mix
from polypref.stages.prompts import PromptOptions
from polypref.stages.translate_preferences import TranslatePreferencesOptions

Name = Annotated[str, StringConstraints(pattern=NAME)]


class SFTTranslation(PreferenceTranslation):
    """Makes demonstrations by translation: in the languages that lack them, or with ``back`` in the stead of all."""

    model: ModelSpec | None = Field(None, description="left out: start, the model that is fine-tuned")
    back: bool = Field(False, description="each language's own data goes into the pivot and comes back")

    def options(self, model: ModelSpec, languages: tuple[str, ...]) -> TranslatePreferencesOptions:
        """The stage's options; ``model`` translates where the section names none of its own."""
        return super().options(model, languages).model_copy(update={"back": self.back})


class SFT(Options):
    """The model that everything after it starts from, fine-tuned on demonstrations."""

    name: Name = Field("sft", description="what results call it")
    data: PromptOptions = Field(description="demonstrations, in any shape of docs/inputs.md that has answers")
    validation: PromptOptions | None = Field(None, description="left out: a share of data, by prompt")
    validation_share: float = Field(0.1, gt=0, lt=1, description="of data, where no validation is given")
    start: ModelSpec = Field(description="what is fine-tuned")
    languages: tuple[Tag, ...] = Field((), description="that it is trained on; the recipe's when empty")
    by: By = Field("answers", description="answers: those that show how it is done; chosen: the better ones of pairs")
    mix: Mix = Field(
        "natural", description="of several languages: natural takes all rows, even as many of each, or weights"
    )
    translate: SFTTranslation | None = Field(None, description="makes demonstrations by translation")
    corrupt: float = Field(
        0.0, ge=0, le=1, description="share of the training answers that go to another prompt of their language"
    )
    scorer: ScorerSpec | None = Field(None, description="of the greedy answers, for train.select: scorer")
    max_tokens: int = Field(512, gt=0, description="of a greedy answer that is looked at for train.select")
    train: SFTTrainOptions = Field(SFTTrainOptions(), description="how it is trained, and which checkpoint is kept")

    @model_validator(mode="after")
    def _scorer_is_there(self) -> SFT:
        if self.train.select == "scorer" and self.scorer is None:
            raise ValueError("train.select is scorer, but no scorer is named; give scorer")
        return self
