"""The report of a run that pairs by language imbalance: its sections, its unseen languages, its baselines."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from polypref.stages.dominance import Dominance, sentence
from polypref.stages.report import ReportData, findings_of, render, terminal_tables
from polypref.stages.report_tables import NBSP
from polypref.stages.report_words import findings, headline
from polypref.stages.translation_quality import signature
from report_pages import HOSTILE, Page, assert_inert, dumped, printed

THIRTEEN = ("en", "es", "de", "fr", "ru", "zh-Hans", "ja", "th", "bn", "ar", "ko", "sw", "pt-BR")


def figure(metric: str, value: float, stderr: float = 0.02, n: int = 90) -> dict[str, Any]:
    return {metric: value, f"{metric}_stderr": stderr, f"{metric}_n": n}


def gain(low: float, high: float, n: int = 90) -> dict[str, Any]:
    return {"gain": (low + high) / 2, "stderr": 0.01, "low": low, "high": high, "n": n}


def comparison(before: str, after: str, kind: str, tags: tuple[str, ...], **languages: Any) -> dict[str, Any]:
    by_language = {tag: gain(0.02, 0.06) for tag in tags} | languages
    mean = [tag for tag in tags if tag != "en"]
    return {
        "from": before,
        "to": after,
        "kind": kind,
        "metric": "quality",
        "languages": by_language,
        "mean_over": mean,
        **gain(0.02, 0.06),
    }


def lead(tags: tuple[str, ...], tied: tuple[str, ...] = ()) -> dict[str, Any]:
    figures = {tag: figure("quality", 0.7 - 0.1 * (tag != "en"), n=100) for tag in tags}
    against = {
        tag: {"difference": 0.1, "low": -0.02 if tag in tied else 0.04, "high": 0.22, "n": 100} for tag in tags[1:]
    }
    return Dominance("en", "en", "en", tied, figures, against).to_json()


def run(
    tags: tuple[str, ...] = ("en", "es", "de"), rounds: int = 2, unseen: tuple[str, ...] = (), **changes: Any
) -> Any:
    """Rounds from m0 to lidr-round-<n>, with an SFT baseline of the first."""
    names = ["m0", *(f"lidr-round-{number + 1}" for number in range(rounds))]
    results: dict[str, Any] = {
        name: {tag: figure("quality", 0.5) | figure("off_target_language", 0.1) for tag in (*tags, *unseen)}
        for name in (*names, "sft")
    }
    for name in names[:-1]:
        for tag in tags:
            results[name][tag] |= figure("own_quality", 0.41 + 0.1 * (tag == "en"))
            results[name][tag] |= figure("translated_quality", 0.52)
            results[name][tag] |= figure("imbalance_accuracy", 0.63) | figure("imbalance_better", 0.36)
            results[name][tag] |= figure("imbalance_worse", 0.1)
            if tag != "en":
                results[name][tag] |= figure("round_trip_chrf", 61.25, 1.5, 97) | figure(
                    "translation_failed", 0.03, n=100
                )
    steps = [comparison(a, b, "step", tags) for a, b in pairwise(names)]
    steps.append(comparison("sft", "lidr-round-1", "baseline", tags))
    if rounds > 1:
        steps.append(comparison("m0", names[-1], "whole", tags, **dict.fromkeys(unseen, gain(0.01, 0.03))))
    told = [
        {
            "round": number + 1,
            "model": names[number + 1],
            "starts_from": names[number],
            "reward": None,
            "summaries": {
                "translate": {"languages": {}, "dropped": {tag: {"no_closing_tag": 78} for tag in tags}},
                "pair": {
                    "languages": {tag: {"pairs": 90, "length_gap": 3.0, "length_unit": "characters"} for tag in tags},
                    "dropped": {tag: {"duplicate": 2} for tag in tags},
                },
            },
        }
        for number in range(rounds)
    ]
    values: dict[str, Any] = {
        "name": "lidr",
        "date": "2026-01-02",
        "seed": 0,
        "signature": "polypref:0|rule:imbalance",
        "results": results,
        "comparisons": steps,
        "rounds": told,
        "config": {
            "pivot": "en",
            "pair": {"dominant": "auto"},
            "train": {"method": "dpo"},
            "baselines": [{"name": "sft", "train": {"method": "sft"}}],
        },
        "dominance": lead(tags),
        "unseen": list(unseen),
    }
    return ReportData(**(values | changes))


def said(data: ReportData) -> list[tuple[str, str]]:
    return [(finding.kind, finding.text.replace(NBSP, " ")) for finding in findings_of(data)]


def grid_of(data: ReportData, title: str) -> str:
    """What a terminal prints of the table of that title."""
    return printed([next(t for t in terminal_tables(data) if t.title.plain == title)])


# --- sections --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("languages", [2, 5, 13])
def test_it_renders_for_any_number_of_languages_and_rounds(languages: int, rounds: int) -> None:
    data = run(THIRTEEN[:languages], rounds, ("sv",))
    page = assert_inert(render(data))
    sections = [a["id"] for a in page.named("section")]
    assert sections == ["quality", "gains", "leading", "imbalance", "translation", "pairs", "drops", "answers", "how"]
    # quality, gains, leading; own against translated for each round; imbalance accuracy; chrF
    assert len(page.named("svg")) == 3 + rounds + 2
    assert "Own and translated answers, Round 1 (m0)" in page.text
    assert printed(terminal_tables(data))


def test_own_and_translated_answers_stand_with_what_they_are_worth_and_their_n() -> None:
    text = grid_of(run(), "Own and translated answers, Round 2 (lidr-round-1), %")
    for cell in (
        "51.0 ± 2.0",
        "41.0 ± 2.0",
        "52.0 ± 2.0",
        "63.0 ± 2.0",
        "36.0 ± 2.0",
        "10.0 ± 2.0",
        "n = 90 prompts each.",
    ):
        assert cell in text


def test_a_judge_that_scores_beyond_1_is_not_told_in_percent_but_the_accuracies_are() -> None:
    data = run()
    for tag in ("en", "es", "de"):
        data.results["m0"][tag].update(own_quality=6.25, translated_quality=7.5)
    text = grid_of(data, "Own and translated answers, Round 1 (m0)")
    assert "6.25 ± 0.02" in text
    assert "63.0 ± 2.0" in text
    assert "accuracy, %" in text
    assert "own answer, %" not in text


def test_the_leading_language_is_shown_with_its_lead() -> None:
    data = run(dominance=lead(("en", "es", "de"), tied=("de",)))
    text = grid_of(data, "Quality before training, %").replace(NBSP, " ")
    assert "70.0 ± 2.0" in text
    assert "English is ahead by" in text
    assert "+10.0 [+4.0, +22.0]" in text
    assert "+10.0 [−2.0, +22.0]" in text
    told = sentence(Dominance.from_json(data.dominance))
    assert ("watch", told) in said(data)
    assert "cannot be told apart" in told


def test_what_was_said_of_the_lead_on_the_way_is_not_said_twice() -> None:
    data = run()
    told = sentence(Dominance.from_json(data.dominance))
    page = Page(render(run(notes=[told, "another"])))
    assert page.text.count(told) == 1
    assert "another" in page.text
    assert said(data)[0] == ("plain", told)


def test_round_trips_stand_with_sacrebleus_signature_and_failures_by_reason() -> None:
    data = run()
    text = grid_of(data, "Round-trip chrF")
    assert "61.2 ± 1.5" in text
    assert "n = 97 prompts each." in text
    assert signature() in re.sub(r"\s", "", text)
    assert "3.0 ± 2.0" in grid_of(data, "Round trips that failed, %")
    failed = grid_of(data, "Translations that failed, by the language translated into")
    assert re.search(r"Round 1 \(m0\): no_closing_tag +78 +78 +78 +234", failed)
    assert "no_closing_tag" not in grid_of(data, "Round 1 (lidr-round-1)")
    assert "section on translation" in Page(render(data)).text


def test_a_run_without_translations_has_none_of_these_sections() -> None:
    results = {"a": {"es": figure("quality", 0.5)}}
    page = Page(render(ReportData("icr", "2026-01-02", 0, "polypref:0", results=results)))
    assert [a["id"] for a in page.named("section")] == ["quality", "how"]
    assert "translation" not in page.text


def test_pairs_without_a_score_are_not_said_to_have_a_margin() -> None:
    text = Page(render(run())).text
    assert "The length gap is the mean length" in text
    assert "Margin is" not in text
    assert "length control is" not in text


def test_answers_in_another_language_are_told_once() -> None:
    """Fidelity is what is left of them, so it is folded away where both are there."""
    data = run()
    for by_language in data.results.values():
        for figures in by_language.values():
            figures.update(figure("language_fidelity", 0.9))
    titles = [table.title.plain for table in terminal_tables(data)]
    assert "Answers in another language than the prompt's, %" in titles
    assert "Answers in the prompt's language, %" not in titles
    assert "Answers in the prompt's language, %" in Page(render(data)).text


def test_the_translated_view_stands_beside_the_others_with_its_own_n() -> None:
    """Where no translation of a language stands, that language has no figure in this view alone."""
    data = run()
    for tag, figures in data.results["m0"].items():
        figures.update(figure("reward_accuracy_cross_lingual", 0.8, n=90))
        if tag != "es":
            figures.update(figure("reward_accuracy_translated", 0.6, n=71))
    text = grid_of(data, "Reward accuracy of m0, %")
    assert re.search(r"cross-lingual view +80\.0 ± 2\.0 \(90\) +80\.0 ± 2\.0 \(90\) +80\.0 ± 2\.0 \(90\)", text)
    assert re.search(r"translated view +60\.0 ± 2\.0 \(71\) +– +60\.0 ± 2\.0 \(71\)", text)
    assert "An answer whose translation failed has no score in the translated view" in text
    assert "translated view" in Page(render(data)).text


# --- unseen languages ------------------------------------------------------------------------------------------------


def test_languages_that_no_prompt_was_in_are_marked_in_tables_charts_and_facts() -> None:
    data = run(unseen=("fr",))
    page = Page(render(data))
    assert "French (unseen)" in grid_of(data, "Quality, %")
    assert "French (unseen)" in grid_of(data, "Gain, points")
    quality, gains = page.named("svg")[:2]
    assert "French (unseen) 50.0 ± 2.0" in quality["aria-label"]
    assert "French (unseen) +2.0" in gains["aria-label"]
    assert "4 (1 unseen)" in page.text
    assert "Spanish (unseen)" not in page.text


@pytest.mark.parametrize(
    ("low", "high", "kind", "says"),
    [
        (0.02, 0.06, "good", "+4.0 ± 2.0 points from m0 to lidr-round-2."),
        (-0.06, -0.02, "watch", "−4.0 ± 2.0 points from m0 to lidr-round-2."),
        (-0.01, 0.03, "plain", "+1.0 ± 2.0 points from m0 to lidr-round-2, within its 95% interval of zero."),
    ],
)
def test_the_leading_and_the_unseen_language_have_sentences_of_their_own(
    low: float, high: float, kind: str, says: str
) -> None:
    data = run(unseen=("fr",))
    data.comparisons[-1]["languages"].update(en=gain(low, high), fr=gain(low, high))
    told = said(data)
    assert (kind, f"English, the leading language, moved by {says}") in told
    assert (kind, f"French, which no training prompt was in, moved by {says}") in told
    assert ("good", "Quality rises from m0 to lidr-round-2 in Spanish and German.") in told


def test_the_leading_language_is_called_what_it_is() -> None:
    """Measured, taken in a tie, named by the recipe's pair, or just the pivot."""

    def called(**changes: Any) -> str:
        found = next(text for _, text in said(run(**changes)) if "moved by" in text)
        return found.partition(" moved by")[0]

    assert called() == "English, the leading language,"
    assert called(dominance=lead(("en", "es", "de"), ("es",))) == "English, which is taken as the leading language,"
    assert called(dominance=None) == "English, the pivot,"
    assert called(dominance=None, config={"pivot": "en", "pair": {"dominant": "de"}}) == "German, the pivot,"


