"""Single-answer grading of MT-Bench: a number for the answer of every turn, and the figures that they make.

The judge of a turn sees the turns before it with the model's own answers. For mathematics, code and reasoning it also
sees the reference of each turn, as a text of its own in the conversation. Means and standard errors are over
questions: a question's turns, and its languages, are not independent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from pydantic import Field

from polypref.backends.asking import key_of
from polypref.backends.base import Context, Judged, Options, Recall, Scorer, ScorerSpec, Usage, batches
from polypref.backends.judging import NumberSettings, settings_of
from polypref.errors import InputError
from polypref.maths.stats import Estimate
from polypref.records import Message, dumps
from polypref.stages.evaluate import Evaluation, category_name
from polypref.stages.judge_plan import estimate
from polypref.stages.judgments import Judgment, failed_of
from polypref.stages.mt_bench import REFERENCED, Answered, Answers, Question
from polypref.store.atomic import digest, replacing

PROMPT: Final = "mt-bench-1"
REFERENCE_PROMPT: Final = "mt-bench-reference-1"
JUDGE: Final = "judge"
REFERENCE_ROLE: Final = "developer"
"""Who speaks a reference: a role that a judge's marks tell apart, and that no turn of MT-Bench has."""
METRIC: Final = "mt_bench"
TIE: Final = 0.1
"""Two numbers that differ by no more are a tie, as in FastChat's head-to-head results of single-answer grading."""


class GradeOptions(Options):
    """Who grades, and by which prompts. A prompt that the judge's own settings name is asked where no reference is
    shown."""

    BESIDE = frozenset({"chunk"})

    name: str = Field(min_length=1, description="of the judge in grades and figures")
    judge: ScorerSpec = Field(description="a judge that gives a number, or any scorer in its place")
    reference_prompt: str = Field(REFERENCE_PROMPT, description="what a judge is asked where it is shown a reference")
    referenced: tuple[str, ...] = Field(REFERENCED, description="the categories whose references a judge is shown")
    chunk: int = Field(256, gt=0, description="answers that are graded at once")


@dataclass(frozen=True, slots=True)
class Grade:
    """One answer's number. ``value`` is None where the judge gave none, and ``error`` says why; an answer that failed
    is not shown to a judge, has its lowest number, and an ``error`` too."""

    id: str
    language: str
    category: str
    turn: int
    model: str
    judge: str
    value: float | None
    answer: str | None = None
    referenced: bool = False
    error: str | None = None
    said: tuple[str, ...] = ()


@dataclass(slots=True)
class Graded:
    """What grading took: answers graded, those without a number, and the tokens of the server."""

    answers: int = 0
    no_verdict: int = 0
    usage: Usage = dataclasses.field(default_factory=Usage)


class _Rated(Protocol):
    value: float | None
    errors: tuple[str, ...]
    said: tuple[str, ...]
    usage: Usage


@runtime_checkable
class Rater(Protocol):
    """A scorer that says why, and remembers what it was asked."""

    def rate(self, answers: Sequence[Judged], recall: Recall | None = None) -> Sequence[_Rated]: ...


def grade(
    questions: Sequence[Question],
    answers: Answers,
    options: GradeOptions,
    context: Context,
    recall: Recall | None = None,
    spent: Graded | None = None,
) -> Iterator[Grade]:
    """A grade for every turn that is answered, question by question. Questions without answers are passed over.

    With ``recall`` a judge is not asked again what it has said.
    """
    spent = Graded() if spent is None else spent
    scorers = {shown: context.open("scorer", spec) for shown, spec in _specs(options).items()}
    tasks = _tasks(questions, answers, options)
    done = 0
    for chunk in batches(tasks, options.chunk):
        graded: dict[int, Grade] = {}
        for shown, scorer in scorers.items():
            asked = {
                i: task for i, task in enumerate(chunk) if task.judged is not None and task.grade.referenced is shown
            }
            found = _rated(scorer, options, [t.judged for t in asked.values() if t.judged is not None], recall)
            for (index, task), (value, error, said, usage) in zip(asked.items(), found, strict=True):
                graded[index] = dataclasses.replace(task.grade, value=value, error=error, said=said)
                spent.usage += usage
                spent.no_verdict += value is None
        spent.answers += len(chunk)
        yield from (graded.get(index, task.grade) for index, task in enumerate(chunk))
        done += len(chunk)
        context.progress(f"{options.name} grades {tasks[0].grade.model}", done, len(tasks))


@dataclass(frozen=True, slots=True)
class _Task:
    """A grade to be filled in, and what is shown for it; nothing where the answer failed."""

    grade: Grade
    judged: Judged | None


