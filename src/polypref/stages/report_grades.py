"""The page's sections on numbers that judges give to single answers: by language, turn and category.

``scores`` is what figures.json of MT-Bench holds (docs/mt-bench.md): judge → model → language, or ``macro_average``, →
``{"score", "stderr", "low", "high", "n", "turns": {turn: the same}, "categories": {category: the same}}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from polypref.stages import report_charts as charts
from polypref.stages import report_tables as tables
from polypref.stages.report_judgment_figures import MEAN, Rate, cell, dot, place
from polypref.stages.report_judgment_parts import MOST, marked, means_over
from polypref.stages.report_section import Part, alt
from polypref.stages.report_words import Finding

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]


def grades(scores: Scores, draw: bool = True) -> list[Part]:
    """The sections: scores by language, by turn, by category."""
    parts = (_languages(scores, draw), _turns(scores), _categories(scores, draw))
    return [part for part in parts if part.grids]


def graded(scores: Scores) -> Finding:
    """The models in one sentence, by the first judge."""
    judge, by_model = next(iter(scores.items()))
    found = {model: one for model in _ranked(by_model) if (one := _score(_whole(by_model[model])))}
    judged = f", judged by {tables.name_of(judge)}"
    if not found:
        return Finding("watch", f"No answer has a number{judged}.")
    tags = tables.order(tag for blocks in by_model.values() for tag in _languages_of(blocks))
    over = f" in the mean over {len(tags)} languages" if len(tags) > 1 else f" in {tables.language_name(tags[0])}"
    (best, first), *others = (
        (tables.name_of(model), cell(one, share=False, places=2).text.replace(tables.NBSP, " "))
        for model, one in found.items()
    )
    if not others:
        return Finding("plain", f"{best} scores {first}{over}{judged}.")
    then = ", ".join(f"{model} {score}" for model, score in others)
    return Finding("plain", f"{best} stands first with {first}, then {then}{over}{judged}.")


def _languages(scores: Scores, draw: bool) -> Part:
    part = Part(
        "scores",
        "Scores",
        "The mean number that a judge gives to the answers to a question, over questions, with its 95% interval, "
        "clustered by question. The mean weighs all languages alike.",
    )
    for judge, by_model in scores.items():
        tags = tables.order(tag for blocks in by_model.values() for tag in _languages_of(blocks))
        columns = [MEAN, *tags] if len(tags) > 1 else tags
        found = {
            model: {
                tag: _score(_whole(by_model[model]) if tag == MEAN else by_model[model].get(tag)) for tag in columns
            }
            for model in _ranked(by_model)
        }
        spoken = {model: [tag for tag in tags if by[tag]] for model, by in found.items()}
        fewer = {model: own for model, own in spoken.items() if len(own) < len(tags)}
        grid = _grid(_title("Score", judge, scores), {place(tag): tag for tag in columns}, found, fewer)
        part.grids.append(grid)
        dots = [
            dot(place(tag), tables.name_of(model), one)
            for tag in columns
            for model, by in found.items()
            if (one := by[tag])
        ]
        if draw and 0 < len(dots) <= MOST:
            svg = charts.dots(dots, y="score", colours=charts.COLOURS[1:], alt=alt(part.title, [grid]))
            part.charts.append((f"Judged by {tables.name_of(judge)}" if len(scores) > 1 else "", svg))
    return part


def _turns(scores: Scores) -> Part:
    part = Part(
        "turns", "By turn", "Each turn by itself: the second is asked after the model's own answer to the first."
    )
    return _by(part, scores, "turns", "turn ")


def _categories(scores: Scores, draw: bool) -> Part:
    part = Part("categories", "By category", "The mean over the questions of a category, in the mean over languages.")
    _by(part, scores, "categories", "")
    judge, by_model = next(iter(scores.items()))
    dots = [
        dot(tables.name_of(name), tables.name_of(model), one)
        for name in _names(by_model, "categories")
        for model in _ranked(by_model)
        if (one := _score((_whole(by_model[model]).get("categories") or {}).get(name)))
    ]
    if draw and 0 < len(dots) <= MOST:
        svg = charts.dots(dots, y="score", colours=charts.COLOURS[1:], alt=alt(part.title, part.grids[:1]))
        part.charts.append((f"Judged by {tables.name_of(judge)}" if len(scores) > 1 else "", svg))
    return part


def _by(part: Part, scores: Scores, what: str, before: str) -> Part:
    """A table a judge: a column a turn or category."""
    for judge, by_model in scores.items():
        names = _names(by_model, what)
        if names:
            found = {
                model: {name: _score((_whole(by_model[model]).get(what) or {}).get(name)) for name in names}
                for model in _ranked(by_model)
            }
            columns = {before + tables.name_of(name): name for name in names}
            part.grids.append(_grid(_title(part.title, judge, scores), columns, found))
    return part


def _grid(
    title: str,
    columns: Mapping[str, str],
    found: Mapping[str, Mapping[str, Rate | None]],
    fewer: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tables.Grid:
    """A row a model; the mean of one that answered in ``fewer`` languages is marked, and said below."""
    grid = tables.Grid(title, ["", *columns], note=" ".join(means_over(fewer)))
    for model, by in found.items():
        told = ((key, cell(by[key], share=False, places=2)) for key in columns.values())
        cells = (marked(one, key == MEAN and model in fewer) for key, one in told)
        grid.rows.append([tables.Cell(tables.name_of(model)), *cells])
    return grid


def _title(words: str, judge: str, scores: Scores) -> str:
    return words + (f", judged by {tables.name_of(judge)}" if len(scores) > 1 else "")


def _names(by_model: Mapping[str, Mapping[str, Any]], what: str) -> list[str]:
    return tables.order(name for blocks in by_model.values() for name in _whole(blocks).get(what) or {})


def _languages_of(blocks: Mapping[str, Any]) -> Sequence[str]:
    return [tag for tag in blocks if tag != "macro_average"]


def _whole(blocks: Mapping[str, Any]) -> Mapping[str, Any]:
    """The macro-average, or the only language."""
    found: Mapping[str, Any] = blocks.get("macro_average") or next(iter(blocks.values()), {})
    return found


def _ranked(by_model: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The models, best first; those without a number last."""

    def rank(model: str) -> tuple[bool, float]:
        found = _whole(by_model[model]).get("score")
        return found is None, -(found or 0.0)

    return sorted(by_model, key=rank)


def _score(block: Mapping[str, Any] | None) -> Rate | None:
    if not block or block.get("score") is None:
        return None
    return Rate(block["score"], block.get("low"), block.get("high"))
