"""A run's examples on disk: prompt shards, and the layers that stages laid over them, one file a language and shard.

    prompts/part-00000.parquet                     examples with their prompts
    round-1/generate/es/part-00000.parquet         what one stage added to the Spanish part of that shard

A unit is what a stage sees at once, by the layer's scope: one language of a shard; that language beside the pivot; or
the whole examples of a shard (its folder is ``all``). Its file carries the key of everything it was computed from, so a
file whose key stands is not computed again, and a new language adds files and touches none but those of whole layers.
A file stands when it is as it was written, to the last bit: every start reads each file once (``parquet.sealed``),
whose digest is what the keys above it are made of.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polypref.errors import InputError
from polypref.records import Example, parse_example, to_json
from polypref.store import delta
from polypref.store.atomic import digest, replacing
from polypref.store.parquet import damaged, read_metadata, read_rows, sealed, write_rows

Scope = Literal["language", "with_pivot", "whole"]
"""What a unit of a layer holds: one language; one language beside the pivot, which has no unit itself; everything."""

WHOLE = "all"
"""The name of a whole layer's unit where the others have a language."""


def part(index: int) -> str:
    """The file name of a shard."""
    return f"part-{index:05d}.parquet"


def is_score(layer: str) -> bool:
    """Whether a layer holds scores alone."""
    return layer.rpartition("/")[2].startswith("score")


def is_translation(layer: str) -> bool:
    """Whether a layer holds translations alone."""
    return layer.rpartition("/")[2].startswith("translate")


