"""A recipe as one typed tree: all that a run depends on, checked before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from polypref import registry
from polypref.backends.base import ModelSpec, Options, ScorerSpec, Tag
from polypref.errors import did_you_mean
from polypref.recipe_reuse import BestOfN, Diagnose
from polypref.recipe_reuse_checks import check_reuse
from polypref.recipe_reward_checks import check_rewards
from polypref.recipe_rewards import AnyReward, Judge, ModelReward, Name, Representation, RewardModels
from polypref.recipe_sections import (
    NAME,
    Alignment,
    AnyPair,
    AnyTrain,
    Baseline,
    BestOfNPair,
    Evaluate,
    Generate,
    ImbalancePair,
    Models,
    Pair,
    PromptTranslation,
    Reward,
    RLTrain,
    Server,
    Train,
    Translate,
)
from polypref.recipe_sft import SFT
from polypref.stages.prompts import PromptOptions
from polypref.stages.signature_figures import SignatureOptions
from polypref.stages.views import View

LOGPROBS = ("policy_logprob", "reference_logprob")
Identifier = Literal["lingua", "sandbox", "fake"]


class Recipe(Options):
    """The whole of a run."""

    name: str = Field("icr", pattern=NAME, description="its models are <name>-round-1, …")
    seed: int = Field(0, ge=0, description="of everything that names no seed of its own")
    languages: tuple[Tag, ...] = Field((), description="all that the prompts have when empty; the pivot is among them")
    pivot: Tag = Field("en", description="the language that preferences exist in")
    models: Models = Field(Models(), description="what the user brings; needed by rounds")
    sft: SFT | None = Field(None, description="makes the policy where models.policy is left out: the unaligned model")
    rewards: dict[Name, ScorerSpec] = Field(
        default_factory=dict, description="rewards that the user brings: a name for each, and the scorer"
    )
    reward_models: RewardModels | None = Field(None, description="reward models to train")
    judge: Judge | None = Field(None, description="judges all rewards, trained and brought; not at all when left out")
    representation: Representation | None = Field(None, description="what reward training does to hidden states")
    diagnose: Diagnose | None = Field(None, description="cheap experiments before the rounds: go, doubtful or no-go")
    best_of_n: BestOfN | None = Field(None, description="what picking by the rewards is worth, without training")
    server: Server | None = Field(None, description="who answers in the models' stead; themselves when left out")
    alignment: Alignment | None = Field(None, description="makes the policy where models.policy is left out")
    prompts: PromptOptions | None = Field(None, description="the training prompts, in all languages; needed by rounds")
    translate_prompts: PromptTranslation | None = Field(
        None, description="makes the prompts that prompts.languages (the pivot alone when empty) leave out"
    )
    generate: Generate = Field(Generate(), description="who answers them, and how")
    translate: Translate | None = Field(
        None, description="translates the answers; the translated view needs it, pairs by imbalance have a default"
    )
    reward: AnyReward = Field(Reward(), description="how the answers are scored; not for pairs by imbalance")
    pair: AnyPair = Field(Pair(), description="which answers become pairs")
    train: AnyTrain = Field(Train(), description="how a round trains on them, or by reinforcement without pairs")
    baselines: tuple[Baseline, ...] = Field((), description="other models to hold the rounds' against")
    rounds: int = Field(
        2, ge=0, description="each starts from the model of the one before; 0 trains nothing beside sft and rewards"
    )
    evaluate: Evaluate | None = Field(None, description="what is measured; nothing when left out")
    signatures: SignatureOptions = Field(SignatureOptions(), description="the limits of the signs of failure")
    language_identifier: Identifier = Field("lingua", description="who tells the language of an answer")
    shard_size: int = Field(256, gt=0, description="prompts a shard: what a kill may cost, and what a progress step is")
    report_samples: int = Field(3, ge=0, description="pairs a language shown in the report")

    @model_validator(mode="before")
    @classmethod
    def _one_seed(cls, tree: Any) -> Any:
        """Sections that name no seed of their own have the recipe's."""
        if not isinstance(tree, dict):
            return tree
        seed = tree.get("seed", 0)
        return _seeded(tree, seed if isinstance(seed, int) else 0)

    @model_validator(mode="after")
    def _rounds_have_what_they_need(self) -> Recipe:
        given = {"models": self.models != Models() or self.sft is not None, "prompts": self.prompts is not None}
        if self.rounds and (lost := [name for name, there in given.items() if not there]):
            raise ValueError(f"{' and '.join(lost)} must be given, or rounds: 0 to align nothing")
        tasks = (self.sft, self.judge, self.reward_models, self.representation, self.diagnose, self.best_of_n)
        if not self.rounds and not any(tasks):
            raise ValueError("rounds is 0 and there are no rewards, so there is nothing to do; say rounds: 1")
        return self

    @model_validator(mode="after")
    def _rewards_have_what_they_need(self) -> Recipe:
        check_rewards(self)
        check_reuse(self)
        return self

    @model_validator(mode="after")
    def _one_policy(self) -> Recipe:
        if not self.answers and self.models == Models():
            return self
        makers = {"models.policy": self.models.policy, "alignment": self.alignment, "sft": self.sft}
        given = [name for name, made in makers.items() if made is not None]
        if len(given) != 1:
            told = f", not {' and '.join(given)}" if given else ""
            raise ValueError(f"give models.policy, or alignment or sft to make it: one of the three{told}")
        by_itself = isinstance(self.pair, ImbalancePair) or isinstance(self.reward, ModelReward) or not self.rounds
        if self.sft and self.models.reference:
            raise ValueError("models.reference beside sft is what nothing was aligned from; leave it out")
        if self.models.reference is None and (self.alignment or not by_itself):
            raise ValueError("models.reference is missing; give the model that the policy was aligned from")
        for role, spec in (("policy", self.models.policy), ("reference", self.models.reference)):
            if spec is not None and spec.backend == "openai":
                raise ValueError(
                    f"models.{role} is on a server, which can only answer, while a run also scores with it and trains "
                    "it; give a folder or a hub name here, and the server under server"
                )
        served = self.model_names
        for name in served:
            if not re.match(NAME, name):
                raise ValueError(f"the model's name {name!r} names a folder; write letters, digits, '.', '_', '-'")
        for name in self.server.serves if self.server else ():
            if name not in served:
                raise ValueError(f"server.serves names {name!r}; {did_you_mean(name, served)}")
        if len(set(served)) < len(served):
            raise ValueError(f"the models' names {', '.join(served)} must differ from each other")
        if late := [baseline.name for baseline in self.baselines if baseline.round > self.rounds]:
            raise ValueError(f"baseline {late[0]} is of a round that is not run; there are {self.rounds}")
        return self

    @model_validator(mode="after")
    def _imbalance_has_what_it_needs(self) -> Recipe:
        pair = self.pair
        if not isinstance(pair, ImbalancePair):
            return self
        if self.generate.n != 1:
            raise ValueError(
                f"pairs by imbalance compare one answer a language; generate.n is {self.generate.n}, say 1"
            )
        if "reward" in self.model_fields_set:
            raise ValueError("pairs by imbalance ask no reward; leave the section reward out")
        if self.evaluate and (self.evaluate.reward_accuracy or self.evaluate.labelled):
            raise ValueError(
                "pairs by imbalance ask no reward, so there is no accuracy of one; leave evaluate.reward_accuracy and "
                "evaluate.labelled out"
            )
        if pair.dominant == "auto" and not (pair.probe.scorer or (self.evaluate and self.evaluate.quality)):
            raise ValueError("pair.dominant is auto, but nothing scores the probe; give pair.probe.scorer")
        if pair.dominant not in ("pivot", "auto", self.pivot, *self.languages) and self.languages:
            raise ValueError(f"pair.dominant is {pair.dominant}, which is none of languages; add it, or say auto")
        return self

    @model_validator(mode="after")
    def _known_scorers(self) -> Recipe:
        asked = {
            "evaluate.quality": self.evaluate.quality if self.evaluate else None,
            "alignment.scorer": self.alignment.scorer if self.alignment else None,
            "sft.scorer": self.sft.scorer.scorer if self.sft and self.sft.scorer else None,
            "pair.probe.scorer": self.pair.probe.scorer if isinstance(self.pair, ImbalancePair) else None,
        }
        named = {f"rewards.{name}": spec for name, spec in self.rewards.items()}
        if self.evaluate:
            named |= {f"evaluate.judges.{name}": spec for name, spec in self.evaluate.judges.items()}
        asked |= {f"{where}.scorer": spec.scorer for where, spec in named.items()}
        tables = {**registry.SCORERS, **registry.COMPARERS}
        for where, name in asked.items():
            known = tables if where.removesuffix(".scorer") in named else registry.SCORERS
            if name is not None and ":" not in name and name not in known:
                hint = did_you_mean(name, known)
                raise ValueError(f"{where} is {name!r}, which is no scorer; {hint}, or write package.module:Class")
        if self.sft and self.sft.scorer:
            named["sft.scorer"] = self.sft.scorer
        if self.evaluate and self.evaluate.quality:
            quality = ScorerSpec(scorer=self.evaluate.quality, model=self.evaluate.quality_model)
            named["evaluate.quality with evaluate.quality_model"] = quality
        for where, spec in named.items():
            if told := registry.mistake_of(spec):
                raise ValueError(f"{where}: {told}")
        return self

    @model_validator(mode="after")
    def _pivot_is_among_the_languages(self) -> Recipe:
        if self.rounds and self.languages and self.pivot not in self.languages:
            raise ValueError(f"the pivot {self.pivot} is none of languages ({', '.join(self.languages)}); add it")
        return self

    @model_validator(mode="after")
    def _evaluated_languages_are_known(self) -> Recipe:
        asked = self.evaluate.prompts.languages if self.evaluate and self.evaluate.prompts else ()
        if asked and self.evaluate and self.languages:
            spoken = (*self.languages, *self.evaluate.unseen)
            if lost := [tag for tag in self.evaluate.unseen if tag not in asked]:
                raise ValueError(
                    f"evaluate.unseen holds {lost[0]}, which evaluate.prompts.languages leaves out; add it"
                )
            if more := [tag for tag in asked if tag not in spoken]:
                raise ValueError(
                    f"evaluate.prompts.languages holds {more[0]}, which the run does not train on; name it under "
                    "evaluate.unseen"
                )
        return self

    @model_validator(mode="after")
    def _each_language_has_its_instruction(self) -> Recipe:
        told = self.prompts.instruction if self.prompts else None
        if isinstance(told, Mapping) and (lost := [tag for tag in self.languages if tag not in told]):
            raise ValueError(f"prompts.instruction has no text for {', '.join(lost)}; add it")
        return self

    @model_validator(mode="after")
    def _unseen_is_not_seen(self) -> Recipe:
        if self.evaluate and (seen := set(self.evaluate.unseen) & {*self.languages, self.pivot}):
            raise ValueError(f"evaluate.unseen holds {', '.join(sorted(seen))}, which the run trains on; take it out")
        if self.evaluate and self.evaluate.unseen and not self.languages:
            raise ValueError("evaluate.unseen needs languages; name those that the run trains on")
        return self

    @model_validator(mode="after")
    def _prompts_can_be_made(self) -> Recipe:
        if self.translate_prompts and not self.languages:
            raise ValueError("translate_prompts needs languages; name those that prompts are wanted in")
        return self

    @model_validator(mode="after")
    def _instruction_suits_the_view(self) -> Recipe:
        told = (self.prompts.instruction if self.prompts else None) or ""
        told = told if isinstance(told, str) else " ".join(told.values())
        under_pivot = {"cross_lingual", "translated"} & set(self.views)
        if isinstance(self.pair, Pair) and under_pivot and "{language" in told:
            raise ValueError(
                f"prompts.instruction names the prompt's {{language}}, but the view {', '.join(sorted(under_pivot))} "
                "scores under the pivot's prompt, which would ask for the pivot; leave {language} out of it"
            )
        return self

    @model_validator(mode="after")
    def _translations_are_made(self) -> Recipe:
        asked = {} if isinstance(self.pair, ImbalancePair) else {"reward.views": self.views}
        if self.evaluate:
            asked["evaluate.reward_accuracy"] = self.evaluate.reward_accuracy
        for where, views in asked.items():
            if "translated" in views and self.translate is None:
                raise ValueError(
                    f"{where} holds translated, but nothing translates the answers into the pivot; add a section "
                    "translate, such as translate: {method: tagged}"
                )
        return self

    @model_validator(mode="after")
    def _known_scores(self) -> Recipe:
        if isinstance(self.pair, Pair) and not isinstance(self.train, RLTrain):
            made = [name for view in self.views for name in (view, *(f"{view}_{kind}" for kind in LOGPROBS))]
            made += [self.reward.model] if isinstance(self.reward, ModelReward) else []
            if self.pair_score not in made:
                raise ValueError(f"pair.score is {self.pair_score!r}; {did_you_mean(self.pair_score, made)}")
        if self.alignment and self.alignment.pair.score not in ("", self.alignment.scorer):
            raise ValueError("alignment.pair.score is another than alignment.scorer's; leave it out")
        return self

    @field_validator("languages")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @property
    def model_names(self) -> list[str]:
        """What results call the models that answer: those given, the rounds' and the baselines'."""
        if not self.answers and self.models == Models():
            return []
        given = [self.policy_name] if self.models.reference is None else [self.reference_name, self.policy_name]
        made = [f"{self.name}-round-{number + 1}" for number in range(self.rounds)]
        return [*given, *made, *(baseline.name for baseline in self.baselines)]

    @property
    def policy_name(self) -> str:
        """What results call the policy that round 1 starts from."""
        if self.models.policy is not None:
            return self.models.policy.name or "policy"
        maker = self.alignment or self.sft
        return maker.name if maker else "policy"

    @property
    def answers(self) -> bool:
        """Whether a model of the run answers anything, beside what rewards are judged on."""
        return bool(self.rounds or self.sft or self.best_of_n or self.diagnose)

    @property
    def reference(self) -> ModelSpec | None:
        """What the policy was aligned from; the policy itself where the recipe names nothing else. None where a
        training of the run makes it."""
        return self.models.reference or self.models.policy

    @property
    def reference_name(self) -> str:
        """What results call it."""
        if self.models.reference is None:
            return self.policy_name
        return self.models.reference.name or "reference"

    @property
    def implicit(self) -> Reward:
        """How log-ratios are taken; its defaults where another reward scores the answers."""
        return self.reward if isinstance(self.reward, Reward) else Reward()

    @property
    def views(self) -> tuple[View, ...]:
        """The views that the rounds score; none where a reward model does."""
        return self.reward.views if isinstance(self.reward, Reward) else ()

    @property
    def pair_score(self) -> str:
        """The score that pairs; empty where none does."""
        if isinstance(self.train, RLTrain) or not isinstance(self.pair, Pair | BestOfNPair):
            return ""
        own = self.pair.score if isinstance(self.pair, Pair) else ""
        return own or (self.reward.model if isinstance(self.reward, ModelReward) else self.reward.views[0])

    @property
    def pair_layer(self) -> str:
        """What makes ``pair_score``, all that pairing reads: a view, or a reward model's name."""
        if isinstance(self.reward, ModelReward):
            return self.reward.model
        return next(v for v in self.views if self.pair_score in (v, *(f"{v}_{kind}" for kind in LOGPROBS)))

    @property
    def reward_start(self) -> ModelSpec | None:
        """What reward models are made of; None where that is the model that sft makes."""
        own = self.reward_models.start if self.reward_models else None
        return own or self.reference

    @property
    def representation_base(self) -> ModelSpec | None:
        """What the shift of a representation is from."""
        own = self.representation.base if self.representation else None
        return own or self.reward_start


