"""The report: what it says and draws, and that nothing from a model or a file becomes part of the page."""

import random
import re

import pytest

from polypref.stages.evaluate import Evaluation, compare
from polypref.stages.report import ReportData, SamplePair, direction, duration, render, terminal_tables
from polypref.stages.report_tables import clean, decimals, name_of, number
from polypref.stages.report_words import findings, headline
from report_pages import HOSTILE, Page, assert_inert, dumped, printed

LANGUAGES = ("en", "es", "de", "fr", "sw")
TWELVE = (*LANGUAGES, "ru", "zh-Hans", "ja", "th", "bn", "ar", "ko")


def evaluation(seed, quality, languages=LANGUAGES, prompts=60, **metrics):
    noise = random.Random(seed)
    out = Evaluation()
    for lang in languages:
        for i in range(prompts):
            out.add("quality", lang, f"p{i}", float(noise.random() < quality))
            out.add("length_characters", lang, f"p{i}", noise.gauss(60, 10))
            for metric, share in metrics.items():
                out.add(metric, lang, f"p{i}", float(noise.random() < share))
    return out


def summary(languages):
    pair = {
        "languages": {
            lang: {
                "pairs": 50 + i,
                "margin": 1.5 + i,
                "margin_stderr": 0.2,
                "length_gap": 0.1,
                "length_gap_without_control": 9.0 - i,
                "length_unit": "characters",
                "share_longer": 0.5,
                "checked_by_script": False,
                "without_pair": {"tied": 1},
            }
            for i, lang in enumerate(languages)
        },
        "dropped": {lang: {"language": 3, "tied": i} for i, lang in enumerate(languages)},
    }
    generate = {"languages": {lang: {"candidates": 200} for lang in languages}, "dropped": {"all": {"window": 2}}}
    return {"generate": generate, "pair": pair}


def full(languages=LANGUAGES, **changes):
    accuracy = {"reward_accuracy_cross_lingual": 0.9}
    accuracy |= {
        "reward_accuracy_cross_lingual_policy_samples": 0.55,
        "reward_accuracy_cross_lingual_reference_samples": 0.95,
    }
    steps = {
        "sft": evaluation(0, 0.6, languages),
        "dpo-en": evaluation(1, 0.7, languages, **accuracy),
        "icr-round-1": evaluation(2, 0.95, languages),
    }
    values = {
        "name": "quickstart",
        "date": "2026-01-02",
        "seed": 7,
        "signature": "polypref:0|view:cross_lingual",
        "results": {name: e.figures() for name, e in steps.items()},
        "comparisons": [
            compare(steps["sft"], steps["dpo-en"], names=("sft", "dpo-en")),
            compare(steps["dpo-en"], steps["icr-round-1"], names=("dpo-en", "icr-round-1")),
        ],
        "rounds": [{"round": 1, "model": "icr-round-1", "summaries": summary(languages)}],
        "samples": [SamplePair(1, languages[0], "Sort 3 1 2", "1 2 3", "3 2 1", 2.5, 1.0, -1.5, "a note")],
        "notes": ["Answers are sampled from the reference."],
        "config": {"train": {"beta": 0.1, "stop": None}, "hub": {"api_key": "sk-1234", "url": "https://me:pw@host/v1"}},
        "versions": {"polypref": "0.1.0"},
        "timings": {"round-1/generate": 200.0},
    }
    return ReportData(**(values | changes))


def test_the_headline_says_who_beats_whom_by_how_much():
    data = full()
    c = data.comparisons[-1]
    half = f"{50 * (c['high'] - c['low']):.1f}"
    expected = f"icr-round-1 beats dpo-en by {100 * c['gain']:.1f}\u00a0±\u00a0{half} points over en es de fr sw."
    assert headline(data.results, data.comparisons).text == expected
    assert expected in Page(render(data)).text


@pytest.mark.parametrize(
    ("low", "gain", "high", "says"),
    [
        (0.01, 0.02, 0.03, "b beats a by 2.0\u00a0±\u00a01.0 points over es."),
        (-0.03, -0.02, -0.01, "b falls behind a by 2.0\u00a0±\u00a01.0 points over es."),
        (-0.01, 0.02, 0.05, "b and a cannot be told apart: +2.0\u00a0±\u00a03.0 points over es."),
        (None, 0.02, None, "b differs from a by +2.0 points over es."),
    ],
)
def test_the_headline_claims_no_more_than_the_interval(low, gain, high, says):
    c = {"from": "a", "to": "b", "mean_over": ["es"], "languages": {}, "gain": gain, "low": low, "high": high}
    assert headline({"a": {"es": {"quality": 0.5}}}, [c]).text == says


def test_scores_that_are_no_shares_are_not_told_in_points():
    results = {"a": {"es": {"quality": -3.5}}, "b": {"es": {"quality": 2.0}}}
    c = {"from": "a", "to": "b", "mean_over": ["es"], "languages": {}, "gain": 5.5, "low": 5.0, "high": 6.0}
    assert headline(results, [c]).text == "b beats a by 5.50\u00a0±\u00a00.50 in score over es."


