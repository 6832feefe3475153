"""Reading answers with what people say of them: pairs, transcripts, labels, benchmarks; no text meets another row's."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Example, parse_example, to_json
from polypref.stages.prompt_files import recognise
from polypref.stages.prompts import PromptOptions, PromptSummary, read_prompts

DATA = Path(os.environ.get("POLYPREF_DATA", Path(__file__).parents[3] / "shared" / "data"))
Row = dict[str, Any]


def read(path: object, **options: Any) -> tuple[dict[str, Example], PromptSummary]:
    context = Context(open=lambda role, spec: None, warn=lambda said: None)
    examples, summary = read_prompts(PromptOptions(path=str(path), **options), context)
    for example in examples:  # whatever the shape, the outcome is the wire format's
        assert parse_example(json.loads(json.dumps(to_json(example)))) == example
    return {example.id: example for example in examples}, summary


def lines(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def pair_texts(example: Example) -> list[tuple[str, str, str]]:
    return [(p.lang, example.candidate(p.chosen).text, example.candidate(p.rejected).text) for p in example.pairs]


def labels(example: Example) -> list[tuple[str, str, Any]]:
    return [(c.lang, c.text, c.label) for c in example.candidates]


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


GOOD = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}
"""A row without fault; in front of another it shows that the line told is the other's."""


# --- transcripts in one string -------------------------------------------------------------------------------------


def test_transcripts_are_conversations_and_their_last_turns_a_pair(tmp_path: Path) -> None:
    """White space around a turn is none of its text; a speaker's name inside a line is."""
    row = {
        "chosen": "\n\nHuman: Hi \n\nAssistant: Hello\n\nHuman: Say Human: once.\n\nAssistant: Yes.\n\nSure.",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Say Human: once.\n\nAssistant:  No.",
    }
    examples, summary = read(lines(tmp_path / "en.jsonl", row))
    [example] = examples.values()
    assert summary.shape == "hh"
    assert example.prompts["en"] == [user("Hi"), assistant("Hello"), user("Say Human: once.")]
    assert pair_texts(example) == [("en", "Yes.\n\nSure.", "No.")]
    assert (example.pairs[0].rule, {c.origin for c in example.candidates}) == ("given", {"human"})


def test_a_transcript_may_stand_apart_from_its_answers(tmp_path: Path) -> None:
    """As in hh-rlhf's copies that have a prompt column: it ends where the answer begins."""
    row = {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Hello.", "rejected": " What?"}
    whole = {key: row["prompt"] + row[key] for key in ("chosen", "rejected")}
    first, summary = read(lines(tmp_path / "en.jsonl", row))
    assert summary.shape == "hh"
    assert first == read(lines(tmp_path / "en.jsonl", whole))[0]
    assert first == read(lines(tmp_path / "en.jsonl", row | whole))[0]


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("\n\nHuman: Hi\n\nAssistant: a\n\nAssistant: b", "\n\nHuman: Hi\n\nAssistant: c", "role_order"),
        ("\n\nHuman: Hi\n\nHuman: you\n\nAssistant: b", "\n\nHuman: Hi\n\nHuman: you\n\nAssistant: c", "role_order"),
        ("\n\nAssistant: Hi\n\nHuman: you\n\nAssistant: b", "\n\nHuman: you\n\nAssistant: c", "role_order"),
        ("\n\nHuman: Hi\n\nAssistant: a\n\nHuman: you", "\n\nHuman: Hi\n\nAssistant: c", "role_order"),
        ("\n\nHuman: Hi\n\nAssistant: \n", "\n\nHuman: Hi\n\nAssistant: c", "empty_turn"),
        (
            "\n\nHuman: Hi\n\nAssistant:\n\nHuman: ?\n\nAssistant: b",
            "\n\nHuman: Hi\n\nAssistant:\n\nHuman: ?\n\nAssistant: c",
            "empty_turn",
        ),
        (
            "\n\nHuman: Hi\n\nAssistant: a\n\nHuman: ?\n\nAssistant: b",
            "\n\nHuman: Hi\n\nAssistant: c\n\nHuman: ?\n\nAssistant: d",
            "diverges_before_last_turn",
        ),
        ("\n\nHuman: Hi\n\nAssistant: a", "\n\nHuman: Hi\n\nAssistant: a ", "duplicate"),
    ],
)
def test_a_transcript_that_makes_no_pair_is_dropped_and_its_line_told(
    tmp_path: Path, chosen: str, rejected: str, reason: str
) -> None:
    good = {"chosen": "\n\nHuman: Ho\n\nAssistant: a", "rejected": "\n\nHuman: Ho\n\nAssistant: b"}
    examples, summary = read(lines(tmp_path / "en.jsonl", good, {"chosen": chosen, "rejected": rejected}))
    assert (summary.pairs, summary.dropped, summary.places) == (1, {reason: {"en": 1}}, {reason: ("en.jsonl:2",)})
    assert f"dropped, {reason}: en 1 (en.jsonl:2)" in summary.remarks()
    assert all(pair_texts(example) in ([("en", "a", "b")], []) for example in examples.values())


