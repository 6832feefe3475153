"""What every step of a run needs: context, fingerprints, manifest, and a way to lay a stage over a track."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polypref import registry
from polypref.backends.base import Context, ModelSpec, Options, Progress, Role, ScorerSpec
from polypref.backends.translation import Memory
from polypref.executors.local import Layer, Work, map_units
from polypref.recipe import Recipe
from polypref.records import Example
from polypref.stages import evaluate as evaluating
from polypref.stages import generate as generating
from polypref.stages import score as scoring
from polypref.stages import translate as translating
from polypref.stages.views import View
from polypref.store.atomic import digest, write_json
from polypref.store.manifest import Manifest
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
        self, recipe: Recipe, out: Path, manifest: Manifest, progress: Progress, warn: Callable[[str], None]
    ) -> None:
        self.recipe, self.out, self.manifest = recipe, out, manifest
        self.progress = progress
        self._warned: set[str] = set()
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
        """What a model is, noted in the manifest."""
        found = registry.fingerprint(spec)
        self.manifest.content["models"][spec.name or spec.path] = found
        return found

    def identity(self, options: Options, version: int) -> dict[str, Any]:
        """What a stage's outcome depends on beside its input."""
        return {"version": version, **options.identity(self.fingerprint)}

    def identifier(self, asked: bool) -> str | None:
        """Who tells languages apart, among which; None where nobody is asked."""
        return str(self.context.open("language_identifier", None).fingerprint) if asked else None

    def lay(
        self,
        track: Track,
        name: str,
        settings: dict[str, Any],
        work: Work,
        *,
        whole_language: bool = False,
        retry: bool = False,
        reads: Track | None = None,
        scope: Scope = "language",
    ) -> Track:
        """Lay one stage's layer over a track. A scorer sees the texts alone: a new score recomputes no other.

        Args:
            reads: what the stage sees of the track, where that is less than its texts.
        """
        layer = Layer(name, settings, work, whole_language, retry, scope)
        with self.manifest.step(name) as step:
            worked = map_units(reads or (track.texts() if is_score(name) else track), layer, self.progress)
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
            lambda lang, examples: generating.generate(
                examples, options.model_copy(update={"languages": (lang,)}), self.context
            ),
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

        def work(lang: str, examples: Iterable[Example]) -> Iterator[Example]:
            return translating.translate(examples, options.model_copy(update={"languages": (lang,)}), self.context)

        return self.lay(
            track,
            name,
            {**self.identity(options, translating.VERSION), **told},
            work,
            retry=options.translator.model.backend == "openai",
            scope="with_pivot" if both else "language",
        )

    def implicit(self, track: Track, name: str, view: View, policy: Model, reference: Model) -> Track:
        """Score by an implicit reward; the score is called by the view, or by the last part of the layer's name."""
        reward = self.recipe.implicit
        options = scoring.ImplicitOptions(
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
        return self.lay(
            track,
            name,
            self.identity(options, scoring.VERSION),
            lambda lang, examples: scoring.implicit(examples, options, self.context),
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
            lambda unit, examples: scoring.by_scorer(examples, options, self.context, again=not retry),
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


def kept(path: Path, key: str) -> dict[str, Any] | None:
    """A small JSON result beside the key of what it was made from; None when it is not there, or of another key."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found["content"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there or not whole


def keep(path: Path, key: str, content: dict[str, Any]) -> dict[str, Any]:
    """Write what ``kept`` finds again."""
    write_json(path, {"key": key, "content": content})
    return content
