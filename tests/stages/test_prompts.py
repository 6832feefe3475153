"""Reading prompts: every shape as it is, joined by id, counted, nothing skipped, subsets nested."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Example, parse_example, to_json
from polypref.stages.overlap import find_overlap, normalise_text, refuse_overlap
from polypref.stages.prompt_files import language_in_name, recognise
from polypref.stages.prompts import PromptOptions, PromptSummary, read_prompts, subset
from polypref.store.jsonl import write_examples

DATA = Path(os.environ.get("POLYPREF_DATA", Path(__file__).parents[3] / "shared" / "data"))
real_data = pytest.mark.skipif(not (DATA / "prompts").is_dir(), reason=f"real data is not at {DATA}")


def read(
    path: object, warnings: list[str] | None = None, **options: object
) -> tuple[dict[str, Example], PromptSummary]:
    context = Context(open=lambda role, spec: None, warn=(warnings if warnings is not None else []).append)
    examples, summary = read_prompts(PromptOptions(path=str(path), **options), context)  # type: ignore[arg-type]
    for example in examples:  # whatever the shape, the outcome is the wire format's
        assert parse_example(json.loads(json.dumps(to_json(example)))) == example
    return {example.id: example for example in examples}, summary


def lines(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def said(example: Example) -> dict[str, str]:
    return {tag: prompt[-1]["content"] for tag, prompt in example.prompts.items()}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# --- one file a language -------------------------------------------------------------------------------------------


def test_files_are_joined_by_id_whatever_their_order(tmp_path: Path) -> None:
    """The rows stand in another order in each file; joined by number, `one` would meet `dos`."""
    lines(tmp_path / "en.jsonl", {"id": "a", "instruction": "one"}, {"id": "b", "instruction": "two"})
    lines(tmp_path / "es.jsonl", {"id": "b", "instruction": "dos"}, {"id": "a", "instruction": "uno"})
    examples, summary = read(tmp_path)
    assert {key: said(example) for key, example in examples.items()} == {
        "a": {"en": "one", "es": "uno"},
        "b": {"en": "two", "es": "dos"},
    }
    assert summary.shape == "per_language"
    assert summary.read == {"en": 2, "es": 2}


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "csv", "tsv", "jsonl.gz", "json.gz", "json-lines"])
def test_every_kind_of_file_gives_the_same_examples(tmp_path: Path, kind: str) -> None:
    for tag, word in (("en", 'one, "two"\nthree'), ("fr", "un, « deux »\ntrois")):
        rows = [{"instruction_id": "7", "instruction": word}, {"instruction_id": "8", "instruction": word + "!"}]
        path = tmp_path / f"{tag}.{'json' if kind == 'json-lines' else kind}"
        if kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(rows), path)
        elif kind in ("csv", "tsv"):
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, rows[0], dialect="excel" if kind == "csv" else "excel-tab")
                writer.writeheader()
                writer.writerows(rows)
        else:
            array = json.dumps(rows, indent=2, ensure_ascii=False)
            text = array if kind in ("json", "json.gz") else "\n".join(json.dumps(row) for row in rows)
            path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    examples, _ = read(tmp_path)
    assert said(examples["7"]) == {"en": 'one, "two"\nthree', "fr": "un, « deux »\ntrois"}
    assert set(examples) == {"7", "8"}


def test_a_pattern_names_the_files(tmp_path: Path) -> None:
    lines(tmp_path / "dev" / "deu_Latn" / "x.jsonl", {"id": 1, "prompt": "eins"})
    lines(tmp_path / "dev" / "English" / "x.jsonl", {"id": 1, "prompt": "one"})
    lines(tmp_path / "other" / "fr" / "x.jsonl", {"id": 1, "prompt": "un"})
    examples, summary = read(tmp_path, pattern="dev/{lang}/*.jsonl")
    assert said(examples["1"]) == {"de": "eins", "en": "one"}
    assert summary.ignored == ("other/fr/x.jsonl",)
    assert said(read(tmp_path / "dev" / "{lang}" / "x.jsonl")[0]["1"]) == {"de": "eins", "en": "one"}


def test_a_named_id_field_and_prompt_field_are_used(tmp_path: Path) -> None:
    for tag in ("en", "sw"):
        lines(tmp_path / f"p_{tag}.jsonl", {"id": f"{tag}-1", "key": 5, "text": "no", "ask": f"yes {tag}"})
    examples, _ = read(tmp_path, id_key="key", text_key="ask")
    assert said(examples["5"]) == {"en": "yes en", "sw": "yes sw"}


def test_rows_without_ids_are_joined_by_position_only_when_asked(tmp_path: Path) -> None:
    lines(tmp_path / "en.jsonl", {"query": "one"}, {"query": "two"})
    lines(tmp_path / "th.jsonl", {"query": "หนึ่ง"}, {"query": "สอง"})
    with pytest.raises(InputError, match=r"en\.jsonl:1: no id among .*id_key: position"):
        read(tmp_path)
    examples, _ = read(tmp_path, id_key="position")
    assert said(examples["2"]) == {"en": "two", "th": "สอง"}


def test_position_is_refused_when_a_file_lacks_a_row(tmp_path: Path) -> None:
    """The trap: one row fell out of one file, and all rows behind it meet the wrong partner."""
    lines(tmp_path / "en.jsonl", {"query": "one"}, {"query": "two"})
    lines(tmp_path / "th.jsonl", {"query": "สอง"})
    with pytest.raises(InputError, match="en 2, th 1"):
        read(tmp_path, id_key="position")


def test_one_file_with_a_language_column(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "all.jsonl",
        {"id": "a", "language": "English", "prompt": "one"},
        {"id": "a", "language": "spa", "prompt": "uno"},
    )
    assert said(read(path)[0]["a"]) == {"en": "one", "es": "uno"}


def test_one_file_of_one_language_needs_no_ids(tmp_path: Path) -> None:
    """Nothing is joined, so an id is made of the content: the same whatever the order."""
    rows = [{"prompt": "one"}, {"prompt": "two"}]
    first, _ = read(lines(tmp_path / "a" / "prompts.jsonl", *rows), languages=("en",))
    second, _ = read(lines(tmp_path / "b" / "en.jsonl", *reversed(rows)))
    assert first == second
    assert sorted(said(e)["en"] for e in first.values()) == ["one", "two"]


def test_a_file_whose_language_nothing_tells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing says which language"):
        read(lines(tmp_path / "prompts.jsonl", {"id": "a", "prompt": "one"}))
    lines(tmp_path / "f" / "en.jsonl", {"id": "a", "prompt": "one"})
    lines(tmp_path / "f" / "notes.jsonl", {"id": "a", "prompt": "one"})
    with pytest.raises(InputError, match=r"notes\.jsonl: the file's name tells no language"):
        read(tmp_path / "f")


def test_two_files_of_one_language_are_refused(tmp_path: Path) -> None:
    lines(tmp_path / "en_test.jsonl", {"id": "a", "prompt": "one"})
    lines(tmp_path / "en_train.jsonl", {"id": "b", "prompt": "two"})
    with pytest.raises(InputError, match=r"en_train\.jsonl and en_test\.jsonl are both in en"):
        read(tmp_path)


def test_alpaca_input_follows_the_instruction(tmp_path: Path) -> None:
    path = lines(tmp_path / "en.jsonl", {"id": "a", "instruction": "Sort.", "input": "3 1"})
    assert said(read(path)[0]["a"]) == {"en": "Sort.\n3 1"}
    assert said(read(path, text_key="instruction")[0]["a"]) == {"en": "Sort."}


def test_messages_are_read_as_they_are(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello"), user("Bye")]
    assert read(lines(tmp_path / "en.jsonl", {"id": "a", "messages": talk}))[0]["a"].prompts == {"en": talk}


def test_other_fields_go_along(tmp_path: Path) -> None:
    for tag, note in (("en", "x"), ("de", "y")):
        lines(tmp_path / f"{tag}.jsonl", {"id": 1, "query": tag, "response": "18", "note": note, "category": "maths"})
    examples, _ = read(tmp_path, gold_key="response")
    example = examples["1"]
    assert (example.gold, example.category, example.extra) == ("18", "maths", {"note": {"de": "y", "en": "x"}})


# --- columns -------------------------------------------------------------------------------------------------------


def test_one_column_a_language(tmp_path: Path) -> None:
    path = lines(tmp_path / "prompts.jsonl", {"id": "a", "en": "one", "Spanish": "uno", "zh-Hans": "一", "source": "s"})
    examples, summary = read(path)
    assert said(examples["a"]) == {"en": "one", "es": "uno", "zh-Hans": "一"}
    assert examples["a"].extra == {"source": "s"}
    assert summary.shape == "columns"


def test_prefixed_columns_prefer_the_prompt(tmp_path: Path) -> None:
    row = {"id": "a", "prompt_en": "one", "prompt_es": "uno", "answer_en": "1", "answer_es": "1"}
    path = lines(tmp_path / "prompts.jsonl", row)
    assert said(read(path)[0]["a"]) == {"en": "one", "es": "uno"}
    assert said(read(path, pattern="answer_{lang}")[0]["a"]) == {"en": "1", "es": "1"}


def test_columns_that_could_all_be_the_prompt_are_refused(tmp_path: Path) -> None:
    row = {"id": "a", "x_en": "one", "x_es": "uno", "y_en": "1", "y_es": "1"}
    with pytest.raises(InputError, match=r"x_\{lang\} or y_\{lang\}; say which with pattern"):
        read(lines(tmp_path / "prompts.jsonl", row))


def test_a_null_cell_is_a_missing_language_and_a_missing_column_an_error(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", {"id": "a", "en": "1", "es": "2"}, {"id": "b", "en": "1!", "es": None})
    examples, summary = read(path, require="pivot")
    assert said(examples["b"]) == {"en": "1!"}
    assert (summary.missing, summary.only) == ({"es": 1}, {"en": 1})
    with pytest.raises(InputError, match=r"p\.jsonl:2: es is missing"):
        read(lines(tmp_path / "p.jsonl", {"id": "a", "en": "1", "es": "2"}, {"id": "b", "en": "1"}))


# --- wire ----------------------------------------------------------------------------------------------------------

WIRE = {
    "id": "w",
    "prompts": {"en": "one", "es": "uno", "fr": "un"},
    "candidates": [
        {"id": "w/es/0", "lang": "es", "text": "1"},
        {"id": "w/en/0", "lang": "en", "text": "1", "parent": "w/es/0", "origin": "translated"},
        {"id": "w/fr/0", "lang": "fr", "text": "2"},
        {"id": "w/fr/1", "lang": "fr", "text": "3"},
    ],
    "pairs": [{"lang": "fr", "chosen": "w/fr/0", "rejected": "w/fr/1"}],
    "own": {"kept": [1, None]},
}


def test_the_wire_format_comes_back_unchanged(tmp_path: Path) -> None:
    examples, summary = read(lines(tmp_path / "w.jsonl", WIRE))
    assert examples["w"] == parse_example(WIRE)
    assert summary.shape == "wire"
    write_examples(tmp_path / "w.parquet", examples.values())
    assert read(tmp_path / "w.parquet")[0] == examples


def test_languages_select_and_answers_go_with_their_prompt(tmp_path: Path) -> None:
    """Without es its answer goes, and the English translation of that answer with it; fr's pair stays."""
    examples, summary = read(lines(tmp_path / "w.jsonl", WIRE), languages=("French",), pivot="en")
    assert [c.id for c in examples["w"].candidates] == ["w/fr/0", "w/fr/1"]
    assert set(examples["w"].prompts) == {"en", "fr"}
    assert summary.pairs == 1
    parse_example(to_json(examples["w"]))


