"""What goes with transfer between languages: shared features, shared script, and tables that a user brings.

Wu et al. 2024 (arXiv 2404.12318) test, for each feature of WALS, whether win rates of source–target pairs that share it
are higher than those of pairs that do not: one-sided t-tests, corrected by Bonferroni.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field

from polypref import languages
from polypref.backends.base import Options
from polypref.errors import InputError
from polypref.maths import typology as maths
from polypref.stages.language_features import Features

Pair: TypeAlias = tuple[str, str]
"""(source language, target language)"""

SCRIPT = "shared_script"
UNKNOWN_SCRIPT = "Zyyy"
BLANK = frozenset({"", "NA"})
"""What stands where a predictor has no number."""
BY_DIRECTION = "; a table is read by direction, so a symmetric one has both, or is named by --symmetric"
REASONS = {
    "no_values": "no pair has a value on both sides",
    "one_value": "every pair shares the value",
    "all_differ": "no pair shares a value",
    "few_pairs": "a group has too few pairs",
    "no_spread": "the figures do not vary",
}


class TypologyOptions(Options):
    """How pairs are compared."""

    figure: str = Field("win_rate", description="the column that is explained; any figure of a pair")
    same_language: bool = Field(
        False, description="take pairs of a language with itself too; they share every feature, so they favour each"
    )
    variances: Literal["pooled", "separate"] = Field("pooled", description="Student's t-test or Welch's")
    min_pairs: int = Field(2, ge=2, description="the least pairs in each group of a test")
    alpha: float = Field(0.05, gt=0, lt=1, description="an adjusted p-value below it is significant")
    interval: Literal["languages", "fisher"] = Field(
        "languages", description="bootstrap over languages, or Fisher's, which takes pairs as independent"
    )
    symmetric: tuple[str, ...] = Field((), description="predictors of which a row holds in both directions")
    level: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    seed: int = Field(0, ge=0)


def cells(rows: Iterable[Any], column: str, *, blanks: bool = False) -> dict[Pair, float]:
    """(source, target) → number, of the rows of ``transfer.read_table`` or of plain mappings.

    ``blanks``: an empty figure is a missing one; otherwise it is a mistake.

    Raises:
        InputError: a row names no language, has no number, or repeats a pair; or there is no row.
    """
    found: dict[Pair, float] = {}
    empty = True
    for number, given in enumerate(rows, 1):
        where, row = given if isinstance(given, tuple) else (f"row {number} of the {column} table", given)
        empty = False
        pair = (_language(row, "source_language", where), _language(row, "target_language", where))
        if pair in found:
            raise InputError(f"{where}: {pair[0]} on {pair[1]} comes a second time; keep one of the two rows")
        value = row.get(column)
        if blanks and (value is None or str(value).strip() in BLANK):
            continue
        found[pair] = _number(value, f"{where}: {column}")
    if empty:
        raise InputError(f"the table of {column} is empty; it needs at least one row")
    return found


def _language(row: Mapping[str, Any], column: str, where: str) -> str:
    try:
        return languages.normalise(str(row.get(column) or "").strip())
    except InputError as error:
        raise InputError(f"{where}: {column}: {error}") from None


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{what} is {value!r:.40}; it must be a number") from None
    if not math.isfinite(number):
        raise InputError(f"{what} is {number}; it must be a finite number")
    return number


def languages_of(figures: Mapping[Pair, float]) -> list[str]:
    """The languages of a table's pairs, in alphabetical order."""
    return sorted({language for pair in figures for language in pair})


def typology(
    figures: Mapping[Pair, float],
    features: Features | None = None,
    predictors: Mapping[str, Iterable[Any]] | None = None,
    options: TypologyOptions | None = None,
) -> dict[str, Any]:
    """What ``polypref evaluate typology --json`` prints; see docs/typology.md for its keys.

    ``figures`` is what ``cells`` gives, ``predictors`` is name → rows with the column ``value``.

    Raises:
        InputError: there is no pair to look at, or a predictor's table is wrong.
    """
    options = options or TypologyOptions()
    pairs = {pair: value for pair, value in figures.items() if options.same_language or pair[0] != pair[1]}
    if not pairs:
        raise InputError(
            f"the table of {options.figure} has no pair of two languages; add rows, or say --same-language"
        )
    known = languages_of(pairs)
    found: dict[str, Any] = {
        "figure": options.figure,
        "pairs": len(pairs),
        "languages": known,
        "same_language_left_out": len(figures) - len(pairs),
        "features": None,
        "tested": 0,
        "distinct": 0,
        "untested": {},
        "significant": {"bonferroni": [], "benjamini_hochberg": []},
        "languages_without_features": [],
        "missing_values": {},
        "options": options.model_dump(),
    }
    sentences: list[str] = []
    remarks: list[str] = []
    if features is not None:
        found |= _features(pairs, features, known, options)
        sentences.append(_of_features(found, options))
        remarks += _missing(found, features)
    found["predictors"] = _predictors(pairs, predictors or {}, known, options)
    for name, entry in found["predictors"].items():
        sentences.append(_of_predictor(name, entry, options))
        if entry["missing_pairs"]:
            remarks.append(
                f"{name} lacks {entry['missing_pairs']} of {len(pairs)} pairs"
                + ("" if name in (SCRIPT, *options.symmetric) else BY_DIRECTION)
            )
    return found | {"sentences": sentences, "remarks": remarks}


