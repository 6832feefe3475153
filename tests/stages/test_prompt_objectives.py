"""Several labels of one answer, categories under other names, and pairs made of labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Candidate, Example
from polypref.stages.prompt_objectives import objective
from polypref.stages.prompts import PromptOptions, PromptSummary, read_prompts

Row = dict[str, Any]


def read(path: Path, **options: Any) -> tuple[list[Example], PromptSummary]:
    context = Context(open=lambda role, spec: None, warn=lambda said: None)
    return read_prompts(PromptOptions(path=str(path), **options), context)


def lines(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def wire(*labels: Any, **rest: Any) -> Row:
    candidates = [{"id": f"c{n}", "lang": "en", "text": f"t{n}", "label": label} for n, label in enumerate(labels)]
    return {"id": "1", "prompts": {"en": "Hi"}, "candidates": candidates, **rest}


def labels(examples: list[Example]) -> list[Any]:
    return [c.label for example in examples for c in example.candidates]


# --- objectives ----------------------------------------------------------------------------------------------------


def test_one_of_several_labels_is_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", wire({"helpful": True, "harmless": False}, {"helpful": 0.25}, None))
    examples, summary = read(path, label_key="helpful")
    assert (labels(examples), summary.labels, summary.dropped) == ([True, 0.25, None], 2, {})
    examples, summary = read(path, label_key="harmless")
    assert (labels(examples), summary.dropped) == ([False, None, None], {"no_label": {"en": 1}})
    assert [(d.reason, d.candidate) for d in examples[0].dropped] == [("no_label", "c1")]


@pytest.mark.parametrize("open_", [None, "", "Unsure", "unsure", "N/A"])
def test_a_question_left_open_is_no_label(tmp_path: Path, open_: Any) -> None:
    rows = [{"prompt": "Hi", "completion": text, "kind": kind} for text, kind in (("a", "Yes"), ("b", open_))]
    examples, summary = read(lines(tmp_path / "en.jsonl", *rows), label_key="kind")
    assert (summary.shape, labels(examples)) == ("pointwise", [True])
    assert (summary.dropped, summary.places) == ({"no_label": {"en": 1}}, {"no_label": ("en.jsonl:2",)})


def test_labels_may_stand_in_columns_or_in_an_object(tmp_path: Path) -> None:
    columns = [{"prompt": "Hi", "completion": "a", "label": True, "harmless": "No", "other": 1}]
    nested = [{"prompt": "Hi", "completion": "a", "label": {"helpful": True, "harmless": "no"}}]
    for name, rows in (("columns", columns), ("nested", nested)):
        folder = tmp_path / name
        folder.mkdir()
        path = lines(folder / "en.jsonl", *rows)
        assert labels(read(path, label_key="harmless")[0]) == [False]
    assert labels(read(tmp_path / "columns" / "en.jsonl")[0]) == [True]
    with pytest.raises(InputError, match=r"^en\.jsonl:1: label holds helpful, harmless; name one with label_key"):
        read(tmp_path / "nested" / "en.jsonl")


@pytest.mark.parametrize(
    ("given_labels", "options", "told"),
    [
        (({"a": 1, "b": 0},), {}, "answers have labels for a, b; name one with label_key"),
        (({"a": 1},), {"label_key": "b"}, "answers have labels for a; label_key: b is none of them"),
        ((True,), {"label_key": "b"}, "answers have labels for no objective; label_key: b is none of them"),
        (({"a": 1}, True), {"label_key": "a"}, "the label of 'c1' is one value, where others are objects"),
        (({"a": 7},), {"label_key": "a"}, "example '1', 'c0': a is 7; it must be true or false"),
        ((None,), {"pair_labels": True}, "has no labels to make pairs of"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(tmp_path: Path, given_labels: tuple, options: Row, told: str) -> None:
    with pytest.raises(InputError) as error:
        read(lines(tmp_path / "rows.jsonl", wire(*given_labels)), **options)
    assert told in str(error.value)


def test_an_option_that_the_shape_has_no_use_for_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "en.jsonl", {"prompt": "Hi", "chosen": "a", "rejected": "b"})
    for name, options in {
        "label_key": {"label_key": "helpful"},
        "articles": {"articles": "a.jsonl"},
        "ranked": {"ranked": "best"},
    }.items():
        with pytest.raises(InputError, match=rf"is read as preference.*{name}"):
            read(path, **options)


# --- pairs of labels -----------------------------------------------------------------------------------------------


def test_pairs_of_labels_are_each_better_over_each_worse_of_one_language(tmp_path: Path) -> None:
    row = wire(True, 0.5, False, "good")
    row["candidates"].append({"id": "e", "lang": "es", "text": "x", "label": False})
    row["candidates"].append({"id": "f", "lang": "en", "text": "y", "label": True, "error": "timeout"})
    row["prompts"]["es"] = "Hola"
    [example], summary = read(lines(tmp_path / "rows.jsonl", row), pair_labels=True)
    found = [(p.chosen, p.rejected, p.rule) for p in example.pairs]
    better = [("c0", "c1"), ("c0", "c2"), ("c1", "c2"), ("c3", "c1"), ("c3", "c2")]
    assert found == [(*pair, "labels") for pair in better]
    assert (summary.pairs, summary.labels) == (5, 6)


@given(given_labels=st.lists(st.none() | st.sampled_from([0, 0.25, 0.5, 1, True, False, "good", "bad"]), max_size=7))
def test_pairs_agree_with_the_labels_and_none_is_missing(given_labels: list[Any]) -> None:
    values = {None: None, "good": 1.0, "bad": 0.0}
    numbers = [values.get(label, label) if isinstance(label, str | None) else float(label) for label in given_labels]
    candidates = [Candidate(f"c{n}", "en", "t", label=label) for n, label in enumerate(given_labels)]
    example = Example("1", {"en": []}, candidates)
    if all(label is None for label in given_labels):
        with pytest.raises(InputError, match="no labels"):
            objective([example], None, pair_labels=True)
        return
    [made] = objective([example], None, pair_labels=True)
    expected = {
        (f"c{i}", f"c{j}")
        for i, high in enumerate(numbers)
        for j, low in enumerate(numbers)
        if high is not None and low is not None and high > low
    }
    assert {(p.chosen, p.rejected) for p in made.pairs} == expected
    assert len(made.pairs) == len(expected)


# --- categories ----------------------------------------------------------------------------------------------------


def test_a_field_may_tell_the_category(tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": "Hi" * n, "domain": domain} for n, domain in enumerate(("law", "art"), 1)]
    examples, _ = read(lines(tmp_path / "en.jsonl", *rows), category_key="domain")
    assert {e.id: e.category for e in examples} == {"1": "law", "2": "art"}
    assert all(e.extra == {} for e in examples)
    assert {e.category for e in read(tmp_path / "en.jsonl")[0]} == {None}


def test_answers_of_one_file_have_categories_too(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b", "category": "mine", "domain": "law"}
    [example], _ = read(lines(tmp_path / "en.jsonl", row), category_key="domain")
    assert (example.category, example.extra) == ("law", {})


def test_the_wire_format_may_have_another_field_for_it(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", wire(domain="law", category="mine"))
    assert read(path, category_key="domain")[0][0].category == "law"
    assert read(path, category_key="category")[0][0].category == "mine"
    with pytest.raises(InputError, match=r"example '1': topic is missing"):
        read(path, category_key="topic")
    with pytest.raises(InputError, match=r"example '1': n is 3; a category is a text"):
        read(lines(tmp_path / "number.jsonl", wire(n=3)), category_key="n")


def test_a_row_without_the_category_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [{"id": "1", "prompt": "Hi", "domain": "law"}, {"id": "2", "prompt": "Ho"}]
    with pytest.raises(InputError, match=r"^en\.jsonl:2: domain is missing"):
        read(lines(tmp_path / "en.jsonl", *rows), category_key="domain")
