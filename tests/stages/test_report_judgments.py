"""The sections on judgments: their tables, charts and sentences."""

import pytest
from judged_comparisons import judgment, many, told

from polypref.stages import report_charts as charts
from polypref.stages.comparison_results import win_rates as rates_of
from polypref.stages.report_judgment_figures import Rate, boards, rate, texts
from polypref.stages.report_judgment_lengths import binned, lengths
from polypref.stages.report_judgment_parts import agreement, head_to_head, ratings, verdicts, win_rates
from polypref.stages.report_judgment_section import baselines_of, section
from polypref.stages.report_judgment_words import findings, headline
from polypref.stages.report_judgments import About, render_judgments


def block(win_rate, low, high, **more):
    """A block of docs/win-rates.md, its length-controlled rate ten points lower."""
    controlled = {
        "length_controlled_win_rate": win_rate and win_rate - 10,
        "length_controlled_win_rate_low": low - 10,
        "length_controlled_win_rate_high": high - 10,
    }
    counts = {"wins": 6, "ties": 1, "losses": 3, "model_length": 1812.4, "n": 10, "prompts": 5, "warning": None}
    return {"win_rate": win_rate, "win_rate_low": low, "win_rate_high": high, **controlled, **counts, **more}


def spoken(mean, en, es, **more):
    """A block of two languages."""
    return block(50, 40, 60, macro_average=block(*mean), by_language={"en": block(*en), "es": block(*es)}, **more)


def two_models():
    models = {
        "sft": spoken((45, 41, 49), (48, 44, 52), (42, 38, 46)),
        "icr": spoken((60, 55, 65), (62, 57, 67), (58, 53, 63)),
    }
    return {"win_rates": block(52, 50, 54, by_model=models), "ratings": None, "agreement": None}


def rows(grid):
    return [grid.header, *([str(cell).replace("\u00a0", " ") for cell in row] for row in grid.rows)]


def test_two_models_that_only_met_each_other_have_no_baseline():
    """Where nobody is named as the baseline both have win rates, and the better one does not beat itself."""
    rows = [judgment(id=str(i), model="one", baseline="two", preference=float(i < 2)) for i in range(10)]
    figures = {**told(rows), "win_rates": rates_of(rows, both_sides=True)}
    found = boards(figures, rows)
    assert baselines_of(rows, found) == ["one", "two"]
    assert headline(figures, found, baselines_of(rows, found)).text.startswith("two stands first: it wins 80.0%")
    page = render_judgments(rows, figures, About("two models", "2026-01-02", "polypref:0"))
    assert "<dt>models</dt><dd>2</dd>" in page
    held = told(rows)
    assert baselines_of(rows, boards(held, rows)) == ["two"]
    assert "<dt>models</dt><dd>1</dd>" in render_judgments(rows, held, About("held", "2026-01-02", "polypref:0"))


# --- tables ----------------------------------------------------------------------------------------------------------


def test_models_stand_best_first_with_both_rates_in_the_mean_and_by_language():
    found = boards(two_models(), [judgment(), judgment(language="es")])
    standing, raw, controlled = win_rates(found, ["base"], draw=False).grids
    assert rows(standing)[1:] == [
        ["icr", "60.0 [55.0, 65.0]", "50.0 [45.0, 55.0]", "6", "1", "3", "1,812", "5"],
        ["sft", "45.0 [41.0, 49.0]", "35.0 [31.0, 39.0]", "6", "1", "3", "1,812", "5"],
    ]
    assert rows(raw) == [
        ["", "mean", "English", "Spanish"],
        ["icr", "60.0 [55.0, 65.0]", "62.0 [57.0, 67.0]", "58.0 [53.0, 63.0]"],
        ["sft", "45.0 [41.0, 49.0]", "48.0 [44.0, 52.0]", "42.0 [38.0, 46.0]"],
    ]
    assert rows(controlled)[1][1] == "50.0 [45.0, 55.0]"