def test_what_is_no_transcript_among_transcripts_is_refused(tmp_path: Path) -> None:
    good = {"chosen": "\n\nHuman: Ho\n\nAssistant: a", "rejected": "\n\nHuman: Ho\n\nAssistant: b"}
    with pytest.raises(InputError, match=r"^en\.jsonl:2: rejected is no transcript"):
        read(lines(tmp_path / "en.jsonl", good, {**good, "rejected": "b"}))


def test_a_dialogue_asked_for_is_no_transcript(tmp_path: Path) -> None:
    row = {"prompt": "Write a dialogue.", "chosen": "Human: Hi\n\nAssistant: Hello", "rejected": "No."}
    examples, summary = read(lines(tmp_path / "en.jsonl", row))
    assert summary.shape == "preference"
    assert [pair_texts(e) for e in examples.values()] == [[("en", row["chosen"], "No.")]]


# --- what is wrong with a preference -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Hi", "chosen": "a"}, "rejected is missing"),
        ({"prompt": "Hi", "chosen": "a", "rejected": None}, "rejected is null"),
        ({"prompt": "Hi", "chosen": ["a"], "rejected": ["b"]}, r"chosen\[0\] must be a message"),
        ({"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": []}, "rejected must end with a message of"),
        ({"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": None}, "must both be strings"),
    ],
)
def test_a_rejected_answer_that_is_missing_is_refused_with_its_line(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(InputError, match=rf"^en\.jsonl:2: .*{message}"):
        read(lines(tmp_path / "en.jsonl", GOOD, row))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Ho", "chosen": "a", "rejected": " \n"}, "empty_turn"),
        ({"prompt": "Ho", "chosen": "", "rejected": "b"}, "empty_turn"),
        (
            {
                "prompt": [user("Ho"), assistant(" "), user("?")],
                "chosen": [assistant("a")],
                "rejected": [assistant("b")],
            },
            "empty_turn",
        ),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "empty_prompt"),
        ({"prompt": "Ho", "chosen": "a", "rejected": "a"}, "duplicate"),
        ({"prompt": [user("Ho"), user("!")], "chosen": "a", "rejected": "b"}, "role_order"),
        ({"prompt": [assistant("Ho"), user("!")], "chosen": "a", "rejected": "b"}, "role_order"),
        (
            {"chosen": [user("Ho"), assistant("?"), assistant("a")], "rejected": [user("Ho"), assistant("b")]},
            "role_order",
        ),
    ],
)
def test_a_preference_that_teaches_nothing_is_dropped_and_its_line_told(tmp_path: Path, row: Row, reason: str) -> None:
    examples, summary = read(lines(tmp_path / "en.jsonl", GOOD, row))
    assert (summary.dropped, summary.places) == ({reason: {"en": 1}}, {reason: ("en.jsonl:2",)})
    assert any("(en.jsonl:2)" in said for said in summary.remarks())
    assert [pair for example in examples.values() for pair in pair_texts(example)] == [("en", "Hello!", "What?")]
    prompts = [example.prompts["en"] for example in examples.values()]
    assert all(prompt in ([user("Hi")], [user("Ho")]) for prompt in prompts)  # one that is at fault itself goes too


