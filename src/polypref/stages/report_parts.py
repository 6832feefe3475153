"""The sections of the report's page: what each says, draws and lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polypref.maths.stats import Estimate
from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_alignments import alignments, answers
from polypref.stages.report_alignments import shown as shown_by_alignments
from polypref.stages.report_best_of_n import best_of_n
from polypref.stages.report_diagnosis import diagnosis
from polypref.stages.report_imbalance import IMBALANCE, TRANSLATION, imbalance, leading, translation
from polypref.stages.report_judged import Judged
from polypref.stages.report_judgment_section import section as judged_pairs
from polypref.stages.report_languages import languages_answered
from polypref.stages.report_languages import shown as shown_of_languages
from polypref.stages.report_rewards import rewards
from polypref.stages.report_section import Line, Part, alt, dots, round_name
from polypref.stages.report_shift import representation
from polypref.stages.report_signatures import examined
from polypref.stages.report_tasks import shown as shown_of_tasks
from polypref.stages.report_tasks import standard_tasks
from polypref.stages.report_training import training
from polypref.stages.translate import STAGE

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

GAP, GAP_WITHOUT = "length_gap", "length_gap_without_control"
FIDELITY, OFF_TARGET = "language_fidelity", "off_target_language"
VISIBLE = (FIDELITY, OFF_TARGET, "length_characters", "kl")
"""The other figures that are read in every report; the rest are folded away."""

COMPARISONS = "judgments.html"
"""The page beside a run's own on which every comparison stands."""

TRANSLATED_VIEW = "reward_accuracy_translated"
TRANSLATED_NOTE = "An answer whose translation failed has no score in the translated view, so its n may be smaller."


def parts(data: ReportData, draw: bool = True) -> Iterator[Part]:
    """The sections in their order; those without a chart or a table have nothing to show."""
    yield from alignments(data, draw)
    if data.judgments:
        yield from _judged_pairs(data, data.judgments, draw)
    yield diagnosis(data)
    yield from best_of_n(data, draw)
    yield from training(data, draw)
    yield from answers(data, draw)
    yield from languages_answered(data, draw)
    yield from rewards(data, draw)
    yield from representation(data, draw)
    yield _quality(data, draw)
    yield _gains(data, draw)
    yield from standard_tasks(data, draw)
    yield leading(data, draw)
    yield imbalance(data, draw)
    yield translation(data, draw)
    yield _accuracy(data, draw)
    yield _blind_spot(data, draw)
    yield _pairs(data, draw)
    yield _drops(data)
    shown = {
        "quality",
        *IMBALANCE,
        *TRANSLATION,
        *Judged.of(data).metrics,
        *shown_by_alignments(data),
        *shown_of_languages(data),
        *shown_of_tasks(data),
    }
    apart = ("reward_accuracy_", tables.ON_ANSWERS)
    told = [m for m in tables.metrics_of(data.results) if m not in shown and not m.startswith(apart)]
    name = tables.namer(data.unseen)
    grids = {metric: tables.metric_grid(data.results, metric, name) for metric in told}
    # The two add up to one, so that one of them is enough to read.
    visible = [m for m in VISIBLE if m != FIDELITY or OFF_TARGET not in told]
    yield Part(
        "answers",
        "Language and length of the answers",
        "Mean over prompts ± standard error. The language is told by the text alone; answers too short to tell count "
        "in neither direction.",
        grids=[grid for metric, grid in grids.items() if metric in visible],
    )
    yield Part(
        "figures",
        "Every other figure",
        "",
        grids=[grid for metric, grid in grids.items() if metric not in visible],
        folded=True,
    )
    stages = [
        tables.stage_grid(summary, f"{round_name(r)}: {tables.name_of(stage)}")
        for r in data.rounds
        for stage, summary in (r.get("summaries") or {}).items()
        if stage != "pair"
    ]
    yield Part("stages", "The other stages in numbers", "", grids=[grid for grid in stages if grid], folded=True)
    yield examined(data)


