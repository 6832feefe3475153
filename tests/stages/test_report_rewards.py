"""Reward models in the report: what its words claim, what its tables and charts show, for few and for many."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from polypref.backends.base import Context, ModelSpec
from polypref.records import Example
from polypref.stages import report_charts as charts
from polypref.stages.judge_rewards import Judgement, figures
from polypref.stages.report import ReportData, _pivot_first, findings_of, headline_of, render, terminal_tables
from polypref.stages.report_parts import parts
from polypref.stages.report_tables import NBSP, clean
from polypref.stages.representation import RepresentationOptions, shift
from polypref.stages.reward_items import Item
from polypref.stages.reward_matrix import matrix
from report_pages import HOSTILE, Page, assert_inert, printed

TAGS = ("en", "es", "sw")
MANY = "en ar cs de el es fa fr he hi id it ja ko nl pl pt ro ru tr uk vi zh-Hans"
TWENTY_THREE = tuple(MANY.split(" "))
SOURCES = ("en", "ar", "es", "hi", "ko", "zh-Hans")


def made(**changes: Any) -> ReportData:
    values = {"name": "reward-transfer", "date": "2026-01-02", "seed": 0, "signature": "polypref:0"}
    return ReportData(**(values | {"config": {"pivot": "en"}} | changes))


def accuracy(value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    found = {"accuracy": value, "accuracy_stderr": (high - low) / 4, "accuracy_n": 100}
    return found | {"accuracy_low": low, "accuracy_high": high, "length_baseline": 0.6, "majority_baseline": 0.5} | more


def told(data: ReportData) -> list[tuple[str, str]]:
    return [(finding.kind, finding.text) for finding in findings_of(data)]


def lead(value: float, stderr: float | None = 0.01) -> dict[str, Any]:
    """On 101 prompts, so that half an interval is 1.98 standard errors."""
    return {"against_own": {"rm-en": {"value": value, "stderr": stderr, "n": 101}}}


TWO = {
    "figures": {name: {tag: accuracy(0.7, 0.65, 0.75) for tag in TAGS} for name in ("rm-en", "rm-es", "rm-sw")},
    "trained_on": {f"rm-{tag}": [tag] for tag in TAGS},
}


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stderr", "says"),
    [
        (0.03, 0.01, f"rm-en (English) beats the languages' own models by 3.0{NBSP}±{NBSP}2.0 points of mean accuracy"),
        (-0.03, 0.01, f"rm-en (English) falls behind the languages' own models by 3.0{NBSP}±{NBSP}2.0 points"),
        (
            0.01,
            0.01,
            f"rm-en (English) and the languages' own models cannot be told apart: +1.0{NBSP}±{NBSP}2.0 points",
        ),
        (-0.01, 0.01, f"own models cannot be told apart: −1.0{NBSP}±{NBSP}2.0 points"),
        (0.03, None, "rm-en (English) differs from the languages' own models by +3.0 points of mean accuracy"),
    ],
)
def test_the_headline_says_whether_the_english_model_beats_the_languages_own_ones(
    value: float, stderr: float | None, says: str
) -> None:
    data = made(rewards=TWO | {"matrix": lead(value, stderr)})
    assert says in headline_of(data).text
    assert headline_of(data).text.endswith("in Spanish and Swahili.")
    assert headline_of(data) not in findings_of(data)  # it is not said twice
    assert headline_of(data).text in Page(render(data)).text


def test_the_training_of_a_policy_comes_before_its_reward_models() -> None:
    c = {"from": "a", "to": "b", "languages": {}, "mean_over": ["es"], "gain": 0.1, "low": 0.05, "high": 0.15}
    data = made(rewards=TWO | {"matrix": lead(0.03)}, comparisons=[c])
    assert headline_of(data).text.startswith("b beats a")
    assert any("beats the languages' own models" in text for _, text in told(data))


def test_models_of_no_language_are_told_by_their_mean_accuracy() -> None:
    by_model = {
        "judge": {"en": accuracy(0.8, 0.7, 0.9), "es": accuracy(0.6, 0.5, 0.7)},
        "rm": {"en": accuracy(0.9, 0.8, 0.95), "es": accuracy(0.7, 0.65, 0.75)},
    }
    means = {"judge": {"accuracy": 0.7, "low": 0.6, "high": 0.79}, "rm": {"accuracy": 0.8, "low": 0.75, "high": 0.84}}
    text = "2 reward models over 2 languages: mean accuracy from 70.0% [60.0, 79.0] (judge) to 80.0% [75.0, 84.0] (rm)."
    assert headline_of(made(rewards={"figures": by_model, "matrix": {"means": means}})).text == text
    equal = {"means": dict.fromkeys(by_model, means["rm"])}
    text = "2 reward models have the same mean accuracy over 2 languages: 80.0% [75.0, 84.0]."
    assert headline_of(made(rewards={"figures": by_model, "matrix": equal})).text == text
    alone = {"figures": {"rm": by_model["rm"]}, "matrix": {"means": {"rm": means["rm"]}}}
    assert headline_of(made(rewards=alone)).text == "rm: mean accuracy 80.0% [75.0, 84.0] over 2 languages."
    alone["figures"] = {"rm": {"en": by_model["rm"]["en"]}}
    assert headline_of(made(rewards=alone)).text == "rm: accuracy 80.0% [75.0, 84.0] in English."


def test_an_accuracy_that_reaches_down_to_the_better_baseline_is_pointed_at() -> None:
    by_model = {
        "low": {"en": accuracy(0.64, 0.6, 0.68), "es": accuracy(0.7, 0.61, 0.79), "sw": accuracy(0.6, 0.5, 0.7)},
        "all": {"en": accuracy(0.6, 0.5, 0.7), "es": accuracy(0.6, 0.5, 0.7)},
        "majority": {"en": accuracy(0.7, 0.65, 0.75, majority_baseline=0.66)},
        "too": {"en": accuracy(0.6, 0.5, 0.7), "es": accuracy(0.6, 0.5, 0.7)},
        "fine": {"en": accuracy(0.7, 0.65, 0.75)},
        "unknown": {"en": {"accuracy": 0.4, "accuracy_stderr": 0.01, "accuracy_n": 9}},
    }
    data = made(rewards={"figures": by_model})
    text = "Accuracy is not shown to be above the length and majority baselines: low in English and Swahili; "
    assert told(data) == [
        ("watch", f"{text}all and too in all 2 languages; majority in English."),
        ("good", "fine is above the baselines in every language, each by its own 95% interval."),
    ]
    page = Page(render(data)).text
    assert f"64.0†{NBSP}[60.0,{NBSP}68.0]".replace(NBSP, " ") in page.replace(NBSP, " ")
    assert "† The interval is not above the better baseline as it is on these items." in page


def test_the_best_source_is_told_with_how_settled_it_is() -> None:
    best = {
        "en": {"source": "rm-en", "share_best": {"rm-en": 0.99, "rm-es": 0.01}},
        "es": {"source": "rm-en", "share_best": {"rm-en": 0.6, "rm-es": 0.4}},
        "sw": {"source": "rm-sw", "share_best": {"rm-sw": 0.96, "rm-es": 0.04}},
    }
    data = made(rewards=TWO | {"matrix": {"best": best}})
    assert (
        "plain",
        "rm-en has the highest accuracy in 2 of 3 languages; which one is best is not settled in Spanish.",
    ) in told(data)
    sure = {tag: {**found, "share_best": {found["source"]: 1.0}} for tag, found in best.items()}
    text = "rm-en has the highest accuracy in 2 of 3 languages; each best one is settled, in at least 95% of the "
    text += "resamples."
    assert ("plain", text) in told(made(rewards=TWO | {"matrix": {"best": sure}}))
    loose = {tag: {**found, "share_best": {found["source"]: 0.4}} for tag, found in best.items()}
    text = "rm-en has the highest accuracy in 2 of 3 languages; which one is best is not settled in any."
    assert ("plain", text) in told(made(rewards=TWO | {"matrix": {"best": loose}}))


def test_models_that_are_equally_good_are_all_named() -> None:
    """In en rm-en and rm-es share the first place, in es rm-es has it, in sw rm-en."""
    reached = {"rm-en": (0.8, 0.6, 0.9), "rm-es": (0.8, 0.7, 0.5), "rm-sw": (0.5, 0.5, 0.5)}
    cells = {name: {t: {"accuracy": a} for t, a in zip(TAGS, of, strict=True)} for name, of in reached.items()}
    best = {
        "en": {"source": "rm-en", "share_best": {"rm-en": 0.5, "rm-es": 0.5}},
        "es": {"source": "rm-es", "share_best": {"rm-es": 1.0}},
        "sw": {"source": "rm-en", "share_best": {"rm-en": 1.0}},
    }
    data = made(rewards=TWO | {"matrix": {"best": best, "cells": cells}})
    text = "rm-en and rm-es each have the highest accuracy in 2 of 3 languages; which one is best is not settled in "
    assert ("plain", f"{text}English.") in told(data)
    assert "rm-en, rm-es" in Page(render(data)).text
    assert "50, 50" in Page(render(data)).text


def test_means_gaps_and_verdicts_are_told() -> None:
    means = {"diagonal_mean": {"value": 0.71, "stderr": 0.01, "n": 101}, "off_diagonal_mean": {"value": 0.62, "n": 101}}
    gap = {"generalisation_gap": 0.2, "generalisation_gap_stderr": 0.05, "generalisation_gap_n": 101}
    small = {"generalisation_gap": 0.1, "generalisation_gap_stderr": 0.05, "generalisation_gap_n": 101}
    by_model = {
        "rm": {"en": accuracy(0.7, 0.65, 0.75, **gap), "es": accuracy(0.7, 0.65, 0.75, **small)},
        "judge": {
            "en": accuracy(0.7, 0.65, 0.75, no_verdict=0.02, flip_rate=0.3),
            "es": accuracy(0.7, 0.65, 0.75, no_verdict=0.02, flip_rate=0.2),
        },
    }
    assert told(made(rewards={"figures": by_model, "matrix": means})) == [
        ("plain", "In the language of their training the models are right in 71.0% [69.0, 73.0], in others in 62.0%."),
        ("good", "rm and judge are above the baselines in every language, each by its own 95% interval."),
        ("watch", "More than 5 points better on the training data than on these: rm in English."),
        (
            "watch",
            "judge contradicts itself when the order is swapped on 30.0% of the items in English, and on more than 10% "
            "in 2 languages.",
        ),
    ]


def test_a_policy_that_has_found_what_its_reward_does_not_see_is_pointed_at() -> None:
    def on(sft: float, aligned: float) -> dict[str, Any]:
        both = {"accuracy_on_sft": sft, "accuracy_on_aligned": aligned}
        return both | {f"{name}{end}": v for name in both for end, v in (("_stderr", 0.01), ("_n", 101))}

    figures = TWO["figures"]["rm-en"]
    results = {"rm-en": {"en": figures["en"] | on(0.9, 0.7), "es": figures["es"] | on(0.9, 0.88)}}
    data = made(results=results, rewards={"figures": {"rm-en": figures}})
    text = "rm-en tells right from wrong worse in answers of aligned than in those of sft in English."
    assert ("watch", text) in told(data)
    page = Page(render(data))
    assert "own-answers" in [section["id"] for section in page.named("section")]
    assert "Accuracy of rm-en on answers of, %" in page.text
    assert "Every other figure" not in page.text  # it stands in a section of its own


# --- the page --------------------------------------------------------------------------------------------------------


def judgement(seed: int, tags: Sequence[str], right: float, prompts: int = 40) -> Judgement:
    noise = random.Random(seed)
    items = []
    for tag in tags:
        for i in range(prompts):
            wins = noise.random() < right
            scores = {"right": (float(wins),), "wrong": (float(not wins),)}
            ids = {"right_ids": ("a",), "wrong_ids": ("b",), "right_lengths": (3,), "wrong_lengths": (2,)}
            items.append(Item(f"p{i}", tag, "pair", **scores, **ids, credit=float(wins), category="Chat"))
    return Judgement(items)


class Drawn:
    """Random hidden states by the model's path and the text."""

    fingerprint, layers = "drawn", 4

    def __init__(self, spec: ModelSpec) -> None:
        self.path = spec.path

    def hidden(self, texts: Any, layers: Any, pooling: str) -> list[np.ndarray]:
        def state(text: Any, layer: int) -> np.ndarray:
            own, base = (random.Random(f"{who}{text.id}{layer}") for who in (self.path, "base"))
            return np.array([base.gauss(1, 1) + 0.1 * own.gauss(0, 1) for _ in range(5)], dtype=np.float32)

        return [np.array([state(text, layer) for text in texts]) for layer in layers]


