"""Best-against-worst pairs under length control, with an α that is exact.

Notation: N prompts with up to K candidates each; candidate j has score s_j and length ℓ_j, and under length control
its score is s_j − α·ℓ_j (Yang et al. 2025, arXiv 2503.04647, §3; there α ≥ 0 on a grid, here any real number).
The best candidate (argmax) is chosen, the worst (argmin) rejected; equal scores go to the earlier candidate.
The mean length gap, chosen − rejected, is piecewise constant in α: each prompt's best candidate runs along the upper
envelope of the K lines s_j − α·ℓ_j, its worst along the lower one, and nothing changes but where two lines cross.
``fit_alpha`` visits every piece and every crossing, so no other α brings the mean gap nearer to zero.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from polypref.errors import InternalError

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]

_CELLS = 4_000_000
"""Cells of one temporary [rows, K] array: 32 MB of float64."""

_TRIES = 256
"""How many candidates for α are tried before the best so far is taken; one or two suffice unless scores are so large
that float64 cannot tell neighbouring pieces apart."""


def best_and_worst(scores: Sequence[float], lengths: Sequence[int], alpha: float = 0.0) -> tuple[int, int]:
    """Positions of the best and the worst of score − α·length; the earlier one wins a tie.

    Both are the same position when all controlled scores are equal: then there is no preference, hence no pair.

    >>> best_and_worst([1.0, 3.0, 2.0], [10, 90, 20])
    (1, 0)
    >>> best_and_worst([1.0, 3.0, 2.0], [10, 90, 20], alpha=0.1)
    (0, 1)

    Raises:
        InternalError: there is no candidate, or not as many lengths as scores.
    """
    if not scores or len(scores) != len(lengths):
        raise InternalError(f"best_and_worst was given {len(scores)} scores and {len(lengths)} lengths")
    controlled = [score - alpha * length for score, length in zip(scores, lengths, strict=True)]
    return controlled.index(max(controlled)), controlled.index(min(controlled))


def fit_alpha(
    scores: Sequence[Sequence[float]],
    lengths: Sequence[Sequence[int]],
    texts: Sequence[Sequence[Hashable]] | None = None,
) -> float:
    """The α under which the mean length gap, chosen − rejected, is nearest zero; of equals the smallest in size.

    The mean is over the prompts that give a pair: those whose chosen and rejected differ in controlled score and, when
    ``texts`` are given, in text. An α ≠ 0 that would cost a prompt its pair, because its best and worst tie there, is
    passed over. α is 0 when no prompt gives a pair without control, since then there is no gap to correct.

    Args:
        scores: for each of the N prompts the scores of its candidates, finite.
        lengths: likewise their lengths, whole numbers (characters or tokens).
        texts: likewise anything that is equal for candidates of equal text.

    Raises:
        InternalError: the three do not have the same shape.
    """
    counts = [len(row) for row in scores]
    if [len(row) for row in lengths] != counts or (texts is not None and [len(row) for row in texts] != counts):
        raise InternalError("fit_alpha was given scores, lengths and texts of different shapes")
    numbered = None
    if texts is not None:
        numbered = np.fromiter(chain.from_iterable(map(_numbers, texts)), np.int64)
    flat_scores = np.fromiter(chain.from_iterable(scores), np.float64)
    flat_lengths = np.fromiter(chain.from_iterable(lengths), np.int64)
    return _fit(_Table.of(np.array(counts, dtype=np.int64), flat_scores, flat_lengths, numbered))


class Gathered:
    """What ``fit_alpha`` needs of many prompts, gathered one at a time and kept as bare numbers, 24 bytes a candidate:
    texts need not be in memory."""

    def __init__(self) -> None:
        self._counts, self._scores, self._lengths, self._texts = array("q"), array("d"), array("q"), array("q")

    def add(self, scores: Sequence[float], lengths: Sequence[int], texts: Sequence[int]) -> None:
        """One prompt's candidates; ``texts`` are numbers that are equal where the texts are.

        Raises:
            InternalError: the three have different lengths.
        """
        if not len(scores) == len(lengths) == len(texts):
            raise InternalError(f"a prompt has {len(scores)} scores, {len(lengths)} lengths and {len(texts)} texts")
        self._counts.append(len(scores))
        self._scores.extend(scores)
        self._lengths.extend(lengths)
        self._texts.extend(texts)

    def fit_alpha(self) -> float:
        """``fit_alpha`` of all prompts so far."""
        counts, lengths, texts = (np.array(one, dtype=np.int64) for one in (self._counts, self._lengths, self._texts))
        return _fit(_Table.of(counts, np.array(self._scores, dtype=np.float64), lengths, texts))


def _numbers(texts: Sequence[Hashable]) -> list[int]:
    """A number for each text of a prompt, equal where the texts are."""
    found: dict[Hashable, int] = {}
    return [found.setdefault(text, len(found)) for text in texts]


def _fit(table: _Table) -> float:
    if not table.scores.size:
        return 0.0
    uncontrolled = table.outcome(0.0)
    if not uncontrolled.pairs:
        return 0.0
    best, alpha = (uncontrolled.size, 0.0), 0.0
    for predicted, candidate in _candidates(table):
        if (predicted, abs(candidate)) >= best:
            break
        # The prediction is exact arithmetic's; what counts is what floating point makes of it.
        outcome = table.outcome(candidate)
        if outcome.ties <= table.always_tied and outcome.pairs and (outcome.size, abs(candidate)) < best:
            best, alpha = (outcome.size, abs(candidate)), candidate
    return alpha


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one α gives: |mean gap|, how many prompts have a pair, how many have best = worst."""

    size: float
    pairs: int
    ties: int


