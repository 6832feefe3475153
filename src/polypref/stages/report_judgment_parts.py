"""The report's sections on judgments: win rates, heads to head, ratings, verdicts, agreement of judges."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from polypref.maths.stats import Estimate
from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_judgment_figures import (
    MEAN,
    Block,
    Board,
    Rate,
    by_language,
    cell,
    dot,
    overall,
    place,
    rate,
    rating,
)
from polypref.stages.report_section import Part, alt

EVEN = 0.5
MOST = 48
"""Points of one chart that can still be told apart."""
RAW, CONTROLLED = "win_rate", "length_controlled_win_rate"
KINDS = {RAW: "Win rate", CONTROLLED: "Length-controlled win rate"}
VERDICTS = {
    "flip_rate": "orders contradict each other",
    "tie_rate": "tie",
    "one_order_rate": "one order could not be read",
    "no_verdict_rate": "no verdict",
}
PAIRED = {"raw": "Same verdict, %", "kappa": "Cohen's κ"}
ALPHAS = ("nominal", "ordinal", "interval")


def win_rates(boards: Sequence[Board], baselines: Sequence[str], draw: bool) -> Part:
    """A board a judge: each model overall and by language, raw and length-controlled."""
    held = "whatever it met" if len(baselines) > 1 else tables.name_of(baselines[0]) if baselines else "the baseline"
    part = Part(
        "win-rates",
        "Win rates",
        f"How often a model's answer is judged better than that of {held}, a tie counting half, with 95% intervals "
        "clustered by prompt; the dashed line at 50% is even. The mean weighs all languages alike. Length-controlled: "
        "what the rate would be if both answers were of one length.",
    )
    order = boards[0].ranked()
    every = tables.order(model for board in boards for model in board.ranked(like=order))
    for board in boards:
        models, tags = board.ranked(like=order), board.languages
        judged = f", judged by {tables.name_of(board.judge)}" if len(boards) > 1 else ""
        part.grids.append(_standing(board, models, judged))
        if len(tags) > 1:
            grids = [_rates(board, models, tags, metric, f"{words}, %{judged}") for metric, words in KINDS.items()]
            part.grids.extend(grids)
            if draw:
                caption, said = f"By language{judged}", alt(part.title, grids[:1])
                part.charts.extend(_by_language(board, models, tags, caption, said, every))
        if draw and (svg := _raw_and_controlled(board, models, alt(part.title, part.grids[-1:]))):
            part.charts.append((f"Raw and length-controlled{judged}", svg))
    return part


def _standing(board: Board, models: Sequence[str], judged: str) -> tables.Grid:
    """The models, best first: both rates, what was won, tied and lost, and how long the answers are."""
    header = ["", "win rate, %", "length-controlled, %", "wins", "ties", "losses", "mean length", "prompts"]
    fewer = fewer_languages(board)
    note = " ".join(["Counts are over all languages; length is in characters.", *means_over(fewer)])
    grid = tables.Grid(f"Standing{judged}", header, note=note)
    for model in models:
        block = board.models[model]
        counts = (_count(block, name) for name in ("wins", "ties", "losses", "model_length", "prompts"))
        rates = (marked(cell(overall(block, metric)), model in fewer) for metric in KINDS)
        grid.rows.append([tables.Cell(tables.name_of(model)), *rates, *counts])
    return grid


def fewer_languages(board: Board) -> dict[str, list[str]]:
    """The models that were not judged in all languages of a board, with those in which they were."""
    judged = {
        name: [tag for tag, of in by_language(block).items() if rate(of, RAW)] for name, block in board.models.items()
    }
    most = {tag for tags in judged.values() for tag in tags}
    return {name: tags for name, tags in judged.items() if len(tags) < len(most)}


def means_over(fewer: Mapping[str, Sequence[str]]) -> list[str]:
    """What the means of models with fewer languages are over."""
    return [f"* {tables.name_of(name)}: the mean over {', '.join(tags)} alone." for name, tags in fewer.items()]


def marked(one: tables.Cell, fewer: bool) -> tables.Cell:
    """A mean with the mark of one over fewer languages."""
    return tables.Cell(f"{one.text}*") if fewer and one.text != tables.NOTHING else one


def _count(block: Block, name: str) -> tables.Cell:
    found = block.get(name)
    return tables.Cell(tables.NOTHING if found is None else f"{found:,.0f}")


def _rates(board: Board, models: Sequence[str], tags: Sequence[str], metric: str, title: str) -> tables.Grid:
    places = (MEAN, *tags)
    fewer = fewer_languages(board)
    grid = tables.Grid(title, ["", *map(place, places)], note=" ".join(means_over(fewer)))
    for model in models:
        at = ((tag, cell(_at(board.models[model], tag, metric))) for tag in places)
        cells = (marked(one, tag == MEAN and model in fewer) for tag, one in at)
        grid.rows.append([tables.Cell(tables.name_of(model)), *cells])
    return grid


def _at(block: Block, tag: str, metric: str) -> Rate | None:
    return overall(block, metric) if tag == MEAN else rate(by_language(block).get(tag, {}), metric)


def _by_language(
    board: Board, models: Sequence[str], tags: Sequence[str], caption: str, said: str, every: Sequence[str]
) -> list[tuple[str, str]]:
    """Dots with intervals, or a map where there would be too many. A model has the colour of its place in ``every``, by
    whichever judge."""
    found = {
        (tables.name_of(model), place(tag)): one
        for tag in (MEAN, *tags)
        for model in models
        if (one := _at(board.models[model], tag, RAW)) is not None
    }
    if len(found) > MOST:
        rows, columns = [tables.name_of(model) for model in models], [place(tag) for tag in (MEAN, *tags)]
        return [(f"{caption}; in a dashed frame the interval reaches 50%", _map(found, rows, columns, said))]
    dots = [dot(tag, model, one) for (model, tag), one in found.items()]
    colours = dict(zip(map(tables.name_of, every), itertools.cycle(charts.COLOURS[1:]), strict=False))
    series = tables.order(one.series for one in dots)
    return [(caption, _drawn(dots, said, [colours[name] for name in series]))] if dots else []


def _raw_and_controlled(board: Board, models: Sequence[str], said: str) -> str | None:
    dots = [
        dot(tables.name_of(model), words, one)
        for model in models
        for metric, words in ((RAW, "raw"), (CONTROLLED, "length-controlled"))
        if (one := overall(board.models[model], metric)) is not None
    ]
    return _drawn(dots, said, charts.COLOURS[3:]) if dots else None


def _drawn(dots: Sequence[charts.Dot], said: str, colours: Sequence[str]) -> str:
    return charts.dots(dots, y="win rate", rule=EVEN, percent=True, colours=colours, alt=said)


def _map(found: Mapping[tuple[str, str], Rate], rows: Sequence[str], columns: Sequence[str], said: str) -> str:
    """(row, column) → win rate, as tiles around an even one; framed where the interval reaches it."""
    tiles = [
        charts.Tile(row, column, one.value, tables.number(one.value, True), "" if one.side else "dashed")
        for (row, column), one in found.items()
    ]
    return charts.heat_map(tiles, alt=said, rows=rows, columns=columns, middle=(EVEN, "50%"))


def head_to_head(figures: Mapping[str, Any], draw: bool) -> Part:
    """Every model against every other that it met, where there are several baselines."""
    part = Part(
        "head-to-head",
        "Head to head",
        "How often the model of the row is judged better than that of the column, ties counting half, over all "
        "languages and judges. In a dashed frame the 95% interval reaches 50%.",
    )
    met: dict[tuple[str, str], Rate] = {}
    for model, others in (figures["win_rates"].get("head_to_head") or {}).items():
        for other, block in others.items():
            if (found := rate(block, RAW)) is not None:
                met[model, other] = found
                met.setdefault((other, model), found.turned())
    if met:
        names = _by_strength(met)
        grid = tables.Grid("Win rate of the row against the column, %", ["", *map(tables.name_of, names)])
        for name in names:
            grid.rows.append([tables.Cell(tables.name_of(name)), *(cell(met.get((name, other))) for other in names)])
        part.grids.append(grid)
        if draw:
            tiles = {(tables.name_of(one), tables.name_of(other)): found for (one, other), found in met.items()}
            shown = grid.header[1:]
            part.charts.append(("", _map(tiles, shown, shown, alt(part.title, [grid]))))
    return part


def _by_strength(met: Mapping[tuple[str, str], Rate]) -> list[str]:
    shares: dict[str, list[float]] = {}
    for (name, _), found in met.items():
        shares.setdefault(name, []).append(found.value)
    return sorted(shares, key=lambda name: -sum(shares[name]) / len(shares[name]))


def ratings(found: Mapping[str, Any] | None, draw: bool) -> Part:
    """Bradley–Terry with intervals, and Elo beside it."""
    part = Part(
        "ratings",
        "Ratings",
        "400 points are odds of ten to one. Bradley–Terry is the maximum likelihood over all comparisons, a tie "
        "counting half; Elo is the mean over orders of the same comparisons. 95% intervals are a bootstrap over "
        "prompts.",
    )
    if not found:
        return part
    languages, mean = found.get("by_language") or {}, found.get("macro_average") or found
    models = found["models"]
    columns = {MEAN: mean} | languages if languages else {"Bradley–Terry": mean}
    grid = tables.Grid("Bradley–Terry", ["", *(_column(name) for name in columns), "Elo"])
    elo = mean.get("elo") or {}
    for model in models:
        strengths = (rating((block.get("bradley_terry") or {}).get(model)) for block in columns.values())
        cells = (cell(one, share=False, places=0) for one in (*strengths, rating(elo.get(model))))
        grid.rows.append([tables.Cell(tables.name_of(model)), *cells])
    part.grids.append(
        tables.Grid(grid.title, grid.header, grid.rows, "Elo is the mean over languages." * bool(languages))
    )
    if draw:
        dots = [
            dot(tables.name_of(model), words, one)
            for model in models
            for words, kind in (("Bradley–Terry", "bradley_terry"), ("Elo", "elo"))
            if (one := rating((mean.get(kind) or {}).get(model))) is not None
        ]
        if dots:
            svg = charts.dots(dots, y="rating", colours=charts.COLOURS[2:], alt=alt(part.title, [grid]))
            part.charts.append(("", svg))
    return part


def _column(name: str) -> str:
    return name if name in (MEAN, "Bradley–Terry") else tables.language_name(name)


def verdicts(boards: Sequence[Board], draw: bool) -> Part:
    """How often a judge contradicts itself, ties, or gives no verdict, by language."""
    part = Part(
        "verdicts",
        "Can the judge be trusted?",
        "A judge of pairs is asked in both orders, and the mean counts. One whose verdict changes with the order looks "
        "at the place and not at the answer. Contradictions are a share of the comparisons in which both orders were "
        "read; ties and verdicts from one order, of those with a verdict.",
    )
    for board in boards:
        languages = by_language(board.whole)
        columns = {tables.language_name(tag): block for tag, block in languages.items()}
        if len(columns) != 1:
            columns = {"all": board.whole} | columns
        grid = tables.Grid(f"{tables.name_of(board.judge)}, %", ["", *columns])
        dots = []
        for metric, words in VERDICTS.items():
            found = {name: rate(block, metric) for name, block in columns.items()}
            if any(found.values()):
                grid.rows.append([tables.Cell(words), *map(cell, found.values())])
            dots += [dot(name, words, one) for name, one in found.items() if one]
        if grid.rows:
            part.grids.append(grid)
        if draw and dots:
            caption = f"Judge {tables.name_of(board.judge)}" if len(boards) > 1 else ""
            top = max(one.high if one.high is not None else one.value for one in dots)
            svg = charts.dots(
                dots, y="share of comparisons", percent=True, domain=(0.0, max(0.1, top)), alt=alt(part.title, [grid])
            )
            part.charts.append((caption, svg))
    return part


def agreement(found: Mapping[str, Any] | None, draw: bool) -> Part:
    """Every two judges on what they share, and all of them together."""
    part = Part(
        "agreement",
        "Do the judges agree?",
        "On the comparisons that they share: win, tie or loss. Cohen's κ and Krippendorff's α are 1 for full agreement "
        "and 0 for what chance would give. Krippendorff draws no conclusion from data below α = 0.667, and only "
        "tentative ones below 0.8.",
    )
    if not found:
        return part
    blocks = dict(found.get("by_language") or {})
    columns = {"all": found} | {tables.language_name(tag): block for tag, block in blocks.items()}
    alphas = tables.Grid("Krippendorff's α, all judges", ["", *columns])
    for kind in ALPHAS:
        told = (_alpha((block.get("alpha") or {}).get(kind)) for block in columns.values())
        alphas.rows.append([tables.Cell(kind), *(cell(one, share=False, places=2) for one in told)])
    part.grids.append(alphas)
    for metric, title in PAIRED.items():
        grid = tables.Grid(title, ["", *columns])
        for judges in (pair["judges"] for pair in found["pairs"]):
            cells = (_pair_cell(_pair(block, judges), metric) for block in columns.values())
            grid.rows.append([tables.Cell(" and ".join(map(tables.name_of, judges))), *cells])
        part.grids.append(grid)
        if draw and len(found["judges"]) > 2 and (svg := _matrix(found, metric, alt(title, [grid]))):
            part.charts.append((title, svg))
    rows = [pair for pair in found["pairs"] if pair.get("spearman") is not None]
    if rows:
        grid = tables.Grid("Spearman's ρ of the models' win rates", ["", "ρ", "models"])
        for pair in rows:
            name, rho = " and ".join(map(tables.name_of, pair["judges"])), tables.number(pair["spearman"], places=2)
            grid.rows.append([tables.Cell(name), tables.Cell(rho), tables.Cell(str(pair["spearman_n"]))])
        part.grids.append(grid)
    return part


def _alpha(found: Mapping[str, Any] | None) -> Rate | None:
    return (
        Rate(found["value"], found.get("low"), found.get("high")) if found and found.get("value") is not None else None
    )


def _pair(block: Mapping[str, Any], judges: Sequence[str]) -> Mapping[str, Any]:
    return next((pair for pair in block.get("pairs") or () if list(pair["judges"]) == list(judges)), {})


def _pair_cell(pair: Mapping[str, Any], metric: str) -> tables.Cell:
    if pair.get(metric) is None:
        return tables.Cell(tables.NOTHING)
    found = Estimate(pair[metric], pair.get(f"{metric}_stderr"), pair["prompts"])
    return tables.cell_of(found, share=metric == "raw", places=_places(metric))


def _places(metric: str) -> int:
    return 1 if metric == "raw" else 2


def _matrix(found: Mapping[str, Any], metric: str, said: str) -> str | None:
    """Judges against judges; what a judge says of itself is left blank."""
    tiles = [
        charts.Tile(
            tables.name_of(one),
            tables.name_of(other),
            pair[metric],
            tables.number(pair[metric], share=metric == "raw", places=_places(metric)),
        )
        for pair in found["pairs"]
        if pair.get(metric) is not None
        for one, other in (pair["judges"], reversed(pair["judges"]))
    ]
    names = [tables.name_of(judge) for judge in found["judges"]]
    return charts.heat_map(tiles, alt=said, rows=names, columns=names) if tiles else None
