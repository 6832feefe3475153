"""The file of judgments: every judgment comes back as it was written, and what is wrong in a row is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.errors import InputError
from polypref.stages.judgments import Judgment, by_judge, parse_judgment, read_judgments, write_judgments

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = texts.filter(bool)
shares = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
lengths = st.integers(0, 10**6).map(float) | st.floats(0, 1e9)


@st.composite
def judgments(draw: st.DrawFn) -> Judgment:
    """A judgment as a judge may give it: one without a verdict says why."""
    preference, error = draw(st.none() | shares), draw(st.none() | names)
    return Judgment(
        draw(names),
        draw(st.sampled_from(["en", "es", "zh-Hans"])),
        preference,
        draw(lengths),
        draw(lengths),
        draw(st.none() | st.floats(-9, 9)),
        model=draw(names),
        baseline=draw(names),
        judge=draw(names),
        orders=draw(st.none() | st.tuples(st.none() | shares, st.none() | shares)),
        flipped=draw(st.none() | st.booleans()),
        error=error if preference is not None else error or "no verdict",
        category=draw(st.none() | texts),
        prompt=draw(st.none() | texts),
        model_answer=draw(st.none() | texts),
        baseline_answer=draw(st.none() | texts),
        said=tuple(draw(st.lists(texts, max_size=2))),
        sample=draw(st.integers(0, 3)),
        failed=draw(st.sampled_from([None, "model", "baseline", "both"])),
    )


def row(**rest: Any) -> dict[str, Any]:
    return {"id": "a", "language": "en", "preference": 1, "model_length": 10, "baseline_length": 20} | rest


@given(judgments())
def test_a_row_of_json_gives_the_judgment_again(judgment: Judgment) -> None:
    assert parse_judgment(json.loads(json.dumps(judgment.row())), "j:1") == judgment


@given(st.lists(judgments(), min_size=1, max_size=5))
def test_a_file_gives_its_judgments_again(tmp_path_factory: pytest.TempPathFactory, written: list[Judgment]) -> None:
    path = tmp_path_factory.mktemp("judgments") / "j.jsonl"
    assert write_judgments(path, written) == len(written)
    assert read_judgments(path) == written


def test_every_field_crosses_the_file() -> None:
    """Each has a value of its own that is not its default, so that none can be dropped or taken for another."""
    judgment = Judgment(
        "ae-17", "es", 0.75, 812.0, 1020.0, 0.5, model="icr-1", baseline="gpt4_turbo", judge="gpt", orders=(1.0, 0.5),
        flipped=True, error="with the answers swapped: no verdict", category="maps", prompt="Nombra un río.",
        model_answer="El Ebro.", baseline_answer="", said=("[[A]]", "[[C]]"), sample=2,
        failed="baseline",
    )  # fmt: skip
    assert judgment.row() == {
        **dataclasses.asdict(judgment),
        "orders": (1.0, 0.5),
        "said": ("[[A]]", "[[C]]"),
    }
    assert parse_judgment(json.loads(json.dumps(judgment.row())), "j:1") == judgment


def test_what_is_absent_is_not_written_but_for_the_preference() -> None:
    bare = Judgment("a", "en", None, 1.0, 2.0, error="no verdict")
    assert bare.row() == {
        "id": "a", "language": "en", "preference": None, "model_length": 1.0, "baseline_length": 2.0,
        "model": "model", "baseline": "baseline", "judge": "judge", "error": "no verdict",
    }  # fmt: skip


def test_a_language_may_be_written_in_any_way_and_unknown_keys_are_passed_over() -> None:
    assert parse_judgment(row(language="Spanish", annotator="x"), "j:1") == Judgment("a", "es", 1.0, 10.0, 20.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"orders": [1.0]}, "orders is [1.0]; it must be two preferences"),
        ({"orders": [1.0, 2]}, "orders is 2.0; it must lie between 0"),
        ({"flipped": 1}, "flipped is 1; it must be true, false or null"),
        ({"sample": True}, "sample is True; it must be 0, 1, 2"),
        ({"sample": -1}, "sample is -1"),
        ({"said": "[[A]]"}, "said is '[[A]]'; it must be a list of texts"),
        ({"judge": ""}, "judge is empty; give it a name or leave it out"),
        ({"model": 7}, "model is 7; it must be a text"),
        ({"error": ["x"]}, "error is ['x']; it must be a text"),
        ({"model_length": 10**400}, "model_length is inf; it must be a finite number"),
        ({"preference": None}, "preference is null and error is missing; say in error why there is no verdict"),
        ({"model_length": None}, "model_length is missing"),
        ({"failed": "theirs"}, "failed is 'theirs'; it must be model, baseline, both or null"),
        ({"failed": ["model"]}, "failed is ['model']; it must be"),
    ],
)
def test_what_is_wrong_in_a_row_is_told_with_its_place(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as told:
        parse_judgment(row(**wrong), "j.jsonl:3")
    assert str(told.value).startswith(f"j.jsonl:3: {says}")


def test_a_row_without_a_preference_and_without_an_error_lacks_the_preference() -> None:
    told = row()
    del told["preference"]
    with pytest.raises(InputError, match=r"^j:1: preference is missing; a judgment has id, language"):
        parse_judgment(told, "j:1")


def test_a_folder_is_its_file_of_judgments(tmp_path: Path) -> None:
    written = [Judgment("a", "en", 1.0, 1.0, 2.0)]
    with pytest.raises(InputError, match=r"is a folder without judgments\.jsonl; name a folder that has it"):
        read_judgments(tmp_path)
    write_judgments(tmp_path / "judgments.jsonl", written)
    assert read_judgments(tmp_path) == read_judgments(str(tmp_path)) == written


def test_judges_come_in_the_order_of_the_file() -> None:
    rows = [parse_judgment(row(id=id, judge=judge), "j:1") for id, judge in (("1", "b"), ("2", "a"), ("3", "b"))]
    assert [(judge, [j.id for j in theirs]) for judge, theirs in by_judge(rows)] == [("b", ["1", "3"]), ("a", ["2"])]