def test_a_system_message_may_be_empty_and_tools_may_speak_between(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": ""}, user("Hi"), assistant("look"), {"role": "tool", "content": "1"}]
    row = {"prompt": [*prompt, assistant("?"), user("And?")], "chosen": "a", "rejected": "b"}
    _, summary = read(lines(tmp_path / "en.jsonl", row))
    assert (summary.pairs, summary.dropped) == (1, {})


def test_only_the_first_places_of_many_are_told(tmp_path: Path) -> None:
    bad = [{"prompt": f"Ho {n}", "chosen": "a", "rejected": ""} for n in range(5)]
    _, summary = read(lines(tmp_path / "en.jsonl", GOOD, *bad))
    assert "dropped, empty_turn: en 5 (en.jsonl:2, en.jsonl:3, en.jsonl:4, …)" in summary.remarks()


# --- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        (True, True), (False, False), (1, True), (0, False), (0.25, 0.25), ("good", True), ("Bad", False),
        ("chosen", True), ("rejected", False), ("right", True), ("wrong", False), ("true", True), ("0", False),
        ("0.5", 0.5),
    ],
)  # fmt: skip
def test_a_label_is_a_truth_value_or_a_number(tmp_path: Path, label: object, wanted: bool | float) -> None:
    row = {"prompt": "Hi", "completion": "a", "label": label}
    examples, summary = read(lines(tmp_path / "en.jsonl", row))
    [example] = examples.values()
    assert labels(example) == [("en", "a", wanted)]
    assert isinstance(example.candidates[0].label, type(wanted))
    assert (summary.shape, summary.labels, summary.pairs, example.pairs) == ("pointwise", 1, 0, [])


@pytest.mark.parametrize("label", [2, -0.1, "perhaps", None, [1], "nan", "inf"])
def test_another_label_is_refused_with_its_line(tmp_path: Path, label: object) -> None:
    rows = [{"prompt": "Hi", "completion": "a", "label": label} for label in (True, label)]
    with pytest.raises(InputError, match=r"^en\.jsonl:2: label is .*a number from 0 to 1"):
        read(lines(tmp_path / "en.jsonl", *rows))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "completion": "a"},
        {"prompt": [user("Hi")], "completion": [assistant("a")]},
        {"completion": [user("Hi"), assistant("a")]},
        {"prompt": "Hi", "completion": [user("Hi"), assistant("a")]},
    ],
    ids=["plain", "conversational", "implicit", "both"],
)
def test_every_kind_of_pointwise_row_gives_the_same(tmp_path: Path, row: Row) -> None:
    examples, _ = read(lines(tmp_path / "en.jsonl", {"id": "p", "label": True} | row))
    assert examples["p"].prompts == {"en": [user("Hi")]}
    assert labels(examples["p"]) == [("en", "a", True)]


