"""Data of reports on rewards that are used again: hand-made figures, in the shapes that the stages give."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from polypref.stages.alignments import alignment
from polypref.stages.diagnosis import DiagnosisOptions, diagnose
from polypref.stages.evaluate import Evaluation
from polypref.stages.report import ReportData, findings_of
from polypref.stages.report_parts import parts
from polypref.stages.signatures import RULES

TAGS = ("en", "es", "sw")
MANY = re.split(" ", "en ar cs de el es fa fr he hi id it ja ko nl pl pt ro ru tr uk vi zh-Hans")
NS = (1, 2, 4, 8)


def made(**changes: Any) -> ReportData:
    values: dict[str, Any] = {"name": "reuse-rewards", "date": "2026-01-02", "seed": 0, "signature": "polypref:0"}
    return ReportData(**(values | {"config": {"pivot": "en"}} | changes))


def figure(metric: str, value: float, stderr: float = 0.02, n: int = 101) -> dict[str, Any]:
    """On 101 prompts, so that half an interval is 1.98 standard errors."""
    return {metric: value, f"{metric}_stderr": stderr, f"{metric}_n": n}


def aligned(
    rates: Mapping[str, Mapping[str, float]], means: Mapping[str, float] | None = None, **changes: Any
) -> dict[str, Any]:
    """An entry in the shape of ``alignments.alignment``: step → language → win rate, each with stderr 0.02."""
    entry = {
        "method": "rloo",
        "label": "RLOO",
        "metric": "win_rate",
        "judge": "quality",
        "against": "sft",
        "sources": {step: [step[-2:]] for step in rates},
        "made_by": {step: f"rm-{step[-2:]}" for step in rates},
        "matrix": {step: {tag: figure("win_rate", v) for tag, v in by.items()} for step, by in rates.items()},
        "mean": {step: {"value": v, "stderr": 0.01, "n": 101} for step, v in (means or {}).items()},
        "monolingual_against_cross_lingual": None,
        "tau": None,
        "diagonal": None,
        "off_diagonal": None,
    }
    return entry | changes


def evaluated(seed: int, rate: float, tags: Sequence[str] = TAGS) -> Evaluation:
    noise, out = random.Random(seed), Evaluation()
    for tag in tags:
        for i in range(40):
            out.add("win_rate", tag, f"p{i}", float(noise.random() < rate))
    return out


def curve(quality: Sequence[float], length: float = 40) -> list[dict[str, Any]]:
    """A row for each n, whose quality is given; the reward rises with n."""
    out = []
    for n, value in zip(NS, quality, strict=True):
        row = {"n": n, "kl_bound": math.log(n) - (n - 1) / n}
        out.append(row | figure("quality", value) | figure("score", 0.3 * n) | figure("length_characters", length + n))
    return out


def best_of_n(tags: Sequence[str] = TAGS, rewards: Sequence[str] = ("rm-en", "rm-es")) -> dict[str, Any]:
    curves = {tag: curve((0.5, 0.55, 0.6, 0.65)) for tag in tags}
    entry = {"curves": curves, "mean": curve((0.5, 0.55, 0.6, 0.65))}
    told = {
        reward: {"trained_on": [reward[-2:]], "step": f"best-of-8-{reward}", **copy.deepcopy(entry)}
        for reward in rewards
    }
    return {"model": "sft", "n": list(NS), "samples": 8, "metric_of_quality": "quality", "rewards": told}


def trained(steps: int = 20, tags: Sequence[str] = TAGS, **changes: Any) -> dict[str, Any]:
    def row(step: int) -> dict[str, Any]:
        return {
            "step": step,
            "reward": float(step),
            "kl": 0.1 * step,
            "length_tokens": 20.0,
            "off_target_language": None if step == 1 else 0.1,
            "loss": 1.0,
        }

    rows = [row(step) for step in range(1, steps + 1)]
    entry = {"method": "rloo", "curve": rows, "by_language": dict.fromkeys(tags, rows), "stopped": None}
    return entry | {"selected": steps, "checkpoints": [{"step": steps, "reward": 1.0, "kl": None}]} | changes


def round_of(**trainings: Any) -> list[dict[str, Any]]:
    return [{"round": 1, "model": "rl-en", "starts_from": "sft", "reward": {"model": "rm-en"}, "trainings": trainings}]


def signature(name: str, lang: str, said: str, **changes: Any) -> dict[str, Any]:
    found = {"name": name, "lang": lang, "metric": "kl", "figure": 12.0, "low": 11.0, "high": 13.0, "threshold": 10.0}
    return found | {"step": "rl-en", "said": said, "try_this": "raise β"} | changes


def signs(*found: dict[str, Any], missing: Sequence[str] = ()) -> dict[str, Any]:
    looked = {rule.__name__: [] if rule.__name__ in missing else ["en", "sw"] for rule in RULES}
    return {"raised": list(found), "examined": looked, "limits": {"max_kl": 10.0, "win_rate": "win_rate"}}


def diagnosis() -> dict[str, Any]:
    """By the rule itself: en is a go, es is doubtful, sw is a no-go."""
    figures = {tag: figure("accuracy", 0.8) | {"majority_baseline": 0.5} for tag in TAGS}
    rates = {"en": 0.7, "es": 0.52, "sw": 0.3}
    curves = {tag: [row | figure("win_rate", rates[tag]) for row in curve((0.5,) * 4)] for tag in TAGS}
    return diagnose("rm-en", figures, curves, DiagnosisOptions(), judge="oracle")


def full(tags: Sequence[str] = TAGS, **changes: Any) -> ReportData:
    steps = {f"best-of-8-rm-{tag}": evaluated(i, 0.6, tags) for i, tag in enumerate(tags[:3])}
    sources = {step: [step[-2:]] for step in steps}
    accuracies = {step: dict.fromkeys(tags, 0.5 + 0.1 * i) for i, step in enumerate(steps)}
    best = alignment(
        "best_of_n", "best of 8", steps, sources, judge="quality", against="sft", accuracies=accuracies
    ) | {"made_by": {step: step.removeprefix("best-of-8-") for step in steps}}
    rl = alignment(
        "rloo", "RLOO", {"rl-en": evaluated(9, 0.7, tags)}, {"rl-en": ["en"]}, judge="quality", against="sft"
    )
    results = {"sft": dict.fromkeys(tags, figure("quality", 0.5) | figure("quality_summary", 0.4))}
    more = figure("score_by_judge", 7.0, 0.1) | figure("reward", 1.5) | figure("quality", 0.6)
    more |= figure("win_rate_summary", 0.6) | figure("quality_summary", 0.5)
    results |= {
        step: {tag: dict(f) | more for tag, f in by.items()} for e in (best, rl) for step, by in e["matrix"].items()
    }
    values: dict[str, Any] = {
        "results": results,
        "alignments": [best, rl | {"made_by": {"rl-en": "rm-en"}}],
        "best_of_n": best_of_n(tags),
        "diagnosis": {"rm-en": diagnosis()},
        "signatures": signs(signature("kl_high", "sw", "Swahili: 12 [11, 13], more than 10.")),
        "rounds": round_of(**{"rl-en": trained(tags=tags)}),
    }
    return made(**(values | changes))


def told(data: ReportData) -> list[tuple[str, str]]:
    return [(finding.kind, finding.text) for finding in findings_of(data)]


def grid_of(data: ReportData, title: str) -> list[list[str]]:
    grids = [grid for part in parts(data, draw=False) for grid in part.grids if grid.title == title]
    assert len(grids) == 1, [grid.title for part in parts(data, draw=False) for grid in part.grids]
    return [grids[0].header, *([cell.text for cell in row] for row in grids[0].rows)]
