"""What the rewards of a run are made of and judged on: read and checked before anything is trained or asked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from polypref.errors import InputError
from polypref.inputs import load, track
from polypref.recipe_rewards import Judge, PreferenceTranslation, RewardModels
from polypref.records import Example
from polypref.stages import corruption, translate_preferences, translate_prompts
from polypref.stages.overlap import refuse_overlap
from polypref.stages.preference_data import RowCounts, check, split
from polypref.stages.prompts import PromptOptions, restricted
from polypref.stages.translation_figures import translation_figures
from polypref.store.shards import Track
from polypref.workshop import Workshop

TRAINING, VALIDATION, SOURCE = "rewards-data/training", "rewards-data/validation", "rewards-data/source"
JUDGED, SEEN, TEXTS = "judge/data", "judge/training", "representation/texts"


@dataclass(frozen=True)
class RewardData:
    """``training`` and ``validation`` are the reward models'; ``judged`` is what all rewards are judged on; ``seen``
    what baselines are fitted on and the generalisation gap is read off; ``texts`` what representations are taken of.
    """

    training: Track | None = None
    validation: Track | None = None
    judged: Track | None = None
    seen: Track | None = None
    texts: Track | None = None


def read(shop: Workshop) -> RewardData:
    """Everything that rewards need, read, checked against each other, and said where it is odd.

    Raises:
        InputError: data that must be apart shares prompts, a language has no row to train on, or nothing is left.
    """
    recipe = shop.recipe
    training = validation = judged = seen = None
    if recipe.reward_models:
        training, validation = _reward_models(shop, recipe.reward_models)
        seen = training
    if recipe.judge:
        judged = validation if recipe.judge.data is None else _judged(shop, recipe.judge.data)
        if recipe.judge.training:
            seen = _track(shop, SEEN, recipe.judge.training)
        _held_apart(shop, recipe.judge, judged, validation, seen)
    return RewardData(training, validation, judged, seen, _texts(shop, judged or validation))


def _reward_models(shop: Workshop, section: RewardModels) -> tuple[Track, Track]:
    """The reward models' training and validation data."""
    training = _load(shop, TRAINING, section.data)
    languages = shop.recipe.languages or languages_of(training)
    shop.speak(languages, shop.recipe.pivot)
    if section.translate:
        training = _translated(shop, section.translate, training)
    if section.validation is None:
        training, validation = split(training, section.validation_share, section.data.seed)
        if not training or not validation:
            raise InputError(
                f"{section.data.path} is too small to be split: {len(training)} prompts to train on and "
                f"{len(validation)} to validate with; set reward_models.validation_share, or give validation data"
            )
    else:
        validation = _load(shop, VALIDATION, section.validation)
        refuse_overlap(training, validation, allow=section.validation.allow_overlap)
    found = check(training, validation)
    for remark in found.remarks():
        shop.note(f"{section.data.path}: {remark}")
    _refuse_none(section, found.training, languages)
    if section.noise:
        training = _with_noise(shop, section, training)
    return track(shop, TRAINING, training, languages), track(shop, VALIDATION, validation, languages)


def _with_noise(shop: Workshop, section: RewardModels, training: Sequence[Example]) -> list[Example]:
    """The training data with a share of its judgements turned round; what validates and judges stays right."""
    flip = corruption.flip_labels if section.train.loss == "pointwise" else corruption.flip_pairs
    noisy, counts = flip(training, section.noise, section.data.seed)
    told = ", ".join(f"{lang} {n}" for lang, n in counts.items())
    shop.note(f"{section.data.path}: judgements turned round, as reward_models.noise asks: {told}")
    return noisy


def _refuse_none(section: RewardModels, found: RowCounts, languages: tuple[str, ...]) -> None:
    """Refuse a language that a model is trained on and that has no row for its loss."""
    rows = found.labels if section.train.loss == "pointwise" else found.pairs
    kind = "labelled answers" if section.train.loss == "pointwise" else "pairs"
    for name, own in section.languages_of(languages).items():
        if lost := [lang for lang in own if not rows.get(lang)]:
            there = ", ".join(f"{lang} {n}" for lang, n in rows.items()) or "none at all"
            raise InputError(
                f"{section.data.path} has no {kind} in {', '.join(lost)}, which {name} is trained on (it has {there}); "
                "add them, name other languages in reward_models.sources, or have them made by reward_models.translate"
            )


