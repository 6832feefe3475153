"""Reading OpenAssistant's exports: trees and flat messages, rankings as pairs, and what is left out and counted."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Context
from polypref.errors import InputError
from polypref.records import Example, parse_example, to_json
from polypref.stages.prompts import PromptOptions, PromptSummary, read_prompts

Row = dict[str, Any]


def read(path: Path, **options: Any) -> tuple[dict[str, Example], PromptSummary]:
    context = Context(open=lambda role, spec: None, warn=lambda said: None)
    examples, summary = read_prompts(PromptOptions(path=str(path), **options), context)
    for example in examples:
        assert parse_example(json.loads(json.dumps(to_json(example)))) == example
    return {example.id: example for example in examples}, summary


def write(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def message(name: str, text: str, *replies: Row, **rest: Any) -> Row:
    """A message with its replies; the role is that of its depth, the parity of the dots in its name."""
    role = "assistant" if name.count(".") % 2 else "prompter"
    return {"message_id": name, "text": text, "role": role, "lang": "en", "replies": list(replies), **rest}


def tree(root: Row, state: str | None = "ready_for_export") -> Row:
    return {"message_tree_id": root["message_id"], "tree_state": state, "prompt": root}


def flat(row: Row) -> list[Row]:
    """A tree's messages, a row each, as the data set on the hub has them."""
    found: list[Row] = []

    def walk(node: Row, parent: str | None) -> None:
        rest = {key: value for key, value in node.items() if key != "replies"}
        state = {"message_tree_id": row["message_tree_id"], "tree_state": row["tree_state"]}
        found.append({"rank": None, **rest, "parent_id": parent, **state})
        for reply in node["replies"]:
            walk(reply, node["message_id"])

    walk(row["prompt"], None)
    return found


def said(example: Example) -> list[tuple[str, str]]:
    return [(example.candidate(p.chosen).text, example.candidate(p.rejected).text) for p in example.pairs]


CONVERSATION = tree(
    message(
        "a",
        "Why?",
        message("a.1", "Because.", rank=1),
        message(
            "a.2",
            "It is so.",
            message("a.2.1", "Really?", message("a.2.1.1", "Yes.", rank=0), message("a.2.1.2", "No.", rank=1)),
            rank=0,
        ),
        message("a.3", "Dunno.", rank=2),
    )
)
"""Three ranked replies (a.2 best, then a.1, a.3), and a second turn below the best with two more."""


def test_ranked_replies_are_pairs_and_the_prompt_is_the_whole_conversation(tmp_path: Path) -> None:
    examples, summary = read(write(tmp_path / "trees.jsonl", CONVERSATION))
    assert summary.shape == "oasst"
    assert said(examples["a"]) == [("It is so.", "Because."), ("It is so.", "Dunno."), ("Because.", "Dunno.")]
    assert [turn["content"] for turn in examples["a.2.1"].prompts["en"]] == ["Why?", "It is so.", "Really?"]
    assert [turn["role"] for turn in examples["a.2.1"].prompts["en"]] == ["user", "assistant", "user"]
    assert said(examples["a.2.1"]) == [("Yes.", "No.")]
    assert summary.pairs == 4
    assert {c.origin for c in examples["a"].candidates} == {"human"}
    assert len(examples["a"].candidates) == 3


def test_ranked_best_holds_the_best_against_each_other(tmp_path: Path) -> None:
    examples, _ = read(write(tmp_path / "trees.jsonl", CONVERSATION), ranked="best")
    assert said(examples["a"]) == [("It is so.", "Because."), ("It is so.", "Dunno.")]


