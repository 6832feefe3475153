"""What every step of a run needs: context, fingerprints, manifest, and a way to lay a stage over a track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polypref import registry
from polypref.backends.base import Context, ModelSpec, Options, Progress, Role, ScorerSpec
from polypref.backends.translation import Memory
from polypref.errors import ModelError
from polypref.executors import LOCAL, Executor
from polypref.executors.units import Layer, Task, Work
from polypref.recipe import Recipe
from polypref.stages import evaluate as evaluating
from polypref.stages import generate as generating
from polypref.stages import score as scoring
from polypref.stages import translate as translating
from polypref.stages.views import View
from polypref.store.atomic import digest
from polypref.store.manifest import Manifest
from polypref.store.results import keep, kept
from polypref.store.shards import Scope, Track, is_score


@dataclass(frozen=True)
class Model:
    """A model of the run, under the name that results use."""

    name: str
    spec: ModelSpec


@dataclass(frozen=True)
class Reward:
    """The two models whose log-ratio is an implicit reward."""

    policy: Model
    reference: Model


@dataclass(frozen=True)
class NamedScorer:
    """A reward model, or any scorer that plays one, under the name that results use."""

    name: str
    spec: ScorerSpec

    def options(self, name: str | None = None) -> scoring.ScorerOptions:
        """What the scoring stage is told; the score is called ``name``, the scorer's own when left out."""
        spec = {field: getattr(self.spec, field) for field in ScorerSpec.model_fields}
        return scoring.ScorerOptions(**spec, name=name or self.name)


@dataclass(frozen=True)
class Round:
    """What one round is made of: who plays which role, its data, and the models that came of it.

    ``reward`` is None where no reward has a say. ``baselines`` are trained from the same start another way, or by
    another reward; ``made_by`` tells of each model that a reward model made which one, ``trainings`` what each training
    tells of itself. ``track`` are the pairs; where a round trains by reinforcement its prompts.
    """

    number: int
    start: Model
    train_reference: Model
    result: Model
    track: Track
    reward: Reward | NamedScorer | None = None
    baselines: tuple[Model, ...] = ()
    made_by: dict[str, NamedScorer] = field(default_factory=dict)
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    summaries: dict[str, Any] = field(default_factory=dict)


