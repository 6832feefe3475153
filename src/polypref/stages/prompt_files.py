"""Files of rows as users have them: JSON, JSON Lines, Parquet, CSV, or a ``datasets`` name, each row with its place.

A ``Source`` is one file (or one split of a data set); its language is read from its name where the name tells it.
Nothing here knows what a row means: that is ``prompt_sources``.
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from polypref import languages
from polypref.errors import InputError, did_you_mean
from polypref.store.jsonl import parse_line, read_lines

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterator[tuple[str, Row]]

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".jsonl.gz", ".json.gz")
_NOT_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)
NOT_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"})


@dataclass(frozen=True, slots=True)
class Source:
    """One file or split. ``lang`` is None when its name tells none; ``open`` gives (place, row) from the start."""

    name: str
    lang: str | None
    open: Callable[[], Rows]
    path: Path | None = None


# --- the language in a name ----------------------------------------------------------------------------------------


@functools.cache
def recognise(word: str) -> str | None:
    """The tag of a word that plainly is a language, else None: stricter than ``languages.normalise``.

    ``dev``, ``all``, ``labels`` and ``bench`` name languages too, so a three-letter code counts only with a script or
    with speakers in CLDR, and a name only when it is the English name of a language with speakers there.

    >>> recognise("es"), recognise("deu_Latn"), recognise("Swahili"), recognise("dev"), recognise("bench")
    ('es', 'de', 'sw', None, None)
    """
    import langcodes

    try:
        tag = languages.normalise(word)
    except InputError:
        return None
    spoken = langcodes.Language.get(tag).speaking_population() > 0
    if not langcodes.tag_is_valid(word):
        return tag if spoken and languages.name(tag).casefold() == word.casefold() else None
    language = langcodes.Language.get(word)
    plain = len(word) == 2 or language.script is not None or language.territory is not None
    return tag if plain or spoken else None


def broad(tag: str) -> str:
    """The language of a tag, of a macrolanguage the macrolanguage: ``arb-Arab`` and ``ar`` are both ``ar``."""
    import langcodes

    return langcodes.Language.get(langcodes.standardize_tag(tag, macro=True)).language or tag


def language_in_name(stem: str) -> str | None:
    """The language that a file's stem tells at its beginning or its end (``es``, ``prompts_es``, ``zh-Hans_test``).

    None when it tells none, or two.
    """
    if tag := recognise(stem):
        return tag
    words = re.split(r"[._\- ]", stem)
    if len(words) == 1:
        return None
    last = recognise("-".join(words[-2:])) or recognise(words[-1])
    first = recognise("-".join(words[:2])) or recognise(words[0])
    return None if first and last and first != last else first or last


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern with ``{lang}`` once and ``*`` anywhere.

    Raises:
        InputError: ``{lang}`` is not in it once.
    """
    if pattern.count("{lang}") != 1:
        raise InputError(f"pattern {pattern!r} must hold {{lang}} once, as in prompts_{{lang}}.jsonl")
    escaped = re.escape(pattern).replace(r"\{lang\}", "(?P<lang>[^/]+?)").replace(r"\*", "[^/]*")
    return re.compile(escaped)


# --- sources -------------------------------------------------------------------------------------------------------


def find_sources(path: str, pattern: str | None) -> tuple[list[Source], tuple[str, ...]]:
    """The sources that a path names, in the order of their names, and the data files left aside.

    ``path`` is a file, a folder, or a path with ``{lang}`` in it; ``pattern`` says how a folder's files are called. A
    folder without files may hold a folder a language instead, with one file in each.

    Raises:
        InputError: nothing is there, or a pattern's language is none.
    """
    if "{lang}" in path:
        parts = Path(path).parts
        cut = next(index for index, part in enumerate(parts) if "{lang}" in part)
        folder, pattern = Path(*parts[:cut]) if cut else Path(), "/".join(parts[cut:])
    else:
        folder = Path(path)
    if folder.is_file():
        return [_file_source(folder, pattern)], ()
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; check the path, or for a data set of that name say shape: datasets")
    files = _data_files(folder.rglob("*") if "/" in (pattern or "") else folder.iterdir())
    if not files and pattern is None and (sources := _language_folders(folder)):
        return sources, ()
    if not files:
        raise InputError(f"{folder} holds no data file; there should be {', '.join(SUFFIXES[:6])}")
    if pattern is None:
        return [_file_source(file, None) for file in files], ()
    expression = pattern_regex(pattern)
    sources, ignored = [], []
    for file in files:
        name = file.relative_to(folder).as_posix()
        if match := expression.fullmatch(name):
            sources.append(Source(name, _tag(match["lang"], name), functools.partial(rows_of, file, name), file))
        else:
            ignored.append(name)
    if not sources:
        raise InputError(f"no file of {folder} is called {pattern}; there are {', '.join(ignored[:5])}")
    return sources, tuple(ignored)