def _specs(options: GradeOptions) -> dict[bool, ScorerSpec]:
    """Whether a reference is shown → who is asked. A scorer that is no judge is never shown one."""
    spec = options.judge
    if spec.scorer != JUDGE:
        return {False: spec}
    return {
        False: spec.model_copy(update={"settings": {"prompt": PROMPT, **spec.settings}}),
        True: spec.model_copy(update={"settings": {**spec.settings, "prompt": options.reference_prompt}}),
    }


def _tasks(questions: Iterable[Question], answers: Answers, options: GradeOptions) -> list[_Task]:
    return [
        _task(question, answers[question.id, question.language], turn, options)
        for question in questions
        if (question.id, question.language) in answers
        for turn in range(len(question.turns))
    ]


def _task(question: Question, answered: Answered, turn: int, options: GradeOptions) -> _Task:
    if len(answered.turns) != len(question.turns):
        raise InputError(
            f"{answered.model} has {len(answered.turns)} answers to question_id {question.id} in {question.language}, "
            f"which has {len(question.turns)} turns; give one a turn, null for one that failed"
        )
    is_judge = options.judge.scorer == JUDGE
    referenced = is_judge and bool(question.reference) and question.category in options.referenced
    answer = answered.turns[turn]
    empty = Grade(
        question.id,
        question.language,
        question.category,
        turn + 1,
        answered.model,
        options.name,
        None,
        answer,
        referenced,
    )
    if answer is None:
        scale = scale_of(options.judge)
        lowest = scale[0] if scale else None
        why = f"the answer failed: {answered.error}" if answered.error else "there is no answer"
        return _Task(dataclasses.replace(empty, value=lowest, error=why), None)
    messages: list[Message] = []
    for number in range(turn + 1):
        messages.append({"role": "user", "content": question.turns[number]})
        if referenced:
            messages.append({"role": REFERENCE_ROLE, "content": question.reference[number]})
        if number < turn:
            messages.append({"role": "assistant", "content": answered.turns[number] or ""})
    name = f"{answered.model}/{question.id}/turn-{turn + 1}/{question.language}"
    gold = question.reference[turn] if question.reference else None
    return _Task(empty, Judged(name, question.language, messages, answer, gold, question.category))


_Answer = tuple[float | None, str | None, tuple[str, ...], Usage]
"""The number, why there is none, the judge's words, the tokens that it took."""


def _rated(scorer: Scorer, options: GradeOptions, answers: Sequence[Judged], recall: Recall | None) -> list[_Answer]:
    if not answers:
        return []
    if isinstance(scorer, Rater):
        rated = scorer.rate(answers, recall)
        return [(one.value, "; ".join(one.errors) or None, one.said, one.usage) for one in rated]
    who = [scorer.fingerprint, options.judge.identity(lambda spec: scorer.fingerprint)]
    keys = [digest([who, dataclasses.asdict(answer)]) for answer in answers]
    known = {} if recall is None else {key: kept for key in keys if (kept := recall.get(key)) is not None}
    missing = {key: answer for key, answer in zip(keys, answers, strict=True) if key not in known}
    for key, value in zip(missing, scorer.score(list(missing.values())) if missing else (), strict=True):
        known[key] = value
        if recall is not None and value is not None:
            recall.put(key, value)
    return [(known[key], "no score" if known[key] is None else None, (), Usage()) for key in keys]


@dataclass(slots=True)
class GradePlan:
    """What a judge is to be asked: of ``answers``, ``requests`` are left and ``recalled`` were graded before;
    ``tokens_asked`` is estimated by characters."""

    answers: int = 0
    requests: int = 0
    recalled: int = 0
    tokens_asked: int = 0


def plan(
    questions: Sequence[Question],
    answers: Answers,
    options: GradeOptions,
    context: Context,
    recall: Recall | None = None,
) -> GradePlan:
    """What ``grade`` would ask a judge on a server with the same arguments. Any other scorer sends no request, and is
    not opened."""
    out = GradePlan()
    model = options.judge.model
    on_server = options.judge.scorer == JUDGE and model is not None and model.backend == "openai"
    scorers: dict[bool, Scorer] = {}
    specs = _specs(options)
    for task in _tasks(questions, answers, options):
        if task.judged is None:
            continue
        out.answers += 1
        if not on_server:
            continue
        shown = task.grade.referenced
        if shown not in scorers:
            scorers[shown] = context.open("scorer", specs[shown])
        request = scorers[shown].request(task.judged)  # type: ignore[attr-defined]  # a judge's own
        if recall is not None and recall.get(key_of(scorers[shown].fingerprint, request)) is not None:
            out.recalled += 1
        else:
            out.requests += 1
            out.tokens_asked += estimate(request.messages, task.judged.lang)
    return out