# --- features --------------------------------------------------------------------------------------------------------


def _features(
    pairs: Mapping[Pair, float], features: Features, known: list[str], options: TypologyOptions
) -> dict[str, Any]:
    tested: list[dict[str, Any]] = []
    untested: dict[str, list[str]] = {reason: [] for reason in REASONS}
    splits = set()
    for key, name in features.names.items():
        values = {lang: features.values[lang][key] for lang in known if key in features.values.get(lang, {})}
        both = [pair for pair in pairs if pair[0] in values and pair[1] in values]
        sharing = frozenset(pair for pair in both if values[pair[0]] == values[pair[1]])
        shared = [pairs[pair] for pair in both if pair in sharing]
        other = [pairs[pair] for pair in both if pair not in sharing]
        reason, test = _tested(shared, other, options)
        if test is None:
            untested[reason].append(key)
            continue
        splits.add((sharing, frozenset(both)))
        tested.append(
            {
                "feature": key,
                "name": name,
                "difference": test.difference,
                "shared_mean": test.shared.value,
                "shared_pairs": test.shared.n,
                "other_mean": test.other.value,
                "other_pairs": test.other.n,
                "missing_pairs": len(pairs) - test.shared.n - test.other.n,
                "t": test.t,
                "degrees": test.degrees,
                "p": test.p,
                "values": {lang: features.labels.get(value, value) for lang, value in values.items()},
            }
        )
    p = [row["p"] for row in tested]
    for row, strict, lenient in zip(tested, maths.bonferroni(p), maths.benjamini_hochberg(p), strict=True):
        row |= {"bonferroni": float(strict), "benjamini_hochberg": float(lenient)}
    tested.sort(key=lambda row: row["p"])
    return {
        "features": tested,
        "tested": len(tested),
        "distinct": len(splits),
        "untested": untested,
        "significant": {
            correction: [row["feature"] for row in tested if row[correction] < options.alpha]
            for correction in ("bonferroni", "benjamini_hochberg")
        },
        "languages_without_features": [lang for lang in known if not features.values.get(lang)],
        "missing_values": {
            lang: len(features.names) - len(features.values[lang]) for lang in known if features.values.get(lang)
        },
    }


def _tested(shared: list[float], other: list[float], options: TypologyOptions) -> tuple[str, maths.Comparison | None]:
    """A feature's test, else why there is none."""
    if not shared and not other:
        return "no_values", None
    if not other:
        return "one_value", None
    if not shared:
        return "all_differ", None
    if min(len(shared), len(other)) < options.min_pairs:
        return "few_pairs", None
    test = maths.compare(shared, other, pooled=options.variances == "pooled")
    return ("no_spread", None) if test is None else ("", test)


def _missing(found: Mapping[str, Any], features: Features) -> list[str]:
    """What was not known, and what was not tested, each in a sentence."""
    remarks = list(features.remarks)
    if found["languages_without_features"]:
        remarks.append(f"no features are known of {', '.join(found['languages_without_features'])}")
    missing = {lang: n for lang, n in found["missing_values"].items() if n}
    if missing:
        told = ", ".join(f"{lang} {n}" for lang, n in missing.items())
        remarks.append(f"values that are missing, of {len(features.names)} features: {told}")
    left = {reason: len(keys) for reason, keys in found["untested"].items() if keys}
    if left:
        told = "; ".join(f"{n} because {REASONS[reason]}" for reason, n in left.items())
        remarks.append(f"{sum(left.values())} of {len(features.names)} features are not tested: {told}")
    return remarks


def _of_features(found: Mapping[str, Any], options: TypologyOptions) -> str:
    """What the tests say, and how far that carries."""
    basis = f"{found['pairs']} pairs of {len(found['languages'])} languages"
    if not found["tested"]:
        return f"No feature could be tested on {basis}, so nothing is said about typology."
    best = found["features"][0]
    strict, lenient = (len(found["significant"][name]) for name in ("bonferroni", "benjamini_hochberg"))
    tested = f"{found['tested']} tested feature{'s' if found['tested'] > 1 else ''}"
    least = (
        f"{best['feature']} has the smallest p, {best['p']:.2g}: {best['bonferroni']:.2g} after Bonferroni, "
        f"{best['benjamini_hochberg']:.2g} after Benjamini–Hochberg"
    )
    if not strict and not lenient:
        return (
            f"Of {tested} none goes significantly with a higher {options.figure} on {basis} at α = {options.alpha:g}; "
            f"{least}. This does not show that typology is without effect: with few languages only a large one is seen."
        )
    return (
        f"Of {tested} {strict} {'go' if strict != 1 else 'goes'} with a significantly higher {options.figure} after "
        f"Bonferroni and {lenient} after Benjamini–Hochberg at α = {options.alpha:g}, on {basis}; {least}. Pairs that "
        "have a language in common are not independent, and where few languages differ in a feature its p is too "
        "small: take these as hints."
    )


