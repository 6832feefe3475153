"""A folder of MT-Bench: answers that are drawn once, grades that are asked for once, and what they come to.

DIR/answers/<model>/<lang>.jsonl   the answers that were drawn here, in FastChat's layout
    answers.journal.jsonl          what the models said, so that nothing is drawn twice
    <judge>.journal.jsonl          what a judge said, so that nothing is asked twice
    grades.jsonl                   every number, with the judge's words
    figures.json                   scores by judge, model and language (docs/mt-bench.md), and head to head
    results.json                   model → language → metric, as every run writes it
    judgments.jsonl, report.html   the models against a baseline, where there are two of them
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polypref import registry
from polypref.backends.base import Context, ScorerSpec
from polypref.comparing import FIGURES, JUDGMENTS, PAGE, RESULTS, check, check_models, journal_path, standing_results
from polypref.errors import InputError, ModelError, RecipeError
from polypref.maths.stats import Estimate
from polypref.stages import evaluate as evaluating
from polypref.stages import mt_bench_answers, mt_bench_grades
from polypref.stages.judgment_figures import figures as figures_of
from polypref.stages.judgment_losses import Row, by_language, counted, left_out, what_to_do
from polypref.stages.judgments import Judgment, write_judgments
from polypref.stages.mt_bench import Answers, Question, read_answers, write_answers
from polypref.stages.mt_bench_answers import AnswerOptions
from polypref.stages.mt_bench_grades import METRIC, Grade, Graded, GradeOptions
from polypref.stages.report_judgments import About, write_judgments_page
from polypref.store.atomic import digest, write_json
from polypref.store.journal import Journal
from polypref.store.jsonl import read_lines
from polypref.store.lock import locked
from polypref.store.manifest import versions

VERSION: int = 2
"""Of what is written beside the grades: raised when it changes, so that a folder is written anew."""
ANSWERS, GRADES = "answers.journal.jsonl", "grades.jsonl"


@dataclass(frozen=True)
class Bench:
    """What is to be done: the questions, the answers that are there, the models that are to answer, and the judges,
    the first of whom names the plain metrics. Two models or more are also held against ``baseline``."""

    questions: Sequence[Question]
    given: Mapping[str, Answers]
    drawn: Mapping[str, AnswerOptions]
    judges: Mapping[str, ScorerSpec]
    baseline: str | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Their names, those whose answers are given first."""
        return (*self.given, *self.drawn)

    def options(self, judge: str) -> GradeOptions:
        """How a judge grades."""
        return GradeOptions(name=judge, judge=self.judges[judge])


@dataclass(frozen=True)
class Benched:
    """What came of it: the grades, the objects of figures.json and results.json, and what each judge took."""

    grades: Sequence[Grade]
    figures: Mapping[str, Any]
    results: Mapping[str, Any]
    spent: Mapping[str, Mapping[str, Any]]


def plans(bench: Bench, out: Path, context: Context) -> dict[str, Any]:
    """What ``mt_bench`` would draw and ask; nobody is asked, and nothing is written. Answers that are not drawn yet
    count as turns to grade, their tokens are not known."""
    _check(bench)
    known = {model: dict(answers) for model, answers in bench.given.items()}
    told: dict[str, Any] = {"turns_to_answer": {}, "judges": {}}
    with _standing_journal(out / ANSWERS, context) as journal:
        for model, options in bench.drawn.items():
            turns = mt_bench_answers.unanswered(bench.questions, options, registry.fingerprint, journal)
            told["turns_to_answer"][model] = turns
            known[model] = _read_drawn(out, model, bench.questions)
    for judge in bench.judges:
        with _standing_journal(journal_path(out, judge), context) as journal:
            total: Counter[str] = Counter()
            for answers in known.values():
                total.update(
                    asdict(mt_bench_grades.plan(bench.questions, answers, bench.options(judge), context, journal))
                )
            told["judges"][judge] = dict(total)
    return told


