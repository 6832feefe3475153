"""The sections of a recipe, each an options tree; ``recipe.py`` puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, model_validator
from pydantic import Tag as Branch

from polypref.backends.base import ModelSpec, Options, Sampling, ScorerSpec, Tag
from polypref.backends.rl_training import RLOptions
from polypref.backends.training import TrainOptions
from polypref.backends.translation import TranslatorOptions, TranslatorSpec
from polypref.stages.best_of_n import BestOfNOptions
from polypref.stages.imbalance import ImbalanceOptions
from polypref.stages.pair import BestWorstOptions
from polypref.stages.pair_filters import FilterOptions
from polypref.stages.prompts import PromptOptions
from polypref.stages.translate import TranslateOptions
from polypref.stages.views import PREFIX, Prefix, View

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Models(Options):
    """The models that the user brings: an English-aligned one, and for an implicit reward what it was aligned from."""

    policy: ModelSpec | None = Field(
        None, description="the model that round 1 starts from; left out where alignment makes it"
    )
    reference: ModelSpec | None = Field(
        None, description="what it was aligned from, e.g. the SFT model; pairs by imbalance do without"
    )


class Server(Options):
    """An OpenAI-compatible server that answers in the models' stead; scoring and training still open their files.

    It must serve each model under the name that results use (``policy``, ``icr-round-1``): where it does not, the run
    stops there, says so, and goes on once the model is served.
    """

    url: str = Field(description="its base URL, ending with /v1")
    serves: tuple[str, ...] = Field((), description="the models that it answers for; all when empty")
    api_key_env: str = Field("OPENAI_API_KEY", description="the environment variable that holds the key")
    concurrency: int = Field(32, gt=0, description="requests in flight at once")
    timeout: float = Field(600.0, gt=0, description="seconds for one request")
    attempts: int = Field(5, gt=0, description="tries for one request before it is recorded as failed")


class Generate(Sampling):
    """Who answers the training prompts, and how."""

    n: int = Field(10, gt=0, description="answers a prompt and language")
    temperature: float | None = Field(0.9, ge=0, description="0 is greedy")
    top_p: float | None = Field(1.0, gt=0, le=1, description="share of the probability that is kept")
    max_tokens: int = Field(2400, gt=0, description="tokens of one answer")
    source: Literal["policy", "reference"] | dict[Literal["policy", "reference"], int] = Field(
        "policy", description="policy is the model that the round starts from; a mixture is {policy: 5, reference: 5}"
    )
    system: dict[Tag, str] = Field(default_factory=dict, description="a system prompt by language")
    keep_thinking: bool = Field(False, description="leave a reasoning part in the answer, where it counts")

    @model_validator(mode="after")
    def _shares_make_n(self) -> Generate:
        if isinstance(self.source, dict) and (sum(self.source.values()) != self.n or min(self.source.values()) < 1):
            raise ValueError(f"the answers of {dict(self.source)} must be positive and add up to n = {self.n}")
        return self

    @property
    def shares(self) -> dict[str, int]:
        """How many answers each role gives."""
        return dict(self.source) if isinstance(self.source, dict) else {self.source: self.n}


class PivotGenerate(Generate):
    """Who answers the prompts of an alignment: there is the reference alone."""

    source: Literal["reference"] = Field("reference", description="the policy is what the alignment makes")


class Translating(TranslatorOptions):
    """Who translates, and how."""

    model: ModelSpec | None = Field(None, description="left out: the model that answers, the round's own")
    language_check: bool = Field(True, description="a translation in another language than asked for is a failure")
    by_paragraph: Literal["auto", "on", "off"] = Field(
        "auto", description="auto: a text goes in pieces where it is too long for the model's window"
    )
    max_characters: int = Field(2000, gt=0, description="of one piece; a longer sentence is not cut")

    @model_validator(mode="after")
    def _model_and_method_agree(self) -> Translating:
        if self.method == "seq2seq" and self.model is None:
            raise ValueError("method seq2seq needs a model of its own, such as google/madlad400-3b-mt; give model")
        if self.model is not None:
            self.common(self.model)
        return self

    def common(self, model: ModelSpec) -> dict[str, Any]:
        """What every stage that translates is told; ``model`` translates where the section names none of its own."""
        spec = {name: getattr(self, name) for name in TranslatorOptions.model_fields}
        return {
            "translator": TranslatorSpec(**spec, model=self.model or model),
            "language_check": self.language_check,
            "by_paragraph": self.by_paragraph,
            "max_characters": self.max_characters,
        }

    def role(self, name: str) -> str:
        """What translations are said to be of, where the model ``name`` translates unless the section has its own."""
        return self.model.name or self.model.path if self.model else name


class Translate(Translating):
    """Who translates the answers: both ways for pairs by imbalance, else into the pivot for the translated view."""

    round_trip: int = Field(
        100, ge=0, description="translations a language that are translated back, for their chrF; 0: none"
    )

    def options(self, model: ModelSpec, *directions: str) -> TranslateOptions:
        """The stage's options; ``model`` translates, as the policy, where the section names none of its own."""
        return TranslateOptions(**self.common(model), role=self.role("policy"), directions=directions or ("to_pivot",))


