"""Atomic files: whole or absent, whatever happens in between."""

import contextlib
import os
import subprocess
import sys

import pytest

from polypref.errors import InputError
from polypref.store import atomic, checkpoint
from polypref.store.atomic import (
    TEMPORARY_PREFIX,
    check_target,
    digest,
    replacing,
    replacing_folder,
    sweep,
    write_json,
)


def test_a_failed_write_leaves_what_stood(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_only_a_temporary_name_that_sweep_removes(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom polypref.store.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as t:\n    t.write_text('half')\n    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.parquet")], check=False)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(TEMPORARY_PREFIX)
    assert left[0].suffix != ".parquet"
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_is_told(tmp_path):
    with pytest.raises(InputError, match="folder"), replacing(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="part of its path is a file"), replacing(tmp_path / "file" / "out"):
        pass


def test_anothers_trouble_is_not_told_as_ours(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        open(tmp_path / "not there")  # noqa: SIM115


def test_a_folder_takes_the_place_of_an_older_one(tmp_path):
    for content in ("one", "two"):
        with replacing_folder(tmp_path / "c") as temporary:
            (temporary / "f").write_text(content)
    assert (tmp_path / "c" / "f").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_checkpoint_is_gone_on_with_only_for_the_same_key(tmp_path):
    target, seen = tmp_path / "model", []

    def interrupted(folder):
        seen.append(sorted(p.name for p in folder.iterdir()))
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt

    def finished(folder):
        seen.append(sorted(p.name for p in folder.iterdir()))
        (folder / "weights").write_text("whole")
        return {"steps": 3}

    for key in ("one", "one", "two"):
        with pytest.raises(KeyboardInterrupt):
            checkpoint.build(target, key, interrupted)
        assert not target.exists()
    assert seen == [[".key"], [".key", "weights"], [".key"]]
    assert checkpoint.build(target, "two", finished) == {"steps": 3}
    assert checkpoint.standing(target, "two") == {"steps": 3}
    assert checkpoint.standing(target, "one") is None
    assert sorted(os.listdir(target)) == ["polypref.json", "weights"]


def a_model(folder):
    (folder / "weights").write_text("whole")
    return {"steps": 3}


def never(folder):
    raise AssertionError("a checkpoint that is whole is not made again")


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("last", ["name_folder", "replace"])
def test_a_checkpoint_that_lacks_its_name_alone_is_given_it(tmp_path, monkeypatch, older, last):
    """A kill before the last rename, or between the two by which an older checkpoint makes room."""
    target = tmp_path / "model"
    if older:
        checkpoint.build(target, "older", a_model)

    def killed(*places):
        raise KeyboardInterrupt

    def killed_at_the_last(source, place, replace=os.replace):
        if str(source).endswith(".unfinished-model"):
            raise KeyboardInterrupt
        replace(source, place)

    with monkeypatch.context() as patch:
        if last == "name_folder":
            patch.setattr(checkpoint, last, killed)
        else:
            patch.setattr(atomic.os, last, killed_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.build(target, "k", a_model)
    sweep(tmp_path)
    assert checkpoint.standing(target, "k") is None
    assert checkpoint.build(target, "k", never) == {"steps": 3}
    assert checkpoint.standing(target, "k") == {"steps": 3}
    assert sorted(os.listdir(target)) == ["polypref.json", "weights"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_training_that_ended_is_not_done_again_though_its_files_were_not_digested_yet(tmp_path, monkeypatch):
    target = tmp_path / "model"

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_note", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.build(target, "k", a_model)
    sweep(tmp_path)
    assert checkpoint.build(target, "k", never) == {"steps": 3}
    assert sorted(os.listdir(target)) == ["polypref.json", "weights"]


def test_the_end_of_another_training_is_not_this_ones(tmp_path, monkeypatch):
    target = tmp_path / "model"

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_note", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.build(target, "other", a_model)
    calls = []
    checkpoint.build(target, "k", lambda folder: calls.append(sorted(os.listdir(folder))) or a_model(folder))
    assert calls == [[".key"]]


def test_a_whole_checkpoint_of_another_key_is_not_given_the_name(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "name_folder", lambda made, path: None)
    checkpoint.build(tmp_path / "model", "one", a_model)
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="not made again"):
        checkpoint.build(tmp_path / "model", "two", never)


@pytest.mark.parametrize("named", [False, True])
def test_of_several_processes_the_others_come_to_the_same_and_write_nothing(tmp_path, monkeypatch, named):
    """However far the first one is: the training is whole, and takes no part of theirs."""
    if not named:
        monkeypatch.setattr(checkpoint, "name_folder", lambda made, path: None)
    checkpoint.build(tmp_path / "model", "k", a_model)
    monkeypatch.undo()
    monkeypatch.setenv("RANK", "1")
    before = os.listdir(tmp_path)
    assert checkpoint.build(tmp_path / "model", "k", never) == {"steps": 3}
    assert os.listdir(tmp_path) == before == ["model" if named else ".unfinished-model"]


@pytest.mark.parametrize("write", [replacing, replacing_folder, check_target])
def test_a_name_with_a_nul_is_told(tmp_path, write):
    with pytest.raises(InputError, match="a name may not hold a NUL character"), contextlib.ExitStack() as stack:
        stack.enter_context(write(tmp_path / "a\0b"))