SECTIONS = {
    "Chat": {"value": 0.75, "stderr": 0.031, "n": 40},
    "Safety": 0.5,
    "score": {"value": 0.625, "stderr": 0.022, "n": 80},
}
"""A section is a figure with its error, or a share alone."""


def run(tags: Sequence[str], sources: Sequence[str], layers: tuple[int, ...] = (-1,)) -> ReportData:
    """What a run gives: real figures, matrix and shift of made-up verdicts and states."""
    models = {f"rm-{tag}": [tag] for tag in sources} | {"rm-all": list(tags)}
    judged = {name: judgement(i, tags, 0.6 + 0.02 * i) for i, name in enumerate(models)}
    found = {name: figures(one, pivot="en", training=one) for name, one in judged.items()}
    texts = [Example(f"t{i}", {tag: [{"role": "user", "content": "?"}] for tag in tags}) for i in range(12)]
    texts.append(Example("one", {"en": [{"role": "user", "content": "?"}]}))
    context = Context(lambda role, spec: Drawn(spec), tags, "en")
    specs = {name: ModelSpec(path=name) for name in models}
    base = ModelSpec(path="base", name="small-base")
    rewards = {
        "figures": found,
        "trained_on": models,
        "matrix": matrix(judged, models, seed=0, resamples=50).to_json(),
        "sections": {name: dict.fromkeys(tags, SECTIONS) for name in models},
    }
    moved = shift(texts, specs, base, RepresentationOptions(layers=layers), context).to_json()
    return made(results=found, rewards=rewards, representation=moved)


