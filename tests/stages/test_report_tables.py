"""The tables and charts of the report by themselves: units, n, widths, names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from polypref.stages import report_charts as charts
from polypref.stages.report_tables import NBSP, Cell, Grid, lines_grid, metric_grid, namer, number


def figure(metric: str, value: float, stderr: float = 0.02, n: int = 90) -> dict[str, Any]:
    return {metric: value, f"{metric}_stderr": stderr, f"{metric}_n": n}


def test_rows_of_different_units_say_theirs() -> None:
    figures = {"es": figure("own_quality", 12.5, 0.25) | figure("imbalance_better", 0.5)}
    grid = lines_grid("both", [("own", figures, "own_quality"), ("better", figures, "imbalance_better")])
    assert (grid.title, [row[0].text for row in grid.rows]) == ("both", ["own", "better, %"])
    assert [row[1].text for row in grid.rows] == ["12.5 ± 0.2", "50.0 ± 2.0"]


def test_a_metric_is_marked_by_whom_it_is_asked_to_name() -> None:
    grid = metric_grid({"a": {"es": figure("quality", 0.5), "fr": figure("quality", 0.5)}}, "quality", namer(["fr"]))
    assert grid.header == ["", "Spanish", "French (unseen)"]


def test_an_n_that_a_column_shares_stands_in_a_row() -> None:
    rows = [[Cell(name), Cell("1", 90), Cell("2", 1800), Cell("–")] for name in ("a", "b")]
    settled = Grid("t", ["", "x", "y", "z"], rows).settled()
    assert [[cell.text for cell in row] for row in settled.rows] == [
        ["a", "1", "2", "–"],
        ["b", "1", "2", "–"],
        ["prompts", "90", "1,800", "–"],
    ]
    assert all(cell.n is None for row in settled.rows for cell in row)
    mixed = [[Cell("a"), Cell("1", 90)], [Cell("b"), Cell("1", 91)]]
    assert Grid("t", ["", "x"], mixed).settled().rows == mixed


def test_a_table_that_is_still_too_wide_puts_its_intervals_on_lines_of_their_own() -> None:
    cells = [Cell(f"+1.0{NBSP}[−1.0,{NBSP}+3.0]") for _ in range(8)]
    rows = [[Cell(f"a step with a name {i}"), *cells] for i in range(8)]
    settled = Grid("t", ["", *"abcdefgh"], rows).settled()
    assert settled.wide
    assert settled.rows[0][1].text == f"+1.0\n[−1.0,{NBSP}+3.0]"
    assert not Grid("t", ["", *"ab"], [row[:3] for row in rows]).settled().wide


def test_a_zero_has_no_minus() -> None:
    assert number(-0.001, places=2, signed=True) == "+0.00"
    assert number(-0.004, True, places=0) == "0"
    assert number(-0.006, places=2) == "−0.01"


@pytest.mark.parametrize("series", [2, 8])
def test_a_legend_does_not_widen_its_chart(series: int) -> None:
    rows = [charts.Dot("x", f"lidr-round-{i} → lidr-round-{i + 1}", float(i)) for i in range(series)]
    svg = charts.dots(rows, y="y", alt="")
    found = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    assert found is not None
    assert float(found[1]) < charts.WIDTH + 90


def test_what_is_in_brackets_stands_under_the_name_of_a_language() -> None:
    svg = charts.dots([charts.Dot("Chinese (Simplified) (unseen)", "a", 1.0)], y="y", alt="")
    lines = re.findall(r"<tspan[^>]*>([^<]*)</tspan>", svg)
    assert lines == ["Chinese", "(Simplified)", "(unseen)"]