def test_flat_messages_are_the_same_as_trees_in_any_order_and_from_any_file(tmp_path: Path) -> None:
    """As exported: gzipped JSON Lines; as on the hub: Parquet with labels as lists of names and values."""
    rows = flat(CONVERSATION)
    as_tree, _ = read(write(tmp_path / "trees.jsonl", CONVERSATION))
    with gzip.open(tmp_path / "messages.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in reversed(rows))
    labels = {"name": ["quality"], "value": [0.5], "count": [3]}
    pq.write_table(pa.Table.from_pylist([{**row, "labels": labels} for row in rows]), tmp_path / "rows.parquet")
    for name in ("messages.jsonl.gz", "rows.parquet"):
        examples, summary = read(tmp_path / name)
        assert summary.shape == "oasst"
        assert {i: sorted(said(e)) for i, e in examples.items()} == {i: sorted(said(e)) for i, e in as_tree.items()}
        assert {i: e.prompts for i, e in examples.items()} == {i: e.prompts for i, e in as_tree.items()}


def test_a_data_set_of_messages_is_read_as_its_file(tmp_path: Path) -> None:
    """As the hub's: labels are lists of names and of values."""
    datasets = pytest.importorskip("datasets")
    labels = {"name": ["spam", "quality"], "value": [0.0, 0.5], "count": [3, 3]}
    rows = [{**row, "labels": labels} for row in flat(CONVERSATION)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    file = write(tmp_path / "rows.jsonl", *rows)
    for options in ({}, {"label_key": "quality"}, {"demonstrations": True}):
        found, summary = read(tmp_path / "set", shape="datasets", **options)
        again, _ = read(file, **options)
        assert summary.shape == "oasst"
        assert {name: (e.prompts, e.candidates, e.pairs) for name, e in found.items()} == {
            name: (e.prompts, e.candidates, e.pairs) for name, e in again.items()
        }


def test_rows_are_examples_of_their_own_language(tmp_path: Path) -> None:
    other = {"lang": "es"}
    spanish = message("b", "¿Por qué?", message("b.1", "Sí.", rank=0, **other), message("b.2", "No.", rank=1, **other))
    examples, summary = read(write(tmp_path / "trees.jsonl", CONVERSATION, tree({**spanish, **other})))
    assert (list(examples["b"].prompts), [p.lang for p in examples["b"].pairs]) == (["es"], ["es"])
    assert (summary.languages, summary.require, summary.read) == (("en", "es"), "any", {"en": 2, "es": 1})
    assert set(read(tmp_path / "trees.jsonl", languages=["es"], pivot="es")[0]) == {"b"}


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ({"deleted": True}, "deleted"),
        ({"review_result": False}, "refused_in_review"),
        ({"review_result": None}, "unreviewed"),
        ({"synthetic": True}, "synthetic"),
        ({"text": " "}, "empty_turn"),
        ({"lang": "es"}, "other_language"),
        ({"role": "prompter"}, "role_order"),
    ],
)
def test_a_message_that_is_no_good_goes_with_all_that_follows_it(tmp_path: Path, field: Row, reason: str) -> None:
    """a.2 and the three messages below it: four drops; a keeps the pair of its other replies."""
    broken = json.loads(json.dumps(CONVERSATION))
    broken["prompt"]["replies"][1].update(field)
    if "lang" in field:  # what follows speaks as it does
        below = broken["prompt"]["replies"][1]["replies"][0]
        for node in (below, *below["replies"]):
            node["lang"] = "es"
    examples, summary = read(write(tmp_path / "trees.jsonl", broken), languages=["en"])
    assert list(examples) == ["a"]
    assert said(examples["a"]) == [("Because.", "Dunno.")]
    counted = {} if "lang" in field else {reason: {"en": 4}}
    assert {why: n for why, n in summary.dropped.items() if why != "other_language"} == counted
    if "lang" in field:
        both, summary = read(tmp_path / "trees.jsonl")
        assert (list(both), summary.dropped) == (["a"], {"other_language": {}})


def test_what_an_export_says_nothing_of_is_as_it_should_be(tmp_path: Path) -> None:
    told = {"deleted": False, "synthetic": False, "review_result": True}
    row = tree(message("a", "Hi", message("a.1", "x", rank=0, **told), message("a.2", "y", rank=1)), None)
    examples, summary = read(write(tmp_path / "trees.jsonl", row))
    assert (said(examples["a"]), summary.dropped) == ([("x", "y")], {})


