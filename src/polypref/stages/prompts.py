"""Reading prompts: whatever the user has becomes examples, joined by id, counted, and put in a seeded order.

Nothing is joined by row number (unless the user says so) and no row is skipped: a bad one is an error with its
``file:line``; what is left out (an empty prompt, an example without all its languages) is counted in the summary.
The order is that of a hash of (seed, id): it does not depend on the files, and the first 1000 of 3000 are the 1000.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator, model_validator

from polypref import languages
from polypref.backends.base import Context, Options
from polypref.errors import InputError
from polypref.records import Drop, Example
from polypref.stages.prompt_files import Source, dataset_sources, find_sources, need
from polypref.stages.prompt_ids import checked, fitting_pattern, kept_apart, without_language
from polypref.stages.prompt_instruction import Instruction, instructed
from polypref.stages.prompt_join import EMPTY, Join, blank, join
from polypref.stages.prompt_objectives import objective
from polypref.stages.prompt_rows import ANSWERED, POSITION, Entry, Keys
from polypref.stages.prompt_sources import detect, entries, in_pivot
from polypref.stages.prompt_summary import PromptSummary, summarise
from polypref.store import places
from polypref.store.jsonl import read_examples

VERSION: int = 2

_ONE_ROW = ("wire", "columns")
"""Shapes whose rows hold all languages: nothing is joined."""

_LABELLED = ("pointwise", "seahorse", "oasst", "wire")
"""Shapes whose answers may carry several labels."""


class PromptOptions(Options):
    """Where the prompts are and how they are called there; what is left out is found from names and first rows."""

    path: str = Field(
        description="a file, a folder, a path with {lang} in it, their URL, or with shape: datasets a data set's name"
    )
    shape: Literal[
        "auto",
        "wire",
        "per_language",
        "columns",
        "preference",
        "hh",
        "ranking",
        "pointwise",
        "labelled",
        "sft",
        "oasst",
        "seahorse",
        "datasets",
    ] = Field("auto", description="what docs/inputs.md calls it; auto looks at names and first row")
    languages: tuple[str, ...] = Field((), description="only these, beside the pivot; all that are found when empty")
    id_key: str | None = Field(None, description="the field that joins the languages; position joins by row number")
    id_pattern: str | None = Field(
        None, description='how ids carry their language, which does not join: "{lang}-{id}" makes 17 of de-17'
    )
    parallel: bool = Field(
        True, description="one id is one item in all languages; false keeps the languages of an id apart"
    )
    text_key: str | None = Field(None, description="the field that holds the prompt")
    gold_key: str | None = Field(None, description="the field that holds the right answer; gold when left out")
    category_key: str | None = Field(None, description="the field that tells an item's domain or task; category")
    label_key: str | None = Field(
        None, description="the objective that is read where answers carry several labels: helpful, question4, quality"
    )
    pair_labels: bool = Field(False, description="make pairs of labels: each better answer to a prompt over each worse")
    ranked: Literal["all", "best"] = Field(
        "all", description="oasst: pairs of each reply with all that are ranked below it, or of the best reply alone"
    )
    articles: str | None = Field(None, description="seahorse: the file or folder that has the articles by gem_id")
    demonstrations: bool = Field(
        False, description="read rows' own answers as demonstrations: a completion, an output, the best-ranked reply"
    )
    instruction: Instruction | None = Field(
        None,
        description="what is asked beside each prompt, a text or one by language; may hold {prompt}, {language}, "
        "{language_native}",
    )
    pattern: str | None = Field(
        None, description="how a folder's files or a file's columns are called: prompts_{lang}.json"
    )
    subset: str | None = Field(None, description="the configuration of a datasets name; may hold {lang}")
    split: str = Field("train", description="the split of a datasets name")
    require: Literal["all", "pivot", "any"] | None = Field(
        None,
        description="languages an example must have: all when left out; any for rows with answers, or parallel: false",
    )
    pivot: str | None = Field(None, description="the language of the preferences; the run's when left out")
    limit: int | None = Field(None, gt=0, description="how many examples, the first of the seeded order")
    skip: int = Field(
        0, ge=0, description="examples of the seeded order that are left out before those, for another use"
    )
    seed: int = Field(0, description="of the order")
    allow_overlap: bool = Field(False, description="let training and evaluation share prompts")

    @field_validator("languages", mode="after")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(languages.normalise(code) for code in value))
        except InputError as error:
            raise ValueError(str(error)) from None

    @field_validator("id_pattern", mode="after")
    @classmethod
    def _id_pattern(cls, value: str | None) -> str | None:
        return None if value is None else checked(value)

    @model_validator(mode="after")
    def _one_way_to_join(self) -> PromptOptions:
        if self.id_pattern and (self.id_key == POSITION or self.shape in _ONE_ROW):
            raise ValueError("id_pattern is for ids that join rows of several languages; leave it out here")
        if not self.parallel and (self.id_pattern or self.shape in _ONE_ROW):
            raise ValueError("parallel: false is for rows of one language each; leave id_pattern out, or parallel")
        return self

    @field_validator("pivot", mode="after")
    @classmethod
    def _tag(cls, value: str | None) -> str | None:
        return None if value is None else cls._tags((value,))[0]


def read_prompts(options: PromptOptions, context: Context) -> tuple[list[Example], PromptSummary]:
    """The examples that the options name, in the seeded order, and what was found on the way.

    Raises:
        InputError: a row breaks its shape (``file:line`` and field), two rows contradict each other, a language that
            was asked for is absent, or nothing is left.
    """
    keys = Keys(
        options.id_key,
        options.text_key,
        options.pattern,
        options.languages,
        options.label_key,
        options.ranked,
        options.articles and places.local(options.articles),
        options.demonstrations,
    )
    if options.shape == "datasets":
        tags = options.languages or tuple(context.languages)
        sources = dataset_sources(options.path, options.subset, options.split, tags)
        ignored: tuple[str, ...] = ()
    else:
        sources, ignored = find_sources(places.local(options.path), options.pattern)
    shape = detect(sources[0], keys) if options.shape in ("auto", "datasets") else options.shape
    pivot = options.pivot or context.pivot
    assumed = id_field = None
    if shape in _ONE_ROW and (options.id_pattern or not options.parallel):
        key = "id_pattern" if options.id_pattern else "parallel"
        raise InputError(f"{options.path} holds all languages of a prompt in one row; leave {key} out")
    _check_label(options, shape)
    if shape == "wire":
        joined = Join([_categorised(example, options.category_key) for example in _wire(sources, context)])
    else:
        _check_names(sources)
        told = in_pivot(sources, shape, keys, pivot)
        assumed = pivot if told[0].lang != sources[0].lang else None
        found_rows: Iterable[Entry] = entries(told, shape, keys)
        if options.id_pattern:
            found_rows = without_language(found_rows, options.id_pattern)
        if shape in ANSWERED:
            found_rows, id_field = kept_apart(list(found_rows))
        if not options.parallel:
            found_rows = (replace(entry, id=f"{entry.lang}/{entry.id}") for entry in found_rows)
        joined = join(
            found_rows,
            by_position=options.id_key == POSITION,
            gold_key=options.gold_key,
            category_key=options.category_key,
        )
    label_key = options.label_key if shape == "wire" else None  # the others' readers have read it already
    examples = objective(joined.examples, label_key, pair_labels=options.pair_labels, where=options.path)
    wanted = options.languages or tuple(languages.normalise(code) for code in context.languages)
    found = tuple(sorted({tag for example in examples for tag in example.prompts}))
    absent = [tag for tag in wanted if tag not in found]
    if absent:
        raise InputError(f"{options.path} has no prompts in {', '.join(absent)}; it has {', '.join(found)}")
    chosen = tuple(tag for tag in found if not wanted or tag in wanted or tag == pivot)
    examples = [_without_empty(restricted(example, chosen)) for example in examples]
    examples = [example for example in examples if example.prompts or example.dropped]
    apart = shape in ANSWERED or not options.parallel
    require = options.require or ("any" if apart else "all")
    if require == "pivot" and pivot not in chosen:
        raise InputError(f"{options.path} has no prompts in the pivot {pivot}; it has {', '.join(found)}")
    required = {"all": chosen, "pivot": (pivot,), "any": ()}[require]
    kept = [example for example in examples if example.prompts and all(tag in example.prompts for tag in required)]
    if not kept:
        raise InputError(_unjoined(options, examples, required))
    summary = replace(
        summarise(joined, examples, len(kept), chosen, parallel=options.parallel),
        shape=shape,
        ignored=ignored,
        require=require,
        id_field=id_field,
        assumed=assumed,
    )
    if options.skip and options.skip >= len(kept):
        raise InputError(f"{options.path} has {len(kept)} prompts, and skip leaves out {options.skip}; skip fewer")
    kept = instructed(subset(kept, options.limit, options.seed, options.skip), options.instruction)
    if options.limit is not None and len(kept) < options.limit:
        context.warn(f"{options.path}: {options.limit} prompts asked for, {len(kept)} there")
    labels = sum(candidate.label is not None for example in kept for candidate in example.candidates)
    summary = replace(summary, examples=len(kept), pairs=sum(len(e.pairs) for e in kept), labels=labels)
    for remark in summary.remarks():
        context.warn(f"{options.path}: {remark}")
    if summary.only and not options.id_pattern and (pattern := fitting_pattern(_ids(examples, chosen))):
        context.warn(f'{options.path}: more ids join when they leave out their language; say id_pattern: "{pattern}"')
    return kept, summary


def subset(examples: Iterable[Example], limit: int | None, seed: int, skip: int = 0) -> list[Example]:
    """The first ``limit`` examples (all when None) by the SHA-256 of seed and id, after ``skip`` of them: a smaller
    limit gives a prefix, and what one use skips another may take."""

    def place(example: Example) -> bytes:
        return hashlib.sha256(f"{seed}\0{example.id}".encode()).digest()

    return sorted(examples, key=place)[skip:][:limit]


def _check_names(sources: Sequence[Source]) -> None:
    """Several files must each be one language: two files of one language would be joined in silence."""
    by_language: dict[str, str] = {}
    for source in sources if len(sources) > 1 else ():
        if source.lang is None:
            raise InputError(
                f"{source.name}: the file's name tells no language, as the other files' should; "
                "name one file, or say how the files are called with pattern: {lang}.jsonl"
            )
        if source.lang in by_language:
            raise InputError(
                f"{source.name} and {by_language[source.lang]} are both in {source.lang}; say which files to read "
                "with pattern: {lang}.jsonl"
            )
        by_language[source.lang] = source.name


def _ids(examples: Sequence[Example], tags: Sequence[str]) -> dict[str, list[str]]:
    return {tag: [example.id for example in examples if tag in example.prompts] for tag in tags}


def _unjoined(options: PromptOptions, examples: Sequence[Example], required: Sequence[str]) -> str:
    """Why no example has all the languages that it must have: how many ids each has, one of them, and the fix."""
    dropped = Counter(drop.reason for example in examples for drop in example.dropped)
    if set(dropped) - {EMPTY} and not any(example.prompts for example in examples):
        told = ", ".join(f"{reason} {n}" for reason, n in dropped.items())
        return f"nothing is left of {options.path}, every row is dropped ({told}); docs/inputs.md says what each means"
    ids = _ids(examples, required)
    if not ids or not all(ids.values()):
        empty = ", ".join(tag for tag, of in ids.items() if not of) or "any language"
        return f"{options.path} has only blank prompts in {empty}; fill them in, or leave the language out"
    told = ", ".join(f"{tag} {len(of)} such as {of[0]!r}" for tag, of in ids.items())
    pattern = None if options.id_pattern else fitting_pattern(ids)
    fix = (
        f'they carry their language: say id_pattern: "{pattern}"'
        if pattern
        else "name the field that joins them with id_key, say with id_pattern how they carry their language, or say "
        "require: any"
    )
    where = ", ".join(required)
    return f"{options.path} has no prompt that stands in {where}: they share no ids ({told}); {fix}"


def _check_label(options: PromptOptions, shape: str) -> None:
    """Refuse options that the shape has no use for, where leaving them aside would read something else."""
    if options.label_key and shape not in _LABELLED:
        raise InputError(
            f"{options.path} is read as {shape}, whose rows have no labels to choose from; leave label_key out, or say "
            f"shape: {' or '.join(_LABELLED)}"
        )
    for name, value, only in (
        ("articles", options.articles, "seahorse"),
        ("ranked", options.ranked == "best", "oasst"),
    ):
        if value and shape != only:
            raise InputError(f"{options.path} is read as {shape}; {name} is for shape: {only}, leave it out")


# --- wire format ---------------------------------------------------------------------------------------------------


def _wire(sources: Sequence[Source], context: Context) -> list[Example]:
    seen: dict[str, str] = {}
    examples = []
    for source in sources:
        if source.path is None:
            raise InputError(f"{source.name} holds polypref's own format; name its .jsonl or .parquet file as path")
        for example in read_examples(source.path, context.warn):
            if example.id in seen:
                raise InputError(f"id {example.id!r} stands in {seen[example.id]} and in {source.name}; remove one")
            seen[example.id] = source.name
            examples.append(example)
    return examples


def _categorised(example: Example, key: str | None) -> Example:
    """The example with the category that its own field ``key`` tells."""
    if key in (None, "category"):
        return example
    found = need(example.extra, str(key), f"example {example.id!r}")
    if not isinstance(found, str) or not found:
        raise InputError(f"example {example.id!r}: {key} is {found!r}; a category is a text")
    extra = {name: value for name, value in example.extra.items() if name != key}
    return replace(example, category=found, extra=extra)


# --- what stays ----------------------------------------------------------------------------------------------------


def _without_empty(example: Example) -> Example:
    empty = [tag for tag, prompt in example.prompts.items() if blank(prompt)]
    if not empty:
        return example
    dropped = example.dropped + [Drop("prompts", EMPTY, tag) for tag in empty]
    return replace(restricted(example, [tag for tag in example.prompts if tag not in empty]), dropped=dropped)


def restricted(example: Example, keep: Sequence[str]) -> Example:
    """The example without the prompts of other languages, and without the answers and pairs that belong to them."""
    gone = {tag for tag in example.prompts if tag not in keep}
    if not gone:
        return example
    lost: set[str] = set()
    for _ in example.candidates:  # a child goes with its parent, wherever it stands in the list
        more = {c.id for c in example.candidates if c.lang in gone or c.parent in lost}
        if more == lost:
            break
        lost = more
    return replace(
        example,
        prompts={tag: prompt for tag, prompt in example.prompts.items() if tag not in gone},
        candidates=[c for c in example.candidates if c.id not in lost],
        pairs=[p for p in example.pairs if p.lang not in gone and not {p.chosen, p.rejected} & lost],
    )
