"""MT-Bench on the command line, with a policy and a judge on a server that a test tells what to say."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer

from backends.scripted_server import Reply, ScriptedServer
from polypref import cli_mt_bench
from polypref.errors import InputError, RecipeError, UserError

CATEGORIES = ("writing", "math", "coding", "humanities")
LANGS = ("de", "en")


def write(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Eight questions in two languages; mathematics and code have references."""
    for lang in LANGS:
        rows = [
            {
                "question_id": 81 + i,
                "category": CATEGORIES[i % 4],
                "turns": [f"{lang} question {i}", f"{lang} again {i}"],
                "reference": ["ref 1", "ref 2"] if i % 4 in (1, 2) else None,
            }
            for i in range(8)
        ]
        write(tmp_path / "questions" / f"{lang}.jsonl", rows)
    return tmp_path / "questions"


def answers(folder: Path, name: str, text: str) -> Path:
    """The same answer to every turn, with the question's number."""
    for lang in LANGS:
        rows = [
            {"question_id": 81 + i, "model_id": name, "choices": [{"turns": [f"{text} {i} a", f"{text} {i} b"]}]}
            for i in range(8)
        ]
        write(folder / name / f"{lang}.jsonl", rows)
    return folder / name


class World:
    """A policy that answers with a number, and a judge that rates an answer by the number that it begins with."""

    def __init__(self) -> None:
        self.broken = 0
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> Reply:
        with self._lock:
            self.asked[body["model"]] += 1
            if self.broken:
                self.broken -= 1
                return Reply(400, {"error": {"message": "no"}})
        text = body["messages"][-1]["content"]
        if body["model"] == "policy":
            return Reply.texts(f"7 as to {text}")
        code = re.search(r"carries the code ([0-9a-f]{8})", text)[1]  # type: ignore[index]
        shown = re.search(rf"^<answer {code}>\n(.*)\n</answer {code}>$", text, re.DOTALL | re.MULTILINE)
        return Reply.texts(f"Seen.\nRating: [[{shown[1].split()[0]}]]")  # type: ignore[index]


def call(*arguments: object) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_mt_bench.add_to(app)
    app([str(argument) for argument in ("mt-bench", *arguments)], standalone_mode=False)


@pytest.fixture
def bench(tmp_path: Path, questions: Path):
    world = World()
    with ScriptedServer(world) as server:
        policy = tmp_path / "policy.json"
        spec = {"path": "policy", "backend": "openai", "url": server.url, "attempts": 1}
        policy.write_text(json.dumps(spec), encoding="utf-8")
        judge = ("--judge", "gpt=judge:gpt", "--url", server.url, "--set", "gpt.model.attempts=1")
        common = (questions, "--model", f"icr={policy}", *judge, "--out", tmp_path / "out")
        yield world, common, tmp_path / "out"


def test_one_command_draws_grades_and_tells(bench, tmp_path: Path, capsys) -> None:
    """Eight questions of two turns in two languages: 32 answers drawn; with the given ones 64 graded. The policy gets 7
    everywhere, the other 4, and loses every comparison."""
    world, common, out = bench
    common = (*common, "--answers", f"sft={answers(tmp_path, 'sft', '4')}", "--baseline", "icr")
    call(*common, "--json")
    assert world.asked == {"policy": 32, "gpt": 64}
    told = json.loads(capsys.readouterr().out)
    assert told["results"]["icr"]["de"]["mt_bench"] == 7.0
    assert told["results"]["sft"]["en"]["mt_bench_turn_2"] == 4.0
    assert told["results"]["sft"]["en"]["mt_bench_math_n"] == 2
    assert told["macro_average"]["icr"]["mt_bench_n"] == 8
    assert told["figures"]["gpt"]["icr"]["macro_average"]["score"] == 7.0
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    assert figures["head_to_head"]["win_rates"]["win_rate"] == 0.0
    grades = [json.loads(line) for line in (out / "grades.jsonl").read_text(encoding="utf-8").splitlines()]
    assert Counter(grade["referenced"] for grade in grades) == {True: 32, False: 32}
    assert (out / "report.html").exists()
    rows = (out / "answers/icr/de.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(rows[0])["choices"][0]["turns"] == ["7 as to de question 0", "7 as to de again 0"]
    call(*common)
    told = capsys.readouterr().out
    assert "MT-Bench by gpt" in told
    assert "gpt: 0 + 0 tokens" in told  # all of it was said before
    assert "7.00 ± 0.00" in told


def test_the_second_run_asks_nothing_and_writes_nothing(bench) -> None:
    world, common, out = bench
    call(*common)
    written = ("results.json", "figures.json", "grades.jsonl", "report.html")
    before = {name: (out / name).stat().st_mtime_ns for name in written}
    asked = dict(world.asked)
    call(*common)
    assert dict(world.asked) == asked
    assert {name: (out / name).stat().st_mtime_ns for name in written} == before


def test_what_failed_is_asked_again_and_nothing_else(bench, capsys) -> None:
    """Five requests fail: the policy's first five. Their second turns are not asked for, so 27 of 32 turns are asked in
    the first round; the next asks the ten that are missing."""
    world, common, _ = bench
    world.broken = 5
    call(*common, "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["turns_to_answer"] == {"icr": 32}
    assert not world.asked
    call(*common)
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "icr: 5 of 16 questions have no whole answer" in said
    assert "5 failed on the way, and the same command asks for them again" in said
    assert world.asked == {"policy": 27, "gpt": 22}
    call(*common, "--dry-run", "--json")
    planned = json.loads(capsys.readouterr().out)
    assert planned["turns_to_answer"] == {"icr": 10}
    assert planned["judges"]["gpt"]["recalled"] == 22
    call(*common)
    assert world.asked == {"policy": 37, "gpt": 32}


def test_a_grade_that_failed_on_its_way_is_asked_again(bench, tmp_path: Path, capsys) -> None:
    world, (questions, _, _, *judge), out = bench
    common = (questions, "--answers", f"sft={answers(tmp_path, 'sft', '4')}", *judge)
    world.broken = 3
    call(*common)
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "gpt: 3 of 32 answers have no number" in said
    assert "3 failed on the way, and the same command asks for them again" in said
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))["results"]["sft"]
    lost = [figures["mt_bench_no_verdict"] * figures["mt_bench_no_verdict_n"] * 2 for figures in results.values()]
    assert sum(lost) == 3
    call(*common)
    assert world.asked == {"gpt": 35}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "By category" in page
    assert "Win rate" not in page  # one model has nobody to be held against


