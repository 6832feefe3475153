"""The prompts of a run: read, checked against each other, kept as tracks; those of other languages made where asked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from polypref.backends.base import Context
from polypref.errors import InputError, did_you_mean
from polypref.recipe import Recipe
from polypref.recipe_rewards import PreferenceTranslation, RewardModels
from polypref.records import Example, parse_example, to_json
from polypref.stages import translate_preferences, translate_prompts
from polypref.stages.overlap import refuse_overlap
from polypref.stages.preference_data import check, split
from polypref.stages.prompt_instruction import instructed
from polypref.stages.prompts import PromptOptions, read_prompts, restricted
from polypref.stages.translate_prompts import TranslatePromptsOptions
from polypref.stages.translation_figures import translation_figures
from polypref.store.atomic import digest
from polypref.store.shards import Track, write_prompts
from polypref.workshop import Workshop

PROMPTS, TRANSLATED_PROMPTS = "prompts", "prompts-translated"
PREFERENCES, VALIDATION = "rewards/data", "rewards/validation"
SANDBOX = "sandbox:"
SPLITS = ("train", "test", "preferences-train", "preferences-test")
OWN_STAGES = ("generate", "translate", "score", "pair")


def prompt_tracks(shop: Workshop, preferences: Sequence[Example] = ()) -> tuple[Track, Track | None, Track | None]:
    """The training prompts, the held-out ones and those of the alignment as tracks.

    Of the first two only the prompts are taken: a run draws its own answers to them.

    Args:
        preferences: what reward models were trained on, which held-out prompts must not be among either.

    Raises:
        InputError: held-out prompts are among the others, in any language, and nobody has allowed it.
    """
    recipe = shop.recipe
    assert recipe.prompts is not None, "a recipe with rounds is refused without"
    # Prompts that are to be made are not asked for.
    asked = (recipe.pivot,) if recipe.translate_prompts else recipe.languages
    training = _load(shop, "prompts", recipe.prompts, asked, alone=True)
    languages = recipe.languages or tuple(dict.fromkeys(lang for e in training for lang in e.prompts))
    if recipe.pivot not in languages:
        raise InputError(f"the pivot {recipe.pivot} is none of the languages {', '.join(languages)}; add it to them")
    shop.speak(languages, recipe.pivot)
    pivot: list[Example] = []
    if recipe.alignment:
        # Preferences exist in the pivot: nothing else is asked of their prompts.
        pivot = _load(shop, "alignment/prompts", recipe.alignment.prompts, (recipe.pivot,))
    section = recipe.evaluate
    held_out = None
    if section is not None and section.prompts is not None:
        spoken = (*languages, *shop.unseen)
        examples = _load(shop, "evaluation/prompts", section.prompts, spoken, alone=True)
        for others in (training, pivot, preferences):
            refuse_overlap(others, examples, allow=section.prompts.allow_overlap)
        held_out = track(shop, "evaluation/prompts", examples, spoken)
    aligned = track(shop, "alignment/prompts", pivot, (recipe.pivot,)) if pivot else None
    return track(shop, PROMPTS, training), held_out, aligned


def preference_tracks(shop: Workshop, section: RewardModels) -> tuple[Track, Track]:
    """The reward models' training and validation data; what is odd about them is said.

    Raises:
        InputError: validation prompts are among the training prompts, in any language, and nobody has allowed it.
    """
    training = load_preferences(shop, PREFERENCES, section.data, shop.recipe.languages, all_there=not section.translate)
    languages = shop.recipe.languages or languages_of(training)
    shop.speak(languages, shop.recipe.pivot)
    if section.translate:
        training = _translated_preferences(shop, section.translate, training)
    if section.validation is None:
        training, validation = split(training, section.validation_share, section.data.seed)
        if not training or not validation:
            raise InputError(
                f"{section.data.path} is too small to be split: {len(training)} prompts to train on and "
                f"{len(validation)} to validate with; set reward_models.validation_share, or give validation data"
            )
    else:
        validation = load_preferences(shop, VALIDATION, section.validation, languages)
        refuse_overlap(training, validation, allow=section.validation.allow_overlap)
    for remark in check(training, validation).remarks():
        shop.note(f"{section.data.path}: {remark}")
    return track(shop, PREFERENCES, training), track(shop, VALIDATION, validation)


def _translated_preferences(
    shop: Workshop, section: PreferenceTranslation, examples: Sequence[Example]
) -> list[Example]:
    """Preference data with what the pivot's makes in the languages that lack it (translate-train).

    A unit is one language beside the pivot, so a further language is translated alone.
    """
    model = section.model or shop.recipe.models.policy
    assert model is not None, "the recipe is refused without either"
    others = tuple(lang for lang in shop.languages if lang != shop.pivot)
    options = section.options(model, others)
    settings = {
        **shop.identity(options, translate_preferences.VERSION),
        "identifier": shop.identifier(options.language_check),
    }

    def work(lang: str, unit: Iterable[Example]) -> Iterator[Example]:
        alone = options.model_copy(update={"languages": (lang,)})
        for example in translate_preferences.translate_preferences(unit, alone, shop.context):
            extra = {key: value for key, value in example.extra.items() if key != translate_prompts.MARK}
            yield dataclasses.replace(example, extra=extra)

    source, again = track(shop, "rewards/source", examples), options.translator.model.backend == "openai"
    made = shop.lay(source, "rewards/source/translate", settings, work, retry=again, scope="with_pivot")
    done = list(made.examples())
    with shop.manifest.step("rewards/translated") as step:
        found = translation_figures(done, options, shop.pivot)
        step.update(figures=found)
        counts = "; ".join(f"{lang} {found[lang]['pairs']} and {found[lang]['labels']}" for lang in others)
        shop.note(f"Preference data translated from {shop.pivot} by {options.role}, pairs and labels: {counts}")
    return [_standing_alone(example) for example in done]


def load_preferences(
    shop: Workshop, folder: str, options: PromptOptions, languages: Sequence[str], *, all_there: bool = True
) -> list[Example]:
    """Prompts with right and wrong answers; of the languages any that a prompt has will do.

    A translated answer stands for itself here, under its own language's prompt: what it translates is left aside.

    Args:
        all_there: whether the data must have every language; what is to be made is not asked for.
    """
    asked = options.model_copy(update={"require": options.require or "any"})
    context = shop.context if all_there else dataclasses.replace(shop.context, languages=())
    found = _load(shop, folder, asked, languages if all_there else (), context=context)
    return [_standing_alone(restricted(example, languages) if languages else example) for example in found]


def _standing_alone(example: Example) -> Example:
    return dataclasses.replace(example, candidates=[dataclasses.replace(c, parent=None) for c in example.candidates])


def languages_of(examples: Iterable[Example]) -> tuple[str, ...]:
    """The languages of the prompts, in alphabetical order."""
    return tuple(sorted({lang for example in examples for lang in example.prompts}))


def labelled(shop: Workshop, options: PromptOptions) -> Track:
    """The user's labelled answers as a track."""
    return track(shop, "evaluation/labelled", _load(shop, "evaluation/labelled", options, shop.languages))


