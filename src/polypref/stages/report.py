"""Report: the numbers of a run as one self-contained HTML page, and as tables for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from polypref import languages
from polypref.errors import InputError
from polypref.stages import report_tables as tables
from polypref.stages.report_environment import environment as page_environment
from polypref.stages.report_imbalance import pivot_of
from polypref.stages.report_judged import Judged
from polypref.stages.report_parts import parts
from polypref.stages.report_reuse_words import reuse_findings, reuse_headline
from polypref.stages.report_reward_words import reward_findings, reward_headline
from polypref.stages.report_signatures import heading, raised
from polypref.stages.report_words import Finding, findings, headline, whole_way

if TYPE_CHECKING:
    from rich.table import Table

VERSION: int = 6

SECRET = re.compile(r"(^|_)(api_key|secret|password|passwd|access_token|hf_token|auth|authorization)$", re.IGNORECASE)
STYLES = {"good": "green", "watch": "yellow"}
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class SamplePair:
    """A pair to be read side by side. All of its texts come from models and are escaped."""

    round: int
    lang: str
    prompt: str
    chosen: str
    rejected: str
    margin: float | None = None
    score_chosen: float | None = None
    score_rejected: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that the page shows; each part may be empty.

    ``results``: step → language → ``{metric: v, metric_stderr: s, metric_n: n}``. Metrics it draws: ``quality``,
    ``reward_accuracy_<view>`` and, for the blind spot, ``reward_accuracy_<view>_policy_samples`` beside
    ``reward_accuracy_<view>_reference_samples``; those of ``imbalance_analysis`` and ``translation_quality`` under
    the model that a round starts from. It lists all others.
    ``comparisons``: as ``evaluate.compare`` gives them; ``"kind": "baseline"`` marks one with a baseline, and the last
    of the others is the headline.
    ``rounds``: ``{"round": int, "model": step, "starts_from": step, "summaries": {stage: {"languages": {lang:
    {metric: number}}, "dropped": {lang: {reason: count}}}}}``. Of the stage ``pair`` it draws ``margin`` (with
    ``margin_stderr`` and ``pairs``), ``length_gap`` and ``length_gap_without_control`` (in ``length_unit``), and lists
    all other numbers.
    A drop of no language stands under ``all`` or an empty tag.
    ``timings``: part → seconds.
    ``dominance``: ``Dominance.to_json()`` of the language that leads. ``unseen``: languages that are evaluated and that
    no training prompt was in.
    ``rewards``: reward models that were judged: ``{"figures": {model: {language: {metric: v, metric_stderr,
    metric_n}}}, "matrix": Matrix.to_json(), "sections": {model: {language: {section: {"value", "stderr", "n"}}}},
    "trained_on": {model: [language]}, "baselines": Baselines.to_json()}``, of which all but the figures may be missing;
    a section may be a share alone. ``representation``: ``Shift.to_json()``.
    ``best_of_n``, ``alignments``, ``diagnosis``, ``signatures``: what results.json holds of best-of-n's curves, win
    rates against the model before, go or no-go by reward and language, and failure signatures; ``trainings`` of a
    round are the logs of its trainings by model. Metrics of the results that go with them: ``win_rate``,
    ``win_rate_by_<judge>``, ``score_by_<judge>``, ``win_rate_<category>``, ``quality_<category>``.
    ``judgments``: ``judgment_figures.figures`` of what judges of pairs said.
    ``standard_tasks``, ``alignment_tax``: which of the results' metrics are of standard tasks, and what
    ``alignment_tax.alignment_tax`` says of two models (docs/standard-tasks.md).
    The page has the pivot of ``config`` before the other languages, in whatever order they come.
    """

    name: str
    date: str
    seed: int
    signature: str
    results: Mapping[str, Mapping[str, Mapping[str, float | int | None]]] = field(default_factory=dict)
    comparisons: Sequence[Mapping[str, Any]] = ()
    rounds: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[SamplePair] = ()
    notes: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    dominance: Mapping[str, Any] | None = None
    unseen: Sequence[str] = ()
    rewards: Mapping[str, Any] | None = None
    representation: Mapping[str, Any] | None = None
    best_of_n: Mapping[str, Any] | None = None
    alignments: Sequence[Mapping[str, Any]] | None = None
    diagnosis: Mapping[str, Any] | None = None
    signatures: Mapping[str, Any] | None = None
    judgments: Mapping[str, Any] | None = None
    standard_tasks: Mapping[str, Any] | None = None
    alignment_tax: Sequence[Mapping[str, Any]] | None = None


def render(data: ReportData) -> str:
    """The page as HTML: no script, no request to anywhere; whatever came from a model or a file is escaped."""
    from markupsafe import Markup

    data = _pivot_first(data)
    environment = page_environment()
    environment.filters |= {"direction": direction, "language_name": tables.language_name, "number": tables.number}
    told, found = findings_of(data), raised(data)
    shown_parts = [replace(p, grids=[g.settled() for g in p.grids]) for p in parts(data) if p.charts or p.grids]
    return environment.get_template("report.html.j2").render(
        data=data,
        title=tables.name_of(data.name),
        headline=headline_of(data),
        facts=_facts(data),
        findings=told,
        raised=found,
        raised_heading=heading(found),
        # What was said on the way and is a finding is not said twice.
        notes=[note for note in data.notes if note not in {finding.text for finding in told}],
        parts=shown_parts,
        samples=_by_language(data.samples),
        settings=[*flat(data.config)],
        svg=Markup,
        duration=duration,
    )


