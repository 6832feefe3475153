"""The reward that an aligned model holds, as a scorer: β·[log π(y | x) − log π_ref(y | x)] under the answer's prompt.

Rafailov et al. 2023, eq. 5, without the term in x alone, which answers to one prompt have in common; a model trained by
KTO has the same reward (Ethayarajh et al. 2024). ``stages.score.implicit`` gives the same number in its multilingual
view, has other views as well, and keeps both log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from polypref.backends.base import Answer, Judged, LogprobModel, ScorerSpec
from polypref.backends.judging import ImplicitSettings, settings_of
from polypref.errors import ModelError


class ImplicitScorer:
    """A ``Scorer`` of two language models: the aligned one and what it was aligned from."""

    VERSION: ClassVar[int] = 1

    @classmethod
    def opened(cls, spec: ScorerSpec, open: Callable[..., Any]) -> ImplicitScorer:
        """
        Raises:
            RecipeError: a wrong setting.
            ModelError: one of the two models is missing, or cannot be used.
        """
        if spec.model is None or spec.reference is None:
            missing = "model" if spec.model is None else "reference"
            raise ModelError(
                f"implicit needs a {missing}; give the aligned model as model and what it was aligned from as reference"
            )
        settings = settings_of(ImplicitSettings, spec)
        return cls(open("logprobs", spec.model), open("logprobs", spec.reference), settings)

    def __init__(self, policy: LogprobModel, reference: LogprobModel, settings: ImplicitSettings) -> None:
        self.policy, self.reference, self.settings = policy, reference, settings
        self.fingerprint = f"implicit:{settings.beta}:{settings.normalise}:{policy.fingerprint}:{reference.fingerprint}"

    def score(self, answers: Sequence[Judged]) -> list[float | None]:
        """See ``Scorer.score``; None where an answer is beyond a model's window. Answers count as finished.

        Raises:
            ModelError: a score is NaN or infinite; the message names the answer's id.
        """
        asked = [Answer(answer.id, answer.messages, answer.text) for answer in answers]
        scores: list[float | None] = []
        pairs = zip(self.policy.logprobs(asked), self.reference.logprobs(asked), strict=True)
        for answer, (policy, reference) in zip(asked, pairs, strict=True):
            if policy.error is not None or reference.error is not None:
                scores.append(None)
                continue
            value = self.settings.beta * (policy.sum - reference.sum)
            if self.settings.normalise == "mean":
                value /= max(policy.tokens, 1)
            if not math.isfinite(value):
                raise ModelError(
                    f"{answer.id}: its log-probabilities are {policy.sum} and {reference.sum}; check the models, or "
                    "score them in float32"
                )
            scores.append(value)
        return scores