def test_an_id_in_two_wire_files_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "f" / "1.jsonl", WIRE)
    lines(tmp_path / "f" / "2.jsonl", WIRE)
    with pytest.raises(InputError, match=r"'w' stands in 1\.jsonl and in 2\.jsonl"):
        read(tmp_path / "f")


# --- preferences ---------------------------------------------------------------------------------------------------


def pair_texts(example: Example) -> list[tuple[str, str, str]]:
    return [
        (pair.lang, example.candidate(pair.chosen).text, example.candidate(pair.rejected).text)
        for pair in example.pairs
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "good", "rejected": "bad"},
        {"prompt": [user("Hi")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        {"chosen": [user("Hi"), assistant("good")], "rejected": [user("Hi"), assistant("bad")]},
        {"prompt": "Hi", "chosen": [user("Hi"), assistant("good")], "rejected": [user("Hi"), assistant("bad")]},
        {"chosen": "Hi good", "rejected": "Hi bad"},
        {"instruction": "Hi", "input": "", "chosen": "good", "rejected": "bad"},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
    ],
    ids=["plain", "conversational", "implicit", "both", "plain-implicit", "alpaca", "sharegpt"],
)
def test_preference_rows_become_candidates_and_a_pair(tmp_path: Path, row: dict[str, object]) -> None:
    examples, summary = read(lines(tmp_path / "pairs.jsonl", {"id": "p", "language": "en"} | row))
    example = examples["p"]
    assert example.prompts == {"en": [user("Hi")]}
    assert pair_texts(example) == [("en", "good", "bad")]
    assert [c.origin for c in example.candidates] == ["human", "human"]
    assert (example.pairs[0].rule, example.pairs[0].score, summary.pairs) == ("given", None, 1)


