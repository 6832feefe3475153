"""The report in tables: the same for the page and for a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from polypref import languages
from polypref.errors import InputError
from polypref.maths.stats import Estimate

Figures = Mapping[str, Mapping[str, float | int | None]]
Namer: TypeAlias = Callable[[str], str]
"""How the page calls a language."""

NBSP: Final = "\u00a0"
NOTHING: Final = "–"
NO_LANGUAGE: Final = "all"
SHARES: Final = (
    "language_fidelity",
    "language_undetermined",
    "off_target_language",
    "truncated",
    "failed",
    "share_longer",
    "imbalance_accuracy",
    "imbalance_better",
    "imbalance_worse",
    "translation_failed",
    "accuracy",
    "length_baseline",
    "majority_baseline",
    "generalisation_gap",
    "no_verdict",
    "flip_rate",
    "one_order",
    "win_rate",
)
LABELS: Final = {
    "quality": "Quality",
    "language_fidelity": "Answers in the prompt's language",
    "language_undetermined": "Answers whose language cannot be told",
    "off_target_language": "Answers in another language than the prompt's",
    "length_characters": "Answer length, characters",
    "length_tokens": "Answer length, tokens",
    "truncated": "Answers cut off",
    "failed": "Answers that failed",
    "kl": "KL from the reference, nats an answer",
    "chosen_quality": "Quality of chosen answers",
    "rejected_quality": "Quality of rejected answers",
    "margin": "Mean margin",
    "length_gap": "Length gap",
    "length_gap_without_control": "Length gap without control",
    "share_longer": "Chosen is longer",
    "asks_other_language": "Prompt asks for another language",
    "alpha": "Length control, α",
    "round_trip_chrf": "Round-trip chrF",
    "accuracy": "Accuracy",
    "length_baseline": "Length baseline",
    "majority_baseline": "Majority baseline",
    "kappa": "Cohen's κ with the pivot",
    "generalisation_gap": "Generalisation gap",
    "no_verdict": "No verdict",
    "flip_rate": "Contradicted by the swapped order",
    "one_order": "Read in one order alone",
    "singular_value_ratio": "Singular value ratio",
    "singular_value_ratio_change": "Its change from the base",
    "cosine_between_languages": "Cosine between languages",
    "cosine_to_pivot": "Cosine to the pivot",
    "cosine_to_base": "Cosine to the base",
    "cka_to_base": "Linear CKA with the base",
    "norm": "Norm of the hidden state",
    "translation_failed": "Round trips that failed",
    "win_rate": "Win rate",
    "reward": "Mean reward",
}
NAMED: Final = {"win_rate_by_": "Win rate by", "score_by_": "Score by", "accuracy_on_": "Accuracy on answers of"}
"""How a metric begins that ends in a name."""
POLICY, REFERENCE = "_policy_samples", "_reference_samples"
ON_ANSWERS: Final = "accuracy_on_"
"""Before a model's name: how a reward model fares on the answers of that model."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table: a text, how many prompts are behind it, and whether that is good or to be watched."""

    text: str
    n: int | None = None
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.n})" if self.n is not None else self.text


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first cell of a row is its name."""

    title: str
    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""
    wide: bool = False

    def settled(self, width: int = 100) -> Grid:
        """The same table fit to be read: an n that all cells share goes into the note, one that
        those of a column share into a row, a table of more than ``width``
        characters lies on its side where that makes it narrower, and where it still is, intervals stand on lines
        of their own."""
        rows, note = self.rows, self.note
        columns = zip(*(row[1:] for row in rows), strict=True)
        counts = [{cell.n for cell in column if cell.text != NOTHING} for column in columns]
        shared = set[int | None]().union(*counts)
        if rows and None not in shared and all(len(count) < 2 for count in counts):
            bare = [[replace(cell, n=None) for cell in row] for row in rows]
            if len(shared) == 1:
                rows, note = bare, f"{note} n = {shared.pop()} prompts each.".strip()
            elif len(rows) > 1:
                rows = [*bare, [Cell("prompts"), *(Cell(f"{count.pop():,}" if count else NOTHING) for count in counts)]]
        upright = Grid(self.title, self.header, rows, note)
        columns = zip(*(row[1:] for row in rows), strict=True)
        turned = Grid(
            self.title,
            ["", *(row[0].text for row in rows)],
            [[Cell(name), *column] for name, column in zip(self.header[1:], columns, strict=True)],
            note,
        )
        fit = turned if upright._width() > max(width, turned._width()) else upright
        return fit._breaking() if fit._width() > width else fit

    def _breaking(self) -> Grid:
        """The table with its intervals on lines of their own."""
        rows = [
            [row[0], *(replace(c, text=c.text.replace(" ", NBSP).replace(f"{NBSP}[", "\n[")) for c in row[1:])]
            for row in self.rows
        ]
        return replace(self, rows=rows, wide=True)

    def _width(self) -> int:
        names = (Cell(max(name.split(), key=len, default="")) for name in self.header)  # a header breaks between words
        columns = zip(names, *self.rows, strict=True)
        return sum(3 + max(len(cell.text) for cell in column) for column in columns)


def clean(text: str) -> str:
    """The text with its control characters made visible, so that neither a page nor a terminal obeys them."""
    out = text.replace("\r\n", "\n")
    out = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda m: chr(0x2400 + ord(m[0])), out).replace("\x7f", "␡")
    return re.sub(r"[\x80-\x9f\ud800-\udfff\ufffe\uffff\ufdd0-\ufdef]", "�", out)


def name_of(text: str) -> str:
    """A name for one line of a table or heading: clean, without line breaks and bidirectional controls."""
    return re.sub(r"[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]", "", " ".join(clean(str(text)).split()))


def language_name(tag: str) -> str:
    """The English name of a tag, or the tag itself where it is none."""
    try:
        return languages.name(languages.normalise(tag))
    except InputError:
        return name_of(tag)


def namer(unseen: Collection[str] = ()) -> Namer:
    """The names of languages, those marked that no training prompt was in."""
    return lambda tag: f"{language_name(tag)} (unseen)" if tag in unseen else language_name(tag)


def label_of(metric: str) -> str:
    """How a metric is called in words."""
    if metric.startswith("reward_accuracy_"):
        view = metric.removeprefix("reward_accuracy_")
        where = ""
        for ending, words in ((POLICY, " on policy samples"), (REFERENCE, " on reference samples")):
            if view.endswith(ending):
                view, where = view.removesuffix(ending), words
        return f"Reward accuracy, {view.replace('_', '-')} view{where}"
    for start, words in NAMED.items():
        if metric.startswith(start):
            return f"{words} {name_of(metric.removeprefix(start))}"
    return LABELS.get(metric, name_of(metric).replace("_", " ").capitalize())


def is_share(metric: str, values: Iterable[float]) -> bool:
    """Whether a metric is told in percent: rates always, quality where every value lies in [0, 1]."""
    if metric in SHARES or metric.startswith(("reward_accuracy_", "accuracy_", "win_rate_")):
        return True
    return (metric.endswith("quality") or metric.startswith("quality_")) and all(0 <= v <= 1 for v in values)


def order(items: Iterable[str]) -> list[str]:
    """Distinct items in the order in which they come."""
    return list(dict.fromkeys(items))


def metrics_of(results: Mapping[str, Figures]) -> list[str]:
    """The metrics of all steps, in the order in which they come."""
    keys = order(key for by_language in results.values() for figures in by_language.values() for key in figures)
    known = set(keys)
    return [k for k in keys if not any(k.endswith(e) and k.removesuffix(e) in known for e in ("_stderr", "_n"))]


def estimate(figures: Mapping[str, float | int | None], metric: str) -> Estimate | None:
    """A metric of one language; None where there is none."""
    value = figures.get(metric)
    if value is None:
        return None
    n, stderr = figures.get(f"{metric}_n"), figures.get(f"{metric}_stderr")
    return Estimate(float(value), None if stderr is None else float(stderr), int(n) if n is not None else 0)


def ends(found: Estimate, share: bool) -> tuple[float, float] | tuple[None, None]:
    """The 95% interval of a figure, a share's kept inside 0 and 1."""
    interval = found.interval() if found.n > 1 else None
    if interval is None:
        return None, None
    return (max(0.0, interval[0]), min(1.0, interval[1])) if share else interval


