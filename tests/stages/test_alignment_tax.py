"""Before against after, item by item; the reference of tests and intervals is scipy."""

from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from polypref.errors import InputError
from polypref.stages.alignment_tax import alignment_tax
from polypref.stages.standard_tasks import Done


def done(task: str, family: str, lang: str, values: Any, metric: str = "acc_norm", **asked: Any) -> Done:
    items = {str(i): float(value) for i, value in enumerate(values)}
    return Done("model", task, family, lang, {"task": task, **asked}, {}, {}, {metric: items})


def test_a_row_is_the_paired_t_test() -> None:
    noise = np.random.default_rng(0)
    before, after = (noise.integers(0, 2, 60).astype(float) for _ in range(2))
    found = alignment_tax([done("arc_es", "arc", "es", before)], [done("arc_es", "arc", "es", after)], ("a", "b"))
    [row] = found["rows"]
    expected = reference.ttest_rel(after, before)
    interval = expected.confidence_interval(0.95)
    assert row["difference"] == pytest.approx(after.mean() - before.mean())
    assert (row["before"], row["after"]) == (pytest.approx(before.mean()), pytest.approx(after.mean()))
    assert (row["t"], row["p"]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (row["metric"], row["language"], row["n"]) == ("arc_acc_norm", "es", 60)


def test_the_mean_over_parallel_languages_is_the_test_of_the_items_means() -> None:
    """The same items in two languages: each item's mean difference is one observation."""
    noise = np.random.default_rng(1)
    before, after = noise.random((2, 40)), noise.random((2, 40))
    langs = ("es", "de")
    sides = [
        [done(f"arc_{lang}", "arc", lang, x) for lang, x in zip(langs, side, strict=True)] for side in (before, after)
    ]
    found = alignment_tax(*sides, ("a", "b"))
    [row] = found["by_metric"]
    expected = reference.ttest_rel(after.mean(0), before.mean(0))
    assert (row["t"], row["p"], row["n"]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue), 40)
    assert row["languages"] == ["es", "de"]


def test_the_macro_average_counts_every_task_and_language_once() -> None:
    """arc es gains 1 on 2 items of 4 (1/2), arc de nothing, mgsm es loses 1 on 1 of 2 (−1/2): their mean is 0."""
    metric = {"metric": "exact_match,flexible-extract"}
    before = [
        done("arc_es", "arc", "es", [0, 0, 0, 1]),
        done("arc_de", "arc", "de", [0, 1, 0, 1]),
        done("mgsm_native_cot_es", "mgsm", "es", [1, 0], **metric),
    ]
    after = [
        done("arc_es", "arc", "es", [1, 1, 0, 1]),
        done("arc_de", "arc", "de", [0, 1, 0, 1]),
        done("mgsm_native_cot_es", "mgsm", "es", [0, 0], **metric),
    ]
    found = alignment_tax(before, after, ("a", "b"))
    assert [row["difference"] for row in found["rows"]] == [0.5, 0.0, -0.5]
    assert [row["difference"] for row in found["by_metric"]] == [0.25, -0.5]
    assert found["macro"]["difference"] == pytest.approx(0.0)
    assert (found["macro"]["before"], found["macro"]["after"]) == (pytest.approx(1.25 / 3), pytest.approx(1.25 / 3))
    assert found["macro"]["n"] == 6  # arc's four items, in both languages, and two of mgsm


def test_without_any_spread_there_is_no_test() -> None:
    side = [done("arc_es", "arc", "es", [0, 1, 1])]
    [row] = alignment_tax(side, side, ("a", "b"))["rows"]
    assert (row["difference"], row["stderr"], row["t"], row["p"], row["low"]) == (0.0, 0.0, None, None, None)
    single = [done("arc_es", "arc", "es", [1])]
    [row] = alignment_tax(single, single, ("a", "b"))["rows"]
    assert (row["stderr"], row["p"], row["n"]) == (None, None, 1)


def test_tasks_of_one_model_alone_are_named_and_metrics_can_be_chosen() -> None:
    before = [done("arc_es", "arc", "es", [0, 1]), done("hellaswag_es", "hellaswag", "es", [0, 1])]
    after = [done("arc_es", "arc", "es", [1, 1])]
    found = alignment_tax(before, after, ("a", "b"))
    assert found["alone"] == {"a": ["hellaswag_es"], "b": []}
    with pytest.raises(InputError, match="no metric 'arc_acc'; there is arc_acc_norm"):
        alignment_tax(before, after, ("a", "b"), ["arc_acc"])


def test_what_was_put_in_two_ways_is_not_compared() -> None:
    ten, all_ = done("arc_es", "arc", "es", [0, 1], limit=10), done("arc_es", "arc", "es", [0, 1], limit=None)
    with pytest.raises(InputError, match="arc_es was put to a and b with different settings"):
        alignment_tax([ten], [all_], ("a", "b"))
    with pytest.raises(InputError, match="different settings, versions or items"):
        alignment_tax([ten], [done("arc_es", "arc", "es", [0, 1, 1], limit=10)], ("a", "b"))
    with pytest.raises(InputError, match="share no task"):
        alignment_tax([ten], [done("arc_de", "arc", "de", [0, 1])], ("a", "b"))