def test_preferences_of_several_languages_meet_in_one_example(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "pairs.jsonl",
        {"id": "p", "language": "en", "prompt": "Hi", "chosen": "a", "rejected": "b"},
        {"id": "p", "language": "es", "prompt": "Hola", "chosen": "c", "rejected": "d"},
        {"id": "p", "language": "es", "prompt": "Hola", "chosen": "c", "rejected": "e"},
    )
    examples, _ = read(path)
    assert said(examples["p"]) == {"en": "Hi", "es": "Hola"}
    assert pair_texts(examples["p"]) == [("en", "a", "b"), ("es", "c", "d"), ("es", "c", "e")]
    assert len(examples["p"].candidates) == 5  # c once


def test_scores_of_a_row_are_kept(tmp_path: Path) -> None:
    """margin 2.5 is the row's own; where it has none, 8.5 − 7 = 1.5."""
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": 8.5, "score_rejected": 7}
    examples, _ = read(lines(tmp_path / "en.jsonl", row, {**row, "prompt": "Ho", "margin": 2.5}))
    by_prompt = {said(e)["en"]: e for e in examples.values()}
    assert [c.scores for c in by_prompt["Hi"].candidates] == [{"given": 8.5}, {"given": 7.0}]
    assert (by_prompt["Hi"].pairs[0].score, by_prompt["Hi"].pairs[0].margin) == ("given", 1.5)
    assert by_prompt["Ho"].pairs[0].margin == 2.5


