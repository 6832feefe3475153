"""``polypref translate`` and ``polypref evaluate translation``, as they are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polypref import cli

Call = Callable[..., tuple[int, str, str]]
FAKE = ("--model", "fake", "--backend", "fake")
TRANSLATE = ("translate", *FAKE, "--language-check", "off")
MEASURE = ("evaluate", "translation", *FAKE, "--language-check", "off")


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
def answers(tmp_path: Path) -> Path:
    rows = [
        {
            "id": name,
            "prompts": prompts,
            "candidates": [
                {"id": f"{name}/en/0", "lang": "en", "text": "the river and 24 birds", "origin": "sampled"},
            ],
        }
        for name, prompts in (("1", {"en": "the sea", "es": "el mar"}), ("2", {"en": "birds of the sea"}))
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def examples(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_candidates_are_translated_where_there_is_a_prompt(polypref: Call, answers: Path, tmp_path: Path) -> None:
    status, out, err = polypref(*TRANSLATE, "--input", answers, "--output", tmp_path / "out.jsonl", "--json")
    assert (status, err, json.loads(out)) == (0, "", {"translated": 1, "failed": {}, "numbers_lost": 0})
    found = examples(tmp_path / "out.jsonl")
    assert [c["id"] for e in found for c in e["candidates"]] == ["1/en/0", "1/en/0>es", "2/en/0"]


def test_prompts_alone(polypref: Call, answers: Path, tmp_path: Path) -> None:
    to_sw = (
        "--prompts-into",
        "Swahili",
        "--prompts-into",
        "es",
        "--input",
        answers,
        "--output",
        tmp_path / "out.jsonl",
    )
    status, out, err = polypref(*TRANSLATE, *to_sw, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"translated": 0, "failed": {}, "numbers_lost": 0, "prompts": {"sw": 2, "es": 1}}
    found = examples(tmp_path / "out.jsonl")
    assert [list(e["prompts"]) for e in found] == [["en", "es", "sw"], ["en", "sw", "es"]]
    assert found[0]["prompts"]["es"][0]["content"] == "el mar"
    assert found[1]["translated_prompts"]["sw"] == {"source": "en", "model": "fake"}
    assert [len(e["candidates"]) for e in found] == [1, 1]


def test_prompts_first_and_then_the_candidates(polypref: Call, answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert (
        polypref(*TRANSLATE, "--prompts-into", "sw", "--direction", "from_pivot", "--input", answers, "--output", out)[
            0
        ]
        == 0
    )
    ids = [c["id"] for e in examples(out) for c in e["candidates"]]
    assert ids == ["1/en/0", "1/en/0>es", "1/en/0>sw", "2/en/0", "2/en/0>sw"]


def test_prompts_from_another_language(polypref: Call, answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    asked = ("--prompts-into", "sw", "--prompts-from", "es", "--input", answers, "--output", out, "--json")
    assert json.loads(polypref(*TRANSLATE, *asked)[1])["failed"] == {"no_prompt": 1}
    assert examples(out)[0]["translated_prompts"]["sw"]["source"] == "es"


def test_languages_that_the_file_does_not_have_are_checked_too(polypref: Call, answers: Path, tmp_path: Path) -> None:
    """The fake leaves words alone that are not its own, so this German prompt stays German."""
    text = "Der Fluss fließt langsam durch das Tal, und die Vögel kehren jeden Frühling nach Hause zurück."
    answers.write_text(json.dumps({"id": "1", "prompts": {"en": text}}) + "\n")
    out = tmp_path / "out.jsonl"
    asked = ("--prompts-into", "de", "--prompts-into", "sw", "--input", answers, "--output", out, "--json")
    status, told, err = polypref("translate", *FAKE, *asked)
    assert (status, err) == (0, "")
    assert json.loads(told) == {
        "translated": 0,
        "failed": {"wrong_language": 1},
        "numbers_lost": 0,
        "prompts": {"de": 1},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--direction", "es"), "--direction: 'es' is no direction; say to_pivot"),
        (("--direction", "es:es"), "--direction: 'es:es' leads from a language to itself"),
        (("--language", "xx1"), "--language: 'xx1' is no language"),
        (("--prompts-into", "xx1"), "--prompts-into: 'xx1' is no language"),
        (("--prompts-into", "es", "--prompts-from", "xx1"), "--prompts-from: 'xx1' is no language"),
        (("--prompts-from", "es"), "--prompts-from is es, but no prompts are made"),
        (("--prefill", "yes"), "--prefill is 'yes'; say on or off"),
        (("--method", "seq2seq"), "method seq2seq runs in transformers alone"),
    ],
)
def test_mistakes_are_told_by_their_option(
    polypref: Call, answers: Path, arguments: tuple[str, ...], said: str
) -> None:
    status, out, err = polypref(*TRANSLATE, *arguments, "--input", answers, "--output", answers)
    assert (status, out) == (2, "")
    assert err.startswith("polypref: ")
    assert said in err


def test_round_trips_are_measured_by_language(polypref: Call, answers: Path, tmp_path: Path) -> None:
    """The fake writes its few words in the other language and the others as they are, so all of them come back."""
    out = tmp_path / "out.jsonl"
    polypref(*TRANSLATE, "--prompts-into", "es", "--direction", "from_pivot", "--input", answers, "--output", out)
    status, told, err = polypref(*MEASURE, "--input", out, "--json")
    assert (status, err) == (0, "")
    found = json.loads(told)
    assert found["signature"].startswith("chrF2|nrefs:1|")
    spanish = found["results"]["es"]
    assert (spanish["translation_failed"], spanish["translation_failed_n"]) == (0.0, 2)
    assert spanish["round_trip_chrf"] == pytest.approx(100)
    assert (spanish["round_trip_chrf_n"], spanish["round_trip_chrf_stderr"]) == (2, 0.0)
    assert polypref(*MEASURE, "--limit", "1", "--input", out)[1].startswith('es: {"translation_failed": 0.0')
    assert (
        json.loads(polypref(*MEASURE, "--limit", "1", "--input", out, "--json")[1])["results"]["es"][
            "round_trip_chrf_n"
        ]
        == 1
    )


def test_without_translations_there_is_nothing_to_measure(polypref: Call, answers: Path) -> None:
    status, _, err = polypref(*MEASURE, "--input", answers)
    assert (status, "holds no translation of an answer in en; make some" in err) == (2, True)
