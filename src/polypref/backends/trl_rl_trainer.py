"""TRL's RLOO and GRPO with polypref's answers, rewards, figures and stop rules; the losses are TRL's own.

An update answers ``batch_size`` prompts n times. Prompts come as places in an order that is laid out before training
(``trl_rl_data``), answers from ``trl_rl_sampling``. The reference is the start model: TRL would open one by the
model's name, which is wrong where an adapter was merged in, and opens none at β = 0, where the KL is still of interest.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOTrainer, RLOOTrainer
from trl.trainer.utils import add_fused_lm_head

from polypref import languages
from polypref.backends.answers import AnswerReader
from polypref.backends.base import Judged, Sampling
from polypref.backends.hf_batches import Batches
from polypref.backends.rl_figures import ALL, NAMES, Figures, Sample, StopRules, by_group, flat, grouped, window_mean
from polypref.backends.rl_training import Identify, RLOptions, Score
from polypref.backends.trl_rl_data import Asked
from polypref.backends.trl_rl_sampling import Question, answers
from polypref.backends.trl_trainers import Discreet
from polypref.errors import ModelError, RecipeError

HELD_OUT = "held_out/"


class Answering:
    """What both trainers share, before TRL's own class in the order of bases."""

    def __init__(
        self,
        *args: Any,
        model: Any,
        asked: Sequence[Asked],
        order: Sequence[int],
        held: Sequence[Asked],
        end_ids: Sequence[int],
        options: RLOptions,
        score: Score,
        identify: Identify,
        batches: Batches,
        **kwargs: Any,
    ) -> None:
        self.asked, self.order, self.held, self.options = asked, order, held, options
        self.end_ids, self.batches, self.score, self.identify = end_ids, batches, score, identify
        reference = None if options.lora is not None else copy.deepcopy(model)
        super().__init__(*args, model=model, reward_funcs=[self.reward], **kwargs)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise RecipeError(
                f"method {options.method} keeps the whole model on each device, and accelerate is set to shard it by "
                "FSDP or DeepSpeed; choose plain multi-GPU (DDP) in accelerate config, and set train.lora where "
                "memory is short"
            )
        self.beta = options.beta
        if reference is not None:
            add_fused_lm_head(reference.requires_grad_(False).eval(), temperature=self.temperature)
            reference = self.accelerator.prepare_model(reference, evaluation_mode=True)
        self.ref_model = reference  # with LoRA it is there already, under the adapter
        self.reader = AnswerReader(self.processing_class)
        self.sampling = Sampling(
            n=options.n,
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
            seed=options.seed,
        )
        self.places: list[int] = []
        self.passes: list[Tensor] = []
        self.samples: list[Sample] = []
        self.now: dict[str, Figures] = {}
        self.history: list[Figures] = []  # of all answers of every update so far

    # --- answering -------------------------------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: Sequence[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        self.places = [int(place) for place in prompts]
        return [self._at(place).ids for place in self.places], None, {}

    def _at(self, place: int) -> Asked:
        return self.asked[self.order[place]]

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        if self.use_vllm:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        # A process holds whole groups: n answers to each of its prompts, in order.
        return self._answer([(str(place), self._at(place)) for place in self.places[:: self.options.n]])

    def _answer(self, named: Sequence[tuple[str, Asked]]) -> list[list[int]]:
        questions = [Question(name, asked.ids, self.options.n, self.options.max_tokens) for name, asked in named]
        pad = self.processing_class.pad_token_id
        with self._policy() as model, self.accelerator.autocast():
            return answers(model, questions, self.sampling, self.end_ids, pad, self.batches)

    @contextlib.contextmanager
    def _policy(self) -> Iterator[Any]:
        """The model itself, adapter and all, without what wraps it, in evaluation mode."""
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        try:
            yield model.get_base_model() if self.options.lora is not None else model
        finally:
            model.train(training)

    # --- rewards and figures ---------------------------------------------------------------------------------------

    def reward(
        self, prompts: Sequence[str], completions: Any, completion_ids: Sequence[list[int]], **kwargs: Any
    ) -> list[float | None]:
        """TRL's reward function: the score of each answer, clipped; what the figures need is kept."""
        asked = [self._at(int(place)) for place in prompts]
        self.samples = self._judged(asked, completion_ids)
        low, high = self.options.reward_clip or (-math.inf, math.inf)
        return [None if s.reward is None else min(max(s.reward, low), high) for s in self.samples]

    def _judged(self, asked: Sequence[Asked], completion_ids: Sequence[list[int]]) -> list[Sample]:
        """The answers with their rewards and languages; their KL is not known yet.

        Raises:
            ModelError: a reward is not finite.
        """
        ended = [ids[-1] in self.end_ids for ids in completion_ids]
        bare = [ids[:-1] if end else ids for ids, end in zip(completion_ids, ended, strict=True)]
        texts = []
        for first in range(0, len(asked), self.options.n):
            group = slice(first, first + self.options.n)
            texts += [found.text for found in self.reader.read(bare[group], ended[group], asked[first].ids, ())]
        judged = [
            Judged(
                f"{row.prompt.id}/{place % self.options.n}",
                row.prompt.lang,
                row.prompt.messages,
                text,
                row.prompt.gold,
                row.prompt.category,
            )
            for place, (row, text) in enumerate(zip(asked, texts, strict=True))
        ]
        rewards = self.score(judged)
        for answer, reward in zip(judged, rewards, strict=True):
            if reward is not None and not math.isfinite(reward):
                raise ModelError(f"the reward of the answer {answer.id} is {reward}; give a finite number or None")
        other = [
            None if found.tag is None else not languages.same(found.tag, row.prompt.lang)
            for row, found in zip(asked, self.identify(texts), strict=True)
        ]
        return [
            Sample(row.prompt.lang, self._penalised(reward, elsewhere), math.nan, len(ids), not end, elsewhere)
            for row, reward, ids, end, elsewhere in zip(asked, rewards, completion_ids, ended, other, strict=True)
        ]

    def _penalised(self, reward: float | None, elsewhere: bool | None) -> float | None:
        return reward - self.options.language_penalty if reward is not None and elsewhere else reward

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self.passes = []
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        policy, reference = self._known(output)
        policy = self._sums(output) if policy is None else policy
        reference = self._sums(output, reference=True) if reference is None else reference
        self.now = by_group(self._gathered(self.samples, (policy - reference).tolist()))
        if self.now[ALL]["reward"] is None:
            raise ModelError(
                f"the reward gave none of the {int(self.now[ALL]['unscored'] or 0)} answers after step "
                f"{self.state.global_step} a number, so there is nothing to learn from; look at the scorer"
            )
        return output

    def _gathered(self, samples: Sequence[Sample], ratios: Sequence[float]) -> list[Sample]:
        """The answers of all processes, with their log-ratios."""
        rows = [(s.lang, s.reward, kl, *astuple(s)[3:]) for s, kl in zip(samples, ratios, strict=True)]
        return [Sample(*row) for row in gather_object(rows)]

    def _known(self, output: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        """log π(y) and log π_start(y) [R] of the answers, where TRL has computed them."""
        raise NotImplementedError

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if not torch.is_grad_enabled():
            self.passes.append(found[0])
        return found

    @torch.no_grad()
    def _sums(self, output: dict[str, Any], reference: bool = False) -> Tensor:
        """log-probabilities [R] of answers at the training temperature, summed over their tokens."""
        mask = output["completion_mask"]
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        attention = torch.cat([output["prompt_mask"], mask], dim=1)
        size = self.args.per_device_train_batch_size
        model = self.ref_model if reference and self.ref_model is not None else self.model
        off = reference and self.ref_model is None
        with self.accelerator.unwrap_model(self.model).disable_adapter() if off else contextlib.nullcontext():
            found = super()._get_per_token_logps_and_entropies(model, ids, attention, mask.size(1), size)
        return (found[0] * mask).sum(1)

    # --- held-out prompts ------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the figures of the update's own answers."""
        if "loss" in logs:
            logs |= flat(self.now)
            self.history.append(self.now[ALL])
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Log the figures of a step that might be kept: of the held-out prompts, else of the last updates."""
        window = self.history[-self.options.stop_window :]
        groups = {ALL: {name: window_mean(window, name) for name in NAMES}}
        training = self.model.training
        self.model.eval()  # so that TRL takes it for an evaluation's
        if self.held:
            groups = by_group(self._held_out())
        self.log({f"{HELD_OUT}step": self.state.global_step} | flat(groups, HELD_OUT))
        self.model.train(training)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
        self.control.should_save = True
        return {}

    def worth(self, checkpoint: Figures) -> float:
        """What a step is chosen by, from its figures: higher is better; −∞ where it is too far from the start."""
        kl, limit = checkpoint["kl"], self.options.max_kl
        value = checkpoint["reward" if self.options.select == "reward" else "step"]
        return -math.inf if value is None or (kl is not None and limit is not None and kl > limit) else float(value)

    def _held_out(self) -> list[Sample]:
        """Answers to the held-out prompts, with the same noise at every step; each process takes a share."""
        mine = self.held[self.accelerator.process_index :: self.accelerator.num_processes]
        if not mine:
            return self._gathered([], [])
        completions = self._answer([(f"held out {row.prompt.id}", row) for row in mine])
        asked = [row for row in mine for _ in range(self.options.n)]
        samples = self._judged(asked, completions)
        output = _padded([row.ids for row in asked], completions, self.processing_class.pad_token_id, self.model.device)
        ratios = self._sums(output) - self._sums(output, reference=True)
        return self._gathered(samples, ratios.tolist())


class LeaveOneOut(Discreet, Answering, RLOOTrainer):
    """REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740)."""

    def _known(self, output: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        # TRL's passes are the policy's, then the reference's where β > 0.
        reference = (self.passes[1] * output["completion_mask"]).sum(1) if self.beta else None
        return output["old_logps"], reference


class GroupRelative(Discreet, Answering, GRPOTrainer):
    """Group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300)."""

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._generate_single_turn(*args, **kwargs)
        return found if self.use_vllm else (found, None)  # None: no log-probabilities of another engine

    def _known(self, output: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        mask = output["completion_mask"]
        found = (output.get(name) for name in ("old_per_token_logps", "ref_per_token_logps"))
        policy, reference = (None if logps is None else (logps * mask).sum(1) for logps in found)
        return policy, reference


class Course(TrainerCallback):
    """Stops a training by the rules and, where ``watching``, says which step is kept: the start, or one of those that
    are evaluated every ``every`` steps and at the end.

    A step's own answers are drawn in the update after it, so it waits for them: they must break no rule.
    """

    def __init__(self, rules: StopRules, every: int, watching: bool, work: Path) -> None:
        self.rules, self.every, self.watching, self.work = rules, every, watching, work
        self.trainer: Any = None
        self.stopped: dict[str, Any] | None = None
        self.waiting: Figures | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        groups = [grouped(entry) for entry in state.log_history]
        self.trainer.history = [found[ALL] for found in groups if ALL in found]
        if not self.watching:
            return
        if not checkpoints(state.log_history):
            self.trainer.evaluate()
            control.should_save = False
            self.trainer._save_checkpoint(self.trainer.model, None)
        kept, last = state.best_global_step or 0, checkpoints(state.log_history)[-1]
        state.best_model_checkpoint = self._folder(kept)  # the state was saved with the folder's path of then
        self.waiting = last if last["step"] == state.global_step != kept else None

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.waiting = checkpoints(state.log_history)[-1]
        if state.global_step in (0, state.max_steps):  # what nothing was drawn before, or nothing is drawn after
            self._settle(state)

    def _settle(self, state: TrainerState) -> None:
        """The step that waited is the one to keep, where it is better than the one so far."""
        if self.waiting is not None:
            worth = self.trainer.worth(self.waiting)
            if worth > (-math.inf if state.best_metric is None else state.best_metric):
                state.best_metric, state.best_global_step = worth, int(self.waiting["step"] or 0)
                state.best_model_checkpoint = self._folder(state.best_global_step)
        self.waiting = None

    def _folder(self, step: int) -> str:
        return str(self.work / f"checkpoint-{step}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.trainer.options.iterations:
            return
        broken = self.rules.broken([*self.trainer.history, self.trainer.now[ALL]])
        if broken is not None:
            reason, said = broken
            self.stopped = {"step": state.global_step, "reason": reason, "said": said}
            control.should_training_stop = True
            control.should_save = False
            return
        self._settle(state)
        if self.watching and (state.global_step % self.every == 0 or state.global_step == state.max_steps):
            control.should_evaluate = True


def checkpoints(history: Sequence[dict[str, Any]]) -> list[Figures]:
    """The figures of the steps that might have been kept, from a training's log."""
    name = f"{HELD_OUT}step"
    return [
        {"step": entry[name], **grouped(entry, HELD_OUT).get(ALL, dict.fromkeys(NAMES))}
        for entry in history
        if name in entry
    ]


def _padded(prompts: Sequence[list[int]], completions: Sequence[list[int]], pad: int, device: Any) -> dict[str, Tensor]:
    """Prompts padded on the left and answers on the right, with their masks, as TRL has them."""

    def block(rows: Sequence[list[int]], side: str) -> tuple[Tensor, Tensor]:
        tensors = [torch.tensor(row) for row in rows]
        ids = pad_sequence(tensors, batch_first=True, padding_value=pad, padding_side=side)
        mask = pad_sequence([torch.ones_like(t) for t in tensors], batch_first=True, padding_side=side)
        return ids.to(device), mask.to(device)

    prompt_ids, prompt_mask = block(prompts, "left")
    completion_ids, completion_mask = block(completions, "right")
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
    }