def write_prompts(folder: Path, examples: Sequence[Example], size: int) -> int:
    """Cut the examples into shards of ``size`` and give their count; a shard that stands with its content is left."""
    count = -(-len(examples) // size)
    for index in range(count):
        rows = [to_json(e) for e in examples[index * size : (index + 1) * size]]
        if standing(folder / part(index), digest(rows)) is None:
            write_shard(folder / part(index), digest(rows), rows)
    for stale in folder.glob("part-*.parquet"):
        if int(stale.stem[5:]) >= count:
            stale.unlink()
    return count


def write_shard(path: Path, key: str, rows: Iterable[Mapping[str, Any]], failed: int = 0) -> None:
    """Write a shard at once, with its key and the number of failed candidates in its footer."""
    with replacing(path) as temporary:
        write_rows(temporary, rows, {"key": key, "failed": str(failed)})


def standing(path: Path, key: str) -> int | None:
    """How many failed candidates the shard of that key holds, None when none is there or it is damaged."""
    found = read_metadata(path) if path.exists() and sealed(path) else None
    failed = found.get("failed", "0") if found and found.get("key") == key else ""
    return int(failed) if failed.isdecimal() else None


@dataclass(frozen=True)
class Track:
    """Prompt shards with stages' layers over them: where one stage reads and the next one writes.

    ``beside`` are the layers of scope ``with_pivot``, laid over all of ``layers``; ``above`` those of scope ``whole``,
    laid over all others.
    """

    root: Path
    prompts: str
    languages: tuple[str, ...]
    pivot: str
    layers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    above: tuple[str, ...] = ()

    def over(self, layer: str, scope: Scope = "language") -> Track:
        """This track with one more layer."""
        field = {"language": "layers", "with_pivot": "beside", "whole": "above"}[scope]
        return dataclasses.replace(self, **{field: (*getattr(self, field), layer)})

    def texts(self) -> Track:
        """This track without its scores: what a scorer reads, so that no score depends on another."""
        return self._keeping(lambda layer: not is_score(layer))

    def answers(self) -> Track:
        """This track without its scores and translations: what a scorer of the model's own answers reads."""
        return self._keeping(lambda layer: not is_score(layer) and not is_translation(layer))

    def _keeping(self, wanted: Callable[[str], bool]) -> Track:
        kept = {name: tuple(filter(wanted, getattr(self, name))) for name in ("layers", "beside", "above")}
        return dataclasses.replace(self, **kept)

    @property
    def count(self) -> int:
        """How many shards there are."""
        return sum(1 for _ in (self.root / self.prompts).glob("part-*.parquet"))

    def units(self, scope: Scope = "language") -> tuple[str, ...]:
        """The names of a shard's units in a scope."""
        if scope == "whole":
            return (WHOLE,)
        return tuple(lang for lang in self.languages if scope == "language" or lang != self.pivot)

    def file(self, layer: str, unit: str, index: int) -> Path:
        """Where a layer keeps one unit."""
        return self.root / layer / unit / part(index)

    def base(self, index: int) -> list[Example]:
        """The examples of a prompt shard."""
        return _base(self.root / self.prompts / part(index))

    def unit(
        self, name: str, index: int, scope: Scope = "language", base: Sequence[Example] | None = None
    ) -> list[Example]:
        """The examples of one unit, every layer of its scope and of those below applied."""
        base = base if base is not None else self.base(index)
        if scope == "language":
            return self._apply([delta.project(e, name, self.pivot) for e in base], self.layers, name, index)
        if scope == "with_pivot":
            tags = (self.pivot, name)
            alone = [dataclasses.replace(e, prompts={t: p for t, p in e.prompts.items() if t in tags}) for e in base]
            return self._apply(self._joined(alone, tags, index, base), self.beside, name, index)
        examples = self._joined(base, self.languages, index, base)
        for lang in self.units("with_pivot"):
            examples = self._apply(examples, self.beside, lang, index)
        return self._apply(examples, self.above, WHOLE, index)

    def _joined(
        self, wholes: Sequence[Example], languages: Sequence[str], index: int, base: Sequence[Example]
    ) -> list[Example]:
        units = [self.unit(lang, index, "language", base) for lang in languages]
        return [delta.join(e, [unit[position] for unit in units]) for position, e in enumerate(wholes)]

    def _apply(self, examples: list[Example], layers: Sequence[str], name: str, index: int) -> list[Example]:
        for layer in layers:
            rows = dict(self.rows(layer, name, index))
            examples = [delta.apply(e, rows[e.id]) if e.id in rows else e for e in examples]
        return examples

    def rows(self, layer: str, unit: str, index: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """(example id, partial row) of one unit's file."""
        for _, row in _whole_rows(self.file(layer, unit, index)):
            yield row["id"], row

    def examples(self, languages: Sequence[str] | None = None) -> Iterator[Example]:
        """The whole examples, or those languages' part of them, shard by shard."""
        track = self if languages is None else dataclasses.replace(self, languages=tuple(languages))
        for index in range(self.count):
            yield from track.unit(WHOLE, index, "whole")

    def inputs(self, unit: str, index: int, scope: Scope = "language") -> list[str]:
        """Digests of what a unit is made of: its prompts (in its languages and the pivot) and every layer's file."""
        if scope == "language":
            shard = self.root / self.prompts / part(index)
            prompts = _prompts_digest(shard, _digest(shard), unit, self.pivot)
            return [prompts, *(_digest(self.file(layer, unit, index)) for layer in self.layers)]
        if scope == "with_pivot":
            own = [found for lang in (self.pivot, unit) for found in self.inputs(lang, index)]
            return own + [_digest(self.file(layer, unit, index)) for layer in self.beside]
        own = [found for lang in self.languages for found in self.inputs(lang, index)]
        beside = [(layer, lang) for layer in self.beside for lang in self.units("with_pivot")]
        above = [(layer, WHOLE) for layer in self.above]
        return own + [_digest(self.file(layer, name, index)) for layer, name in beside + above]

    def content(self) -> str:
        """One digest of everything the track holds."""
        return digest([self.inputs(WHOLE, index, "whole") for index in range(self.count)])

    def whole(self) -> bool:
        """Whether every unit of every layer is there, and at least one."""
        scopes: dict[Scope, tuple[str, ...]] = {
            "language": self.layers,
            "with_pivot": self.beside,
            "whole": self.above,
        }
        count = self.count
        files = (
            self.file(layer, unit, index)
            for scope, layers in scopes.items()
            for layer in layers
            for unit in self.units(scope)
            for index in range(count)
        )
        first = next(files, None)
        return first is not None and first.exists() and all(file.exists() for file in files)

    def trim(self, layer: str) -> None:
        """Remove a layer's files of shards that are no more (a smaller limit, another shard size)."""
        count = self.count
        for stale in (self.root / layer).glob("*/part-*.parquet"):
            if int(stale.stem[5:]) >= count:
                stale.unlink()


def _digest(shard: Path) -> str:
    """The digest of a shard's content."""
    if (found := sealed(shard)) is None:
        raise damaged(shard)
    return found


def _whole_rows(shard: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if shard.exists():
        _digest(shard)
    return read_rows(shard)


def _base(shard: Path) -> list[Example]:
    return [_parse(where, row) for where, row in _whole_rows(shard)]


def _prompts_digest(shard: Path, content: str, lang: str, pivot: str) -> str:
    found = _prompts_digests(shard, content, pivot)
    return found.get(lang, found[""])


@functools.lru_cache(maxsize=2**14)
def _prompts_digests(shard: Path, content: str, pivot: str) -> dict[str, str]:
    """The digest of each language's part of a prompt shard, and under ``""`` that of a language that has none.

    Every layer asks for it; another content is another call.
    """
    base = _base(shard)
    tags = {"", *(tag for e in base for tag in e.prompts)}
    tags |= {part.lang for e in base for part in (*e.candidates, *e.pairs, *e.dropped) if part.lang}
    return {tag: digest([to_json(delta.project(e, tag, pivot)) for e in base]) for tag in tags}


def _parse(where: str, row: Mapping[str, Any]) -> Example:
    try:
        return parse_example(row)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
