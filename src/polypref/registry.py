"""Names to classes: a table of text, so that nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from polypref.backends import processes
from polypref.backends.base import Context, ModelSpec, Progress, Role, ScorerSpec, silent
from polypref.backends.translation import Memory, RememberingTranslator, TranslatorSpec
from polypref.errors import RecipeError, did_you_mean
from polypref.mistakes import checked

BACKENDS: dict[tuple[str, str], str] = {
    ("generator", "hf"): "polypref.backends.hf_generate:HFGenerator",
    ("generator", "vllm"): "polypref.backends.vllm:VLLMGenerator",
    ("generator", "openai"): "polypref.backends.openai:OpenAIGenerator",
    ("generator", "fake"): "polypref.backends.fake:FakeGenerator",
    ("logprobs", "hf"): "polypref.backends.hf_logprobs:HFLogprobs",
    ("logprobs", "fake"): "polypref.backends.fake:FakeLogprobs",
    ("language_identifier", "lingua"): "polypref.backends.language_id:LinguaIdentifier",
    ("language_identifier", "fake"): "polypref.backends.fake:FakeLanguageIdentifier",
    ("language_identifier", "sandbox"): "polypref.backends.scorers:SandboxIdentifier",
    ("translator", "tagged"): "polypref.backends.translation:TaggedTranslator",
    ("translator", "seq2seq"): "polypref.backends.seq2seq:Seq2SeqTranslator",
    ("trainer", "dpo"): "polypref.backends.trl:TRLTrainer",
    ("trainer", "sft"): "polypref.backends.trl:TRLTrainer",
    ("trainer", "kto"): "polypref.backends.trl:TRLTrainer",
    ("trainer", "fake"): "polypref.backends.fake:FakeTrainer",
    ("reward_trainer", "transformer"): "polypref.backends.trl_reward:TRLRewardTrainer",
    ("reward_trainer", "bag_of_words"): "polypref.backends.bag_of_words:BagOfWordsTrainer",
    ("reward_trainer", "fake"): "polypref.backends.fake:FakeRewardTrainer",
    ("sft_trainer", "transformer"): "polypref.backends.trl_sft:TRLSFTTrainer",
    ("sft_trainer", "fake"): "polypref.backends.fake_sft:FakeSFTTrainer",
    ("rl_trainer", "rloo"): "polypref.backends.trl_rl:TRLRLTrainer",
    ("rl_trainer", "grpo"): "polypref.backends.trl_rl:TRLRLTrainer",
    ("rl_trainer", "fake"): "polypref.backends.fake_rl:FakeRLTrainer",
    ("hidden_states", "hf"): "polypref.backends.hf_hidden:HFHiddenStates",
    ("hidden_states", "fake"): "polypref.backends.fake:FakeHiddenStates",
}

SCORERS: dict[str, str] = {
    "reward_model": "polypref.backends.hf_rewards:HFRewardModel",
    "bag_of_words": "polypref.backends.bag_of_words:BagOfWordsScorer",
    "implicit": "polypref.backends.implicit_scorer:ImplicitScorer",
    "judge": "polypref.backends.judge:NumberJudge",
    "number": "polypref.backends.number_scorer:NumberScorer",
    "oracle": "polypref.backends.scorers:OracleScorer",
    "fake": "polypref.backends.fake:FakeScorer",
}

COMPARERS: dict[str, str] = {
    "pair_judge": "polypref.backends.judge:PairJudge",
    "verdicts": "polypref.backends.verdict_file:VerdictFile",
}
"""Judges of pairs, where a scorer may also stand: it prefers the answer with the higher score."""

SETTINGS: dict[str, str] = {
    "implicit": "polypref.backends.judging:ImplicitSettings",
    "judge": "polypref.backends.judging:NumberSettings",
    "pair_judge": "polypref.backends.judging:PairSettings",
    "verdicts": "polypref.backends.verdict_file:VerdictSettings",
    "reward_model": "polypref.backends.judging:RewardModelSettings",
}
"""What a scorer's or comparer's ``settings`` may hold; one that is not here has none."""

METRICS: dict[str, str] = {
    "quality": "mean score of the answers by the oracle or scorer that the recipe names",
    "quality_<category>": "the same over the prompts of one category",
    "win_rate": "share of comparisons with the unaligned model's answers that are won, by the first judge",
    "win_rate_by_<judge>": "the same by another judge",
    "win_rate_<category>": "the first judge's over the prompts of one category",
    "length_controlled_win_rate": "the win rate at equal lengths, by AlpacaEval 2's model",
    "tie_rate": "share of a judge's comparisons that are ties",
    "one_order": "share of a judge's verdicts that rest on one order, since the other could not be read",
    "no_verdict_win_rate": "share of the judge's comparisons without a verdict",
    "flip_rate_win_rate": "share of the judge's comparisons that turned with the order of the answers",
    "reward": "mean score of the answers by the reward that made the last model",
    "score_by_<judge>": "mean score of the answers by a judge or a reward",
    "reward_accuracy_<view>": "how often the reward prefers a right answer to a wrong one (ties count half)",
    "reward_accuracy_<view>_policy_samples": "the same on the reward's own policy's answers: its blind spot",
    "accuracy": "of a reward: how often it prefers the answer that is known to be better (ties count half)",
    "accuracy_<category>": "the same in one category of the judged data",
    "accuracy_on_<model>": "the same on a model's own answers, by the oracle or scorer that the recipe names",
    "length_baseline": "accuracy of the answer's length, its direction and threshold fitted on training data",
    "majority_baseline": "accuracy of always saying what is most frequent in training data",
    "kappa": "Cohen's κ of a reward's items with the same items in the pivot",
    "generalisation_gap": "accuracy on training data minus that on the judged data, in training languages",
    "flip_rate": "share of a judge's comparisons that turned with the order of the answers",
    "no_verdict": "share of items that a judge gave no verdict on",
    "imbalance_accuracy": "how often the leading language's answer beats the other language's own (ties count half)",
    "imbalance_better": "share of pairs whose chosen answer scores above the rejected one",
    "imbalance_worse": "share of pairs whose chosen answer scores below the rejected one",
    "own_quality": "mean score of a round's own answers to the training prompts",
    "translated_quality": "mean score of the translations that stand against them",
    "round_trip_chrf": "chrF of the pivot's answers translated into the language and back, 0 to 100",
    "translation_failed": "share of those round trips that failed on either way",
    "kl": "mean log-ratio to the reference on the sampled answers, in nats an answer",
    "language_fidelity": "share of answers in the prompt's language, of those whose language could be told",
    "off_target_language": "share in another language than the prompt's, of answers whose language could be told",
    "language_undetermined": "share of answers whose language could not be told",
    "line_pass_rate": "share of answers with every judged line in the wanted language",
    "word_pass_rate": "share of those without an English word, in scripts other than Latin",
    "language_confusion_pass_rate": "harmonic mean of the two",
    "code_switching": "share of answers in more than one language or script",
    "no_judged_line": "share of answers none of whose lines could be judged",
    "answered_in_<language>": "share of answers in that language (und: cannot be told)",
    "asks_other_language": "share of answers left out, since their prompt asks for another language",
    "crosslingual_<metric>": "the same of answers wanted in another language than their prompt's",
    "mt_bench": "mean of a judge's numbers, 1 to 10, over questions of their mean over turns, by the first judge",
    "mt_bench_turn_<n>": "the same of one turn",
    "mt_bench_<category>": "the same over the questions of one category",
    "mt_bench_no_verdict": "share of turns that the judge gave no number",
    "mt_bench_by_<judge>": "the same by another judge",
    "length_characters": "mean length in Unicode code points",
    "length_tokens": "mean length in tokens",
    "truncated": "share of answers cut at the token limit",
    "failed": "share of answers that failed",
}


def load(target: str) -> Any:
    """The object that ``package.module:name`` names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def backend(role: Role, name: str) -> Any:
    """The class that plays ``role`` under ``name``.

    Raises:
        RecipeError: no such backend for that role.
    """
    found = BACKENDS.get((role, name))
    if found is None:
        known = [n for r, n in BACKENDS if r == role]
        raise RecipeError(f"{name!r} is no {role.replace('_', ' ')}; {did_you_mean(name, known)}")
    return load(found)


