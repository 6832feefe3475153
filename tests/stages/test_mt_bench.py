"""MT-Bench: questions and answers read, answers drawn over two turns, grades and what they come to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from injections import HOSTILE, RIGHT, RIGHT_WORD, WRONG
from polypref import registry
from polypref.backends.base import Completion, Context, Judged, ModelSpec, Request, Sampling, ScorerSpec
from polypref.backends.judge import NumberJudge
from polypref.backends.judging import NumberSettings
from polypref.errors import InputError
from polypref.maths.stats import Estimate
from polypref.stages.mt_bench import (
    Answered,
    Question,
    missing,
    read_answers,
    read_questions,
    with_references,
    write_answers,
)
from polypref.stages.mt_bench_answers import AnswerOptions, answered, unanswered
from polypref.stages.mt_bench_grades import (
    Grade,
    Graded,
    GradeOptions,
    evaluation,
    grade,
    head_to_head,
    interval,
    plan,
    write_grades,
)

Said = Callable[[Request], str]


def question(identity: str = "81", language: str = "en", category: str = "writing", **more: Any) -> Question:
    return Question(identity, language, category, ("Write.", "Rewrite."), **more)


def of(*answers: str | None, identity: str = "81", language: str = "en", model: str = "icr") -> Any:
    return {(identity, language): Answered(identity, language, model, answers)}


class Speaker:
    """A ``Generator`` that says what a function of the request gives; an exception's text is its failure."""

    fingerprint = "speaker"

    def __init__(self, say: Said) -> None:
        self.say = say
        self.asked: list[tuple[Request, Sampling]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        out = []
        for request in requests:
            self.asked.append((request, sampling))
            try:
                out.append([Completion(self.say(request))])
            except ConnectionError as error:
                out.append([Completion("", error=str(error))])
        return out


class Kept(dict[str, Any]):
    """A ``Recall``."""

    put = dict.__setitem__


def graded_by(say: Said) -> tuple[Context, Speaker]:
    """A context whose scorers are judges that speak so."""
    speaker = Speaker(say)

    def opened(role: str, spec: Any) -> Any:
        assert role == "scorer"
        return NumberJudge(speaker, NumberSettings(**spec.settings))

    return Context(open=opened), speaker


JUDGE = ScorerSpec(scorer="judge", model=ModelSpec(path="any", backend="openai", url="http://127.0.0.1/v1"))
OPTIONS = GradeOptions(name="gpt", judge=JUDGE)


def answer_in(request: Request) -> str:
    """The text of the answer that a judge is shown, found by its fence."""
    text = str(request.messages[-1]["content"])
    code = re.search(r"carries the code ([0-9a-f]{8})", text)
    assert code
    found = re.search(rf"^<answer {code[1]}>\n(.*)\n</answer {code[1]}>$", text, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def rate(request: Request) -> str:
    """Says the number that the answer begins with."""
    return f"It is an answer.\nRating: [[{answer_in(request).split()[0]}]]"


# --- questions and answers -----------------------------------------------------------------------------------------


def write(path: Path, *rows: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROW = {"question_id": 101, "category": "math", "turns": ["1+1?", "and 1 more?"], "reference": ["2", "3"]}


def test_questions_are_read_as_mt_bench_has_them(tmp_path: Path) -> None:
    path = write(tmp_path / "mt_bench.jsonl", ROW, {**ROW, "question_id": 102, "reference": None})
    first, second = read_questions(path)  # mt is Maltese, but the name says more
    assert first == Question("101", "en", "math", ("1+1?", "and 1 more?"), ("2", "3"))
    assert second.reference == ()
    assert read_questions(path, "es")[0].language == "es"


def test_a_folder_holds_a_file_a_language_and_a_row_may_tell_its_own(tmp_path: Path) -> None:
    write(tmp_path / "q/question_es.jsonl", ROW)
    write(tmp_path / "q/question_de.jsonl", ROW)
    assert [one.language for one in read_questions(str(tmp_path / "q"))] == ["de", "es"]
    assert [one.language for one in read_questions(str(tmp_path / "q/question_{language}.jsonl"))] == ["de", "es"]
    both = write(tmp_path / "all.jsonl", {**ROW, "language": "de"}, {**ROW, "language": "French"})
    assert [one.language for one in read_questions(both)] == ["de", "fr"]
    assert [one.language for one in read_questions(write(tmp_path / "sw.jsonl", ROW))] == ["sw"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({**ROW, "turns": "1+1?"}, "q.jsonl:2: turns is '1+1?'; it must be a list of texts"),
        ({**ROW, "turns": []}, "q.jsonl:2: turns is empty"),
        ({**ROW, "reference": ["2"]}, "q.jsonl:2: reference has 1 texts and turns 2"),
        ({**ROW, "category": ""}, "q.jsonl:2: category is ''"),
        ({**ROW, "question_id": None}, "q.jsonl:2: question_id is None"),
        ({**ROW, "question_id": True}, "q.jsonl:2: question_id is True"),
        ({**ROW, "question_id": 101.0}, "q.jsonl:2: question_id is 101.0"),
        ({**ROW, "question_id": 100}, "q.jsonl:2: question_id 100 stands twice in en"),
        ({**ROW, "language": "Klingonish"}, "q.jsonl:2: language: 'Klingonish' is no language"),
        ([1], "q.jsonl:2: the row is no object"),
    ],
)
def test_a_wrong_question_is_told_with_its_line(tmp_path: Path, row: Any, complaint: str) -> None:
    path = write(tmp_path / "q.jsonl", {**ROW, "question_id": 100}, row)
    with pytest.raises(InputError) as caught:
        read_questions(path)
    assert complaint in str(caught.value)


def test_parallel_questions_have_one_category(tmp_path: Path) -> None:
    write(tmp_path / "q/de.jsonl", ROW)
    write(tmp_path / "q/es.jsonl", {**ROW, "category": "writing"})
    with pytest.raises(
        InputError, match=r"es.jsonl:1: question_id 101 is writing with 2 turns here and math with 2 in"
    ):
        read_questions(str(tmp_path / "q"))


def test_answers_are_read_as_fastchat_writes_them(tmp_path: Path) -> None:
    choice = {"index": 0, "turns": ["2", "3"]}
    row = {"question_id": 101, "answer_id": "x", "model_id": "m", "choices": [choice, {"turns": ["no"]}], "tstamp": 1.5}
    found = read_answers(write(tmp_path / "gpt-4.jsonl", row), "gpt-4", [question("101", "es")])
    assert found == {("101", "es"): Answered("101", "es", "gpt-4", ("2", "3"))}
    several = [question("101", "es"), question("101", "de")]
    with pytest.raises(InputError, match=r"gpt-4.jsonl:1: nothing tells the language"):
        read_answers(str(tmp_path / "gpt-4.jsonl"), "gpt-4", several)
    assert list(read_answers(write(tmp_path / "gpt-4_de.jsonl", row), "gpt-4", several)) == [("101", "de")]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"question_id": 1, "choices": []}, 'a.jsonl:1: choices must be [{"turns": ["…", "…"]}]'),
        ({"question_id": 1, "choices": [{"turns": [1, 2]}]}, "a.jsonl:1: choices must be"),
        ({"question_id": 1, "language": "es", "choices": [{"turns": ["a"]}]}, None),
    ],
)
def test_a_wrong_answer_is_told_with_its_line(tmp_path: Path, row: Any, complaint: str | None) -> None:
    path = write(tmp_path / "a.jsonl", row)
    if complaint is None:
        assert list(read_answers(path, "m", [question("1")])) == [("1", "es")]  # of a language that is not asked
        return
    with pytest.raises(InputError) as caught:
        read_answers(path, "m", [question("1")])
    assert complaint in str(caught.value)