def values_of(results: Mapping[str, Figures], metric: str) -> list[float]:
    """Every value of a metric."""
    found = (figures.get(metric) for by_language in results.values() for figures in by_language.values())
    return [float(v) for v in found if v is not None]


def decimals(values: Iterable[float], share: bool = False) -> int:
    """How many decimals the figures of one table or column are printed with; shares are in percent."""
    if share:
        return 1
    size = max((abs(v) for v in values), default=0.0)
    return 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 4


def number(value: float, share: bool = False, signed: bool = False, places: int | None = None) -> str:
    """A figure as it is printed: shares in percent, a true minus sign."""
    places = decimals([value], share) if places is None else places
    rounded = round(100 * value if share else value, places) + 0.0  # no minus before a zero
    return f"{rounded:{'+' if signed else ''},.{places}f}".replace("-", "−")


def metric_grid(results: Mapping[str, Figures], metric: str, name: Namer = language_name) -> Grid:
    """One metric: a row a step, a column a language, value ± stderr and n."""
    return lines_grid(label_of(metric), [(step, figures, metric) for step, figures in results.items()], name)


def lines_grid(title: str, lines: Sequence[tuple[str, Figures, str]], name: Namer = language_name) -> Grid:
    """A row for each (its name, figures, metric) that has a value, a column a language.

    Shares are in percent: said in the title where all rows are, else in theirs. Rows of one unit have the same
    decimals.
    """
    of_metric: dict[str, list[float]] = {}
    for _, figures, metric in lines:
        of_metric.setdefault(metric, []).extend(values_of({"": figures}, metric))
    values = [value for of_one in of_metric.values() for value in of_one]
    share = {metric: is_share(metric, values) for metric in of_metric}
    places = {
        unit: decimals([v for m in of_metric if share[m] == unit for v in of_metric[m]], unit) for unit in (True, False)
    }
    tags = order(tag for _, by, metric in lines for tag, f in by.items() if f.get(metric) is not None)
    grid = Grid(title + (", %" if all(share.values()) else ""), ["", *map(name, tags)])
    for line, by_language, metric in lines:
        unit = share[metric]
        cells = [cell_of(estimate(by_language.get(tag, {}), metric), unit, places[unit]) for tag in tags]
        if any(cell.text != NOTHING for cell in cells):
            percent = ", %" if unit and not all(share.values()) else ""
            grid.rows.append([Cell(name_of(line) + percent), *cells])
    return grid


