"""``polypref translate-preferences``, as it is called, on hand-made sets and on people's transcripts."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polypref import cli

Call = Callable[..., tuple[int, str, str]]
FAKE = ("translate-preferences", "--backend", "fake", "--language-check", "off")


@pytest.fixture
def polypref(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line in this process: ``polypref(…)`` → (exit status, stdout, stderr)."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    row = {
        "id": "1",
        "prompts": {"en": "the sea"},
        "candidates": [
            {"id": "a", "lang": "en", "text": "the river and 24 birds", "origin": "human"},
            {"id": "b", "lang": "en", "text": "birds", "origin": "human"},
        ],
        "pairs": [{"lang": "en", "chosen": "a", "rejected": "b", "rule": "given"}],
    }
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


def examples(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pairs_into_two_languages_and_nothing_twice(polypref: Call, pairs: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"
    asked = (*FAKE, "--model", "fake?unclosed=0", "--into", "es", "--into", "Swahili", "--round-trip", "--json")
    status, out, err = polypref(*asked, "--input", pairs, "--output", once)
    assert (status, err) == (0, "")
    figures = json.loads(out)
    assert list(figures) == ["es", "sw"]
    assert {name: figures["es"][name] for name in ("prompts", "translations", "pairs", "labels", "dropped")} == {
        "prompts": 1,
        "translations": 2,
        "pairs": 1,
        "labels": 0,
        "dropped": {},
    }
    assert figures["es"]["round_trip_chrf"] == 100
    (found,) = examples(once)
    assert [(p["lang"], p["chosen"], p["rejected"]) for p in found["pairs"]] == [
        ("en", "a", "b"),
        ("es", "a>es", "b>es"),
        ("sw", "a>sw", "b>sw"),
    ]
    assert polypref(*asked, "--input", once, "--output", twice) == (0, out, "")
    assert twice.read_bytes() == once.read_bytes()


def test_there_and_back(polypref: Call, pairs: Path, tmp_path: Path) -> None:
    asked = (*FAKE, "--model", "fake?unclosed=0", "--into", "en", "--source", "de", "--back", "--json")
    status, out, _ = polypref(*asked, "--input", pairs, "--output", tmp_path / "out.jsonl")
    assert status == 0
    assert json.loads(out)["en"]["pairs"] == 1
    (found,) = examples(tmp_path / "out.jsonl")
    assert [(p["chosen"], p["rejected"], p["rule"]) for p in found["pairs"]] == [
        ("a>de>en", "b>de>en", "back_translated")
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--into", "en"), "from en into en alone"),
        (("--into", "xx1"), "--into: "),
        (("--into", "es", "--min-chrf", "200"), "--min-chrf: "),
        (("--into", "es", "--source", "fr"), "holds no pair, no label and no answer to learn from in fr"),
        (("--into", "es", "--shape", "hh"), "chosen"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    polypref: Call, pairs: Path, tmp_path: Path, asked: tuple[str, ...], told: str
) -> None:
    status, out, err = polypref(*FAKE, "--model", "fake", *asked, "--input", pairs, "--output", tmp_path / "out.jsonl")
    assert (status, out) == (2, "")
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_transcripts_of_people_with_all_their_turns(polypref: Call, tmp_path: Path, real_data: Path) -> None:
    """The fake loses one translation in twenty, so some pairs go; every one is there, or a drop says why."""
    rows = tmp_path / "hh.jsonl"
    with gzip.open(real_data / "hh_rlhf" / "harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as source:
        rows.write_text("".join(itertools.islice(source, 200)), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    status, told, _ = polypref(
        *FAKE, "--model", "fake", "--shape", "hh", "--into", "es", "--input", rows, "--output", out, "--json"
    )
    assert status == 0
    figures, found = json.loads(told)["es"], examples(out)
    pairs = Counter(pair["lang"] for example in found for pair in example["pairs"])
    assert 100 < pairs["es"] < pairs["en"]
    assert pairs["es"] == figures["pairs"]
    assert pairs["en"] - pairs["es"] == sum(figures["dropped"]["pairs"].values())
    for example in found:
        if "es" in example["prompts"]:
            assert [m["role"] for m in example["prompts"]["es"]] == [m["role"] for m in example["prompts"]["en"]]
    assert max(len(example["prompts"]["en"]) for example in found) > 2
