"""What a recipe's data holds: read by the run's own code into a temporary folder, or told on the command line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from polypref import inputs, preference_inputs, sft_steps
from polypref.backends.base import silent
from polypref.errors import RecipeError
from polypref.estimate_work import NO_TEXTS, Assumed, Data, Part, Texts
from polypref.recipe import Recipe
from polypref.records import Candidate, Example, Message, live
from polypref.stages.judge_plan import estimate as tokens_by_characters
from polypref.store.manifest import Manifest
from polypref.store.shards import Track
from polypref.workshop import Workshop

Count = Callable[[Sequence[Message], str], int]
"""Tokens of a conversation in a language."""

BY_CHARACTERS = "by characters, at a rate for each script"


def tokenizer(path: str) -> Count:
    """Counts by a tokenizer that is in a local folder.

    Raises:
        RecipeError: there is none.
    """
    if not Path(path).expanduser().is_dir():
        raise RecipeError(f"--tokenizer {path} is no folder; give a model's, or leave it out to count by characters")
    from polypref.backends.base import ModelSpec
    from polypref.backends.prompt_tokens import counter

    count = counter(ModelSpec(path=str(Path(path).expanduser())))
    return lambda messages, lang: count(messages)


@dataclass
class _Sums:
    prompts: int = 0
    prompt_tokens: int = 0
    rows: int = 0
    sequences: int = 0
    sequence_tokens: int = 0

    def part(self) -> Part:
        return Part(
            self.prompts,
            self.prompt_tokens / self.prompts if self.prompts else 0.0,
            self.rows,
            self.sequence_tokens / self.rows if self.rows else 0.0,
        )


@dataclass
class Reader:
    """Counts what tracks hold."""

    count: Count = tokens_by_characters
    counted: str = BY_CHARACTERS
    answers: dict[str, float] = field(default_factory=dict)

    def texts(self, track: Track | None, rows: str = "") -> Texts:
        """A track's prompts by language; ``rows``: the ``pairs``, ``labels`` or ``answers`` that come with them."""
        if track is None:
            return NO_TEXTS
        sums: dict[str, _Sums] = {lang: _Sums() for lang in track.languages}
        for example in track.examples():
            asked = {}
            for lang, messages in example.prompts.items():
                if lang in sums:
                    asked[lang] = self.count(messages, lang)
                    sums[lang].prompts += 1
                    sums[lang].prompt_tokens += asked[lang]
            for lang, answers in _rows(example, rows):
                if lang in asked:
                    sums[lang].rows += 1
                    sums[lang].sequence_tokens += sum(asked[lang] + self._answer(a) for a in answers)
        return {lang: found.part() for lang, found in sums.items() if found.prompts}

    def _answer(self, candidate: Candidate) -> int:
        return self.count([{"role": "assistant", "content": candidate.text}], candidate.lang)


def _rows(example: Example, kind: str) -> Iterable[tuple[str, list[Candidate]]]:
    """(language, the answers of a row)."""
    there = {candidate.id: candidate for candidate in example.candidates}
    if kind == "pairs" and example.pairs:
        for pair in example.pairs:
            if pair.chosen in there and pair.rejected in there:
                yield there[pair.chosen].lang, [there[pair.chosen], there[pair.rejected]]
    elif kind in ("labels", "pairs"):
        yield from ((c.lang, [c]) for c in example.candidates if c.label is not None)
    elif kind == "answers":
        yield from ((c.lang, [c]) for c in example.candidates if live(c))