def test_written_answers_are_read_back(tmp_path: Path) -> None:
    given = [Answered("81", "sw", "icr", ("a", None), "timed out"), Answered("x", "sw", "icr", ("b", "c"))]
    write_answers(tmp_path / "sw.jsonl", given)
    assert list(read_answers(str(tmp_path / "sw.jsonl"), "icr", [question(language="sw")]).values()) == given


def test_references_may_stand_in_a_file_of_answers(tmp_path: Path) -> None:
    row = {"question_id": 101, "choices": [{"turns": ["two", "three"]}]}
    asked = [Question("101", "en", "math", ("1+1?", "+1?")), Question("102", "en", "math", ("a", "b"), ("c", "d"))]
    first, second = with_references(asked, write(tmp_path / "r.jsonl", row, {**row, "question_id": 102}))
    assert first.reference == ("two", "three")
    assert second.reference == ("c", "d")
    with pytest.raises(InputError, match="the reference of question_id 101 in en has 1 texts and the question 2"):
        with_references(asked, write(tmp_path / "r.jsonl", {"question_id": 101, "choices": [{"turns": ["two"]}]}))


def test_what_is_not_answered_is_told_by_language() -> None:
    asked = [question("1"), question("2"), question("1", "es")]
    assert missing(asked, of("a", "b", identity="1"), "icr") == [
        "icr has no answer to 1 questions in en (first: 2)",
        "icr has no answer to 1 questions in es (first: 1)",
    ]