def test_a_grade_that_cannot_be_read_is_kept_and_not_asked_again(bench, tmp_path: Path, capsys) -> None:
    """Answers that begin with no number: the judge's line of a rating cannot be read."""
    world, (questions, _, _, *judge), _ = bench
    ours = answers(tmp_path, "sft", "4")
    write(ours / "de.jsonl", [{"question_id": 81, "model_id": "sft", "choices": [{"turns": ["none", "4"]}]}])
    common = (questions, "--answers", f"sft={ours}", *judge)
    call(*common)
    asked = dict(world.asked)
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "1 is kept and not asked again" in said
    assert "another prompt or max_tokens asks anew" in said
    call(*common)
    assert dict(world.asked) == asked


def test_a_narrower_command_says_what_it_leaves_out(bench, tmp_path: Path, capsys) -> None:
    _, (questions, _, _, *judge), _ = bench
    common = (questions, "--answers", f"sft={answers(tmp_path, 'sft', '4')}", *judge)
    call(*common)
    assert "left out" not in capsys.readouterr().err
    call(*common, "--languages", "de")
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "grades.jsonl held 32 grades and now holds 16; left out: language en (" in said


def test_a_mean_over_fewer_languages_is_marked(bench, tmp_path: Path, capsys) -> None:
    _, (questions, _, _, *judge), out = bench
    rows = (questions / "de.jsonl").read_text(encoding="utf-8")
    (questions / "es.jsonl").write_text(rows, encoding="utf-8")
    both, all_ = answers(tmp_path, "two", "4"), answers(tmp_path, "three", "5")
    (all_ / "es.jsonl").write_text((all_ / "de.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    call(questions, "--answers", f"three={all_}", "--answers", f"two={both}", *judge)
    told = capsys.readouterr().out
    assert told.count("*") == 2
    assert "* two: the mean over de, en alone" in told
    macro = json.loads((out / "results.json").read_text(encoding="utf-8"))["macro_average"]
    assert {model: of["languages"] for model, of in macro.items()} == {"three": ["de", "en", "es"], "two": ["de", "en"]}


def test_a_changed_judge_grades_anew(bench) -> None:
    world, common, _ = bench
    call(*common)
    call(*common, "--set", "gpt.settings.max_tokens=99")
    assert world.asked == {"policy": 32, "gpt": 64}


def test_languages_and_limit_choose_questions(bench, capsys) -> None:
    world, common, _ = bench
    call(*common, "--languages", "de", "--limit", "2", "--json")
    told = json.loads(capsys.readouterr().out)
    assert list(told["results"]["icr"]) == ["de"]
    assert told["results"]["icr"]["de"]["mt_bench_n"] == 2
    assert world.asked == {"policy": 4, "gpt": 4}


def test_a_scorer_may_grade_beside_a_judge(bench, capsys) -> None:
    _, common, out = bench
    call(*common, "--judge", "fake=fake:", "--json")
    told = json.loads(capsys.readouterr().out)["results"]["icr"]["en"]
    assert {"mt_bench", "mt_bench_by_fake", "mt_bench_turn_1_by_fake"} <= set(told)
    assert (out / "fake.journal.jsonl").exists()


@pytest.mark.parametrize(
    ("changed", "error", "complaint"),
    [
        (("--judge", "p=pair_judge:gpt"), RecipeError, "the judge p is a pair_judge, which compares pairs"),
        (("--baseline", "nobody"), RecipeError, "the baseline nobody is none of the models icr"),
        (("--languages", "sw"), InputError, "has no questions in sw; it has de, en"),
        (("--answers", "icr=x"), RecipeError, "icr is named by --answers and by --model"),
        (("--model", "../x=fake"), RecipeError, "a model is called '../x'"),
        (("--model", "x=missing.yaml"), RecipeError, "--model: missing.yaml does not exist"),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(bench, changed, error, complaint) -> None:
    world, common, _ = bench
    with pytest.raises(error, match=re.escape(complaint)):
        call(*common, *changed)
    assert not world.asked


def test_answers_to_other_questions_are_refused(bench, tmp_path: Path) -> None:
    _, common, _ = bench
    other = write(tmp_path / "other" / "de.jsonl", [{"question_id": 1, "choices": [{"turns": ["a", "b"]}]}])
    with pytest.raises(InputError, match="--answers o: o has no answer to 8 questions in de"):
        call(*common, "--answers", f"o={other.parent}")


def test_a_folder_of_something_else_is_left_alone(bench) -> None:
    _, common, out = bench
    out.mkdir()
    (out / "results.json").write_text('{"judges": {}}', encoding="utf-8")
    with pytest.raises(UserError, match="holds something else than MT-Bench"):
        call(*common)


def test_no_model_is_a_mistake(questions: Path) -> None:
    with pytest.raises(RecipeError, match="no model is named"):
        call(questions, "--judge", "gpt=judge:gpt")