def test_answers_to_one_prompt_meet_in_one_example_and_repetitions_are_counted(tmp_path: Path) -> None:
    said = [("a", True), ("b", False), ("a", True), ("a", False)]
    rows = [{"prompt": "Hi", "completion": text, "label": label} for text, label in said]
    examples, summary = read(lines(tmp_path / "en.jsonl", *rows))
    [example] = examples.values()
    assert labels(example) == [("en", "a", True), ("en", "b", False), ("en", "a", False)]
    assert summary.duplicates == {"en": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Ho", "completion": None, "label": True}, "completion is null"),
        ({"prompt": "Ho", "label": True}, "completion is missing"),
        ({"prompt": "Ho", "completion": "a"}, "label is missing"),
        ({"completion": [assistant("a")], "label": True}, "prompt is missing"),
        ({"prompt": "Ho", "completion": [user("a")], "label": True}, "completion must end with a message of"),
        ({"prompt": "Ho", "completion": [user("Hi"), assistant("a")], "label": True}, "is not how completion begins"),
    ],
)
def test_a_pointwise_row_that_lacks_something_is_refused_with_its_line(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(InputError, match=rf"^en\.jsonl:2: .*{message}"):
        read(lines(tmp_path / "en.jsonl", {"prompt": "Hi", "completion": "a", "label": True}, row))


def test_a_pointwise_row_that_says_nothing_is_dropped(tmp_path: Path) -> None:
    rows = [{"prompt": f"Hi {n}", "completion": text, "label": True} for n, text in enumerate(("a", " "))]
    _, summary = read(lines(tmp_path / "en.jsonl", *rows))
    assert (summary.labels, summary.places) == (1, {"empty_turn": ("en.jsonl:2",)})


# --- benchmarks, with the columns that they have -------------------------------------------------------------------


def rewardbench(subset: str, number: int, **more: Any) -> Row:
    """allenai/reward-bench: strings, and an int64 id."""
    texts = {key: f"{key} {subset} {number}" for key in ("prompt", "chosen", "rejected")}
    return texts | {"chosen_model": "m", "rejected_model": "n", "subset": subset, "id": number} | more


def rewardbench_2(subset: str, item: str, right: int = 1, wrong: int = 3, **more: Any) -> Row:
    """allenai/reward-bench-2: lists of answers, a string as id."""
    return {
        "id": item,
        "prompt": f"prompt {subset} {item}",
        "chosen": [f"right {n} {item}" for n in range(right)],
        "rejected": [f"wrong {n} {item}" for n in range(wrong)],
        "num_correct": right,
        "num_incorrect": wrong,
        "total_completions": right + wrong,
        "models": ["m"],
        "subset": subset,
        "additional_metadata": {"category": None},
    } | more


def parquet(path: Path, *rows: Row) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def test_rewardbench_is_read_as_it_is_published(tmp_path: Path) -> None:
    """Its ids count each subset anew, so they follow their subset; nothing says that it is English, the pivot."""
    rows = [rewardbench("hep-cpp", 0), rewardbench("hep-rust", 0), rewardbench("hep-rust", 1)]
    examples, summary = read(parquet(tmp_path / "filtered-00000-of-00001.parquet", *rows))
    assert set(examples) == {"hep-cpp/0", "hep-rust/0", "hep-rust/1"}
    assert pair_texts(examples["hep-rust/0"]) == [("en", "chosen hep-rust 0", "rejected hep-rust 0")]
    assert examples["hep-rust/0"].extra == {"subset": "hep-rust", "chosen_model": "m", "rejected_model": "n"}
    assert (summary.shape, summary.id_field, summary.assumed, summary.pairs) == ("preference", "subset", "en", 3)
    assert "one id names several items, so ids follow their subset, as in subset/id" in summary.remarks()
    assert any("they are read as en, the pivot" in said for said in summary.remarks())


def test_one_prompt_in_two_subsets_is_two_items(tmp_path: Path) -> None:
    rows = [rewardbench(subset, 0, prompt="Hi") for subset in ("alpacaeval-easy", "alpacaeval-length")]
    examples, _ = read(lines(tmp_path / "en.jsonl", *rows))
    assert set(examples) == {"alpacaeval-easy/0", "alpacaeval-length/0"}


def test_ids_that_tell_items_apart_stay_as_they_are(tmp_path: Path) -> None:
    examples, summary = read(lines(tmp_path / "en.jsonl", rewardbench("a", 0), rewardbench("b", 1)))
    assert (set(examples), summary.id_field) == ({"0", "1"}, None)


def test_one_prompt_with_two_lists_of_answers_is_two_items(tmp_path: Path) -> None:
    rows = [rewardbench_2("x", "1", right=right, prompt="Hi", source=source) for right, source in ((1, "a"), (2, "b"))]
    rows = [{key: value for key, value in row.items() if key != "subset"} for row in rows]
    examples, summary = read(lines(tmp_path / "en.jsonl", *rows))
    assert {key: len(example.candidates) for key, example in examples.items()} == {"a/1": 4, "b/1": 5}
    assert summary.id_field == "source"


def test_an_id_twice_in_a_subset_is_refused(tmp_path: Path) -> None:
    rows = [rewardbench("a", 0), rewardbench("b", 0), rewardbench("a", 0, prompt="another")]
    with pytest.raises(InputError, match=r"^en\.jsonl:2: id '0' stands already at en\.jsonl:1"):
        read(lines(tmp_path / "en.jsonl", *rows))


M_REWARDBENCH = {"arb_Arab": "ar", "deu_Latn": "de", "zho_Hans": "zh-Hans", "zho_Hant": "zh-Hant"}
"""How M-RewardBench calls a language's folder, and the language."""


def m_rewardbench(lang: str, source: str, number: int, **more: Any) -> Row:
    row = rewardbench(source, number)
    texts = {key: f"{row[key]} in {lang}" for key in ("prompt", "chosen", "rejected")}
    rest = {"source": source, "category": "Reasoning", "chosen_model": "m", "rejected_model": "n"}
    return {"id": number, "language": lang} | texts | rest | more


def m_rewardbench_rows(lang: str) -> list[Row]:
    return [m_rewardbench(lang, source, number) for source in ("hep-cpp", "hep-rust") for number in range(2)]


@pytest.mark.parametrize("layout", ["folders", "files", "one file"])
def test_m_rewardbench_joins_its_languages(tmp_path: Path, layout: str) -> None:
    """Four items (two numbers in two sources), each in four languages; the languages are those of its own column."""
    path = tmp_path / "set"
    if layout == "one file":
        path = parquet(
            path / "test.parquet", *(row for tag in M_REWARDBENCH.values() for row in m_rewardbench_rows(tag))
        )
    else:
        for folder, tag in M_REWARDBENCH.items():
            name = f"{folder}/test-00000-of-00001.parquet" if layout == "folders" else f"{folder}.parquet"
            parquet(path / name, *m_rewardbench_rows(tag))
    examples, summary = read(path)
    assert set(examples) == {"hep-cpp/0", "hep-cpp/1", "hep-rust/0", "hep-rust/1"}
    assert summary.read == dict.fromkeys(("ar", "de", "zh-Hans", "zh-Hant"), 4)
    example = examples["hep-rust/1"]
    assert example.category == "Reasoning"
    assert ("de", "chosen hep-rust 1 in de", "rejected hep-rust 1 in de") in pair_texts(example)
    assert all(
        chosen.endswith(f"in {lang}") and rejected.endswith(f"in {lang}")
        for lang, chosen, rejected in pair_texts(example)
    )


def test_mm_eval_is_read_and_its_languages_can_be_kept_apart(tmp_path: Path) -> None:
    """Most of MM-Eval is not parallel: with parallel: false an id of two languages is two items."""
    rows = [rewardbench("chat", 7, language=tag, prompt=f"in {tag}", __index_level_0__=7) for tag in ("ko", "sw")]
    path = parquet(tmp_path / "test-00000-of-00001.parquet", *rows)
    examples, summary = read(path)
    assert (set(examples), summary.languages) == ({"7"}, ("ko", "sw"))
    examples, summary = read(path, parallel=False)
    assert set(examples) == {"ko/7", "sw/7"}
    assert (set(examples["sw/7"].prompts), summary.remarks()) == ({"sw"}, [])


def test_rewardbench_2_becomes_labels_never_pairs(tmp_path: Path) -> None:
    rows = [rewardbench_2("Math", "1"), rewardbench_2("Ties", "ref:1", right=3, wrong=9)]
    examples, summary = read(parquet(tmp_path / "test-00000-of-00001.parquet", *rows))
    assert (summary.shape, summary.pairs, summary.labels) == ("labelled", 0, 16)
    assert labels(examples["1"]) == [("en", "right 0 1", True), *(("en", f"wrong {n} 1", False) for n in range(3))]
    assert Counter(label for _, _, label in labels(examples["ref:1"])) == {True: 3, False: 9}
    assert (examples["1"].extra["subset"], examples["1"].extra["num_correct"]) == ("Math", 1)


def test_wrong_answers_that_read_the_same_count_each(tmp_path: Path) -> None:
    row = rewardbench_2("Math", "1", rejected=["no", "no", "never"])
    examples, _ = read(lines(tmp_path / "en.jsonl", row))
    assert [text for _, text, label in labels(examples["1"]) if not label] == ["no", "no", "never"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"chosen": ["no"], "rejected": ["no", "b", "c"]}, "duplicate"), ({"rejected": ["a", " ", "c"]}, "empty_turn")],
)
def test_a_labelled_row_that_contradicts_itself_or_says_nothing_is_dropped(
    tmp_path: Path, more: Row, reason: str
) -> None:
    _, summary = read(lines(tmp_path / "en.jsonl", rewardbench_2("Math", "1"), rewardbench_2("Math", "2") | more))
    assert (summary.labels, summary.places) == (4, {reason: ("en.jsonl:2",)})


