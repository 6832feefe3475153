"""What a model, a judge or a file has written, on its way out: spreadsheet, page, terminal, card, names of files."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest
import shapes
from attempts import FEW
from hypothesis import given, settings
from hypothesis import strategies as st

from polypref import cli_terminal
from polypref.cli_terminal import plain
from polypref.records import Candidate, Example, Pair
from polypref.stages.export import ExportOptions, export_pairs
from polypref.stages.export_names import file_name, file_names
from polypref.stages.people import Item
from polypref.stages.people_formats import csv_of
from polypref.stages.report import ReportData, SamplePair, render
from report_pages import assert_inert

FORMULAS = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "＝1",
    '=HYPERLINK("http://x")',
)


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_for_people_begins_a_formula(text: str) -> None:
    shown = csv_of([Item("c1", "es", text, text, text)])
    [_, row] = csv.reader(io.StringIO(shown, newline=""))
    assert row[2:5] == ["'" + text] * 3


@settings(FEW, max_examples=60)
@given(shapes.texts())
def test_a_line_for_the_terminal_obeys_nothing_and_ends(text: str) -> None:
    shown = plain(text)
    assert all(len(line) <= cli_terminal.LONGEST for line in shown.split("\n"))
    assert not set(shown) & {
        chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x200F)
    }


@pytest.mark.parametrize("text", ["[link=file:///etc/passwd]x[/link]", "[/]", "[bold red]x", "\x1b]8;;http://x\x1b\\y"])
def test_words_of_a_path_are_no_markup(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    console = Console(width=200, file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(cli_terminal, "_console", lambda: console)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    cli_terminal.say(text)
    with cli_terminal.Terminal() as terminal:
        terminal.warn(text)
    assert console.file.getvalue().count(plain(text)) == 2  # type: ignore[attr-defined]
    assert "]8;" not in console.file.getvalue().replace(plain(text), "")  # type: ignore[attr-defined]


def test_a_page_of_hostile_answers_runs_nothing() -> None:
    texts = [text[:2000] for text in shapes.TEXTS]
    samples = [SamplePair(1, lang, text, text, text, note=text) for text in texts for lang in ("es", text)]
    page = render(ReportData(texts[11], "2026", 0, texts[11], samples=samples, notes=texts, config={"name": texts[11]}))
    assert_inert(page)
    assert not set(page) & set("\x1b\x9b\0")


def test_a_card_and_its_rows_hold_hostile_answers_as_text(tmp_path: Path) -> None:
    texts = [text for text in shapes.TEXTS if text.strip()]
    examples = [
        Example(
            text,
            {"en": [{"role": "user", "content": text}]},
            [Candidate("a", "en", text), Candidate("b", "en", "x" + text)],
            [Pair("en", "a", "b")],
        )
        for text in texts
    ]
    name = "a\n---\nlicense: other\n# <script>"
    summary = export_pairs(examples, ExportOptions(name=name), tmp_path / "out", provenance={"recipe": "```\n<script>"})
    assert summary.pairs == {"en": len(texts)}
    import datasets

    rows = datasets.Dataset.from_json(str(tmp_path / "out" / "train.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert [row["id"] for row in rows] == texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


@settings(FEW, max_examples=100)
@given(shapes.texts() | st.text("./\\:* ab\n\x01\x7f\x85\ud800é", max_size=200))
def test_a_name_of_a_model_is_one_part_of_a_path(name: str) -> None:
    found = file_name(name)
    assert found not in ("", ".", "..")
    assert Path(found).name == found
    assert len(found.encode()) <= 200
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in found)


def test_long_names_that_begin_alike_are_files_of_their_own() -> None:
    names = ["m" * 300, "m" * 301, "é" * 200, "é" * 201]
    assert len(set(file_names(names).values())) == 4