class PromptTranslation(Translating):
    """Who makes the prompts of the other languages from the pivot's, where the user brings none."""

    model: ModelSpec | None = Field(None, description="left out: the policy that round 1 starts from")


class Reward(Options):
    """The implicit reward: its two models, never mixed up with the one that training pulls towards."""

    by: Literal["implicit", "model"] = Field("implicit", description="implicit, or model: see below")
    views: tuple[View, ...] = Field(("cross_lingual",), min_length=1, description="the first one pairs")
    policy: Literal["current", "given"] = Field(
        "current",
        description="current: the model that the round starts from; given: the policy that round 1 starts from",
    )
    reference: Literal["fixed", "previous"] = Field(
        "fixed", description="fixed: models.reference always; previous: what the round's policy was trained from"
    )
    beta: float = Field(0.1, gt=0, description="factor of the log-ratio; margins are in its unit")
    normalise: Literal["sum", "mean"] = Field("sum", description="over the answer's tokens, end-of-turn included")
    prefix: Prefix = Field(PREFIX, description="before the pivot's prompt; {language} is the answer's, in English")


class Pair(BestWorstOptions):
    """How answers become pairs: best against worst by a score."""

    rule: Literal["best_worst", "imbalance"] = Field("best_worst", description="best_worst, or imbalance: see below")
    score: str = Field(
        "",
        description="the score that decides; when empty the first of reward.views or reward.model, in an alignment its "
        "scorer",
    )


class Probe(Options):
    """What tells which language leads: the first answers of round 1's model, scored."""

    limit: int = Field(100, gt=1, description="prompts, the first of the seeded order, answered in every language")
    scorer: str | None = Field(None, description="a scorer; left out: evaluate.quality")
    scorer_model: ModelSpec | None = Field(None, description="the model of a scorer that needs one")


Id = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""An example's id; a whole number is taken as its digits, as in a JSON file of ids."""


class ImbalancePair(FilterOptions):
    """How answers become pairs: the leading language's answer, translated, against the other language's own, and the
    other way round (LIDR)."""

    rule: Literal["imbalance"] = Field("imbalance", description="must be said")
    dominant: Literal["pivot", "auto"] | Tag = Field(
        "pivot", description="the language that leads: the recipe's pivot, another, or auto: the one that a probe finds"
    )
    probe: Probe = Field(Probe(), description="how auto finds it")
    pivot_pairs: Literal["all", "one"] = Field(
        "all", description="all: one for each target language, as in the paper; one: that of the last, as released"
    )
    translation_prompts: str | tuple[Id, ...] = Field(
        (), description="prompts that are about translation: their ids, or a JSON file of them"
    )
    detect_translation_prompts: bool = Field(False, description="find such prompts by their words as well")
    language_check: bool = Field(False, description="drop a language's pairs when an answer in them is off-language")

    def options(self, pivot: str, translation_prompts: tuple[str, ...]) -> ImbalanceOptions:
        """The stage's options, once it is known which language leads."""
        shared = ImbalanceOptions.model_fields.keys() & type(self).model_fields.keys()
        given = {name: getattr(self, name) for name in shared} | {"translation_prompts": translation_prompts}
        return ImbalanceOptions(**given, pivot=pivot)


class BestOfNPair(FilterOptions):
    """How answers become pairs: the best of n, which ``train.method: sft`` trains on alone (rejection sampling),
    against the worst of the same n. n is generate.n."""

    rule: Literal["best_of_n"] = Field("best_of_n", description="must be said")
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="soft best-of-n: picks by softmax(score/temperature)"
    )
    language_check: bool = Field(False, description="never pick an answer in another language than its prompt")

    def options(self, score: str, n: int, seed: int) -> BestOfNOptions:
        """The stage's options."""
        shared = BestOfNOptions.model_fields.keys() & type(self).model_fields.keys()
        return BestOfNOptions(**{name: getattr(self, name) for name in shared}, score=score, n=n, seed=seed)


_RULES = ("imbalance", "best_of_n")


def _rule(value: Any) -> str:
    rule = value.get("rule") if isinstance(value, Mapping) else getattr(value, "rule", None)
    return str(rule) if rule in _RULES else "best_worst"


AnyPair = Annotated[
    Annotated[Pair, Branch("best_worst")]
    | Annotated[ImbalancePair, Branch("imbalance")]
    | Annotated[BestOfNPair, Branch("best_of_n")],
    Discriminator(_rule),
]
"""A rule of pairing, told by its ``rule``."""


