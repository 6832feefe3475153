"""Reading rows of supervised fine-tuning: chats, completions and Alpaca's, each one answer that nobody has judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Example, parse_example, to_json
from polypref.stages.prompts import PromptOptions, PromptSummary, read_prompts

Row = dict[str, Any]


def read(path: Path, **options: Any) -> tuple[list[Example], PromptSummary]:
    context = Context(open=lambda role, spec: None, warn=lambda said: None)
    examples, summary = read_prompts(PromptOptions(path=str(path), **options), context)
    for example in examples:
        assert parse_example(json.loads(json.dumps(to_json(example)))) == example
    return examples, summary


def lines(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}
CHAT = [user("Hi"), assistant("Hello!"), user("Who?"), assistant("Me.")]


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"messages": [SYSTEM, *CHAT]}, [SYSTEM, *CHAT[:3]], "Me."),
        ({"messages": CHAT, "prompt": "Hi", "system": "Be brief."}, [SYSTEM, *CHAT[:3]], "Me."),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]},
            [user("Hi")],
            "Hello!",
        ),
        ({"prompt": "Hi", "completion": "Hello!"}, [user("Hi")], "Hello!"),
        ({"prompt": [user("Hi")], "completion": [assistant("Hello!")]}, [user("Hi")], "Hello!"),
        ({"completion": [user("Hi"), assistant("Hello!")]}, [user("Hi")], "Hello!"),
        ({"instruction": "Add", "input": "2 + 2", "output": "4"}, [user("Add\n2 + 2")], "4"),
        (
            {"instruction": "Who?", "input": "", "output": "Me.", "system": "Be brief.", "history": [["Hi", "Hello!"]]},
            [SYSTEM, *CHAT[:3]],
            "Me.",
        ),
        ({"question": "Hi", "response": "Hello!"}, [user("Hi")], "Hello!"),
    ],
)
def test_a_row_is_one_answer_without_a_label(tmp_path: Path, row: Row, prompt: list[Row], answer: str) -> None:
    [example], summary = read(lines(tmp_path / "en.jsonl", {"id": "1", **row}), shape="sft")
    assert (example.id, example.prompts) == ("1", {"en": prompt})
    assert [(c.text, c.label, c.origin) for c in example.candidates] == [(answer, None, "human")]
    assert (example.pairs, example.extra, summary.require) == ([], {}, "any")


def test_fields_are_named_where_they_are_called_otherwise(tmp_path: Path) -> None:
    """As the Aya data set calls them."""
    rows = [{"inputs": "Hi", "targets": "Hello!", "language": "English", "user_id": "u"}]
    [example], _ = read(lines(tmp_path / "aya.jsonl", *rows), shape="sft", text_key="inputs")
    assert (list(example.prompts), example.candidates[0].text, example.extra) == (["en"], "Hello!", {"user_id": "u"})


def test_chats_that_end_with_an_answer_are_found_and_rows_that_may_be_prompts_are_asked_for(tmp_path: Path) -> None:
    chat = lines(tmp_path / "en.jsonl", {"messages": CHAT})
    assert read(chat)[1].shape == "sft"
    alpaca = lines(tmp_path / "fr.jsonl", {"id": "1", "instruction": "Salut", "output": "Bonjour"})
    [plain], summary = read(alpaca)
    assert (summary.shape, plain.candidates, plain.extra) == ("per_language", [], {"output": "Bonjour"})
    [shown], summary = read(alpaca, demonstrations=True)
    assert (summary.shape, [c.text for c in shown.candidates], shown.extra) == ("sft", ["Bonjour"], {})
    prompts = lines(tmp_path / "de.jsonl", {"id": "1", "messages": [user("Hallo")]})
    assert read(prompts, demonstrations=True)[1].shape == "per_language"


def test_languages_join_by_id_and_several_answers_to_a_prompt_stay(tmp_path: Path) -> None:
    lines(tmp_path / "en.jsonl", *({"id": "1", "prompt": "Hi", "completion": text} for text in ("a", "b", "a")))
    lines(tmp_path / "es.jsonl", {"id": "1", "prompt": "Hola", "completion": "c"})
    [example], summary = read(tmp_path, shape="sft")
    assert {(c.id, c.lang, c.text) for c in example.candidates} == {
        ("1/en/0", "en", "a"),
        ("1/en/1", "en", "b"),
        ("1/es/0", "es", "c"),
    }
    assert summary.duplicates == {"en": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [user("Hi"), assistant(" ")]}, "empty_turn"),
        ({"messages": [user("Hi"), user("Ho"), assistant("a")]}, "role_order"),
        ({"messages": [assistant("Hi"), user("Ho"), assistant("a")]}, "role_order"),
    ],
)
def test_what_teaches_nothing_is_dropped_and_counted(tmp_path: Path, row: Row, reason: str) -> None:
    examples, summary = read(lines(tmp_path / "en.jsonl", {"messages": CHAT}, row))
    assert sum(len(e.candidates) for e in examples) == 1
    assert (summary.dropped, summary.places) == ({reason: {"en": 1}}, {reason: ("en.jsonl:2",)})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "Hi"}, "no answer among the fields prompt"),
        ({"messages": [user("Hi")]}, "messages must hold a prompt and end with the assistant's answer"),
        ({"messages": [assistant("Hi")]}, "messages must hold a prompt"),
        ({"messages": [user("Hi"), {"role": "assistant"}]}, "messages[1] must be a message with a role and a content"),
        ({"completion": "Hello!"}, "messages is missing"),
        ({"conversations": ["Hi"]}, "conversations[0] must be a turn"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: Row, told: str) -> None:
    with pytest.raises(InputError, match=r"^en\.jsonl:2: ") as error:
        read(lines(tmp_path / "en.jsonl", {"messages": CHAT}, row), shape="sft")
    assert told in str(error.value)


@pytest.mark.parametrize("row", [{"prompt": "Hi", "completion": None}, {"prompt": "Hi", "completion": 4}])
def test_an_answer_that_is_no_text_is_refused_with_its_line(tmp_path: Path, row: Row) -> None:
    good = {"prompt": "Hi", "completion": "Hello!"}
    with pytest.raises(InputError, match=r"^en\.jsonl:2: completion is (null|4); it must be a string"):
        read(lines(tmp_path / "en.jsonl", good, row), shape="sft")