def test_a_mean_over_languages_leaves_the_unseen_out() -> None:
    def both(policy: float, reference: float) -> dict[str, Any]:
        return figure("reward_accuracy_x_policy_samples", policy) | figure(
            "reward_accuracy_x_reference_samples", reference
        )

    results = {"a": {"es": both(0.6, 0.8), "fr": both(0.0, 0.1)}}
    [found] = [f for f in findings(results, [], unseen=("fr",)) if "own samples" in f.text]
    assert "x view 60.0% and 80.0%" in found.text
    assert "mean over 1 language" in found.text
    [low] = [f for f in findings({"a": {"fr": both(0.0, 0.1)}}, [], unseen=("fr",)) if "chance" in f.text]
    assert low.text.endswith("is not above chance in French (unseen).")


# --- baselines and headlines -----------------------------------------------------------------------------------------


def test_a_baseline_is_told_and_is_not_the_headline() -> None:
    data = run(rounds=1)
    assert data.comparisons[-1]["kind"] == "baseline"
    told = "DPO on the pairs (lidr-round-1) against SFT on the same answers (sft): +4.0 ± 2.0 points over es de."
    assert ("good", told) in said(data)
    assert headline(data.results, data.comparisons).text.startswith("lidr-round-1 beats m0 by")


def test_a_baseline_that_wins_is_to_be_looked_at() -> None:
    data = run(rounds=1)
    data.comparisons[-1].update(gain(-0.06, -0.02))
    told = "DPO on the pairs (lidr-round-1) against SFT on the same answers (sft): −4.0 ± 2.0 points over es de."
    assert ("watch", told) in said(data)


