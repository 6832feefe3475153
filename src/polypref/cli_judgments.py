"""``polypref evaluate winrate``, ``… ratings`` and ``… agreement``: what a file of judgments tells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypref.cli_stages import AsJson, options_of
from polypref.cli_terminal import Terminal
from polypref.errors import InputError

if TYPE_CHECKING:
    from polypref.stages.judgments import Judgment

Judgments = Annotated[
    str, typer.Option(help="JSON Lines of id, language, preference and lengths, or a folder that has them; - is stdin")
]
Seed = Annotated[int, typer.Option(min=0, help="of the resamples")]
Resamples = Annotated[int, typer.Option(min=100, help="of the prompts, for the intervals")]


def add(evaluate: typer.Typer) -> None:
    """Put the commands under ``polypref evaluate``."""
    evaluate.command("winrate")(winrate)
    evaluate.command("ratings")(ratings)
    evaluate.command("agreement")(agreement)


def winrate(
    judgments: Judgments,
    length_weight: Annotated[float | None, typer.Option(help="held, not fitted")] = None,
    difficulty_weight: Annotated[float | None, typer.Option(help="held, not fitted")] = None,
    as_json: AsJson = False,
) -> None:
    """Win rates with standard errors, raw and length-controlled (AlpacaEval 2's model), in percent."""
    from polypref.stages.comparison_results import win_rates

    found = win_rates(_read(judgments), length_weight=length_weight, difficulty_weight=difficulty_weight)
    if as_json:
        _print(found)
        return
    head = ("win rate", "95%", "LC win rate", "95%", "won/tied/lost", "flipped", "no verdict")
    _table(head, _win_rate_rows(found))
    _warn(_warnings(found))


def ratings(
    judgments: Judgments,
    anchor: Annotated[str | None, typer.Option(help="the model that stands at 1000; the mean when left out")] = None,
    k: Annotated[float, typer.Option("--k", help="what one comparison moves an Elo rating by at most")] = 16.0,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Bradley–Terry and Elo ratings of all models, with intervals over prompts, by language."""
    from polypref.stages import ratings as stage

    options = options_of(stage.RatingOptions, anchor=anchor, k=k, resamples=resamples, seed=seed)
    found = stage.ratings(_read(judgments), options)
    if found["bradley_terry"] is None:
        raise InputError(str(found["warning"]))
    if as_json:
        _print(found)
        return
    _table(("Bradley–Terry", "95%", "Elo", "95%"), _rating_rows(found))
    _warn(_warnings(found))


def agreement(
    judgments: Judgments,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """How far judges agree on the comparisons that they share: raw, Cohen's κ, Krippendorff's α, by language."""
    from polypref.stages import judge_agreement as stage
    from polypref.stages.judgments import read_judgments

    found = stage.agreement(read_judgments(judgments), seed=seed, resamples=resamples)
    if as_json:
        _print(found)
        return
    _table(("n", "agreement", "Cohen's κ", "Krippendorff's α", "95%"), _agreement_rows(found))


def _read(path: str) -> list[Judgment]:
    """The judgments; says which of them would count twice."""
    from polypref.stages.judgments import read_judgments, repeated

    found = read_judgments(path)
    if again := repeated(found):
        first = again[0]
        told = (
            f"{len(again)} of {len(found)} judgments are of a comparison that the same judge has judged before (first: "
            f"{first.id!r} in {first.language}); each counts: give them a sample each (0, 1, …), or keep one of them"
        )
        _warn([told])
    return found


def _print(found: Mapping[str, Any]) -> None:
    print(json.dumps(found, ensure_ascii=False, allow_nan=False))


Row = tuple[str, ...]


def _win_rate_rows(found: Mapping[str, Any], name: str = "all") -> Iterator[Row]:
    """A line for the whole, where it has a win rate, and for each of its parts; a part's parts follow it."""
    whole = {name: found} | {f"{name} · {tag}": part for tag, part in found.get("by_language", {}).items()}
    for place, part in whole.items():
        if "win_rate" in part:
            yield place, *_share(part, "win_rate"), *_share(part, "length_controlled_win_rate"), *_counts(part)
    if mean := found.get("macro_average"):
        shares = (*_share(mean, "win_rate"), *_share(mean, "length_controlled_win_rate"))
        yield f"{name} · macro-average", *shares, "", "", ""
    for names in ("by_model", "by_judge"):
        for own, part in found.get(names, {}).items():
            yield from _win_rate_rows(part, own if name == "all" else f"{name} · {own}")
    for model, against in found.get("head_to_head", {}).items():
        for baseline, part in against.items():
            yield from _win_rate_rows(part, f"{'' if name == 'all' else f'{name} · '}{model} : {baseline}")


def _share(found: Mapping[str, Any], name: str) -> tuple[str, str]:
    value, stderr = found[name], found[f"{name}_stderr"]
    if value is None:
        return "–", ""
    told = f"{value:.1f}" if stderr is None else f"{value:.1f} ± {stderr:.1f}"
    return told, _interval(found[f"{name}_low"], found[f"{name}_high"], ".1f")


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"{low:{form}} – {high:{form}}"


def _counts(found: Mapping[str, Any]) -> Row:
    flipped = "" if found["flip_rate"] is None else f"{found['flip_rate']:.1f}%"
    verdicts = f"{found['wins']}/{found['ties']}/{found['losses']}"
    return verdicts, flipped, f"{found['no_verdict_rate']:.1f}%"


def _rating_rows(found: Mapping[str, Any], name: str = "") -> Iterator[Row]:
    for model in found["bradley_terry"] or ():
        kinds = (found[kind][model] for kind in ("bradley_terry", "elo"))
        cells = ((f"{kind['rating']:.0f}", _interval(kind["low"], kind["high"], ".0f")) for kind in kinds)
        yield f"{name}{model}", *(cell for pair in cells for cell in pair)
    for tag, part in found.get("by_language", {}).items():
        yield from _rating_rows(part, f"{tag} · ")
    if mean := found.get("macro_average"):
        yield from _rating_rows(mean, "macro-average · ")


def _agreement_rows(found: Mapping[str, Any], name: str = "") -> Iterator[Row]:
    """The judges together by their nominal α, then every two of them."""
    alpha = found["alpha"]["nominal"]
    told = ("–", "") if alpha is None else (f"{alpha['value']:.2f}", _interval(alpha["low"], alpha["high"], ".2f"))
    yield f"{name}all judges", str(found["n"]), "", "", *told
    for pair in found["pairs"]:
        kappa = "–" if pair["kappa"] is None else _with_error(pair["kappa"], pair["kappa_stderr"])
        agreed = _with_error(pair["raw"], pair["raw_stderr"])
        yield f"{name}{' and '.join(pair['judges'])}", str(pair["n"]), agreed, kappa, "", ""
    for tag, part in found.get("by_language", {}).items():
        yield from _agreement_rows(part, f"{tag} · ")


def _with_error(value: float, stderr: float | None) -> str:
    return f"{value:.2f}" if stderr is None else f"{value:.2f} ± {stderr:.2f}"


def _table(head: Row, rows: Iterator[Row]) -> None:
    """The command's answer to a person, on stdout. A line may be longer than the terminal: names and figures that were
    cut would say nothing."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table("", *head, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    whole = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(width=max(console.width, whole)).print(table)


def _warnings(found: Any, name: str = "") -> Iterator[str]:
    """Every warning of the parts that are told, after its part's name."""
    if found.get("warning"):
        yield f"{name}: {found['warning']}" if name else found["warning"]
    for names in ("by_language", "by_model", "by_judge"):
        for own, part in found.get(names, {}).items():
            yield from _warnings(part, f"{name} · {own}" if name else own)
    for model, against in found.get("head_to_head", {}).items():
        for baseline, part in against.items():
            yield from _warnings(part, f"{name} · {model} : {baseline}" if name else f"{model} : {baseline}")


def _warn(warnings: Iterable[str]) -> None:
    with Terminal() as terminal:
        for warning in warnings:
            terminal.warn(warning)