def test_transcripts_that_part_early_are_dropped_with_the_reason(tmp_path: Path) -> None:
    chosen = [user("Hi"), assistant("a"), user("And?"), assistant("good")]
    rejected = [user("Hi"), assistant("b"), user("And?"), assistant("bad")]
    path = lines(
        tmp_path / "en.jsonl",
        {"id": "p", "chosen": chosen, "rejected": rejected},
        {"id": "q", "chosen": chosen, "rejected": [*chosen[:3], assistant("bad")]},
    )
    warnings: list[str] = []
    examples, summary = read(path, warnings)
    assert [(d.stage, d.reason, d.lang) for d in examples["p"].dropped] == [
        ("prompts", "diverges_before_last_turn", "en")
    ]
    assert examples["p"].prompts == {"en": [user("Hi")]}
    assert not examples["p"].pairs
    assert examples["q"].prompts == {"en": chosen[:3]}
    assert summary.dropped == {"diverges_before_last_turn": {"en": 1}}
    assert any("diverges_before_last_turn: en 1" in said for said in warnings)


def test_a_pair_of_equal_texts_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "chosen": "a", "rejected": "a"}, {"prompt": "Ho", "chosen": "a", "rejected": "b"}]
    _, summary = read(lines(tmp_path / "en.jsonl", *rows))
    assert (summary.pairs, summary.dropped) == (1, {"duplicate": {"en": 1}})


