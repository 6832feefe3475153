"""Comparisons for people, and their verdicts back."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.backends.base import Comparison, Context, ScorerSpec
from polypref.backends.verdict_file import VerdictFile
from polypref.errors import InputError
from polypref.stages.judge_matches import JudgeOptions, judge_matches
from polypref.stages.judgments import Judgment, read_judgments, write_judgments
from polypref.stages.matches import Match
from polypref.stages.people import (
    Contest,
    KeyRow,
    PeopleOptions,
    Said,
    blinded,
    of_judgments,
    of_matches,
    read_key,
    unblinded,
    write_key,
)
from polypref.stages.people_agreement import people_agreement
from polypref.stages.people_formats import CELL, LABELLING, csv_of, read_all, read_verdicts, write_items


def match(identity: str, lang: str = "en", mine: str | None = "good", theirs: str | None = "bad", **more: Any) -> Match:
    messages = [{"role": "user", "content": f"prompt {identity}"}]
    return Match(identity, lang, messages, "icr", "sft", mine, theirs, **more)


def contests(count: int, langs: tuple[str, ...] = ("en",), **more: Any) -> list[Contest]:
    return of_matches(match(f"q{i}", lang, **more) for i in range(count) for lang in langs)[0]


def judged(identity: str, preference: float | None, judge: str = "gpt", **more: Any) -> Judgment:
    texts = {"prompt": f"prompt {identity}", "model_answer": "good", "baseline_answer": "bad"}
    told: dict[str, Any] = {"model": "icr", "baseline": "sft", "judge": judge, **texts, **more}
    return Judgment(identity, told.pop("language", "en"), preference, 4, 3, **told)


def fill(items: Any, verdict: Any, annotator: str = "ana") -> str:
    """The CSV as a person would fill it in: ``verdict`` is made of a row."""
    rows = list(csv.DictReader(io.StringIO(csv_of(items), newline="")))
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"verdict": verdict(row), "annotator": annotator})
    return file.getvalue()


def test_samples_of_one_prompt_are_comparisons_of_their_own() -> None:
    """The person agrees with the judge on the first sample and not on the second, each shown its own answers."""
    texts = [{"model_answer": f"good {k}", "baseline_answer": f"bad {k}", "sample": k} for k in (0, 1)]
    judges = [judged("q", 1.0, **more) for more in texts]
    found = blinded(of_judgments(judges)[0], PeopleOptions())
    key = {row.item: row for row in found.key}
    assert len(key) == 2
    said = [
        Said("here", item, "A" if (row.a == "model") == (row.sample == 0) else "B", "ana") for item, row in key.items()
    ]
    people = unblinded(said, key)
    assert {(j.sample, j.model_answer): j.preference for j in people} == {(0, "good 0"): 1.0, (1, "good 1"): 0.0}
    agreed = people_agreement(people, judges, key)
    assert agreed is not None
    [pair] = agreed["pairs"]
    assert (pair["n"], pair["raw"]) == (2, 0.5)


# --- the draw ------------------------------------------------------------------------------------------------------


def test_what_people_see_names_no_model_and_no_prompt_id() -> None:
    found = blinded(contests(20), PeopleOptions())
    shown = csv_of(found.items)
    assert "icr" not in shown
    assert "sft" not in shown
    assert not any(f'"q{i}"' in shown for i in range(20))
    assert not any(f'q{i}"' in item.item for i in range(20) for item in found.items)


def test_places_are_chance_and_the_key_says_whose_answer_is_a() -> None:
    """Of 400 fair coins between 160 and 240 fall on one side but for one time in 10 000."""
    found = blinded(contests(400), PeopleOptions())
    assert 160 < sum(row.a == "model" for row in found.key) < 240
    for item, row in zip(found.items, found.key, strict=True):
        assert item.item == row.item
        assert (item.answer_a, item.answer_b) == (("good", "bad") if row.a == "model" else ("bad", "good"))


def test_another_seed_gives_other_names_places_and_order() -> None:
    one, two = (blinded(contests(50), PeopleOptions(seed=seed)) for seed in (0, 1))
    assert {item.item for item in one.items}.isdisjoint(item.item for item in two.items)
    assert [row.id for row in one.key] != [row.id for row in two.key]
    places = [{row.id: row.a for row in found.key} for found in (one, two)]
    assert places[0] != places[1]


def test_a_further_comparison_changes_no_other_item() -> None:
    few, more = (blinded(contests(count), PeopleOptions()) for count in (30, 31))
    assert {item.item: item for item in more.items}.items() >= {item.item: item for item in few.items}.items()


def test_languages_give_the_same_prompts_and_a_smaller_draw_is_part_of_a_larger() -> None:
    small, large = (blinded(contests(40, ("en", "es")), PeopleOptions(per_language=n)) for n in (5, 9))
    assert Counter(item.language for item in large.items) == {"en": 9, "es": 9}
    assert {row.item for row in small.key} < {row.item for row in large.key}
    assert {row.weight for row in small.key} == {8.0}
    asked = {lang: {row.id for row in large.key if row.language == lang} for lang in ("en", "es")}
    assert asked["en"] == asked["es"]


def test_answers_that_need_no_person_are_left_out_and_counted() -> None:
    found, left_out = of_matches([match("1"), match("2", theirs="good"), match("3", mine=None)])
    assert [one.id for one in found] == ["1"]
    assert left_out == {"equal answers": 1, "an answer failed": 1}


def test_half_of_the_draw_is_disputed_and_a_short_stratum_is_filled_from_the_other() -> None:
    """Of 40, ten are disputed: four by two judges on different sides, three flipped, three without a verdict.

    Ten drawn are 5 and 5: each disputed one stands for 2, each agreed one for 6. Thirty drawn are all 10 and 20.
    """
    rows = [judged(f"q{i}", 1.0) for i in range(30)]
    rows += [judged(f"d{i}", side, judge) for i in range(4) for judge, side in (("gpt", 1.0), ("rm", 0.0))]
    rows += [judged(f"f{i}", 0.5, flipped=True) for i in range(3)]
    rows += [judged(f"n{i}", None, error="no verdict") for i in range(3)]
    found, left_out = of_judgments(rows)
    assert not left_out
    key = blinded(found, PeopleOptions(per_language=10, stratify="disagreement")).key
    assert Counter((row.stratum, row.weight) for row in key) == {("disputed", 2.0): 5, ("agreed", 6.0): 5}
    key = blinded(found, PeopleOptions(per_language=30, stratify="disagreement")).key
    assert Counter((row.stratum, row.weight) for row in key) == {("disputed", 1.0): 10, ("agreed", 1.5): 20}


def test_strata_need_judges() -> None:
    with pytest.raises(InputError, match="what judges said"):
        blinded(contests(3), PeopleOptions(stratify="disagreement"))


def test_judgments_without_texts_cannot_be_shown() -> None:
    with pytest.raises(InputError, match="2 the prompt was not kept; give judgments that hold prompt and answers"):
        of_judgments([judged("1", 1.0, prompt=None), judged("2", 1.0, prompt=None)])


def test_judges_who_saw_different_texts_are_refused() -> None:
    with pytest.raises(InputError, match="1 in en: judges saw different texts of icr and sft"):
        of_judgments([judged("1", 1.0), judged("1", 1.0, "rm", model_answer="other")])


def test_several_turns_are_shown_with_who_speaks() -> None:
    turns = [("user", "Hola"), ("assistant", "¿Qué tal?"), ("user", "Bien")]
    messages = [{"role": role, "content": text} for role, text in turns]
    found, _ = of_matches([Match("1", "es", messages, "icr", "sft", "a", "b")])
    made = blinded(found, PeopleOptions())
    assert made.items[0].prompt == "[user]\nHola\n\n[assistant]\n¿Qué tal?\n\n[user]\nBien"
    assert made.key[0].prompt == "Bien"


# --- there and back ------------------------------------------------------------------------------------------------


def test_a_filled_csv_comes_back_under_the_models_names(tmp_path: Path) -> None:
    """A person who always prefers ``good``, the model's answer, wherever it stands."""
    made = blinded(contests(40, ("en", "es"), category="chat", difficulty=0.25), PeopleOptions())
    write_key(tmp_path / "key.jsonl", made.key)
    filled = fill(made.items, lambda row: "A" if row["answer_a"] == "good" else " b ")
    (tmp_path / "filled.csv").write_text(filled, encoding="utf-8")
    people = unblinded(read_verdicts(tmp_path / "filled.csv").said, read_key(tmp_path / "key.jsonl"))
    assert len(people) == 80
    assert {judgment.preference for judgment in people} == {1.0}
    first = people[0]
    assert (first.judge, first.model, first.baseline, first.model_length) == ("ana", "icr", "sft", 4)
    assert (first.category, first.difficulty, first.prompt) == ("chat", 0.25, f"prompt {first.id}")
    write_judgments(tmp_path / "people.jsonl", people)
    assert read_judgments(tmp_path / "people.jsonl") == people


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5))
def test_any_texts_survive_a_spreadsheet(texts: list[tuple[str, str, str]]) -> None:
    """Every cell is quoted: the reader sees the same items, whatever commas, quotes and line breaks they hold; a text
    that would be a formula is the same after an apostrophe."""
    given_ = [
        Match(str(i), "en", [{"role": "user", "content": prompt}], "m", "b", f"1{mine}", f"2{theirs}")
        for i, (prompt, mine, theirs) in enumerate(texts)
    ]
    made = blinded(of_matches(given_)[0], PeopleOptions())
    rows = list(csv.DictReader(io.StringIO(csv_of(made.items), newline=""), strict=True))
    assert [row["item"] for row in rows] == [item.item for item in made.items]
    for row, item in zip(rows, made.items, strict=True):
        for name in ("prompt", "answer_a", "answer_b"):
            assert row[name] in (getattr(item, name), "'" + getattr(item, name))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "  =", "＝", "＋", "－", "＠"])