def scorer(name: str) -> Any:
    """The class of a scorer: a name of the table, or a class of the user's as ``package.module:Class``.

    Raises:
        RecipeError: no such scorer.
    """
    if ":" in name:
        try:
            return load(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise RecipeError(f"scorer {name!r} cannot be imported ({error}); write package.module:Class") from None
    if name not in SCORERS:
        raise RecipeError(f"{name!r} is no scorer; {did_you_mean(name, SCORERS)}, or write package.module:Class")
    return load(SCORERS[name])


def fingerprint(spec: ModelSpec) -> str:
    """What a model is: a hub commit or the hash of its files; of a server, its address and model name."""
    if spec.backend in ("hf", "vllm"):
        return str(load("polypref.backends.fingerprints:fingerprint")(spec))
    return str(backend("generator", spec.backend)(spec).fingerprint)


def version_of(name: str) -> int | None:
    """The version of a scorer that is fully told by its spec and the files of its models; None where it must be opened
    to know."""
    return getattr(scorer(name), "VERSION", None) if name in SCORERS else None


NEEDS: dict[str, tuple[str, ...]] = {
    "bag_of_words": ("model",),
    "implicit": ("model", "reference"),
    "judge": ("model",),
    "pair_judge": ("model",),
    "reward_model": ("model",),
}
"""What a scorer's spec must name."""


def mistake_of(spec: ScorerSpec) -> str | None:
    """What is wrong with a scorer's spec, in a sentence; None where nothing is. Opens nothing."""
    for name in NEEDS.get(spec.scorer, ()):
        if getattr(spec, name) is None:
            return f"{spec.scorer} needs a {name}; give it"
    if not spec.settings:
        return None
    if spec.scorer not in SETTINGS:
        return f"{spec.scorer} has no settings; leave them out"
    try:
        checked(load(SETTINGS[spec.scorer]), spec.settings)
    except RecipeError as error:
        return f"settings: {error}"
    return None


class Opener:
    """``Context.open``: opens what a stage asks for, once, and keeps it until ``close``.

    Models of one process are kept only as long as the same step needs them; ``close`` frees their memory.
    """

    def __init__(
        self, languages: tuple[str, ...], pivot: str, identifier: str = "lingua", memory: Memory | None = None
    ) -> None:
        self.languages, self.pivot, self.identifier = languages, pivot, identifier
        self._open: dict[Any, Any] = {}
        self.memory = Memory() if memory is None else memory

    @property
    def settings(self) -> tuple[tuple[str, ...], str, str]:
        """What another process makes an opener like this one of."""
        return self.languages, self.pivot, self.identifier

    def __call__(self, role: Role, spec: Any) -> Any:
        key = (role, spec.model_dump_json() if hasattr(spec, "model_dump_json") else spec)
        if key not in self._open:
            self._open[key] = processes.shared(role, spec, self._make(role, spec), self)
        return self._open[key]

    def _make(self, role: Role, spec: Any) -> Any:
        if role == "language_identifier":
            languages = tuple(dict.fromkeys((*self.languages, self.pivot)))
            return backend(role, spec or self.identifier)(languages)
        if role == "scorer":
            made = scorer(spec.scorer)
            return made.opened(spec, self) if hasattr(made, "opened") else made(spec.model)
        if role == "comparer":
            return self._comparer(spec)
        if role.endswith("trainer"):
            return backend(role, spec)()
        if isinstance(spec, TranslatorSpec):
            return self._translator(spec)
        if not isinstance(spec, ModelSpec):
            raise TypeError(f"a {role} is opened by a ModelSpec, not {type(spec).__name__}")
        if role == "logprobs" and spec.backend == "vllm":  # it generates, but scores no prompt that is not its own
            spec = spec.model_copy(update={"backend": "hf"})
        return backend(role, spec.backend)(spec)

    def _comparer(self, spec: ScorerSpec) -> Any:
        """A judge of pairs, or a scorer that stands where one stands."""
        if spec.scorer in COMPARERS:
            return load(COMPARERS[spec.scorer]).opened(spec, self)
        return load("polypref.backends.scorer_comparer:ScorerComparer")(self("scorer", spec))

    def _translator(self, spec: TranslatorSpec) -> RememberingTranslator:
        """A translator that remembers what any translator of this opener has translated, since it was made."""
        made = backend("translator", spec.method)
        asked = made(self("generator", spec.model), spec) if spec.method == "tagged" else made(spec)
        return RememberingTranslator(asked, self.memory)

    def close(self) -> None:
        """Let go of every open model; the language identifier stays, it is small and slow to open."""
        import sys

        self._open = {key: kept for key, kept in self._open.items() if key[0] == "language_identifier"}
        # Only a process that loaded models has their cache to empty.
        if models := sys.modules.get("polypref.backends.hf_models"):
            models.close_models()
        processes.release(self)


def context(
    languages: tuple[str, ...] = (),
    pivot: str = "en",
    identifier: str = "lingua",
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda message: None,
    memory: Memory | None = None,
) -> tuple[Context, Opener]:
    """A context for a stage, and the opener to close afterwards; ``memory`` holds what was translated before."""
    opener = Opener(languages, pivot, identifier, memory)
    return Context(opener, languages, pivot, progress, warn, opener.close), opener


def first_line(target: str) -> str:
    """The first line of what a target says of itself, read from its source so that nothing is imported."""
    import ast
    from importlib.util import find_spec

    module, _, name = target.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    with open(spec.origin, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def metrics() -> dict[str, str]:
    """The metrics of results.json, and what each says."""
    return dict(METRICS)
