"""A folder of judged comparisons: what is asked once stays, what is found is written, and all of it can be read again.

DIR/judgments.jsonl          every comparison with its verdict
    <judge>.journal.jsonl    what the judge was asked and said, so that nothing is asked twice
    figures.json             win rates, ratings and agreement, in percent (docs/win-rates.md)
    results.json             model → language → metric, as every run writes it
    report.html
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from polypref import registry
from polypref.backends.base import Context, ScorerSpec
from polypref.errors import InputError, ModelError, RecipeError, UserError
from polypref.records import last_user_text
from polypref.stages import evaluate as evaluating
from polypref.stages.comparison_results import ComparisonResults, results_of
from polypref.stages.judge_matches import JudgeOptions, Spent, judge_matches
from polypref.stages.judge_plan import Plan, plan
from polypref.stages.judgment_figures import figures as figures_of
from polypref.stages.judgment_losses import Row, asked_again, by_language, counted, left_out, what_to_do
from polypref.stages.judgments import Judgment, failed_of, read_judgments, write_judgments
from polypref.stages.matches import Match
from polypref.stages.ratings import RatingOptions
from polypref.stages.report_judgments import About, write_judgments_page
from polypref.store.atomic import digest, file_digest, write_json
from polypref.store.journal import Journal
from polypref.store.lock import locked
from polypref.store.manifest import versions

JUDGMENTS, FIGURES, RESULTS, PAGE = "judgments.jsonl", "figures.json", "results.json", "report.html"
KIND = "comparison"
"""By which a folder's results are known for those of comparisons."""
VERSION: int = 2
"""Of what is written beside the judgments: raised when it changes, so that a folder is written anew."""

Place: TypeAlias = tuple[str, str, str, str, int]
"""(prompt's id, language, model, baseline, sample)."""

LOADED = ("hf", "vllm")
"""The backends whose models are folders or on the hub."""

Shown: TypeAlias = Callable[[str, Spent], None]
"""``shown(judge, spent)``."""


@dataclass(frozen=True)
class Compared:
    """What a comparison found. ``figures`` are those of figures.json, ``results`` the object of results.json;
    ``spent`` is what each judge took this time."""

    judgments: Sequence[Judgment]
    figures: Mapping[str, Any]
    results: Mapping[str, Any]
    spent: Mapping[str, Mapping[str, Any]]


def journal_path(out: Path, judge: str) -> Path:
    """Where a judge's answers are kept."""
    return out / f"{judge}.journal.jsonl"


def plans(
    matches: Sequence[Match], judges: Mapping[str, ScorerSpec], out: Path, context: Context
) -> Iterator[tuple[str, Plan]]:
    """What ``compare`` would ask, judge by judge; nobody is asked, and nothing is written."""
    check(judges)
    check_models(judges)
    for name, spec in judges.items():
        with contextlib.ExitStack() as stack:
            path = journal_path(out, name)
            recall = stack.enter_context(Journal(path, context.warn)) if path.exists() else None
            yield name, plan(matches, JudgeOptions(name=name, judge=spec), context, recall)


def compare(
    matches: Sequence[Match],
    judges: Mapping[str, ScorerSpec],
    out: Path,
    context: Context,
    *,
    baseline: str | None,
    config: Mapping[str, Any],
    shown: Shown = lambda judge, spent: None,
) -> Compared:
    """Have every match judged by every judge, and write the folder.

    What a judge has said before is not asked again, nor is a scorer opened for answers that it has scored. A comparison
    without a verdict is asked anew by the next call.

    Args:
        baseline: whom all are held against; None where every two meet.
        config: what the comparison is, for results.json; ``name`` is the page's title.
        shown: is told of every verdict as it comes, with the judge and its account.

    Raises:
        UserError: the folder holds something else, another process writes it, a judge's model is not there, or a judge
            gave no verdict at all.
    """
    check(judges)
    check_models(judges)
    with locked(out, context.warn):
        standing = standing_results(out, ("kind", KIND), "comparisons")
        told: dict[str, Any] = {}
        spent: dict[str, Mapping[str, Any]] = {}
        judgments: list[Judgment] = []
        for name, spec in judges.items():
            scorer = _key(matches, spec)
            known = _known(out, standing, name, scorer) if scorer else {}
            options = JudgeOptions(name=name, judge=spec)
            found, spent[name] = _judged(matches, options, known, out, context, functools.partial(shown, name))
            told[name] = {"spec": spec.model_dump(exclude_defaults=True), "key": scorer}
            judgments += found
        if standing is not None:
            _tell_what_is_left_out(out / JUDGMENTS, judgments, context)
        write_judgments(out / JUDGMENTS, judgments)
        key = digest([VERSION, dict(config), versions(), told, file_digest(out / JUDGMENTS)])
        whole = all((out / name).exists() for name in (FIGURES, PAGE))
        if standing is not None and standing.get("key") == key and whole:
            return Compared(judgments, json.loads((out / FIGURES).read_text(encoding="utf-8")), standing, spent)
        results = {**_results(judgments, baseline, config, told), "key": key}
        options = RatingOptions(anchor=baseline, seed=config.get("seed", 0))
        figures = figures_of(judgments, options, both_sides=True if baseline is None else None)
        write_json(out / FIGURES, figures)
        about = About(
            config["name"],
            results["date"],
            results["signature"],
            notes=results["notes"],
            settings=config,
            versions=results["versions"],
        )
        write_judgments_page(out / PAGE, judgments, figures, about)
        write_json(out / RESULTS, results)
        return Compared(judgments, figures, results, spent)