def test_a_tree_that_is_not_ready_and_a_message_without_its_parent_are_left_out(tmp_path: Path) -> None:
    good = message("b", "Hi", message("b.1", "x", rank=0), message("b.2", "y", rank=1))
    lost = {**message("c.1.1", "?"), "parent_id": "gone", "replies": None}
    rows = [*flat(tree(good)), *flat(tree(message("a", "Hi", message("a.1", "x")), "aborted_low_grade")), lost]
    examples, summary = read(write(tmp_path / "rows.jsonl", *rows))
    assert list(examples) == ["b"]
    assert summary.dropped == {"tree_not_ready": {"en": 2}, "no_parent": {"en": 1}}
    assert summary.places["no_parent"] == ("rows.jsonl:6",)


def test_replies_without_two_ranks_give_no_pair_and_are_counted(tmp_path: Path) -> None:
    rows = [
        tree(message("a", "One reply", message("a.1", "x", rank=0))),
        tree(message("b", "No rank", message("b.1", "x"), message("b.2", "y"))),
        tree(message("c", "A tie", message("c.1", "x", rank=0), message("c.2", "y", rank=0))),
        tree(message("d", "No reply")),
        tree(message("e", "Two", message("e.1", "x", rank=0), message("e.2", "y", rank=3), message("e.3", "z"))),
    ]
    examples, summary = read(write(tmp_path / "trees.jsonl", *rows))
    assert {name: said(example) for name, example in examples.items()} == {"e": [("x", "y")]}
    assert summary.dropped == {"no_ranking": {"en": 3}, "no_reply": {"en": 1}}


def test_the_best_ranked_reply_is_the_demonstration(tmp_path: Path) -> None:
    """So is the only one there is; of several without ranks none is."""
    rows = [
        CONVERSATION,
        tree(message("b", "One reply", message("b.1", "x"))),
        tree(message("c", "No rank", message("c.1", "x"), message("c.2", "y"))),
    ]
    examples, summary = read(write(tmp_path / "trees.jsonl", *rows), demonstrations=True)
    found = {name: [(c.text, c.label, c.origin) for c in example.candidates] for name, example in examples.items()}
    human = (None, "human")
    assert found == {"a": [("It is so.", *human)], "a.2.1": [("Yes.", *human)], "b": [("x", *human)]}
    assert (summary.pairs, summary.labels, summary.dropped) == (0, 0, {"no_ranking": {"en": 1}})


@pytest.mark.parametrize("as_lists", [False, True])
def test_a_label_of_the_replies_may_be_the_objective(tmp_path: Path, as_lists: bool) -> None:
    def labels(value: float | None) -> Row:
        if as_lists:
            return {"labels": {"name": ["spam", "quality"], "value": [0.0, value], "count": [3, 3]}}
        return {"labels": {"spam": {"value": 0.0, "count": 3}, "quality": {"value": value, "count": 3}}}

    replies = [message(f"a.{n}", f"{n}", rank=n, **labels(value)) for n, value in enumerate((1.0, 0.25, None))]
    path = write(tmp_path / "trees.jsonl", tree(message("a", "Hi", *replies)))
    examples, summary = read(path, label_key="quality")
    assert [(c.text, c.label) for c in examples["a"].candidates] == [("0", True), ("1", 0.25)]
    assert (examples["a"].pairs, summary.labels, summary.dropped) == ([], 2, {"no_label": {"en": 1}})
    both, _ = read(path, label_key="quality", pair_labels=True)
    assert said(both["a"]) == [("0", "1")]
    with pytest.raises(InputError, match=r"^trees\.jsonl: no reply has the label 'helpful'; they have spam, quality"):
        read(path, label_key="helpful")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": None}, "text is null; it must be a string"),
        ({"role": "user"}, 'role is "user"; it must be prompter or assistant'),
        ({"rank": "best"}, 'rank is "best"; it must be a whole number from 0'),
        ({"rank": -1}, "rank is -1"),
        ({"lang": "tlh-nonsense-x"}, "is no language"),
        ({"lang": None}, "lang is null"),
        ({"deleted": "no"}, 'deleted is "no"; it must be true, false or null'),
        ({"message_id": 7}, "message_id is 7; it must be a non-empty string"),
        ({"parent_id": 7}, "parent_id is 7"),
        ({"labels": [1]}, "labels is"),
        ({"message_id": "a"}, "message 'a' stands already at rows.jsonl:1"),
        ({"message_id": "z", "parent_id": "z"}, "message 'z' answers itself"),
    ],
)
def test_a_bad_message_is_refused_with_its_line(tmp_path: Path, row: Row, told: str) -> None:
    [first, *_] = flat(CONVERSATION)
    second = {**first, "message_id": "a.1", "role": "assistant", "parent_id": "a", **row}
    with pytest.raises(InputError, match=r"^rows\.jsonl:2: ") as error:
        read(write(tmp_path / "rows.jsonl", first, second))
    assert told in str(error.value)


