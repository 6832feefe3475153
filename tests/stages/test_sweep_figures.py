"""A sweep's figures: means over seeds, intervals that say what they are over, differences paired by seed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypref.maths.stats import Estimate, mean_of_means, mean_stderr
from polypref.stages.sweep_figures import Run, languages_of, sweep_figures


def run(value, seed, **figures):
    """A run with the same error (0.05) and number of prompts (11) in every language."""
    return Run(value, seed, {lang: Estimate(figure, 0.05, 11) for lang, figure in figures.items()})


def test_a_figure_is_the_mean_over_seeds_with_student_s_interval():
    """Of 0.4 and 0.6 the mean is 0.5, s = √0.02, s/√2 = 0.1; t on one degree of freedom is 12.706."""
    [point] = sweep_figures([run(0, 3, en=0.4), run(0, 5, en=0.6)], 1)
    figure = point["languages"]["en"]
    assert (figure["n"], figure["over"], figure["seeds"]) == (2, "seeds", {"3": 0.4, "5": 0.6})
    assert (figure["value"], figure["stderr"]) == (pytest.approx(0.5), pytest.approx(0.1))
    assert (figure["low"], figure["high"]) == (pytest.approx(-0.77062, abs=1e-5), pytest.approx(1.77062, abs=1e-5))


def test_one_seed_keeps_the_interval_of_its_prompts():
    """t on ten degrees of freedom is 2.22814."""
    [point] = sweep_figures([run(0, 3, en=0.4)], 1)
    figure = point["languages"]["en"]
    assert (figure["value"], figure["stderr"], figure["n"], figure["over"]) == (0.4, 0.05, 11, "prompts")
    assert figure["high"] == pytest.approx(0.4 + 2.22814 * 0.05, abs=1e-5)


def test_a_figure_of_one_prompt_has_no_interval():
    [point] = sweep_figures([Run(0, 0, {"en": Estimate(0.4, None, 1)})], 1)
    assert (point["languages"]["en"]["low"], point["mean"]["high"]) == (None, None)


def test_the_mean_gives_languages_equal_weight_in_every_seed():
    """Seed 0: (0.2 + 0.4)/2 = 0.3; seed 1: (0.6 + 0.4)/2 = 0.5."""
    [point] = sweep_figures([run(0, 0, en=0.2, es=0.4), run(0, 1, en=0.6, es=0.4)], 1)
    assert point["mean"]["seeds"] == {"0": pytest.approx(0.3), "1": pytest.approx(0.5)}
    assert point["mean"]["value"] == pytest.approx(0.4)


def test_differences_are_paired_by_seed():
    """The seeds are far apart, the differences 0.1 and 0.2 are not: their mean is 0.15 and s/√2 = 0.05."""
    runs = [run(0, 0, en=0.1), run(0, 1, en=0.7), run(1, 0, en=0.2), run(1, 1, en=0.9), run(1, 2, en=0.5)]
    first, second = sweep_figures(runs, 2)
    assert first["against_first"] is None
    gain = second["against_first"]["mean"]
    assert (gain["gain"], gain["stderr"], gain["n"]) == (pytest.approx(0.15), pytest.approx(0.05), 2)
    assert second["against_first"]["languages"]["en"] == gain
    assert second["languages"]["en"]["stderr"] > 0.19  # the seeds alone: 0.2, 0.9, 0.5


def test_values_without_a_common_seed_have_no_difference():
    assert sweep_figures([run(0, 0, en=0.1), run(1, 1, en=0.2)], 2)[1]["against_first"] is None


def test_the_mean_is_over_the_languages_that_every_run_has():
    runs = [run(0, 0, en=0.1, es=0.9), run(1, 0, de=0.3, en=0.2)]
    assert languages_of(runs) == ["en"]
    first, second = sweep_figures(runs, 2)
    assert (first["mean"]["value"], second["mean"]["value"]) == (0.1, 0.2)
    assert list(second["languages"]) == ["de", "en"]
    assert list(second["against_first"]["languages"]) == ["en"]


def test_runs_of_other_languages_have_no_mean():
    first, second = sweep_figures([run(0, 0, es=0.1), run(1, 0, de=0.2)], 2)
    assert (first["mean"], second["mean"], second["against_first"]) == (None, None, None)


def test_a_value_without_a_run_is_empty():
    first, second = sweep_figures([run(1, 0, en=0.2)], 2)
    assert (first["languages"], first["mean"], second["against_first"]) == ({}, None, None)
    assert second["mean"]["value"] == 0.2
    assert sweep_figures([], 1) == [{"languages": {}, "mean": None, "against_first": None}]


PARALLEL = st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=2, max_size=12)


@given(PARALLEL)
def test_the_error_of_one_seed_s_mean_is_never_below_that_of_its_prompts(prompts):
    """Against the exact error of parallel prompts, clustered by prompt, whatever ties the languages have."""
    columns = {lang: [row[i] for row in prompts] for i, lang in enumerate(("en", "es"))}
    [point] = sweep_figures([Run(0, 0, {lang: mean_stderr(column) for lang, column in columns.items()})], 1)
    exact = mean_of_means({lang: dict(enumerate(column)) for lang, column in columns.items()})
    assert point["mean"]["value"] == pytest.approx(exact.value)
    assert point["mean"]["stderr"] >= exact.stderr - 1e-12
    assert math.isfinite(point["mean"]["low"])