def _judged_pairs(data: ReportData, figures: Mapping[str, Any], draw: bool) -> Iterator[Part]:
    """What judges of pairs said, by name, and where every comparison can be read."""
    known = {metric for by_language in data.results.values() for of in by_language.values() for metric in of}
    # Of the judges that win rates are by, those of pairs can contradict themselves.
    named = [one["judge"] for one in data.alignments or () if f"flip_rate_{one['metric']}" in known]
    for part in judged_pairs(figures, (), draw, named[0] if named else "judge"):
        if part.id == "win-rates":
            by = f" The judge is {tables.name_of(named[0])}." if len(set(named)) == 1 else ""
            part = replace(part, text=f"{part.text}{by} Every comparison with the judge's words: {COMPARISONS}.")
        yield part


def _quality(data: ReportData, draw: bool) -> Part:
    part = Part(
        "quality",
        "Quality by language and step",
        "The mean over prompts with its 95% interval. Higher is better.",
    )
    values = tables.values_of(data.results, "quality")
    if values:
        share = tables.is_share("quality", values)
        name = tables.namer(data.unseen)
        part.grids.append(tables.metric_grid(data.results, "quality", name))
        if draw:
            rows = dots([(step, by_language, "quality") for step, by_language in data.results.items()], share, name)
            svg = charts.dots(rows, y="quality", percent=share, alt=alt(part.title, part.grids))
            part.charts.append(("", svg))
    return part


def _gains(data: ReportData, draw: bool) -> Part:
    part = Part(
        "gains",
        "Gains, prompt by prompt",
        "Both steps answered the same prompts, so their difference is taken prompt by prompt. An interval that "
        "crosses the dashed line is compatible with no change.",
    )
    name = tables.namer(data.unseen)
    grid = tables.gain_grid(data.comparisons, data.results, name)
    if grid:
        part.grids.append(grid)
        if draw:
            share = all(tables.in_points(c, data.results) for c in data.comparisons)
            by = 100.0 if share else 1.0
            rows = [
                charts.Dot(x, f"{tables.name_of(c['from'])} → {tables.name_of(c['to'])}", *_scaled(gain, by))
                for c in data.comparisons
                for x, gain in [("mean", c), *((name(t), g) for t, g in c["languages"].items())]
            ]
            axis = "gain, points" if share else "gain"
            svg = charts.dots(rows, y=axis, rule=0, colours=charts.COLOURS[1:], alt=alt(part.title, part.grids))
            part.charts.append(("", svg))
    return part


def _scaled(gain: Mapping[str, Any], by: float) -> tuple[float, float | None, float | None]:
    low, high = (None if gain[end] is None else by * gain[end] for end in ("low", "high"))
    return by * gain["gain"], low, high


def _accuracy(data: ReportData, draw: bool) -> Part:
    part = Part(
        "accuracy",
        "Does the reward know right from wrong?",
        "Reward accuracy: how often a right answer scores above a wrong one to the same prompt. The dashed line at "
        "50% is a coin.",
    )
    for step, by_language in data.results.items():
        views: list[Line] = [
            (tables.label_of(m).removeprefix("Reward accuracy, "), by_language, m)
            for m in tables.metrics_of({step: by_language})
            if m.startswith("reward_accuracy_") and not m.endswith((tables.POLICY, tables.REFERENCE))
        ]
        note = TRANSLATED_NOTE if any(metric == TRANSLATED_VIEW for _, _, metric in views) else ""
        _draw_accuracy(part, f"Reward accuracy of {tables.name_of(step)}", views, data, draw, note)
    return part


def _blind_spot(data: ReportData, draw: bool) -> Part:
    part = Part(
        "blind-spot",
        "The blind spot: whose answers are judged",
        "An implicit reward asks how much more its policy likes an answer than the reference does, so it can take the "
        "mistakes that this policy prefers for good answers. Accuracy on the policy's own samples, beside that on the "
        "reference's, shows how blind it is to them.",
    )
    for step, by_language in data.results.items():
        for view in tables.metrics_of({step: by_language}):
            if view.startswith("reward_accuracy_") and view.endswith(tables.POLICY):
                plain = view.removesuffix(tables.POLICY)
                lines: list[Line] = [
                    ("samples of the reference", by_language, plain + tables.REFERENCE),
                    ("samples of the policy", by_language, view),
                ]
                note = TRANSLATED_NOTE if plain == TRANSLATED_VIEW else ""
                _draw_accuracy(part, f"{tables.label_of(plain)} of {tables.name_of(step)}", lines, data, draw, note)
    return part