@pytest.mark.parametrize("rejected", [None, [], "b", [None], [["b"]]])
def test_a_labelled_row_without_wrong_answers_is_refused_with_its_line(tmp_path: Path, rejected: object) -> None:
    rows = [rewardbench_2("Math", "1"), rewardbench_2("Math", "2", rejected=rejected)]
    with pytest.raises(InputError, match=r"^en\.jsonl:2: rejected is .* a list of at least one answer"):
        read(lines(tmp_path / "en.jsonl", *rows))


def test_an_id_has_one_list_of_answers(tmp_path: Path) -> None:
    rows = [rewardbench_2("Math", "1"), rewardbench_2("Math", "1", rejected=["others"])]
    with pytest.raises(InputError, match=r"^en\.jsonl:2: id '1' stands already at en\.jsonl:1 with other answers"):
        read(lines(tmp_path / "en.jsonl", *rows))
    _, summary = read(lines(tmp_path / "en.jsonl", rows[0], rows[0]))
    assert (summary.labels, summary.duplicates) == (4, {"en": 1})


# --- languages -----------------------------------------------------------------------------------------------------


def test_a_row_in_another_language_than_its_file_is_refused(tmp_path: Path) -> None:
    rows = [GOOD | {"id": 1, "language": "es"}, GOOD | {"id": 2, "language": "en"}]
    with pytest.raises(InputError, match=r"^pairs_es\.jsonl:2: language is 'en', but the file's name says es"):
        read(lines(tmp_path / "pairs_es.jsonl", *rows))


