"""Judgments as a page of their own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polypref.stages import report_tables as tables
from polypref.stages.judgments import Judgment
from polypref.stages.report import CREDENTIALS, direction, flat
from polypref.stages.report_comparisons import Compared, compared, folded, orders, outcome, verdict
from polypref.stages.report_environment import environment as page_environment
from polypref.stages.report_grades import Scores, graded, grades
from polypref.stages.report_judgment_figures import boards
from polypref.stages.report_judgment_section import baselines_of, section
from polypref.stages.report_judgment_words import findings, headline
from polypref.store.atomic import replacing

if TYPE_CHECKING:
    import jinja2

ROOM = 7_000_000
"""Bytes of a page that comparisons may take, so that with its charts it stays under ten million."""

MOST = 3000
"""Comparisons that a browser lists without delay."""


@dataclass(frozen=True, slots=True)
class About:
    """What the page tells beside the figures. ``facts`` are further chips under the headline, such as
    ``("cost", "$1.20")``; ``file`` is where every judgment can be read, named where the page shows a sample."""

    title: str
    date: str
    signature: str
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    file: str = "judgments.jsonl"


def write_judgments_page(
    path: Path,
    judgments: Sequence[Judgment],
    figures: Mapping[str, Any],
    about: About,
    scores: Scores | None = None,
) -> None:
    """Write ``render_judgments`` to a file at once.

    Raises:
        InputError: the file cannot be written.
    """
    page = render_judgments(judgments, figures, about, scores)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_judgments(
    judgments: Sequence[Judgment], figures: Mapping[str, Any], about: About, scores: Scores | None = None
) -> str:
    """The page as HTML: one script, which filters the list of comparisons, and no request to anywhere; whatever came
    from a model, a judge or a file is escaped. Without the script the whole list stands there.

    Args:
        figures: as ``stages.judgment_figures.figures`` gives them; they are not read where there is no judgment.
        scores: numbers of single answers (``report_grades``), which then stand first.
    """
    from markupsafe import Markup

    environment = _environment()
    environment.globals["file"] = tables.name_of(about.file)
    baselines: list[str] = []
    told = [graded(scores)] if scores else []
    parts = grades(scores) if scores else []
    if judgments:
        found = boards(figures, judgments)
        baselines = baselines_of(judgments, found)
        told += [headline(figures, found, baselines), *findings(figures, found)]
        parts += section(figures, judgments)
    every = compared(judgments)
    shown = _within(every, environment)
    script = (resources.files("polypref.stages") / "templates" / "judgments.js").read_text(encoding="utf-8")
    assert environment.loader is not None
    source, *_ = environment.loader.get_source(environment, "report.html.j2")
    style = re.search(r"<style>.*?</style>", source, re.DOTALL)  # judgments look as a run's report does
    return environment.get_template("judgments.html.j2").render(
        title=tables.name_of(about.title),
        headline=told[0],
        findings=told[1:],
        notes=about.notes,
        facts=[*_facts(judgments, baselines, about), *about.facts],
        parts=[replace(part, grids=[g.settled() for g in part.grids]) for part in parts],
        comparisons=shown,
        sample=_sample(len(shown), len(every), about.file),
        filters=_filters(every[: len(shown)]),
        signature=CREDENTIALS.sub("", about.signature),
        details=[("Settings", list(flat(about.settings))), ("Versions", list(about.versions.items()))],
        style=Markup(style[0] if style else ""),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        svg=Markup,
    )


def _environment() -> jinja2.Environment:
    environment = page_environment()
    environment.filters |= {
        "direction": direction,
        "folded": folded,
        "language_name": tables.language_name,
        "name": tables.name_of,
        "number": tables.number,
        "orders": orders,
        "outcome": outcome,
        "verdict": verdict,
    }
    return environment


def _within(every: Iterable[Compared], environment: jinja2.Environment) -> list[Any]:
    """The first comparisons as HTML, as many as there is room for."""
    from markupsafe import Markup

    template = environment.get_template("comparison.html.j2")
    out: list[Any] = []
    left = ROOM
    for one in every:
        text = template.render(one=one)
        left -= len(text.encode())
        if left < 0 or len(out) == MOST:
            break
        out.append(Markup(text))
    return out


def _sample(shown: int, every: int, file: str) -> str:
    if shown == every:
        return f"All {every:,} comparisons that were judged, in an order that a hash of their prompts' ids gives."
    return (
        f"{shown:,} of {every:,} comparisons: the first in the order of a hash of their prompts' ids, so nobody picked "
        f"them. All stand in {tables.name_of(file)}."
    )


def _filters(every: Sequence[Compared]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(name, words, [(value, text)]) of every filter that has something to choose."""
    models = tables.order(tables.name_of(name) for one in every for name in (one.model, one.baseline))
    judges = tables.order(tables.name_of(j.judge) for one in every for j in one.judgments)
    tags = tables.order(one.language for one in every)
    outcomes = [("win", "the model wins"), ("tie", "tie"), ("loss", "the model loses"), ("none", "no verdict")]
    readings = [("agree", "agree"), ("contradict", "contradict each other"), ("one", "one could be read"),
                ("none", "none could be read")]  # fmt: skip
    found = [
        ("language", "language", [(tag, tables.language_name(tag)) for tag in tags]),
        ("model", "model", [(name, name) for name in models]),
        ("judge", "judge", [(name, name) for name in judges]),
        ("outcome", "verdict", _there(outcomes, (outcome(j) for one in every for j in one.judgments))),
        ("orders", "the two orders", _there(readings, (orders(j) for one in every for j in one.judgments))),
        ("judges", "judges", [("split", "do not agree")] if any(one.split for one in every) else []),
    ]
    return [one for one in found if len(one[2]) > 1 or (one[0] == "judges" and one[2])]


def _there(choices: Sequence[tuple[str, str]], found: Iterable[str]) -> list[tuple[str, str]]:
    known = set(found)
    return [choice for choice in choices if choice[0] in known]


def _facts(judgments: Sequence[Judgment], baselines: Sequence[str], about: About) -> list[tuple[str, str]]:
    """The chips under the headline. The one baseline that all are held against is no model among them."""
    counts = {
        "models": {j.model for j in judgments}.union(baselines if len(baselines) > 1 else ()),
        "languages": {j.language for j in judgments},
        "judges": {j.judge for j in judgments},
        "prompts": {j.id for j in judgments},
    }
    numbers = [(name, f"{len(found):,}") for name, found in counts.items()]
    return [("date", about.date), *([*numbers, ("judgments", f"{len(judgments):,}")] if judgments else [])]