@pytest.fixture(scope="module")
def few() -> ReportData:
    return run(TAGS, ("en", "sw"))


@pytest.fixture(scope="module")
def many() -> ReportData:
    return run(TWENTY_THREE, SOURCES, (0, -1))


def test_every_section_is_there(few: ReportData) -> None:
    page = assert_inert(render(few))
    ids = [section["id"] for section in page.named("section")]
    assert ids == ["transfer", "beside", "sections", "agreement", "shift", "how"]
    assert len(page.named("svg")) == 4
    assert "Accuracy of the reward models by category" in page.text
    assert "reward models" in page.text
    assert "steps" not in [word.strip() for word in page.words]  # reward models are no steps


def test_each_figure_stands_with_its_interval_and_its_baseline(few: ReportData) -> None:
    assert few.rewards is not None
    text = printed(terminal_tables(few)).replace(NBSP, " ")
    one = few.rewards["figures"]["rm-sw"]["es"]
    assert f"{100 * one['accuracy']:.1f} [{100 * one['accuracy_low']:.1f}, {100 * one['accuracy_high']:.1f}]" in text
    cell = few.rewards["matrix"]["against_own"]["rm-en"]
    assert f"{100 * cell['value']:+.1f}".replace("-", "−") in text
    assert f"{one['kappa']:.2f} ± {one['kappa_stderr']:.2f}".replace("-", "−") in text
    assert "Generalisation gap, points" in text
    assert "n = 40 prompts each." in text
    assert "62.5 ± 2.2" in text
    assert "75.0 ± 3.1" in text
    assert "No verdict" not in text  # every item has one