# --- answers that are drawn here -----------------------------------------------------------------------------------


def drawing(say: Said, **options: Any) -> tuple[Context, Speaker, AnswerOptions]:
    speaker = Speaker(say)
    return Context(open=lambda role, spec: speaker), speaker, AnswerOptions(name="icr", model="any", **options)


def told(spec: ModelSpec) -> str:
    """Who a model is, as the speaker says itself."""
    return Speaker.fingerprint


def echo(request: Request) -> str:
    return f"{len(request.messages)}: {request.messages[-1]['content']}"


def test_the_second_turn_sees_the_answer_to_the_first() -> None:
    context, speaker, options = drawing(echo)
    [found] = answered([question()], options, context)
    assert found == Answered("81", "en", "icr", ("1: Write.", "3: Rewrite."))
    assert [(m["role"], m["content"]) for m in speaker.asked[1][0].messages] == [
        ("user", "Write."),
        ("assistant", "1: Write."),
        ("user", "Rewrite."),
    ]


def test_temperatures_are_mt_benchs_by_category_unless_one_is_given() -> None:
    """FastChat: writing .7, math 0, humanities .1, and .7 for a category that it does not know."""
    categories = ("writing", "math", "humanities", "gardening")
    asked = [Question(str(i), "en", category, (category, "More.")) for i, category in enumerate(categories)]
    context, speaker, options = drawing(echo)
    list(answered(asked, options, context))
    used = {request.id.split("/")[1]: sampling.temperature for request, sampling in speaker.asked}
    assert used == {"0": 0.7, "1": 0.0, "2": 0.1, "3": 0.7}
    context, speaker, options = drawing(echo, temperature=0.3)
    list(answered(asked, options, context))
    assert {sampling.temperature for _, sampling in speaker.asked} == {0.3}


def test_answers_come_in_the_questions_order_whatever_the_chunks() -> None:
    asked = [question(str(i), category=("writing", "math")[i % 2]) for i in range(7)]
    runs = []
    for chunk in (1, 3, 100):
        context, _, options = drawing(echo, chunk=chunk)
        runs.append(list(answered(asked, options, context)))
    assert [one.id for one in runs[0]] == [str(i) for i in range(7)]
    assert runs[0] == runs[1] == runs[2]


def test_a_failed_first_turn_ends_its_question_and_alone_is_asked_again() -> None:
    def say(request: Request) -> str:
        if broken and "/2/" in request.id:
            raise ConnectionError("timed out")
        return "fine"

    broken, kept = True, Kept()
    asked = [Question(str(i), "en", "writing", (f"Write {i}.", "Rewrite.")) for i in range(3)]
    context, speaker, options = drawing(say)
    found = list(answered(asked, options, context, kept))
    assert [one.turns for one in found] == [("fine", "fine"), ("fine", "fine"), (None, None)]
    assert found[2].error == "timed out"
    assert unanswered(asked, options, told, kept) == 2
    broken, before = False, len(speaker.asked)
    assert [one.turns for one in answered(asked, options, context, kept)] == [("fine", "fine")] * 3
    assert [request.id for request, _ in speaker.asked[before:]] == ["mt-bench/2/turn-1/en", "mt-bench/2/turn-2/en"]
    assert unanswered(asked, options, told, kept) == 0


