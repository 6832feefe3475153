"""Win rates of judgments: raw and length-controlled, with what the judges could not say, by language, model and judge.

The dictionaries' shape is told in docs/win-rates.md. Rates are in percent.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from polypref.errors import InputError
from polypref.maths import metrics, stats
from polypref.maths.stats import Estimate
from polypref.stages.judgments import Judgment, parse_judgment

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Weights of the length-controlled model that are given, not fitted."""

    length: float | None
    difficulty: float | None


def winrate(
    rows: Iterable[Judgment | dict[str, Any]],
    *,
    length_weight: float | None = None,
    difficulty_weight: float | None = None,
) -> dict[str, Any]:
    """The win rates of models against the baselines that they are held against: ``win_rate`` and
    ``length_controlled_win_rate``, each with ``_stderr``, ``_low`` and ``_high``, wins, ties and losses, the rates of
    ties, flips, half-read and missing verdicts and failed answers, and the same by language, model, judge and pair of
    models where there are several. Every part is fitted by itself; standard errors are clustered by ``id``. See
    ``maths.metrics.win_rate`` for the model, ``comparison_results.win_rates`` for models that are also baselines.

    Raises:
        InputError: a row is wrong, no row is there, only some rows have a difficulty, or a weight is given for none.
    """
    judgments = [
        row if isinstance(row, Judgment) else parse_judgment(row, f"row {number}") for number, row in enumerate(rows, 1)
    ]
    if not judgments:
        raise InputError("there is no judgment; a win rate needs at least one")
    lacking = [j.id for j in judgments if j.difficulty is None]
    if lacking and len(lacking) < len(judgments):
        raise InputError(
            f"difficulty is missing in {len(lacking)} of {len(judgments)} judgments (first: {lacking[0]!r}); "
            "give it to all or to none"
        )
    if lacking and difficulty_weight is not None:
        raise InputError("a difficulty weight is given but no judgment has a difficulty; leave the weight out")
    held = _Held(length_weight, difficulty_weight)
    judges = _parts(judgments, lambda j: j.judge)
    out = _by_model(judgments, held)
    if len(judges) > 1:
        out["by_judge"] = {judge: _by_model(part, held) for judge, part in judges.items()}
    return out


def _by_model(judgments: Sequence[Judgment], held: _Held) -> dict[str, Any]:
    """A block with its languages, and each model's and each pair's where there are several."""
    out = _by_language(judgments, held)
    models = _parts(judgments, lambda j: j.model)
    if len(models) > 1:
        out["by_model"] = {model: _by_language(part, held) for model, part in models.items()}
    if len({j.baseline for j in judgments}) > 1:
        out["head_to_head"] = {
            model: {b: _by_language(rows, held) for b, rows in _parts(part, lambda j: j.baseline).items()}
            for model, part in models.items()
        }
    return out


def _by_language(judgments: Sequence[Judgment], held: _Held) -> dict[str, Any]:
    """A block, and where there are several languages each of them and their macro-average."""
    out = _block(judgments, _fitted(judgments, held), held)
    languages = dict(sorted(_parts(judgments, lambda j: j.language).items()))
    if len(languages) > 1:
        fits = {tag: _fitted(part, held) for tag, part in languages.items()}
        out["by_language"] = {tag: _block(part, fits[tag], held) for tag, part in languages.items()}
        out["macro_average"] = _macro_average({tag: (_told(languages[tag]), fit) for tag, fit in fits.items() if fit})
    return out


def _parts(judgments: Sequence[Judgment], key: Callable[[Judgment], str]) -> dict[str, list[Judgment]]:
    """The judgments by a name, names in the order in which they come first."""
    parts: dict[str, list[Judgment]] = {}
    for judgment in judgments:
        parts.setdefault(key(judgment), []).append(judgment)
    return parts


def _told(judgments: Sequence[Judgment]) -> list[Judgment]:
    return [j for j in judgments if j.preference is not None]


def _fitted(judgments: Sequence[Judgment], held: _Held) -> metrics.WinRate | None:
    """The win rates of the judgments with a verdict; None where there is none."""
    told = _told(judgments)
    if not told:
        return None
    return metrics.win_rate(
        [j.preference for j in told if j.preference is not None],
        [j.model_length for j in told],
        [j.baseline_length for j in told],
        [j.difficulty for j in told if j.difficulty is not None] or None,
        [j.id for j in told],
        [j.failed is not None for j in told],
        length_weight=held.length,
        difficulty_weight=held.difficulty,
    )


