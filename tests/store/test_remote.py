"""A working folder that is kept in step with a store: order, kills, other machines, one writer."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from polypref.errors import InputError, RunLockedError
from polypref.store import checkpoint, remote, remote_lock
from polypref.store.atomic import write_json, write_text
from polypref.store.remote import working_folder


def silent(message):
    pass


@pytest.fixture(params=["memory", "file"])
def place(request, tmp_path, monkeypatch):
    """(URL, what the store has, fs, root)"""
    monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / "here"))
    url = f"memory://{tmp_path.name}/run" if request.param == "memory" else f"file://{tmp_path}/store/run"
    fs, root = fsspec.url_to_fs(url)

    def there():
        return {p.removeprefix(root).lstrip("/"): fs.cat(p) for p in fs.find(root)}

    yield url, there, fs, root
    if request.param == "memory":
        fs.store.clear()


def elsewhere(monkeypatch, tmp_path, name="elsewhere"):
    monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / name))


def model(folder):
    (folder / "weights").write_text("w")
    return {"steps": 1}


class Killed(BaseException):
    pass


def test_a_path_is_worked_on_in_place(tmp_path):
    with working_folder(tmp_path / "run", silent) as folder:
        assert folder == tmp_path / "run"


def test_every_file_is_put_when_it_becomes_whole_and_the_rest_with_the_manifest(place):
    url, there, _, _ = place
    with working_folder(url, silent) as folder:
        write_text(folder / "prompts" / "a", "1")
        assert there().keys() == {".lock", "prompts/a"}
        (folder / "log").write_text("not written at once")
        (folder / ".tmp-x").write_text("half")
        write_text(folder / ".unfinished-model" / "b", "half")
        assert there().keys() == {".lock", "prompts/a"}
        write_json(folder / "manifest.json", {})
        assert there().keys() == {".lock", "prompts/a", "log", "manifest.json"}
        (folder / "prompts" / "a").unlink()
        write_json(folder / "manifest.json", {"steps": 1})
        assert there().keys() == {".lock", "log", "manifest.json"}
    assert there().keys() == {"log", "manifest.json"}


def test_a_checkpoint_s_note_is_put_after_its_files(place, monkeypatch):
    url, there, fs, _ = place
    put, order = type(fs).put_file, []

    def noted(self, source, target, **options):
        order.append(target.rpartition("/")[2])
        return put(self, source, target, **options)

    monkeypatch.setattr(type(fs), "put_file", noted)
    with working_folder(url, silent) as folder:
        checkpoint.build(folder / "round-1" / "checkpoint", "k", model)
    assert order == ["weights", "polypref.json"]
    assert there().keys() == {"round-1/checkpoint/weights", "round-1/checkpoint/polypref.json"}


def test_a_run_that_was_killed_goes_on_from_the_store_on_another_machine(place, monkeypatch, tmp_path):
    """Killed between the checkpoint's weights and its note: the checkpoint is not there, everything before it is."""
    url, there, fs, _ = place
    put = type(fs).put_file

    def killed(self, source, target, **options):
        if target.endswith("polypref.json"):
            raise Killed
        return put(self, source, target, **options)

    def work():
        with working_folder(url, silent) as folder, monkeypatch.context() as patch:
            write_text(folder / "shard", "1")
            patch.setattr(type(fs), "put_file", killed)
            checkpoint.build(folder / "model", "k", model)

    with pytest.raises(Killed):
        work()
    assert "model/weights" in there()
    elsewhere(monkeypatch, tmp_path)
    with working_folder(url, silent) as folder:
        assert sorted(p.name for p in folder.iterdir() if p.name[0] != ".") == ["shard"]
        checkpoint.build(folder / "model", "k", model)
    assert there().keys() == {"shard", "model/weights", "model/polypref.json"}
    with working_folder(url, silent) as folder:
        assert checkpoint.standing(folder / "model", "k") == {"steps": 1}


def test_on_the_same_machine_what_was_not_yet_put_is_kept_and_put(place, monkeypatch):
    url, there, fs, _ = place

    def refuse(self, *arguments, **options):
        raise ConnectionError("no answer")

    with working_folder(url, silent) as folder:
        write_text(folder / "a", "1")
        with monkeypatch.context() as patch:
            patch.setattr(type(fs), "put_file", refuse)
            with pytest.raises(InputError, match=r"cannot write .*/run/b: no answer"):
                write_text(folder / "b", "2")
        (folder / "b").rename(folder / ".b")  # so that the end puts nothing
    (folder / ".b").rename(folder / "b")
    assert there().keys() == {"a"}
    assert (folder / "b").read_text() == "2"
    with working_folder(url, silent) as folder:
        assert (folder / "b").read_text() == "2"
    assert there() == {"a": b"1", "b": b"2"}


