"""The page of judgments: which comparisons it shows, its filters, and that what it shows stays text."""

import base64
import dataclasses
import hashlib
import random
import re
import shutil
import subprocess
from importlib import resources

import pytest
from judged_comparisons import judgment, many, told

from polypref.stages import report_judgments
from polypref.stages.report_comparisons import FOLDED, LONGEST, compared, folded, orders, outcome, verdict
from polypref.stages.report_judgments import About, render_judgments, write_judgments_page
from report_pages import HOSTILE, Page

ABOUT = About("alpaca", "2026-11-21 18:00", "polypref:0.1.0|judge:gpt")


@pytest.mark.parametrize(
    ("preference", "is_", "said"),
    [
        (1.0, "win", "icr wins"),
        (0.51, "win", "icr wins"),
        (0.5, "tie", "tie"),
        (0.2, "loss", "base wins"),
        (None, "none", "no verdict"),
    ],
)
def test_a_verdict(preference, is_, said):
    assert (outcome(judgment(preference=preference)), verdict(judgment(preference=preference))) == (is_, said)


def test_what_became_of_the_orders():
    told = [
        judgment(orders=(1.0, 1.0), flipped=False),
        judgment(orders=(1.0, 0.0), flipped=True),
        judgment(orders=(1.0, None)),
        judgment(orders=(None, None)),
        judgment(),
    ]
    assert [orders(one) for one in told] == ["agree", "contradict", "one", "none", ""]


def test_comparisons_stand_in_an_order_that_nobody_chose():
    """Prompt by prompt, by the hash of its id, in all its languages and for all models, whatever the order of rows."""
    some = many(prompts=6)
    first = [(c.id, c.language, c.model) for c in compared(some)]
    shuffled = random.Random(1).sample(some, len(some))
    assert list(dict.fromkeys(id for id, *_ in first)) == list(dict.fromkeys(c.id for c in compared(shuffled)))
    ids = [id for id, *_ in first]
    assert sorted(set(ids), key=ids.index) == [ids[i] for i in range(0, 24, 4)]
    assert sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest()) == ids


def test_what_several_judges_said_of_the_same_answers_stands_together():
    some = [judgment(), judgment(judge="oracle", preference=0.0), judgment(judge="people", model_answer="Other.")]
    one, other = compared(some)
    assert ([j.judge for j in one.judgments], one.split) == (["gpt", "oracle"], True)
    assert ([j.judge for j in other.judgments], other.split) == (["people"], False)
    assert not compared([judgment(), judgment(judge="oracle", preference=None)])[0].split


def test_a_long_text_is_folded_at_a_blank_and_loses_nothing_short_of_the_limit():
    text = "word " * 2000
    found = folded(text)
    assert found.head + found.rest == text
    assert len(found.head) <= FOLDED
    assert found.head.endswith(" ")
    assert found.left == 0
    unbroken = "字" * (LONGEST + 7)
    found = folded(unbroken)
    assert (len(found.head), len(found.head + found.rest), found.left) == (FOLDED, LONGEST, 7)
    assert folded("short").rest == ""


# --- the page --------------------------------------------------------------------------------------------------------


def shown(judgments, about=ABOUT):
    return render_judgments(judgments, told(judgments), about)


def test_the_page_has_every_section_and_every_comparison():
    page = Page(shown(many()))
    assert [s["id"] for s in page.named("section")] == [
        "win-rates", "ratings", "verdicts", "lengths", "agreement", "comparisons", "how",
    ]  # fmt: skip
    folded_ones = [d for d in page.named("details") if d.get("class") == "comparison"]
    assert len(folded_ones) == 24 * 2 * 2
    assert "All 96 comparisons that were judged" in page.text
    assert page.text.count("First.\n[[A]]") == 24 * 2 * 2 * 2


def listed(html):
    """The elements of the list of comparisons, in their order."""
    start, end = html.index('<section id="comparisons">'), html.index('<section id="how">')
    return [tag for tag, _ in Page(html[start:end]).elements]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_stay_text(hostile):
    """Every name, text and error of a judgment is hostile; the page has the elements that it has without.

    Tables lie on their side where names are long, so that of the whole page only the kinds of elements are equal."""

    def some(text):
        names = {"model": f"m{text}", "baseline": f"b{text}", "judge": f"j{text}"}
        texts_ = {"prompt": text, "model_answer": text, "baseline_answer": text + "x" * 1500, "error": text}
        rows = [
            judgment(f"{i}{text}", preference=i % 2, said=(text, text), category=text, **names, **texts_)
            for i in range(12)
        ]
        return rows + [dataclasses.replace(row, judge="other", preference=1 - row.preference) for row in rows]

    def page(text):
        about = About(text, text, text, [("cost", text)], [text], {"judge": {"prompt": text}}, {"polypref": text}, text)
        return shown(some(text), about)

    html = page(hostile)
    plain, found = page("plain"), Page(html)
    assert listed(html) == listed(plain)
    assert {tag for tag, _ in found.elements} == {tag for tag, _ in Page(plain).elements}
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert script == (resources.files("polypref.stages") / "templates" / "judgments.js").read_text(encoding="utf-8")
    for tag, attributes in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "action", "srcset", "data", "poster", "xlink:href"), (tag, name)
            assert name != "href" or value.startswith("#"), (tag, value)


