"""What a round of LIDR has of its own: which language leads, translations both ways, pairs, what they were worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from polypref import inputs, steps
from polypref.errors import InputError
from polypref.recipe_sections import Evaluate, ImbalancePair, Translate
from polypref.records import Example
from polypref.stages import evaluate as evaluating
from polypref.stages import imbalance as pairing
from polypref.stages import imbalance_analysis, translation_quality
from polypref.stages.about_translation import read_ids
from polypref.stages.dominance import Dominance, dominance, sentence
from polypref.stages.imbalance_statistics import imbalance_statistics
from polypref.stages.score import ScorerOptions
from polypref.store.atomic import digest
from polypref.store.results import keep, kept
from polypref.store.shards import Track
from polypref.workshop import Model, Round, Workshop

PROBE = "probe"
JUDGED = "quality"


def find_lead(shop: Workshop, prompts: Track) -> Dominance | None:
    """Fix which language leads: the one that the recipe names, or by a probe, whose outcome is given and said."""
    section = shop.recipe.pair
    if not isinstance(section, ImbalancePair) or section.dominant == "pivot":
        return None
    if section.dominant != "auto":
        if section.dominant not in shop.languages:
            raise InputError(
                f"pair.dominant is {section.dominant}, which is none of the languages {', '.join(shop.languages)}; "
                "add it to them, or say auto"
            )
        shop.speak(shop.languages, section.dominant)
        return None
    asked = section.probe
    evaluated = shop.recipe.evaluate or Evaluate()
    scorer, model = (asked.scorer, asked.scorer_model) if asked.scorer else (evaluated.quality, evaluated.quality_model)
    track = inputs.track(shop, f"{PROBE}/prompts", list(islice(prompts.examples(), asked.limit)))
    models = {"policy": shop.policy, "reference": shop.reference}
    track = steps.generate(shop, track, PROBE, None, shop.recipe.generate, models)
    options = ScorerOptions(scorer=str(scorer), model=model, name=JUDGED)
    track = shop.scorer(track, f"{PROBE}/score-{JUDGED}", options)
    found = dominance(track.examples(), JUDGED, shop.languages, shop.recipe.pivot)
    with shop.manifest.step(f"{PROBE}/lead"):
        shop.note(sentence(found))
    shop.speak(shop.languages, found.language)
    return found


def listed_ids(shop: Workshop, prompts: Track) -> tuple[str, ...]:
    """The ids of the recipe's prompts about translation, told where no prompt has them.

    Raises:
        InputError: the file cannot be read, or none of its ids is a prompt's.
    """
    section = shop.recipe.pair
    if not isinstance(section, ImbalancePair) or not section.translation_prompts:
        return ()
    listed = section.translation_prompts
    ids = read_ids(listed) if isinstance(listed, str) else listed
    with shop.manifest.step(f"{prompts.prompts}/about-translation"):
        known = {example.id for example in prompts.examples()}
        pairing.check_listed(ids, known, listed if isinstance(listed, str) else "pair.translation_prompts", shop.note)
    return ids


def pair(
    shop: Workshop, answered: Track, folder: str, section: ImbalancePair, start: Model, ids: tuple[str, ...]
) -> tuple[Track, dict[str, Any]]:
    """Translate the answers both ways with the round's model, and pair them; the statistics beside."""
    translate = shop.recipe.translate or Translate()
    options = translate.options(shop.answering(start), "to_pivot", "from_pivot")
    track = shop.translate(answered, f"{folder}/translate", options)
    rule = section.options(shop.pivot, ids)
    settings = {**shop.identity(rule, pairing.VERSION), "identifier": shop.identifier(rule.language_check)}

    def work(unit: str, examples: Iterable[Example]) -> Iterator[Example]:
        return pairing.imbalance(examples, rule, shop.context)

    paired = shop.lay(track, f"{folder}/pair", settings, work, scope="whole")
    path, key = shop.out / folder / "pair" / "summary.json", digest([paired.content(), settings])
    summary = kept(path, key) or keep(path, key, imbalance_statistics(paired.examples()))
    steps.refuse_nothing(paired, folder, summary)
    return paired, summary


def worth(shop: Workshop, rounds: Sequence[Round], held_out: Track | None) -> dict[str, evaluating.Evaluation]:
    """Name of a round's start → what its translations and its imbalance were worth, on the training prompts."""
    recipe = shop.recipe
    section = recipe.evaluate
    if rounds and section and section.quality and held_out and isinstance(recipe.pair, ImbalancePair):
        judged, others = ([e.gold is None for e in track.examples()] for track in (rounds[0].track, held_out))
        if any(judged) and not any(others):
            with shop.manifest.step("imbalance"):
                shop.note(
                    f"{sum(judged)} of {len(judged)} training prompts have no gold, as those that are evaluated have, "
                    "so what the imbalance was worth is not judged; name their field with prompts.gold_key."
                )
            section = None
    out: dict[str, evaluating.Evaluation] = {}
    for now in rounds if isinstance(recipe.pair, ImbalancePair) else ():
        folder = f"round-{now.number}"
        out[now.start.name] = evaluating.Evaluation()
        if section is not None and section.quality is not None:
            scorer = ScorerOptions(scorer=section.quality, model=section.quality_model, name=JUDGED)
            judged = shop.scorer(now.track, f"{folder}/score-{JUDGED}", scorer, scope="whole")
            out[now.start.name] = out[now.start.name].merge(
                shop.measure(
                    f"{folder}/imbalance",
                    judged,
                    [imbalance_analysis.VERSION, shop.pivot],
                    lambda track: imbalance_analysis.analyse(track.examples(), JUDGED, shop.pivot),
                )
            )
        out[now.start.name] = out[now.start.name].merge(_round_trip(shop, now, folder))
    return out


def _round_trip(shop: Workshop, now: Round, folder: str) -> evaluating.Evaluation:
    section = shop.recipe.translate or Translate()
    if not section.round_trip:
        return evaluating.Evaluation()
    options = translation_quality.RoundTripOptions(
        **section.common(shop.answering(now.start)), limit=section.round_trip
    )
    gave_up: list[str] = []
    return shop.measure(
        f"{folder}/round-trip",
        # Pairs change nothing of it.
        dataclasses.replace(now.track, above=()),
        {
            **shop.identity(options, translation_quality.VERSION),
            "identifier": shop.identifier(options.language_check),
            "pivot": shop.pivot,
        },
        lambda track: translation_quality.round_trip_evaluation(track.examples(), options, shop.context, gave_up),
        whole=lambda: not gave_up,
    )
