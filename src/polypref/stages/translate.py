"""Translate candidates: each becomes another candidate, whose ``parent`` it is, or a failure with its reason.

LIDR (Yang et al. 2024, arXiv 2410.08964, §3) translates both ways between the pivot and every other language; the
``translated`` view of ICR needs the way to the pivot alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from polypref import languages
from polypref.backends.base import Context, Tag, batches
from polypref.backends.translation import Translation
from polypref.errors import InputError
from polypref.records import Candidate, Drop, Example, live
from polypref.stages.passages import lost_numbers
from polypref.stages.translating import NUMBERS_LOST, STAGE, Text, Translating, TranslatingOptions

VERSION = 2

__all__ = [
    "NUMBERS_LOST",
    "STAGE",
    "VERSION",
    "Directions",
    "Targets",
    "TranslateOptions",
    "translate",
    "with_children",
]


def _ways(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_way(direction) for direction in value))


def _way(direction: str) -> str:
    if direction in ("to_pivot", "from_pivot"):
        return direction
    source, colon, target = direction.partition(":")
    if not colon:
        raise ValueError(f"{direction!r} is no direction; say to_pivot, from_pivot, or two languages such as es:ja")
    try:
        source, target = languages.normalise(source), languages.normalise(target)
    except InputError as error:
        raise ValueError(str(error)) from None
    if source == target:
        raise ValueError(f"{direction!r} leads from a language to itself; name two")
    return f"{source}:{target}"


Directions = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_ways)]
"""Ways of translation: ``to_pivot``, ``from_pivot``, or two languages such as ``es:ja``."""


class TranslateOptions(TranslatingOptions):
    """Who translates which candidates, and where to."""

    directions: Directions = Field(
        ("to_pivot", "from_pivot"),
        description="to_pivot: from each other language; from_pivot: into each that has a prompt; es:ja: that way",
    )
    languages: tuple[Tag, ...] = Field(
        (),
        description="the languages beside the pivot that are translated; all of the run's when empty. A way such as "
        "es:ja belongs to its source, one from the pivot to its target",
    )
    origins: tuple[str | None, ...] = Field(
        ("sampled",), min_length=1, description="which candidates; null is one of no origin"
    )
    model: str | None = Field(None, description="only candidates of this model")
    role: str | None = Field(None, description="the model that translations are said to be of")

    def targets(self, lang: str, example: Example, context: Context) -> list[str]:
        """The languages that a candidate in ``lang`` is translated into."""
        others = [tag for tag in self.languages or context.languages if tag != context.pivot]
        found: list[str] = []
        for direction in self.directions:
            source, _, target = direction.partition(":")
            if direction == "from_pivot" and lang == context.pivot:
                found += [tag for tag in others if tag in example.prompts]
            elif direction == "to_pivot" and lang in others:
                found.append(context.pivot)
            elif target and lang == source:
                owner = target if source == context.pivot else source
                found += [target] if not self.languages or owner in self.languages else []
        return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One candidate on its way into one language."""

    example: Example
    candidate: Candidate
    target: str

    @property
    def id(self) -> str:
        return f"{self.candidate.id}>{self.target}"

    def text(self) -> Text:
        return Text(self.id, self.candidate.text, self.candidate.lang, self.target, self.example)


def translate(examples: Iterable[Example], options: TranslateOptions, context: Context) -> Iterator[Example]:
    """Add the translations that an example does not have yet, ``<parent>><language>`` by name, after its candidates.

    A failure is a candidate without text and with ``error``, and a drop with the reason: those of ``Translation``,
    and ``wrong_language``. What has failed or empty text is not translated. Code blocks are not sent and stay as they
    are; numbers that a translation lacks stand in its ``numbers_lost``. A translation of an answer that was cut at its
    length is cut as well, and says so.
    """
    translating = Translating(options, context)
    done = 0

    def targets(example: Example, candidate: Candidate) -> list[str]:
        wanted = candidate.origin in options.origins and options.model in (None, candidate.model)
        return options.targets(candidate.lang, example, context) if wanted else []

    for chunk in batches(examples, options.chunk):
        yield from with_children(chunk, targets, translating, options.role)
        done += len(chunk)
        context.progress(STAGE, done, None)


Targets: TypeAlias = Callable[[Example, Candidate], Sequence[str]]
"""The languages that a candidate of an example is translated into."""


def with_children(
    chunk: Sequence[Example], targets: Targets, translating: Translating, role: str | None
) -> list[Example]:
    """The examples with the translations that they lack, all asked for at once; see ``translate``.

    Args:
        role: the model that translations are said to be of.
    """
    jobs = [job for example in chunk for job in _jobs(example, targets)]
    results = translating.translate([job.text() for job in jobs])
    new: dict[str, list[tuple[Candidate, Drop | None]]] = {}
    for job, result in zip(jobs, results, strict=True):
        new.setdefault(job.example.id, []).append(_child(job, result, role))
    out = []
    for example in chunk:
        made = new.get(example.id, [])
        drops = [drop for _, drop in made if drop is not None and drop not in example.dropped]
        out.append(
            dataclasses.replace(
                example,
                candidates=[*example.candidates, *(candidate for candidate, _ in made)],
                dropped=[*example.dropped, *drops],
            )
        )
    return out


def _jobs(example: Example, targets: Targets) -> Iterator[_Job]:
    have = {(c.parent, c.lang) for c in example.candidates} | {c.id for c in example.candidates}
    for candidate in example.candidates:
        if not live(candidate) or not candidate.text.strip():
            continue
        for target in targets(example, candidate):
            job = _Job(example, candidate, target)
            if (candidate.id, target) not in have and job.id not in have:
                yield job


def _child(job: _Job, result: Translation, role: str | None) -> tuple[Candidate, Drop | None]:
    parent = job.candidate
    lost = [] if result.text is None else lost_numbers(parent.text, result.text)
    candidate = Candidate(
        id=job.id,
        lang=job.target,
        text=result.text or "",
        origin="translated",
        parent=parent.id,
        model=role,
        round=parent.round,
        finish_reason=None if result.text is None else parent.finish_reason,
        error=result.error,
        extra={NUMBERS_LOST: lost} if lost else {},
    )
    reason = result.reason
    return candidate, None if reason is None else Drop(STAGE, reason, job.target, job.id)
