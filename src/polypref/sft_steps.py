"""The SFT model of a run: its data read, translated and checked, then trained once, or found where it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from polypref import registry
from polypref.errors import InputError, RecipeError
from polypref.inputs import load, track
from polypref.recipe_sft import SFT, SFTTranslation
from polypref.records import Example, parse_example, to_json
from polypref.stages import train_sft, translate_preferences, translate_prompts
from polypref.stages.demonstrations import demonstrations
from polypref.stages.overlap import refuse_overlap
from polypref.stages.preference_data import check, split
from polypref.stages.prompts import PromptOptions, restricted
from polypref.stages.translate_preferences import TranslatePreferencesOptions
from polypref.stages.translation_figures import translation_figures
from polypref.store import checkpoint
from polypref.store.atomic import digest
from polypref.store.results import keep, kept
from polypref.store.shards import Track
from polypref.workshop import Model, NamedScorer, Workshop

TRAINING, VALIDATION, SOURCE = "sft/training", "sft/validation", "sft/source"
CHECKED, TRANSLATED, BACK, CHECKPOINT = "sft/data", "sft/translated", "sft/back-translated", "sft/checkpoint"


@dataclass(frozen=True)
class SFTData:
    """Demonstrations in the languages that are trained on, and those that select the checkpoint."""

    training: Track
    validation: Track


def read(shop: Workshop) -> SFTData:
    """The data of the recipe's ``sft``, translated where it says so, and checked before anything is trained.

    Raises:
        InputError: no answer demonstrates, a language has none, or training and validation share prompts.
        RecipeError: the scorer that selects cannot be opened as the recipe has it.
    """
    section = _section(shop)
    if section.scorer is not None and (wrong := registry.mistake_of(section.scorer)):
        raise RecipeError(f"sft.scorer: {wrong}")
    training = _load(shop, TRAINING, section.data, section)
    spoken = shop.languages or shop.recipe.languages or _languages(training)
    if not shop.languages:
        shop.speak(spoken, shop.recipe.pivot)
    languages = section.languages or spoken
    if section.translate is not None:
        training = _translated(shop, section, section.translate, training, languages)
    shown = demonstrations(training, section.by)
    if section.validation is None:
        shown, held = split(shown, section.validation_share, section.data.seed)
        if not shown or not held:
            raise InputError(
                f"{section.data.path} is too small to be split: {len(shown)} prompts to train on and {len(held)} to "
                "validate with; set sft.validation_share, or give validation data"
            )
    else:
        held = demonstrations(_load(shop, VALIDATION, section.validation, section), section.by)
        refuse_overlap(shown, held, allow=section.validation.allow_overlap)
    shown, held = (train_sft.in_languages(side, languages) for side in (shown, held))
    _refuse_none(section, shown, languages)
    with shop.manifest.step(CHECKED):
        for remark in check(shown, held).remarks():
            shop.note(f"{section.data.path}: {remark}")
    return SFTData(track(shop, TRAINING, shown, languages), track(shop, VALIDATION, held, languages))


def make(shop: Workshop, data: SFTData) -> tuple[Model, dict[str, Any]]:
    """The SFT model, trained or found in ``sft/checkpoint``, and what its training tells of itself."""
    section = _section(shop)
    options = train_sft.TrainSFTOptions(
        **{name: getattr(section.train, name) for name in train_sft.SFTTrainOptions.model_fields},
        start=section.start,
        languages=data.training.languages,
        mix=section.mix if len(data.training.languages) > 1 else "natural",
        corrupt=section.corrupt,
        system=shop.recipe.generate.system,
        scorer=section.scorer,
        max_tokens=section.max_tokens,
    )
    target = shop.out / CHECKPOINT
    told = [shop.identity(options, train_sft.VERSION), shop.context.open("sft_trainer", options.method).fingerprint]
    if section.scorer is not None:
        told.append(shop.scorer_identity(NamedScorer("select", section.scorer).options()))
    key = digest(["train_sft", *told, data.training.content(), data.validation.content()])
    with shop.manifest.step("sft") as step:
        summary = checkpoint.standing(target, key)
        step.update(worked=summary is None)
        if summary is None:
            summary = checkpoint.build(
                target,
                key,
                lambda unfinished: train_sft.train_sft(
                    data.training.examples(), data.validation.examples(), options, shop.context, unfinished
                ),
            )
        step.update(rows=summary["rows"], steps=summary["steps"], selected=summary["selected"])
        for remark in train_sft.remarks(summary):
            shop.note(f"{section.name}: {remark}")
    shop.opener.close()
    spec = train_sft.trained_sft(options, target).model_copy(update={"name": section.name})
    return Model(section.name, spec), summary


def _section(shop: Workshop) -> SFT:
    section = shop.recipe.sft
    assert section is not None, "nobody asks for the SFT model of a recipe without sft"
    return section


def _load(shop: Workshop, folder: str, options: PromptOptions, section: SFT) -> list[Example]:
    """Prompts with answers, in whichever of the run's languages there are, and in the one that is translated."""
    wanted = options.languages or shop.recipe.languages
    if wanted and section.translate is not None and not section.translate.back:
        wanted = tuple(dict.fromkeys((*wanted, shop.recipe.pivot)))
    told = {"require": options.require or "any", "languages": (), "demonstrations": section.by == "answers"}
    asked = options.model_copy(update=told)
    found = load(shop, folder, asked, (), context=dataclasses.replace(shop.context, languages=()))
    inside = [restricted(example, wanted) for example in found] if wanted else found
    if inside := [example for example in inside if example.prompts]:
        return inside
    raise InputError(f"{options.path} has nothing in {', '.join(wanted)}; it has {', '.join(_languages(found))}")


