"""``polypref evaluate typology``: what languages have in common, against how well rewards transfer between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from polypref.cli_stages import AsJson, options_of
from polypref.errors import RecipeError

SHOWN = 10
"""Features that a person sees; ``--json`` has all of them."""


def add_to(app: typer.Typer) -> None:
    """Put the command under ``polypref evaluate``."""
    app.command("typology")(typology)


def typology(
    win_rate: Annotated[Path, typer.Option(help="CSV: source_language, target_language, and the figure's column")],
    features: Annotated[
        Path | None, typer.Option(help="the folder of WALS (CLDF), or a CSV with the column language and one a feature")
    ] = None,
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.csv", help="CSV: source_language, target_language, value; several may be given"
        ),
    ] = None,
    symmetric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="a --predictor of which a row holds in both directions")
    ] = None,
    figure: Annotated[str, typer.Option(help="the column of --win-rate that is explained")] = "win_rate",
    same_language: Annotated[bool, typer.Option("--same-language", help="pairs of a language with itself too")] = False,
    variances: Annotated[str, typer.Option(help="of the two groups: pooled (Student) or separate (Welch)")] = "pooled",
    interval: Annotated[str, typer.Option(help="of correlations: languages (bootstrap) or fisher")] = "languages",
    alpha: Annotated[float, typer.Option(help="a p-value below it is significant")] = 0.05,
    min_pairs: Annotated[int, typer.Option(help="the least pairs in each group of a test")] = 2,
    resamples: Annotated[int, typer.Option(help="of the bootstrap")] = 2000,
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 0,
    as_json: AsJson = False,
) -> None:
    """Language features and other predictors against win rates: t-tests, correlations, and how far they carry."""
    from polypref.stages import typology as stage
    from polypref.stages.language_features import read_features
    from polypref.stages.transfer import read_table

    options = options_of(
        stage.TypologyOptions,
        figure=figure,
        same_language=same_language,
        variances=variances,
        interval=interval,
        alpha=alpha,
        min_pairs=min_pairs,
        resamples=resamples,
        seed=seed,
        symmetric=symmetric or (),
    )
    tables = {name: read_table(path, "value") for name, path in _predictors(predictor or []).items()}
    figures = stage.cells(read_table(win_rate, figure), figure)
    known = None if features is None else read_features(features, stage.languages_of(figures))
    found = stage.typology(figures, known, tables, options)
    print(json.dumps(found, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(_told(found)))


def _predictors(entries: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise RecipeError(f"--predictor {entry!r} is no NAME=FILE.csv; write e.g. --predictor culture=culture.csv")
        if name in found:
            raise RecipeError(f"--predictor names {name} twice; give each table a name of its own")
        found[name] = Path(path)
    return found


def _told(found: dict[str, Any]) -> list[str]:
    """The features of the smallest p under a heading, each sentence, and what was left out."""
    heading = "difference        p  Bonferroni  Benjamini–Hochberg  feature"
    rows = [
        f"{row['difference']:+10.2f}  {row['p']:7.4f}  {row['bonferroni']:10.4f}  {row['benjamini_hochberg']:18.4f}  "
        + " ".join(dict.fromkeys((row["feature"], row["name"])))
        for row in (found["features"] or [])[:SHOWN]
    ]
    return [*([heading] if rows else []), *rows, *found["sentences"], *(f"note: {told}" for told in found["remarks"])]
