"""Ids that carry their language: ``degsm8k_test_0`` beside ``gsm8k_test_0``, ``de-17`` beside ``17``, ``17_de``.

A pattern such as ``{lang}{id}`` says where the language stands. It is the row's own language, in any usual spelling,
and a row may leave it out with what parts it from the id; what is left joins the languages. Ids that count each part
of a benchmark anew follow the part's name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from polypref import languages
from polypref.errors import InputError
from polypref.stages.prompt_rows import Entry

_PARTS: Final = ("subset", "source")
_SEPARATORS: Final = ("-", "_", ":", "/", ".", "")
_USUAL: Final = (*(f"{{lang}}{s}{{id}}" for s in _SEPARATORS), *(f"{{id}}{s}{{lang}}" for s in _SEPARATORS))


def checked(pattern: str) -> str:
    """The pattern.

    Raises:
        ValueError: ``{lang}`` or ``{id}`` is not in it once.
    """
    if pattern.count("{lang}") != 1 or pattern.count("{id}") != 1:
        raise ValueError(f"{pattern!r} must hold {{lang}} and {{id}} once each, as in {{lang}}-{{id}}")
    return pattern


def without_language(found: Iterable[Entry], pattern: str) -> Iterator[Entry]:
    """The entries, each with its id as it is without its language.

    Raises:
        InputError: two ids of a language are the same without it.
    """
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in found:
        bare = _bare(entry.id, pattern, entry.lang)
        other, where = seen.setdefault((entry.lang, bare), (entry.id, entry.where))
        if other != entry.id:
            raise InputError(
                f"{entry.where}: the ids {entry.id!r} and {other!r} ({where}) are both {bare!r} by id_pattern "
                f"{pattern}; name a pattern that tells them apart, or mend the ids"
            )
        yield replace(entry, id=bare)


def kept_apart(found: Sequence[Entry]) -> tuple[list[Entry], str | None]:
    """The entries with ids that tell items apart, and the field that does it where ids alone do not.

    Benchmarks number each of their subsets: an id that stands in one language with two prompts, or in two subsets, then
    follows its row's ``subset``, or its ``source``, in the ids of all rows, so that languages still join.
    """
    for name in _PARTS:
        if not all(isinstance(entry.rest.get(name), str) and entry.rest[name] for entry in found):
            continue
        if not _clash(found, name if name == "subset" else None):
            break
        apart = [replace(entry, id=f"{entry.rest[name]}/{entry.id}") for entry in found]
        if not _clash(apart):
            return apart, name
    return list(found), None


def _clash(found: Iterable[Entry], part: str | None = None) -> bool:
    """Whether an id stands in one language for two items."""
    seen: dict[tuple[str, str], tuple[object, ...]] = {}
    for entry in found:
        if entry.prompt is not None:
            answers = entry.labelled if len(entry.labelled) > 1 else None
            item = (entry.prompt, answers, entry.rest.get(part) if part else None)
            if seen.setdefault((entry.lang, entry.id), item) != item:
                return True
    return False


def fitting_pattern(ids: Mapping[str, Collection[str]]) -> str | None:
    """The pattern that lets the languages share the most ids, given the ids of each; None when none adds any."""
    best, most = None, len(_shared(ids))
    for pattern in _USUAL:
        bare = {lang: [_bare(one, pattern, lang) for one in of] for lang, of in ids.items()}
        distinct = all(len(set(of)) == len(of) for of in bare.values())
        if distinct and len(_shared(bare)) > most:
            best, most = pattern, len(_shared(bare))
    return best


def _shared(ids: Mapping[str, Collection[str]]) -> set[str]:
    return set.intersection(*map(set, ids.values())) if ids else set()


def _bare(one: str, pattern: str, lang: str) -> str:
    match = _regex(pattern, lang).fullmatch(one)
    return match["id"] if match else one


@functools.cache
def _regex(pattern: str, lang: str) -> re.Pattern[str]:
    import langcodes

    language = langcodes.Language.get(lang)
    primary = language.language or lang
    code = language.to_alpha3()
    spellings = {lang, lang.replace("-", "_"), primary, code, f"{code}_{languages.script(lang)}", languages.name(lang)}
    spelt = "|".join(re.escape(word) for word in sorted(spellings, key=len, reverse=True))
    escaped = re.escape(pattern).replace(r"\{lang\}", f"(?i:{spelt})").replace(r"\{id\}", "(?P<id>.+)")
    return re.compile(escaped, re.DOTALL)