def test_no_cell_is_a_formula(start: str) -> None:
    made = blinded(contests(1, mine=f"{start}HYPERLINK(1)", theirs="x"), PeopleOptions())
    [row] = csv.DictReader(io.StringIO(csv_of(made.items), newline=""))
    assert f"'{start}HYPERLINK(1)" in (row["answer_a"], row["answer_b"])


def test_no_item_reads_as_a_number() -> None:
    """A spreadsheet would write 12345678901e2 back as 1.23457E+12."""
    assert all(item.item.startswith("c") for item in blinded(contests(500), PeopleOptions()).items)


def test_the_csv_opens_as_utf8_and_a_text_that_no_cell_holds_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    made = blinded(contests(1, mine="x" * (CELL + 1)), PeopleOptions())
    write_items(tmp_path, made.items, said.append)
    assert (tmp_path / "comparisons.csv").read_bytes().startswith(b'\xef\xbb\xbf"item"')
    assert said == [
        "comparisons.csv: 1 items hold a text of more than 32,767 characters, which a spreadsheet cuts; "
        "show them in Argilla or Label Studio"
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_a_spreadsheet_may_put_other_marks_between_cells_and_break_lines_in_them(
    tmp_path: Path, delimiter: str
) -> None:
    rows = [["item", "language", "answer_a", "verdict", "annotator"], ["c1", "en", "a,b;c\nd", "tie", "ana"]]
    with (tmp_path / "f.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*rows, [""] * 5, ["c2", "en", "x", "A", "ana"]])
    said = read_verdicts(tmp_path / "f.csv").said
    assert said == [Said("f.csv:2", "c1", "tie", "ana"), Said("f.csv:5", "c2", "A", "ana")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("item,verdict,annotator\nc1,A,ana\nc2,maybe,ana\n", "f.csv:3: the verdict is 'maybe'; write A, B or tie"),
        ("item,verdict\nc1,A\n", "f.csv:2: nothing tells who gave the verdict"),
        ("item,answer\nc1,A\n", "f.csv:1: there is no column verdict"),
        ("item,verdict,annotator\nc1,A\n", "f.csv:2: the row has 2 cells and the first row 3"),
        ("item,verdict,annotator\n,A,ana\n", "f.csv:2: item is ''"),
        ('item,verdict,annotator\n"c1"x,A,ana\n', "f.csv:2: not CSV"),
        ("item,verdict,annotator\nc1,,ana\n", "f.csv: nobody has given a verdict"),
    ],
)
def test_a_mistake_in_a_csv_is_told_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "f.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_all([(None, tmp_path / "f.csv")])
    assert complaint in str(caught.value)


def test_a_csv_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes("item,verdict,annotator\nc1,A,José\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"f.csv:2: not UTF-8; save the sheet as CSV UTF-8"):
        read_verdicts(tmp_path / "f.csv")


def test_rows_without_a_verdict_are_counted_and_a_file_may_be_named_for_its_person(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("item,verdict,comment\nc1,A, well made \nc2,,\n", encoding="utf-8")
    read = read_verdicts(tmp_path / "f.csv", "ana")
    assert read.said == [Said("f.csv:2", "c1", "A", "ana", "well made")]
    assert read.unjudged == {"ana": 1}


# --- Argilla and Label Studio --------------------------------------------------------------------------------------


def test_argilla_is_given_its_records_and_settings(tmp_path: Path) -> None:
    """The keys are those of ``Record.to_dict`` and ``Settings.serialize`` of argilla 2.8."""
    made = blinded(contests(2, ("en", "es")), PeopleOptions())
    write_items(tmp_path, made.items)
    records = json.loads((tmp_path / "argilla/records.json").read_text(encoding="utf-8"))
    assert {frozenset(record) for record in records} == {
        frozenset({"id", "fields", "metadata", "suggestions", "responses", "vectors"})
    }
    settings = json.loads((tmp_path / "argilla/settings.json").read_text(encoding="utf-8"))
    assert [field["name"] for field in settings["fields"]] == list(records[0]["fields"])
    verdict, comment = settings["questions"]
    assert [option["value"] for option in verdict["settings"]["options"]] == ["A", "B", "tie"]
    assert (comment["name"], comment["required"]) == ("comment", False)
    assert settings["metadata"][0]["settings"] == {"type": "terms", "values": ["en", "es"]}


def argilla_record(item: str, verdicts: dict[str, str], comments: dict[str, str] | None = None) -> dict[str, Any]:
    """As argilla 2.8 writes a record by ``dataset.records.to_json``."""
    responses = {"verdict": [{"value": value, "user_id": user} for user, value in verdicts.items()]}
    if comments:
        responses["comment"] = [{"value": value, "user_id": user} for user, value in comments.items()]
    kept = {"suggestions": {}, "responses": responses if verdicts else {}, "vectors": {}, "status": "completed"}
    return {"id": item, "fields": {"prompt": "p"}, "metadata": {"language": "en"}, **kept, "_server_id": "0a1b"}


def test_argillas_export_is_read_with_several_people_and_their_names(tmp_path: Path) -> None:
    records = [argilla_record("c1", {"u1": "A", "u2": "tie"}, {"u2": "both fine"}), argilla_record("c2", {})]
    (tmp_path / "r.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    read = read_verdicts(tmp_path / "r.json", names={"u1": "ana"})
    assert [(said.item, said.verdict, said.annotator, said.comment) for said in read.said] == [
        ("c1", "A", "ana", None),
        ("c1", "tie", "u2", "both fine"),
    ]
    assert read.said[0].where == "r.json:2"
    assert read.unjudged == {"r.json": 1}


def test_label_studio_is_given_tasks_and_a_configuration_that_fits_them(tmp_path: Path) -> None:
    made = blinded(contests(1), PeopleOptions())
    write_items(tmp_path, made.items)
    [task] = json.loads((tmp_path / "label_studio/tasks.json").read_text(encoding="utf-8"))
    view = ElementTree.fromstring(LABELLING)
    shown = {text.attrib["name"]: text.attrib["value"] for text in view.iter("Text")}
    assert shown == {name: f"${name}" for name in ("prompt", "answer_a", "answer_b")}
    assert set(shown) < set(task["data"])
    assert [choice.attrib["alias"] for choice in view.iter("Choice")] == ["A", "B", "tie"]
    assert {tag.attrib["toName"] for tag in view.iter() if "toName" in tag.attrib} == {"prompt"}


def test_label_studios_export_is_read_without_what_was_skipped(tmp_path: Path) -> None:
    """As the JSON export of Label Studio has it: users as numbers or objects, skipped tasks marked as cancelled."""

    def annotation(who: Any, choice: str | None, cancelled: bool = False) -> dict[str, Any]:
        chosen = {"value": {"choices": [choice]}, "from_name": "verdict", "to_name": "prompt", "type": "choices"}
        why = {"value": {"text": ["clear"]}, "from_name": "comment", "to_name": "prompt", "type": "textarea"}
        return {"completed_by": who, "was_cancelled": cancelled, "result": [chosen, why] if choice else []}

    tasks = [
        {"id": 1, "data": {"item": "c1"}, "annotations": [annotation(7, "A"), annotation({"email": "b@x"}, "B")]},
        {"id": 2, "data": {"item": "c2"}, "annotations": [annotation(7, "B", cancelled=True)]},
        {"id": 3, "data": {"item": "c3"}, "annotations": []},
    ]
    (tmp_path / "t.json").write_text(json.dumps(tasks), encoding="utf-8")
    read = read_verdicts(tmp_path / "t.json", names={"7": "ana"})
    assert [(said.item, said.verdict, said.annotator, said.comment) for said in read.said] == [
        ("c1", "A", "ana", "clear"),
        ("c1", "B", "b@x", "clear"),
    ]
    assert read.unjudged == {"ana": 1, "t.json": 1}


def test_label_studios_short_export_is_read(tmp_path: Path) -> None:
    """JSON-MIN: a row an annotation, the task's data beside the results."""
    row = {"item": "c1", "language": "en", "id": 5, "verdict": "tie", "annotator": 7, "annotation_id": 9}
    (tmp_path / "t.json").write_text(json.dumps([row]), encoding="utf-8")
    [said] = read_verdicts(tmp_path / "t.json", names={"7": "ana"}).said
    assert (said.item, said.verdict, said.annotator) == ("c1", "tie", "ana")


def test_a_json_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('[\n {"text": "x", "label": 1}]', encoding="utf-8")
    with pytest.raises(InputError, match=r"f.json:2: no verdict can be read of a row with text, label"):
        read_verdicts(tmp_path / "f.json")


# --- unblinding ----------------------------------------------------------------------------------------------------

KEY = {
    "c1": KeyRow("c1", "model", "q1", "en", "icr", "sft", "p", "mine", "theirs!"),
    "c2": KeyRow("c2", "baseline", "q2", "en", "icr", "sft", "p", "mine", "theirs!"),
}


@pytest.mark.parametrize(
    ("item", "verdict", "preference"),
    [("c1", "A", 1), ("c1", "B", 0), ("c1", "tie", 0.5), ("c2", "A", 0), ("c2", "B", 1), ("c2", "tie", 0.5)],
)
def test_a_verdict_is_turned_to_the_model(item: str, verdict: Any, preference: float) -> None:
    [found] = unblinded([Said("f:2", item, verdict, "ana", "why")], KEY)
    assert (found.preference, found.model_length, found.baseline_length) == (preference, 4, 7)
    assert (found.said, found.orders, found.flipped) == (("why",), None, None)


def test_the_same_verdict_twice_counts_once_and_is_told() -> None:
    told: list[str] = []
    found = unblinded([Said("f:2", "c1", "A", "ana"), Said("f:9", "c1", "A", "ana")], KEY, told.append)
    assert len(found) == 1
    assert told == ["1 verdicts stand twice, by the same person with the same outcome; each counts once"]


def test_two_people_may_differ_but_one_may_not() -> None:
    assert len(unblinded([Said("f:2", "c1", "A", "ana"), Said("f:3", "c1", "B", "ben")], KEY)) == 2
    with pytest.raises(InputError, match=r"f:3: ana says B of c1, and A at f:2; keep one of the two"):
        unblinded([Said("f:2", "c1", "A", "ana"), Said("f:3", "c1", "B", "ana")], KEY)


def test_an_item_of_another_export_is_refused() -> None:
    with pytest.raises(InputError, match=r"f:2: item 'c9' is not in the key"):
        unblinded([Said("f:2", "c9", "A", "ana")], KEY)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"item": "c1"}', "key.jsonl:1: this is no row of a key"),
        ("", "key.jsonl is empty"),
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "key.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=complaint):
        read_key(tmp_path / "key.jsonl")


def test_an_item_that_stands_twice_in_the_key_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "key.jsonl", [KEY["c1"], KEY["c1"]])
    with pytest.raises(InputError, match=r"key.jsonl:2: item c1 stands twice"):
        read_key(tmp_path / "key.jsonl")


# --- agreement -----------------------------------------------------------------------------------------------------


def test_people_and_judges_agree_on_what_people_were_asked() -> None:
    """Of q0 … q3 the person says 1 1 0 0 and the judge 1 1 1 0: three of four agree; q4 was not asked."""
    people = [judged(f"q{i}", p, "ana") for i, p in enumerate((1.0, 1.0, 0.0, 0.0))]
    judges = [judged(f"q{i}", p) for i, p in enumerate((1.0, 1.0, 1.0, 0.0, 1.0))]
    found = people_agreement(people, judges, {})
    assert found is not None
    [pair] = found["pairs"]
    assert (pair["judges"], pair["n"], pair["raw"]) == (["ana", "gpt"], 4, 0.75)
    assert "reweighted" not in found


def test_a_draw_by_disagreement_is_weighted_back() -> None:
    """Two disputed comparisons that stand for one each, and two agreed ones for nine each; they agree on one disputed
    and both agreed: (1 + 9 + 9)/20 = 0.95, though 3/4 of the drawn ones. The influences w(a − r)/20 are
    .0025, −.0475, .0225, .0225, so the error is √(4/3 · .003275) = .06608."""
    key = {}
    for i, (stratum, weight) in enumerate((("disputed", 1.0), ("disputed", 1.0), ("agreed", 9.0), ("agreed", 9.0))):
        row = KeyRow(f"c{i}", "model", f"q{i}", "en", "icr", "sft", "p", "good", "bad", None, None, stratum, weight)
        key[row.item] = row
    people = [judged(f"q{i}", p, "ana") for i, p in enumerate((1.0, 0.0, 1.0, 1.0))]
    found = people_agreement(people, [judged(f"q{i}", 1.0) for i in range(4)], key)
    assert found is not None
    assert found["pairs"][0]["raw"] == 0.75
    [pair] = found["reweighted"]
    assert pair == {
        "judges": ["ana", "gpt"],
        "n": 4,
        "raw": pytest.approx(0.95),
        "raw_stderr": pytest.approx(0.066081, abs=1e-6),
    }


def test_one_person_alone_agrees_with_nobody() -> None:
    assert people_agreement([judged("q0", 1.0, "ana")], [], {}) is None


def test_judges_of_other_comparisons_and_judges_names_are_refused() -> None:
    with pytest.raises(InputError, match="judged none of the comparisons"):
        people_agreement([judged("q0", 1.0, "ana")], [judged("q1", 1.0)], {})
    with pytest.raises(InputError, match="gpt is the name of a person and of a judge"):
        people_agreement([judged("q0", 1.0)], [judged("q0", 1.0)], {})


# --- a person where a judge stands ---------------------------------------------------------------------------------


def comparison(identity: str, first: str, second: str, lang: str = "en") -> Comparison:
    return Comparison("any", lang, [{"role": "user", "content": f"prompt {identity}"}], first, second)


def opened(path: Path, **settings: Any) -> Any:
    spec = ScorerSpec(scorer="verdicts", settings={"file": str(path), **settings})
    return VerdictFile.opened(spec, Context(open=lambda role, spec: None).open)


def test_people_stand_where_a_judge_stands(tmp_path: Path) -> None:
    """Two of three prefer the model on q1: 2/3, and 1/3 with the answers the other way round."""
    rows = [judged("q1", 1.0, "ana"), judged("q1", 1.0, "ben"), judged("q1", 0.0, "eva")]
    write_judgments(tmp_path / "people.jsonl", rows)
    asked = [comparison("q1", "good", "bad"), comparison("q1", "bad", "good"), comparison("q2", "good", "bad")]
    asked.append(comparison("q1", "good", "bad", "es"))
    heard: list[int] = []
    straight, turned, unknown, elsewhere = opened(tmp_path / "people.jsonl").compare(
        asked, each=lambda index, verdict: heard.append(index)
    )
    assert straight.preference == pytest.approx(2 / 3)
    assert turned.preference == pytest.approx(1 / 3)
    assert (unknown.preference, unknown.error) == (None, "nobody judged this comparison")
    assert elsewhere.preference is None
    assert heard == [0, 1, 2, 3]
    [only] = opened(tmp_path / "people.jsonl", judges=["eva"]).compare(asked[:1])
    assert only.preference == 0.0


def test_a_run_is_judged_by_people_as_by_any_judge(tmp_path: Path) -> None:
    """What the person said of the two that he saw, and an error for the third."""
    made = blinded(contests(2), PeopleOptions())
    key = {row.item: row for row in made.key}
    said = [Said("f", item.item, "A" if item.answer_a == "good" else "B", "ana") for item in made.items]
    write_judgments(tmp_path / "people.jsonl", unblinded(said, key))
    spec = ScorerSpec(scorer="verdicts", settings={"file": str(tmp_path / "people.jsonl")})
    context = Context(open=lambda role, spec: VerdictFile.opened(spec, None))
    matches = [match("q0"), match("q1"), match("q2")]
    found = list(judge_matches(matches, JudgeOptions(name="people", judge=spec), context))
    assert [one.preference for one in found] == [1.0, 1.0, None]
    assert found[2].error == "nobody judged this comparison"


def test_other_verdicts_are_another_judge(tmp_path: Path) -> None:
    write_judgments(tmp_path / "a.jsonl", [judged("q1", 1.0, "ana")])
    write_judgments(tmp_path / "b.jsonl", [judged("q1", 0.0, "ana")])
    one, two = (opened(tmp_path / name).fingerprint for name in ("a.jsonl", "b.jsonl"))
    assert one != two
    assert opened(tmp_path / "a.jsonl", judges=["ana"]).fingerprint != one
    assert opened(tmp_path / "a.jsonl").fingerprint == one


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nonsense", "f.jsonl:2: not JSON"),
        ("[1]", "f.jsonl:2: the row is no object"),
        (
            '{"language": "en", "prompt": "p", "model_answer": "a", "baseline_answer": "b", "preference": 2}',
            "f.jsonl:2: ",
        ),
        ('{"id": "1", "language": "en", "preference": 1}', "has no verdict with its prompt and answers"),
    ],
)
def test_a_file_of_verdicts_that_cannot_be_read_is_told(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "f.jsonl").write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        opened(tmp_path / "f.jsonl")
    assert complaint in str(caught.value)