def test_alpaca_history_and_system_are_earlier_turns(tmp_path: Path) -> None:
    row = {"instruction": "Bye", "history": [["Hi", "Hello"]], "system": "Be brief.", "chosen": "a", "rejected": "b"}
    examples, _ = read(lines(tmp_path / "en.jsonl", {"id": "p"} | row))
    system = {"role": "system", "content": "Be brief."}
    assert examples["p"].prompts["en"] == [system, user("Hi"), assistant("Hello"), user("Bye")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Hi", "chosen": "a", "rejected": None}, "rejected is null; it must be a string"),
        ({"prompt": "Hi", "chosen": "a", "rejected": [assistant("b")]}, "must both be strings"),
        ({"prompt": [user("Hi")], "chosen": [user("a")], "rejected": [user("b")]}, "chosen must end with a message of"),
        ({"prompt": [assistant("Hi")], "chosen": "a", "rejected": "b"}, "prompt ends with a turn of 'assistant'"),
        ({"chosen": "\n\nH: Hi\n\nA: a", "rejected": "\n\nH: Hi\n\nA: b"}, "a transcript"),
        ({"chosen": "a", "rejected": "b"}, "prompt is missing"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": "8"}, 'score_chosen is "8"'),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "language": "xx-klingon"}, "'xx-klingon' is no language"),
        ({"conversations": [], "chosen": "a", "rejected": "b"}, "conversations is"),
        ({"conversations": [{"from": "human"}], "chosen": "a", "rejected": "b"}, r"conversations\[0\] must be a turn"),
        ({"instruction": "Hi", "chosen": {"from": "human", "value": "a"}, "rejected": "b"}, "chosen is a turn of 'us"),
        ({"prompt": "Ha", "chosen": [user("Hi"), assistant("a")], "rejected": [user("Hi"), assistant("b")]}, "no turn"),
    ],
)
def test_a_bad_preference_row_is_refused_with_its_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = lines(tmp_path / "pairs.jsonl", {"language": "en"} | row)
    with pytest.raises(InputError, match=rf"^pairs\.jsonl:1: .*{message}"):
        read(path)


# --- datasets ------------------------------------------------------------------------------------------------------


def test_a_datasets_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [
        {"id": "p", "language": "en", "prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"id": "q", "language": "es", "prompt": [user("Ho")], "chosen": [assistant("c")], "rejected": [assistant("d")]},
    ]
    lines(tmp_path / "set" / "train.jsonl", *rows)
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    for name in ("set", "saved"):
        examples, summary = read(tmp_path / name, shape="datasets")
        assert summary.shape == "preference"
        assert pair_texts(examples["p"]) == [("en", "a", "b")]
        assert examples["q"].prompts == {"es": [user("Ho")]}
    with pytest.raises(InputError, match=r"datasets cannot load .* split nosplit"):
        read(tmp_path / "set", shape="datasets", split="nosplit")


def test_a_subset_a_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for tag in ("en", "es"):
        lines(tmp_path / "set" / f"{tag}.jsonl", {"id": 1, "question": f"in {tag}"})
    configs = "".join(f"- config_name: {tag}\n  data_files: {tag}.jsonl\n" for tag in ("en", "es"))
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    examples, _ = read(tmp_path / "set", shape="datasets", subset="{lang}", languages=("es", "en"))
    assert said(examples["1"]) == {"en": "in en", "es": "in es"}


# --- what is wrong, and what is counted ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "prompt": "x"}\n{"id": "b", "prompt"', r"es\.jsonl:2: not JSON"),
        ('{"id": "a", "prompt": "x"}\n[1]', r"es\.jsonl:2: the row is no object"),
        ('{"id": "a", "prompt": "x"}\n\n{"prompt": "y"}', r"es\.jsonl:3: id is missing"),
        ('{"id": "a", "prompt": "x"}\n{"id": null, "prompt": "y"}', r"es\.jsonl:2: id is null"),
        ('{"id": "a", "prompt": "x"}\n{"id": true, "prompt": "y"}', r"es\.jsonl:2: id is true"),
        ('{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": 5}', r"es\.jsonl:2: prompt is 5"),
        (
            '{"id": "a", "prompt": "x"}\n{"id": "b", "promt": "y"}',
            r"es\.jsonl:2: prompt is missing; did you mean promt",
        ),
        (
            '{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}',
            r"es\.jsonl:2: id 'a' stands already at es\.jsonl:1",
        ),
        ('{"id": "a", "words": "x"}', r"es\.jsonl:1: no prompt found among the fields id, words"),
        ("", r"es\.jsonl is empty"),
        ("\n\n", r"es\.jsonl is empty"),
    ],
)
def test_a_bad_row_is_an_error_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "es.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "es.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("es.json", b'[\n{"id": 1, "prompt": "x"},\n{"id": 2, "prompt": \n]', r"es\.json:4: not JSON"),
        ("es.json", b'[\n{"id": 1, "prompt": "x"}\n{"id": 2}]', r"es\.json:3: not JSON \(a comma"),
        ("es.json", b'[\n{"id": 1, "prompt": "x"}', r"es\.json:2: not JSON"),
        ("es.json", b'[\n{"id": 1, "prompt": "x"}] 5', r"es\.json:2: something stands after"),
        ("es.json", b'[\n{"id": 1, "prompt": "x"},\n\n{"id": 2, "prompt": null}]', r"es\.json:4: prompt is null"),
        ("es.json", b'[{"id": 1, "prompt": NaN}]', r"es\.json:1: NaN is no JSON number"),
        ("es.json", b'[{"id": 1, "prompt": "\\ud800"}]', r"es\.json:1: a lone surrogate"),
        ("es.json", b'[{"id": 1},\n{"id": "\xff"}]', r"es\.json:2: not UTF-8"),
        ("es.csv", b"id,prompt\n1,x\n2,x,y\n", r"es\.csv:3: the row has not 2 fields"),
        ("es.csv", b"id,prompt\n1,x\n2\n", r"es\.csv:3: the row has not 2 fields"),
        ("es.parquet", b"PAR1", r"es\.parquet: not a whole Parquet file"),
        ("es.jsonl.gz", b"plain", r"es\.jsonl\.gz: not a whole gzip file"),
        ("es.json.gz", b"plain", r"es\.json\.gz: not a whole gzip file"),
        ("es.txt", b"Hola", r"es\.txt is of no known kind"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"org/name does not exist; .* shape: datasets"):
        read("org/name")
    with pytest.raises(InputError, match="holds no data file"):
        read(tmp_path)
    lines(tmp_path / "en.jsonl", {"id": 1, "prompt": "one"})
    with pytest.raises(InputError, match=r"no file of .* is called p_\{lang\}\.jsonl; there are en\.jsonl"):
        read(tmp_path, pattern="p_{lang}.jsonl")
    with pytest.raises(InputError, match=r"must hold \{lang\} once"):
        read(tmp_path, pattern="en.jsonl")
    with pytest.raises(InputError, match="no prompts in sw; it has en"):
        read(tmp_path, languages=("sw",))
    with pytest.raises(ValidationError, match="'xx-klingon' is no language"):
        PromptOptions(path="x", languages=("xx-klingon",))