class Workshop:
    """One run's recipe, folder and tools."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        manifest: Manifest,
        progress: Progress,
        warn: Callable[[str], None],
        executor: Executor = LOCAL,
    ) -> None:
        self.recipe, self.out, self.manifest, self.executor = recipe, out, manifest, executor
        self.progress = progress
        self.beside: Callable[[str, str], None] = lambda what, words: None
        """Shows a few words beside the bar of a step."""
        self._warned: set[str] = set()
        self._fingerprints: dict[str, str] = {}
        """What each model was when this run first asked."""
        self._memory = Memory()  # so that each text is translated once in a run
        self._warn = warn
        self.reference: Model
        self.policy: Model
        # Where the run makes the policy, it is known once that is done.
        if recipe.answers and recipe.reference is not None:
            self.reference = Model(recipe.reference_name, recipe.reference)
            self.policy = Model(recipe.policy_name, recipe.models.policy or recipe.reference)
        self.unseen = recipe.evaluate.unseen if recipe.evaluate else ()
        self.context: Context
        self.opener: registry.Opener
        self.speak(recipe.languages, recipe.pivot)

    def speak(self, languages: Sequence[str], pivot: str) -> None:
        """Fix the languages that the run trains on, and which of them leads, once prompts or a probe have told."""
        self.languages, self.pivot = tuple(languages), pivot
        self._open(self.languages)

    def meet_the_unseen(self) -> None:
        """From here on languages are told apart among those too that are only evaluated."""
        self._open((*self.languages, *self.unseen))

    def _open(self, languages: tuple[str, ...]) -> None:
        self._told = languages
        self.context, self.opener = registry.context(
            languages,
            self.pivot,
            self.recipe.language_identifier,
            self.progress,
            self.note,
            self._memory,
        )

    def note(self, message: str) -> None:
        """Say something once, in the terminal and in the report."""
        self.manifest.say(message)
        self.tell(message)

    def tell(self, message: str) -> None:
        """Say something once, in the terminal alone: the report has it from the results."""
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)

    def fingerprint(self, spec: ModelSpec) -> str:
        """What a model is, noted in the manifest.

        Raises:
            ModelError: its files are others than when the run first asked.
        """
        found, name = registry.fingerprint(spec), spec.name or spec.path
        if self._fingerprints.setdefault(spec.model_dump_json(), found) != found:
            raise ModelError(
                f"the model {name} changed while the run was using it; run the same command again: what the model "
                "before made is made again"
            )
        self.manifest.content["models"][name] = found
        return found

    def identity(self, options: Options, version: int) -> dict[str, Any]:
        """What a stage's outcome depends on beside its input."""
        return {"version": version, **options.identity(self.fingerprint)}

    def identifier(self, asked: bool) -> str | None:
        """Who tells languages apart, among which; None where nobody is asked."""
        return str(self.context.open("language_identifier", None).fingerprint) if asked else None

    def task(self, function: str, options: Options, *, one_language: bool = False, **keywords: Any) -> Task:
        """A stage's function with this run's context, to be worked on in any process."""
        known = self._told, self.pivot, self.recipe.language_identifier
        return Task(function, options, *known, one_language, keywords)

    def lay(
        self,
        track: Track,
        name: str,
        settings: dict[str, Any],
        work: Work | Task,
        *,
        whole_language: bool = False,
        retry: bool = False,
        reads: Track | None = None,
        scope: Scope = "language",
    ) -> Track:
        """Lay one stage's layer over a track. A scorer sees the texts alone: a new score recomputes no other.

        Args:
            work: a task goes wherever the executor works, anything else stays in this process.
            reads: what the stage sees of the track, where that is less than its texts.
        """
        task = work if isinstance(work, Task) else None
        bound = work.bound(self.context) if isinstance(work, Task) else work
        layer = Layer(name, settings, bound, whole_language, retry, scope, task)
        read = reads or (track.texts() if is_score(name) else track)
        with self.manifest.step(name) as step:
            worked = self.executor.map_units(read, layer, self.progress, self.note)
            step.update(units=len(track.units(scope)) * track.count, worked=bool(worked))
        self.opener.close()
        return track.over(name, scope)

    def answering(self, model: Model) -> ModelSpec:
        """How a model answers: itself, or through the recipe's server, under the name that results use."""
        server = self.recipe.server
        if server is None or (server.serves and model.name not in server.serves):
            return model.spec
        return ModelSpec(
            path=model.name,
            backend="openai",
            revision=self.fingerprint(model.spec),
            chat_template_kwargs=model.spec.chat_template_kwargs,
            **server.model_dump(exclude={"serves"}),
        )

    def generate(self, track: Track, name: str, options: generating.GenerateOptions) -> Track:
        """Sample answers. Only a server's failures are worth asking again: the others would fail the same way."""
        again = any(source.model.backend == "openai" for source in options.sources)
        settings = self.identity(options, generating.VERSION)
        return self.lay(
            track,
            name,
            settings,
            self.task("polypref.stages.generate:generate", options, one_language=True),
            retry=again,
        )

    def translate(self, track: Track, name: str, options: translating.TranslateOptions) -> Track:
        """Translate candidates. As in ``generate``, only a server's failures are worth asking again.

        A unit holds one language and, where its translations are made from the pivot's answers as well, those: then
        another language adds units and makes none of the others again.
        """
        ways = ("from_pivot", f"{self.pivot}:")
        both = any(direction.startswith(ways) for direction in options.directions)
        told = {"identifier": self.identifier(options.language_check)}
        return self.lay(
            track,
            name,
            {**self.identity(options, translating.VERSION), **told},
            self.task("polypref.stages.translate:translate", options, one_language=True),
            retry=options.translator.model.backend == "openai",
            scope="with_pivot" if both else "language",
        )

    def implicit_options(self, name: str, view: View, policy: Model, reference: Model) -> scoring.ImplicitOptions:
        """How an implicit reward scores; the score is called by the last part of the layer's name."""
        reward = self.recipe.implicit
        return scoring.ImplicitOptions(
            policy=policy.spec,
            reference=reference.spec,
            view=view,
            pivot=self.pivot,
            beta=reward.beta,
            normalise=reward.normalise,
            prefix=reward.prefix,
            system=self.recipe.generate.system,
            name=name.rpartition("/")[2].removeprefix("score-"),
        )

    def implicit(self, track: Track, name: str, view: View, policy: Model, reference: Model) -> Track:
        """Score by an implicit reward; the score is called by the view, or by the last part of the layer's name."""
        options = self.implicit_options(name, view, policy, reference)
        return self.lay(
            track,
            name,
            self.identity(options, scoring.VERSION),
            self.task("polypref.stages.score:implicit", options),
            reads=track.texts() if view == "translated" else track.answers(),
        )

    def scorer(self, track: Track, name: str, options: scoring.ScorerOptions, scope: Scope = "language") -> Track:
        """Score by any scorer. As in ``generate``, only a server's silence is worth asking again, and only about what
        has no score yet."""
        retry = options.model is not None and options.model.backend == "openai"
        return self.lay(
            track,
            name,
            self.scorer_identity(options),
            self.task("polypref.stages.score:by_scorer", options, again=not retry),
            retry=retry,
            scope=scope,
        )

    def scorer_identity(self, options: scoring.ScorerOptions) -> dict[str, Any]:
        """What a scorer's scores depend on beside the answers. One that is told by its models' files is not opened."""
        told = self.identity(options, scoring.VERSION)
        version = registry.version_of(options.scorer)
        if version is None:
            role: Role = "comparer" if options.scorer in registry.COMPARERS else "scorer"
            version = self.context.open(role, options).fingerprint
        return {**told, "fingerprint": version}

    def measure(
        self,
        name: str,
        track: Track,
        settings: Any,
        work: Callable[[Track], evaluating.Evaluation],
        whole: Callable[[], bool] = lambda: True,
    ) -> evaluating.Evaluation:
        """What ``work`` finds in a track, kept in ``<name>.json`` beside the key of what it was made from.

        Args:
            whole: asked afterwards; what is not whole is found anew by the next run.
        """
        path, key = self.out / f"{name}.json", digest([track.content(), settings])
        with self.manifest.step(name) as step:
            found = kept(path, key)
            step.update(worked=found is None)
            if found is None:
                found = work(track).to_json()
                if whole():
                    keep(path, key, found)
                self.opener.close()
        return evaluating.Evaluation.from_json(found)