def read(recipe: Recipe, reader: Reader, warn: Callable[[str], None]) -> Data:
    """All data that the recipe names, as a run would read and check it. No model is opened.

    Raises:
        UserError: as of a run: the data is not there, or wrong.
        RecipeError: it would have to be translated first.
    """
    lacking = [
        f"{name}.translate" for name, section in (("sft", recipe.sft), ("reward_models", recipe.reward_models))
        if section is not None and section.translate is not None
    ]  # fmt: skip
    if lacking:
        raise RecipeError(
            f"{lacking[0]} makes data by a model before it can be counted; say --prompts, --languages and --preferences"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = Manifest.open(folder / "manifest.json", recipe="", seed=recipe.seed)
        shop = Workshop(recipe, folder, manifest, silent, warn)
        try:
            return _read(shop, reader)
        finally:
            shop.opener.close()


def _read(shop: Workshop, reader: Reader) -> Data:
    recipe = shop.recipe
    rewards = preference_inputs.read(shop)
    shown = sft_steps.read(shop) if recipe.sft else None
    seen = [track for track in (rewards.seen, shown and shown.training) if track]
    tracks = inputs.prompt_tracks(shop, seen) if recipe.answers else inputs.Prompts()
    training = reader.texts(tracks.training)
    if recipe.translate_prompts and training:
        pivot = training[recipe.pivot]
        training = {lang: training.get(lang, pivot) for lang in recipe.languages}
    return Data(
        training=training,
        held_out=reader.texts(tracks.held_out),
        alignment=reader.texts(tracks.alignment),
        diagnosis=reader.texts(tracks.diagnosis),
        preferences=reader.texts(rewards.training, "pairs"),
        validation=reader.texts(rewards.validation, "pairs"),
        judged=reader.texts(rewards.judged, "pairs"),
        demonstrations=reader.texts(shown.training if shown else None, "answers"),
        demonstrations_held=reader.texts(shown.validation if shown else None, "answers"),
        counted=f"data read, tokens {reader.counted}",
    )


@dataclass(frozen=True)
class Told:
    """The data in numbers, where it is not read."""

    prompts: int
    languages: int | None = None
    held_out: int = 0
    preferences: int | None = None


def on_paper(recipe: Recipe, told: Told, assumed: Assumed) -> Data:
    """Data of so many prompts in so many languages, without reading any.

    Languages that the recipe does not name are called #6, #7 and so on, and counted as of Latin script.
    """
    wanted = told.languages or len(recipe.languages)
    if not wanted:
        raise RecipeError("the recipe names no languages, so say --languages N with --prompts")
    named = [recipe.pivot, *(lang for lang in recipe.languages if lang != recipe.pivot)][:wanted]
    tags = [*named, *(f"#{number}" for number in range(len(named) + 1, wanted + 1))]

    def texts(count: int, rows: int = 0, answers: int = 0) -> Texts:
        each = (assumed.prompt_tokens + assumed.answer_tokens) * answers
        part = Part(count, assumed.prompt_tokens, rows, each)
        return dict.fromkeys(tags, part) if count else NO_TEXTS

    preferences = told.preferences if told.preferences is not None else told.prompts
    section, sft = recipe.reward_models, recipe.sft
    sides = 1 if section and section.train.loss == "pointwise" else 2
    held = round(preferences * section.validation_share) if section else 0
    shown = round(preferences * (1 - sft.validation_share)) if sft else 0
    data = Data(
        training=texts(told.prompts) if recipe.rounds else NO_TEXTS,
        held_out=texts(told.held_out) if recipe.evaluate else NO_TEXTS,
        diagnosis=texts(told.prompts) if recipe.diagnose else NO_TEXTS,
        preferences=texts(preferences - held, preferences - held, sides) if section else NO_TEXTS,
        validation=texts(held, held, sides) if section else NO_TEXTS,
        judged=texts(held or preferences, held or preferences, sides) if recipe.judge else NO_TEXTS,
        demonstrations=texts(shown, shown, 1) if sft else NO_TEXTS,
        demonstrations_held=texts(preferences - shown, preferences - shown, 1) if sft else NO_TEXTS,
        counted=f"{told.prompts:,} prompts in {wanted} languages, as told",
    )
    if recipe.alignment is None:
        return data
    pivot = Part(told.prompts, assumed.prompt_tokens)
    return replace(data, alignment={recipe.pivot: pivot})
