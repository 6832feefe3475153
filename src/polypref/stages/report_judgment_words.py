"""Judgments in words: who wins, and what a reader should not have to look for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polypref.stages import report_tables as tables
from polypref.stages.report_judgment_figures import Board, Rate, by_language, overall, rate, rating, texts
from polypref.stages.report_words import Finding

FLIPS, SILENCES, TENTATIVE = 0.3, 0.05, 0.667
"""Shares of contradictions and of missing verdicts or orders above which a judge is watched (conventions), and
Krippendorff's α below which agreement carries no conclusion (Krippendorff 2004, "Reliability in Content Analysis")."""
HALF = 0.5
"""The share of contradictions above which a judge's verdicts say nothing of the answers (a convention)."""


def headline(figures: Mapping[str, Any], boards: Sequence[Board], baselines: Sequence[str]) -> Finding:
    """Who wins, by the first judge: against the one baseline, else in the ratings. A judge that contradicts itself in
    most comparisons says nothing of that."""
    board = boards[0]
    flips = rate(board.whole, "flip_rate")
    if flips is not None and flips.value > HALF:
        return Finding(
            "watch",
            f"{tables.name_of(board.judge)} contradicts itself in {tables.number(flips.value, True)}% of the "
            "comparisons when the answers change places, so its win rates decide nothing.",
        )
    judged = f", judged by {tables.name_of(board.judge)}"
    ranked = board.ranked()
    if len(baselines) > 1:
        return _leader(figures.get("ratings"), board, judged)
    baseline = tables.name_of(baselines[0]) if baselines else "the baseline"
    best = ranked[0]
    found = overall(board.models[best])
    if found is None:
        return Finding("watch", f"No comparison of {tables.name_of(best)} has a verdict{judged}.")
    tags = [tag for tag, block in by_language(board.models[best]).items() if rate(block, "win_rate")]
    over = (
        f" in the mean over {len(tags)} languages"
        if len(tags) > 1
        else f" in {tables.language_name(tags[0])}" * bool(tags)
    )
    told = f"{_share(found)}{over}{judged}"
    name = tables.name_of(best)
    if found.side == 0:
        return Finding("watch", f"{name} and {baseline} cannot be told apart: {name} wins {told}.")
    if found.side < 0:
        return Finding(
            "watch",
            f"{'No model beats' if len(ranked) > 1 else name + ' falls behind'} {baseline}: {name} wins {told}.",
        )
    leads = " leads and" if len(ranked) > 1 else ""
    return Finding("good", f"{name}{leads} beats {baseline}: it wins {told}.")


def _leader(found: Mapping[str, Any] | None, board: Board, judged: str) -> Finding:
    """The first of the ratings, where they have one."""
    mean = (found.get("macro_average") or found).get("bradley_terry") if found else None
    if not found or not mean:
        best = board.ranked()[0]
        rate_of = overall(board.models[best])
        size = f": it wins {_share(rate_of)} of its comparisons" if rate_of else ""
        return Finding("plain", f"{tables.name_of(best)} stands first{size}{judged}.")
    first, second = found["models"][:2]
    one, other = (rating(mean.get(name)) for name in (first, second))
    if one is None or other is None:
        return Finding("plain", f"{tables.name_of(first)} leads the ratings.")
    told = f"{_points(one)} points, {tables.name_of(second)} {_points(other)}"
    apart = one.low is not None and other.high is not None and one.low > other.high
    if apart:
        return Finding("good", f"{tables.name_of(first)} leads the ratings: {told}.")
    return Finding("plain", f"{tables.name_of(first)} stands first, within the interval of the next: {told}.")


def findings(figures: Mapping[str, Any], boards: Sequence[Board]) -> list[Finding]:
    """What is to be known of the figures: judges that disagree or contradict themselves, languages that are lost, what
    length control changes, and the statistics' own warnings."""
    return [
        *_leaders(boards),
        *_lost(boards[0]),
        *_controlled(boards),
        *_unsure(boards),
        *_alpha(figures.get("agreement")),
        *_warned(figures),
    ]