_SEEDED = ("prompts", "generate", "train", "sampling", "labelled", "data", "validation", "training", "texts")
_ALWAYS = {
    "alignment": ("generate", "train"),
    "sft": ("train",),
    "evaluate": ("sampling",),
    "diagnose": (),
    "best_of_n": (),
    "reward_models": ("train",),
    "judge": (),
    "representation": (),
}


def _seeded(tree: Mapping[str, Any], seed: Any, always: Sequence[str] = ("generate", "train")) -> dict[str, Any]:
    """The tree with the seed in each section that names none; those of ``always`` are there when it is left out."""
    out = dict(tree)
    for name in _SEEDED:
        section = out.get(name, {} if name in always else None)
        if isinstance(section, dict):
            out[name] = {"seed": seed, **section}
    for name, inside in _ALWAYS.items():
        if isinstance(out.get(name), dict):
            out[name] = _seeded(out[name], seed, inside)
    if isinstance(baselines := out.get("baselines"), list):
        out["baselines"] = [_seeded(b, seed, ()) if isinstance(b, dict) else b for b in baselines]
    return out


def as_tree(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain data: what was left out stands in it with its default."""
    tree = recipe.model_dump(mode="json")
    if isinstance(recipe.pair, ImbalancePair):  # no reward scores its answers
        del tree["reward"]
    if isinstance(recipe.train, RLTrain):  # it makes no pairs
        del tree["pair"]
    return tree
