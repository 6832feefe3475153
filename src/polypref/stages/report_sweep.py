"""A sweep as a page and as tables, made of what sweep.json holds alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polypref.stages import report_tables as tables
from polypref.stages.report import CREDENTIALS
from polypref.stages.report_environment import environment as page_environment
from polypref.stages.report_section import alt as told_of
from polypref.stages.report_sweep_chart import Panel, numbers, sweep_chart
from polypref.stages.report_words import Finding

if TYPE_CHECKING:
    from rich.table import Table

MEAN = "mean"


def sweep_grids(found: Mapping[str, Any]) -> list[tables.Grid]:
    """A row a value, a column the mean and one a language: the figures, and the differences to the first value."""
    points = [point for point in found["points"] if point["languages"]]
    if not points:
        return []
    tags = tables.order(tag for point in points for tag in point["languages"])
    key = tables.name_of(found["sweep"]["key"])
    share, places = _share(found), tables.decimals(_values(found), _share(found))
    figures = tables.Grid(
        f"{tables.label_of(found['sweep']['metric'])}{', %' if share else ''}, by {key}",
        [key, "seeds", MEAN, *map(tables.language_name, tags)],
        note=_note(found),
    )
    for point in points:
        cells = [_figure_cell(figure, share, places) for figure in (point["mean"], *map(point["languages"].get, tags))]
        done = [one for one in point["runs"] if one["status"] == "done"]
        figures.rows.append([tables.Cell(tables.name_of(point["label"])), tables.Cell(str(len(done))), *cells])
    gains = tables.Grid(
        f"Difference from {tables.name_of(found['points'][0]['label'])}" + (", points" if share else ""),
        [key, "seeds", MEAN, *map(tables.language_name, tags)],
        note="Mean over the seeds that both have, of the differences of the same seed, with 95% intervals.",
    )
    for point in points:
        if against := point["against_first"]:
            every = (against["mean"], *map(against["languages"].get, tags))
            cells = [_gain_cell(gain, share) for gain in every]
            seeds = max(gain["n"] for gain in every if gain)
            gains.rows.append([tables.Cell(tables.name_of(point["label"])), tables.Cell(str(seeds)), *cells])
    return [figures, gains] if gains.rows else [figures]


def sweep_findings(found: Mapping[str, Any]) -> list[Finding]:
    """What is to be known of the figures, the first being the sweep in one sentence."""
    out = [_headline(found)]
    done = [one for point in found["points"] for one in point["runs"] if one["status"] == "done"]
    if any(point["languages"] and sum(r["status"] == "done" for r in point["runs"]) == 1 for point in found["points"]):
        out.append(
            Finding(
                "watch",
                "Where there is one seed, the interval is over prompts, and says nothing of what another seed "
                "brings; name more with --seeds.",
            )
        )
    tags = tables.order(tag for one in done for tag in one["figures"])
    if done and (left := [tag for tag in tags if tag not in found["mean_over"]]):
        over = ", ".join(map(tables.language_name, found["mean_over"])) or "no language, so there is none"
        lacking = ", ".join(map(tables.language_name, left))
        out.append(Finding("plain", f"The mean is over {over}: not every run has {lacking}."))
    for point in found["points"]:
        for one in point["runs"]:
            if one["status"] != "done":
                said = tables.name_of(one["said"] or "it is not run yet")
                out.append(
                    Finding("watch", f"{tables.name_of(point['label'])}, seed {one['seed']} has no figure: {said}")
                )
    return out


def sweep_tables(found: Mapping[str, Any]) -> list[Table]:
    """The grids as rich tables."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = []
    for grid in (grid.settled() for grid in sweep_grids(found)):
        table = Table(title=Text(grid.title), caption=Text(grid.note) if grid.note else None, box=box.SIMPLE_HEAD)
        for index, name in enumerate(grid.header):
            table.add_column(Text(name), justify="left" if index == 0 else "right", no_wrap=index == 0)
        for row in grid.rows:
            table.add_row(*(Text(tables.clean(str(cell))) for cell in row))
        out.append(table)
    return out


def render_sweep(found: Mapping[str, Any]) -> str:
    """The page as HTML: no script, no request to anywhere; whatever came from a recipe or a file is escaped."""
    from markupsafe import Markup

    environment = page_environment()
    assert environment.loader is not None
    source, *_ = environment.loader.get_source(environment, "report.html.j2")
    style = re.search(r"<style>.*?</style>", source, re.DOTALL)  # a sweep looks as a run's report does
    first, *others = sweep_findings(found)
    grids = sweep_grids(found)
    return environment.get_template("sweep.html.j2").render(
        sweep=found["sweep"],
        points=found["points"],
        title=f"{found['sweep']['recipe']}: {found['sweep']['key']}",
        headline=first,
        findings=others,
        chart=Markup(_chart(found, grids)) if grids else None,
        grids=[grid.settled() for grid in grids],
        facts=_facts(found),
        signature=CREDENTIALS.sub("", found["signature"]),
        settings=[CREDENTIALS.sub("", setting) for setting in found["sweep"]["set"]],
        versions=found["versions"],
        style=Markup(style[0] if style else ""),
    )