def _draw_accuracy(part: Part, title: str, lines: Sequence[Line], data: ReportData, draw: bool, note: str = "") -> None:
    name = tables.namer(data.unseen)
    grid = tables.lines_grid(title, lines, name)
    if not grid.rows:
        return
    part.grids.append(replace(grid, note=note))
    if draw:
        svg = charts.dots(
            dots(lines, True, name),
            y="reward accuracy",
            rule=0.5,
            percent=True,
            colours=charts.COLOURS[2:],
            alt=alt(f"{part.title} {grid.title}", [grid]),
        )
        part.charts.append((title, svg))


def _pairs(data: ReportData, draw: bool) -> Part:
    summaries = [(round_name(r), (r.get("summaries") or {}).get("pair") or {}) for r in data.rounds]
    known = {metric for _, s in summaries for f in (s.get("languages") or {}).values() for metric in f}
    text = "The length gap is the mean length of chosen less rejected answers"
    text += ": length control is to bring it to the dashed line." if GAP_WITHOUT in known else "."
    if "margin" in known:
        text = f"Margin is the score of the chosen answer less that of the rejected one. {text}"
    part = Part("pairs", "The preference pairs", text)
    part.grids.extend(grid for name, s in summaries if (grid := tables.stage_grid(s, name)))
    if not draw:
        return part
    margins = [_margin(tag, name, f) for name, s in summaries for tag, f in (s.get("languages") or {}).items()]
    if any(margins):
        found = [dot for dot in margins if dot]
        svg = charts.dots(found, y="mean margin", colours=charts.COLOURS[2:], alt=alt("Mean margin", part.grids))
        part.charts.append(("Mean margin", svg))
    for name, summary in summaries:
        by_language = summary.get("languages") or {}
        gaps = [
            (tables.language_name(tag), figures[GAP_WITHOUT], figures[GAP])
            for tag, figures in by_language.items()
            if None not in (figures.get(GAP_WITHOUT), figures.get(GAP))
        ]
        if gaps:
            unit = next((f["length_unit"] for f in by_language.values() if f.get("length_unit")), "")
            axis = f"length gap, {unit or name.partition(' (')[0].lower()}"
            told = f"Length gap, {name}: " + "; ".join(f"{x} {a:.1f} without, {b:.1f} with control" for x, a, b in gaps)
            ends = ("without length control", f"with it, {name.partition(' (')[0].lower()}")
            part.charts.append((f"Length gap, {name}", charts.dumbbells(gaps, y=axis, ends=ends, alt=told)))
    return part


def _margin(tag: str, series: str, figures: Mapping[str, Any]) -> charts.Dot | None:
    if figures.get("margin") is None:
        return None
    found = Estimate(figures["margin"], figures.get("margin_stderr"), int(figures.get("pairs") or 0))
    low, high = found.interval() or (None, None) if found.n > 1 else (None, None)
    return charts.Dot(tables.language_name(tag), series, found.value, low, high)


def _drops(data: ReportData) -> Part:
    tags = tables.order(tag for by_language in data.results.values() for tag in by_language)
    grids = [
        # Translations have a section of their own, where their failures stand.
        tables.drop_grid({s: v for s, v in (r.get("summaries") or {}).items() if s != STAGE}, round_name(r), tags)
        for r in data.rounds
    ]
    translated = any(STAGE in (r.get("summaries") or {}) for r in data.rounds)
    return Part(
        "drops",
        "What was dropped, and why",
        "Nothing leaves in silence: each row is a stage and a reason, each number the prompts or answers it took."
        + translated * " Translations that failed stand in the section on translation.",
        grids=[grid for grid in grids if grid],
    )