def test_a_column_that_names_no_language_goes_along(tmp_path: Path) -> None:
    examples, _ = read(lines(tmp_path / "en.jsonl", GOOD | {"id": 1, "language": "python"}))
    assert examples["1"].extra == {"language": "python"}


def test_nothing_is_assumed_of_a_file_that_could_be_in_other_languages(tmp_path: Path) -> None:
    path = lines(tmp_path / "pairs.jsonl", GOOD)
    assert read(path, pivot="fr")[1].languages == ("fr",)
    with pytest.raises(InputError, match="nothing says which language"):
        read(path, languages=("es", "de"))


def test_parallel_is_for_rows_of_one_language(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="parallel: false is for rows of one language each"):
        PromptOptions(path="x", shape="columns", parallel=False)
    with pytest.raises(InputError, match="leave parallel out"):
        read(lines(tmp_path / "p.jsonl", {"id": 1, "prompts": {"en": "Hi"}}), parallel=False)


def test_folders_that_hold_several_files_a_language_need_a_pattern(tmp_path: Path) -> None:
    for name in ("raw.json", "filtered.json"):
        lines(tmp_path / "set" / "deu_Latn" / name, GOOD | {"id": 1})
    with pytest.raises(InputError, match=r"filtered\.json, raw\.json; say which to read with pattern: \{lang\}/"):
        read(tmp_path / "set")
    assert read(tmp_path / "set", pattern="{lang}/raw.json")[1].languages == ("de",)