# --- values ----------------------------------------------------------------------------------------------------------


def _share(found: Mapping[str, Any]) -> bool:
    return tables.is_share(found["sweep"]["metric"], _values(found))


def _values(found: Mapping[str, Any]) -> list[float]:
    return [figure["value"] for point in found["points"] for figure in point["languages"].values()]


def _figure_cell(figure: Mapping[str, Any] | None, share: bool, places: int) -> tables.Cell:
    """A figure with its interval, of which a share's is kept inside 0 and 1."""
    if figure is None:
        return tables.Cell(tables.NOTHING)
    ends = [figure[end] for end in ("value", "low", "high") if figure[end] is not None]
    inside = [min(1.0, max(0.0, end)) for end in ends] if share else ends
    value, *interval = (tables.number(end, share, places=places) for end in inside)
    return tables.Cell(value + (f"{tables.NBSP}[{interval[0]},{tables.NBSP}{interval[1]}]" if interval else ""))


def _gain_cell(gain: Mapping[str, Any] | None, share: bool) -> tables.Cell:
    return tables.Cell(tables.gain_cell({**gain, "n": None}, share).text if gain else tables.NOTHING)


def _note(found: Mapping[str, Any]) -> str:
    """What the intervals are over."""
    over = {figure["over"] for point in found["points"] for figure in point["languages"].values()}
    if over == {"seeds"}:
        return "Means over seeds with 95% intervals: Student's t over seeds."
    if over == {"prompts"}:
        return "One seed. 95% intervals over its prompts; that of the mean is the widest that the languages allow."
    return "95% intervals: Student's t over seeds, over prompts where there is one seed."


def _headline(found: Mapping[str, Any]) -> Finding:
    """The last value against the first where they are numbers, else the range of the means."""
    sweep = found["sweep"]
    metric, key = tables.label_of(sweep["metric"]), tables.name_of(sweep["key"])
    points = [{**point, "label": tables.name_of(point["label"])} for point in found["points"]]
    having = [point for point in points if point["mean"]]
    if not having:
        return Finding("watch", f"No run gives {metric.lower()} yet, so {key} shows nothing.")
    share = _share(found)
    first, last = points[0], having[-1]
    over = f"mean over {', '.join(map(tables.language_name, found['mean_over']))}"
    against = (last["against_first"] or {}).get("mean")
    if numbers(sweep["values"]) and against:
        text = tables.gain_cell({**against, "n": None}, share).text.replace(tables.NBSP, " ")
        size = text.replace(" [", " points [") if share and "[" in text else text + " points" * share
        told = f"{over}; {against['n']} seed{'s' * (against['n'] > 1)}"
        if against["low"] is not None and against["low"] <= 0 <= against["high"]:
            both = f"{key} = {first['label']} and {last['label']}"
            return Finding("plain", f"{metric} at {both} cannot be told apart: {size} ({told}).")
        return Finding(
            "plain", f"{metric} changes by {size} from {key} = {first['label']} to {last['label']} ({told})."
        )
    low, high = (end(having, key=lambda point: point["mean"]["value"]) for end in (min, max))
    places = tables.decimals(_values(found), share)
    worst, best = (tables.number(p["mean"]["value"], share, places=places) + "%" * share for p in (low, high))
    return Finding(
        "plain", f"{metric} lies between {worst} ({key} = {low['label']}) and {best} ({high['label']}); {over}."
    )


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    runs = [one for point in found["points"] for one in point["runs"]]
    done = sum(one["status"] == "done" for one in runs)
    steps = tables.order(tables.name_of(one["step"]) for one in runs if one["step"])
    return [
        ("date", found["date"]),
        ("values", str(len(found["points"]))),
        ("seeds", ", ".join(map(str, found["sweep"]["seeds"]))),
        ("runs", str(done) if done == len(runs) else f"{done} of {len(runs)}"),
        *([("figures of", steps[0] if len(steps) == 1 else f"{len(steps)} steps")] if steps else []),
    ]


def _chart(found: Mapping[str, Any], grids: Sequence[tables.Grid]) -> str:
    points = [{**point, "label": tables.name_of(point["label"])} for point in found["points"]]
    tags = tables.order(tag for point in points for tag in point["languages"])
    mean = Panel("Mean", {p["label"]: p["mean"] for p in points if p["mean"]})
    each = [
        Panel(tables.language_name(tag), {p["label"]: p["languages"][tag] for p in points if tag in p["languages"]})
        for tag in tags
    ]
    metric, key = tables.label_of(found["sweep"]["metric"]), tables.name_of(found["sweep"]["key"])
    return sweep_chart(
        [panel for panel in (mean, *each) if panel.figures],
        x=key,
        labels=[point["label"] for point in points],
        values=found["sweep"]["values"],
        y=metric,
        percent=_share(found),
        alt=told_of(f"{metric} by {key}", grids[:1]),
    )