def _data_files(found: Iterable[Path]) -> list[Path]:
    return sorted(
        file
        for file in found
        if file.is_file() and file.name.endswith(SUFFIXES) and file.name not in NOT_DATA and file.name[0] not in "._"
    )


def _language_folders(folder: Path) -> list[Source]:
    """One source for each folder that is called like a language and holds data."""
    sources = []
    for inner in sorted(folder.iterdir()):
        tag = recognise(inner.name) if inner.is_dir() else None
        files = _data_files(inner.iterdir()) if tag else []
        if len(files) > 1:
            raise InputError(
                f"{inner} holds {', '.join(file.name for file in files[:5])}; say which to read with pattern: "
                f"{{lang}}/{files[0].name}"
            )
        for file in files:
            name = f"{inner.name}/{file.name}"
            sources.append(Source(name, tag, functools.partial(rows_of, file, name), file))
    return sources


def _file_source(file: Path, pattern: str | None) -> Source:
    if not file.name.endswith(SUFFIXES):
        raise InputError(f"{file} is of no known kind; polypref reads {', '.join(SUFFIXES)}")
    stem = file.name.removesuffix(".gz").rpartition(".")[0]
    return Source(file.name, None if pattern else language_in_name(stem), functools.partial(rows_of, file), file)


def _tag(word: str, name: str) -> str:
    try:
        return languages.normalise(word)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def dataset_sources(name: str, subset: str | None, split: str, tags: tuple[str, ...]) -> list[Source]:
    """A data set by its ``datasets`` name (a hub name or a local folder): one source, or one a language when
    ``subset`` holds ``{lang}``.

    Raises:
        InputError: ``{lang}`` without languages.
    """
    if subset and "{lang}" in subset:
        if not tags:
            raise InputError(f"subset {subset!r} needs languages: name the ones to read")
        return [
            Source(f"{name}/{config}", tag, functools.partial(_dataset_rows, name, config, split))
            for tag, config in _configurations(name, subset, tags).items()
        ]
    return [Source(name, None, functools.partial(_dataset_rows, name, subset, split))]


def _configurations(name: str, subset: str, tags: Sequence[str]) -> dict[str, str]:
    """The configuration of each language, however the data set spells it: ``ar`` is found as ``arb_Arab``.

    One that is not found is named by its tag, so that loading it tells what is wrong.
    """
    import datasets

    try:
        names = datasets.get_dataset_config_names(name)
    except Exception:  # as in _dataset_rows, which says why
        names = []
    spelt = {found: recognise(match["lang"]) for found in names if (match := pattern_regex(subset).fullmatch(found))}
    configurations = {}
    for tag in tags:
        same = [found for found, other in spelt.items() if other == tag]
        near = [found for found, other in spelt.items() if other and broad(other) == broad(tag)]
        configurations[tag] = (same or (near if len(near) == 1 else []) or [subset.format(lang=tag)])[0]
    return configurations


def _dataset_rows(name: str, subset: str | None, split: str) -> Rows:
    import datasets

    folder = Path(name)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(name)
            loaded = loaded[split] if isinstance(loaded, dict) else loaded
        else:
            loaded = datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # datasets raises what its many readers raise; each is the user's name, split or network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"datasets cannot load {name} (subset {subset}, split {split}): {reason}") from error
    for number, row in enumerate(loaded, 1):
        yield f"{name}[{split}]:{number}", row


