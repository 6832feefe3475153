"""The report's section on language fidelity: its tables, its map, and nothing where nothing was measured."""

from __future__ import annotations

import re
from typing import Any

from reuse_data import figure, made

from polypref.stages.report_languages import COLUMNS, languages_answered, shown
from polypref.stages.report_section import Part


def row(**shares: float) -> dict[str, Any]:
    return {key: value for tag, share in shares.items() for key, value in figure(f"answered_in_{tag}", share).items()}


BEFORE = {"en": row(en=1.0), "zh-Hans": {**row(zh=0.7, en=0.2, und=0.1), **figure("line_pass_rate", 0.75)}}
AFTER = {
    "en": {**row(en=0.99, de=0.01), **figure("code_switching", 0.02)},
    "zh-Hans": {
        **row(zh=0.95, ja=0.05),
        **figure("line_pass_rate", 0.97),
        **figure("word_pass_rate", 0.9),
        **figure("no_judged_line", 0.125),
    },
}
DATA = made(results={"policy": BEFORE, "middle": BEFORE, "round-1": AFTER})


def parts(data: Any = DATA, draw: bool = False) -> dict[str, Part]:
    return {part.id: part for part in languages_answered(data, draw)}


def cells(part: Part, title: str) -> list[list[str]]:
    [grid] = [grid for grid in part.grids if grid.title.startswith(title)]
    return [grid.header, *([str(cell) for cell in row] for row in grid.rows)]


def test_nothing_is_said_where_nothing_was_measured() -> None:
    data = made(results={"policy": {"en": figure("quality", 0.5)}})
    assert parts(data) == {}
    assert shown(data) == set()


def test_rates_stand_in_percent_by_step_and_language() -> None:
    found = parts()
    assert cells(found["languages"], "Line pass rate") == [
        ["", "Chinese (Simplified)"],
        ["policy", "75.0 ± 2.0 (101)"],
        ["middle", "75.0 ± 2.0 (101)"],
        ["round-1", "97.0 ± 2.0 (101)"],
    ]
    assert all("%" in grid.title for part in found.values() for grid in part.grids)
    assert found["languages-figures"].folded
    assert cells(found["languages-figures"], "Answers without a line")[1] == ["round-1", "12.5 ± 2.0 (101)"]


def test_the_matrix_has_the_asked_languages_first_and_what_cannot_be_told_last() -> None:
    table = cells(parts()["languages-figures"], "policy")
    assert table[0][1:3] == ["English", "Chinese"]
    assert table[0][-1] == "cannot be told"
    assert [line[1:] for line in table[1:]] == [["100.0", "–", "–"], ["20.0", "70.0", "10.0"]]


def test_the_first_step_and_the_last_are_drawn_and_the_wanted_language_is_framed() -> None:
    charts = parts(draw=True)["languages"].charts
    assert [caption.partition(":")[0] for caption, _ in charts] == ["policy", "round-1"]
    svg = charts[0][1]
    assert set(re.findall(r">(\d+\.\d)<", svg)) == {"100.0", "20.0", "70.0", "10.0"}
    assert 'aria-label="Asked and answered' in svg


def test_the_crosslingual_case_stands_apart() -> None:
    figures = {
        f"crosslingual_{key}": value for key, value in {**row(es=0.5, en=0.5), **figure("line_pass_rate", 0.5)}.items()
    }
    data = made(results={"policy": {"es": {**figures, **row(es=1.0)}}})
    found = parts(data)
    assert shown(data) == {
        "crosslingual_answered_in_es",
        "crosslingual_answered_in_en",
        "crosslingual_line_pass_rate",
        "answered_in_es",
    }
    assert [grid.title for grid in found["languages"].grids] == [
        "Line pass rate: answers with every line in the wanted language, crosslingual, %"
    ]
    assert [grid.title.partition(":")[0] for grid in found["languages-figures"].grids] == [
        "policy",
        "policy, crosslingual",
    ]


def test_rare_languages_share_a_column_of_the_map() -> None:
    codes = re.split(" ", "de fr it pt nl sv da nb pl cs sk sl ro hu fi et")
    data = made(results={"policy": {"es": row(es=0.84, **dict.fromkeys(codes, 0.01))}})
    [(_, svg)] = parts(data, draw=True)["languages"].charts
    texts = re.findall(r">(\d+\.\d)<", svg)
    assert len(texts) == COLUMNS + 1
    assert f"{len(codes) + 1 - COLUMNS}.0" in texts
    assert "others" in svg


def test_hostile_names_are_inert() -> None:
    [(_, svg)] = parts(made(results={"<script>": {"es": row(es=0.5, en=0.5)}}), draw=True)["languages"].charts
    assert "<script>" not in svg