def test_the_judges_rank_models_in_the_order_of_the_first():
    """So a model has one colour and one place in all charts."""
    one, other = two_models()["win_rates"], two_models()["win_rates"]
    other["by_model"]["sft"]["macro_average"] = block(70, 65, 75)
    other["by_model"]["new"] = block(50, 40, 60)
    found = boards({"win_rates": block(50, 40, 60, by_judge={"gpt": one, "oracle": other})})
    assert found[1].ranked() == ["sft", "icr", "new"]
    assert [row[0].text for row in win_rates(found, ["base"], draw=False).grids[3].rows] == ["icr", "sft", "new"]


def test_a_mean_over_fewer_languages_is_marked():
    made = two_models()
    one = made["win_rates"]["by_model"]["sft"]
    one["by_language"]["de"] = block(45, 40, 50)
    grids = win_rates(boards(made), ["base"], draw=False).grids
    assert grids[0].note.endswith("* icr: the mean over en, es alone.")
    assert [row[1].text.endswith("*") for row in grids[0].rows] == [True, False]  # icr, sft
    assert [row[1].text.endswith("*") for row in grids[1].rows] == [True, False]
    assert not any(cell.text.endswith("*") for row in grids[1].rows for cell in row[2:])


def test_a_model_has_one_colour_by_every_judge():
    """The second judge says nothing of icr, the best; sft keeps its colour."""
    one, other = two_models()["win_rates"], two_models()["win_rates"]
    del other["by_model"]["icr"]
    part = win_rates(
        boards({"win_rates": block(50, 40, 60, by_judge={"gpt": one, "oracle": other})}), ["base"], draw=True
    )
    first, second = (svg for caption, svg in part.charts if caption.startswith("By language"))
    best, behind = charts.COLOURS[1:3]
    assert (best in first, behind in first) == (True, True)
    assert (best in second, behind in second) == (False, True)


def test_the_one_judge_of_a_run_has_its_name():
    [board] = boards(two_models(), judge="oracle")
    assert board.judge == "oracle"


def test_one_judge_model_and_language_have_the_names_of_their_judgments():
    [board] = boards({"win_rates": block(60, 50, 70)}, [judgment(judge="people", model="m", language="sw")])
    assert (board.judge, list(board.models), board.languages) == ("people", ["m"], ["sw"])
    [board] = boards({"win_rates": block(60, 50, 70)})
    assert (board.judge, list(board.models), board.languages) == ("judge", ["model"], [])


def test_a_rate_without_an_interval_has_wilsons():
    """p = 0.5 with s = 0.1 over 25 prompts is p(1 − p)/s² = 25 trials; t(24) = 2.0639, so t²/25 = 0.17038 and the half
    width is √(0.17038·(0.25 + 0.17038/4))/1.17038 = 0.1908."""
    found = rate({"tie_rate": 50.0, "tie_rate_stderr": 10.0, "prompts": 25}, "tie_rate")
    assert (found.low, found.high) == pytest.approx((0.5 - 0.1908, 0.5 + 0.1908), abs=1e-4)
    assert rate({"tie_rate": 50.0, "tie_rate_stderr": None, "prompts": 1}, "tie_rate") == Rate(0.5)
    assert rate({"tie_rate": None}, "tie_rate") is None


def test_a_win_of_one_is_the_loss_of_the_other():
    pages = {"win_rates": block(50, 40, 60, head_to_head={"a": {"b": block(60, 55, 65), "c": block(52, 45, 59)}})}
    [grid] = head_to_head(pages, draw=False).grids
    assert rows(grid) == [
        ["", "a", "c", "b"],
        ["a", "–", "52.0 [45.0, 59.0]", "60.0 [55.0, 65.0]"],
        ["c", "48.0 [41.0, 55.0]", "–", "–"],
        ["b", "40.0 [35.0, 45.0]", "–", "–"],
    ]
    part = head_to_head(pages, draw=True)
    assert part.charts[0][1].count("stroke-dasharray") >= 2  # the two tiles whose interval reaches 50%
    assert not head_to_head({"win_rates": block(50, 40, 60)}, draw=True).grids


def strength(points):
    return {"rating": points, "stderr": 5.0, "low": points - 10, "high": points + 10}


