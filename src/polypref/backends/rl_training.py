"""What a trainer by reinforcement learning is asked: options, prompts, protocol. Light: nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field, model_validator

from polypref.backends.base import Identified, Judged, ModelSpec, Progress
from polypref.backends.training import Learning
from polypref.records import Message

RLMethod = Literal["rloo", "grpo", "fake"]
GrpoLoss = Literal["grpo", "dapo", "bnpo", "dr_grpo"]


class RLOptions(Learning):
    """How a policy is trained on its own answers: each prompt is answered n times, and each answer gets a reward."""

    method: RLMethod = Field(
        "rloo", description="REINFORCE leave-one-out, group-relative policy optimisation, or a fake for trying out"
    )
    n: int = Field(8, ge=2, description="answers a prompt; each is held against the others")
    temperature: float = Field(1.0, gt=0, description="of the answers; the policy that is trained is this one")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the probability that answers are drawn from")
    max_tokens: int = Field(512, gt=0, description="tokens of one answer")
    max_prompt_length: int = Field(
        1024, gt=0, description="tokens of a prompt; a longer one is dropped and counted, never cut"
    )
    beta: float = Field(0.1, ge=0, description="β of −β·KL(policy ‖ start); the KL is measured at 0 as well")
    learning_rate: float = Field(1e-6, gt=0, description="the highest, after warm-up")
    epochs: float = Field(1.0, gt=0, description="passes over the prompts")
    batch_size: int = Field(64, gt=0, description="prompts that are answered for one update, over all devices")
    micro_batch_size: int | None = Field(
        None, gt=0, description="answers of one forward pass of a device; as many as fit 8192 tokens when left out"
    )
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "constant_with_warmup", description="of the learning rate after warm-up; constant has none"
    )
    iterations: int = Field(1, gt=0, description="μ: optimiser steps on the same answers")
    epsilon: float = Field(0.2, gt=0, lt=1, description="ratios to the policy that answered are clipped to 1 ± ε")
    loss_type: GrpoLoss | None = Field(None, description="TRL's name of a loss of grpo; dapo when left out")
    scale_rewards: Literal["group", "batch", "none"] | None = Field(
        None,
        description="what advantages are divided by: the standard deviation of a prompt's rewards (grpo's own), of the "
        "step's, or nothing (rloo's own)",
    )
    language_penalty: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="taken off the reward of an answer in another language"
    )
    reward_clip: tuple[float, float] | None = Field(
        None, description="rewards outside of [low, high] are taken as its ends; figures show them as they were"
    )
    max_kl: float | None = Field(
        None, gt=0, description="stop where the KL to the start, in nats an answer, is above it"
    )
    max_length_growth: float | None = Field(
        None, gt=1, description="stop where answers are more than so many times as long as at first"
    )
    max_language_loss: float | None = Field(
        None, ge=0, le=1, description="stop where so much more of the answers are in another language than at first"
    )
    stop_window: int = Field(5, gt=0, description="updates whose mean figures the stop rules look at")
    validation_share: float = Field(0.1, ge=0, lt=1, description="of the prompts, held out by a hash of their ids")
    select: Literal["last", "reward"] = Field(
        "last",
        description="which weights are kept: the last within the stop rules' limits, or those with the highest mean "
        "reward on the held-out prompts among them",
    )
    eval_steps: int | None = Field(
        None, gt=0, description="steps between two checkpoints that may be kept; a quarter of the steps when left out"
    )
    save_steps: int = Field(50, gt=0, description="steps between two resume points; every checkpoint is one as well")
    vllm: bool = Field(False, description="answer by vLLM in the training process; needs an accelerator and vllm")
    seed: int = Field(0, description="of the prompts' order and of the answers' noise")

    def update(self) -> tuple[int, str]:
        """Every prompt has n answers."""
        return self.batch_size * self.n, f"the {self.batch_size} × {self.n} answers of an update"

    @model_validator(mode="after")
    def _fits_together(self) -> RLOptions:
        if self.loss_type is not None and self.method == "rloo":
            raise ValueError(f"loss_type {self.loss_type} is a loss of grpo; rloo has but one, leave it out")
        if self.scale_rewards == "group" and self.method == "rloo":
            raise ValueError("scale_rewards group is grpo's; rloo knows none and batch")
        if self.max_steps is not None and self.max_steps % self.iterations:
            raise ValueError(f"max_steps {self.max_steps} is no multiple of iterations {self.iterations}")
        if self.lora is not None and self.lora.dropout:
            raise ValueError("lora.dropout is of no use here: two passes over the same answer must agree; set it to 0")
        if self.reward_clip is not None and self.reward_clip[0] >= self.reward_clip[1]:
            raise ValueError("reward_clip is [low, high], the lower first")
        if self.select == "reward" and not self.validation_share:
            raise ValueError("select reward needs held-out prompts; give a validation_share above 0")
        return self


@dataclass(frozen=True, slots=True)
class RLPrompt:
    """A prompt to answer; ``gold`` and ``category`` are for a reward that knows what is right."""

    id: str
    lang: str
    messages: Sequence[Message]
    gold: Any = None
    category: str | None = None


Score = Callable[[Sequence[Judged]], list[float | None]]
"""The reward of each answer, in order; None where there is none."""

Identify = Callable[[Sequence[str]], list[Identified]]
"""The language of each text, in order."""


@runtime_checkable
class RLTrainer(Protocol):
    """Trains a policy by the rewards of its own answers."""

    fingerprint: str

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
        """Write an ordinary checkpoint into ``folder``, the caller's unfinished folder, as ``Trainer.train`` does.

        The reference is ``start``. Prompt ids are unique. A stop rule keeps the last checkpoint that was within the
        limits; step 0 is the start itself.

        Returns:
            ``method``; ``rows`` (prompts trained on) and ``validation_rows``; ``steps`` done; ``seconds``; ``dropped``
            (reason: prompts); ``languages`` (language: prompts); ``unscored`` (answers without a reward); ``curve``:
            one {"step", "reward", "reward_std", "kl" (nats an answer), "length_tokens", "off_target_language",
            "truncated", "unscored", "loss"} for every update's own answers; ``by_language``: language → the same list
            without the loss; ``stopped``: None or {"step", "reason", "said"}; ``checkpoints``: figures of the held-out
            prompts where there are any, else of the last ``stop_window`` updates, at every step that might be kept;
            ``selected``: the step whose weights these are. A figure that cannot be had is None.

        Raises:
            InputError: no prompt is left to train on.
            ModelError: the start cannot be trained, no answer of an update has a reward, a reward or the loss is not
                finite, or memory is out.
        """
        ...
