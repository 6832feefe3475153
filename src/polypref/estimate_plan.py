"""A plan: the works of a run as they are put together, one method for each kind of step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from polypref import registry
from polypref.backends.base import ModelSpec, Sampling, ScorerSpec
from polypref.estimate_work import (
    NO_TEXTS,
    Assumed,
    Data,
    Kind,
    Texts,
    Who,
    Work,
    prompt_tokens_of,
    prompts_of,
    shards,
    text_bytes,
)
from polypref.recipe import Recipe
from polypref.recipe_sections import Translating
from polypref.stages.views import View

CANDIDATE, SCORE, PAIR, PROMPT = 40, 32, 80, 60
"""Bytes on disk of a row beside its text: an answer, a score with its two log-probabilities, a pair, a prompt. Measured
at most (benchmarks/scale.py)."""

KTO_KL = 2.0
"""Passes of KTO's KL term: the policy and the reference read each prompt with another's answer."""


@dataclass
class Plan:
    """What has been planned so far. A step that two parts of a run share is planned once, as it is made once."""

    recipe: Recipe
    data: Data
    assumed: Assumed
    works: dict[str, Work] = field(default_factory=dict)

    def add(self, work: Work) -> None:
        """Plan a piece of work, unless it is planned already or asks nothing."""
        if work.requests or work.sequences:
            self.works.setdefault(work.stage, work)

    def answer(self, most: int) -> float:
        """Tokens of an answer."""
        return min(self.assumed.answer_tokens, float(most))

    def backend(self, spec: ModelSpec | None) -> str:
        """How a model answers."""
        return "server" if self.recipe.server else spec.backend if spec else "hf"

    def generate(
        self, stage: str, texts: Texts, sampling: Sampling, spec: ModelSpec | None, who: Who = "policy"
    ) -> None:
        """n answers to every prompt; a prompt is read once for all of them."""
        asked, answer = prompts_of(texts), self.answer(sampling.max_tokens)
        self.add(
            Work(
                stage,
                "generate",
                who,
                requests=asked,
                sequences=asked * sampling.n,
                tokens_in=prompt_tokens_of(texts) + asked * self.assumed.template_tokens,
                tokens_out=asked * sampling.n * answer,
                max_tokens=sampling.max_tokens,
                backend=self.backend(spec),
                text_bytes=text_bytes(texts, answer, sampling.n),
                row_bytes=asked * sampling.n * CANDIDATE,
                shards=shards(texts, self.recipe.shard_size),
            )
        )

    def translate(self, stage: str, texts: Texts, times: float, tokens: float, section: Translating) -> None:
        """``times`` texts of so many tokens to each prompt, translated."""
        count = round(prompts_of(texts) * times)
        model = section.model
        paid = model is not None and model.backend == "openai"
        self.add(
            Work(
                stage,
                "judge" if paid else "translate",
                "server" if paid else "policy",
                requests=count,
                sequences=count,
                tokens_in=count * (tokens + self.assumed.template_tokens),
                tokens_out=count * tokens,
                max_tokens=section.max_tokens,
                backend=self.backend(model),
                text_bytes=text_bytes(texts, tokens, times),
                row_bytes=count * CANDIDATE,
                shards=shards(texts, self.recipe.shard_size),
                identified=count * tokens
                if section.language_check and self.recipe.language_identifier == "lingua"
                else 0,
                paid=model.price if paid and model else None,
            )
        )

    def implicit(self, stage: str, texts: Texts, n: float, answer: float, view: View) -> None:
        """Two models read every answer under the prompt that the view says."""
        count = round(prompts_of(texts) * n)
        if view == "multilingual":
            asked = prompt_tokens_of(texts) * n
        else:  # under the pivot's prompt; a language that has none counts its own
            pivot = self.data.training.get(self.recipe.pivot) or texts.get(self.recipe.pivot)
            asked = sum(p.prompts * (pivot or p).prompt_tokens for p in texts.values()) * n
        tokens = asked + count * (answer + self.assumed.template_tokens)
        self.add(self._scores(stage, texts, count, tokens, "policy", 2.0))

    def scorer(self, stage: str, texts: Texts, n: float, answer: float, spec: ScorerSpec | None) -> None:
        """Any scorer reads every answer; what a judge on a server is asked is told as such."""
        count = round(prompts_of(texts) * n)
        tokens = prompt_tokens_of(texts) * n + count * (answer + self.assumed.template_tokens)
        self.scored(stage, texts, count, tokens, spec)

    def scored(self, stage: str, texts: Texts, count: int, tokens: float, spec: ScorerSpec | None) -> None:
        """``count`` sequences of so many tokens altogether by a scorer; None is a reward model of the run."""
        model = spec.model if spec else None
        asks = spec is not None and spec.scorer in ("judge", *registry.COMPARERS)
        if spec is not None and (model is None or asks):
            self.asked(stage, count, tokens, spec, texts)
        else:
            passes = 2.0 if spec and spec.scorer == "implicit" else 1.0
            self.add(self._scores(stage, texts, count, tokens, "reward", passes))

    def asked(self, stage: str, count: int, tokens: float, spec: ScorerSpec, texts: Texts = NO_TEXTS) -> None:
        """A judge is asked so many questions; a scorer without a model costs no model's time."""
        model = spec.model
        if model is None:
            self.add(replace(self._scores(stage, texts, count, tokens, "none", 0.0), kind="figures"))
            return
        paid = model.backend == "openai"
        self.add(
            Work(
                stage,
                "judge" if paid else "generate",
                "server" if paid else "reward",
                requests=count,
                sequences=count,
                tokens_in=tokens,
                tokens_out=count * self.assumed.verdict_tokens,
                max_tokens=int(self.assumed.verdict_tokens),
                backend=model.backend,
                row_bytes=count * 4 * self.assumed.verdict_tokens,
                paid=model.price,
            )
        )

    def _scores(self, stage: str, texts: Texts, count: int, tokens: float, who: Who, passes: float) -> Work:
        return Work(
            stage,
            "score",
            who,
            sequences=count,
            tokens_in=tokens,
            passes=passes,
            row_bytes=count * SCORE,
            shards=shards(texts, self.recipe.shard_size),
        )

    def free(
        self,
        stage: str,
        kind: Kind,
        count: int,
        texts: Texts = NO_TEXTS,
        *,
        row_bytes: float = 0.0,
        identified: float = 0.0,
    ) -> None:
        """Work that asks no model; lingua tells the language of so many tokens."""
        self.add(
            Work(
                stage,
                kind,
                sequences=count,
                row_bytes=row_bytes,
                shards=shards(texts, self.recipe.shard_size) if row_bytes else 0,
                identified=identified if self.recipe.language_identifier == "lingua" else 0.0,
            )
        )

    def trained(self, stage: str, sequences: float, tokens: float, section: object, *, who: Who = "policy") -> None:
        """A training over ``sequences`` of so many tokens altogether, all its passes over the data counted.

        Forward 1, backward 2 (with LoRA 1: the weights have no gradient), recomputed activations 1, reference 1.
        """
        lora = getattr(section, "lora", None)
        method = getattr(section, "method", "")
        passes = 2.0 if lora else 3.0
        passes += 0.0 if getattr(section, "gradient_checkpointing", "auto") is False else 1.0
        passes += 1.0 if method in ("dpo", "kto", "fake") else 0.0
        passes += KTO_KL if method == "kto" and getattr(section, "loss_type", None) != "apo_zero_unpaired" else 0.0
        count = round(sequences)
        kept = 0.0 if lora and not lora.merge else 1.0
        self.add(
            Work(
                stage,
                "train",
                who,
                sequences=count,
                tokens_in=tokens,
                passes=passes,
                checkpoint=kept,
                full=not lora,
            )
        )