def test_questions_of_the_same_words_share_an_answer_fresh_or_resumed() -> None:
    kept = Kept()
    asked = [question("1"), question("2"), question("3", category="math")]
    context, speaker, options = drawing(lambda request: request.id)
    fresh = list(answered(asked, options, context, kept))
    assert fresh[0].turns == fresh[1].turns != fresh[2].turns
    assert len(speaker.asked) == 4
    assert list(answered(asked, options, context, kept)) == fresh


def test_a_prompt_beyond_the_window_is_not_asked_again() -> None:
    class Full(Speaker):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
            super().generate(requests, sampling)
            return [[Completion("", error="beyond the window", too_long=True)] for _ in requests]

    speaker, kept = Full(echo), Kept()
    context = Context(open=lambda role, spec: speaker)
    options = AnswerOptions(name="icr", model="any")
    for _ in range(2):
        [found] = answered([question()], options, context, kept)
        assert found == Answered("81", "en", "icr", (None, None), "beyond the window")
    assert len(speaker.asked) == 1
    assert unanswered([question()], options, told, kept) == 0


def test_other_sampling_and_another_way_of_opening_are_asked_anew() -> None:
    kept = Kept()
    thinks = ModelSpec(path="any", chat_template_kwargs={"enable_thinking": True})
    for more in ({"seed": 0}, {"seed": 1}, {"model": thinks}):
        speaker = Speaker(echo)
        options = AnswerOptions(**{"name": "icr", "model": "any", **more})
        assert unanswered([question()], options, told, kept) == 2
        list(answered([question()], options, Context(open=lambda role, spec, s=speaker: s), kept))
        assert len(speaker.asked) == 2
    faster = AnswerOptions(name="icr", model=ModelSpec(path="elsewhere", concurrency=99))
    assert unanswered([question()], faster, told, kept) == 0


# --- grades --------------------------------------------------------------------------------------------------------


def test_every_turn_is_graded_after_the_turns_before_it() -> None:
    context, speaker = graded_by(rate)
    first, second = grade([question()], of("8 first", "4.5 second"), OPTIONS, context)
    assert (first.turn, first.value, first.answer) == (1, 8.0, "8 first")
    assert (second.turn, second.value, second.said) == (2, 4.5, ("It is an answer.\nRating: [[4.5]]",))
    one, two = (str(request.messages[0]["content"]) for request, _ in speaker.asked)
    assert "Rewrite." not in one
    assert two.index("Write.") < two.index("8 first") < two.index("Rewrite.") < two.index("4.5 second")


def test_references_are_shown_where_one_answer_is_right() -> None:
    """Mathematics with a reference is; the same category without one, and writing with one, are not."""
    asked = [
        question("1", category="math", reference=("ref one", "ref two")),
        question("2", category="math"),
        question("3", reference=("ref one", "ref two")),
    ]
    answers = {k: v for i in "123" for k, v in of("7 a", "6 b", identity=i).items()}
    context, speaker = graded_by(rate)
    found = list(grade(asked, answers, OPTIONS, context))
    assert [(one.id, one.turn, one.referenced) for one in found] == [
        ("1", 1, True), ("1", 2, True), ("2", 1, False), ("2", 2, False), ("3", 1, False), ("3", 2, False),
    ]  # fmt: skip
    told = {request.id: str(request.messages[0]["content"]) for request, _ in speaker.asked}
    first, second = told["icr/1/turn-1/en/rating"], told["icr/1/turn-2/en/rating"]
    assert "ref one" in first
    assert "ref two" not in first
    order = [second.index(text) for text in ("Write.", "ref one", "7 a", "Rewrite.", "ref two", "6 b")]
    assert order == sorted(order)
    assert re.search(r"<developer ([0-9a-f]{8})>\nref two\n</developer \1>", second)
    assert "which is right" in second
    assert not any("ref" in text for name, text in told.items() if not name.startswith("icr/1/"))