def with_translated_prompts(shop: Workshop, prompts: Track) -> Track:
    """The training prompts with those made that the user did not bring; as they are where the recipe makes none.

    An example whose prompt fails in a language has none there, and a drop that says why.
    """
    section = shop.recipe.translate_prompts
    if section is None:
        return prompts
    spec = section.common(shop.answering(shop.policy))
    options = TranslatePromptsOptions(**spec, source=shop.pivot, languages=shop.languages)
    settings = {
        **shop.identity(options, translate_prompts.VERSION),
        "identifier": shop.identifier(options.language_check),
    }

    def work(lang: str, examples: Iterable[Example]) -> Iterator[Example]:
        alone = options.model_copy(update={"languages": (lang,)})
        for example in translate_prompts.translate_prompts(examples, alone, shop.context):
            extra = {key: value for key, value in example.extra.items() if key != translate_prompts.MARK}
            yield dataclasses.replace(example, extra=extra)

    again = options.translator.model.backend == "openai"
    made = list(shop.lay(prompts, f"{PROMPTS}/translate", settings, work, retry=again).examples())
    made = instructed(made, shop.recipe.prompts.instruction if shop.recipe.prompts else None)
    lost = Counter(lang for e in made for lang in shop.languages if lang not in e.prompts)
    counts = "; ".join(f"{lang} {len(made) - lost[lang]}" for lang in shop.languages if lang != shop.pivot)
    with shop.manifest.step(TRANSLATED_PROMPTS):
        shop.note(f"Prompts translated by {section.role(shop.policy.name)}, of {len(made)} in {shop.pivot}: {counts}")
    return track(shop, TRANSLATED_PROMPTS, made)


