"""The sections on numbers of single answers."""

from judged_comparisons import many, told

from polypref.stages.report_grades import graded, grades
from polypref.stages.report_judgments import About, render_judgments
from report_pages import HOSTILE, Page

ABOUT = About("bench", "2026-11-21 18:00", "polypref:0.1.0|judge:gpt")


def score(value, **more):
    return {"score": value, "stderr": 0.2, "low": value - 0.4, "high": value + 0.4, "n": 8, **more}


def block(value):
    turns = {"1": score(value + 0.5), "2": score(value - 0.5)}
    return score(value, turns=turns, categories={"math": score(value - 1), "writing": None})


def blocks(mean, en, es):
    return {"en": block(en), "es": block(es), "macro_average": block(mean)}


def scores():
    return {"gpt": {"sft": blocks(6.0, 6.5, 5.5), "icr": blocks(7.0, 7.25, 6.75)}}


def rows(grid):
    return [grid.header, *([str(cell).replace("\u00a0", " ") for cell in row] for row in grid.rows)]


def test_scores_by_language_turn_and_category_best_model_first():
    languages, turns, categories = grades(scores())
    assert rows(languages.grids[0]) == [
        ["", "mean", "English", "Spanish"],
        ["icr", "7.00 [6.60, 7.40]", "7.25 [6.85, 7.65]", "6.75 [6.35, 7.15]"],
        ["sft", "6.00 [5.60, 6.40]", "6.50 [6.10, 6.90]", "5.50 [5.10, 5.90]"],
    ]
    assert rows(turns.grids[0])[:2] == [["", "turn 1", "turn 2"], ["icr", "7.50 [7.10, 7.90]", "6.50 [6.10, 6.90]"]]
    assert rows(categories.grids[0])[:2] == [["", "math", "writing"], ["icr", "6.00 [5.60, 6.40]", "–"]]
    assert [len(part.charts) for part in (languages, turns, categories)] == [1, 0, 1]
    assert not any(part.charts for part in grades(scores(), draw=False))


def test_the_mean_of_a_model_that_answered_in_fewer_languages_is_marked():
    told = {
        "gpt": {"ours": blocks(7.5, 8.0, 7.0), "half": {k: v for k, v in blocks(9.0, 9.0, 0.0).items() if k != "es"}}
    }
    grid = grades(told)[0].grids[0]
    at = {row[0].text: row[1].text for row in grid.rows}
    assert at["half"].endswith("*")
    assert not at["ours"].endswith("*")
    assert grid.note == "* half: the mean over en alone."


def test_one_language_has_no_mean_beside_it():
    [part, *_] = grades({"gpt": {"icr": {"sw": block(4.0)}}}, draw=False)
    assert rows(part.grids[0]) == [["", "Swahili"], ["icr", "4.00 [3.60, 4.40]"]]


def test_the_models_in_one_sentence():
    assert graded(scores()).text == (
        "icr stands first with 7.00 [6.60, 7.40], then sft 6.00 [5.60, 6.40] in the mean over 2 languages, judged by "
        "gpt."
    )
    assert graded({"gpt": {"icr": {"sw": block(4.0)}}}).text == (
        "icr scores 4.00 [3.60, 4.40] in Swahili, judged by gpt."
    )
    nothing = {"turns": {"1": None}, "categories": {}}
    assert graded({"gpt": {"icr": {"sw": nothing}}}).text == "No answer has a number, judged by gpt."


def test_a_model_without_a_number_stands_last():
    found = {"gpt": {"new": {"en": {"turns": {}, "categories": {}}}, "icr": {"en": block(3.0)}}}
    assert [row[0].text for row in grades(found, draw=False)[0].grids[0].rows] == ["icr", "new"]


def test_one_model_has_a_page_without_comparisons():
    html = render_judgments([], {}, ABOUT, scores())
    page = Page(html)
    assert [s["id"] for s in page.named("section")] == ["scores", "turns", "categories", "how"]
    assert not page.named("script")


def test_scores_stand_before_what_they_say_of_pairs():
    some = many(prompts=6)
    page = Page(render_judgments(some, told(some), ABOUT, scores()))
    assert [s["id"] for s in page.named("section")][:4] == ["scores", "turns", "categories", "win-rates"]
    assert "icr stands first with 7.00 [6.60, 7.40]" in page.text[: page.text.index("Look here")]


def test_hostile_names_stay_text():
    for hostile in HOSTILE:
        named = {hostile: {hostile: {"en": score(5.0, turns={hostile: score(5.0)}, categories={hostile: score(5.0)})}}}
        html = render_judgments([], {}, ABOUT, named)
        page = Page(html)
        assert {"script", "img", "iframe"}.isdisjoint(tag for tag, _ in page.elements)
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