def rated(first=1050.0, second=1000.0):
    both = {"a": strength(first), "b": strength(second)}
    whole = {"models": ["a", "b"], "bradley_terry": both, "elo": {"a": strength(first - 4), "b": strength(second + 4)}}
    return {**whole, "n": 10, "prompts": 5, "warning": None}


def test_ratings_have_intervals():
    [grid] = ratings(rated(), draw=False).grids
    assert rows(grid) == [
        ["", "Bradley–Terry", "Elo"],
        ["a", "1,050 [1,040, 1,060]", "1,046 [1,036, 1,056]"],
        ["b", "1,000 [990, 1,010]", "1,004 [994, 1,014]"],
    ]


def test_ratings_by_language_have_the_mean_first_and_a_gap_where_nothing_connects_the_models():
    lost = {"bradley_terry": None, "elo": None, "n": 3, "prompts": 3, "warning": "no comparison connects them"}
    found = {**rated(), "macro_average": rated(1020.0), "by_language": {"es": rated(1030.0), "sw": lost}}
    [grid] = ratings(found, draw=False).grids
    assert rows(grid)[:2] == [
        ["", "mean", "Spanish", "Swahili", "Elo"],
        ["a", "1,020 [1,010, 1,030]", "1,030 [1,020, 1,040]", "–", "1,016 [1,006, 1,026]"],
    ]
    assert list(texts({"by_language": {"sw": lost}})) == [("Swahili", "no comparison connects them")]


def test_what_a_judge_could_not_say_is_told_by_language():
    def rates(flips, ties):
        return block(50, 40, 60, flip_rate=flips, tie_rate=ties, no_verdict_rate=None)

    whole = {**rates(30, 20), "by_language": {"en": rates(20, 10), "es": rates(40, None)}}
    [grid] = verdicts(boards({"win_rates": whole}), draw=False).grids
    assert rows(grid) == [
        ["", "all", "English", "Spanish"],
        ["orders contradict each other", "30.0", "20.0", "40.0"],
        ["tie", "20.0", "10.0", "–"],
    ]
    [grid] = verdicts(boards({"win_rates": rates(20, 10)}, [judgment(language="es")]), draw=False).grids
    assert grid.header == ["", "Spanish"]


def agreed(judges=("gpt", "oracle"), alpha=0.61):
    kinds = {kind: {"value": alpha, "low": 0.55, "high": 0.67} for kind in ("nominal", "ordinal", "interval")}
    pairs = [
        {"judges": [a, b], "n": 8, "prompts": 4, "raw": 0.8, "raw_stderr": 0.02, "kappa": None, "spearman": None}
        for i, a in enumerate(judges)
        for b in judges[i + 1 :]
    ]
    lone = {"n": 4, "prompts": 4, "alpha": {**kinds, "nominal": None}, "pairs": []}
    return {"judges": list(judges), "n": 8, "prompts": 4, "alpha": kinds, "pairs": pairs, "by_language": {"es": lone}}


def test_agreement_of_every_two_judges_by_language():
    alphas, raw, kappa = agreement(agreed(), draw=False).grids
    assert rows(alphas)[:2] == [["", "all", "Spanish"], ["nominal", "0.61 [0.55, 0.67]", "–"]]
    assert rows(raw)[1] == ["gpt and oracle", "80.0 ± 2.0 (4)", "–"]
    assert rows(kappa)[1] == ["gpt and oracle", "–", "–"]
    assert not agreement(agreed(), draw=True).charts  # two judges are one number
    assert [name for name, _ in agreement(agreed(("a", "b", "c")), draw=True).charts] == ["Same verdict, %"]


# --- length ----------------------------------------------------------------------------------------------------------