def mt_bench(bench: Bench, out: Path, context: Context, *, config: Mapping[str, Any]) -> Benched:
    """Draw the answers that are missing, have all of them graded by every judge, and write the folder.

    What was said before is not asked again; a failed answer, and a grade that failed on its way, is.

    Raises:
        UserError: the folder holds something else, another process writes it, or a judge gave no number at all.
    """
    _check(bench)
    with locked(out, context.warn):
        standing = standing_results(out, ("benchmark", METRIC), "MT-Bench")
        answers = dict(bench.given)
        for model, options in bench.drawn.items():
            answers[model] = _drawn(bench.questions, options, out, context)
        if bench.drawn:
            context.release()
        grades: list[Grade] = []
        spent: dict[str, Mapping[str, Any]] = {}
        for judge in bench.judges:
            found, spent[judge] = _graded(bench, judge, answers, out, context)
            grades += found
        results = _results(bench, grades, config)
        whole = all((out / name).exists() for name in (GRADES, FIGURES, PAGE))
        if standing is not None and standing.get("key") == results["key"] and whole:
            return Benched(grades, json.loads((out / FIGURES).read_text(encoding="utf-8")), standing, spent)
        if standing is not None:
            _tell_what_is_left_out(out / GRADES, grades, context)
        mt_bench_grades.write_grades(out / GRADES, grades)
        judgments = _held_against(bench, grades)
        figures = {METRIC: _figures(bench, grades), "head_to_head": figures_of(judgments) if judgments else None}
        write_judgments(out / JUDGMENTS, judgments)
        write_json(out / FIGURES, figures)
        _page(bench, judgments, figures, results, config, out / PAGE)
        write_json(out / RESULTS, results)
        return Benched(grades, figures, results, spent)


def _tell_what_is_left_out(path: Path, grades: Sequence[Grade], context: Context) -> None:
    """Say what a file of grades is about to lose to fewer judges, models, languages or questions."""
    try:
        before: list[Any] = [row for _, row in read_lines(path)]
    except InputError:  # a file that is gone or cannot be read has nothing to lose
        return
    old: list[Row] = [(r["judge"], r["model"], r["language"], (r["id"], r["turn"])) for r in before]
    new: list[Row] = [(one.judge, one.model, one.language, (one.id, one.turn)) for one in grades]
    if told := left_out(path.name, old, new, "grade"):
        context.warn(told)


def _check(bench: Bench) -> None:
    check(bench.judges)
    for judge, spec in bench.judges.items():
        if spec.scorer in registry.COMPARERS:
            raise RecipeError(f"the judge {judge} is a {spec.scorer}, which compares pairs; MT-Bench needs a judge")
    for model in bench.drawn:
        if not re.fullmatch(r"\w[\w.-]*", model):
            raise RecipeError(
                f"a model is called {model!r}; its folder is called so too: write letters, digits, - and _"
            )
    if bench.baseline is not None and bench.baseline not in bench.models:
        raise RecipeError(f"the baseline {bench.baseline} is none of the models {', '.join(bench.models)}")
    check_models(bench.judges)


@contextlib.contextmanager
def _standing_journal(path: Path, context: Context) -> Iterator[Journal | None]:
    """A journal that is there; None where there is none, since nothing is to be written."""
    if not path.exists():
        yield None
        return
    with Journal(path, context.warn) as journal:
        yield journal


def _drawn(questions: Sequence[Question], options: AnswerOptions, out: Path, context: Context) -> Answers:
    with Journal(out / ANSWERS, context.warn) as journal:
        found = list(mt_bench_answers.answered(questions, options, context, journal))
        failed = {(one.id, one.language): one for one in found if one.error is not None}
        lost = [question for question in questions if (question.id, question.language) in failed]
        again = sum(
            mt_bench_answers.unanswered([question], options, registry.fingerprint, journal) > 0 for question in lost
        )
    for lang in dict.fromkeys(one.language for one in found):
        write_answers(_answer_file(out, options.name, lang), [one for one in found if one.language == lang])
    if failed:
        first = next(iter(failed.values()))
        context.warn(
            f"{options.name}: {len(failed)} of {counted(len(found), 'question')} have no whole answer (first: "
            f"{first.error}); {what_to_do(again, len(failed) - again, 'max_tokens')}"
        )
    return {(one.id, one.language): one for one in found}