def test_a_page_of_one_reward_names_no_best_and_no_baseline_that_is_not_there() -> None:
    items = judgement(1, ("es", "en"), 0.7)
    found = figures(items, pivot="en")
    transfer = matrix({"rm": items}, {}, resamples=20).to_json()
    page = Page(render(made(results={"rm": found}, rewards={"figures": {"rm": found}, "matrix": transfer})))
    assert headline_of(made(rewards={"figures": {"rm": found}, "matrix": transfer})).text.startswith(
        "rm: mean accuracy "
    )
    for absent in ("best", "length baseline", "majority", "orange", "dashed"):
        assert absent not in page.text, absent
    assert "No baselines: training data is not given (--train, or judge.training in a recipe)." in page.text
    other = {"figures": {"rm": found}, "baselines": {"between": {}, "single": {"*": {}}, "majority": {}}}
    assert "No baselines: the training data is of another kind" in Page(render(made(rewards=other))).text
    assert "Wilson's" in page.text


def test_the_pivot_comes_first() -> None:
    items = judgement(1, ("es", "sw", "en"), 0.7)
    data = made(rewards={"figures": {"rm": figures(items, pivot="en")}})
    [grid] = [grid for part in parts(_pivot_first(data)) for grid in part.grids if grid.title == "Accuracy, %"]
    assert grid.header == ["", "English", "Spanish", "Swahili"]