def test_findings_tell_the_failures_too():
    """A language that falls, one that stays; a blind spot; a reward no better than a coin; answers that leave."""

    def gain(low, high):
        return {"gain": (low + high) / 2, "low": low, "high": high, "n": 9}

    figure = {"quality": 0.5, "language_fidelity": 0.9, "length_characters": 100}
    results = {
        "a": {"es": figure, "de": figure},
        "b": {"es": {**figure, "language_fidelity": 0.7, "length_characters": 140}, "de": figure},
        "c": {
            "es": {
                "reward_accuracy_x_policy_samples": 0.3,
                "reward_accuracy_x_policy_samples_stderr": 0.01,
                "reward_accuracy_x_policy_samples_n": 50,
                "reward_accuracy_x_reference_samples": 0.9,
                "reward_accuracy_y_policy_samples": 0.8,
                "reward_accuracy_y_policy_samples_n": 50,
                "reward_accuracy_y_reference_samples": 0.8,
            }
        },
    }
    c = {"from": "a", "to": "b", "languages": {"es": gain(-0.3, -0.1), "de": gain(-0.1, 0.2), "fr": gain(0.1, 0.2)}}
    told = [(f.kind, f.text) for f in findings(results, [c | gain(0, 1)])]
    assert told == [
        ("good", "Quality rises from a to b in French."),
        ("watch", "Quality falls from a to b in Spanish."),
        ("plain", "In German the change from a to b is within its 95% interval of zero."),
        (
            "watch",
            "Reward accuracy of c on the policy's own samples and on the reference's: x view 30.0% and 90.0%; "
            "y view 80.0% and 80.0%: the reward is blind to mistakes that its policy prefers "
            "(mean over 1 language with at least 10 prompts).",
        ),
        ("watch", "More answers leave the prompt's language from a to b in Spanish."),
        ("watch", "Answers grow by more than a quarter from a to b in Spanish."),
    ]


def test_every_section_is_there_with_its_charts():
    page = assert_inert(render(full()))
    sections = [a["id"] for a in page.named("section")]
    assert sections == ["quality", "gains", "accuracy", "blind-spot", "pairs", "drops", "answers", "samples", "how"]
    charts = page.named("svg")
    assert len(charts) == 6
    assert all(chart["role"] == "img" for chart in charts)
    assert "icr-round-1: English 9" in charts[0]["aria-label"]


def test_every_figure_stands_with_its_error_and_n():
    data = full()
    figures = data.results["icr-round-1"]["sw"]
    cell = f"{100 * figures['quality']:.1f} ± {100 * figures['quality_stderr']:.1f}"
    text = Page(render(data)).text
    assert cell in text
    assert "n = 60 prompts each." in text
    assert "polypref:0|view:cross_lingual" in text


def test_the_terminal_shows_the_same_figures():
    data = full()
    text = printed(terminal_tables(data))
    figures = data.results["dpo-en"]["es"]
    assert f"{100 * figures['quality']:.1f} ± {100 * figures['quality_stderr']:.1f}" in text
    assert "+" in text
    assert "n = 60 prompts each." in text
    assert "pair: language" in text


def test_the_terminal_obeys_neither_markup_nor_escapes():
    data = full(results={"[red]x[/red]\x1b[2J": {"es": {"quality": 0.5, "quality_stderr": 0.1, "quality_n": 4}}})
    text = printed(terminal_tables(data))
    assert "[red]x[/red]␛[2J" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("languages", [("es",), TWELVE], ids=["one language", "twelve languages"])
def test_it_renders_for_any_number_of_languages(languages):
    page = assert_inert(render(full(languages)))
    assert "icr-round-1 beats dpo-en" in page.text


def test_it_renders_when_everything_is_absent():
    page = assert_inert(render(ReportData("empty", "2026-01-02", 0, "polypref:0")))
    assert "No two steps were compared." in page.text
    assert [a["id"] for a in page.named("section")] == ["how"]
    assert terminal_tables(ReportData("empty", "2026-01-02", 0, "polypref:0")) == []


@pytest.mark.parametrize("part", ["results", "comparisons", "rounds", "samples", "notes", "config", "timings"])
def test_it_renders_without_any_one_part(part):
    assert_inert(render(full(**{part: type(getattr(full(), part))()})))


def test_it_renders_rounds_that_say_little():
    rounds = [{"round": 1}, {"round": 2, "summaries": {"pair": {"languages": {"es": {"pairs": 0}}}}}]
    rounds.append({"round": 3, "summaries": {"pair": {"languages": {"es": {"margin": None}}, "dropped": None}}})
    assert "Round 2" in assert_inert(render(full(rounds=rounds))).text


