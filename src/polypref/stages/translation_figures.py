"""How the translation of a preference or SFT set went, by language: what it has now, what it lost, how good it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from polypref.records import Candidate, Example, Pair
from polypref.stages.carry_over import BACK_RULE, RULE, STAGE, follow
from polypref.stages.evaluate import Evaluation
from polypref.stages.preference_prompts import BACK_MARK
from polypref.stages.translate_preferences import TranslatePreferencesOptions
from polypref.stages.translate_prompts import MARK, marks_of
from polypref.stages.translating import NUMBERS_LOST
from polypref.stages.translating import STAGE as TRANSLATE
from polypref.stages.translation_filters import ROUND_TRIP_FAILED, length_ratio
from polypref.stages.translation_quality import FAILED
from polypref.stages.translation_quality import METRIC as CHRF

Figures = dict[str, dict[str, Any]]


def translation_figures(examples: Iterable[Example], options: TranslatePreferencesOptions, pivot: str) -> Figures:
    """Figures by language of what ``translate_preferences`` gave, read off the examples alone.

    ``prompts``, ``translations`` (of answers, those refused left out), ``pairs`` and ``labels`` are what there is.
    ``dropped`` says by reason what there is not: of each of these, and of ``answers`` that stood alone, labelled or
    demonstrating. Each metric is a mean over examples with ``_stderr`` and ``_n``; the first is over all translations
    that were asked for, the others over those that have a text, refused ones among them:

        translation_failed    share that failed or were refused
        length_ratio          characters of the translation for each of the original
        numbers_lost          share that lack a number of the original
        round_trip_chrf       of those that were translated back, 0 to 100
        round_trip_failed     share whose way back failed, of those that were to be translated back
        prompt_numbers_lost, prompt_round_trip_chrf    the same of the prompts that were made
    """
    ways = options.ways(pivot)
    evaluation = Evaluation()
    counts: dict[str, Counter[str]] = {lang: Counter() for lang in ways}
    dropped: dict[str, dict[str, Counter[str]]] = {lang: {} for lang in ways}
    for example in examples:
        for lang, way in ways.items():
            made = [(a, c) for a in example.candidates if a.lang == way[0] and (c := _translation(example, a, way))]
            mark = _mark(example, lang, way)
            counts[lang] += Counter(
                prompts=int(mark is not None),
                translations=sum(c.error is None for _, c in made),
                pairs=sum(_carried(pair, lang) for pair in example.pairs),
                labels=sum(c.error is None and c.label is not None for _, c in made),
            )
            lost = dropped[lang].setdefault("translations", Counter())
            lost.update(c.error.partition(":")[0] for _, c in made if c.error is not None)
            for what, reason in _drops(example, lang):
                dropped[lang].setdefault(what, Counter())[reason] += 1
            _measure(evaluation, example, lang, made)
            _measure_prompt(evaluation, example, lang, mark)
    figures = evaluation.figures()
    return {
        lang: {
            **{name: counts[lang][name] for name in ("prompts", "translations", "pairs", "labels")},
            "dropped": {
                what: dict(sorted(reasons.items())) for what, reasons in sorted(dropped[lang].items()) if reasons
            },
            **figures.get(lang, {}),
        }
        for lang in ways
    }


def _translation(example: Example, answer: Candidate, way: tuple[str, ...]) -> Candidate | None:
    """Where an answer arrived, be it in a failure; None where it was not sent."""
    found = follow(example, answer, way[1:])
    return None if found is answer else found


def _carried(pair: Pair, lang: str) -> bool:
    return pair.lang == lang and pair.rule in (RULE, BACK_RULE)


def _mark(example: Example, lang: str, way: tuple[str, ...]) -> Mapping[str, Any] | None:
    """What is noted of a prompt that was made."""
    back = way[0] == lang
    mark = marks_of(example, BACK_MARK if back else MARK).get(lang)
    if mark is None or "failed" in mark or mark.get("source") != way[-2]:
        return None
    return dict(mark)


def _drops(example: Example, lang: str) -> Iterator[tuple[str, str]]:
    """(what, reason) of the drops in a language but for those of translations, which are failures themselves."""
    for drop in example.dropped:
        if drop.lang != lang or drop.candidate is not None:
            continue
        if drop.stage == TRANSLATE:
            yield "prompts", drop.reason
        elif drop.stage == STAGE:
            yield ("pairs" if "chosen" in drop.extra else "answers"), drop.reason


def _measure(evaluation: Evaluation, example: Example, lang: str, made: Iterable[tuple[Candidate, Candidate]]) -> None:
    values: dict[str, list[float]] = {}
    for answer, found in made:
        values.setdefault(FAILED, []).append(float(found.error is not None))
        if not found.text.strip() or found.lang != lang:
            continue
        values.setdefault("length_ratio", []).append(length_ratio(answer.text, found.text))
        values.setdefault(NUMBERS_LOST, []).append(float(NUMBERS_LOST in found.extra))
        if CHRF in found.extra:
            values.setdefault(CHRF, []).append(found.extra[CHRF])
        if CHRF in found.extra or ROUND_TRIP_FAILED in found.extra:
            values.setdefault(ROUND_TRIP_FAILED, []).append(float(CHRF not in found.extra))
    for metric, found_values in values.items():
        evaluation.add(metric, lang, example.id, sum(found_values) / len(found_values))


def _measure_prompt(evaluation: Evaluation, example: Example, lang: str, mark: Mapping[str, Any] | None) -> None:
    if mark is not None:
        evaluation.add(f"prompt_{NUMBERS_LOST}", lang, example.id, float(NUMBERS_LOST in mark))
        evaluation.add(f"prompt_{CHRF}", lang, example.id, mark.get(CHRF))
