"""The report in words: its headline, and what a reader should not have to look for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.stages.dominance import Dominance, sentence
from polypref.stages.imbalance_analysis import ACCURACY
from polypref.stages.report_tables import (
    POLICY,
    REFERENCE,
    Figures,
    Namer,
    decimals,
    estimate,
    in_points,
    label_of,
    language_name,
    metrics_of,
    name_of,
    namer,
    number,
)

BASELINE = "baseline"
"""The ``kind`` of a comparison with a model that was trained more plainly on the same answers."""

REINFORCEMENT = {"rloo", "grpo", "fake_rl"}

FEWEST = 10
"""Prompts a language needs to be counted in a mean over languages."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the run; ``kind`` is good, watch or plain."""

    kind: str
    text: str


def headline(results: Mapping[str, Figures], comparisons: Sequence[Mapping[str, Any]]) -> Finding:
    """The run in one sentence: the mean gain of the whole way with half its 95% interval."""
    c = whole_way(comparisons)
    if c is None:
        return Finding("plain", "No two steps were compared.")
    share = in_points(c, results)
    before, after = name_of(c["from"]), name_of(c["to"])
    over = " ".join(c.get("mean_over") or c.get("languages", {}))
    if c.get("low") is None:
        return Finding("plain", f"{after} differs from {before} by {_signed(c, share)} over {over}.")
    size = _signed(c, share).lstrip("+−")
    if c["low"] > 0:
        return Finding("good", f"{after} beats {before} by {size} over {over}.")
    if c["high"] < 0:
        return Finding("watch", f"{after} falls behind {before} by {size} over {over}.")
    return Finding("watch", f"{after} and {before} cannot be told apart: {_signed(c, share)} over {over}.")