def test_how_often_the_longer_answer_is_preferred():
    """p1: the longer wins; p2: it loses; p3: equal lengths, left out; p4: no verdict; p5: the baseline's is longer and
    ties. So (1 + 0 + ½)/3."""
    some = [
        judgment("p1", preference=1.0, model_length=9, baseline_length=5),
        judgment("p2", preference=0.0, model_length=9, baseline_length=5),
        judgment("p3", preference=1.0, model_length=5, baseline_length=5),
        judgment("p4", preference=None, model_length=8, baseline_length=5),
        judgment("p5", preference=0.5, model_length=3, baseline_length=5),
    ]
    longer, means = lengths(some, ["icr"], draw=False).grids
    assert rows(longer)[1][1].startswith("50.0 ±")
    assert rows(longer)[1][1].endswith("(3)")
    # (9 + 9 + 5 + 8 + 3)/5 and 5.
    assert [row[1].text.split(" ")[0] for row in means.rows] == ["6.80", "5.00"]
    assert [row[0].text for row in means.rows] == ["icr", "base"]


def test_an_answer_is_as_long_whoever_judges_it():
    both = [judgment(judge=judge, model_length=40) for judge in ("gpt", "oracle")]
    grid = lengths([*both, judgment("p2", model_length=60)], [], draw=False).grids[-1]
    assert grid.rows[0][1].text.startswith("50")


def test_points_are_groups_of_like_length_ratios():
    """Forty comparisons, ratios 1 to 40, won from 21 on: four groups of ten, their medians 5.5, 15.5, 25.5, 35.5."""
    some = [
        judgment(f"p{i}", preference=float(i > 20), model_length=10 * i, baseline_length=10) for i in range(40, 0, -1)
    ]
    found = binned([*some, judgment("q", preference=None)], "icr")
    assert [(b.ratio, b.value) for b in found] == [(5.5, 0), (15.5, 0), (25.5, 1), (35.5, 1)]
    assert all(b.low < b.value or b.value == 0 for b in found)
    assert binned([judgment(preference=None)], "icr") == []


# --- words -----------------------------------------------------------------------------------------------------------


def lone(win_rate, low, high):
    return {"win_rates": block(win_rate, low, high)}


@pytest.mark.parametrize(
    ("made", "kind", "said"),
    [
        (lone(60, 55, 65), "good", "icr beats base: it wins 60.0% [55.0, 65.0] in English, judged by gpt."),
        (
            lone(52, 45, 59),
            "watch",
            "icr and base cannot be told apart: icr wins 52.0% [45.0, 59.0] in English, judged by gpt.",
        ),
        (lone(40, 35, 45), "watch", "icr falls behind base: icr wins 40.0% [35.0, 45.0] in English, judged by gpt."),
        (lone(None, 55, 65), "watch", "No comparison of icr has a verdict, judged by gpt."),
    ],
)
def test_the_headline_of_one_model(made, kind, said):
    first = headline(made, boards(made, [judgment()]), ["base"])
    assert (first.kind, first.text) == (kind, said)


@pytest.mark.parametrize(("flips", "said"), [(50, "icr beats base"), (51, "gpt contradicts itself in 51.0%")])
def test_a_judge_that_mostly_contradicts_itself_has_no_winner(flips, said):
    made = {"win_rates": block(60, 55, 65, flip_rate=flips)}
    for against in (["base"], ["b", "c"]):
        text = headline(made, boards(made, [judgment()]), against).text
        assert text.startswith(said if len(against) == 1 or flips > 50 else "icr stands first")


def test_one_comparison_decides_nothing():
    some = [judgment(), judgment("p2", "es", preference=None)]
    made = told(some)
    assert headline(made, boards(made, some), ["base"]).text == (
        "icr and base cannot be told apart: icr wins 100.0% in English, judged by gpt."
    )


def test_the_headline_of_several_models():
    found = boards(two_models(), [judgment(), judgment(language="es")])
    assert headline(two_models(), found, ["base"]).text == (
        "icr leads and beats base: it wins 60.0% [55.0, 65.0] in the mean over 2 languages, judged by gpt."
    )


@pytest.mark.parametrize(
    ("second", "kind", "said"),
    [
        (1000.0, "good", "a leads the ratings: 1,050 [1,040, 1,060] points, b 1,000 [990, 1,010]."),
        (
            1045.0,
            "plain",
            "a stands first, within the interval of the next: 1,050 [1,040, 1,060] points, b 1,045 [1,035, 1,055].",
        ),
    ],
)
def test_where_all_meet_all_the_ratings_are_the_headline(second, kind, said):
    made = lone(60, 55, 65) | {"ratings": rated(second=second)}
    first = headline(made, boards(made, [judgment()]), ["b", "c"])
    assert (first.kind, first.text) == (kind, said)