def _translated(shop: Workshop, section: PreferenceTranslation, examples: Sequence[Example]) -> list[Example]:
    """Preference data with what the pivot's makes in the languages that lack it (translate-train).

    A unit is one language beside the pivot, so a further language is translated alone.
    """
    model = section.model or shop.recipe.models.policy
    assert model is not None, "the recipe is refused without either"
    others = tuple(lang for lang in shop.languages if lang != shop.pivot)
    options = section.options(model, others)
    told = shop.identity(options, translate_preferences.VERSION)
    del told["languages"]  # each unit is one
    settings = {**told, "identifier": shop.identifier(options.language_check)}

    def work(lang: str, unit: Iterable[Example]) -> Iterator[Example]:
        alone = options.model_copy(update={"languages": (lang,)})
        for example in translate_preferences.translate_preferences(unit, alone, shop.context):
            extra = {key: value for key, value in example.extra.items() if key != translate_prompts.MARK}
            yield dataclasses.replace(example, extra=extra)

    source, again = track(shop, SOURCE, examples), options.translator.model.backend == "openai"
    made = shop.lay(source, f"{SOURCE}/translate", settings, work, retry=again, scope="with_pivot")
    done = list(made.examples())
    with shop.manifest.step("rewards-data/translated") as step:
        found = translation_figures(done, options, shop.pivot)
        step.update(figures=found)
        counts = "; ".join(f"{lang} {found[lang]['pairs']} and {found[lang]['labels']}" for lang in others)
        shop.note(f"Preference data translated from {shop.pivot} by {options.role}, pairs and labels: {counts}")
    return [_standing_alone(example) for example in done]


def _judged(shop: Workshop, options: PromptOptions) -> Track:
    """The judged data, which has every language that is asked for."""
    languages = options.languages or shop.recipe.languages
    examples = load(shop, JUDGED, options.model_copy(update={"require": options.require or "any"}), languages)
    examples = [_standing_alone(example) for example in examples]
    languages = tuple(lang for lang in shop.recipe.languages if lang in languages) or languages_of(examples)
    if not shop.languages:
        shop.speak(languages, shop.recipe.pivot)
    return track(shop, JUDGED, examples, languages)


def _held_apart(
    shop: Workshop, section: Judge, judged: Track | None, validation: Track | None, seen: Track | None
) -> None:
    """Refuse judged prompts that were trained on, and say where they have chosen the weights that they judge."""
    if section.data is None:
        train = shop.recipe.reward_models.train if shop.recipe.reward_models else None
        if train and train.method == "transformer" and train.select != "last":
            shop.note(
                "The reward models are judged on the validation data that has chosen their weights, so their accuracy "
                "is a little too high; give judge.data to judge them on other data"
            )
        return
    for others in (seen, validation):
        if others is not None and judged is not None:
            refuse_overlap(others.examples(), judged.examples(), allow=section.data.allow_overlap)


def _texts(shop: Workshop, judged: Track | None) -> Track | None:
    """The parallel texts: the section's own, else the judged prompts."""
    section = shop.recipe.representation
    if section is None or section.texts is None:
        return judged
    found = _track(shop, TEXTS, section.texts)
    if not shop.languages:
        shop.speak(found.languages, shop.recipe.pivot)
    return found


def _track(shop: Workshop, folder: str, options: PromptOptions) -> Track:
    examples = _load(shop, folder, options)
    return track(shop, folder, examples, shop.recipe.languages or languages_of(examples))


def _load(shop: Workshop, folder: str, options: PromptOptions) -> list[Example]:
    """Prompts with right and wrong answers, in whichever of the run's languages there are."""
    wanted = options.languages or shop.recipe.languages
    asked = options.model_copy(update={"require": options.require or "any", "languages": ()})
    found = load(shop, folder, asked, (), context=dataclasses.replace(shop.context, languages=()))
    kept = [_standing_alone(restricted(example, wanted) if wanted else example) for example in found]
    if kept := [example for example in kept if example.prompts]:
        return kept
    there = ", ".join(sorted(Counter(lang for example in found for lang in example.prompts)))
    raise InputError(f"{options.path} has nothing in {', '.join(wanted)}; it has {there}")


def _standing_alone(example: Example) -> Example:
    """A translated answer stands for itself here, under its own language's prompt: what it translates is left aside.
    So are scores that came along, since a run's rewards may be called the same."""
    alone = [dataclasses.replace(c, parent=None, scores={}) for c in example.candidates]
    return dataclasses.replace(example, candidates=alone)


def languages_of(examples: Iterable[Example]) -> tuple[str, ...]:
    """The languages of the prompts, in alphabetical order."""
    return tuple(sorted({lang for example in examples for lang in example.prompts}))