def whole_way(comparisons: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last comparison that is not with a baseline."""
    return next((c for c in reversed(comparisons) if c.get("kind") != BASELINE), None)


def findings(
    results: Mapping[str, Figures],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    pivot: str | None = None,
    unseen: Collection[str] = (),
    methods: Mapping[str, str] | None = None,
    dominance: Mapping[str, Any] | None = None,
    looked: bool = False,
) -> list[Finding]:
    """What a reader should not have to look for, the failures included.

    Args:
        pivot: the language that is taken as leading: its own gain is told apart from the others'.
        unseen: languages that no training prompt was in.
        methods: how the rounds train, under an empty name, and how each baseline does.
        dominance: what was measured of which language leads.
        looked: failure signatures were looked for, which tell more exactly whether answers leave or grow.
    """
    return [
        *_dominance(dominance),
        *_gains(results, comparisons, pivot, unseen, dominance),
        *_baselines(results, comparisons, methods or {}),
        *_imbalance(results, unseen),
        *_blind_spots(results, unseen),
        *_accuracies(results, unseen),
        *([] if looked else _answers(results, comparisons, unseen)),
    ]


def _dominance(found: Mapping[str, Any] | None) -> list[Finding]:
    if found is None:
        return []
    told = Dominance.from_json(found)
    return [Finding("watch" if told.tied else "plain", sentence(told))]


def _gains(
    results: Mapping[str, Figures],
    comparisons: Sequence[Mapping[str, Any]],
    pivot: str | None,
    unseen: Collection[str],
    dominance: Mapping[str, Any] | None,
) -> list[Finding]:
    c = whole_way(comparisons)
    if c is None:
        return []
    lead = "the pivot"
    if dominance:
        lead = "which is taken as the leading language" if dominance["tied"] else "the leading language"
    apart: dict[str | None, str] = {pivot: lead} | dict.fromkeys(unseen, "which no training prompt was in")
    gains = c.get("languages", {})
    tags = [tag for tag in gains if gains[tag].get("low") is not None and tag not in apart]
    up = [tag for tag in tags if gains[tag]["low"] > 0]
    down = [tag for tag in tags if gains[tag]["high"] < 0]
    open_ = [tag for tag in tags if tag not in up and tag not in down]
    out = []
    steps = f"from {name_of(c['from'])} to {name_of(c['to'])}"
    if up:
        out.append(Finding("good", f"Quality rises {steps} in {listed(up)}."))
    if down:
        out.append(Finding("watch", f"Quality falls {steps} in {listed(down)}."))
    if open_:
        out.append(Finding("plain", f"In {listed(open_)} the change {steps} is within its 95% interval of zero."))
    for tag, what in apart.items():
        if tag in gains:
            text = f"{language_name(str(tag))}, {what}, moved by {_signed(gains[tag], in_points(c, results))} {steps}"
            out.append(_sided(gains[tag], text))
    return out


def _baselines(
    results: Mapping[str, Figures], comparisons: Sequence[Mapping[str, Any]], methods: Mapping[str, str]
) -> list[Finding]:
    """The rounds' training against a plainer one on the same answers."""
    out = []
    for c in comparisons:
        if c.get("kind") == BASELINE:
            over = " ".join(map(name_of, c.get("mean_over") or c.get("languages", {})))
            ours, other = (name_of(methods.get(name, "training")) for name in ("", c["from"]))
            # Reinforcement has no pairs, and draws its answers as it goes.
            plain = {ours, other} & REINFORCEMENT
            one, two = ("", "") if plain else (" on the pairs", " on the same answers")
            text = f"{method_name(ours)}{one} ({name_of(c['to'])}) against {method_name(other)}{two} "
            text += f"({name_of(c['from'])}): {_signed(c, in_points(c, results))} over {over}"
            out.append(_sided(c, text[0].upper() + text[1:]))
    return out


def method_name(name: str) -> str:
    """How the field writes a method."""
    return name.upper() if name in ("dpo", "sft", "kto", "rloo", "grpo") else name_of(name)


def _signed(gain: Mapping[str, Any], share: bool) -> str:
    """A gain with half its 95% interval and its unit, with the decimals that the table of gains has."""
    places = decimals([gain[end] for end in ("gain", "low", "high") if gain.get(end) is not None], share)
    text = number(gain["gain"], share, signed=True, places=places)
    if gain.get("low") is not None:
        text += f"\u00a0±\u00a0{number((gain['high'] - gain['low']) / 2, share, places=places)}"
    return f"{text} {'points' if share else 'in score'}"


def _sided(gain: Mapping[str, Any], text: str) -> Finding:
    """The text as a good, a bad or an open finding, by the side of 0 that the interval lies on."""
    if gain.get("low") is None:
        return Finding("plain", f"{text}.")
    if gain["low"] > 0:
        return Finding("good", f"{text}.")
    if gain["high"] < 0:
        return Finding("watch", f"{text}.")
    return Finding("plain", f"{text}, within its 95% interval of zero.")


def _imbalance(results: Mapping[str, Figures], unseen: Collection[str]) -> list[Finding]:
    """Rounds whose preferred answers are not shown to be the better ones."""
    out = []
    for step, by_language in results.items():
        low = _not_above_chance(by_language, ACCURACY)
        if low:
            where = listed(low, namer(unseen))
            out.append(Finding("watch", f"Imbalance accuracy of {name_of(step)} is not above chance in {where}."))
    return out


def _blind_spots(results: Mapping[str, Figures], unseen: Collection[str]) -> list[Finding]:
    """One finding a reward: every view on the policy's own samples and on the reference's."""
    out = []
    for step, by_language in results.items():
        views: dict[str, tuple[float, float]] = {}
        over: set[int] = set()
        for metric in metrics_of({step: by_language}):
            if not metric.startswith("reward_accuracy_") or not metric.endswith(POLICY):
                continue
            other = metric.removesuffix(POLICY) + REFERENCE
            # A mean over two or three prompts says nothing and would weigh like the others.
            seen = [f for tag, f in by_language.items() if tag not in unseen]
            told = [f for f in seen if (f.get(f"{metric}_n") or 0) >= FEWEST]
            both = [(f[metric], f[other]) for f in told if None not in (f.get(metric), f.get(other))]
            if both:
                own, theirs = (sum(float(v or 0.0) for v in side) / len(both) for side in zip(*both, strict=True))
                views[label_of(metric.removesuffix(POLICY))] = own, theirs
                over.add(len(both))
        if views:
            out.append(_blind_spot(name_of(step), views, over))
    return out


def _blind_spot(step: str, views: Mapping[str, tuple[float, float]], over: Collection[int]) -> Finding:
    blind = any(own < theirs - 0.02 for own, theirs in views.values())
    tail = ": the reward is blind to mistakes that its policy prefers" if blind else ""
    few, many = min(over), max(over)
    counted = f"{few} language{'s' * (few > 1)}" if few == many else f"{few} to {many} languages"
    mean = f"mean over {counted} with at least {FEWEST} prompts"
    each = "; ".join(
        f"{view.partition(', ')[2] or view} {number(own, True)}% and {number(theirs, True)}%"
        for view, (own, theirs) in views.items()
    )
    text = f"Reward accuracy of {step} on the policy's own samples and on the reference's: {each}{tail} ({mean})."
    return Finding("watch" if blind else "plain", text)


def _accuracies(results: Mapping[str, Figures], unseen: Collection[str]) -> list[Finding]:
    out = []
    for step, by_language in results.items():
        known = metrics_of({step: by_language})
        for metric in known:
            # The plain figure is that of the reference's samples; those of the policy are the blind spot's.
            told = metric.endswith(POLICY) or (metric.endswith(REFERENCE) and metric.removesuffix(REFERENCE) in known)
            if metric.startswith("reward_accuracy_") and not told:
                low = _not_above_chance(by_language, metric)
                if low:
                    where = listed(low, namer(unseen))
                    text = f"{label_of(metric)} of {name_of(step)} is not above chance in {where}."
                    out.append(Finding("watch", text))
    return out


def _not_above_chance(by_language: Figures, metric: str) -> list[str]:
    """The languages in which the interval of an accuracy reaches down to a coin's."""
    found = {tag: estimate(figures, metric) for tag, figures in by_language.items()}
    intervals = {tag: one.interval() for tag, one in found.items() if one}
    return [tag for tag, interval in intervals.items() if interval and interval[0] <= 0.5]


def _answers(
    results: Mapping[str, Figures], comparisons: Sequence[Mapping[str, Any]], unseen: Collection[str]
) -> list[Finding]:
    """Answers that leave the language or grow, from the step compared with to the one compared."""
    c = whole_way(comparisons)
    if c is None:
        return []
    before, after = (results.get(c[side], {}) for side in ("from", "to"))
    names = f"from {name_of(c['from'])} to {name_of(c['to'])}"
    left, longer = [], []
    for tag, new in after.items():
        old = before.get(tag, {})
        one, two = estimate(old, "language_fidelity"), estimate(new, "language_fidelity")
        if one and two and two.value < one.value - 0.05:
            left.append(tag)
        one, two = estimate(old, "length_characters"), estimate(new, "length_characters")
        if one and two and two.value > 1.25 * one.value:
            longer.append(tag)
    out = []
    if left:
        out.append(
            Finding("watch", f"More answers leave the prompt's language {names} in {listed(left, namer(unseen))}.")
        )
    if longer:
        out.append(Finding("watch", f"Answers grow by more than a quarter {names} in {listed(longer, namer(unseen))}."))
    return out


def named(tags: Sequence[str], most: int = 5) -> str:
    """The names of languages where they are few, else how many they are."""
    return listed(tags) if len(tags) <= most else f"{len(tags)} languages"


def listed(tags: Sequence[str], name: Namer = language_name) -> str:
    """The names of languages as a sentence lists them."""
    names = [name(tag) for tag in tags]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