# --- rows ----------------------------------------------------------------------------------------------------------


def rows_of(path: Path, called: str | None = None) -> Rows:
    """(``file:line``, row) of every row of a file; of Parquet the number is the row's. ``called`` is how places name
    the file: by its name when left out.

    Raises:
        InputError: the file is not what its name says, or a row is no object (``file:line``).
    """
    name = path.name
    if name.endswith(".parquet"):
        found = _parquet(path)
    elif name.endswith((".csv", ".tsv")):
        found = _csv(path)
    elif name.endswith((".json", ".json.gz")):
        found = _json(path)
    elif name.endswith(".gz"):
        found = _gzip_lines(path)
    else:
        found = read_lines(path)
    try:
        for where, row in found:
            if not isinstance(row, dict):
                raise InputError(f"{where}: the row is no object; write {{…}} with named fields")
            yield where if called is None else called + where.removeprefix(name), row
    except PermissionError:
        raise InputError(f"{path} may not be read; check its permissions") from None


def _gzip_lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with gzip.open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield f"{path.name}:{number}", parse_line(raw, f"{path.name}:{number}")
    except _NOT_GZIP as error:
        raise InputError(f"{path.name}: not a whole gzip file ({error}); fetch it again") from None


def _text(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    except _NOT_GZIP as error:
        raise InputError(f"{path.name}: not a whole gzip file ({error}); fetch it again") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path.name}:{line}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    """A JSON array item by item, each at the line where it begins; an object at the start means JSON Lines."""
    text = _text(path)
    if not text.lstrip().startswith("["):
        for number, one in enumerate(text.split("\n"), 1):
            if one.strip():
                yield f"{path.name}:{number}", parse_line(one.encode(), f"{path.name}:{number}")
        return
    escapes = "\\u" in text
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    space = re.compile(r"\s*")
    at = text.index("[") + 1
    counted, line = 0, 1
    while True:
        at = space.match(text, at).end()  # type: ignore[union-attr]  # \s* always matches
        line, counted = line + text.count("\n", counted, at), at
        where = f"{path.name}:{line}"
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                raise InputError(f"{where}: something stands after the end of the list; remove it")
            return
        try:
            value, at = decoder.raw_decode(text, at)
            if escapes:
                json.dumps(value, ensure_ascii=False).encode()  # an escaped lone surrogate cannot be written back
        except json.JSONDecodeError as error:
            problem = f"{error.msg.removesuffix(' at')} at column {error.colno}"
            raise InputError(f"{path.name}:{error.lineno}: not JSON ({problem}); a .json file is one list") from None
        except UnicodeEncodeError:
            raise InputError(f"{where}: a lone surrogate (\\ud800 to \\udfff) is no text; remove it") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: {error}; write a finite number or leave the field out") from None
        yield where, value
        at = space.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            line = text.count("\n", 0, at) + 1
            raise InputError(f"{path.name}:{line}: not JSON (a comma or the list's end is missing); mend the list")


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    lines = _text(path).splitlines(keepends=True)
    reader = csv.DictReader(lines, dialect="excel-tab" if path.suffix == ".tsv" else "excel", strict=True)
    try:
        for row in reader:
            where = f"{path.name}:{reader.line_num}"
            if None in row or None in row.values():
                wanted = len(reader.fieldnames or ())
                raise InputError(f"{where}: the row has not {wanted} fields as the header has; quote what holds commas")
            yield where, row
    except csv.Error as error:
        where = f"{path.name}:{reader.line_num}"
        raise InputError(f"{where}: not CSV ({error}); quote fields that hold line breaks") from None


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}:{number}", row
    except PermissionError:
        raise  # as of every kind of file
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path.name}: not a whole Parquet file ({reason}); write it again") from None


def need(row: Row, key: str, where: str) -> Any:
    """The value of a key that must be there."""
    if key not in row:
        hint = did_you_mean(key, row)
        raise InputError(f"{where}: {key} is missing; {hint.replace('known: ', 'the row has: ', 1)}")
    return row[key]