def _leaders(boards: Sequence[Board]) -> Iterator[Finding]:
    firsts = {board.judge: board.ranked()[0] for board in boards if len(board.models) > 1}
    if len(set(firsts.values())) > 1:
        told = ", ".join(f"{tables.name_of(judge)} has {tables.name_of(model)}" for judge, model in firsts.items())
        yield Finding("watch", f"The judges do not agree on who is first: {told}.")


def _lost(board: Board) -> Iterator[Finding]:
    """Languages in which the best model is behind, by the first judge."""
    best = board.ranked()[0]
    each = by_language(board.models[best])
    whole = overall(board.models[best])
    if whole is None or whole.side <= 0 or len(each) < 2:
        return
    behind = {tag: found for tag, block in each.items() if (found := rate(block, "win_rate")) and found.side < 0}
    if behind:
        told = ", ".join(f"{tables.language_name(tag)} {_share(found)}" for tag, found in behind.items())
        yield Finding("watch", f"{tables.name_of(best)} falls behind in {told}.")


def _controlled(boards: Sequence[Board]) -> Iterator[Finding]:
    """Where equal lengths would turn the verdict."""
    for board in boards:
        for model, block in board.models.items():
            raw, level = overall(block), overall(block, "length_controlled_win_rate")
            if raw and level and raw.side != level.side and (raw.value - 0.5) * (level.value - 0.5) < 0:
                by = f" (judge {tables.name_of(board.judge)})" * (len(boards) > 1)
                yield Finding(
                    "watch",
                    f"Length decides for {tables.name_of(model)}{by}: it wins {_share(raw)}, and {_share(level)} if "
                    "both answers were of one length.",
                )


def _unsure(boards: Sequence[Board]) -> Iterator[Finding]:
    for board in boards:
        blocks = by_language(board.whole) or {"": board.whole}
        for metric, most, words in (
            ("flip_rate", FLIPS, "contradicts itself when the answers change places"),
            ("one_order_rate", SILENCES, "could be read in one order alone"),
            ("no_verdict_rate", SILENCES, "gives no verdict"),
        ):
            over = {tag: one for tag, block in blocks.items() if (one := rate(block, metric)) and one.value > most}
            if over:
                told = ", ".join(
                    f"{tables.language_name(tag)} " * bool(tag) + f"{tables.number(one.value, True)}%"
                    for tag, one in over.items()
                )
                yield Finding("watch", f"{tables.name_of(board.judge)} {words}: {told} of the comparisons.")


def _alpha(found: Mapping[str, Any] | None) -> Iterator[Finding]:
    alpha = ((found or {}).get("alpha") or {}).get("nominal") or {}
    value = alpha.get("value")
    if value is not None and value < TENTATIVE:
        yield Finding(
            "watch",
            f"The judges agree at α = {tables.number(value, places=2)} (Krippendorff, nominal); below {TENTATIVE} what "
            "they say together carries no conclusion.",
        )


def _warned(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """The statistics' warnings, one sentence each however often it comes."""
    places: dict[str, list[str]] = {}
    for name in ("win_rates", "ratings", "agreement"):
        for where, warning in texts(figures.get(name) or {}):
            places.setdefault(warning, []).append(where)
    for warning, found in places.items():
        named = tables.order(filter(None, found))
        shown = "; ".join(named[:3]) + f" and {len(named) - 3} more" * (len(named) > 3)
        yield Finding("watch", f"{shown}: {warning}" if named else warning)


def _share(found: Rate) -> str:
    text = tables.number(found.value, True) + "%"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{tables.number(found.low, True)}, {tables.number(found.high, True)}]"


def _points(found: Rate) -> str:
    text = tables.number(found.value, places=0)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{tables.number(found.low, places=0)}, {tables.number(found.high, places=0)}]"
