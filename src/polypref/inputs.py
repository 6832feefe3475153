"""The prompts of a run: read, checked against each other, kept as tracks; those of other languages made where asked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.backends.base import Context
from polypref.errors import InputError, did_you_mean
from polypref.recipe import Recipe
from polypref.records import Example, parse_example, to_json
from polypref.stages import translate_prompts
from polypref.stages.overlap import refuse_overlap
from polypref.stages.prompt_instruction import instructed
from polypref.stages.prompt_objectives import objective
from polypref.stages.prompts import PromptOptions, read_prompts, restricted
from polypref.stages.translate_prompts import TranslatePromptsOptions
from polypref.store.atomic import digest
from polypref.store.shards import Track, write_prompts
from polypref.workshop import Workshop

PROMPTS, TRANSLATED_PROMPTS = "prompts", "prompts-translated"
SANDBOX = "sandbox:"
SPLITS = ("train", "test", "preferences-train", "preferences-test", "summaries-train", "summaries-test")
OWN_STAGES = ("generate", "translate", "score", "pair")


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run: to train on, to evaluate with, of the alignment, and of the diagnosis where it has own."""

    training: Track | None = None
    held_out: Track | None = None
    alignment: Track | None = None
    diagnosis: Track | None = None


def prompt_tracks(shop: Workshop, seen: Sequence[Track] = ()) -> Prompts:
    """Every kind of prompts as a track.

    Of those that the run answers only the prompts are taken: it draws its own answers to them.

    Args:
        seen: what other models of the run are trained on, which held-out prompts must not be among either.

    Raises:
        InputError: held-out prompts are among the others, in any language, and nobody has allowed it.
    """
    recipe = shop.recipe
    section = recipe.evaluate
    training: list[Example] = []
    languages = recipe.languages
    if recipe.rounds and recipe.prompts:
        # Prompts that are to be made are not asked for.
        asked = (recipe.pivot,) if recipe.translate_prompts else recipe.languages
        training = load(shop, "prompts", recipe.prompts, asked, alone=True)
        languages = recipe.languages or tuple(dict.fromkeys(lang for e in training for lang in e.prompts))
        if recipe.pivot not in languages:
            raise InputError(
                f"the pivot {recipe.pivot} is none of the languages {', '.join(languages)}; add it to them"
            )
        shop.speak(languages, recipe.pivot)
    pivot: list[Example] = []
    if recipe.alignment:
        # Preferences exist in the pivot: nothing else is asked of their prompts.
        pivot = load(shop, "alignment/prompts", recipe.alignment.prompts, (recipe.pivot,))
    asked_first: list[Example] = []
    own = recipe.diagnose and (recipe.diagnose.prompts or (None if recipe.rounds else recipe.prompts))
    if own:
        asked_first = load(shop, "diagnosis/asked", own, languages, alone=True)
        languages = _spoken(shop, languages, asked_first)
    held_out = None
    if section is not None and section.prompts is not None:
        examples = load(shop, "evaluation/prompts", section.prompts, (*languages, *shop.unseen), alone=True)
        languages = _spoken(shop, languages, examples)
        for others in (training, pivot, asked_first, *(track.examples() for track in seen)):
            refuse_overlap(others, examples, allow=section.prompts.allow_overlap)
        held_out = track(shop, "evaluation/prompts", examples, (*languages, *shop.unseen))
    return Prompts(
        training=track(shop, PROMPTS, training) if training else None,
        held_out=held_out,
        alignment=track(shop, "alignment/prompts", pivot, (recipe.pivot,)) if pivot else None,
        diagnosis=track(shop, "diagnosis/asked", asked_first, languages) if asked_first else None,
    )


def _spoken(shop: Workshop, languages: tuple[str, ...], examples: Sequence[Example]) -> tuple[str, ...]:
    """The run's languages, which its first prompts tell where the recipe does not: of data for rewards or SFT there may
    be some in fewer."""
    if not languages:
        languages = tuple(dict.fromkeys(lang for e in examples for lang in e.prompts))
    if more := [lang for lang in languages if lang not in shop.languages]:
        shop.speak((*shop.languages, *more), shop.recipe.pivot)
    return languages


def labelled(shop: Workshop, options: PromptOptions) -> Track:
    """The user's labelled answers as a track."""
    return track(shop, "evaluation/labelled", load(shop, "evaluation/labelled", options, shop.languages))


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


def load(
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
    from polypref.sandbox import preferences, summaries, world

    part = options.path[len(SANDBOX) :]
    if part not in SPLITS:
        raise InputError(f"{options.path} is no part of the sandbox; {did_you_mean(part, SPLITS)}")
    kind, _, name = part.rpartition("-")
    make: Callable[[str, int, int], list[dict[str, Any]]] = {
        "": world.prompts,
        "preferences": preferences.preferences,
        "summaries": summaries.summaries,
    }[kind]
    try:
        rows = make(name, options.skip + (options.limit or 300), options.seed)[options.skip :]
        found = [parse_example(row) for row in rows]
        label_key = options.label_key or ("right" if kind == "summaries" else None)
        found = objective(found, label_key, pair_labels=options.pair_labels, where=options.path)
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
