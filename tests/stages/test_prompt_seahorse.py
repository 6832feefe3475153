"""Reading Seahorse's rated summaries: labels by question, articles in the row or in a file of their own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Example, parse_example, to_json
from polypref.stages.prompts import PromptOptions, PromptSummary, read_prompts

Row = dict[str, Any]
QUESTIONS = [f"question{n}" for n in range(1, 7)]
COLUMNS = ["gem_id", "worker_lang", "summary", "model", *QUESTIONS]


def read(path: Path, **options: Any) -> tuple[dict[str, Example], PromptSummary]:
    context = Context(open=lambda role, spec: None, warn=lambda said: None)
    examples, summary = read_prompts(PromptOptions(path=str(path), **options), context)
    for example in examples:
        assert parse_example(json.loads(json.dumps(to_json(example)))) == example
    return {example.id: example for example in examples}, summary


def lines(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rated(gem: str, lang: str, summary: str, model: str, *ratings: str) -> Row:
    return dict(zip(COLUMNS, (gem, lang, summary, model, *ratings), strict=True))


ROWS = (
    rated("xlsum_english-validation-1", "en-US", "Schools should go abroad.", "t5_base", *["Yes"] * 6),
    rated("xlsum_english-validation-1", "en-US", 'He said "no",\ttwice.', "reference", *["Yes"] * 5, "No"),
    rated("xlsum_english-validation-1", "en-US", "Schools schools", "mt5", "No", *[""] * 5),
    rated("mlsum_es-test-2", "es-ES", "Resumen.", "palm", *["Yes"] * 5, "Unsure"),
    rated("mlsum_es-test-2", "es-ES", "Otro.", "mt5", *["Yes"] * 6),
)
"""A good one, one with quotes and a tab, one that is not comprehensible, so that nothing else was asked, and two in
Spanish of which one was left open."""


def tsv(path: Path, rows: tuple[Row, ...] = ROWS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, dialect="excel-tab", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def articles(folder: Path) -> Path:
    """Two files, with the article under the names that two of the data sets have."""
    folder.mkdir()
    lines(folder / "xlsum.jsonl", {"gem_id": "xlsum_english-validation-1", "text": "A long article.", "target": "x"})
    lines(folder / "xsum.jsonl", {"gem_id": "mlsum_es-test-2", "document": "Un artículo."})
    return folder


def test_a_question_is_the_label_and_the_article_the_prompt(tmp_path: Path) -> None:
    examples, summary = read(
        tsv(tmp_path / "train.tsv"), label_key="question6", articles=str(articles(tmp_path / "articles"))
    )
    english, spanish = examples["xlsum_english-validation-1"], examples["mlsum_es-test-2"]
    assert english.prompts == {"en": [{"role": "user", "content": "A long article."}]}
    assert spanish.prompts == {"es": [{"role": "user", "content": "Un artículo."}]}
    assert [(c.text, c.label, c.origin, c.model) for c in english.candidates] == [
        ("Schools should go abroad.", True, "sampled", "t5_base"),
        ('He said "no",\ttwice.', False, "reference", None),
    ]
    assert [(c.text, c.label) for c in spanish.candidates] == [("Otro.", True)]
    assert (summary.shape, summary.labels, summary.pairs, summary.require) == ("seahorse", 3, 0, "any")
    assert summary.dropped == {"no_label": {"en": 1, "es": 1}}
    assert summary.places == {"no_label": ("train.tsv:4", "train.tsv:5")}


def test_another_question_is_another_objective(tmp_path: Path) -> None:
    path, where = tsv(tmp_path / "train.tsv"), str(articles(tmp_path / "articles"))
    found = {q: read(path, label_key=q, articles=where)[1].labels for q in ("question1", "question4")}
    assert found == {"question1": 5, "question4": 4}
    examples, _ = read(path, label_key="question1", articles=where, pair_labels=True)
    pairs = examples["xlsum_english-validation-1"].pairs
    texts = {c.id: c.text for c in examples["xlsum_english-validation-1"].candidates}
    assert [(texts[p.chosen], texts[p.rejected], p.rule) for p in pairs] == [
        ("Schools should go abroad.", "Schools schools", "labels"),
        ('He said "no",\ttwice.', "Schools schools", "labels"),
    ]


def test_the_article_may_stand_in_the_row_and_an_instruction_around_it(tmp_path: Path) -> None:
    rows = [{**row, "article": "Long."} for row in ROWS]
    path = lines(tmp_path / "rows.jsonl", *rows)
    examples, _ = read(path, label_key="question2", instruction="Summarise: {prompt}")
    assert examples["mlsum_es-test-2"].prompts["es"][-1]["content"] == "Summarise: Long."
    renamed = lines(tmp_path / "other.jsonl", *({**row, "body": "Long."} for row in ROWS))
    assert len(read(renamed, label_key="question2", text_key="body")[0]) == 2


def test_summaries_without_their_article_are_dropped_and_all_of_them_refused(tmp_path: Path) -> None:
    some = lines(tmp_path / "some.jsonl", {"gem_id": "mlsum_es-test-2", "text": "Un artículo."})
    examples, summary = read(tsv(tmp_path / "train.tsv"), label_key="question1", articles=str(some))
    assert (list(examples), summary.dropped) == (["mlsum_es-test-2"], {"no_article": {}})
    none = lines(tmp_path / "none.jsonl", {"gem_id": "other", "text": "x"})
    with pytest.raises(InputError, match=r"train\.tsv: there is no article in .*none\.jsonl for any row"):
        read(tmp_path / "train.tsv", label_key="question1", articles=str(none))


def test_demonstrations_are_the_reference_summaries(tmp_path: Path) -> None:
    examples, summary = read(
        tsv(tmp_path / "train.tsv"), demonstrations=True, articles=str(articles(tmp_path / "articles"))
    )
    [example] = examples.values()
    assert [(c.text, c.label, c.origin) for c in example.candidates] == [('He said "no",\ttwice.', None, "human")]
    assert summary.labels == 0


@pytest.mark.parametrize(
    ("row", "options", "told"),
    [
        ({}, {"label_key": None}, "summaries have several labels; name one with label_key: question1 (comprehensible)"),
        ({}, {"label_key": "question9"}, "question9 is missing"),
        ({"question4": "Maybe"}, {}, 'question4 is "Maybe"; it must be true or false'),
        ({"worker_lang": "Klingonish"}, {}, "worker_lang: 'Klingonish' is no language"),
        ({"summary": None}, {}, "summary is null; it must be a string"),
        ({"gem_id": 3}, {}, "gem_id is 3; it must be a string"),
        ({"article": None}, {}, "no article among the fields gem_id"),
        ({"model": 3}, {}, "model is 3; it must be a string"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: Row, options: Row, told: str) -> None:
    good = {**ROWS[0], "article": "Long."}
    path = lines(tmp_path / "rows.jsonl", good, {**good, **row})
    with pytest.raises(InputError) as error:
        read(path, **{"label_key": "question4", **options})
    assert told in str(error.value)
    if row:
        assert str(error.value).startswith("rows.jsonl:2: ")


def test_a_row_that_contradicts_its_files_language_is_refused(tmp_path: Path) -> None:
    row = {**ROWS[0], "article": "Long."}
    with pytest.raises(InputError, match=r"^es\.jsonl:1: worker_lang is 'en-US', but the file's name says es"):
        read(lines(tmp_path / "es.jsonl", row), label_key="question1")


def test_two_articles_of_one_id_are_refused(tmp_path: Path) -> None:
    both = lines(tmp_path / "both.jsonl", {"gem_id": "a", "text": "x"}, {"gem_id": "a", "text": "y"})
    with pytest.raises(InputError, match=r"^both\.jsonl:2: gem_id 'a' has two articles"):
        read(tsv(tmp_path / "train.tsv"), label_key="question1", articles=str(both))