def cell_of(found: Estimate | None, share: bool, places: int, counted: bool = True) -> Cell:
    """A figure ± its standard error, and its n."""
    if found is None:
        return Cell(NOTHING)
    text = number(found.value, share, places=places)
    if found.stderr is not None:
        text += f" ± {number(found.stderr, share, places=places)}"
    return Cell(text, found.n if counted else None)


def in_points(comparison: Mapping[str, Any], results: Mapping[str, Figures]) -> bool:
    """Whether a comparison's gain is told in percentage points."""
    metric = comparison.get("metric", "quality")
    return is_share(metric, values_of(results, metric))


def gain_grid(
    comparisons: Sequence[Mapping[str, Any]], results: Mapping[str, Figures], name: Namer = language_name
) -> Grid | None:
    """Every comparison: gain [low, high] by language and in the mean."""
    if not comparisons:
        return None
    tags = order(tag for c in comparisons for tag in c.get("languages", {}))
    grid = Grid(
        "Gain, points" if all(in_points(c, results) for c in comparisons) else "Gain",
        ["", "mean", *map(name, tags)],
        note="Differences on the same prompts with 95% intervals; the mean is clustered by prompt.",
    )
    for c in comparisons:
        by_language = [c.get("languages", {}).get(tag) for tag in tags]
        steps = f"{name_of(c['from'])} → {name_of(c['to'])}"
        share = in_points(c, results)
        grid.rows.append([Cell(steps), *(gain_cell(g, share) if g else Cell(NOTHING) for g in (c, *by_language))])
    return grid