def test_what_another_machine_did_since_is_fetched_and_what_it_removed_goes(place, monkeypatch, tmp_path):
    url, there, _, _ = place
    with working_folder(url, silent) as folder:
        for name in ("same", "changed", "removed"):
            write_text(folder / name, "1")
    here = folder
    elsewhere(monkeypatch, tmp_path)
    with working_folder(url, silent) as folder:
        assert sorted(p.name for p in folder.glob("[!.]*")) == ["changed", "removed", "same"]
        write_text(folder / "changed", "2")  # of the same size
        write_text(folder / "new", "3")
        (folder / "removed").unlink()
    monkeypatch.setenv("POLYPREF_CACHE", str(here.parents[1]))
    before = (here / "same").stat().st_ino
    with working_folder(url, silent) as folder:
        assert folder == here
        assert {p.name: p.read_text() for p in folder.glob("[!.]*")} == {"same": "1", "changed": "2", "new": "3"}
        assert (here / "same").stat().st_ino == before
    assert there() == {"same": b"1", "changed": b"2", "new": b"3"}


def test_a_store_that_was_emptied_is_filled_again_from_what_is_here(place):
    url, there, fs, root = place
    with working_folder(url, silent) as folder:
        write_text(folder / "round-1" / "a", "1")
        write_json(folder / "manifest.json", {})
    whole = there()
    fs.rm(root, recursive=True)
    told = []
    with working_folder(url, told.append) as folder:
        assert (folder / "round-1" / "a").read_text() == "1"
    assert there() == whole
    assert told == [f"{url} is empty; what is in {folder} is put there again"]


def test_what_was_fetched_before_an_interruption_is_not_fetched_again(place, monkeypatch, tmp_path):
    url, *_ = place
    with working_folder(url, silent) as folder:
        for name in "abc":
            write_text(folder / name, name)
    elsewhere(monkeypatch, tmp_path)
    real, fetched = remote.places.fetch_file, []

    def fetch(fs, path, target, url):
        if fetched:
            raise Killed
        fetched.append(path)
        real(fs, path, target, url)

    monkeypatch.setattr(remote, "ThreadPoolExecutor", lambda threads: ThreadPoolExecutor(1))
    monkeypatch.setattr(remote.places, "fetch_file", fetch)
    with pytest.raises(Killed), working_folder(url, silent):
        pass
    monkeypatch.setattr(
        remote.places, "fetch_file", lambda fs, path, *rest: (fetched.append(path), real(fs, path, *rest))
    )
    with working_folder(url, silent) as folder:
        assert sorted(p.name for p in folder.glob("[!.]*")) == ["a", "b", "c"]
    assert len(fetched) == len(set(fetched)) == 3


def test_an_error_inside_is_told_and_not_that_the_store_is_gone(place, monkeypatch):
    url, _, fs, _ = place

    def gone(*args, **more):
        raise OSError("no route")

    def fail():
        with working_folder(url, silent):
            monkeypatch.setattr(type(fs), "cat_file", gone)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_torn_note_of_what_is_in_step_costs_a_fetch(place):
    url, there, _, _ = place
    with working_folder(url, silent) as folder:
        write_text(folder / "a", "1")
    notes = folder / ".store.jsonl"
    notes.write_text(notes.read_text()[:-5])
    with working_folder(url, silent) as folder:
        assert (folder / "a").read_text() == "1"
    assert there() == {"a": b"1"}


def test_nothing_is_put_twice(place, monkeypatch):
    url, _, fs, _ = place
    with working_folder(url, silent) as folder:
        write_text(folder / "a", "1")
    monkeypatch.setattr(type(fs), "put_file", None)
    monkeypatch.setattr(type(fs), "get_file", None)
    with working_folder(url, silent) as folder:
        write_json(folder / ".hidden.json", {})


def test_a_second_writer_is_refused(place):
    url, there, _, _ = place
    locked = pytest.raises(RunLockedError, match="is being written by process")
    with working_folder(url, silent), locked, working_folder(url, silent):
        pass
    assert there() == {}


BELIEVED = r"process 7 on host far.*remove .*/run/\.lock"


def lock_of(fs, root, **fields):
    fs.makedirs(root, exist_ok=True)
    fs.pipe_file(f"{root}/.lock", json.dumps({"pid": 7, "host": "far", "id": "x", **fields}).encode())