def test_a_bad_message_in_a_tree_is_told_by_its_place(tmp_path: Path) -> None:
    broken = json.loads(json.dumps(CONVERSATION))
    broken["prompt"]["replies"][1]["replies"][0]["role"] = "system"
    with pytest.raises(InputError, match=r"^trees\.jsonl:2: prompt\.replies\[1\]\.replies\[0\]: role is"):
        read(write(tmp_path / "trees.jsonl", tree(message("z", "Hi")), broken))


def test_threads_and_files_in_another_language_are_refused(tmp_path: Path) -> None:
    thread = {"thread_id": "a.1", "thread": [message("a", "Hi"), message("a.1", "Ho")]}
    with pytest.raises(InputError, match=r"^rows\.jsonl:2: neither a message .* nor a tree"):
        read(write(tmp_path / "rows.jsonl", CONVERSATION, thread))
    with pytest.raises(InputError, match=r"lang is 'en', but the file's name says de"):
        read(write(tmp_path / "oasst_de.jsonl", CONVERSATION))


def test_fields_go_along_and_one_may_be_the_category(tmp_path: Path) -> None:
    row = tree({**CONVERSATION["prompt"], "topic": "Science", "user_id": "u"})
    examples, _ = read(write(tmp_path / "trees.jsonl", row))
    assert (examples["a"].category, examples["a"].extra["topic"]) == (None, "Science")
    with pytest.raises(InputError, match=r"topic is missing"):
        read(tmp_path / "trees.jsonl", category_key="topic")
    one_turn = tree({**row["prompt"], "replies": CONVERSATION["prompt"]["replies"][::2]})
    examples, _ = read(write(tmp_path / "one.jsonl", one_turn), category_key="topic")
    assert (examples["a"].category, "topic" in examples["a"].extra) == ("Science", False)


@given(ranks=st.lists(st.none() | st.integers(0, 4), max_size=6))
def test_pairs_are_all_and_only_those_of_two_ranks(tmp_path_factory: pytest.TempPathFactory, ranks: list) -> None:
    """Against every two replies one by one."""
    folder = tmp_path_factory.mktemp("oasst")
    replies = [message(f"a.{n}", f"answer {n}", rank=rank) for n, rank in enumerate(ranks)]
    keep = tree(message("b", "Hi", message("b.1", "x", rank=0), message("b.2", "y", rank=1)))
    examples, _ = read(write(folder / "trees.jsonl", keep, tree(message("a", "Hi", *replies))))
    expected = Counter()
    for (i, first), (j, second) in combinations(enumerate(ranks), 2):
        if first is not None and second is not None and first != second:
            better, worse = (i, j) if first < second else (j, i)
            expected[f"answer {better}", f"answer {worse}"] += 1
    found = Counter(said(examples["a"])) if "a" in examples else Counter()
    assert found == expected