def test_chance_is_drawn_where_it_is() -> None:
    """Of one right answer among four it is a quarter: the line lies there, and no other one."""
    quarter = {t: accuracy(0.4, 0.3, 0.5, majority_baseline=0.25) for t in ("en", "es")}
    page = Page(render(made(rewards={"figures": {"rm": quarter}})))
    assert "The dashed line is the majority baseline, 25.0%." in page.text
    uneven = {"en": accuracy(0.7, 0.6, 0.8, majority_baseline=0.6), "es": accuracy(0.7, 0.6, 0.8)}
    page = Page(render(made(rewards={"figures": {"rm": uneven}})))
    assert "dashed" not in page.text
    assert "majority baseline" in page.text


def test_a_reward_without_any_verdict_is_told_and_not_drawn(few: ReportData) -> None:
    assert few.rewards is not None
    none = {tag: {"no_verdict": 1.0, "no_verdict_stderr": 0.0, "no_verdict_n": 40} for tag in TAGS}
    with_silent = {**few.rewards["figures"], "mute": none}
    data = made(rewards={**few.rewards, "figures": with_silent})
    page = Page(render(data))
    assert "Without any verdict, and so not here: mute." in page.text
    assert ("watch", "mute gives no verdict on any item, and so no accuracy.") in told(data)
    assert not any("mute" in svg["aria-label"] for svg in page.named("svg"))
    [grid] = [grid for part in parts(data) for grid in part.grids if grid.title.startswith("No verdict")]
    assert [row[0].text for row in grid.rows] == ["mute"]


def test_the_shift_says_what_it_is_of(few: ReportData) -> None:
    assert few.representation is not None
    text = Page(render(few)).text.replace(NBSP, " ")
    assert "12 texts (prompts alone) in 3 languages; layer −1, the last token's state, not centred." in text
    assert "Left out: 1 without every language." in text
    figures = few.representation["overall"]["rm-sw"]["-1"]
    ratio = f"{figures['singular_value_ratio']:.3f} ± {figures['singular_value_ratio_stderr']:.3f}"
    assert ratio in text
    assert "small-base (base)" in text


def test_it_renders_for_twenty_three_languages_and_seven_models(many: ReportData) -> None:
    page = assert_inert(render(many))
    maps = [svg["aria-label"] for svg in page.named("svg")]
    assert "rm-zh-Hans (Chinese, Simplified), Chinese (Simplified): " in maps[0]
    assert "at layer 0" in page.text
    assert "Sections of the benchmark" in page.text
    assert any(table.get("class") == "wide" for table in page.named("table"))  # intervals on lines of their own