def test_the_pairs_are_told_in_numbers():
    grid = next(t for t in terminal_tables(full()) if t.title.plain == "Round 1 (icr-round-1)")
    text = printed([grid])
    assert "2.50 ± 0.20" in text  # the Spanish margin
    assert "50.0" in text  # the share of pairs whose chosen answer is the longer, in percent
    assert "tied" not in text
    assert "False" not in text


def hostile():
    """Every place of the page that takes text, holding text that wants out."""
    name = HOSTILE[0]
    figures = {"es": {"quality": 0.5, "quality_stderr": 0.1, "quality_n": 4, f"x{HOSTILE[2]}": 1.0}}
    gain = {"gain": 0.1, "low": 0.0, "high": 0.2, "stderr": 0.1, "n": 4}
    c = {"from": name, "to": HOSTILE[3], "mean_over": [HOSTILE[2]], "languages": {HOSTILE[2]: gain}, **gain}
    dropped = {HOSTILE[2]: {HOSTILE[4]: 3}}
    stage = {"languages": {HOSTILE[2]: {"margin": 1.0, HOSTILE[0]: 2}}, "dropped": dropped}
    return ReportData(
        name=HOSTILE[5],
        date=HOSTILE[0],
        seed=0,
        signature=HOSTILE[4],
        results={name: figures, HOSTILE[3]: {HOSTILE[2]: {"quality": 0.5}}},
        comparisons=[c],
        rounds=[{"round": HOSTILE[0], "model": HOSTILE[1], "summaries": {HOSTILE[5]: stage, "pair": stage}}],
        samples=[
            SamplePair(1, lang, text, text, text, 1.0, 1.0, 1.0, text)
            for lang in ("es", "ar", HOSTILE[2])
            for text in HOSTILE
        ],
        notes=HOSTILE,
        config=dict.fromkeys(HOSTILE, HOSTILE[0]),
        versions={HOSTILE[0]: HOSTILE[1]},
        timings={HOSTILE[0]: 1.0},
    )


def test_hostile_text_stays_text():
    html = render(hostile())
    page = assert_inert(html)
    for text in HOSTILE:
        assert clean(text) in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", html)
    html.encode("utf-8")


def test_texts_are_isolated_and_run_in_their_direction():
    samples = [SamplePair(1, lang, "?", "a", "b") for lang in ("ar", "es")]
    texts = [a for a in Page(render(full(samples=samples))).named("div") if "text" in a.get("class", "").split()]
    assert [(a["lang"], a["dir"]) for a in texts] == [("ar", "rtl")] * 3 + [("es", "auto")] * 3
    assert direction("he") == "rtl"
    assert direction("no language!") == "auto"


def test_an_empty_answer_is_said_to_be_empty():
    assert "(empty)" in Page(render(full(samples=[SamplePair(1, "es", "p", "", "b")]))).text


def test_the_page_forbids_scripts_and_requests():
    policy = next(a["content"] for a in Page(render(full())).named("meta") if a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def test_secrets_are_not_shown():
    html = render(full())
    assert "sk-1234" not in html
    assert "me:pw" not in html
    assert "https://host/v1" in html


def test_control_characters_are_made_visible():
    assert clean("a\x1b[0m\x00\x7f\x85\r\n\tb\ud800") == "a␛[0m␀␡�\n\tb�"
    assert name_of("\u202ea\n b\u2069") == "a b"


@pytest.mark.parametrize(
    ("value", "share", "told"),
    [
        (0.1234, True, "12.3"),
        (-1.5, False, "−1.50"),
        (12.34, False, "12.3"),
        (1234.5, False, "1,234"),
        (0.0123, False, "0.0123"),
    ],
)
def test_numbers_are_told_with_the_decimals_they_need(value, share, told):
    assert number(value, share) == told
    assert decimals([0.001, 50.0]) == 1


def test_durations_are_told_as_people_say_them():
    assert [duration(s) for s in (4.25, 42, 200, 7500)] == ["4.2 s", "42 s", "3 min 20 s", "2 h 5 min"]


# --- in a browser ----------------------------------------------------------------------------------------------------


def test_a_browser_finds_no_element_in_hostile_text(tmp_path):
    html = render(hostile())
    seen, written = assert_inert(dumped(html, tmp_path)), Page(html)
    assert [tag for tag, _ in seen.elements if tag != "tbody"] == [t for t, _ in written.elements if t != "tbody"]
    for text in HOSTILE:
        assert clean(text) in seen.text


def test_a_browser_shows_right_to_left_text_from_the_right(tmp_path):
    sample = SamplePair(1, "ar", "اذكر ثلاثة أنهار", "النيل", "دجلة")
    seen = Page(dumped(render(full(samples=[sample])), tmp_path))
    assert [a["dir"] for a in seen.named("div") if "text" in a.get("class", "").split()] == ["rtl"] * 3
    assert "اذكر ثلاثة أنهار" in seen.text
