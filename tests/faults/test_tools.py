"""What the fault tests are made with: the table, the comparison of two runs, the count of write points."""

import datetime
import json
import os
import shutil
import signal

import pytest

from faults import digests, table, write_points
from faults.write_points import child, killed_at, watch
from polypref.store.parquet import read_metadata, read_rows, write_rows

PAGE = "# Page\n<!-- faults -->\nold\n<!-- end of faults -->\nbetween\n<!-- inputs --><!-- end of inputs -->\nend\n"


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.setenv(table.VARIABLE, str(tmp_path / "rows.jsonl"))
    return lambda: [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]


def test_without_a_place_nothing_is_recorded(monkeypatch, tmp_path):
    monkeypatch.delenv(table.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    table.record(kind="fault", what="a", tried=1, survived=1, lost="nothing")
    assert not list(tmp_path.iterdir())


def test_a_row_has_its_kinds_columns(rows):
    with pytest.raises(ValueError, match="a row of kind input has tried, refused, accepted, crashed, not tried"):
        table.record(kind="input", what="a", tried=1)


def test_rows_of_one_name_are_added_up_and_the_page_keeps_its_words(rows):
    """2 + 3 tried, 2 + 2 survived."""
    table.record(kind="fault", what="kill | at once", tried=2, survived=2, lost="nothing")
    table.record(kind="fault", what="kill | at once", tried=3, survived=2, lost="a unit")
    table.record(kind="input", what="names", tried=4, refused=3, accepted=1, crashed=0)
    page = table.render(rows(), PAGE, datetime.date(2026, 1, 2))
    assert "| kill \\| at once | 5 | 4 | nothing; a unit |" in page
    assert "| names | 4 | 3 | 1 | 0 |" in page
    assert "old" not in page
    assert page.startswith("# Page\n<!-- faults -->\nMade by `make faults` on 02 January 2026: ")
    assert page.endswith("<!-- end of inputs -->\nend\n")
    assert table.render(rows(), page, datetime.date(2026, 1, 2)) == page


def test_a_fault_that_is_not_survived_is_counted(rows):
    with pytest.raises(KeyError), table.survived("a", lost="b"):
        raise KeyError
    assert rows() == [{"kind": "fault", "what": "a", "tried": 1, "survived": 0, "lost": "b"}]


def test_a_page_without_its_markers_is_told():
    with pytest.raises(ValueError, match="the page has no <!-- faults -->"):
        table.render([], "# Page\n", datetime.date(2026, 1, 2))


def rewritten(path, change):
    """A shard with its first row changed."""
    found = [row for _, row in read_rows(path)]
    change(found[0])
    write_rows(path, found, read_metadata(path))


def test_runs_differ_by_texts_and_by_scores_beyond_the_tolerance(copy, base):
    out = copy[1]
    answers, scores = "round-1/generate/en/part-00000.parquet", "round-1/score-cross_lingual/en/part-00000.parquet"

    def score(by):
        def change(row):
            scores = row["candidates"][0]["scores"]
            scores["cross_lingual"] += by

        return change

    assert digests.differences(base[1], out) == []
    rewritten(out / scores, score(5e-5))
    assert digests.differences(base[1], out) == []
    rewritten(out / scores, score(1e-3))
    [told] = digests.differences(base[1], out)
    assert told.startswith(f"{scores}/0/candidates/0/scores/")
    rewritten(out / answers, lambda row: row["candidates"][0].update(text="other"))
    assert f"{answers}/0/candidates/0/text" in "".join(digests.differences(base[1], out))
    (out / answers).unlink()
    assert f"{answers} is in one run only" in digests.differences(base[1], out)


def write_a_little(folder):
    """7 changes: a folder made, a file begun and renamed, a folder in it made, a file in it begun, and both removed."""
    folder.mkdir()
    (folder / "a").write_text("a")
    os.replace(folder / "a", folder / "b")
    (folder / "b").read_text()
    (folder.parent / "elsewhere").write_text("")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "c").touch()
    shutil.rmtree(folder / "deeper")


def test_every_change_below_the_folder_is_a_write_point_and_no_other(tmp_path):
    def counting():
        counts = []
        watch(tmp_path / "run", counts.append)
        write_a_little(tmp_path / "run")
        (tmp_path / "count").write_text(str(len(counts)))

    assert child(counting) == 0
    assert (tmp_path / "count").read_text() == "7"


@pytest.mark.parametrize(("number", "left"), [(1, []), (2, ["run"]), (4, ["b", "run"])])
def test_a_kill_comes_right_before_its_write_point(tmp_path, number, left):
    def work():
        watch(tmp_path / "run", killed_at(number))
        write_a_little(tmp_path / "run")

    assert child(work) == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name != "elsewhere") == left


def test_what_was_computed_is_told_from_what_every_start_writes(copy):
    names = write_points.results_of_work(copy[1]).keys()
    assert {"round-1/train/checkpoint/config.json", "prompts/part-00000.parquet"} <= names
    assert not names & {"results.json", "report.html", "manifest.json", "recipe.yaml", ".lock"}