def _block(judgments: Sequence[Judgment], fit: metrics.WinRate | None, held: _Held) -> dict[str, Any]:
    """The figures of some judgments, whatever their languages and models."""
    told = _told(judgments)
    preferences = [j.preference for j in told if j.preference is not None]
    return {
        **_share("win_rate", fit.raw if fit else None),
        **_share("length_controlled_win_rate", fit.controlled if fit else None),
        "wins": sum(p > 0.5 for p in preferences),
        "ties": preferences.count(0.5),
        "losses": sum(p < 0.5 for p in preferences),
        **_rate("tie_rate", [(j.id, j.preference == 0.5) for j in told]),
        **_rate("flip_rate", [(j.id, j.flipped) for j in judgments if j.flipped is not None], counted=True),
        **_rate("one_order_rate", [(j.id, None in j.orders) for j in told if j.orders is not None], counted=True),
        **_rate("no_verdict_rate", [(j.id, j.preference is None) for j in judgments], counted=True),
        **_rate("failed_rate", [(j.id, j.model_failed) for j in judgments], counted=True),
        "model_length": _mean([j.model_length for j in judgments if not j.model_failed]),
        "baseline_length": _mean([j.baseline_length for j in judgments if not j.baseline_failed]),
        "n": len(told),
        "prompts": len({j.id for j in told}),
        "weights": fit.weights if fit else {},
        "signature": _signature(judgments, held),
        "warning": _warning(fit, any(j.failed for j in told)),
    }


def _mean(lengths: Sequence[float]) -> float | None:
    return statistics.fmean(lengths) if lengths else None


def _macro_average(languages: dict[str, tuple[list[Judgment], metrics.WinRate]]) -> dict[str, Any]:
    """The mean over languages, each with the same weight. A prompt's languages are one cluster."""
    raw = controlled = None
    if languages:
        ids = {tag: [j.id for j in told] for tag, (told, _) in languages.items()}
        preferences = {
            tag: [j.preference for j in told if j.preference is not None] for tag, (told, _) in languages.items()
        }
        raw = stats.mean_of_clustered_means({tag: (preferences[tag], ids[tag]) for tag in languages})
        spread = stats.mean_of_clustered_means({tag: (fit.influence, ids[tag]) for tag, (_, fit) in languages.items()})
        mean = statistics.fmean(fit.controlled.value for _, fit in languages.values())
        told = all(fit.fallback != "ridge" for _, fit in languages.values())
        controlled = Estimate(mean, spread.stderr if told else None, spread.n)
    return {
        **_share("win_rate", raw),
        **_share("length_controlled_win_rate", controlled),
        "n": sum(len(told) for told, _ in languages.values()),
        "prompts": raw.n if raw else 0,
        "languages": list(languages),
    }


def _share(name: str, share: Estimate | None) -> dict[str, float | None]:
    """A share in percent with standard error and interval; null where there is none."""
    low, high = (stats.share_interval(share, LEVEL) if share else None) or (None, None)
    found = (share.value, share.stderr, low, high) if share else (None,) * 4
    return {f"{name}{end}": _percent(x) for end, x in zip(("", "_stderr", "_low", "_high"), found, strict=True)}


def _rate(name: str, rows: Sequence[tuple[str, bool]], counted: bool = False) -> dict[str, Any]:
    """The percentage of rows (id, whether) that are so; ``counted`` says of how many, where that is not ``n``."""
    share = stats.clustered_mean([float(so) for _, so in rows], [id for id, _ in rows]) if rows else None
    value, stderr = (share.value, share.stderr) if share else (None, None)
    out: dict[str, Any] = {name: _percent(value), f"{name}_stderr": _percent(stderr)}
    return out | ({f"{name}_n": len(rows)} if counted else {})


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _signature(judgments: Sequence[Judgment], held: _Held) -> str:
    """What the length-controlled figure depends on beside the judgments, keys sorted."""
    if judgments[0].difficulty is None:
        difficulty = "left out"
    else:
        difficulty = "fitted" if held.difficulty is None else f"held at {held.difficulty:g}"
    length = "fitted" if held.length is None else f"held at {held.length:g}"
    return (
        f"cluster:id|difficulty:{difficulty}|interval:{LEVEL:g}|length:{length}|model:alpaca_eval_2"
        f"|ridge:{metrics.RIDGE:g}"
    )


_FALLBACKS: dict[str, str] = {
    "raw": "all comparisons went the same way, so the length-controlled win rate is the raw one",
    "no_length": "the length difference is the same in all comparisons, so the length term is left out",
    "ridge": "length or difficulty all but tells the verdict, so the likelihood has no maximum nearby: the "
    f"length-controlled win rate rests on a ridge of {metrics.RIDGE:g} on the weights and has no standard error",
}


def _warning(fit: metrics.WinRate | None, failed: bool) -> str | None:
    if fit is None:
        return "no comparison has a verdict, so there is no win rate"
    if fit.fallback is None:
        return None
    return ("failed answers apart, " if failed else "") + _FALLBACKS[fit.fallback]