def test_a_shift_alone_and_a_judgement_alone_have_their_sections(few: ReportData) -> None:
    alone = Page(render(made(representation=few.representation)))
    assert [section["id"] for section in alone.named("section")] == ["shift", "how"]
    bare = Page(render(made(rewards={"figures": {"rm": {"en": {"accuracy": 0.5}}}})))
    assert [section["id"] for section in bare.named("section")] == ["transfer", "beside", "how"]
    nothing = made(rewards={"figures": {"rm": {"en": {"no_verdict": 1.0, "no_verdict_n": 3}}}})
    assert "rm gives no verdict on any item, and so no accuracy." in Page(render(nothing)).text


def test_what_the_models_did_not_move_is_said_to_be_unshown() -> None:
    class Same(Drawn):
        def __init__(self, spec: ModelSpec) -> None:
            self.path = "same" if spec.path != "base" else "base"

    texts = [Example(f"t{i}", {tag: [{"role": "user", "content": "?"}] for tag in TAGS}) for i in range(12)]
    context = Context(lambda role, spec: Same(spec), TAGS, "en")
    specs = {name: ModelSpec(path=name) for name in ("rm-en", "rm-es")}
    found = shift(texts, specs, ModelSpec(path="base"), RepresentationOptions(), context).to_json()
    texts_told = [text for _, text in told(made(representation=found))]
    assert any(text.startswith("Which model stays closest to base cannot be told by linear CKA") for text in texts_told)


def test_hostile_names_stay_text(few: ReportData) -> None:
    assert few.rewards is not None
    figures = few.rewards["figures"]["rm-en"]
    bad = HOSTILE[0]
    rewards = {
        "figures": dict.fromkeys(HOSTILE, figures) | {bad: {bad: figures["en"]}},
        "trained_on": {name: ["en"] for name in HOSTILE},
        "sections": {bad: {bad: {bad: 0.5}}},
        "matrix": {"best": {bad: {"source": bad, "share_best": {bad: 1.0}}}},
    }
    page = assert_inert(render(made(rewards=rewards)))
    for name in HOSTILE[:6]:
        assert clean(name) in page.text


# --- the heat map ----------------------------------------------------------------------------------------------------


def svg_of(tiles: Sequence[charts.Tile], rows: Sequence[str], columns: Sequence[str]) -> str:
    return charts.heat_map(tiles, alt="", rows=rows, columns=columns)


def test_a_heat_map_prints_every_value_and_frames_the_best() -> None:
    tiles = [
        charts.Tile("a", "x", 0.7, "70.0", "solid"),
        charts.Tile("b", "x", 0.5, "50.0"),
        charts.Tile("b", "y", 0.6, "60.0", "dashed"),
    ]
    svg = svg_of(tiles, ["a", "b"], ["x", "y"])
    assert {"70.0", "50.0", "60.0"} <= set(re.findall(r">([\d.]+)</text>", svg))
    framed = re.findall(rf'<path[^>]*stroke="{charts.FRAME}"[^>]*>', svg)
    assert len(framed) == 2
    assert sum("stroke-dasharray" in path and 'stroke-dasharray=""' not in path for path in framed) == 1
    fills = [charts.LOW, charts.HIGH]
    assert "Lightest: 50.0, the lowest value here. Darkest: 70.0, the highest." in svg
    for fill in fills:
        assert "#" + "".join(f"{part:02x}" for part in fill) in svg  # the lowest and the highest value


def test_every_value_can_be_read_on_its_tile() -> None:
    """WCAG 2.1 asks text for a contrast of 4.5; black on white has 21."""
    assert charts.contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    colour = charts._shades([0.0, 1.0])
    for step in range(101):
        shades = colour(step / 100)
        fill, ink = ([int(shades[key][i : i + 2], 16) for i in (1, 3, 5)] for key in ("fill", "ink"))
        assert charts.contrast(fill, ink) >= 4.5


def test_equal_values_have_one_colour() -> None:
    svg = svg_of([charts.Tile("a", "x", 0.5, "50.0"), charts.Tile("a", "y", 0.5, "50.0")], ["a"], ["x", "y"])
    assert svg.count(">50.0</text>") == 2