def test_everything_left_out_is_counted(tmp_path: Path) -> None:
    """By hand: ids a b c d e. en has a a(again) b c(blank) d, es has a b c e; b and d have one English text.
    Missing are in en e (c is told as blank), in es d; en alone has d, es alone e; complete are a and b."""
    en = [("a", "one"), ("a", "one"), ("b", "two"), ("c", " \n"), ("d", "two")]
    lines(tmp_path / "en.jsonl", *({"id": key, "prompt": text} for key, text in en))
    lines(tmp_path / "es.jsonl", *({"id": key, "prompt": f"es {key}"} for key in "abce"))
    warnings: list[str] = []
    examples, summary = read(tmp_path, warnings)
    assert set(examples) == {"a", "b"}
    assert summary == PromptSummary(
        shape="per_language",
        languages=("en", "es"),
        examples=2,
        ids=5,
        incomplete=3,
        read={"en": 3, "es": 4},
        missing={"en": 1, "es": 1},
        only={"en": 1, "es": 1},
        empty={"en": 1},
        duplicates={"en": 1},
        same_text={"en": 1},
        dropped={"empty_prompt": {"en": 1}},
        places={"empty_prompt": ("en.jsonl:4",), "repeated": ("en.jsonl:2",)},
    )
    assert "rows that repeat an earlier one: en 1 (en.jsonl:2)" in summary.remarks()
    assert len(warnings) == len(summary.remarks()) == 6
    with_pivot, _ = read(tmp_path, require="pivot", pivot="es")
    assert set(with_pivot) == set("abce")
    assert [(d.stage, d.reason, d.lang) for d in with_pivot["c"].dropped] == [("prompts", "empty_prompt", "en")]


def test_languages_that_share_no_id_are_refused(tmp_path: Path) -> None:
    lines(tmp_path / "en.jsonl", {"id": "en-1", "prompt": "one"})
    lines(tmp_path / "es.jsonl", {"id": "es-1", "prompt": "uno"})
    with pytest.raises(InputError, match="share no ids"):
        read(tmp_path)


# --- subsets -------------------------------------------------------------------------------------------------------