def training_prompts(recipe: Recipe) -> str:
    """The folder of a run's training prompts."""
    return TRANSLATED_PROMPTS if recipe.translate_prompts else PROMPTS


def _load(
    shop: Workshop,
    folder: str,
    options: PromptOptions,
    languages: Sequence[str],
    *,
    alone: bool = False,
    context: Context | None = None,
) -> list[Example]:
    """The examples that the options name, in ``languages`` unless they name others; ``alone``: without the answers and
    pairs that stand beside the prompts."""
    options = options.model_copy(update={"languages": options.languages or tuple(languages)})
    with shop.manifest.step(folder) as step:
        if options.path.startswith(SANDBOX):
            examples = instructed(_sandbox(options), options.instruction)
            step.update(examples=len(examples))
        else:
            examples, summary = read_prompts(options, context or shop.context)
            step.update(dataclasses.asdict(summary))
        if alone and (answers := sum(len(e.candidates) for e in examples)):
            shop.note(f"{options.path}: {answers} answers are left aside; a run draws its own")
            examples = [_prompts_of(e) for e in examples]
        step.update(content=digest([to_json(e) for e in examples]))
    # Drops of an earlier run's stages would stand beside those of this one.
    return [dataclasses.replace(e, dropped=[d for d in e.dropped if d.stage not in OWN_STAGES]) for e in examples]


def _prompts_of(example: Example) -> Example:
    dropped = [drop for drop in example.dropped if drop.candidate is None]
    return dataclasses.replace(example, candidates=[], pairs=[], dropped=dropped)


def _sandbox(options: PromptOptions) -> list[Example]:
    """Prompts of the embedded world, or preference data: ``limit`` of them."""
    from polypref.sandbox import preferences, world

    part = options.path[len(SANDBOX) :]
    if part not in SPLITS:
        raise InputError(f"{options.path} is no part of the sandbox; {did_you_mean(part, SPLITS)}")
    kind, _, name = part.rpartition("-")
    make = preferences.preferences if kind else world.prompts
    try:
        found = [parse_example(row) for row in make(name, options.limit or 300, options.seed)]
    except ValueError as error:
        raise InputError(f"{options.path}: {error}; ask for fewer with limit") from None
    keep = options.languages or tuple(found[0].prompts)
    if absent := [lang for lang in keep if lang not in found[0].prompts]:
        raise InputError(f"{options.path} has no prompts in {', '.join(absent)}; it has {', '.join(found[0].prompts)}")
    return [restricted(example, keep) for example in found]


def track(shop: Workshop, folder: str, examples: Sequence[Example], languages: tuple[str, ...] | None = None) -> Track:
    """Examples as a track of the run, their shards in ``folder``."""
    write_prompts(shop.out / folder, examples, shop.recipe.shard_size)
    return Track(shop.out, folder, languages or shop.languages, shop.pivot)