@dataclass(frozen=True, slots=True)
class _Table:
    """The prompts with at least two candidates as arrays [N, K], padded at the right where ``real`` is False."""

    scores: Floats
    lengths: Floats
    texts: Integers
    real: Booleans
    always_tied: int

    @classmethod
    def of(cls, counts: Integers, scores: Floats, lengths: Integers, texts: Integers | None) -> _Table:
        """Of all prompts' candidates one behind the other, ``counts`` [prompts] of them each."""
        several = counts >= 2
        kept = np.repeat(several, counts)
        counts = counts[several]
        width = int(counts.max(initial=0))
        real = np.arange(width) < counts[:, None]
        table_scores, table_lengths = np.zeros((2, len(counts), width))
        table_scores[real], table_lengths[real] = scores[kept], lengths[kept]
        # Without texts every candidate is a text of its own.
        table_texts = np.tile(np.arange(width, dtype=np.int64), (len(counts), 1))
        if texts is not None:
            table_texts[real] = texts[kept]
        first_score, first_length = table_scores[:, :1], table_lengths[:, :1]
        same = ((table_scores == first_score) & (table_lengths == first_length)) | ~real
        return cls(table_scores, table_lengths, table_texts, real, int(same.all(axis=1).sum()))

    def picks(self, alpha: float | Floats, rows: Integers | slice = slice(None)) -> tuple[Integers, Integers]:
        """Best and worst candidate [R] of the rows, by the arithmetic of ``best_and_worst``; ``alpha`` is one number,
        or one for each row [R, 1]."""
        controlled = self.scores[rows] - alpha * self.lengths[rows]
        real = self.real[rows]
        best = np.where(real, controlled, -np.inf).argmax(axis=1)
        worst = np.where(real, controlled, np.inf).argmin(axis=1)
        return best, worst

    def gaps(self, rows: Integers, best: Integers, worst: Integers) -> tuple[Integers, Integers]:
        """Length gap best − worst [R], 0 where there is no pair, and whether there is one (1 or 0) [R]."""
        paired = self.texts[rows, best] != self.texts[rows, worst]
        gap = (self.lengths[rows, best] - self.lengths[rows, worst]).astype(np.int64)
        return np.where(paired, gap, 0), paired.astype(np.int64)

    def outcome(self, alpha: float) -> _Outcome:
        best, worst = self.picks(alpha)
        gap, paired = self.gaps(np.arange(len(best)), best, worst)
        pairs = int(paired.sum())
        return _Outcome(abs(int(gap.sum())) / pairs if pairs else np.inf, pairs, int((best == worst).sum()))