@given(st.sets(st.text(min_size=1), min_size=1, max_size=30), st.integers(), st.integers(0, 30), st.randoms())
def test_a_smaller_subset_is_the_beginning_of_a_larger(
    ids: set[str], seed: int, limit: int, shuffler: random.Random
) -> None:
    examples = [Example(key, {"en": [user(key)]}) for key in sorted(ids)]
    whole = subset(examples, None, seed)
    assert sorted(e.id for e in whole) == sorted(ids)
    shuffler.shuffle(examples)
    assert subset(examples, limit, seed) == whole[:limit]


def test_the_seed_chooses_the_subset(tmp_path: Path) -> None:
    path = lines(tmp_path / "en.jsonl", *({"id": k, "prompt": str(k)} for k in range(200)))
    subsets = {seed: set(read(path, limit=20, seed=seed)[0]) for seed in (0, 1)}
    assert all(len(found) == 20 for found in subsets.values())
    assert subsets[0] != subsets[1]
    warnings: list[str] = []
    assert len(read(path, warnings, limit=300)[0]) == 200
    assert any("300 prompts asked for, 200 there" in said for said in warnings)


# --- overlap -------------------------------------------------------------------------------------------------------


def example(key: str, **prompts: str) -> Example:
    return Example(key, {tag: [user(text)] for tag, text in prompts.items()})


def test_overlap_is_found_by_id_and_by_text_in_any_language() -> None:
    train = [example("1", en="One"), example("2", en="two", es="¿Qué  es\nesto?"), example("3", en="ＴＨＲＥＥ")]
    evaluation = [example("1", en="uno"), example("9", en="x", es="¿qué es esto? "), example("8", de="three")]
    overlap = find_overlap(train, evaluation)
    assert overlap.ids == ("1",)
    assert [(t.train_id, t.train_lang, t.evaluation_id, t.evaluation_lang) for t in overlap.texts] == [
        ("2", "es", "9", "es"),
        ("3", "en", "8", "de"),
    ]
    assert overlap.train_ids == {"1", "2", "3"}
    assert not find_overlap(train, [example("7", en="else", fr="")])


def test_a_system_message_does_not_hide_an_overlap() -> None:
    train = [Example("1", {"en": [{"role": "system", "content": "Be brief."}, user("Hi")]})]
    assert find_overlap(train, [example("2", en="hi")]).train_ids == {"1"}


def test_overlap_is_refused_with_counts_cases_and_the_fix_unless_allowed() -> None:
    train, evaluation = [example("1", en="One"), example("2", en="Two")], [example("1", en="One")]
    with pytest.raises(
        InputError,
        match=r"^1 training prompts are also evaluated on \(1 by id, 1 by text\), such as 1 \(en\) and 1 \(en\): 'one'"
        r"\. Remove them .* allow_overlap: true$",
    ):
        refuse_overlap(train, evaluation)
    with pytest.raises(InputError, match=r"such as id '1'\. .*no text is shared: if these ids only count rows"):
        refuse_overlap(train, [example("1", en="else")])
    assert refuse_overlap(train, evaluation, allow=True).ids == ("1",)
    assert not refuse_overlap([train[1]], evaluation)


@given(st.text())
def test_normalisation_is_idempotent_and_blind_to_space_and_case(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert normalise_text(f"\t{text}  ") == once


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "tag"),
    [
        ("es", "es"), ("deu_Latn", "de"), ("zh_Hans", "zh-Hans"), ("pt-BR", "pt-BR"), ("Swahili", "sw"), ("yue", "yue"),
        ("ceb", "ceb"), ("dev", None), ("all", None), ("key", None), ("labels", None), ("prompt", None),
    ],
)  # fmt: skip
def test_only_plain_languages_are_recognised(word: str, tag: str | None) -> None:
    assert recognise(word) == tag


@pytest.mark.parametrize(
    ("stem", "tag"),
    [
        ("es", "es"), ("prompts_es", "es"), ("es_prompts", "es"), ("mgsm-test-sw", "sw"), ("uf_zh_Hans", "zh-Hans"),
        ("zh-Hans.test", "zh-Hans"), ("train", None), ("data", None), ("en_prompts_fr", None),
    ],
)  # fmt: skip
def test_the_language_in_a_file_name(stem: str, tag: str | None) -> None:
    assert language_in_name(stem) == tag


