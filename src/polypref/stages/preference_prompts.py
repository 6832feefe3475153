"""The prompts of translated sets: made from another language's, or replaced by what comes back of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polypref.backends.translation import Translation
from polypref.records import Drop, Example, Message
from polypref.stages import prompt_instruction
from polypref.stages.prompt_instruction import plain
from polypref.stages.translate_prompts import MARK, marks_of, rebuilt, turns_of, with_prompts
from polypref.stages.translating import STAGE, Translating
from polypref.stages.translation_filters import TranslationFilterOptions, lost_notes, refused, round_trip_notes

BACK_MARK = "back_translated_prompts"
"""An example's own field: language → by whom its prompt was replaced and through which language, what it was
(``original``) and what it was there (``between``); or why it stands (``failed``)."""

Languages = Callable[[Example], Sequence[str]]


def translated_prompts(
    chunk: Sequence[Example],
    source: str,
    languages: Languages,
    translating: Translating,
    role: str | None,
    options: TranslationFilterOptions,
) -> list[Example]:
    """The examples with the prompts that they lack, as ``translate_prompts`` makes them, but for those refused.

    What the filters read is noted beside the model in ``translated_prompts``; a prompt that is refused is not there,
    and a drop says why.
    """
    found = with_prompts(chunk, source, languages, translating, role)
    new = [
        (now, lang) for was, now in zip(chunk, found, strict=True) for lang in now.prompts if lang not in was.prompts
    ]
    trips: dict[tuple[str, str], dict[str, Any]] = {}
    if options.round_trip or options.min_chrf is not None:
        back = _sent(new, [e.prompts[lang] for e, lang in new], [(lang, source) for _, lang in new], translating)
        for (example, lang), returned in zip(new, back, strict=True):
            original = _said(plain(example).prompts[source])
            failed = returned if isinstance(returned, str) else None
            said = None if isinstance(returned, str) else _said(returned)
            trips[example.id, lang] = round_trip_notes(original, said, failed) if original else {}
    out = {example.id: example for example in found}
    for example, lang in new:
        out[example.id] = _judged(out[example.id], source, lang, trips.get((example.id, lang), {}), options)
    return list(out.values())


def _judged(
    example: Example, source: str, lang: str, trip: Mapping[str, Any], options: TranslationFilterOptions
) -> Example:
    prompts, marks, dropped = dict(example.prompts), marks_of(example), list(example.dropped)
    marks[lang] = marks[lang] | trip
    if why := _refused(plain(example).prompts[source], prompts[lang], (source, lang), marks[lang], options):
        del prompts[lang], marks[lang]
        dropped += [drop for drop in [Drop(STAGE, why.partition(":")[0], lang)] if drop not in dropped]
    extra = {name: value for name, value in example.extra.items() if name != MARK} | ({MARK: marks} if marks else {})
    return dataclasses.replace(example, prompts=prompts, dropped=dropped, extra=extra)


def back_translated_prompts(
    chunk: Sequence[Example],
    between: str,
    languages: Languages,
    translating: Translating,
    role: str | None,
    options: TranslationFilterOptions,
) -> list[Example]:
    """The examples with each prompt in their ``languages`` replaced by what comes back of it from ``between``.

    The old one is kept in ``back_translated_prompts``. Where a way failed or what came back is refused, the prompt
    stands, and a drop says why. An instruction that stood around the old prompt is not around the new one.
    """
    asked = [(example, lang) for example in chunk for lang in languages(example)]
    originals = [plain(example).prompts[lang] for example, lang in asked]
    there = _sent(asked, originals, [(lang, between) for _, lang in asked], translating)
    arrived = [(place, found) for place, found in enumerate(there) if not isinstance(found, str)]
    onward = [asked[place] for place, _ in arrived]
    returned = _sent(onward, [found for _, found in arrived], [(between, lang) for _, lang in onward], translating)
    back = dict(zip((place for place, _ in arrived), returned, strict=True))
    out = {example.id: example for example in chunk}
    for place, (example, lang) in enumerate(asked):
        mark: dict[str, Any] = {"source": between, "model": role}
        original, found = originals[place], back.get(place, there[place])
        if isinstance(found, str):
            out[example.id] = _kept(out[example.id], lang, mark | {"failed": found})
            continue
        said = _said(original), _said(found)
        mark |= lost_notes(*said) | (round_trip_notes(*said) if said[0] else {})
        if why := _refused(original, found, (lang, lang), mark, options):
            out[example.id] = _kept(out[example.id], lang, mark | {"failed": why})
        else:
            mark |= {"original": original, "between": there[place]}
            out[example.id] = _replaced(out[example.id], lang, mark, found)
    return list(out.values())


def _sent(
    asked: Sequence[tuple[Example, str]],
    prompts: Sequence[Sequence[Message]],
    ways: Sequence[tuple[str, str]],
    translating: Translating,
) -> list[list[Message] | str]:
    """Each prompt translated on its way, (from, into): its messages, or the reason of its first turn that failed."""
    sent = [
        turns_of(messages, f"{example.id}/{lang}>{into}", source, into, example)
        for (example, lang), messages, (source, into) in zip(asked, prompts, ways, strict=True)
    ]
    results = iter(translating.translate([text for turns in sent for text in turns.values()]))
    out: list[list[Message] | str] = []
    for messages, turns in zip(prompts, sent, strict=True):
        done = {turn: next(results) for turn in turns}
        out.append(_reason(done) or rebuilt(messages, {turn: str(t.text) for turn, t in done.items()}))
    return out


def _reason(done: Mapping[int, Translation]) -> str | None:
    return next((t.reason for t in done.values() if t.error), None)


def _replaced(example: Example, lang: str, mark: Mapping[str, Any], prompt: list[Message]) -> Example:
    extra = example.extra | {BACK_MARK: marks_of(example, BACK_MARK) | {lang: mark}}
    around = extra.pop(prompt_instruction.MARK, None) or {}
    if around := {tag: place for tag, place in around.items() if tag != lang}:
        extra[prompt_instruction.MARK] = around
    return dataclasses.replace(example, extra=extra, prompts=example.prompts | {lang: prompt})


def _kept(example: Example, lang: str, mark: Mapping[str, Any]) -> Example:
    extra = example.extra | {BACK_MARK: marks_of(example, BACK_MARK) | {lang: mark}}
    drop = Drop(STAGE, mark["failed"].partition(":")[0], lang)
    return dataclasses.replace(example, extra=extra, dropped=[*example.dropped, drop])


def _said(messages: Sequence[Message]) -> str:
    """What of a prompt is translated, in one text."""
    return "\n".join(str(m["content"]) for m in messages if m["role"] != "tool" and m["content"].strip())


def _refused(
    original: Sequence[Message],
    translation: Sequence[Message],
    way: tuple[str, str],
    noted: Mapping[str, Any],
    options: TranslationFilterOptions,
) -> str | None:
    said = _said(original)
    return refused(said, _said(translation), way, noted, options) if said else None
