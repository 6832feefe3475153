"""Inputs and outputs by URL, on two stores that need no server: memory and a folder by file://."""

import fsspec
import pytest

from polypref.errors import InputError
from polypref.records import parse_example
from polypref.store import places
from polypref.store.atomic import check_target, write_text
from polypref.store.jsonl import read_examples, write_examples
from polypref.store.shards import write_prompts
from polypref.store.urls import is_url, restored

EXAMPLES = [parse_example({"id": str(n), "prompts": {"en": f"What is {n}?"}}) for n in range(2)]


@pytest.fixture(params=["memory", "file"])
def root(request, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPREF_CACHE", str(tmp_path / "cache"))
    yield f"memory://{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path}/store"
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3:/b/x", "s3://b/x"),
        ("s3://b/x", "s3://b/x"),
        ("memory:/r", "memory://r"),
        ("file:/tmp/x", "file:///tmp/x"),
        ("file:///tmp/x", "file:///tmp/x"),
        ("hf:/datasets/a/b", "hf://datasets/a/b"),
    ],
)
def test_the_slash_that_a_path_takes_is_given_back(given, url):
    assert is_url(given)
    assert restored(given) == url


@pytest.mark.parametrize("place", ["a/b.jsonl", "/a/b", "-", "sandbox:train", "C:/x", "fake?version=2", "a:b/c"])
def test_a_path_is_no_url(place):
    assert not is_url(place)
    assert restored(place) == place


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_what_is_written_to_a_store_is_read_from_it(root, name):
    assert write_examples(f"{root}/{name}", EXAMPLES) == 2
    assert list(read_examples(f"{root}/{name}")) == EXAMPLES


def test_another_object_of_the_same_name_and_size_is_fetched_again(root):
    place = f"{root}/x.jsonl"
    write_examples(place, EXAMPLES[:1])
    assert [e.id for e in read_examples(place)] == ["0"]
    write_examples(place, EXAMPLES[1:])
    assert [e.id for e in read_examples(place)] == ["1"]


def test_what_was_fetched_is_not_fetched_again(root, monkeypatch):
    write_examples(f"{root}/x.jsonl", EXAMPLES)
    first = places.local(f"{root}/x.jsonl")
    monkeypatch.setattr(places, "fetch_file", None)
    assert places.local(f"{root}/x.jsonl") == first


def test_a_folder_and_a_pattern_are_fetched_whole_under_their_names(root):
    for lang in ("en", "es"):
        write_examples(f"{root}/data/prompts_{lang}.jsonl", EXAMPLES)
    folder = places.local(f"{root}/data")
    pattern = places.local(f"{root}/data/prompts_{{lang}}.jsonl")
    assert pattern.endswith("/prompts_{lang}.jsonl")
    for lang in ("en", "es"):
        assert list(read_examples(f"{folder}/prompts_{lang}.jsonl")) == EXAMPLES
        assert list(read_examples(pattern.format(lang=lang))) == EXAMPLES


def test_what_is_not_there_is_one_sentence(root):
    with pytest.raises(InputError, match=r"x\.jsonl: there is no such object"):
        list(read_examples(f"{root}/x.jsonl"))


def test_nothing_is_put_when_the_work_fails(root):
    write_examples(f"{root}/x.jsonl", EXAMPLES)

    def failing():
        yield EXAMPLES[0]
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        write_examples(f"{root}/x.jsonl", failing())
    assert list(read_examples(f"{root}/x.jsonl")) == EXAMPLES


def test_a_store_whose_package_is_missing_names_it(monkeypatch):
    def missing(url, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(InputError, match="pip install s3fs"):
        places.opened("s3://bucket/x")


def test_an_unknown_kind_of_place_is_refused():
    with pytest.raises(InputError, match="no place that fsspec knows"):
        places.opened("nowhere://x")


def test_a_store_that_refuses_is_one_sentence(root, monkeypatch):
    write_examples(f"{root}/x.jsonl", EXAMPLES)

    def refuse(self, *arguments, **options):
        raise PermissionError("AccessDenied: request id 7")

    for kind in ("memory", "file"):
        monkeypatch.setattr(type(fsspec.filesystem(kind)), "put_file", refuse)
    with pytest.raises(InputError, match="access is refused; check your credentials"):
        write_examples(f"{root}/x.jsonl", EXAMPLES)


def test_an_object_whose_name_leads_out_is_refused(monkeypatch, tmp_path):
    class Hostile:
        def find(self, folder, detail):
            return {"b/run/../../evil": {"size": 1}}

    with pytest.raises(InputError, match="leads out"):
        places.listed(Hostile(), "b/run")


def test_a_writer_that_knows_no_urls_refuses_one_instead_of_making_a_folder(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    for write in (
        lambda: write_text(Path("s3://b/x"), "x"),
        lambda: check_target(Path("s3://b/x")),
        lambda: write_prompts(Path("s3://b/x"), EXAMPLES, 2),
    ):
        with pytest.raises(InputError, match="s3://b/x"):
            write()
    assert not list(tmp_path.iterdir())