def check(judges: Mapping[str, ScorerSpec]) -> None:
    """Refuse a judge that no file can be called like, or whose spec is wrong; opens nothing.

    Raises:
        RecipeError: as said.
    """
    for name, spec in judges.items():
        if not re.fullmatch(r"[\w.-]*\w", name) or name.startswith("."):
            raise RecipeError(f"a judge is called {name!r}; its file is called so too: write letters, digits, - and _")
        if wrong := registry.mistake_of(spec):
            raise RecipeError(f"the judge {name}: {wrong}")


def check_models(judges: Mapping[str, ScorerSpec]) -> None:
    """Refuse a judge whose model is not there, before another is paid for; asks no server.

    Raises:
        ModelError: a folder or the hub does not have it.
    """
    for name, spec in judges.items():
        for part in registry.NEEDS.get(spec.scorer, ()):
            model = getattr(spec, part)
            if model.backend in LOADED:
                try:
                    registry.fingerprint(model)
                except ModelError as error:
                    raise ModelError(f"the judge {name}: {error}") from None


def _judged(
    matches: Sequence[Match],
    options: JudgeOptions,
    known: Mapping[Place, Judgment],
    out: Path,
    context: Context,
    shown: Callable[[Spent], None],
) -> tuple[list[Judgment], dict[str, Any]]:
    """A judgment a match, and what those that were not known took."""
    told = {
        _place(match): _anew(known[_place(match)], match)
        for match in matches
        if _is_of(known.get(_place(match)), match)
    }
    missing = [match for match in matches if _place(match) not in told]
    spent = Spent()
    with contextlib.ExitStack() as stack:
        if missing:
            recall = None
            if options.judge.scorer in registry.COMPARERS:  # a scorer is asked nothing that would be kept
                recall = stack.enter_context(Journal(journal_path(out, options.name), context.warn))
            run = judge_matches(missing, options, context, recall, shown)
            told |= {_place(match): judgment for match, judgment in zip(missing, run, strict=True)}
            spent = run.spent
            if lost := [match for match in missing if told[_place(match)].preference is None]:
                again = asked_again(lost, options, context, recall)
                [(reason, _)] = Counter(str(told[_place(match)].error) for match in lost).most_common(1)
                context.warn(
                    f"{options.name}: {len(lost)} of {counted(len(matches), 'comparison')} without a verdict "
                    f"(most often: {reason}); {what_to_do(again, len(lost) - again, 'prompt, read or max_tokens')}"
                )
    found = [told[_place(match)] for match in matches]
    return found, spent.to_json()


def _tell_what_is_left_out(path: Path, judgments: Sequence[Judgment], context: Context) -> None:
    """Say what a file of judgments is about to lose to fewer judges, models, languages or prompts."""

    def rows(of: Sequence[Judgment]) -> list[Row]:
        return [(j.judge, j.model, j.language, (j.id, j.baseline, j.sample)) for j in of]

    with contextlib.suppress(InputError):  # a file that is gone or cannot be read has nothing to lose
        if told := left_out(path.name, rows(read_judgments(path)), rows(judgments), "comparison"):
            context.warn(told)


def _place(one: Match | Judgment) -> Place:
    return one.id, one.language, one.model, one.baseline, one.sample