def _upper_envelope(scores: Floats, lengths: Floats, real: Booleans) -> tuple[Integers, Floats, Integers]:
    """The best candidate of every row as α runs from −∞ to ∞: (row, α from which, candidate), each [E].

    The walk starts with the longest candidate and at each step goes on to the one whose line is met next: O(K·H) a
    row with H lines on the envelope, and H is small (about log K for scores without a pattern).
    """
    rows = np.arange(len(scores))
    longest = np.where(real, lengths, -np.inf)
    start = np.where(longest == longest.max(axis=1, keepdims=True), scores, -np.inf)
    current = start.argmax(axis=1)
    reached = np.full(len(rows), -np.inf)
    events = [(rows, reached, current)]
    while rows.size:
        met = np.empty(len(rows))
        following = np.empty(len(rows), dtype=np.int64)
        step = max(1, _CELLS // scores.shape[1])
        for low in range(0, len(rows), step):
            part, here = rows[low : low + step], current[low : low + step]
            fall = lengths[part, here][:, None] - lengths[part]
            ahead = real[part] & (fall > 0)
            crossing = np.full(fall.shape, np.inf)
            np.divide(scores[part, here][:, None] - scores[part], fall, out=crossing, where=ahead)
            nearest = crossing.min(axis=1, keepdims=True)
            # Of lines that meet in one point the flattest goes on.
            length = np.where(ahead & (crossing == nearest), lengths[part], np.inf)
            flattest = length == length.min(axis=1, keepdims=True)
            met[low : low + step] = nearest[:, 0]
            following[low : low + step] = np.where(ahead & flattest, scores[part], -np.inf).argmax(axis=1)
        left = np.isfinite(met)
        # Of lines that all but meet in one point rounding could turn the order round.
        reached = np.maximum(met, reached)[left]
        rows, current = rows[left], following[left]
        events.append((rows, reached, current))
    row, alpha, candidate = (np.concatenate(column) for column in zip(*events, strict=True))
    return row, alpha, candidate


@dataclass(frozen=True, slots=True)
class _Changes:
    """Where the picks change: E events (row, α), sorted by row, then α, with the row's gap and whether it has a pair
    before and after the event. The first event of a row is at −∞, from nothing."""

    row: Integers
    alpha: Floats
    before: Integers
    after: Integers

    @classmethod
    def of(cls, table: _Table) -> _Changes:
        best = _upper_envelope(table.scores, table.lengths, table.real)
        worst = _upper_envelope(-table.scores, -table.lengths, table.real)
        # The worst's envelope runs from shortest to longest in the same α: s − α·ℓ is least where −s + α·ℓ is most.
        row, alpha, candidate = (np.concatenate(pair) for pair in zip(best, worst, strict=True))
        is_best = np.repeat([True, False], [len(best[0]), len(worst[0])])
        order = np.lexsort((~is_best, alpha, row))
        row, alpha, candidate, is_best = row[order], alpha[order], candidate[order], is_best[order]
        position = np.arange(len(row))
        chosen = candidate[np.maximum.accumulate(np.where(is_best, position, 0))]
        rejected = candidate[np.maximum.accumulate(np.where(is_best, 0, position))]
        # One event for each (row, α): what stands after the last change there.
        last = np.append((row[1:] != row[:-1]) | (alpha[1:] != alpha[:-1]), True)
        row, alpha, chosen, rejected = row[last], alpha[last], chosen[last], rejected[last]
        after = np.stack(table.gaps(row, chosen, rejected))
        before = np.where(np.append(True, row[1:] != row[:-1]), 0, np.roll(after, 1, axis=1))
        return cls(row, alpha, before, after)


def _candidates(table: _Table) -> list[tuple[float, float]]:
    """The most promising (|mean gap| in exact arithmetic, α), the best first: one α or two inside every piece, and
    every crossing itself, where ties go to the earlier candidate and so may give a gap of their own."""
    changes = _Changes.of(table)
    # [2, E]: the sum of gaps and the number of pairs.
    order = np.argsort(changes.alpha, kind="stable")
    crossings, first = np.unique(changes.alpha[order], return_index=True)
    steps = np.add.reduceat((changes.after - changes.before)[:, order], first, axis=1)
    pieces = np.cumsum(steps, axis=1)
    crossings = crossings[1:]  # the first is −∞
    low, high = np.append(-np.inf, crossings), np.append(crossings, np.inf)
    just_inside, middle = _inside(table, low, high)
    ats, at_sums = _at_crossings(table, changes, crossings, pieces)
    alphas = np.concatenate([just_inside, middle, ats])
    sums, pairs = np.concatenate([pieces, pieces, at_sums], axis=1)
    size = np.abs(sums) / np.maximum(pairs, 1)
    good = (pairs > 0) & np.isfinite(alphas)
    size, alphas = size[good], alphas[good]
    ranked = np.lexsort((-alphas, np.abs(alphas), size))[:_TRIES]
    return [(float(size[i]), float(alphas[i])) for i in ranked]


def _inside(table: _Table, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Two values of α inside each open piece (low, high): one as near 0 as floating point tells from the piece's end,
    and one in its middle. Both are 0 where the piece holds 0."""
    holds_zero = (low < 0) & (high > 0)
    sign = np.where(low >= 0, 1.0, -1.0)
    near = np.where(holds_zero, 0.0, np.where(low >= 0, low, high))
    bounded = np.isfinite(low) & np.isfinite(high)
    half = np.where(bounded, np.where(bounded, high, 1.0) - np.where(bounded, low, 0.0), np.inf) / 2
    largest = np.abs(table.scores).max() + np.abs(near) * table.lengths.max()
    noise = 1024 * np.finfo(np.float64).eps * largest
    just_inside = near + sign * np.minimum(half, noise)
    middle = near + sign * np.where(bounded, half, 1 + np.abs(near))
    return np.where(holds_zero, 0.0, just_inside), np.where(holds_zero, 0.0, middle)


def _at_crossings(table: _Table, changes: _Changes, crossings: Floats, pieces: Integers) -> tuple[Floats, Integers]:
    """The crossings that cost no prompt its pair, with the sum of gaps and the number of pairs there [2, C]."""
    finite = np.flatnonzero(np.isfinite(changes.alpha))
    row, alpha = changes.row[finite], changes.alpha[finite]
    at = np.empty((2, len(finite)), dtype=np.int64)
    tied = np.empty(len(finite), dtype=np.bool_)
    step = max(1, _CELLS // table.scores.shape[1])
    for low in range(0, len(finite), step):
        part = slice(low, low + step)
        best, worst = table.picks(alpha[part, None], row[part])
        at[:, part] = table.gaps(row[part], best, worst)
        tied[part] = best == worst
    crossing = np.searchsorted(crossings, alpha)
    sums = pieces[:, :-1].copy()
    for total, change in zip(sums, at - changes.before[:, finite], strict=True):
        np.add.at(total, crossing, change)
    whole = np.bincount(crossing, weights=tied, minlength=len(crossings)) == 0
    return crossings[whole], sums[:, whole]
