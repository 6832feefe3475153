"""Rewards that are used again, in the report: diagnosis, signatures of failure, and that text stays text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from reuse_data import (
    MANY,
    aligned,
    best_of_n,
    curve,
    diagnosis,
    figure,
    full,
    grid_of,
    made,
    signature,
    signs,
    told,
    trained,
)

from polypref.cli_terminal import show
from polypref.stages.diagnosis import DiagnosisOptions, diagnose
from polypref.stages.report import ReportData, headline_of, render, terminal_tables
from polypref.stages.report_signatures import heading, raised, raised_lines
from polypref.stages.report_tables import clean
from report_pages import HOSTILE, Page, assert_inert, dumped, printed

# --- diagnosis and signatures ----------------------------------------------------------------------------------------


def test_a_verdict_has_a_sign_and_a_word_and_its_evidence() -> None:
    data = made(diagnosis={"rm-en": diagnosis()}, results={"sft": {"en": figure("quality", 0.5)}})
    rows = grid_of(data, "rm-en")
    assert [row[1] for row in rows] == ["verdict", "✔ go", "? doubtful", "✘ no-go"]
    assert rows[0][2:4] == ["Accuracy on labelled answers, %, limit 50.0", "Win rate of best-of-n, %, limit 50.0"]
    assert [row[3][0] for row in rows[1:]] == ["✔", "?", "✘"]
    text = "Diagnosis of rm-en: go in English; doubtful in Spanish; no-go in Swahili."
    assert headline_of(data).text == text
    page = Page(render(data))
    assert {"good", "watch"} <= {cell.get("class") for cell in page.named("td")}
    assert "Swahili: no-go." in page.text
    assert "\x1b" not in printed(terminal_tables(data))


def test_what_came_of_the_training_stands_beside_its_diagnosis() -> None:
    data = made(diagnosis={"rm-en": diagnosis()}, alignments=[aligned({"rl-en": {"en": 0.7, "sw": 0.4}})])
    rows = grid_of(data, "rm-en")
    text = "go in English; doubtful in Spanish; no-go in Swahili. Where it says go, rl-en is shown to win."
    assert ("watch", f"Diagnosis of rm-en: {text}") in told(data)
    assert [row[-1] for row in rows] == ["Win rate of rl-en afterwards, %", "70.0 ± 2.0", "–", "40.0 ± 2.0"]


def test_a_gain_in_quality_is_in_percent_only_where_quality_is_a_share() -> None:
    curves = {"en": curve((0.5, 0.5, 0.5, 0.7))}
    found = {"rm-en": diagnose("rm-en", {}, curves, DiagnosisOptions(), quality="oracle")}
    share = made(diagnosis=found, results={"sft": {"en": figure("quality", 0.5)}})
    scale = made(diagnosis=found, results={"sft": {"en": figure("quality", 7.5)}})
    assert grid_of(share, "rm-en")[0][2] == "Gain in quality by best-of-n, %, limit 0.0"
    assert grid_of(scale, "rm-en")[0][2] == "Gain in quality by best-of-n, limit 0.00"


def test_signatures_are_the_first_thing_under_the_headline() -> None:
    found = [signature("kl_high", tag, f"{tag}: 12 [11, 13], more than 10.") for tag in ("en", "es", "sw", "de", "fr")]
    data = made(signatures=signs(*found, signature("my_rule", "sw", "sw: it is so.", try_this="nothing")))
    html = assert_inert(render(data)).text
    order = [html.index(text) for text in ("No two steps", "⚠ 6 failure signatures raised", "2026-01-02")]
    assert order == sorted(order)
    assert "and 2 more" in html
    assert html.count("Try: raise β.") == 1
    assert raised_lines(data)[:3] == [
        ("⚠ 6 failure signatures raised", 0),
        ("Far from the start (KL)", 1),
        ("en: 12 [11, 13], more than 10.", 2),
    ]
    assert raised_lines(data)[-3:] == [("My rule", 1), ("sw: it is so.", 2), ("Try: nothing.", 2)]


def test_a_terminal_shows_signatures_after_the_figures_and_before_the_headline(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(full(), Path("report.html"))
    text = capsys.readouterr().out
    places = [text.index(part) for part in ("Win rate against sft", "⚠ 1 failure signature raised", "RLOO by rm-en")]
    assert places == sorted(places)
    assert "    Swahili: 12 [11, 13], more than 10." in text
    assert "    Try: raise β." in text


def test_signatures_of_several_steps_name_theirs() -> None:
    two = [signature("kl_high", "sw", "sw: so."), signature("kl_high", "sw", "sw: so.", step="best-of-8-rm-en")]
    assert [one.said for one in raised(made(signatures=signs(*two)))] == [
        ["rl-en, sw: so.", "best-of-8-rm-en, sw: so."]
    ]
    assert heading(raised(made(signatures=signs(two[0])))) == "⚠ 1 failure signature raised"


def test_no_signature_is_only_good_where_it_was_looked_for() -> None:
    missing = ("blind_spot", "reward_hacking")
    assert told(made(signatures=signs(missing=missing))) == [
        ("good", "No failure signature was raised by the 8 rules that had figures."),
        ("plain", "Not looked for, as figures are missing: Reward hacking; Blind spot on the policy's own answers."),
    ]
    assert told(made()) == []
    nothing = told(made(signatures={"raised": [], "examined": {}, "limits": {}}))
    assert [kind for kind, _ in nothing] == ["plain"]


def test_where_signatures_are_looked_for_growth_is_not_told_a_second_time() -> None:
    results = {step: {"en": figure("length_characters", length)} for step, length in (("a", 10.0), ("b", 20.0))}
    c = {"from": "a", "to": "b", "metric": "quality", "languages": {}, "gain": 0.1, "low": 0.05, "high": 0.15, "n": 9}
    grows = "Answers grow by more than a quarter from a to b in English."
    assert grows in [text for _, text in told(made(results=results, comparisons=[c]))]
    assert grows not in [text for _, text in told(made(results=results, comparisons=[c], signatures=signs()))]


# --- the page --------------------------------------------------------------------------------------------------------


def test_every_section_is_there() -> None:
    page = assert_inert(render(full()))
    found = [section["id"] for section in page.named("section")]
    expected = ["win-rates", "source-target", "diagnosis", "best-of-n", "training", "scores", "by-category", "quality"]
    assert found[: len(expected)] == expected
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in page.named("svg"))


@pytest.mark.parametrize("part", ["alignments", "best_of_n", "diagnosis", "signatures", "rounds", "results"])
def test_it_renders_without_any_one_part(part: str) -> None:
    empty: dict[str, Any] = {"rounds": (), "results": {}}
    assert_inert(render(full(**{part: empty.get(part)})))


@pytest.mark.parametrize("tags", [("en",), MANY], ids=["one language", "twenty-three languages"])
def test_it_renders_for_any_number_of_languages(tags: Sequence[str]) -> None:
    data = full(tags, diagnosis=None)
    assert_inert(render(data))
    assert "RLOO by rm-en" in headline_of(data).text
    assert printed(terminal_tables(data))


def hostile() -> ReportData:
    """Every new place that takes text, holding text that wants out."""
    name, lang, other = HOSTILE[0], HOSTILE[2], HOSTILE[3]
    entry = aligned({name: {"en": 0.6, lang: 0.4}, other: {"en": 0.6}}, {name: 0.5}, sources={name: [lang]})
    gain = {"gain": 0.1, "stderr": 0.1, "low": 0.0, "high": 0.2, "n": 4, "p": 0.5}
    entry |= {"label": HOSTILE[1], "judge": HOSTILE[4], "against": HOSTILE[5], "made_by": {name: other}}
    entry |= {"monolingual_against_cross_lingual": {"languages": {lang: gain}, **gain}, "tau": {"value": 0.1, "n": 2}}
    verdict = diagnosis()["languages"]["en"] | {"said": HOSTILE[7]}
    stopped = {"step": 3, "reason": "kl", "said": HOSTILE[5]}
    log = trained(tags=(lang, "en"), method=HOSTILE[1], stopped=stopped, selected=2)
    found = best_of_n((lang, "en"), ("rm-en",)) | {"model": HOSTILE[3]}
    found["rewards"] = {name: found["rewards"]["rm-en"] | {"trained_on": [lang]}}
    sign = signature(HOSTILE[1], lang, HOSTILE[0], step=HOSTILE[3], try_this=HOSTILE[6])
    return made(
        alignments=[entry],
        best_of_n=found,
        diagnosis={name: {"languages": {lang: verdict, "en": verdict}, "options": {}}},
        signatures=signs(sign, sign | {"step": "b"}) | {"limits": {HOSTILE[0]: 1.0}},
        rounds=[{"round": 1, "model": other, "trainings": {HOSTILE[9]: log}}],
        results={name: {lang: figure(f"score_by_{HOSTILE[1]}", 1.0) | figure(f"win_rate_{HOSTILE[0]}", 0.5)}},
    )


def test_hostile_text_stays_text() -> None:
    html = render(hostile())
    page = assert_inert(html)
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[5], HOSTILE[6]):
        assert clean(text) in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", html)
    assert "\x1b" not in printed(terminal_tables(hostile()))
    assert all(text == clean(text) for text, _ in raised_lines(hostile()))


def test_a_browser_finds_no_element_in_hostile_text(tmp_path: Path) -> None:
    html = render(hostile())
    seen, written = assert_inert(dumped(html, tmp_path)), Page(html)
    assert [tag for tag, _ in seen.elements if tag != "tbody"] == [t for t, _ in written.elements if t != "tbody"]


def test_a_report_without_the_new_parts_has_none_of_their_sections() -> None:
    bare = {field.name for field in dataclasses.fields(ReportData)} - {"name", "date", "seed", "signature", "config"}
    assert {"best_of_n", "alignments", "diagnosis", "signatures"} <= bare
    data = made(results={"sft": {"en": figure("quality", 0.5) | figure("reward", 1.0)}})
    sections = [section["id"] for section in Page(render(data)).named("section")]
    assert sections == ["quality", "how"]
    assert "Mean reward" in Page(render(data)).text  # below the page, as every other figure
