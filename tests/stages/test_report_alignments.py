"""Win rates, best-of-n and trainings in the report: what its words claim, its tables and charts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from reuse_data import aligned, best_of_n, curve, figure, full, grid_of, made, round_of, told, trained

from polypref.stages import report_charts as charts
from polypref.stages.report import headline_of, render, terminal_tables
from polypref.stages.report_parts import parts
from polypref.stages.report_tables import NBSP
from polypref.stages.report_training import _smooth
from report_pages import Page, printed

# --- win rates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "kind", "ending"),
    [
        (0.6, "good", "in English."),
        (0.51, "watch", "in English. No gain is shown."),
        (0.45, "watch", "in English. It loses."),
    ],
)
def test_the_headline_says_what_was_aligned_how_and_claims_no_more_than_the_interval(
    mean: float, kind: str, ending: str
) -> None:
    data = made(alignments=[aligned({"rl-en": {"en": 0.7, "sw": 0.4}}, {"rl-en": mean})])
    ends = f",{NBSP}".join(
        f"{100 * (mean + side * 1.98397 * 0.01):.1f}" for side in (-1, 1)
    )  # Student's t on 100 degrees
    text = f"RLOO by rm-en (English) wins {100 * mean:.1f}% [{ends}] of comparisons with sft, judged by quality: "
    expected = f"{text}from 40.0% in Swahili to 70.0% {ending}"
    assert (headline_of(data).kind, headline_of(data).text) == (kind, expected)
    assert expected in Page(render(data)).text
    assert expected not in [text for _, text in told(data)]  # it is not said twice


def test_one_language_alone_is_told_by_its_own_figure() -> None:
    data = made(alignments=[aligned({"rl-en": {"sw": 0.7}}, made_by={}, sources={})])
    assert (
        headline_of(data).text
        == "RLOO, rl-en, wins 70.0% [66.0,\u00a074.0] of comparisons with sft, judged by quality, in Swahili."
    )


def test_the_run_is_about_its_last_model_and_else_about_the_reward_of_the_pivot() -> None:
    best = aligned({"b-es": {"en": 0.8}, "b-en": {"en": 0.7}}, label="best of 8")
    rl = aligned({"rl-es": {"en": 0.6}, "rl-en": {"en": 0.65}})
    last = [{"round": 1, "model": "rl-es"}]
    assert headline_of(made(alignments=[rl, best], rounds=last)).text.startswith("RLOO by rm-es (Spanish) wins 60.0%")
    assert headline_of(made(alignments=[rl, best])).text.startswith("Best of 8 by rm-en (English) wins 70.0%")


def test_other_judges_are_told_where_they_do_not_say_the_same() -> None:
    rates = {"rl-en": {"en": 0.7}}
    same = aligned(rates, judge="judge", metric="win_rate_by_judge")
    same["matrix"] = {"rl-en": {"en": figure("win_rate_by_judge", 0.69)}}
    other = same | {"judge": "people", "matrix": {"rl-en": {"en": figure("win_rate_by_judge", 0.5)}}}
    text = f"Judges disagree: RLOO by rm-en (English) wins 50.0% [46.0,{NBSP}54.0] of comparisons with sft, judged by "
    found = told(made(alignments=[aligned(rates), same, other]))
    assert found == [("watch", f"{text}people, in English. No gain is shown.")]


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (0.05, f"wins more often than those of others, by 5.0{NBSP}±{NBSP}4.0 points (paired t-test, p = 0.012)."),
        (-0.05, f"wins less often than those of others, by 5.0{NBSP}±{NBSP}4.0 points (paired t-test, p = 0.012)."),
        (-0.01, f"and those of others cannot be told apart: −1.0{NBSP}±{NBSP}4.0 points (paired t-test, p = 0.012)."),
    ],
)
def test_what_a_reward_of_the_language_itself_is_worth(gain: float, says: str) -> None:
    found = {"gain": gain, "stderr": 0.02, "low": gain - 0.04, "high": gain + 0.04, "n": 101, "p": 0.012}
    both = {"languages": {"en": found | {"p": 0.0002}}, **found}
    data = made(
        alignments=[aligned({"rl-en": {"en": 0.7}, "rl-es": {"en": 0.6}}, monolingual_against_cross_lingual=both)]
    )
    assert ("plain", f"RLOO, judged by quality: a reward of the language itself {says}") in told(data)
    rows = grid_of(data, "A reward of the language itself over those of others, points")
    assert [row[0] for row in rows] == ["", "RLOO", "p"]
    assert rows[2] == ["p", "0.012", "< 0.001"]


def test_win_rates_stand_with_their_mean_by_judge() -> None:
    entry = aligned({"rl-en": {"en": 0.7, "sw": 0.4}, "rl-es": {"en": 0.6}}, {"rl-en": 0.55})
    assert grid_of(made(alignments=[entry]), "Win rate against sft, judged by quality, %") == [
        ["", "mean", "English", "Swahili"],
        ["rl-en (English)", "55.0 ± 1.0", "70.0 ± 2.0", "40.0 ± 2.0"],
        ["rl-es (Spanish)", "–", "60.0 ± 2.0", "–"],
    ]


def test_the_map_marks_what_is_not_shown_to_win_or_lose_and_a_reward_of_the_language_itself() -> None:
    entry = aligned({"rl-en": {"en": 0.7, "es": 0.53}, "rl-es": {"en": 0.45, "es": 0.6}})
    [drawn] = [svg for part in parts(made(alignments=[entry])) if part.id == "source-target" for _, svg in part.charts]
    texts = set(re.findall(r">(\d\d\.\d†?)<", drawn))
    assert texts == {"70.0", "53.0†", "45.0", "60.0"}  # 53.0 ± 3.97 reaches 50, 45.0 ± 3.97 does not
    assert drawn.count(f'stroke="{charts.INK}"') == 2


def test_two_colours_lie_around_the_middle_and_the_furthest_is_the_fullest() -> None:
    colour = charts._shades([0.4, 0.5, 0.8], (0.5, "50%"))
    assert colour(0.5)["fill"] == "#f5f5f4"
    assert colour(0.8)["fill"] == "#0b5c9e"
    assert colour(0.2)["fill"] == "#b45309"
    assert colour(0.65)["fill"] == "#80a8c9"  # half way: (0xf5 + 0x0b)/2 = 128, (0xf5 + 0x5c)/2 = 168.5, 201
    assert charts._shades([0.5], (0.5, "50%"))(0.5)["fill"] == "#f5f5f4"
    # Maps compare: what is near the middle is pale in each, whatever else stands in it.
    assert charts._shades([0.5, 0.65], (0.5, "50%"))(0.65) == colour(0.65)


def test_means_of_own_and_other_rewards_and_what_accuracy_foretells() -> None:
    mean = {"value": 0.6, "stderr": 0.01, "n": 101}
    entry = aligned({"rl-en": {"en": 0.7}, "rl-es": {"en": 0.6}}, diagonal=mean, tau={"value": -0.25, "n": 4})
    data = made(alignments=[entry])
    assert grid_of(data, "Mean win rate, %")[1:] == [["RLOO", "own", "60.0", "58.0 to 62.0", "101"]]
    assert "It is −0.25 (RLOO, 2 rewards, mean over 4 languages)." in Page(render(data)).text


def test_figures_by_category_have_tables_of_their_own() -> None:
    data = full()
    assert [row[0] for row in grid_of(data, "Quality, summary, %")[1:2]] == ["sft"]
    assert "Win rate of rl-en" in Page(render(data)).text
    folded = [grid.title for part in parts(data, draw=False) if part.id == "figures" for grid in part.grids]
    assert not [title for title in folded if "quality" in title.lower() or "win rate" in title.lower()]
    assert "summary" not in printed(terminal_tables(data))


# --- best-of-n and training -------------------------------------------------------------------------------------------


def test_best_of_n_has_the_first_n_once_where_all_rewards_share_it() -> None:
    rows = grid_of(made(best_of_n=best_of_n()), "Quality, %")
    assert [row[0] for row in rows] == ["", "n = 1", "n = 8, rm-en", "n = 8, rm-es"]
    assert rows[1][1:] == ["50.0 ± 2.0"] * 4
    assert rows[0] == ["", "mean", "English", "Spanish", "Swahili"]
    found = best_of_n()
    found["rewards"]["rm-es"]["curves"]["sw"][0]["quality"] = 0.4
    names = [row[0] for row in grid_of(made(best_of_n=found), "Quality, %")]
    assert names[1:3] == ["n = 1, rm-en", "n = 1, rm-es"]


def test_best_of_n_is_drawn_by_reward_with_every_n_and_its_bound() -> None:
    [part] = [part for part in parts(made(best_of_n=best_of_n())) if part.id == "best-of-n"]
    assert [caption for caption, _ in part.charts] == [
        "Quality of the picked answer",
        "The reward that picks, each in its own unit",
    ]
    quality = part.charts[0][1]
    for text in ("rm-en (English)", "rm-es (Spanish)", "mean", "Swahili"):
        assert f">{text}<" in quality
    for bound in ("0.0", "0.2", "0.6", "1.2"):  # log n − (n − 1)/n of 1, 2, 4, 8
        assert f">{bound}<" in quality


def test_more_samples_that_are_worse_are_pointed_at() -> None:
    """In sw the interval at n = 8, 0.5 ± 0.04, lies below the 0.6 at n = 4; in es 0.57 ± 0.04 does not."""
    found = best_of_n(rewards=("rm-en",))
    found["rewards"]["rm-en"]["curves"] |= {"es": curve((0.5, 0.55, 0.6, 0.57)), "sw": curve((0.5, 0.55, 0.6, 0.5))}
    text = (
        "Best-of-n by rm-en has its highest quality before the greatest n in Swahili: more samples exploit the reward."
    )
    assert told(made(best_of_n=found)) == [("watch", text)]


def test_a_training_is_told_by_its_first_and_last_steps() -> None:
    """20 steps, so means over 2: of the reward (1 + 2)/2 and (19 + 20)/2."""
    rows = grid_of(made(rounds=round_of(**{"rl-en": trained()})), "rl-en (RLOO)")
    assert rows[0] == [
        "",
        "Reward",
        "KL from the start, nats an answer",
        "Answer length, tokens",
        "Answers in another language, %",
    ]
    assert rows[1] == [
        "all languages",
        *(t.replace(" ", NBSP) for t in ("1.5 → 19.5", "0.15 → 1.95", "20.0 → 20.0", "10.0 → 10.0")),
    ]
    assert [row[0] for row in rows[2:]] == ["English", "Spanish", "Swahili"]


def test_lines_of_training_are_running_means() -> None:
    rows = [{"step": i, "reward": v} for i, v in enumerate((1.0, None, 3.0, 8.0), 1)]
    assert _smooth(rows, "reward", 2) == [(1, 1.0), (3, 2.0), (4, 5.5)]


STOPPED = "The training of rl-en stopped at step 20: the KL was 6, above max_kl 5"


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        (
            {"stopped": {"step": 20, "reason": "kl", "said": "the KL was 6, above max_kl 5"}, "selected": 10},
            "watch",
            f"{STOPPED}; the weights of step 10 were taken.",
        ),
        (
            {"stopped": {"step": 20, "reason": "kl", "said": "the KL was 6, above max_kl 5"}, "selected": 0},
            "watch",
            f"{STOPPED}; the weights of the start were kept.",
        ),
        ({"selected": 10}, "plain", "rl-en was trained for 20 steps; the weights of step 10 were taken."),
    ],
)
def test_where_a_training_stopped_and_which_weights_it_came_to(changes: dict[str, Any], kind: str, text: str) -> None:
    data = made(rounds=round_of(**{"rl-en": trained(**changes)}))
    assert (kind, text) in told(data)
    [svg] = [svg for part in parts(data) if part.id == "training" for _, svg in part.charts]
    assert ">taken<" in svg


def test_a_training_that_went_to_its_end_says_nothing() -> None:
    assert told(made(rounds=round_of(**{"rl-en": trained()}))) == []


def test_a_training_that_logs_a_loss_alone_shows_it_and_one_that_logs_nothing_is_left_out() -> None:
    losses = {"method": "dpo", "curve": [{"step": i, "loss": 0.7} for i in (1, 2)]}
    data = made(rounds=round_of(**{"rl-en": losses, "other": {"method": "sft", "rows": 3}}))
    assert grid_of(data, "rl-en (DPO)") == [["", "Loss"], ["all languages", f"0.70{NBSP}→{NBSP}0.70"]]
    assert [len(part.charts) for part in parts(data) if part.id == "training"] == [1]