def test_the_page_runs_its_own_script_alone():
    html = shown(many(prompts=3))
    [policy] = [m["content"] for m in Page(html).named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_secrets_and_credentials_stay_out():
    about = About("a", "d", "judge:https://me:hush@host/v1", settings={"judge": {"api_key": "hush", "model": "gpt"}})
    html = shown(many(prompts=3), about)
    assert "hush" not in html
    assert "judge:https://host/v1" in html


def test_a_page_of_long_answers_stays_small_and_says_what_it_shows(tmp_path):
    """Some 24 MB of answers."""
    long = "Ein langer Satz. " * 700
    some = many(
        prompts=1000, languages=("de",), models=("icr",), judges=("gpt",), model_answer=long, baseline_answer=long
    )
    found = told(some)
    write_judgments_page(tmp_path / "report.html", some, found, ABOUT)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 5_000_000 < len(html.encode()) < 10_000_000
    count = html.count('<details class="comparison"')
    assert f"{count:,} of 1,000 comparisons" in html
    assert "All stand in judgments.jsonl." in html


def test_a_page_lists_no_more_than_a_browser_can_take(monkeypatch):
    monkeypatch.setattr(report_judgments, "MOST", 5)
    html = shown(many(prompts=4))
    assert html.count('<details class="comparison"') == 5
    assert "5 of 16 comparisons" in html


def test_what_is_left_out_of_a_text_is_said():
    some = [*many(prompts=12), judgment("long", model_answer="x" * (LONGEST + 1234))]
    assert "1,234 characters more stand in judgments.jsonl." in shown(some)


# --- in a browser ----------------------------------------------------------------------------------------------------


def opened(html, folder, fragment=""):
    """The page as chromium holds it, after its script ran."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --dump-dom"
    command = [browser, *flags.split(), f"--user-data-dir={folder / 'profile'}", path.as_uri() + fragment]
    dom = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode("utf-8")
    return Page(dom)


def visible(page):
    """(id, language, model) of the comparisons that are shown, by their attributes, and of how many."""
    found = [a for a in page.named("details") if a.get("class") == "comparison"]
    return [(a["data-language"], a["data-model"]) for a in found if "hidden" not in a], len(found)


def test_without_its_script_the_page_is_the_whole_list():
    html = shown(many(prompts=3))
    page = Page(html)
    some, every = visible(page)
    assert len(some) == every == 12
    [bar] = [a for a in page.named("div") if a.get("id") == "filters"]
    assert "hidden" in bar


@pytest.mark.parametrize(
    ("fragment", "wanted"),
    [
        ("#language=es&model=sft&search=PROMPT%20p3", lambda j: (j.language, j.model, j.id) == ("es", "sft", "p3")),
        ("#judge=oracle&outcome=tie", lambda j: j.judge == "oracle" and j.preference == 0.5),
        ("#orders=contradict", lambda j: j.flipped),
        # What the model wins, the baseline loses.
        ("#model=base&outcome=loss", lambda j: j.preference == 1),
        # A language that the page does not have, and what is no filter.
        ("#language=xx&nothing=1", lambda j: True),
    ],
)
def test_the_filters_show_what_they_say(fragment, wanted, tmp_path):
    some = [dataclasses.replace(j, prompt=f"Prompt {j.id}.") for j in many(prompts=6)]
    page = opened(shown(some), tmp_path, fragment)
    passing = [c for c in compared(some) if any(map(wanted, c.judgments))]
    assert visible(page) == ([(c.language, c.model) for c in passing], 24)
    assert passing
    assert f"{len(passing)} of 24 shown" in page.text


def test_judges_that_do_not_agree_can_be_picked(tmp_path):
    some = many(prompts=6)
    page = opened(shown(some), tmp_path, "#judges=split")
    assert len(visible(page)[0]) == sum(c.split for c in compared(some))
    assert 0 < len(visible(page)[0]) < 24


def test_no_hostile_text_runs_in_a_browser(tmp_path):
    attack = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    some = [
        judgment(f"p{i}", preference=i % 2, model_answer=attack, said=(attack, attack), judge=attack) for i in range(12)
    ]
    page = opened(shown(some), tmp_path)
    assert "12 of 12 shown" in page.text  # the page's own script did run
    assert not page.named("img")
    assert "owned" not in page.text[: page.text.index("polypref judgments")]
    assert len(page.named("script")) == 1
