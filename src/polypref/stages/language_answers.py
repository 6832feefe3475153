"""Answers whose language is looked at, model by model, as examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from polypref.errors import InputError
from polypref.records import Candidate, Example
from polypref.stages.answer_files import Reply

UNNAMED = "answers"
"""How answers are called that name no model."""


def by_model(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Model → the examples with its answers alone; those that name no model are ``answers``.

    Raises:
        InputError: there is no answer.
    """
    names = dict.fromkeys(candidate.model or UNNAMED for example in examples for candidate in example.candidates)
    if not names:
        raise InputError("no example has an answer (candidates); generate them first")
    return {
        name: [
            replace(example, candidates=[c for c in example.candidates if (c.model or UNNAMED) == name], pairs=[])
            for example in examples
        ]
        for name in names
    }


def of_replies(
    replies: Iterable[Reply], language: str | None = None, prompts: Mapping[str, Example] | None = None
) -> list[Example]:
    """Replies as examples; those without an id have an example of their own.

    Args:
        language: of replies that do not tell theirs.
        prompts: by id, for replies that do not carry theirs.

    Raises:
        InputError: a reply does not tell its language.
    """
    found: dict[str, Example] = {}
    for reply in replies:
        lang = reply.language or language
        if lang is None:
            raise InputError(
                f"{reply.where}: nothing tells which language is answered; name the file es.jsonl, add a language "
                "column, or name the language with --language"
            )
        name = reply.id or reply.where
        example = found.setdefault(name, Example(name, {}))
        known = prompts.get(name) if prompts else None
        prompt = reply.prompt or (known.prompts.get(lang) if known else None)
        if prompt is not None:
            example.prompts[lang] = prompt
        failed = None if reply.text is not None else "no answer"
        candidate = f"{name}/{lang}/{len(example.candidates)}"
        example.candidates.append(Candidate(candidate, lang, reply.text or "", error=failed))
    return list(found.values())