def gain_cell(gain: Mapping[str, Any], share: bool) -> Cell:
    """A difference with its interval."""
    values = [gain[end] for end in ("gain", "low", "high") if gain.get(end) is not None]
    places = decimals(values, share)
    text, *interval = (number(value, share, signed=True, places=places) for value in values)
    if interval:
        text += f"{NBSP}[{interval[0]},{NBSP}{interval[1]}]"
    return Cell(text, gain.get("n"))


def drop_grid(summaries: Mapping[str, Any], title: str, tags: Sequence[str] = ()) -> Grid | None:
    """What was dropped in one round: a row a stage and reason, a column a language (in the order of ``tags``), and
    the sum. What belongs to no language stands under ``all`` or an empty tag."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for stage, summary in summaries.items():
        for tag, reasons in (summary.get("dropped") or {}).items():
            for reason, count in reasons.items():
                counts.setdefault((stage, reason), {})[tag or NO_LANGUAGE] = count
    if not counts:
        return None
    known = order(tag for by in counts.values() for tag in by)
    tags = [*(tag for tag in tags if tag in known), *(tag for tag in known if tag not in tags)]
    names = ["no language" if tag == NO_LANGUAGE else language_name(tag) for tag in tags]
    grid = Grid(title, ["", *names, "sum"])
    for (stage, reason), by in counts.items():
        cells = [Cell(f"{by[tag]:,}" if by.get(tag) else "–") for tag in tags]
        grid.rows.append([Cell(f"{name_of(stage)}: {name_of(reason)}"), *cells, Cell(f"{sum(by.values()):,}")])
    return grid


def stage_grid(summary: Mapping[str, Any], title: str) -> Grid | None:
    """The numbers of one stage: a row a language, a column a metric, ± its stderr where it has one."""
    by_language = summary.get("languages") or {}
    names = [m for m in metrics_of({title: by_language}) if _numeric(by_language, m)]
    if not names:
        return None
    grid = Grid(title, [""])
    columns = []
    for metric in names:
        values = [v for figures in by_language.values() if _is_number(v := figures.get(metric))]
        share = metric in SHARES and any(isinstance(v, float) for v in values)
        places = decimals(values, share)
        grid.header.append(label_of(metric) + (", %" if share else ""))
        columns.append([_stage_cell(figures, metric, share, places) for figures in by_language.values()])
    for tag, *cells in zip(by_language, *columns, strict=True):
        grid.rows.append([Cell(language_name(tag)), *cells])
    return grid


def _stage_cell(figures: Mapping[str, Any], metric: str, share: bool, places: int) -> Cell:
    value = figures.get(metric)
    if value is None or not _is_number(value):
        return Cell(NOTHING)
    if isinstance(value, int):
        return Cell(f"{value:,}")
    stderr = figures.get(f"{metric}_stderr")
    return cell_of(Estimate(value, stderr if _is_number(stderr) else None, 0), share, places, counted=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numeric(by_language: Mapping[str, Mapping[str, Any]], metric: str) -> bool:
    return any(_is_number(figures.get(metric)) for figures in by_language.values())