def sentences(made, judgments=()):
    return [finding.text for finding in findings(made, boards(made, judgments or [judgment()]))]


def test_judges_that_do_not_agree_on_the_first_are_said():
    one, other = two_models()["win_rates"], two_models()["win_rates"]
    other["by_model"]["sft"]["macro_average"] = block(70, 65, 75)
    made = {"win_rates": block(50, 40, 60, by_judge={"gpt": one, "oracle": other}), "agreement": agreed()}
    said = sentences(made)
    assert said[0] == "The judges do not agree on who is first: gpt has icr, oracle has sft."
    assert said[-1].startswith("The judges agree at α = 0.61 (Krippendorff, nominal); below 0.667")
    assert not any("α" in text for text in sentences(lone(60, 55, 65) | {"agreement": agreed(alpha=0.7)}))


def test_a_language_in_which_the_winner_is_behind_is_said():
    made = {"win_rates": spoken((60, 55, 65), (80, 75, 85), (40, 35, 45))}
    both = [judgment(), judgment(language="es")]
    assert sentences(made, both)[0] == "icr falls behind in Spanish 40.0% [35.0, 45.0]."
    made = {"win_rates": spoken((60, 55, 65), (80, 75, 85), (45, 35, 55))}
    assert not any("falls behind" in text for text in sentences(made, both))


def test_a_win_that_is_one_of_length_is_said():
    """Raw 54 [52, 56]; of one length 44 [42, 46]."""
    [said] = sentences(lone(54, 52, 56))
    assert said == (
        "Length decides for icr: it wins 54.0% [52.0, 56.0], and 44.0% [42.0, 46.0] if both answers were of one length."
    )
    assert sentences(lone(61, 58, 64)) == []  # 51 [48, 54] is on the same side


def test_a_judge_that_contradicts_itself_or_is_silent_is_said_by_language():
    def rates(flips, silences):
        return block(61, 58, 64, flip_rate=flips, no_verdict_rate=silences)

    made = {"win_rates": {**rates(28, 3), "by_language": {"en": rates(20, 5), "sw": rates(36, 6)}}}
    made["win_rates"]["by_language"]["en"]["one_order_rate"] = 7
    assert sentences(made) == [
        "gpt contradicts itself when the answers change places: Swahili 36.0% of the comparisons.",
        "gpt could be read in one order alone: English 7.0% of the comparisons.",
        "gpt gives no verdict: Swahili 6.0% of the comparisons.",
    ]


def test_a_warning_is_said_once_with_the_places_that_it_is_of():
    held = block(61, 58, 64, warning="rests on a ridge")
    made = {"win_rates": block(61, 58, 64, by_model={"icr": held, "sft": held, "new": held, "old": held})}
    assert sentences(made) == ["icr; sft; new and 1 more: rests on a ridge"]


# --- the sections together -----------------------------------------------------------------------------------------


def test_all_against_all_begins_with_the_ratings():
    some = [*many(models=("a", "b")), *(j for b in ("a",) for j in many(models=("b",), prompts=9, baseline=b))]
    ids = [part.id for part in section(told(some), some, draw=False)]
    assert ids[:3] == ["ratings", "head-to-head", "win-rates"]


def test_the_sections_of_a_run_need_no_judgments_and_may_go_without_charts():
    parts = section(two_models(), draw=False)
    assert [part.id for part in parts] == ["win-rates"]
    assert not parts[0].charts
    # By language, and raw beside length-controlled.
    assert len(section(two_models())[0].charts) == 2


def test_many_win_rates_are_a_map():
    languages = ("en", "es", "de", "fr", "sw", "ru", "th", "bn", "ja")
    some = many(prompts=3, languages=languages, models=tuple("abcdef"), judges=("gpt",))
    part = next(part for part in section(told(some), some) if part.id == "win-rates")
    caption, svg = part.charts[0]
    assert caption == "By language; in a dashed frame the interval reaches 50%"
    assert "Blue is above 50%" in svg
