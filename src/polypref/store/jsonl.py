"""The wire format as JSON Lines: read with the line of every mistake, written at once."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from polypref.errors import InputError
from polypref.records import Example, dumps, parse_example, to_json
from polypref.store import places
from polypref.store.atomic import replacing
from polypref.store.urls import is_url

_BUFFER = 2**20  # bytes: a line is some KB long, and each write of the default 8 KB would be a call of the system


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parse_line(raw: bytes, where: str) -> Any:
    """One line of JSON; every way to be wrong is an InputError that begins with ``where`` (``file:line``)."""
    try:
        text = raw.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text and _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # an escaped lone surrogate cannot be written back
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start} of the line); convert the file to UTF-8") from None
    except UnicodeEncodeError:
        raise InputError(f"{where}: a lone surrogate (\\ud800 to \\udfff) is no text; remove it") from None
    except json.JSONDecodeError as error:
        problem = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise InputError(f"{where}: not JSON ({problem}); write one object a line") from None
    except ValueError as error:
        raise InputError(f"{where}: {error}; write a finite number or leave the field out") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply to be an example") from None
    return value


def read_lines(path: Path | str) -> Iterator[tuple[str, Any]]:
    """(``file:line``, value) of each line that is not blank; ``-`` is stdin, a URL is fetched."""
    if str(path) == "-":
        yield from _lines(sys.stdin.buffer, "stdin")
        return
    path = Path(places.local(path))
    try:
        with path.open("rb", buffering=_BUFFER) as file:
            yield from _lines(file, path.name)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; name a .jsonl or .parquet file") from None
    except PermissionError:
        raise InputError(f"{path} may not be read; check its permissions") from None


def _lines(file: Iterable[bytes], name: str) -> Iterator[tuple[str, Any]]:
    for number, raw in enumerate(file, 1):
        if number == 1:
            if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise InputError(f"{name}:1: not UTF-8 (it begins with a UTF-16 mark); convert the file to UTF-8")
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw and not raw.isspace():
            where = f"{name}:{number}"
            yield where, parse_line(raw, where)


def read_examples(path: Path | str, warn: Callable[[str], None] | None = None) -> Iterator[Example]:
    """The examples of a wire-format file, ``.jsonl`` or ``.parquet``, here or by URL; ``-`` is JSON Lines on stdin.

    Raises:
        InputError: a line breaks the format (``file:line``, field, fix), an id comes twice, or nothing is in it.
    """
    if str(path).endswith(".parquet"):
        from polypref.store.parquet import read_rows

        rows: Iterable[tuple[str, Any]] = read_rows(Path(places.local(path)))
    else:
        rows = read_lines(path)
    seen: dict[str, str] = {}
    last = 0
    blank = 0
    for where, value in rows:
        number = int(where.rpartition(":")[2])
        blank += number - last - 1
        last = number
        try:
            example = parse_example(value)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if example.id in seen:
            raise InputError(
                f"{where}: id {example.id!r} stands already at {seen[example.id]}; ids are unique in a file"
            )
        seen[example.id] = where
        yield example
    if not seen:
        raise InputError(f"{Path(path).name if str(path) != '-' else 'stdin'} is empty: it holds no example")
    if blank and warn is not None:
        warn(f"{Path(path).name}: {blank} blank line{'s' * (blank > 1)} skipped")


def write_examples(path: Path | str, examples: Iterable[Example]) -> int:
    """Write a wire-format file at once, ``.jsonl`` or ``.parquet`` by its name; ``-`` is stdout. Gives the count.

    Nothing stands under ``path`` until the last example is written; what stood there stays when something fails. A URL
    is written here and put whole.
    """
    if is_url(path):
        with places.written(str(path)) as here:
            return write_examples(here, examples)
    if str(path) == "-":
        lines = [dumps(to_json(example)) for example in examples]
        sys.stdout.buffer.write("".join(line + "\n" for line in lines).encode())
        sys.stdout.flush()
        return len(lines)
    path = Path(path)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            from polypref.store.parquet import write_rows

            return write_rows(temporary, (to_json(example) for example in examples))
        count = 0
        with temporary.open("wb", buffering=_BUFFER) as file:
            for example in examples:
                file.write(dumps(to_json(example)).encode())
                file.write(b"\n")
                count += 1
        return count