def test_a_lock_of_another_host_that_gives_signs_is_believed(place):
    url, there, fs, root = place
    lock_of(fs, root, beat=time.time() - 5)
    with (
        pytest.raises(RunLockedError, match=BELIEVED),
        working_folder(url, silent),
    ):
        pass
    assert there().keys() == {".lock"}


@pytest.mark.parametrize("beat", [None, "soon", 4e9], ids=["none", "no number", "a clock ahead"])
def test_a_lock_whose_sign_cannot_be_read_is_believed(place, beat):
    url, _, fs, root = place
    lock_of(fs, root, beat=beat)
    with pytest.raises(RunLockedError, match="remove"), working_folder(url, silent):
        pass


def test_a_lock_without_a_sign_for_long_is_taken_over_and_that_is_said(place):
    url, there, fs, root = place
    lock_of(fs, root, beat=time.time() - remote_lock.SILENT - 5)
    said = []
    with working_folder(url, said.append):
        pass
    assert len(said) == 1
    assert said[0].startswith("took over the lock of process 7 on host far")
    assert there() == {}


def test_a_dead_process_of_this_host_is_taken_over_at_once(place):
    import socket

    url, _, fs, root = place
    lock_of(fs, root, host=socket.gethostname(), pid=2**22 + 1, beat=time.time())
    said = []
    with working_folder(url, said.append):
        pass
    assert "which is gone" in said[0]


def test_a_writer_whose_lock_was_taken_over_stops(place, monkeypatch):
    url, there, fs, root = place
    with working_folder(url, silent) as folder:
        monkeypatch.setattr(remote_lock, "BEAT", -1.0)  # for the writer; the thread waits for half a minute
        lock_of(fs, root, beat=time.time())
        with pytest.raises(RunLockedError, match="taken over by process 7 on host far"):
            write_text(folder / "a", "1")
        (folder / "a").rename(folder / ".a")  # so that the end puts nothing
    assert there().keys() == {".lock"}


def test_signs_of_life_are_given_while_nothing_is_written(place, monkeypatch):
    url, _, fs, root = place
    monkeypatch.setattr(remote_lock, "BEAT", 0.01)
    with working_folder(url, silent):
        first = json.loads(fs.cat(f"{root}/.lock"))["beat"]
        for _ in range(500):
            if json.loads(fs.cat(f"{root}/.lock") or "{}").get("beat", first) > first:
                return
            time.sleep(0.01)
    pytest.fail("no sign of life")


def test_on_the_hub_a_step_is_one_commit(monkeypatch, tmp_path):
    """The hub is a memory store here whose commits are counted: what a step changed is put and removed by one."""
    monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / "here"))
    url = f"memory://{tmp_path.name}/run"
    fs = fsspec.filesystem("memory")
    commits = []

    def commit(fs, root, put, removed):
        commits.append((sorted(put), list(removed)))
        for name, path in put.items():
            fs.put_file(str(path), f"{root}/{name}")
        for name in removed:
            fs.rm_file(f"{root}/{name}")

    monkeypatch.setattr(type(fs), "protocol", ("memory", "hf"))
    monkeypatch.setattr(remote, "commit", commit)
    with working_folder(url, silent) as folder:
        write_text(folder / "a", "1")
        checkpoint.build(folder / "model", "k", model)
        write_json(folder / "manifest.json", {})
        (folder / "a").unlink()
    whole = ["a", "manifest.json", "model/polypref.json", "model/weights"]
    assert commits == [(whole, []), ([], ["a"])]
    with working_folder(url, silent):
        pass
    assert len(commits) == 2
    fs.store.clear()


def test_a_commit_names_its_files_in_the_repository(monkeypatch, tmp_path):
    from types import SimpleNamespace

    import huggingface_hub

    from polypref.store.hub_commits import commit

    asked = {}
    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", lambda self, **told: asked.update(told))
    place = SimpleNamespace(repo_id="a/b", repo_type="dataset", revision="main", path_in_repo="run")
    hub = SimpleNamespace(
        endpoint=None,
        token=None,
        resolve_path=lambda root: place,
        exists=lambda path: path.endswith("/old"),
        invalidate_cache=lambda: None,
    )
    (tmp_path / "x").write_text("1")
    commit(hub, "datasets/a/b/run", {"es/x": tmp_path / "x"}, ["old", "never"])
    assert (asked["repo_id"], asked["repo_type"], asked["revision"]) == ("a/b", "dataset", "main")
    assert [(type(o).__name__, o.path_in_repo) for o in asked["operations"]] == [
        ("CommitOperationAdd", "run/es/x"),
        ("CommitOperationDelete", "run/old"),
    ]
