"""What figures.json holds, as the page of judgments reads it: a board a judge, a block a model (docs/win-rates.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.maths.stats import Estimate, share_interval
from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.judgments import Judgment

MEAN = "mean"
"""The macro-average over languages, where languages are named."""

Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share, or a rating, with its 95% interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def side(self) -> int:
        """Of one half: 1 if the whole interval is above it, −1 below, 0 if it may be either, or there is none."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > 0.5) - (self.high < 0.5)

    def turned(self) -> Rate:
        """The same comparisons, seen from the other model's side."""
        return Rate(1 - self.value, *(None if end is None else 1 - end for end in (self.high, self.low)))


@dataclass(frozen=True, slots=True)
class Board:
    """What one judge says: of everything, and of every model."""

    judge: str
    whole: Block
    models: Mapping[str, Block]

    @property
    def languages(self) -> list[str]:
        """Those of which it has figures, in the order in which they come."""
        return tables.order(tag for block in self.models.values() for tag in by_language(block))

    def ranked(self, like: Sequence[str] = ()) -> list[str]:
        """The models, best first; those that another ranking names, in its order."""
        own = sorted(self.models, key=lambda name: -(found.value if (found := overall(self.models[name])) else -1.0))
        return [*(name for name in like if name in self.models), *(name for name in own if name not in like)]


def boards(figures: Mapping[str, Any], judgments: Sequence[Judgment] = (), judge: str = "judge") -> list[Board]:
    """One a judge. Where there is but one judge, model or language, its name is that of the judgments; without any, the
    one judge is called ``judge``."""
    whole = figures["win_rates"]
    language = _only([j.language for j in judgments], "")
    by_judge = whole.get("by_judge") or {_only([j.judge for j in judgments], judge): whole}
    out = []
    for judge, block in by_judge.items():
        theirs = [j for j in judgments if len(by_judge) == 1 or j.judge == judge]
        models = block.get("by_model") or {_only([j.model for j in theirs], "model"): block}
        if language:
            models = {name: {"by_language": {language: one}, **one} for name, one in models.items()}
            block = {"by_language": {language: block}, **block}
        out.append(Board(judge, block, models))
    return out


def _only(names: Sequence[str], otherwise: str) -> str:
    known = set(names)
    return known.pop() if len(known) == 1 else otherwise


def place(tag: str) -> str:
    """How a language, or the mean over them, is called."""
    return tag if tag == MEAN else tables.language_name(tag)


def by_language(block: Block) -> Mapping[str, Block]:
    """The blocks of its languages."""
    return block.get("by_language") or {}


def overall(block: Block, metric: str = "win_rate") -> Rate | None:
    """The macro-average where there are several languages, else the figure itself."""
    return rate(block.get("macro_average") or block, metric)


def rate(block: Block, metric: str) -> Rate | None:
    """A figure in percent as a share; one without an interval of its own has Wilson's by its standard error."""
    value = block.get(metric)
    if value is None:
        return None
    low, high = block.get(f"{metric}_low"), block.get(f"{metric}_high")
    if low is not None and high is not None:
        return Rate(value / 100, low / 100, high / 100)
    stderr, prompts = block.get(f"{metric}_stderr"), block.get("prompts") or 0
    if stderr is None or prompts < 2:
        return Rate(value / 100)
    return Rate(value / 100, *(share_interval(Estimate(value / 100, stderr / 100, prompts)) or (None, None)))


def rating(figure: Mapping[str, Any] | None) -> Rate | None:
    """A rating with its interval."""
    return Rate(figure["rating"], figure.get("low"), figure.get("high")) if figure else None


def cell(found: Rate | None, share: bool = True, places: int = 1) -> tables.Cell:
    """A figure with its interval in brackets."""
    if found is None:
        return tables.Cell(tables.NOTHING)
    text = tables.number(found.value, share, places=places)
    if found.low is not None and found.high is not None:
        low, high = (tables.number(end, share, places=places) for end in (found.low, found.high))
        text += f"{tables.NBSP}[{low},{tables.NBSP}{high}]"
    return tables.Cell(text)


def dot(x: str, series: str, found: Rate) -> charts.Dot:
    """The figure in a chart."""
    return charts.Dot(x, series, found.value, found.low, found.high)


def texts(block: Block, where: str = "") -> Iterator[tuple[str, str]]:
    """(where, warning) of a block and its parts."""
    if block.get("warning"):
        yield where, str(block["warning"])
    for part, names in (
        ("by_judge", tables.name_of),
        ("by_model", tables.name_of),
        ("by_language", tables.language_name),
    ):
        for name, one in (block.get(part) or {}).items():
            yield from texts(one, ", ".join(filter(None, (where, names(name)))))
