"""Seahorse's rows (Clark et al. 2023): summaries that people have rated by six questions, one of which is the label.

The prompt is the article alone, as reward models of summaries have it (Wu et al. 2024); ``instruction`` puts a task
around it. The article stands in the row, or in a file of articles under the same ``gem_id``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from polypref import languages
from polypref.errors import InputError
from polypref.stages.prompt_files import Row, Source, broad, find_sources, need
from polypref.stages.prompt_labels import NO_LABEL, as_label, says_nothing
from polypref.stages.prompt_rows import Entry, Keys, Labelled, as_string, shown
from polypref.stages.prompt_turns import fault_of

QUESTIONS: Final = {
    "question1": "comprehensible",
    "question2": "free of repetition",
    "question3": "grammatical",
    "question4": "attributable to the article",
    "question5": "the main ideas",
    "question6": "concise",
}
NO_ARTICLE: Final = "no_article"

_ARTICLE_KEYS: Final = ("article", "document", "text", "source")
"""What the data sets behind Seahorse call the article."""

_LANGUAGE_KEYS: Final = ("worker_lang", "language", "lang")
_REFERENCE: Final = "reference"


def is_seahorse(row: Row) -> bool:
    """Whether a row is a rated summary."""
    return "gem_id" in row and "summary" in row and "question1" in row


def seahorse_entries(sources: Sequence[Source], keys: Keys) -> Iterator[Entry]:
    """One rated summary a row; with ``demonstrations`` the reference summaries alone, whatever was said of them.

    A rating of Yes is a label of true, No of false; where it is left open (Unsure, blank) the row is dropped.

    Raises:
        InputError: no question is named, no article is found for any row, or a field is missing or of the wrong kind.
    """
    if keys.label is None and not keys.demonstrations:
        told = ", ".join(f"{key} ({what})" for key, what in QUESTIONS.items())
        raise InputError(f"{sources[0].name}: summaries have several labels; name one with label_key: {told}")
    articles = None if keys.articles is None else _articles(keys)
    found = 0
    for source in sources:
        for where, row in source.open():
            if keys.demonstrations and row.get("model") != _REFERENCE:
                continue
            entry = _entry(row, where, source, keys, articles)
            found += entry.drop != NO_ARTICLE
            yield entry
    if not found:
        missing = "no reference summary" if keys.demonstrations else f"no article in {keys.articles} for any row"
        raise InputError(f"{sources[0].name}: there is {missing}; name the file that has them")


def _entry(row: Row, where: str, source: Source, keys: Keys, articles: Mapping[str, str] | None) -> Entry:
    name = as_string(need(row, "gem_id", where), "gem_id", where)
    summary = as_string(need(row, "summary", where), "summary", where)
    lang = _language(row, where, source)
    own = _article_key(row, keys)
    article = (articles or {}).get(name) if own is None else as_string(row[own], own, where)
    if own is None and articles is None:
        raise InputError(
            f"{where}: no article among the fields {', '.join(list(row)[:8])}; name its field with text_key, or the "
            "file that has them by gem_id with articles"
        )
    read = {"gem_id", "summary", "model", "worker_lang", own, *QUESTIONS}
    rest = {key: value for key, value in row.items() if key not in read}
    if article is None:
        return Entry(where, name, lang, None, drop=NO_ARTICLE, rest=rest)
    prompt = [{"role": "user", "content": article}]
    if fault := fault_of(prompt, (summary,)):
        return Entry(where, name, lang, prompt, drop=fault, rest=rest)
    if keys.demonstrations:
        return Entry(where, name, lang, prompt, rest=rest, demonstration=summary)
    rating = need(row, str(keys.label), where)
    if says_nothing(rating):
        return Entry(where, name, lang, None, drop=NO_LABEL, rest=rest)
    label = as_label(rating, str(keys.label), where)
    model = row.get("model") or None
    if model is not None and not isinstance(model, str):
        raise InputError(f"{where}: model is {shown(model)}; it must be a string")
    origin = "reference" if model == _REFERENCE else "sampled"
    answer = Labelled(summary, label, origin, None if model == _REFERENCE else model)
    return Entry(where, name, lang, prompt, rest=rest, labelled=(answer,))


def _language(row: Row, where: str, source: Source) -> str:
    """The language without the annotator's region: es-ES is es."""
    key = next((key for key in _LANGUAGE_KEYS if isinstance(row.get(key), str)), None)
    if key is None and source.lang is None:
        raise InputError(f"{where}: nothing says which language it is in; add worker_lang")
    try:
        tag = source.lang if key is None else languages.normalise(row[key])
    except InputError as error:
        raise InputError(f"{where}: {key}: {error}") from None
    if source.lang is not None and broad(str(tag)) != broad(source.lang):
        raise InputError(
            f"{where}: {key} is {row[str(key)]!r}, but the file's name says {source.lang}; mend one of them"
        )
    return broad(str(tag))


def _article_key(row: Row, keys: Keys) -> str | None:
    wanted = (keys.text,) if keys.text else _ARTICLE_KEYS
    return next((key for key in wanted if row.get(key) is not None), None)


def _articles(keys: Keys) -> dict[str, str]:
    """gem_id → article."""
    found: dict[str, str] = {}
    for source in find_sources(str(keys.articles), None)[0]:
        for where, row in source.open():
            name = as_string(need(row, "gem_id", where), "gem_id", where)
            key = _article_key(row, keys)
            if key is None:
                raise InputError(f"{where}: no article in {' or '.join(_ARTICLE_KEYS)}; name its field with text_key")
            text = as_string(row[key], key, where)
            if found.setdefault(name, text) != text:
                raise InputError(f"{where}: gem_id {name!r} has two articles; keep one")
    return found