class Train(TrainOptions):
    """How a round trains. Which model it starts from is not set here: the last round's, at first the policy."""

    reference: Literal["start", "fixed"] = Field(
        "start", description="of the loss; start: the model that the round starts from; fixed: models.reference"
    )

    @model_validator(mode="after")
    def _kto_starts_at_its_reference(self) -> Train:
        if self.method == "kto" and self.reference == "fixed":
            raise ValueError("reference is fixed, but kto is held to the model it starts from; leave reference out")
        return self


class RLTrain(RLOptions):
    """How a round trains by reinforcement: no pairs, the reward scores what the policy samples as it learns.

    It starts from the last round's model, at first the policy, and is held to the model that it starts from.
    """

    method: Literal["rloo", "grpo", "fake_rl"] = Field(  # type: ignore[assignment]
        "rloo", description="REINFORCE leave-one-out, group-relative policy optimisation, or a fake for trying out"
    )

    @property
    def trainer(self) -> dict[str, Any]:
        """What the stage is told."""
        told = {name: getattr(self, name) for name in type(self).model_fields}
        return told | {"method": "fake" if self.method == "fake_rl" else self.method}


def _method(value: Any) -> str:
    method = value.get("method") if isinstance(value, Mapping) else getattr(value, "method", None)
    return "rl" if method in ("rloo", "grpo", "fake_rl", "ppo") else "pairs"  # ppo: to be told what there is


AnyTrain = Annotated[Annotated[Train, Branch("pairs")] | Annotated[RLTrain, Branch("rl")], Discriminator(_method)]
"""A way of training, told by its ``method``."""


class Alignment(Options):
    """Makes the policy from the reference with preferences in the pivot alone, where the user has no aligned model.

    Prompts that bring pairs (preference rows) are trained on as they are; others are answered by the reference, and
    ``scorer`` says which answers are better.
    """

    name: str = Field("aligned", pattern=NAME, description="what results call the policy")
    prompts: PromptOptions = Field(description="with pairs in them (preference rows), or prompts to answer")
    scorer: str | None = Field(None, description="oracle, fake, or package.module:Class; not for prompts with pairs")
    generate: PivotGenerate = Field(PivotGenerate(), description="not for prompts with pairs")
    pair: Pair = Field(Pair(), description="by the scorer's score; not for prompts with pairs")
    train: Train = Field(Train(), description="from the reference and towards it")


class Baseline(Options):
    """Another training from a round's start: on its pairs another way, or by another reward. It is what the round's own
    is held against; one for each source makes a source × target table."""

    name: str = Field(pattern=NAME, description="what results call its model")
    round: int = Field(1, ge=1, description="whose answers and start it takes")
    train: AnyTrain | None = Field(
        None, description="such as {method: sft}: the chosen answers alone; left out: as the round trains"
    )
    reward: str | None = Field(None, description="a reward of the run in the place of reward.model")

    @model_validator(mode="after")
    def _another(self) -> Baseline:
        if self.train is None and self.reward is None:
            raise ValueError("is the round itself; give it another train, or another reward")
        return self


class EvaluateSampling(Sampling):
    """How the models answer the held-out prompts."""

    temperature: float | None = Field(0.6, ge=0, description="0 is greedy")
    top_p: float | None = Field(0.9, gt=0, le=1, description="share of the probability that is kept")
    max_tokens: int = Field(2048, gt=0, description="tokens of one answer")


class Evaluate(Options):
    """What is measured of the reference, the policy and every round's model."""

    prompts: PromptOptions | None = Field(None, description="held-out prompts; their overlap with training is refused")
    sampling: EvaluateSampling = Field(EvaluateSampling(), description="how the held-out prompts are answered")
    unseen: tuple[Tag, ...] = Field((), description="languages that are evaluated and not trained on")
    quality: str | None = Field(None, description="a scorer: oracle, fake, or package.module:Class")
    quality_model: ModelSpec | None = Field(None, description="the model of a scorer that needs one")
    judges: dict[str, ScorerSpec] = Field(
        default_factory=dict, description="more judges: a name for each, and a scorer or a judge of pairs"
    )
    win_rates: tuple[str, ...] = Field(
        (),
        description="who judges every model against the policy that round 1 starts from: quality, a name of judges, a "
        "reward's name, or target: in each language the reward model trained on it",
    )
    by_category: bool = Field(False, description="quality and win rate by the prompts' category too")
    kl: bool = Field(True, description="from models.reference, on the sampled answers")
    language_fidelity: bool = Field(True, description="share of answers in the prompt's language")
    reward_accuracy: tuple[View, ...] = Field((), description="views whose reward is tested on right and wrong answers")
    labelled: PromptOptions | None = Field(None, description="labelled answers to test the reward on; else the sampled")
