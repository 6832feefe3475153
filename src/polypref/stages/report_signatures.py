"""Failure signatures in the report: what was raised, by rule, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from polypref.stages import report_tables as tables
from polypref.stages.report_section import Part
from polypref.stages.report_words import Finding
from polypref.stages.signatures import RULES

if TYPE_CHECKING:
    from polypref.stages.report import ReportData

TITLES = {
    "win_rate_not_above_even": "Win rate not above even",
    "quality_falls": "Quality falls",
    "quality_not_up": "Quality not shown to rise",
    "kl_high": "Far from the start (KL)",
    "accuracy_low": "Reward accuracy low",
    "transfer_gap": "Large gap to the language's own reward",
    "length_growth": "Answers grow longer",
    "leaves_language": "Answers leave the language",
    "reward_hacking": "Reward hacking",
    "blind_spot": "Blind spot on the policy's own answers",
}
FIRST = 3
"""Sentences of one rule that are seen at once; a single one more is, too."""


@dataclass(slots=True)
class Raised:
    """One rule that was raised: a sentence a language, each with figure and limit, and what to try."""

    title: str
    said: list[str] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)

    @property
    def first(self) -> list[str]:
        return self.said if len(self.said) <= FIRST + 1 else self.said[:FIRST]

    @property
    def more(self) -> list[str]:
        return self.said[len(self.first) :]


def raised(data: ReportData) -> list[Raised]:
    """The signatures that were raised, in the order of their rules as they came."""
    found = (data.signatures or {}).get("raised") or ()
    several = len({one.get("step") for one in found}) > 1
    out: dict[str, Raised] = {}
    for one in found:
        entry = out.setdefault(one["name"], Raised(title(one["name"])))
        whose = f"{tables.name_of(one['step'])}, " if several and one.get("step") else ""
        entry.said.append(whose + tables.name_of(one["said"]))
        tip = tables.name_of(one["try_this"])
        if tip not in entry.tries:
            entry.tries.append(tip)
    return list(out.values())


def heading(found: Sequence[Raised]) -> str:
    """How many were raised, under a sign that does not need a colour."""
    count = sum(len(one.said) for one in found)
    return f"⚠ {count} failure signature{'s' * (count > 1)} raised"


def raised_lines(data: ReportData) -> list[tuple[str, int]]:
    """The signatures that were raised, as a terminal shows them: a line, and how deep it stands."""
    found = raised(data)
    out = [(heading(found), 0)] if found else []
    for one in found:
        out += [(one.title, 1), *((line, 2) for line in (*one.said, *(f"Try: {tip}." for tip in one.tries)))]
    return out


def title(rule: str) -> str:
    """A rule in words."""
    return TITLES.get(rule, tables.name_of(rule).replace("_", " ").capitalize())


def signature_findings(data: ReportData) -> list[Finding]:
    """That nothing was raised, and which rules had no figures to look at."""
    if data.signatures is None:
        return []
    examined = data.signatures.get("examined") or {}
    silent = [title(rule.__name__) for rule in RULES if not examined.get(rule.__name__)]
    out = []
    if not data.signatures.get("raised") and examined:
        out.append(Finding("good", f"No failure signature was raised by {_rules(len(RULES) - len(silent))}."))
    if silent:
        out.append(Finding("plain", f"Not looked for, as figures are missing: {'; '.join(silent)}."))
    return out


def _rules(count: int) -> str:
    return f"the {count} rules that had figures" if count != 1 else "the one rule that had figures"


def examined(data: ReportData) -> Part:
    """Which rule looked where, and the limits: below the page."""
    part = Part("signatures-examined", "Failure signatures: what was looked for, and the limits", "", folded=True)
    if data.signatures is None:
        return part
    looked: Mapping[str, Any] = data.signatures.get("examined") or {}
    found = {(one["name"], one["lang"]) for one in data.signatures.get("raised") or ()}
    tags = tables.order(tag for by in looked.values() for tag in by)
    if tags:
        grid = tables.Grid("Looked for", ["", *map(tables.language_name, tags)])
        for rule, by in looked.items():
            cells = ["raised" if (rule, tag) in found else "no" if tag in by else tables.NOTHING for tag in tags]
            grid.rows.append([tables.Cell(title(rule)), *(tables.Cell(cell) for cell in cells)])
        part.grids.append(grid)
    limits = {k: v for k, v in (data.signatures.get("limits") or {}).items() if isinstance(v, int | float)}
    if limits:
        rows = [[tables.Cell(tables.name_of(name)), tables.Cell(f"{limit:g}")] for name, limit in limits.items()]
        part.grids.append(tables.Grid("Limits", ["", "limit"], rows))
    return part