def test_a_users_prompt_is_asked_where_no_reference_is_shown(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Own words {conversation} {answer} [[n]]", encoding="utf-8")
    judge = JUDGE.model_copy(update={"settings": {"prompt": str(tmp_path / "own.txt")}})
    context, speaker = graded_by(lambda request: "[[5]]")
    asked = [question("1"), question("2", category="math", reference=("a", "b"))]
    answers = of("x", "y", identity="1") | of("x", "y", identity="2")
    list(grade(asked, answers, GradeOptions(name="gpt", judge=judge), context))
    own = [str(request.messages[0]["content"]).startswith("Own words") for request, _ in speaker.asked]
    assert own == [True, True, False, False]


def test_an_answer_that_failed_has_the_lowest_number_and_is_not_shown() -> None:
    context, speaker = graded_by(rate)
    spent = Graded()
    answers = {("81", "en"): Answered("81", "en", "icr", ("9 fine", None), "timed out")}
    _, failed = grade([question()], answers, OPTIONS, context, spent=spent)
    assert (failed.value, failed.error) == (1.0, "the answer failed: timed out")
    assert len(speaker.asked) == 1
    assert (spent.answers, spent.no_verdict) == (2, 0)


def test_an_empty_answer_is_shown() -> None:
    context, speaker = graded_by(lambda request: "[[2]]")
    assert [one.value for one in grade([question()], of("", ""), OPTIONS, context)] == [2.0, 2.0]
    assert len(speaker.asked) == 2


def test_a_judge_that_gives_no_number_is_counted_with_its_reason() -> None:
    context, _ = graded_by(lambda request: "I would rather not.")
    spent = Graded()
    found = list(grade([question()], of("a", "b"), OPTIONS, context, spent=spent))
    assert [(one.value, one.error) for one in found] == [(None, "no verdict on the last line")] * 2
    assert spent.no_verdict == 2


def test_what_was_graded_is_not_asked_again_and_a_plan_knows_it() -> None:
    kept = Kept()
    asked = [question(str(i)) for i in range(4)]
    answers = {k: v for i in range(4) for k, v in of(f"{i + 1} a", f"{i + 1} b", identity=str(i)).items()}
    context, speaker = graded_by(rate)
    before = plan(asked, answers, OPTIONS, context, kept)
    assert (before.answers, before.requests, before.recalled) == (8, 8, 0)
    assert before.tokens_asked > 0
    assert not speaker.asked
    first = list(grade(asked, answers, OPTIONS, context, kept))
    assert list(grade(asked, answers, OPTIONS, context, kept)) == first
    assert len(speaker.asked) == 8
    answers |= of("9 other", "4 b", identity="3")  # what stands before a turn is part of what is asked about it
    after = plan(asked, answers, OPTIONS, context, kept)
    assert (after.requests, after.recalled) == (2, 6)


def test_a_plan_opens_no_judge_of_this_process() -> None:
    judge = ScorerSpec(scorer="judge", model=ModelSpec(path="any"))
    context = Context(open=lambda role, spec: pytest.fail("opened"))
    planned = plan([question()], of("a", "b"), GradeOptions(name="gpt", judge=judge), context)
    assert (planned.answers, planned.requests) == (2, 0)


class Length:
    """A scorer that is no judge."""

    fingerprint = "length"

    def __init__(self) -> None:
        self.seen: list[Judged] = []

    def score(self, answers: Sequence[Judged]) -> list[float | None]:
        self.seen += answers
        return [float(len(answer.text)) or None for answer in answers]


def test_any_scorer_may_grade_without_references_and_remembers() -> None:
    scorer, kept = Length(), Kept()
    options = GradeOptions(name="length", judge=ScorerSpec(scorer="fake"))
    context = Context(open=lambda role, spec: scorer)
    asked = [question(category="math", reference=("r", "s"))]
    for _ in range(2):
        found = list(grade(asked, of("abc", ""), options, context, kept))
        assert [(one.value, one.error, one.referenced) for one in found] == [
            (3.0, None, False),
            (None, "no score", False),
        ]
    assert [len(judged.messages) for judged in scorer.seen] == [1, 3, 3]  # what gave no score is asked again
    assert [judged.gold for judged in scorer.seen] == ["r", "s", "s"]
    assert list(kept.values()) == [3.0]


def test_answers_must_have_the_questions_turns() -> None:
    context, _ = graded_by(rate)
    with pytest.raises(InputError, match="icr has 1 answers to question_id 81 in en, which has 2 turns"):
        list(grade([question()], of("5 a"), OPTIONS, context))


@pytest.mark.parametrize("category", ["humanities", "math"])
@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_cannot_grade_itself(name: str, category: str) -> None:
    """A judge that keeps to its prompt finds the answer by the code, and gives 9 where it holds the right word, else 2.
    The wrong answers that ask for more get 2 in both turns, with a reference and without, and so does the answer to a
    second turn after one that tries; what a right answer gets they do not change."""

    def judged(request: Request) -> str:
        return f"Rating: [[{9 if RIGHT_WORD in answer_in(request) else 2}]]"

    asked = [question(category=category, reference=("the right one", "the right one"))]
    for second, expected in ((HOSTILE[name], 2.0), (WRONG, 2.0), (RIGHT, 9.0)):
        context, _ = graded_by(judged)
        found = list(grade(asked, of(HOSTILE[name], second), OPTIONS, context))
        assert [one.value for one in found] == [2.0, expected]
        assert {one.referenced for one in found} == {category == "math"}


# --- figures -------------------------------------------------------------------------------------------------------


def given(identity: str, turn: int, value: float | None, **more: Any) -> Grade:
    told: dict[str, Any] = {
        "language": "en",
        "category": "writing",
        "model": "icr",
        "judge": "gpt",
        "answer": "a",
        **more,
    }
    return Grade(
        identity, told.pop("language"), told.pop("category"), turn, told.pop("model"), told.pop("judge"), value, **told
    )


def test_scores_are_means_over_questions_of_means_over_turns() -> None:
    """Questions 1 and 2 have 8, 6 and 4, none: means 7 and 4, so 5.5 ± 3/√2/√2 = 1.5. Turn 2 is known of one."""
    grades = [given("1", 1, 8.0), given("1", 2, 6.0), given("2", 1, 4.0, category="math"), given("2", 2, None)]
    grades[3] = given("2", 2, None, category="math", error="no verdict")
    figures = evaluation(grades, "gpt").figures()["en"]
    assert (figures["mt_bench"], figures["mt_bench_n"]) == (5.5, 2)
    assert figures["mt_bench_stderr"] == pytest.approx(1.5)
    assert (figures["mt_bench_turn_1"], figures["mt_bench_turn_2"], figures["mt_bench_turn_2_n"]) == (6.0, 6.0, 1)
    assert (figures["mt_bench_math"], figures["mt_bench_writing"]) == (4.0, 7.0)
    assert figures["mt_bench_no_verdict"] == 0.25
    assert figures["failed"] == 0.0


def test_languages_of_a_question_are_one_cluster() -> None:
    """Two languages with the same numbers 2 and 6: the mean over languages is 4, its error that of one language, 2."""
    grades = [given(i, 1, v, language=lang) for lang in ("en", "es") for i, v in (("1", 2.0), ("2", 6.0))]
    found = evaluation(grades, "gpt").mean("mt_bench")
    assert (found.value, found.stderr, found.n) == (4.0, pytest.approx(2.0), 2)


def test_another_judges_figures_bear_its_name() -> None:
    figures = evaluation([given("1", 1, 8.0), given("1", 1, 3.0, judge="rm")], "gpt").figures()["en"]
    assert (figures["mt_bench"], figures["mt_bench_by_rm"], figures["mt_bench_turn_1_by_rm"]) == (8.0, 3.0, 3.0)
    assert figures["mt_bench_no_verdict_by_rm"] == 0.0


def test_failed_answers_are_a_share_of_the_turns() -> None:
    figures = evaluation([given("1", 1, 8.0), given("1", 2, 1.0, answer=None)], "gpt").figures()["en"]
    assert (figures["mt_bench"], figures["failed"]) == (4.5, 0.5)


def test_models_meet_question_by_question() -> None:
    """Question 1: 8 against 8.05 ties (within 0.1), 6 against 3 wins: 0.75. Question 2: 5 against 7 loses, the second
    turn has no number: 0. Question 3 has none at all."""
    mine = [given("1", 1, 8.0), given("1", 2, 6.0), given("2", 1, 5.0), given("2", 2, None), given("3", 1, None)]
    theirs = [given("1", 1, 8.05), given("1", 2, 3.0), given("2", 1, 7.0), given("2", 2, 9.0), given("3", 1, 5.0)]
    grades = [*mine, *(Grade(g.id, g.language, g.category, g.turn, "sft", g.judge, g.value, "bb") for g in theirs)]
    asked = [question("1"), question("2"), Question("3", "en", "writing", ("Only.",))]
    one, two, three = head_to_head(grades, asked, "sft")
    assert [j.preference for j in (one, two, three)] == [0.75, 0.0, None]
    assert three.error == "the judge gave no two numbers to compare"
    assert (one.model, one.baseline, one.judge, one.model_length, one.baseline_length) == ("icr", "sft", "gpt", 2, 4)
    assert one.model_answer == "a\n\n[Rewrite.]\n\na"
    assert one.said == ()
    exact, *_ = head_to_head(grades, asked, "sft", exact=["gpt"])
    assert exact.preference == 0.5


def test_an_answer_of_which_a_turn_failed_is_told_when_models_meet() -> None:
    """Its first turn fails, the second of theirs; in the second question theirs fails."""
    answers = (("1", None, "bb"), ("1", "a", None), ("2", "a", None), ("2", "a", "bb"))
    turns = [(place, 1 + number % 2, mine, its) for number, (place, mine, its) in enumerate(answers)]
    mine = [given(place, turn, 5.0, answer=text) for place, turn, text, _ in turns]
    theirs = [given(place, turn, 5.0, answer=text, model="sft") for place, turn, _, text in turns]
    found = head_to_head([*mine, *theirs], [question("1"), question("2")], "sft")
    assert [one.failed for one in found] == ["both", "baseline"]


def test_an_interval_ends_where_the_scale_of_the_judge_does() -> None:
    """4.83 ± t(2) · 1.7647 = 4.83 ± 7.59, of two degrees of freedom; a scorer that is no judge has no scale."""
    mean = Estimate(4.83, 1.7647, 3)
    judge = ScorerSpec(scorer="judge", model={"path": "fake", "backend": "fake"})
    assert interval(mean, judge) == (1.0, 10.0)
    low, high = interval(mean, judge.model_copy(update={"settings": {"scale": (-5, 100)}})) or (0, 0)
    assert (low, high) == (pytest.approx(-2.76, abs=0.01), pytest.approx(12.42, abs=0.01))
    assert interval(mean, ScorerSpec(scorer="fake")) == (low, high)
    assert interval(Estimate(4.0, None, 1), judge) is None


def test_grades_are_written_whole(tmp_path: Path) -> None:
    assert write_grades(tmp_path / "grades.jsonl", [given("1", 1, 8.0, said=("[[8]]",))]) == 1
    [row] = [json.loads(line) for line in (tmp_path / "grades.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (row["id"], row["turn"], row["value"], row["said"]) == ("1", 1, 8.0, ["[[8]]"])


def test_the_fake_draws_and_the_number_scorer_grades(tmp_path: Path) -> None:
    """Through the registry's own context, as a command opens them."""
    context, opener = registry.context(("en", "es"))
    asked = [
        Question("1", "en", "writing", ("A river?", "More.")),
        Question("1", "es", "writing", ("¿Un río?", "Más.")),
    ]
    options = AnswerOptions(name="icr", model={"path": "fake", "backend": "fake"})
    drawn = {(one.id, one.language): one for one in answered(asked, options, context)}
    assert drawn["1", "es"].turns[0] != drawn["1", "en"].turns[0]
    found = list(grade(asked, drawn, GradeOptions(name="fake", judge=ScorerSpec(scorer="fake")), context))
    opener.close()
    assert len(found) == 4
    assert all(one.value is not None for one in found)