def _answer_file(out: Path, model: str, lang: str) -> Path:
    return out / "answers" / model / f"{lang}.jsonl"


def _read_drawn(out: Path, model: str, questions: Sequence[Question]) -> Answers:
    """The answers that stand in the folder; none where nothing was drawn."""
    langs = dict.fromkeys(question.language for question in questions)
    files = {lang: _answer_file(out, model, lang) for lang in langs}
    found: Answers = {}
    for lang, file in files.items():
        if file.exists():
            found |= read_answers(str(file), model, [q for q in questions if q.language == lang])
    return found


def _graded(
    bench: Bench, judge: str, answers: Mapping[str, Answers], out: Path, context: Context
) -> tuple[list[Grade], Mapping[str, Any]]:
    """One judge's grades of every model, and what they took."""
    spent, options = Graded(), bench.options(judge)
    with Journal(journal_path(out, judge), context.warn) as journal:
        found = [
            one
            for given in answers.values()
            for one in mt_bench_grades.grade(bench.questions, given, options, context, journal, spent)
        ]
        again = _asked_again(bench, judge, answers, context, journal)
    reasons = Counter(str(one.error) for one in found if one.value is None)
    if found and sum(reasons.values()) == len(found):
        raise ModelError(
            f"{judge} gave none of {len(found)} answers a number (first: {next(iter(reasons))}); mend that"
        )
    if reasons:
        [(reason, _)] = reasons.most_common(1)
        lost = sum(reasons.values())
        again = lost if again is None else min(again, lost)
        context.warn(
            f"{judge}: {lost} of {counted(len(found), 'answer')} have no number (most often: {reason}); "
            + what_to_do(again, lost - again, "prompt or max_tokens")
        )
    told = {"answers": spent.answers, "no_verdict": spent.no_verdict}
    tokens = {"tokens_asked": spent.usage.asked, "tokens_answered": spent.usage.answered}
    price = options.judge.model.price if options.judge.model else None
    cost = None if price is None else (price[0] * spent.usage.asked + price[1] * spent.usage.answered) / 1e6
    return found, {**told, **tokens, "cost": cost}


def _asked_again(
    bench: Bench, judge: str, answers: Mapping[str, Answers], context: Context, journal: Journal
) -> int | None:
    """How many answers the same command shows a judge again; None of a scorer, which is shown all without a number."""
    options = bench.options(judge)
    if options.judge.scorer != mt_bench_grades.JUDGE:
        return None
    plans = (mt_bench_grades.plan(bench.questions, given, options, context, journal) for given in answers.values())
    return sum(plan.requests for plan in plans)


