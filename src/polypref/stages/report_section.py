"""What the report's sections are made of and share: dots with intervals, what a chart says, names of rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_words import Finding


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page: what it says, its charts (caption, SVG), its tables, and sentences below them.

    One that is folded stands below the page; a terminal, and one that is not ``short``, is told without it.
    """

    id: str
    title: str
    text: str
    charts: list[tuple[str, str]] = field(default_factory=list)
    grids: list[tables.Grid] = field(default_factory=list)
    folded: bool = False
    said: list[Finding] = field(default_factory=list)
    short: bool = True


Line = tuple[str, tables.Figures, str]
"""A series or row: what it is called, the figures by language, and which metric of theirs."""


def dots(lines: Sequence[Line], share: bool, name: tables.Namer = tables.language_name) -> list[charts.Dot]:
    """A dot a line and language, with its 95% interval (a share's is kept inside 0 and 1)."""
    out = []
    for line, by_language, metric in lines:
        for tag, figures in by_language.items():
            found = tables.estimate(figures, metric)
            if found is None:
                continue
            low, high = found.interval() or (None, None)
            if share and low is not None and high is not None:
                low, high = max(0.0, low), min(1.0, high)
            out.append(charts.Dot(name(tag), tables.name_of(line), found.value, low, high))
    return out


def alt(title: str, grids: Iterable[tables.Grid]) -> str:
    """What a chart says, for those who do not see it."""
    rows = [
        f"{row[0].text}: " + ", ".join(f"{x} {cell.text}" for x, cell in zip(g.header[1:], row[1:], strict=True))
        for g in grids
        for row in g.rows
    ]
    return f"{title}. " + "; ".join(rows)


def round_name(entry: Mapping[str, Any], role: str = "model") -> str:
    """A round by its number and a model's name: the one that came of it, or another ``role``."""
    model = entry.get(role)
    return f"Round {tables.name_of(str(entry.get('round')))}" + (f" ({tables.name_of(model)})" if model else "")