def test_a_baseline_alone_is_no_headline() -> None:
    c = comparison("sft", "lidr-round-1", "baseline", ("en", "es"))
    assert headline({}, [c]).text == "No two steps were compared."


def test_a_gain_and_its_interval_have_the_same_decimals() -> None:
    """0.0942 would have four by itself."""
    results = {"a": {"es": {"quality": 7.0}}}
    c = comparison("a", "b", "step", ("es",)) | {"gain": 0.0942, "low": -0.3158, "high": 0.5042}
    assert headline(results, [c]).text == f"b and a cannot be told apart: +0.09{NBSP}±{NBSP}0.41 in score over es."


def test_an_imbalance_that_prefers_no_better_is_to_be_looked_at() -> None:
    """0.55 ± t(0.975, 89)·0.03 = ± 0.0596 reaches under a coin's, 0.63 ± 0.0397 does not."""
    data = run()
    data.results["m0"]["de"].update(figure("imbalance_accuracy", 0.55, 0.03))
    assert ("watch", "Imbalance accuracy of m0 is not above chance in German.") in said(data)
    assert not [text for _, text in said(data) if "lidr-round-1 is not above chance" in text]


# --- hostile text ----------------------------------------------------------------------------------------------------


def hostile() -> ReportData:
    """A run whose every name and tag wants out."""
    data = run(unseen=("fr",))
    evil = HOSTILE[0]
    for tag in HOSTILE:
        data.results["m0"][tag] = dict(data.results["m0"]["es"])
    data.results[evil] = data.results.pop("sft")
    data.comparisons[-2].update({"from": evil, "to": HOSTILE[1], "mean_over": [HOSTILE[2]]})
    data.rounds[0].update(round=HOSTILE[3], starts_from="m0")
    data.rounds[1].update(starts_from=HOSTILE[1])
    data.rounds[0]["summaries"]["translate"]["dropped"][HOSTILE[4]] = {HOSTILE[5]: 1}
    figures = {tag: figure("quality", 0.5, n=9) for tag in HOSTILE}
    against = {tag: {"difference": 0.1, "low": -0.1, "high": 0.3, "n": 9} for tag in HOSTILE[1:]}
    found = Dominance(evil, evil, HOSTILE[6], HOSTILE[1:], figures, against).to_json()
    config = {"pivot": evil, "train": {"method": HOSTILE[7]}, "baselines": [{"name": evil, "train": {"method": evil}}]}
    return replace(data, dominance=found, unseen=[*HOSTILE, "fr"], config=config)


def test_hostile_names_stay_text(tmp_path: Any) -> None:
    html = render(hostile())
    written, seen = assert_inert(html), assert_inert(dumped(html, tmp_path))
    assert [tag for tag, _ in seen.elements if tag != "tbody"] == [tag for tag, _ in written.elements if tag != "tbody"]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", html)
    assert "\x1b" not in printed(terminal_tables(hostile()))
