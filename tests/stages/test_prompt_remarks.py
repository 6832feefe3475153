"""What a reader of prompts says: each fact once, in the words of the row, with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.stages.prompts import PromptOptions, read_prompts
from polypref.store.jsonl import parse_line

PAIR = {"prompt": "Hi", "chosen": "a", "rejected": "b"}


def remarks(path: Path, **options: Any) -> list[str]:
    """Of the summary and of the stage itself, without the path in front."""
    said: list[str] = []
    context = Context(open=lambda role, spec: None, warn=said.append)
    read_prompts(PromptOptions(path=str(path), **options), context)
    return [line.removeprefix(f"{path}: ") for line in said]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"id": "2", "lang": "en", "prompt": "Hi", "chosen": "a"},
            "rejected is missing; the row has: chosen, id,",
        ),
        ({"id": "2", "lang": "en", "prompt": "Hi", "chosen": "a", "rejectd": "b"}, "missing; did you mean rejectd?"),
        ({"id": "2", "lang": None, **PAIR}, "lang is null; it must be a language, such as es"),
        ({"id": "2", "lang": 3, **PAIR}, "lang is 3; it must be a language, such as es"),
    ],
)
def test_a_row_is_told_in_its_own_words(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    path = lines(tmp_path / "pairs.jsonl", {"id": "1", "lang": "en", **PAIR}, row)
    with pytest.raises(InputError, match=rf"^pairs\.jsonl:2: .*{told.replace('?', '[?]')}"):
        remarks(path)


def test_a_column_is_told_with_one_at(tmp_path: Path) -> None:
    """A tab inside a string is no JSON; the decoder's own sentence for it ends with "at"."""
    for raw, column in ((b'{"a": "x\ty"}', 9), (b'{"a": "x', 7)):
        with pytest.raises(InputError, match=rf"^f:1: not JSON \([^()]*[^t] at column {column}\)"):
            parse_line(raw, "f:1")
    (tmp_path / "en.json").write_text('[{"id": "1", "prompt": "x\ty"}]')
    with pytest.raises(InputError, match=r"^en\.json:1: not JSON \(Invalid control character at column 26\)"):
        remarks(tmp_path / "en.json")


def test_a_drop_is_told_once(tmp_path: Path) -> None:
    """en's row of id 2 is dropped: es alone has its prompt, which needs no second sentence."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Ho"}]
    bad = {"id": "2", "prompt": turns, "chosen": "a", "rejected": "b"}
    lines(tmp_path / "en.jsonl", {"id": "1", **PAIR}, bad)
    lines(tmp_path / "es.jsonl", {"id": "1", **PAIR}, {"id": "2", **PAIR, "prompt": "Ay"})
    assert remarks(tmp_path) == ["dropped, role_order: en 1 (en.jsonl:2)"]
    assert remarks(tmp_path, require="all") == [
        "dropped, role_order: en 1 (en.jsonl:2)",
        "examples left out because a required language is missing: 1 of 2; require: pivot or any keeps more than "
        "require: all",
    ]
    lines(tmp_path / "en.jsonl", {"id": "1", "prompt": "Hi"}, {"id": "2", "prompt": " "})
    lines(tmp_path / "es.jsonl", {"id": "1", "prompt": "Ah"}, {"id": "2", "prompt": "Ay"})
    assert remarks(tmp_path, require="any") == ["empty prompts: en 1 (en.jsonl:2)"]


def test_answers_need_no_prompt_in_every_language(tmp_path: Path) -> None:
    lines(tmp_path / "en.jsonl", {"id": "1", **PAIR}, {"id": "2", **PAIR, "prompt": "Hello"})
    lines(tmp_path / "es.jsonl", {"id": "3", **PAIR, "prompt": "Ay"})
    assert remarks(tmp_path) == []
    lines(tmp_path / "en.jsonl", {"id": "1", "prompt": "Hi"}, {"id": "2", "prompt": "Hello"})
    lines(tmp_path / "es.jsonl", {"id": "3", "prompt": "Ay"})
    assert remarks(tmp_path, require="any") == [
        "ids without a prompt: en 1, es 2",
        "ids that one language alone has: en 2, es 1",
    ]


def test_ids_that_carry_their_language_are_still_told(tmp_path: Path) -> None:
    lines(tmp_path / "en.jsonl", *({"id": f"en-{n}", **PAIR, "prompt": f"Hi {n}"} for n in range(3)))
    lines(tmp_path / "es.jsonl", *({"id": f"es-{n}", **PAIR, "prompt": f"Ay {n}"} for n in range(3)))
    assert remarks(tmp_path) == [
        'more ids join when they leave out their language; say id_pattern: "{lang}-{id}"',
    ]


def test_repeated_rows_are_told_with_their_lines(tmp_path: Path) -> None:
    row = {"id": "1", **PAIR}
    path = lines(tmp_path / "en.jsonl", row, row, row, row, row)
    assert remarks(path) == ["rows that repeat an earlier one: en 4 (en.jsonl:2, en.jsonl:3, en.jsonl:4, …)"]