def test_a_fault_in_a_language_folder_is_told_with_the_folder(tmp_path: Path) -> None:
    for folder in ("deu_Latn", "spa_Latn"):
        lines(tmp_path / "set" / folder / "test.jsonl", GOOD | {"id": 1}, GOOD | {"id": 2, "rejected": ""})
    for options in ({}, {"pattern": "{lang}/test.jsonl"}):
        _, summary = read(tmp_path / "set", **options)
        assert summary.places == {"empty_turn": ("deu_Latn/test.jsonl:2", "spa_Latn/test.jsonl:2")}


def test_a_configuration_is_found_however_it_spells_its_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for folder, tag in M_REWARDBENCH.items():
        parquet(tmp_path / "set" / folder / "test.parquet", *m_rewardbench_rows(tag))
    names = "".join(f"- config_name: {f}\n  data_files: {f}/test.parquet\n" for f in (*M_REWARDBENCH, "translation"))
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{names}---\n")
    asked = {"shape": "datasets", "subset": "{lang}", "languages": ("de", "ar", "zh-Hant")}
    examples, summary = read(tmp_path / "set", **asked)
    assert summary.read == dict.fromkeys(("ar", "de", "zh-Hant"), 4)
    assert len(examples) == 4


@pytest.mark.parametrize("word", ["bench", "reward", "hh", "raw", "filtered", "unpaired", "pointwise"])
def test_words_of_data_sets_are_no_languages(word: str) -> None:
    assert recognise(word) is None


# --- no text meets another row's -----------------------------------------------------------------------------------

LANGUAGES = ("en", "es")


