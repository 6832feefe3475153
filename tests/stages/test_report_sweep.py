"""A sweep in tables, sentences and on its page."""

import re

import pytest

from polypref.maths.stats import Estimate
from polypref.stages.report_sweep import render_sweep, sweep_findings, sweep_grids, sweep_tables
from polypref.stages.report_sweep_chart import Panel, sweep_chart
from polypref.stages.sweep_figures import Run, languages_of, sweep_figures
from report_pages import HOSTILE, Page


def found(values=(100, 400), seeds=(0, 1), metric="quality", failed=(), key="reward_models.data.limit", of=None):
    """A sweep.json whose English figure is 0.5 at the first value and 0.1 higher at each next, and Spanish 0.1 below;
    seed 1 is 0.02 higher than seed 0 everywhere, and 0.01 more at other values than the first."""

    def figure(index, seed, tag):
        return 0.5 + 0.1 * index + 0.02 * seed + 0.01 * seed * (index > 0) - 0.1 * (tag == "es")

    of = of or (lambda index, seed: ("en", "es"))
    runs = [
        Run(i, seed, {tag: Estimate(figure(i, seed, tag), 0.03, 50) for tag in of(i, seed)})
        for i in range(len(values))
        for seed in seeds
        if (values[i], seed) not in failed
    ]
    figures = sweep_figures(runs, len(values))
    points = []
    for i, value in enumerate(values):
        told = []
        for seed in seeds:
            bad = (value, seed) in failed
            tags = {} if bad else {tag: {"value": 0.5, "stderr": 0.03, "n": 50} for tag in of(i, seed)}
            told.append(
                {
                    "seed": seed,
                    "folder": f"{value}/seed-{seed}",
                    "status": "failed" if bad else "done",
                    "said": "no room <left>" if bad else None,
                    "step": None if bad else "icr-round-2",
                    "figures": tags,
                    "signature": "polypref:0|a:1",
                }
            )
        points.append({"value": value, "label": str(value), **figures[i], "runs": told})
    about = {
        "recipe": "icr",
        "key": key,
        "values": list(values),
        "seeds": list(seeds),
        "metric": metric,
        "step": "last",
    }
    return {
        "sweep": {**about, "set": ["rounds=1"]},
        "mean_over": languages_of(runs),
        "points": points,
        "signature": "polypref:0.1.0|metric:quality",
        "config": {},
        "versions": {"polypref": "0.1.0"},
        "date": "2026-11-21 18:00 UTC",
    }


def rows(grid):
    return [grid.header, *([str(cell).replace("\u00a0", " ") for cell in row] for row in grid.rows)]


def test_a_value_is_a_row_with_intervals_over_seeds():
    """English at 100: 0.5 and 0.52, so 0.51 ± 12.706·0.01 = [0.383, 0.637]; a difference of seeds 0.1 and 0.11."""
    figures, gains = sweep_grids(found())
    assert rows(figures) == [
        ["reward_models.data.limit", "seeds", "mean", "English", "Spanish"],
        ["100", "2", "46.0 [33.3, 58.7]", "51.0 [38.3, 63.7]", "41.0 [28.3, 53.7]"],
        ["400", "2", "56.5 [37.4, 75.6]", "61.5 [42.4, 80.6]", "51.5 [32.4, 70.6]"],
    ]
    assert figures.title == "Quality, %, by reward_models.data.limit"
    assert figures.note == "Means over seeds with 95% intervals: Student's t over seeds."
    assert rows(gains)[1:] == [["400", "2", "+10.5 [+4.1, +16.9]", "+10.5 [+4.1, +16.9]", "+10.5 [+4.1, +16.9]"]]
    assert gains.title == "Difference from 100, points"


def test_one_seed_is_said_to_have_the_interval_of_its_prompts():
    one = found(seeds=(0,))
    figures, gains = sweep_grids(one)
    assert figures.note.startswith("One seed. 95% intervals over its prompts")
    assert rows(gains)[1][2] == "+10.0"  # one difference has no interval
    watch = [finding.text for finding in sweep_findings(one) if finding.kind == "watch"]
    assert watch == [
        "Where there is one seed, the interval is over prompts, and says nothing of what another seed brings; name "
        "more with --seeds."
    ]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            found(),
            "Quality changes by +10.5 points [+4.1, +16.9] from reward_models.data.limit = 100 to 400 (mean over "
            "English, Spanish; 2 seeds).",
        ),
        (
            found(seeds=(0,)),
            "Quality changes by +10.0 points from reward_models.data.limit = 100 to 400 (mean over English, Spanish; 1 "
            "seed).",
        ),
        (
            found(values=("rm-en", "rm-es"), key="reward.model"),
            "Quality lies between 46.0% (reward.model = rm-en) and 56.5% (rm-es); mean over English, Spanish.",
        ),
        (found(failed=((100, 0), (100, 1), (400, 0), (400, 1))), "No run gives quality yet, so"),
    ],
)
def test_the_headline(made, said):
    assert sweep_findings(made)[0].text.startswith(said)