def headline_of(data: ReportData) -> Finding:
    """The run in one sentence: how often its alignment wins, else what the training of a policy brought, else what its
    reward models do."""
    data = _pivot_first(data)
    if aligned := reuse_headline(data):
        return aligned
    rewards = None if whole_way(data.comparisons) else reward_headline(data)
    return rewards or headline(data.results, data.comparisons)


def findings_of(data: ReportData) -> list[Finding]:
    """What the page says in sentences under its headline."""
    data = _pivot_first(data)
    first = headline_of(data)
    trained = {"": data.config, **{str(b["name"]): b for b in data.config.get("baselines") or ()}}
    told = findings(
        data.results,
        data.comparisons,
        pivot=pivot_of(data),
        unseen=data.unseen,
        looked=data.signatures is not None,
        methods={
            name: str(by["train"]["method"]) for name, by in trained.items() if "method" in (by.get("train") or {})
        },
        dominance=data.dominance,
    )
    gained = [headline(data.results, data.comparisons)] if data.alignments and data.comparisons else []
    return [f for f in (*reuse_findings(data), *gained, *reward_findings(data), *told) if f != first]


def terminal_tables(data: ReportData) -> list[Table]:
    """The figures of the page as rich tables: value ± stderr (n); what is good green, what is to be watched yellow."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = []
    data = _pivot_first(data)
    for grid in (
        grid.settled() for part in parts(data, draw=False) for grid in part.grids if part.short and not part.folded
    ):
        table = Table(title=Text(grid.title), caption=Text(grid.note) if grid.note else None, box=box.SIMPLE_HEAD)
        for index, name in enumerate(grid.header):
            table.add_column(Text(name), justify="left" if index == 0 else "right", no_wrap=index == 0)
        for row in grid.rows:
            table.add_row(*(Text(tables.clean(str(cell)), style=STYLES.get(cell.kind, "")) for cell in row))
        out.append(table)
    return out


def direction(tag: str) -> str:
    """The ``dir`` attribute of a text said to be in a language: rtl, or auto, since the text may be in another."""
    try:
        return "rtl" if languages.right_to_left(languages.normalise(tag)) else "auto"
    except InputError:
        return "auto"


def _pivot_first(data: ReportData) -> ReportData:
    """The same with the pivot before the other languages wherever they are keys."""
    pivot = data.config.get("pivot")

    def led(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: led(value[key]) for key in sorted(value, key=lambda key: key != pivot)}
        return [led(one) for one in value] if isinstance(value, list | tuple) else value

    shift = data.representation
    return replace(
        data,
        results=led(data.results),
        comparisons=led(data.comparisons),
        rounds=led(data.rounds),
        samples=sorted(data.samples, key=lambda sample: sample.lang != pivot),
        rewards=led(data.rewards),
        representation=shift and {**shift, "tags": sorted(shift["tags"], key=lambda tag: tag != pivot)},
    )


# --- values ----------------------------------------------------------------------------------------------------------


def _facts(data: ReportData) -> list[tuple[str, str]]:
    """The chips under the headline."""
    tags = tables.order(tag for by in (*data.results.values(), *Judged.of(data).figures.values()) for tag in by)
    pairs = [
        f.get("pairs") or 0
        for r in data.rounds
        for f in (((r.get("summaries") or {}).get("pair") or {}).get("languages") or {}).values()
    ]
    judged = Judged.of(data).figures
    facts = [("date", data.date), ("seed", str(data.seed))]
    if judged:
        facts.append(("reward models", str(len(judged))))
    if steps := [name for name in data.results if name not in judged]:
        facts.append(("steps", str(len(steps))))
    if tags:
        unseen = len([tag for tag in tags if tag in data.unseen])
        facts.append(("languages", f"{len(tags)} ({unseen} unseen)" if unseen else str(len(tags))))
    compared = whole_way(data.comparisons)
    if compared and compared.get("n"):
        facts.append(("prompts compared", f"{compared['n']:,}"))
    if any(pairs):
        facts.append(("preference pairs", f"{sum(pairs):,}"))
    if data.timings:
        facts.append(("time", duration(sum(data.timings.values()))))
    return facts


def duration(seconds: float) -> str:
    """Seconds as they are said: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _by_language(samples: Sequence[SamplePair]) -> dict[str, list[SamplePair]]:
    out: dict[str, list[SamplePair]] = {}
    for sample in samples:
        out.setdefault(sample.lang, []).append(sample)
    return out


def flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted paths and values; what looks like a secret is not shown."""
    for key, value in config.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from flat(value, where)
        elif value and SECRET.search(str(key)):
            yield where, "(hidden)"
        else:
            yield where, CREDENTIALS.sub("", str(value)) if value is not None else "–"
