"""Alignment by rewards that are used again, in words: what was aligned how, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polypref.maths.stats import Estimate
from polypref.stages import report_tables as tables
from polypref.stages.report_alignments import EVEN, Entry, first, main, title, told
from polypref.stages.report_best_of_n import best_of_n_findings
from polypref.stages.report_diagnosis import diagnosis_findings
from polypref.stages.report_judged import estimate_of
from polypref.stages.report_signatures import signature_findings
from polypref.stages.report_training import training_findings
from polypref.stages.report_words import Finding

if TYPE_CHECKING:
    from polypref.stages.report import ReportData


def reuse_headline(data: ReportData) -> Finding | None:
    """What was aligned how, and how often it wins; of a diagnosis alone what it says; else None."""
    about = main(data)
    if about:
        return _won(*about)
    diagnosed = diagnosis_findings(data)
    return diagnosed[0] if diagnosed and not data.comparisons else None


def reuse_findings(data: ReportData) -> list[Finding]:
    """What a reader should not have to look for."""
    out = [*_alignments(data), *diagnosis_findings(data), *best_of_n_findings(data), *training_findings(data)]
    return [*out, *signature_findings(data)]


def _alignments(data: ReportData) -> list[Finding]:
    """What the first judge says of each alignment, and what the others do where they do not say the same."""
    by_first: dict[str, Finding] = {}
    out, others = [], []
    for entry in data.alignments or ():
        found, label = _won(entry, first(entry, data)), str(entry["label"])
        if label not in by_first:
            by_first[label] = found
            out += [found, *_own_against_others(entry)]
        elif found.kind != by_first[label].kind:
            others.append(Finding("watch", f"Judges disagree: {found.text}"))
    return [*out, *others]


def _won(entry: Entry, step: str) -> Finding:
    """The mean win rate with its interval, and the languages where it is lowest and highest."""
    rates = {tag: one for tag, f in entry["matrix"][step].items() if (one := tables.estimate(f, entry["metric"]))}
    mean = (entry.get("mean") or {}).get(step)
    one = estimate_of(mean) if mean else next(iter(rates.values()))
    text = f"{_who(entry, step)} wins {_within(one)} of comparisons with {tables.name_of(entry['against'])}, judged by "
    text += tables.name_of(entry["judge"])
    if len(rates) > 1:
        low, high = (end(rates, key=lambda tag: rates[tag].value) for end in (min, max))
        text += f": from {_percent(rates[low].value)} in {tables.language_name(low)} to "
        text += f"{_percent(rates[high].value)} in {tables.language_name(high)}"
    else:
        text += f", in {tables.language_name(next(iter(rates)))}"
    low_end, high_end = tables.ends(one, True)
    if low_end is None or high_end is None:
        return Finding("plain", f"{text}.")
    if low_end > EVEN:
        return Finding("good", f"{text}.")
    return Finding("watch", f"{text}. {'It loses' if high_end < EVEN else 'No gain is shown'}.")


def _who(entry: Entry, step: str) -> str:
    """How it was aligned, by which reward; the step's own name where that is not known."""
    reward = (entry.get("made_by") or {}).get(step)
    return f"{title(entry)} by {told(entry, step, reward)}" if reward else f"{title(entry)}, {told(entry, step)},"


def _own_against_others(entry: Entry) -> list[Finding]:
    """Whether a reward of the language itself is worth more than one of another."""
    found = entry.get("monolingual_against_cross_lingual")
    if not found:
        return []
    size = tables.number(abs(found["gain"]), True)
    test = ""
    if found.get("low") is not None:
        size += f"{tables.NBSP}±{tables.NBSP}{tables.number((found['high'] - found['low']) / 2, True)}"
    if found.get("p") is not None:
        test = f" (paired t-test, p {'< 0.001' if found['p'] < 0.001 else '= ' + format(found['p'], '.2g')})"
    by = f", judged by {tables.name_of(entry['judge'])}"
    text = f"{title(entry)}{by}: a reward of the language itself"
    if found.get("low") is not None and found["low"] > 0:
        return [Finding("plain", f"{text} wins more often than those of others, by {size} points{test}.")]
    if found.get("high") is not None and found["high"] < 0:
        return [Finding("plain", f"{text} wins less often than those of others, by {size} points{test}.")]
    sign = "−" if found["gain"] < 0 else "+"
    return [Finding("plain", f"{text} and those of others cannot be told apart: {sign}{size} points{test}.")]


def _within(one: Estimate) -> str:
    low, high = tables.ends(one, True)
    if low is None or high is None:
        return _percent(one.value)
    return f"{_percent(one.value)} [{tables.number(low, True)},{tables.NBSP}{tables.number(high, True)}]"


def _percent(value: float) -> str:
    return f"{tables.number(value, True)}%"