def _is_of(judgment: Judgment | None, match: Match) -> bool:
    """Whether a judgment is of these very answers, and has a verdict."""
    return (
        judgment is not None
        and judgment.preference is not None
        and judgment.prompt == last_user_text(match.messages)
        and judgment.model_answer == match.model_answer
        and judgment.baseline_answer == match.baseline_answer
    )


def _anew(judgment: Judgment, match: Match) -> Judgment:
    """A judgment that was read, as it would be made of the match."""
    return dataclasses.replace(
        judgment,
        category=match.category,
        difficulty=match.difficulty,
        model_length=len(match.model_answer or ""),
        baseline_length=len(match.baseline_answer or ""),
        failed=failed_of(match.model_answer is None, match.baseline_answer is None),
    )


def _key(matches: Sequence[Match], spec: ScorerSpec) -> str | None:
    """What a scorer's verdict on two answers depends on beside them; None where only opening it would tell, and of a
    judge of pairs, which has its journal."""
    if spec.scorer in registry.COMPARERS or (version := registry.version_of(spec.scorer)) is None:
        return None
    beside = {  # what a scorer reads and a judgment does not hold: the right answer, and turns before the last
        f"{match.language}/{match.id}": [match.gold, match.messages]
        for match in matches
        if match.gold is not None or len(match.messages) > 1
    }
    return digest([version, spec.identity(registry.fingerprint), beside])


def _known(out: Path, standing: Mapping[str, Any] | None, judge: str, key: str) -> dict[Place, Judgment]:
    """What a scorer has said before; nothing where it was another scorer."""
    if standing is None or standing["judges"].get(judge, {}).get("key") != key:
        return {}
    return {_place(judgment): judgment for judgment in read_judgments(out / JUDGMENTS) if judgment.judge == judge}


def standing_results(out: Path, mark: tuple[str, str], what: str) -> dict[str, Any] | None:
    """The results that stand in a folder, None where there are none.

    Args:
        mark: a part of theirs and its value, by which they are known.

    Raises:
        UserError: it holds something else than ``what``.
    """
    try:
        found = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = None
    except (ValueError, RecursionError):
        raise InputError(f"{out / RESULTS} is not JSON; remove it, or name another folder with --out") from None
    if (out / "manifest.json").exists() or (found is not None and mark not in found.items()):
        raise UserError(f"{out} holds something else than {what}; name another folder with --out")
    return found


def _results(
    judgments: Sequence[Judgment], baseline: str | None, config: Mapping[str, Any], judges: Mapping[str, Any]
) -> dict[str, Any]:
    """The object of results.json."""
    found = results_of(judgments, baseline)
    now = versions()
    signature = evaluating.signature(_settings(found, baseline, judges), now["polypref"])
    lost = [j for j in judgments if j.preference is None]
    results = evaluating.results(
        found.by_model,
        config=config,
        versions=now,
        seed=config.get("seed", 0),
        signature=signature,
    )
    notes = [
        by_language(judge, (j.language for j in lost if j.judge == judge), "comparison", "a verdict")
        for judge in dict.fromkeys(j.judge for j in lost)
    ]
    macro = {
        model: {**figures, "languages": [lang for lang, of in found.by_model[model].items() if "win_rate" in of]}
        for model, figures in found.macro_average.items()
    }
    more = {"kind": KIND, "macro_average": macro, "baseline": baseline, "judges": dict(judges)}
    return {**results, **more, "notes": [*notes, *_warnings(found)]}


def _warnings(found: ComparisonResults) -> Iterator[str]:
    """What win rates say of themselves, each sentence once with all that it is true of."""
    places: dict[str, list[str]] = {}
    for judge, blocks in found.blocks.items():
        for model, block in blocks.items():
            for lang, part in ({"": block} | block.get("by_language", {})).items():
                if part["warning"]:
                    places.setdefault(part["warning"], []).append(" ".join(filter(None, (judge, model, lang))))
    for warning, where in places.items():
        yield f"{', '.join(where)}: {warning}"


def _settings(found: ComparisonResults, baseline: str | None, judges: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures depend on, for the signature."""
    told = {}
    for name, judge in judges.items():
        spec = judge["spec"]
        told[name] = f"{spec['scorer']}({spec['model']['path']})" if spec.get("model") else spec["scorer"]
    blocks = next(iter(found.blocks.values()))
    how = next(iter(blocks.values()))["signature"]
    return {"baseline": baseline or "every two", "judges": told, "win_rate": how}