def _row(shape: str, number: int, lang: str, fault: str) -> Row:
    """A row whose every text names it: ``P3en`` is asked, ``C3en`` and ``R3en`` answered."""
    prompt, chosen, rejected = (f"{letter}{number}{lang}" for letter in "PCR")
    rejected = {"none": rejected, "empty": " ", "equal": chosen}[fault]
    row = {"id": f"{number}", "language": lang}
    if shape == "preference":
        return row | {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if shape == "conversation":
        return row | {"chosen": [user(prompt), assistant(chosen)], "rejected": [user(prompt), assistant(rejected)]}
    if shape == "hh":
        return row | {
            "chosen": f"\n\nHuman: {prompt}\n\nAssistant: {chosen}",
            "rejected": f"\n\nHuman: {prompt}\n\nAssistant: {rejected}",
        }
    if shape == "labelled":
        return row | {"prompt": prompt, "chosen": [chosen], "rejected": [rejected]}
    return row | {"prompt": prompt, "completion": rejected, "label": fault == "equal"}


@settings(max_examples=60)
@given(
    shape=st.sampled_from(["preference", "conversation", "hh", "labelled", "pointwise"]),
    faults=st.lists(st.sampled_from(["none", "none", "empty", "equal"]), min_size=1, max_size=8),
    shuffler=st.randoms(),
    several=st.booleans(),
)
def test_no_order_of_rows_brings_texts_of_different_rows_together(
    shape: str, faults: list[str], shuffler: random.Random, several: bool
) -> None:
    """Whatever the order, and whichever rows are dropped between: texts of one example and language share its number
    and language, and all orders give the same examples."""
    by_language = {
        lang: [_row(shape, 0, lang, "none"), *(_row(shape, n, lang, fault) for n, fault in enumerate(faults, 1))]
        for lang in LANGUAGES
    }
    outcomes = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            if several:
                for lang, rows in by_language.items():
                    lines(Path(name) / f"{lang}.jsonl", *rows)
                path = Path(name)
            else:
                mixed_rows = [row for rows in by_language.values() for row in rows]
                shuffler.shuffle(mixed_rows)
                path = lines(Path(name) / "rows.jsonl", *mixed_rows)
            examples, summary = read(path)
        for example in examples.values():
            for lang, prompt in example.prompts.items():
                assert [turn["content"] for turn in prompt] == [f"P{example.id}{lang}"]
            for candidate in example.candidates:
                assert candidate.text[1:] == f"{example.id}{candidate.lang}"
            for lang, chosen, rejected in pair_texts(example):
                assert (chosen, rejected) == (f"C{example.id}{lang}", f"R{example.id}{lang}")
        outcomes.append({key: (sorted(pair_texts(e)), sorted(labels(e), key=str)) for key, e in examples.items()})
        sound = 1 + faults.count("none")
        assert summary.pairs == (2 * sound if shape in ("preference", "conversation", "hh") else 0)
        for rows in by_language.values():
            shuffler.shuffle(rows)
    assert outcomes[0] == outcomes[1]


# --- real data -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "hh_rlhf").is_dir(), reason=f"real data is not at {DATA}")
def test_real_hh_rlhf_reads_but_for_thirteen_rows() -> None:
    """Counted with another parser (a split at the speakers' names): of 2312 transcripts, 9 rows have two assistant
    turns in a row on one side or on both, 4 an empty last answer; none parts early and none has equal answers."""
    examples, summary = read(DATA / "hh_rlhf" / "harmless_base_test.jsonl.gz")
    assert (summary.shape, summary.pairs) == ("hh", 2299)
    assert summary.dropped == {"role_order": {"en": 9}, "empty_turn": {"en": 4}}
    assert summary.places["role_order"][0] == "harmless_base_test.jsonl.gz:668"
    assert summary.places["empty_turn"] == tuple(f"harmless_base_test.jsonl.gz:{n}" for n in (87, 517, 926))
    assert {len(e.prompts["en"]) % 2 for e in examples.values()} == {1}


@pytest.mark.skipif(not (DATA / "responses").is_dir(), reason=f"real data is not at {DATA}")
def test_real_answers_in_five_languages_are_parallel_pairs(tmp_path: Path) -> None:
    """The stronger model as chosen; every pair holds the two models' answers to its own id."""
    tags, texts = ("de", "en", "es", "fr", "ru"), {}
    for tag in tags:
        sides = []
        for model in ("gpt-4-turbo-2024-04-09", "gpt-3.5-turbo-0125"):
            file = (DATA / "responses" / "x_alpacaeval" / model / f"{tag}.jsonl").read_text(encoding="utf-8")
            sides.append({row["id"]: row["response"] for row in map(json.loads, file.splitlines())})
        prompts = json.loads((DATA / "prompts" / "x_alpacaeval" / f"{tag}.json").read_text(encoding="utf-8"))
        rows = [
            {
                "id": row["id"],
                "prompt": row["instruction"],
                "chosen": sides[0][row["id"]],
                "rejected": sides[1][row["id"]],
            }
            for row in prompts
        ]
        random.Random(tag).shuffle(rows)
        texts |= {(str(row["id"]), tag): (row["chosen"], row["rejected"]) for row in rows}
        lines(tmp_path / f"{tag}.jsonl", *rows)
    examples, summary = read(tmp_path)
    assert (len(examples), summary.read) == (805, dict.fromkeys(tags, 805))
    found = {(e.id, lang): (chosen, rejected) for e in examples.values() for lang, chosen, rejected in pair_texts(e)}
    equal = {key for key, (chosen, rejected) in texts.items() if chosen == rejected}
    assert found == {key: value for key, value in texts.items() if key not in equal}
    assert summary.dropped.get("duplicate", {}) == dict(sorted(Counter(lang for _, lang in equal).items()))
