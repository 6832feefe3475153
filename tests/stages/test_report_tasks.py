"""The report's sections on standard tasks and the alignment tax."""

from __future__ import annotations

from typing import Any

from reuse_data import figure, made

from polypref.stages.alignment_tax import alignment_tax
from polypref.stages.report import render
from polypref.stages.report_section import Part
from polypref.stages.report_tasks import shown, standard_tasks
from polypref.stages.standard_tasks import Done, carried, merged
from report_pages import Page


def put(lang: str, *values: float) -> Done:
    right = {str(place): value for place, value in enumerate(values)}
    asked = {"harness": "lm-eval", "settings": {}}
    return Done("a digest", f"arc_{lang}", "arc", lang, asked, {}, {}, {"acc_norm": right, "acc": right})


BEFORE, AFTER = [put("es", 1, 1, 0), put("de", 1, 0, 0)], [put("es", 0, 1, 0), put("de", 0, 0, 0)]


def data(**changes: Any) -> Any:
    results: dict[str, Any] = {"results": {"policy": {"es": figure("quality", 0.5)}}}
    for name, done in (("policy", BEFORE), ("round-1", AFTER)):
        results = merged(results, name, f"hash of {name}", done)
    found = carried(results, results["results"], {})
    return made(**found | {"alignment_tax": [alignment_tax(BEFORE, AFTER, ("policy", "round-1"))]} | changes)


def parts(told: Any) -> dict[str, Part]:
    return {part.id: part for part in standard_tasks(told, False)}


def rows(part: Part) -> list[list[str]]:
    [grid] = part.grids
    return [[grid.title], grid.header, *([str(cell).replace("\u00a0", " ") for cell in row] for row in grid.rows)]


def test_the_figure_that_papers_report_stands_open_and_the_others_are_folded() -> None:
    """Of 1, 1, 0 the mean is 2/3 and its standard error √(1/3)/√3 = 1/3."""
    found = parts(data())
    assert rows(found["tasks"]) == [
        ["arc_acc_norm, %"],
        ["", "Spanish", "German"],
        ["policy", "66.7 ± 33.3 (3)", "33.3 ± 33.3 (3)"],
        ["round-1", "33.3 ± 33.3 (3)", "0.0 ± 0.0 (3)"],
    ]
    assert rows(found["tasks-figures"])[0] == ["arc_acc, %"]
    assert found["tasks-figures"].folded
    assert shown(data()) == {"arc_acc_norm", "arc_acc"}


def test_the_tax_has_the_mean_of_all_first() -> None:
    """Item 0 is lost in both languages, so the items' differences are −1, 0, 0: −1/3 ± 1/3, t = −1 with two degrees of
    freedom: p = 1 − 1/√3 = 0.423, and 4.3027/3 = 1.434 either way. Each language's are the same."""
    change = ["−33.3 [−176.8, +110.1]", "0.423", "3"]
    assert rows(parts(data())["tax"]) == [
        ["policy → round-1, % and points"],
        ["", "policy", "round-1", "difference", "p", "items"],
        ["all, mean", "50.0", "16.7", *change],
        ["arc_acc_norm, mean", "50.0", "16.7", *change],
        ["arc_acc_norm, Spanish", "66.7", "33.3", *change],
        ["arc_acc_norm, German", "33.3", "0.0", *change],
    ]


def test_a_run_without_standard_tasks_says_nothing_of_them() -> None:
    assert parts(data(standard_tasks=None, alignment_tax=None)) == {}
    assert shown(data(standard_tasks=None)) == set()


def test_the_page_has_both_sections_and_draws_the_tax() -> None:
    html = render(data())
    assert {"tasks", "tax"} <= {section.get("id") for section in Page(html).named("section")}
    assert html.count("arc_acc, %") == 1  # not a second time among every other figure
