"""The same record in Parquet, under one explicit schema.

Open dictionaries are list<struct<key, value>>; values that may be anything (gold, label, unknown keys) are JSON text.
A column that a shard does not use is null, so a sidecar of scores has the same schema as the texts it belongs to.

Every file is sealed: its footer holds the SHA-256 of the whole file, taken while the seal's own 64 places hold zeros.
So a bit that flips in a page, in its header or in the footer is found; checksums of pages would find the first alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polypref.errors import InputError

ROW_GROUP_BYTES = 64 * 2**20

_SEAL = "polypref.sha256"
_OPEN = "0" * 64
_BEFORE_SEAL = _SEAL.encode() + b"\x18\x40"
"""How Parquet's footer (Thrift's compact protocol) writes the seal's name, and that 64 bytes of text follow."""
_LONGEST_FOOTER = 2**28
_CHUNK = 2**22
_SETTLED = 100_000_000
"""Nanoseconds after which another change of a file shows in its times: then what was read of it may be remembered."""


def _dictionary(value: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct([pa.field("key", pa.string(), False), pa.field("value", value)]))


_ANYTHING = _dictionary(pa.string())
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("extra", _ANYTHING)]))
_CANDIDATE = pa.struct(
    [
        ("id", pa.string()),
        ("lang", pa.string()),
        ("text", pa.string()),
        ("origin", pa.string()),
        ("parent", pa.string()),
        ("model", pa.string()),
        ("round", pa.int64()),
        ("finish_reason", pa.string()),
        ("tokens", pa.int64()),
        ("token_ids", pa.list_(pa.int64())),
        ("scores", _dictionary(pa.float64())),
        ("label", pa.string()),
        ("error", pa.string()),
        ("extra", _ANYTHING),
    ]
)
_PAIR = pa.struct(
    [
        ("lang", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("score", pa.string()),
        ("margin", pa.float64()),
        ("rule", pa.string()),
        ("extra", _ANYTHING),
    ]
)
_DROP = pa.struct(
    [
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("lang", pa.string()),
        ("candidate", pa.string()),
        ("extra", _ANYTHING),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        ("prompts", _dictionary(_MESSAGES)),
        ("candidates", pa.list_(_CANDIDATE)),
        ("pairs", pa.list_(_PAIR)),
        ("dropped", pa.list_(_DROP)),
        ("category", pa.string()),
        ("gold", pa.string()),
        ("task", pa.string()),
        ("extra", _ANYTHING),
    ]
)
_JSON_FIELDS = frozenset({"gold", "label"})
_UNREADABLE = pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError
"""What columns of other types, and text that is no JSON, come to."""


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _pack(value: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """A JSON object as a struct: known fields as they are, all others into ``extra``."""
    known = set(known) - {"extra"}
    out = {k: (_json(v) if k in _JSON_FIELDS else v) for k, v in value.items() if k in known}
    extra = [{"key": k, "value": _json(v)} for k, v in value.items() if k not in known]
    return {**out, "extra": extra or None}


def _unpack(struct: Mapping[str, Any]) -> dict[str, Any]:
    out = {k: v for k, v in struct.items() if k != "extra"}
    for field in _JSON_FIELDS & out.keys():
        out[field] = None if out[field] is None else json.loads(out[field])
    for entry in struct["extra"] or ():
        out[entry["key"]] = None if entry["value"] is None else json.loads(entry["value"])
    return out


def _names(struct: pa.DataType) -> list[str]:
    return [field.name for field in struct]


def encode(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in the JSON shape of the wire format (or a part of one) as a row of ``SCHEMA``."""
    out = _pack(row, SCHEMA.names)
    if (prompts := out.get("prompts")) is not None:
        messages = _names(_MESSAGES.value_type)
        out["prompts"] = [{"key": k, "value": [_pack(m, messages) for m in v]} for k, v in prompts.items()]
    if out.get("candidates") is not None:
        out["candidates"] = [_pack(c, _names(_CANDIDATE)) for c in out["candidates"]]
        for candidate in out["candidates"]:
            if (scores := candidate.get("scores")) is not None:
                candidate["scores"] = [{"key": k, "value": float(v)} for k, v in scores.items()]
    for name, struct in (("pairs", _PAIR), ("dropped", _DROP)):
        if out.get(name) is not None:
            out[name] = [_pack(value, _names(struct)) for value in out[name]]
    return out


def decode(row: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``encode``; fields that the row left out come back as None."""
    out = _unpack(row)
    if out["prompts"] is not None:
        out["prompts"] = {entry["key"]: [_unpack(m) for m in entry["value"]] for entry in out["prompts"]}
    if out["candidates"] is not None:
        out["candidates"] = [_unpack(c) for c in out["candidates"]]
        for candidate in out["candidates"]:
            if candidate["scores"] is not None:
                candidate["scores"] = {entry["key"]: entry["value"] for entry in candidate["scores"]}
    for name in ("pairs", "dropped"):
        if out[name] is not None:
            out[name] = [_unpack(value) for value in out[name]]
    return out


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], metadata: Mapping[str, str] | None = None) -> int:
    """Write rows of the JSON shape; row groups are cut by bytes, so that a thousand answers a prompt stay readable."""
    schema = SCHEMA.with_metadata({f"polypref.{k}": v for k, v in (metadata or {}).items()})
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        size = 0
        for row in rows:
            group.append(encode(row))
            size += _rough_bytes(row)
            count += 1
            if size >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group, size = [], 0
        if group or not count:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
        writer.add_key_value_metadata({_SEAL: _OPEN})
    place = _place_of_seal(path)
    assert place is not None, "the writer was given it"
    with path.open("rb+") as file:
        whole = _whole_digest(path, place)
        file.seek(place)
        file.write(whole.encode())
    return count


def sealed(path: Path) -> str | None:
    """The digest that a file of ours is sealed with; None where it has no seal, or another content than was sealed.

    The file is read once in a process, and again when its size, times or inode change.

    Raises:
        FileNotFoundError: no such file.
    """
    stat = path.stat()
    newest = max(stat.st_mtime_ns, stat.st_ctime_ns)
    read = _sealed if newest + _SETTLED < time.time_ns() else _sealed.__wrapped__
    return read(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@functools.lru_cache(maxsize=2**16)
def _sealed(path: Path, *identity: int) -> str | None:
    place = _place_of_seal(path)
    if place is None:
        return None
    with path.open("rb") as file:
        file.seek(place)
        seal = file.read(64)
    return seal.decode() if seal == _whole_digest(path, place).encode() else None


def _place_of_seal(path: Path) -> int | None:
    """Where the seal's 64 bytes begin."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - 8
        file.seek(max(end, 0))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or not 0 < length <= min(end, _LONGEST_FOOTER):
            return None
        file.seek(end - length)
        at = file.read(length).rfind(_BEFORE_SEAL)
    return None if at < 0 or at + len(_BEFORE_SEAL) + 64 > length else end - length + at + len(_BEFORE_SEAL)


def _whole_digest(path: Path, place: int) -> str:
    """SHA-256 of a file with an open seal at ``place``."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        left = place
        while left and (chunk := file.read(min(left, _CHUNK))):
            whole.update(chunk)
            left -= len(chunk)
        file.seek(place + 64)
        whole.update(_OPEN.encode())
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
    return whole.hexdigest()


def damaged(path: Path) -> InputError:
    """What is said of a shard that is not as it was written."""
    return InputError(
        f"{path} is damaged: it is not as it was written; run the same command again, and it is made anew"
    )


def _rough_bytes(row: Mapping[str, Any]) -> int:
    candidates = row.get("candidates") or ()
    texts = sum(len(c.get("text") or "") + 8 * len(c.get("token_ids") or ()) + 200 for c in candidates)
    prompts = sum(len(m["content"]) for messages in (row.get("prompts") or {}).values() for m in messages)
    return 200 + 2 * (texts + prompts)


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(``file:row``, row in the JSON shape) of a Parquet file of ``SCHEMA``; rows count from 1.

    Files that others made have no seal; ``shards`` asks for one.

    Raises:
        InputError: no such file, not Parquet, damaged, or another schema.
    """
    try:
        if _place_of_seal(path) is not None and sealed(path) is None:
            raise damaged(path)
        with pq.ParquetFile(path) as file:
            missing = set(SCHEMA.names) - set(file.schema_arrow.names)
            if missing:
                raise InputError(
                    f"{path.name}: no column {', '.join(sorted(missing))}; it is not polypref's Parquet, "
                    "convert it to the wire format in JSON Lines"
                )
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=SCHEMA.names):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}:{number}", decode(row)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (*_UNREADABLE, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not readable as polypref's Parquet ({first[:120]}); write it again") from None


def read_metadata(path: Path) -> dict[str, str] | None:
    """The ``polypref.*`` metadata of a shard's footer; None when there is no whole file under that name."""
    try:
        found = pq.read_metadata(path).metadata or {}
        return {k.decode()[9:]: v.decode() for k, v in found.items() if k.startswith(b"polypref.")}
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return None