def _results(bench: Bench, grades: Sequence[Grade], config: Mapping[str, Any]) -> dict[str, Any]:
    """The object of results.json."""
    first = next(iter(bench.judges))
    by_model, macro = {}, {}
    for model in bench.models:
        found = mt_bench_grades.evaluation([one for one in grades if one.model == model], first)
        by_model[model] = found.figures()
        if len(by_model[model]) > 1:
            macro[model] = {
                name: value
                for metric in found.values
                for name, value in evaluating.figure(metric, found.mean(metric)).items()
            } | {"languages": list(by_model[model])}
    judges = {name: spec.model_dump(exclude_defaults=True) for name, spec in bench.judges.items()}
    told = {name: f"{spec['scorer']}({(spec.get('model') or {}).get('path', '')})" for name, spec in judges.items()}
    used = sorted({one.referenced for one in grades})
    now = versions()
    signature = evaluating.signature(
        {
            "judges": told,
            "prompt": mt_bench_grades.PROMPT,
            "reference_prompt": mt_bench_grades.REFERENCE_PROMPT if True in used else None,
            "questions": digest([asdict(question) for question in bench.questions])[:12],
        },
        now["polypref"],
    )
    lost = [one for one in grades if one.value is None]
    notes = [
        by_language(judge, (one.language for one in lost if one.judge == judge), "answer", "a number")
        for judge in dict.fromkeys(one.judge for one in lost)
    ]
    results = evaluating.results(
        by_model,
        config=config,
        versions=now,
        seed=config.get("seed", 0),
        signature=signature,
    )
    key = digest([VERSION, dict(config), now, judges, signature, [asdict(one) for one in grades]])
    more = {"macro_average": macro, "baseline": bench.baseline, "benchmark": METRIC, "judges": judges}
    return {**results, **more, "notes": notes, "key": key}


def _figures(bench: Bench, grades: Sequence[Grade]) -> dict[str, Any]:
    """Judge → model → language (and ``macro_average`` of several) → score, stderr, low, high, n, turns, categories."""
    out: dict[str, Any] = {}
    for judge in bench.judges:
        for model in bench.models:
            mine = [one for one in grades if (one.judge, one.model) == (judge, model)]
            found = mt_bench_grades.evaluation(mine, judge)
            langs = sorted(found.values.get(METRIC, {}))
            blocks = {lang: _block(found, mine, [lang], bench.judges[judge]) for lang in langs}
            if len(langs) > 1:
                blocks["macro_average"] = _block(found, mine, langs, bench.judges[judge])
            out.setdefault(judge, {})[model] = blocks
    return out


def _block(
    found: evaluating.Evaluation, grades: Sequence[Grade], langs: Sequence[str], judge: ScorerSpec
) -> dict[str, Any]:
    def told(metric: str) -> dict[str, Any] | None:
        there = [lang for lang in langs if found.values.get(metric, {}).get(lang)]
        return _shown(found.mean(metric, there), judge) if there else None

    turns = sorted({one.turn for one in grades})
    categories = sorted({one.category for one in grades})
    return {
        **(told(METRIC) or {}),
        "turns": {str(turn): told(f"{METRIC}_turn_{turn}") for turn in turns},
        "categories": {name: told(f"{METRIC}_{evaluating.category_name(name)}") for name in categories},
    }


def _shown(estimate: Estimate, judge: ScorerSpec) -> dict[str, Any]:
    low, high = mt_bench_grades.interval(estimate, judge) or (None, None)
    return {"score": estimate.value, "stderr": estimate.stderr, "low": low, "high": high, "n": estimate.n}


def _held_against(bench: Bench, grades: Sequence[Grade]) -> list[Judgment]:
    """Every model against the baseline; none where there is one model, or no two numbers of the same turn."""
    if len(bench.models) < 2:
        return []
    exact = [judge for judge, spec in bench.judges.items() if spec.scorer != mt_bench_grades.JUDGE]
    found = mt_bench_grades.head_to_head(grades, bench.questions, bench.baseline or bench.models[0], exact)
    return found if any(judgment.preference is not None for judgment in found) else []


def _page(
    bench: Bench,
    judgments: Sequence[Judgment],
    figures: Mapping[str, Any],
    results: Mapping[str, Any],
    config: Mapping[str, Any],
    path: Path,
) -> None:
    """The scores, and the models against the baseline where there are two of them."""
    baseline = bench.baseline or bench.models[0]
    against = f"A comparison is a question: a judge's numbers to {baseline}'s turns and to another model's."
    about = About(
        config["name"],
        results["date"],
        results["signature"],
        notes=[*([against] if judgments else []), *results["notes"]],
        settings=config,
        versions=results["versions"],
    )
    write_judgments_page(path, judgments, figures["head_to_head"] or {}, about, figures[METRIC])