def _languages(examples: Iterable[Example]) -> tuple[str, ...]:
    return tuple(sorted({lang for example in examples for lang in example.prompts}))


def _refuse_none(section: SFT, shown: Sequence[Example], languages: Sequence[str]) -> None:
    there = {candidate.lang for example in shown for candidate in example.candidates}
    if absent := [lang for lang in languages if lang not in there]:
        raise InputError(
            f"{section.data.path} has no answer to learn from in {', '.join(absent)} (it has some in "
            f"{', '.join(sorted(there)) or 'none of the languages'}); add them, name other languages in sft.languages, "
            "or have them made by sft.translate"
        )


# --- translated and back-translated data -----------------------------------------------------------------------------


def _translated(
    shop: Workshop, section: SFT, translation: SFTTranslation, examples: Sequence[Example], languages: Sequence[str]
) -> list[Example]:
    """The data with what is translated: into the languages that lack it, or with ``back`` in the place of their own."""
    others = tuple(lang for lang in languages if lang != shop.pivot)
    if not others:
        raise InputError(
            f"sft.translate is to make data, and {shop.pivot}, the pivot, is the only language; name others in "
            "sft.languages"
        )
    options = translation.options(translation.model or section.start, others)
    identifier = shop.identifier(options.language_check)
    # Each unit is told its own language, so that another one makes none of the others anew.
    told = {k: v for k, v in shop.identity(options, translate_preferences.VERSION).items() if k != "languages"}
    settings = {**told, "identifier": identifier}
    made = _there_and_back if translation.back else _there
    done = made(shop, options, settings, examples)
    way = f"through {shop.pivot} and back" if translation.back else f"from {shop.pivot}"
    counts = "; ".join(f"{lang} {_translations(done, lang)}" for lang in others)
    with shop.manifest.step(TRANSLATED) as step:
        step.update(figures=translation_figures(done, options, shop.pivot))
        shop.note(f"SFT data translated {way} by {options.role}, answers: {counts}")
    return done


def _translations(examples: Iterable[Example], lang: str) -> int:
    """How many answers in a language are the ends of a translation."""
    found = 0
    for example in examples:
        passed = {candidate.parent for candidate in example.candidates}
        own = (c for c in example.candidates if c.lang == lang and c.origin == "translated" and c.error is None)
        found += sum(candidate.id not in passed for candidate in own)
    return found


def _there(
    shop: Workshop, options: TranslatePreferencesOptions, settings: dict[str, Any], examples: Sequence[Example]
) -> list[Example]:
    """A layer over the source: a unit is one language beside the pivot, so a further language is translated alone."""

    def work(lang: str, unit: Iterable[Example]) -> Iterator[Example]:
        alone = options.model_copy(update={"languages": (lang,)})
        for example in translate_preferences.translate_preferences(unit, alone, shop.context):
            extra = {key: value for key, value in example.extra.items() if key != translate_prompts.MARK}
            yield dataclasses.replace(example, extra=extra)

    source, again = track(shop, SOURCE, examples), options.translator.model.backend == "openai"
    made = shop.lay(source, f"{SOURCE}/translate", settings, work, retry=again, scope="with_pivot")
    return list(made.examples())


def _there_and_back(
    shop: Workshop, options: TranslatePreferencesOptions, settings: dict[str, Any], examples: Sequence[Example]
) -> list[Example]:
    """Part by part and language by language, each kept in a file: what is replaced cannot be a layer, which only adds.

    What a server failed to answer is asked again by the next run.
    """
    size = shop.recipe.shard_size
    parts = [list(examples[first : first + size]) for first in range(0, len(examples), size)]
    with shop.manifest.step(BACK) as step:
        step.update(worked=False)
        for lang in options.languages:
            alone = options.model_copy(update={"languages": (lang,)})
            for index, part in enumerate(parts):
                path = shop.out / BACK / lang / f"part-{index:05d}.json"
                key = digest([settings, lang, [to_json(example) for example in part]])
                content = kept(path, key)
                if content is None:
                    step.update(worked=True)
                    done = list(translate_preferences.translate_preferences(part, alone, shop.context))
                    content = {"examples": [to_json(example) for example in done]}
                    if not _given_up(options, part, done):
                        keep(path, key, content)
                parts[index] = [parse_example(example) for example in content["examples"]]
                shop.progress(BACK, index + 1, len(parts))
        shop.opener.close()
    return [example for part in parts for example in part]


def _given_up(options: TranslatePreferencesOptions, before: Sequence[Example], after: Sequence[Example]) -> bool:
    """Whether a server has left something unanswered."""
    if options.translator.model.backend != "openai":
        return False
    new = (drop for old, done in zip(before, after, strict=True) for drop in done.dropped if drop not in old.dropped)
    return any(drop.reason == "failed" for drop in new)