# --- real data -----------------------------------------------------------------------------------------------------


@real_data
def test_real_ultrafeedback_and_x_alpacaeval_share_nothing() -> None:
    train, summary = read(DATA / "prompts" / "ultrafeedback_1000")
    assert summary.read == dict.fromkeys(["bn", "de", "en", "es", "fr", "ru", "sw", "th", "zh"], 1000)
    assert (summary.examples, summary.remarks()) == (1000, [])
    evaluation, summary = read(DATA / "prompts" / "x_alpacaeval")
    assert set(summary.read.values()) == {805}
    assert (len(summary.read), summary.examples) == (13, 805)
    assert not refuse_overlap(train.values(), evaluation.values())
    assert len(find_overlap(train.values(), train.values()).ids) == 1000


@real_data
def test_real_lidr_prompts_and_mgsm_are_read() -> None:
    lidr, _ = read(DATA / "lidr" / "alpagasus_0_1000")
    assert (len(lidr), set(lidr["alpagasus-0"].prompts)) == (1000, {"en", "fr"})
    mgsm, summary = read(DATA / "mgsm", id_key="position", gold_key="response")
    assert (len(mgsm), len(summary.languages)) == (250, 11)
    assert mgsm["1"].gold == "18"
    assert said(mgsm["1"])["en"].startswith("Janet’s ducks")


# --- the page --------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")
SAMPLES = {
    heading: dict(re.findall(r"```json (\S+)\n(.*?)```", body, flags=re.DOTALL))
    for heading, body in re.findall(r"^## `(\w+)`\n(.*?)(?=^## )", PAGE, flags=re.DOTALL | re.MULTILINE)
}


@pytest.mark.parametrize(
    "shape", ["wire", "per_language", "columns", "preference", "hh", "ranking", "pointwise", "labelled"]
)
def test_the_samples_of_the_page_are_read_as_it_says(tmp_path: Path, shape: str) -> None:
    for name, text in SAMPLES[shape].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = tmp_path if len(SAMPLES[shape]) > 1 else tmp_path / next(iter(SAMPLES[shape]))
    examples, summary = read(path, require="any")
    assert summary.shape == shape
    assert len(examples) == (1 if shape == "ranking" else 2)
    assert summary.languages == (("en",) if shape in ("hh", "ranking", "pointwise", "labelled") else ("en", "es"))
    assert summary.pairs == {"preference": 3, "hh": 2, "ranking": 1}.get(shape, 0)
    assert summary.labels == {"pointwise": 3, "labelled": 7}.get(shape, 0)


@pytest.mark.parametrize(
    ("shape", "name", "options", "told"),
    [
        ("sft", "demonstrations_en.jsonl", {}, (2, 2, 0, 0)),
        ("sft", "alpaca_en.jsonl", {"demonstrations": True}, (1, 1, 0, 0)),
        ("oasst", "trees.jsonl", {}, (1, 2, 1, 0)),
        ("oasst", "messages.jsonl", {}, (1, 2, 1, 0)),
        ("oasst", "messages.jsonl", {"demonstrations": True}, (1, 1, 0, 0)),
        ("seahorse", "rated.jsonl", {"label_key": "question4"}, (1, 1, 0, 1)),
    ],
)
def test_the_pages_samples_of_answers_are_read_as_it_says(
    tmp_path: Path, shape: str, name: str, options: dict, told: tuple[int, int, int, int]
) -> None:
    """Examples, candidates, pairs and labels."""
    (tmp_path / name).write_text(SAMPLES[shape][name], encoding="utf-8")
    examples, summary = read(tmp_path / name, **options)
    candidates = sum(len(example.candidates) for example in examples.values())
    assert (summary.shape, summary.languages) == (shape, ("en",))
    assert (len(examples), candidates, summary.pairs, summary.labels) == told


def test_the_pages_objectives_are_read_one_by_one(tmp_path: Path) -> None:
    [sample] = re.findall(r"```json objectives.jsonl\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path / "objectives.jsonl"
    path.write_text(sample, encoding="utf-8")
    found = {key: read(path, label_key=key, pair_labels=True)[1] for key in ("helpful", "harmless")}
    assert {key: (summary.labels, summary.pairs) for key, summary in found.items()} == {
        "helpful": (2, 1),
        "harmless": (1, 0),
    }