def evaluation(grades: Iterable[Grade], first_judge: str) -> Evaluation:
    """The figures of one model: ``mt_bench`` (a question's mean over its turns), ``mt_bench_turn_<n>``,
    ``mt_bench_<category>`` and ``mt_bench_no_verdict`` (the share of turns without a number) by the first judge; by
    another judge ``…_by_<judge>``; ``failed``, the share of turns whose answer failed."""
    by_question: dict[tuple[str, str, str], list[Grade]] = {}
    for one in grades:
        by_question.setdefault((one.judge, one.language, one.id), []).append(one)
    out = Evaluation()
    for (judge, lang, question), turns in by_question.items():
        by = "" if judge == first_judge else f"_by_{judge}"
        numbers = [one.value for one in turns if one.value is not None]
        if numbers:
            mean = sum(numbers) / len(numbers)
            out.add(METRIC + by, lang, question, mean)
            out.add(f"{METRIC}_{category_name(turns[0].category)}{by}", lang, question, mean)
        for one in turns:
            out.add(f"{METRIC}_turn_{one.turn}{by}", lang, question, one.value)
        out.add(f"{METRIC}_no_verdict{by}", lang, question, (len(turns) - len(numbers)) / len(turns))
        out.add("failed", lang, question, sum(one.answer is None for one in turns) / len(turns))
    return out


def scale_of(judge: ScorerSpec) -> tuple[float, float] | None:
    """The lowest and the highest number that a judge may give; None of any other scorer."""
    return settings_of(NumberSettings, judge).scale if judge.scorer == JUDGE else None


def interval(estimate: Estimate, judge: ScorerSpec) -> tuple[float, float] | None:
    """A mean's 95% interval, which ends where the judge's scale ends; None without a standard error."""
    ends, scale = estimate.interval(), scale_of(judge)
    if ends is None or scale is None:
        return ends
    return max(ends[0], scale[0]), min(ends[1], scale[1])


def head_to_head(
    grades: Sequence[Grade], questions: Sequence[Question], baseline: str, exact: Collection[str] = ()
) -> list[Judgment]:
    """Every model against the baseline by the numbers of the same judge: a question is a comparison.

    ``preference`` is the mean over its turns of 1 for the higher number, 0 for the lower, 0.5 for two within ``TIE``;
    of the judges in ``exact``, whose numbers are on a scale of their own, for two that are equal.
    A turn that lacks a number is left out; without any the comparison has an ``error``. An answer of which a turn
    failed has no length to compare, and counts as ``failed``. ``said`` is what was said of
    the model's turns, then of the baseline's.
    """
    of: dict[tuple[str, str, str, str], list[Grade]] = {}
    for one in grades:
        of.setdefault((one.judge, one.model, one.language, one.id), []).append(one)
    by_place = {(question.language, question.id): question for question in questions}
    out = []
    for (judge, model, lang, question), mine in of.items():
        theirs = of.get((judge, baseline, lang, question))
        if model == baseline or theirs is None:
            continue
        asked = by_place[lang, question]
        numbers = [(a.value, b.value) for a, b in zip(mine, theirs, strict=True)]
        tie = 0.0 if judge in exact else TIE
        outcomes = [_outcome(a - b, tie) for a, b in numbers if a is not None and b is not None]
        answers = [_whole(asked, one) for one in (mine, theirs)]
        out.append(
            Judgment(
                id=question,
                language=lang,
                preference=sum(outcomes) / len(outcomes) if outcomes else None,
                model_length=sum(len(one.answer or "") for one in mine),
                baseline_length=sum(len(one.answer or "") for one in theirs),
                model=model,
                baseline=baseline,
                judge=judge,
                error=None if outcomes else "the judge gave no two numbers to compare",
                category=asked.category,
                prompt=asked.turns[0],
                model_answer=answers[0],
                baseline_answer=answers[1],
                said=tuple(_words(one) for one in (mine, theirs)) if any(g.said for g in (*mine, *theirs)) else (),
                failed=failed_of(*(any(grade.answer is None for grade in one) for one in (mine, theirs))),
            )
        )
    return out


def _outcome(difference: float, tie: float) -> float:
    return 0.5 if abs(difference) <= tie else float(difference > 0)


def _whole(question: Question, turns: Sequence[Grade]) -> str | None:
    """All turns of an answer, the later ones under their questions; None where every one failed."""
    if all(one.answer is None for one in turns):
        return None
    first, *later = turns
    asked = zip(question.turns[1:], later, strict=True)
    return "\n\n".join([first.answer or "", *(f"[{text}]\n\n{one.answer or ''}" for text, one in asked)])


def _words(turns: Sequence[Grade]) -> str:
    return "\n\n".join(f"Turn {one.turn}: {' / '.join(one.said) or one.error or one.value}" for one in turns)


def write_grades(path: Path, grades: Iterable[Grade]) -> int:
    """Write a JSON Lines file at once; gives the count."""
    with replacing(path) as temporary:
        count = 0
        with temporary.open("w", encoding="utf-8") as file:
            for one in grades:
                file.write(dumps(dataclasses.asdict(one)) + "\n")
                count += 1
        return count
