"""The same against a real S3 server on this machine (moto), through s3fs; skipped where they are not installed."""

import json
import socket
import time
import urllib.request

import pytest

from polypref.errors import InputError, RunLockedError
from polypref.records import parse_example
from polypref.store import checkpoint
from polypref.store.atomic import write_json, write_text
from polypref.store.jsonl import read_examples, write_examples
from polypref.store.remote import working_folder

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

EXAMPLES = [parse_example({"id": str(n), "prompts": {"en": f"What is {n}?"}}) for n in range(2)]


def silent(message):
    pass


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    server.start()
    settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / "one"))
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST"))
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fs.mkdir("bucket")
    yield fs
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def model(folder):
    (folder / "weights").write_text("w")
    return {"steps": 1}


def there(fs):
    fs.invalidate_cache()
    return sorted(path.removeprefix("bucket/run/") for path in fs.find("bucket/run"))


def test_a_run_s_folder_moves_between_machines(bucket, monkeypatch, tmp_path):
    url = "s3://bucket/run"
    with working_folder(url, silent) as folder:
        write_text(folder / "prompts" / "a", "1")
        checkpoint.build(folder / "model", "k", model)
        write_json(folder / "manifest.json", {})
        assert there(bucket) == [".lock", "manifest.json", "model/polypref.json", "model/weights", "prompts/a"]
        with pytest.raises(RunLockedError, match="is being written by"), working_folder(url, silent):
            pass
    monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / "two"))
    with working_folder(url, silent) as folder:
        assert checkpoint.standing(folder / "model", "k") == {"steps": 1}
        write_text(folder / "prompts" / "a", "2")
    monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / "one"))
    with working_folder(url, silent) as folder:
        assert (folder / "prompts" / "a").read_text() == "2"
        (folder / "prompts" / "a").unlink()
    assert there(bucket) == ["manifest.json", "model/polypref.json", "model/weights"]


def test_a_silent_lock_is_taken_over(bucket):
    bucket.pipe_file("bucket/run/.lock", json.dumps({"pid": 1, "host": "far", "beat": time.time() - 1e4}).encode())
    said = []
    with working_folder("s3://bucket/run", said.append):
        pass
    assert "took over the lock of process 1 on host far" in said[0]


def test_inputs_and_outputs(bucket):
    assert write_examples("s3://bucket/x.jsonl", EXAMPLES) == 2
    assert list(read_examples("s3://bucket/x.jsonl")) == EXAMPLES
    write_examples("s3://bucket/x.jsonl", EXAMPLES[:1])
    assert list(read_examples("s3://bucket/x.jsonl")) == EXAMPLES[:1]


def test_a_bucket_that_is_not_there_is_one_sentence(bucket):
    with pytest.raises(InputError, match="no such object or bucket"):
        write_examples("s3://none/x.jsonl", EXAMPLES)
    with pytest.raises(InputError, match="no such object or bucket"):
        list(read_examples("s3://none/x.jsonl"))
    with pytest.raises(InputError, match="cannot write s3://none/run"), working_folder("s3://none/run", silent):
        pass