# --- predictors ------------------------------------------------------------------------------------------------------


def _predictors(
    pairs: Mapping[Pair, float], tables: Mapping[str, Iterable[Any]], known: list[str], options: TypologyOptions
) -> dict[str, Any]:
    if SCRIPT in tables:
        raise InputError(f"{SCRIPT} is made by polypref; give the predictor another name")
    for name in options.symmetric:
        if name not in tables:
            raise InputError(f"{name} is to be symmetric, but is no predictor that was given; name one of those")
    scripts = {lang: languages.script(lang) for lang in known}
    shared = {
        (source, target): float(scripts[source] == scripts[target])
        for source, target in pairs
        if UNKNOWN_SCRIPT not in (scripts[source], scripts[target])
    }
    found = {SCRIPT: {"scripts": scripts, **_correlated(pairs, shared, options)}}
    for name, rows in tables.items():
        values = cells(rows, "value", blanks=True)
        if name in options.symmetric:
            values = _both_ways(name, values)
        if not values.keys() & pairs.keys():
            raise InputError(
                f"the predictor {name} has no pair of the {options.figure} table; are the languages the same?"
            )
        found[name] = _correlated(pairs, values, options)
    return found


def _both_ways(name: str, values: Mapping[Pair, float]) -> dict[Pair, float]:
    """The table with each row in the other direction as well.

    Raises:
        InputError: both directions are there and differ.
    """
    for (source, target), value in values.items():
        if values.get((target, source), value) != value:
            raise InputError(
                f"{name} has {value:g} for {source} on {target} and {values[target, source]:g} for {target} on "
                f"{source}, so it is not symmetric; keep one of the rows, or leave --symmetric out"
            )
    return {(target, source): value for (source, target), value in values.items()} | dict(values)


def _correlated(pairs: Mapping[Pair, float], values: Mapping[Pair, float], options: TypologyOptions) -> dict[str, Any]:
    both = [pair for pair in pairs if pair in values]
    x, y = [values[pair] for pair in both], [pairs[pair] for pair in both]
    found: dict[str, Any] = {
        "n": len(both),
        "languages": len({language for pair in both for language in pair}),
        "missing_pairs": len(pairs) - len(both),
        "interval": options.interval,
    }
    method: maths.Method
    for method in ("spearman", "pearson"):
        value = maths.correlation(x, y, method)
        low, high, defined = _interval(value, x, y, both, method, options)
        found |= {method: value, f"{method}_low": low, f"{method}_high": high}
        if options.interval == "languages":
            found[f"{method}_resamples"] = defined
    return found


def _interval(
    value: float | None,
    x: list[float],
    y: list[float],
    pairs: list[Pair],
    method: maths.Method,
    options: TypologyOptions,
) -> tuple[float | None, float | None, int]:
    """Low, high, and how many resamples had a correlation."""
    if value is None:
        return None, None, 0
    if options.interval == "fisher":
        low, high = maths.fisher_interval(value, len(pairs), method, options.level) or (None, None)
        return low, high, 0
    found = maths.language_bootstrap(
        x, y, pairs, method, seed=options.seed, resamples=options.resamples, level=options.level
    )
    return (found.low, found.high, found.defined) if found else (None, None, 0)


def _of_predictor(name: str, entry: Mapping[str, Any], options: TypologyOptions) -> str:
    basis = f"{entry['n']} pairs of {entry['languages']} languages"
    value, low, high = entry["spearman"], entry["spearman_low"], entry["spearman_high"]
    if value is None:
        return f"{name}: no correlation, since there are fewer than three pairs or one side does not vary ({basis})."
    told = f"{name}: Spearman's ρ with {options.figure} is {value:.2f}"
    if low is None:
        return (
            f"{told} on {basis}; there are too few languages, or too few differ in it, for an interval, so nothing is "
            "shown."
        )
    how = (
        "bootstrap over languages" if options.interval == "languages" else "Fisher's, which takes pairs as independent"
    )
    verdict = "it holds 0, so nothing is shown" if low <= 0 <= high else "it does not hold 0"
    return f"{told}, {options.level:.0%} interval {low:.2f} to {high:.2f} ({how}), on {basis}; {verdict}."
