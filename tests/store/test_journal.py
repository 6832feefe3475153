"""A journal holds what was put into it, whatever happens to its process."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Recall
from polypref.errors import InputError, RunLockedError
from polypref.store.journal import Journal

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)

KILLED = """
import os, sys
from polypref.store.journal import Journal
journal = Journal(sys.argv[1])
for number in range(100):
    journal.put(str(number), {"said": "x" * number})
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "judge.journal.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_it_is_a_recall(path):
    with Journal(path) as journal:
        assert isinstance(journal, Recall)


def test_a_value_is_there_at_once_and_in_the_next_process(path):
    with Journal(path) as journal:
        assert journal.get("a") is None
        journal.put("a", {"said": "[[A]] — sí\n"})
        assert journal.get("a") == {"said": "[[A]] — sí\n"}
        assert lines(path) == [{"key": "a", "value": {"said": "[[A]] — sí\n"}}]
    with Journal(path) as journal:
        assert (journal.get("a"), journal.get("b"), len(journal)) == ({"said": "[[A]] — sí\n"}, None, 1)


def test_of_two_values_of_a_key_the_last_counts(path):
    for value in (1, 2):
        with Journal(path) as journal:
            journal.put("a", value)
            assert journal.get("a") == value
    with Journal(path) as journal:
        assert (journal.get("a"), len(journal)) == (2, 1)


@given(entries=st.lists(st.tuples(texts, values), max_size=5), cut=st.integers(0, 400))
def test_cut_anywhere_it_holds_the_entries_before_and_goes_on(tmp_path_factory, entries, cut):
    """The entries whose line and newline stand before the cut are there, and no other."""
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    with Journal(path) as journal:
        for key, value in entries:
            journal.put(key, value)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    kept = entries[: whole[:cut].count(b"\n")]
    torn = len(whole[:cut]) > 0 and not whole[:cut].endswith(b"\n")
    said = []
    with Journal(path, said.append) as journal:
        assert len(said) == torn
        assert {key: journal.get(key) for key, _ in entries} == {key: None for key, _ in entries} | dict(kept)
        journal.put("next", "whole")
    with Journal(path, said.append) as journal:
        assert (len(said), journal.get("next")) == (torn, "whole")


def test_a_torn_last_line_is_dropped_and_said(path):
    path.write_bytes(b'{"key": "a", "value": 1}\n{"key": "b", "val')
    said = []
    with Journal(path, said.append) as journal:
        assert (journal.get("a"), journal.get("b")) == (1, None)
    assert said == ["judge.journal.jsonl:2: the last entry was cut off by a kill and is dropped"]
    assert lines(path) == [{"key": "a", "value": 1}]


def test_a_killed_process_loses_nothing(path):
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -9
    with Journal(path) as journal:
        assert [journal.get(str(number)) for number in range(100)] == [{"said": "x" * n} for n in range(100)]


def test_one_writer_at_a_time(path):
    with Journal(path), pytest.raises(RunLockedError, match="is being written by another process; wait for it"):
        Journal(path)
    with Journal(path) as journal:
        journal.put("a", 1)


def test_threads_may_write_it_at_once(path):
    def write(name):
        for number in range(200):
            journal.put(f"{name}/{number}", number)
            assert journal.get(f"{name}/{number}") == number

    with Journal(path) as journal:
        threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {entry["key"]: entry["value"] for entry in lines(path)} == {
        f"{name}/{number}": number for name in range(4) for number in range(200)
    }


@pytest.mark.parametrize("line", [b"[]", b"{}", b'{"key": 1, "value": 2}', b'{"key": "a"}', b"{", b"\xff"])
def test_a_line_that_is_no_entry_is_told_with_its_place(path, line):
    path.write_bytes(b'{"key": "a", "value": 1}\n' + line + b"\n")
    with pytest.raises(InputError, match=r"^judge\.journal\.jsonl:2: "):
        Journal(path)
    path.write_bytes(b'{"key": "a", "value": 1}\n')
    with Journal(path) as journal:  # the one that was refused has let it go
        assert journal.get("a") == 1


def test_a_folder_in_its_place_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*: it is a folder"):
        Journal(tmp_path)


def test_a_full_disk_tears_no_line(path, monkeypatch):
    """A write of half a line, as a full disk makes it, is taken back: the file stays a journal."""
    write = os.write
    with Journal(path) as journal:
        journal.put("a", 1)
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
        with pytest.raises(InputError, match="the disk is full"):
            journal.put("b", 2)
        monkeypatch.undo()
        assert journal.get("b") is None
        journal.put("c", 3)
    assert [entry["key"] for entry in lines(path)] == ["a", "c"]


def test_its_folder_is_made(tmp_path):
    with Journal(Path(tmp_path / "new" / "journal.jsonl")) as journal:
        journal.put("a", 1)
    assert lines(tmp_path / "new" / "journal.jsonl")