def test_a_difference_that_may_be_none_is_called_so():
    data = found()
    gain = data["points"][1]["against_first"]["mean"]
    gain |= {"low": -0.01, "high": 0.22}
    text = sweep_findings(data)[0].text
    assert "at reward_models.data.limit = 100 and 400 cannot be told apart: +10.5 points [−1.0, +22.0]" in text


def test_failed_runs_and_languages_that_are_missing_are_said():
    data = found(failed=((400, 1),), of=lambda index, seed: ("en", "es") if index == 0 else ("en",))
    texts = [finding.text for finding in sweep_findings(data)]
    assert "The mean is over English: not every run has Spanish." in texts
    assert "400, seed 1 has no figure: no room <left>" in texts
    assert rows(sweep_grids(data)[0])[2] == ["400", "1", *["60.0 [54.0, 66.0]"] * 2, "–"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_page_shows_what_it_is_given_as_text(hostile):
    plain, data = Page(render_sweep(found(failed=((400, 1),)))), found(failed=((400, 1),), key=hostile)
    data["sweep"] |= {"set": [hostile], "recipe": hostile}
    data["signature"] = hostile
    data["points"][0]["label"] = hostile
    data["points"][1]["runs"][1]["said"] = hostile
    page = Page(render_sweep(data))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("href", "src")]
    assert not [link for link in links if re.match(r"\w+:|//", link or "")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_the_page_links_the_reports_that_there_are():
    page = render_sweep(found(failed=((400, 1),)))
    assert re.findall(r'href="([^"]*)"', page) == [
        f"{run}/report.html" for run in ("100/seed-0", "100/seed-1", "400/seed-0")
    ]
    assert "no room &lt;left&gt;" in page
    assert "default-src 'none'" in page


def test_the_page_holds_no_credentials_of_a_setting():
    data = found()
    data["sweep"]["set"] = ["server.url=https://me:secret@host/v1"]
    data["signature"] = "polypref:0|set:server.url=https://me:secret@host/v1"
    page = render_sweep(data)
    assert page.count("server.url=https://host/v1") == 2
    assert "secret" not in page


def test_a_sweep_without_figures_has_a_page_all_the_same():
    page = render_sweep(found(failed=((100, 0), (100, 1), (400, 0), (400, 1))))
    assert "<svg" not in page
    assert page.count("no room &lt;left&gt;") == 4


def test_the_terminal_has_the_same_tables():
    tables = sweep_tables(found())
    assert [str(table.title) for table in tables] == [
        "Quality, %, by reward_models.data.limit",
        "Difference from 100, points",
    ]


def chart(values, labels=None, figures=None):
    labels = labels or [str(value) for value in values]
    figures = figures or {
        name: {"value": 0.1 * i, "low": 0.1 * i - 0.4, "high": 0.1 * i + 0.4, "seeds": {"0": 0.1 * i, "1": 0.1 * i}}
        for i, name in enumerate(labels)
    }
    return sweep_chart([Panel("Mean", figures)], x="k", labels=labels, values=values, y="v", percent=True, alt="a & b")


def marks(svg, kind):
    """How many marks of a kind a chart draws: groups of a role, with a path or line each."""
    [*groups] = re.findall(rf'<g class="mark-{kind} role-mark[^"]*"[^>]*(?<!/)>.*?</g>', svg, re.DOTALL)
    return sum(len(re.findall(r"<(?:path|line)", group)) for group in groups)


def test_the_chart_has_a_dot_and_an_interval_a_value_and_a_ring_a_seed():
    svg = chart([100, 400, 1600])
    assert (marks(svg, "symbol"), marks(svg, "rule"), marks(svg, "line")) == (3 + 6, 3, 1)
    assert 'role="img" aria-label="a &amp; b"' in svg


def test_values_that_are_no_numbers_are_not_joined():
    assert marks(chart(["rm-en", "rm-es"]), "line") == 0
    assert marks(chart([100, None], labels=["100", "null"]), "line") == 0
    assert marks(chart([True, False], labels=["true", "false"]), "line") == 0


def test_numbers_over_a_decade_stand_on_a_logarithmic_axis():
    """The middle of 10 and 1000 is 100 there, and on a linear axis it is not."""

    def places(values):
        [line] = re.findall(r'<g class="mark-line.*?<path[^>]* d="([^"]*)"', chart(values), re.DOTALL)
        xs = [float(x) for x in re.findall(r"[ML](-?[\d.]+),", line)]
        return (xs[1] - xs[0]) / (xs[2] - xs[0])

    assert places([10, 100, 1000]) == pytest.approx(0.5, abs=0.01)
    assert places([0, 0.1, 0.4]) == pytest.approx(0.25, abs=0.01)


def test_a_figure_without_an_interval_is_a_dot_alone():
    figures = {name: {"value": 0.5, "low": None, "high": None, "seeds": {"0": 0.5}} for name in ("1", "2")}
    svg = chart([1, 2], figures=figures)
    assert (marks(svg, "symbol"), marks(svg, "rule")) == (4, 0)
