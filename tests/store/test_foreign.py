"""Files under our names that somebody else wrote: told, or begun anew."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polypref.errors import InputError
from polypref.store import checkpoint, lock
from polypref.store.manifest import Manifest
from polypref.store.parquet import SCHEMA, read_metadata, read_rows, write_rows
from polypref.store.results import kept
from polypref.store.shards import standing

DEEP = "[" * 100_000


def other(name, kind, value):
    """A table of our columns, of which one has another type."""
    field = pa.field(name, kind)
    fields = [field if known.name == name else known for known in SCHEMA]
    row = {"id": "1", name: value}
    return pa.Table.from_pylist([row], schema=pa.schema(fields))


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("gold", pa.string(), "no JSON"),
        ("gold", pa.string(), DEEP),
        ("gold", pa.int64(), 3),
        ("prompts", pa.string(), "text"),
        ("prompts", pa.list_(pa.int64()), [1]),
        ("candidates", pa.int64(), 1),
        ("candidates", pa.list_(pa.struct([("id", pa.string())])), [{"id": "a"}]),
        ("extra", pa.list_(pa.string()), ["a"]),
        ("extra", pa.timestamp("ns"), 1),
    ],
)
def test_columns_of_other_types_are_one_sentence(tmp_path, name, kind, value):
    pq.write_table(other(name, kind, value), tmp_path / "theirs.parquet")
    with pytest.raises(InputError, match=r"theirs\.parquet: not readable as polypref's Parquet"):
        list(read_rows(tmp_path / "theirs.parquet"))


def test_a_footer_that_is_no_text_is_none(tmp_path):
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({b"polypref.key": b"\xff"}), tmp_path / "a.parquet")
    assert read_metadata(tmp_path / "a.parquet") is None


@pytest.mark.parametrize(("failed", "found"), [("2", 2), ("two", None), ("-1", None)])
def test_a_shard_whose_failures_are_no_count_does_not_stand(tmp_path, failed, found):
    write_rows(tmp_path / "a.parquet", [], {"key": "k", "failed": failed})
    assert standing(tmp_path / "a.parquet", "k") == found


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        "[]",
        '{"steps": []}',
        '{"steps": {"a": 1}}',
        '{"steps": {"a": {"seconds": "long"}}}',
        '{"steps": {"a": {"seconds": NaN}}}',
        '{"steps": {"a": {"said": "text"}}}',
        '{"steps": {"a": {"said": [{}]}}}',
    ],
)
def test_a_manifest_that_is_not_ours_is_begun_anew(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_text(content)
    manifest = Manifest.open(path)
    with manifest.step("a") as notes:
        manifest.say("something")
        notes["worked"] = False
    assert (manifest.said(), manifest.seconds()) == (["something"], {"a": 0.0})
    assert json.loads(path.read_text())["steps"]["a"]["done"]


def test_notes_that_are_nested_without_end_stand_for_nothing(tmp_path):
    (tmp_path / checkpoint.NOTE).write_text(DEEP)
    assert checkpoint.standing(tmp_path, "k") is None
    assert checkpoint.damaged(tmp_path) == [checkpoint.NOTE]
    assert kept(tmp_path / checkpoint.NOTE, "k") is None
    said = []
    (tmp_path / lock.LOCK_NAME).write_text(DEEP)
    with lock.locked(tmp_path, said.append):
        pass
    assert said == []
