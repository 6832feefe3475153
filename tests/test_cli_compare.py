"""``polypref evaluate alpaca`` and ``compare``: from files of answers to a table, and again without asking anybody."""

import json
import re
import signal
import subprocess
import sys

import pytest
import typer

from backends.scripted_server import Reply, ScriptedServer
from polypref import cli_compare
from polypref.errors import InputError, ModelError, RecipeError, UserError
from polypref.sandbox import world
from polypref.stages.judgments import read_judgments

ANSWER = re.compile(r"<answer ([AB]) (\w+)>\n(.*?)\n</answer \1 \2>", re.DOTALL)


def prefers_right(body):
    """A judge with one rule, by a token without log-probabilities: the answer that says ``right``, else A."""
    answers = {letter: text for letter, _, text in ANSWER.findall(body["messages"][-1]["content"])}
    usage = {"prompt_tokens": 100, "completion_tokens": 1}
    said = "A" if "right" in answers["A"] or "right" not in answers["B"] else "B"
    reply = Reply.texts(said)
    return Reply(body={**reply.body, "usage": usage})


@pytest.fixture
def judge():
    with ScriptedServer(prefers_right) as server:
        yield server


@pytest.fixture
def evaluate(capsys):
    """``evaluate("alpaca", …)`` → (stdout, stderr)."""
    app = typer.Typer(pretty_exceptions_enable=False)
    cli_compare.add_to(app)
    app.callback()(lambda: None)

    def call(*arguments):
        app([str(argument) for argument in arguments], standalone_mode=False)
        told = capsys.readouterr()
        return told.out, told.err

    return call


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


LANGUAGES = ("de", "es")


@pytest.fixture
def folder(tmp_path):
    """Six prompts in two languages with references; mine is right in four of Spanish and in two of German."""
    for lang in LANGUAGES:
        ids = range(6)
        write(tmp_path / f"set/prompts/{lang}.jsonl", [{"id": i, "instruction": f"prompt {lang}-{i}"} for i in ids])
        write(tmp_path / f"set/references/{lang}.jsonl", [{"id": i, "output": f"reference {i}"} for i in ids])
        won = 4 if lang == "es" else 2
        mine = [f"right {i}" if i < won else f"wrong {i}" for i in ids]
        write(tmp_path / f"mine/{lang}.jsonl", [{"id": i, "output": text} for i, text in enumerate(mine)])
    return tmp_path / "set"


def alpaca(evaluate, folder, judge, out, *more):
    """The machine's answer."""
    server = ("--judge", "gpt=pair_judge:any", "--url", judge.url)
    mine = folder.parent / "mine/{language}.jsonl"
    told, _ = evaluate("alpaca", folder, "--answers", f"mine={mine}", *server, "--out", out, "--json", *more)
    return json.loads(told)


def test_one_command_to_win_rates_by_language(evaluate, folder, judge, tmp_path):
    """Won comparisons count 1. In the others the judge says A in both orders, which contradict each other: 0.5.
    es: (4 + 2/2)/6, de: (2 + 4/2)/6; the mean over languages lies between."""
    out = tmp_path / "out"
    told = alpaca(evaluate, folder, judge, out)
    assert list(told["results"]) == ["mine"]
    es, de = told["results"]["mine"]["es"], told["results"]["mine"]["de"]
    assert (es["win_rate"], es["win_rate_n"], es["flip_rate"]) == pytest.approx((5 / 6, 6, 1 / 3))
    assert (de["win_rate"], de["flip_rate"], de["no_verdict"]) == pytest.approx((4 / 6, 2 / 3, 0))
    assert told["macro_average"]["mine"]["win_rate"] == pytest.approx(4.5 / 6)
    assert told["baseline"] == "reference"
    spent = told["spent"]["gpt"]
    assert (spent["requests"], spent["recalled"], spent["tokens_asked"], spent["tokens_answered"]) == (24, 0, 2400, 24)
    names = {path.name for path in out.iterdir()}
    assert names == {"judgments.jsonl", "gpt.journal.jsonl", "figures.json", "results.json", "report.html"}
    judgments = read_judgments(out / "judgments.jsonl")
    assert len(judgments) == 12
    assert {(j.judge, j.model, j.baseline) for j in judgments} == {("gpt", "mine", "reference")}
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["results"] == told["results"]
    assert {"config", "versions", "date", "seed", "signature"} <= results.keys()
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    assert figures["win_rates"]["by_language"]["es"]["win_rate"] == pytest.approx(500 / 6)


def test_a_second_run_asks_nobody_and_changes_nothing(evaluate, folder, judge, tmp_path):
    first = alpaca(evaluate, folder, judge, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    asked = len(judge.bodies)
    again = alpaca(evaluate, folder, judge, tmp_path / "out")
    assert (len(judge.bodies), again["spent"]["gpt"]["requests"], again["spent"]["gpt"]["recalled"]) == (asked, 0, 24)
    assert again["results"] == first["results"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_what_is_new_alone_is_asked(evaluate, folder, judge, tmp_path):
    """Three Spanish prompts, then all six, then German beside them: 6 requests, then 6, then 12."""
    counts = []
    for more in (("--languages", "es", "--limit", "3"), ("--languages", "es"), ()):
        alpaca(evaluate, folder, judge, tmp_path / "out", *more)
        counts.append(len(judge.bodies))
    assert counts == [6, 12, 24]


def test_a_changed_judge_asks_anew(evaluate, folder, judge, tmp_path):
    alpaca(evaluate, folder, judge, tmp_path / "out", "--languages", "es")
    alpaca(evaluate, folder, judge, tmp_path / "out", "--languages", "es", "--set", "gpt.settings.temperature=0.5")
    assert len(judge.bodies) == 24
    assert {body["temperature"] for body in judge.bodies[12:]} == {0.5}


def test_a_dry_run_asks_nobody_and_writes_nothing(evaluate, folder, judge, tmp_path):
    told = alpaca(evaluate, folder, judge, tmp_path / "out", "--dry-run")
    assert (told["gpt"]["total"]["matches"], told["gpt"]["total"]["requests"]) == (12, 24)
    assert told["gpt"]["by_language"]["es"]["requests"] == 12
    assert (judge.bodies, (tmp_path / "out").exists()) == ([], False)
    alpaca(evaluate, folder, judge, tmp_path / "out", "--languages", "es")
    told = alpaca(evaluate, folder, judge, tmp_path / "out", "--dry-run")
    assert (told["gpt"]["total"]["requests"], told["gpt"]["total"]["recalled"]) == (12, 12)


def test_a_comparison_that_failed_is_asked_again_by_the_next_run(evaluate, folder, tmp_path):
    """A server that refuses German prompts for good, then answers."""
    refusing = True

    def script(body):
        refused = refusing and "prompt de-3" in body["messages"][-1]["content"]
        return Reply(400, {"error": {"message": "refused"}}) if refused else prefers_right(body)

    with ScriptedServer(script) as judge:
        told = alpaca(evaluate, folder, judge, tmp_path / "out")
        assert told["results"]["mine"]["de"]["no_verdict"] == pytest.approx(1 / 6)
        assert told["results"]["mine"]["de"]["win_rate_n"] == 5
        refusing = False
        told = alpaca(evaluate, folder, judge, tmp_path / "out")
    assert (told["results"]["mine"]["de"]["no_verdict"], told["spent"]["gpt"]["requests"]) == (0, 2)


COMMAND = """
import typer
from polypref import cli_compare
app = typer.Typer()
cli_compare.add_to(app)
app.callback()(lambda: None)
app()
"""


def test_a_killed_command_goes_on_where_it_was(evaluate, folder, judge, tmp_path):
    """Killed at the tenth of 24 requests, one at a time: the eight or nine answers before it are not asked for again,
    and what is found is what an undisturbed run finds."""
    running = []

    def script(body):
        if len(killed.bodies) == 10:
            running[0].kill()
            running[0].wait()
        return prefers_right(body)

    with ScriptedServer(script) as killed:
        mine = folder.parent / "mine"
        arguments = ["alpaca", folder, "--answers", f"mine={mine}", "--out", tmp_path / "out"]
        arguments += ["--judge", "gpt=pair_judge:any", "--url", killed.url, "--set", "gpt.model.concurrency=1"]
        running.append(subprocess.Popen([sys.executable, "-c", COMMAND, *map(str, arguments)]))
        assert running[0].wait() == -signal.SIGKILL
        assert not (tmp_path / "out/results.json").exists()
        out, _ = evaluate(*arguments, "--json")
        assert 24 <= len(killed.bodies) <= 26
    undisturbed = alpaca(evaluate, folder, judge, tmp_path / "undisturbed")
    assert json.loads(out)["results"] == undisturbed["results"]
    judgments, others = ((tmp_path / name / "judgments.jsonl").read_bytes() for name in ("out", "undisturbed"))
    assert judgments == others


def test_the_table_has_languages_models_and_the_mean(evaluate, folder, judge, tmp_path):
    server = ("--judge", "gpt=pair_judge:any", "--url", judge.url)
    mine = folder.parent / "mine"
    out, _ = evaluate("alpaca", folder, "--answers", f"mine={mine}", *server, "--out", tmp_path / "out")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert out.startswith("Win rates against reference by gpt, in %")
    told = {line[0]: line[1] for line in lines if line[0] in (*LANGUAGES, "mean") and "±" in line}
    assert told == {"de": "66.7", "es": "83.3", "mean": "75.0"}
    assert any("gpt: 24 requests, 2400 + 24 tokens" in line for line in out.splitlines())
    said = " ".join(out.split())
    assert "gpt contradicts itself when the answers change places: German 66.7%, Spanish 33.3%" in said
    assert "mine beats reference: it wins 75.0%" in said or "cannot be told apart" in said


def test_a_judge_that_goes_by_the_place_concludes_nothing(evaluate, folder, tmp_path):
    """It says A whatever A is, so that all is 50.0: the headline is not that the models are alike."""
    with ScriptedServer(Reply.texts("A")) as judge:
        server = ("--judge", "gpt=pair_judge:any", "--url", judge.url)
        mine = ("--answers", f"mine={folder.parent / 'mine'}")
        out, _ = evaluate("alpaca", folder, *mine, *server, "--out", tmp_path / "out")
    said = "gpt contradicts itself in 100.0% of the comparisons when the answers change places"
    assert said in " ".join(out.split())
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert said in " ".join(page.split())
    assert "cannot be told apart" not in page + out


def test_a_mean_over_fewer_languages_is_marked(evaluate, folder, judge, tmp_path):
    write(folder.parent / "other/es.jsonl", [{"id": i, "output": f"right {i}"} for i in range(6)])
    write(folder / "prompts/fr.jsonl", [{"id": i, "instruction": f"prompt fr-{i}"} for i in range(6)])
    write(folder / "references/fr.jsonl", [{"id": i, "output": f"reference {i}"} for i in range(6)])
    write(folder.parent / "other/fr.jsonl", [{"id": i, "output": f"right {i}"} for i in range(6)])
    for lang in LANGUAGES:
        (folder.parent / f"third/{lang}.jsonl").parent.mkdir(exist_ok=True)
        (folder.parent / f"third/{lang}.jsonl").write_text((folder.parent / f"mine/{lang}.jsonl").read_text())
    write(folder.parent / "third/fr.jsonl", [{"id": i, "output": "right"} for i in range(6)])
    answers = [part for name in ("third", "other") for part in ("--answers", f"{name}={folder.parent / name}")]
    server = ("--judge", "gpt=pair_judge:any", "--url", judge.url, "--out", tmp_path / "out")
    out, _ = evaluate("alpaca", folder, *answers, *server)
    assert "* other: the mean over es, fr alone" in out.splitlines()
    [mean] = [line for line in out.splitlines() if line.split()[:1] == ["mean"] and "±" in line]
    assert mean.count("*") == 1
    macro = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["macro_average"]
    assert {model: of["languages"] for model, of in macro.items()} == {
        "third": ["de", "es", "fr"],
        "other": ["es", "fr"],
    }
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "* other: the mean over es, fr alone." in page


def test_what_becomes_of_verdicts_that_are_missing_is_told(evaluate, folder, tmp_path):
    """Two prompts are refused, of two no verdict can be read: the next command asks for the first two alone."""

    def script(body):
        text = body["messages"][-1]["content"]
        if "prompt de-3" in text or "prompt es-3" in text:
            return Reply(400, {"error": {"message": "refused"}})
        return Reply.texts("Hm.") if "prompt de-4" in text or "prompt de-5" in text else prefers_right(body)

    mine = ("--answers", f"mine={folder.parent / 'mine'}", "--out", tmp_path / "out")
    with ScriptedServer(script) as judge:
        server = ("--judge", "gpt=pair_judge:any", "--url", judge.url)
        _, err = evaluate("alpaca", folder, *mine, *server)
        asked = len(judge.bodies)
        evaluate("alpaca", folder, *mine, *server)
        assert len(judge.bodies) - asked == 4
    said = " ".join(err.split())
    assert "gpt: 4 of 12 comparisons without a verdict" in said
    assert "2 failed on the way, and the same command asks for them again; 2 are kept and not asked again" in said
    notes = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["notes"]
    assert notes[0] == "gpt: 4 comparisons without a verdict (3 in de, 1 in es)"


def test_a_narrower_command_says_what_it_leaves_out(evaluate, folder, judge, tmp_path):
    mine = ("--answers", f"mine={folder.parent / 'mine'}", "--out", tmp_path / "out")
    gpt = ("--judge", "gpt=pair_judge:any", "--url", judge.url)
    both = (*gpt, "--judge", "rule=fake:")
    for more, said in (
        (both, None),
        (gpt, "judgments.jsonl held 24 comparisons and now holds 12; left out: judge rule (the judges'"),
        ((*gpt, "--languages", "es", "--limit", "4"), "now holds 4; left out: language de; 2 comparisons more"),
        (gpt, None),
    ):
        _, err = evaluate("alpaca", folder, *mine, *more)
        assert (said or "left out") in " ".join(err.split()) or said is None
        assert ("left out" in err) == (said is not None)


def test_a_judge_that_is_not_there_is_told_before_another_is_asked(evaluate, folder, judge, tmp_path):
    mine = ("--answers", f"mine={folder.parent / 'mine'}", "--out", tmp_path / "out")
    judges = ("--judge", "gpt=pair_judge:any", "--url", judge.url, "--judge", f"rm={tmp_path / 'none'}")
    for more in ((), ("--dry-run",)):
        with pytest.raises(ModelError, match=r"the judge rm: .*none is no folder"):
            evaluate("alpaca", folder, *mine, *judges, *more)
    assert judge.bodies == []


def test_alpaca_evals_own_files_without_ids(evaluate, judge, tmp_path):
    """The evaluation set holds the reference answers; two instructions are the same, and have an answer each."""
    told = [("Name a river.", "koala"), ("Say it.", "vicuna"), ("Say it.", "vicuna")]
    rows = [{"instruction": text, "dataset": dataset} for text, dataset in told]
    reference = [{**row, "output": "Rhine", "generator": "gpt4_turbo"} for row in rows]
    texts = ("right", "a", "right")
    mine = [{**row, "output": text, "generator": "mine-1"} for row, text in zip(rows, texts, strict=True)]
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(reference), encoding="utf-8")
    (tmp_path / "model_outputs.json").write_text(json.dumps(mine), encoding="utf-8")
    arguments = ("--answers", f"mine={tmp_path / 'model_outputs.json'}", "--languages", "en", "--out", tmp_path / "out")
    server = ("--judge", "gpt=pair_judge:any", "--url", judge.url, "--json")
    out, _ = evaluate("alpaca", tmp_path / "alpaca_eval.json", *arguments, *server)
    found = json.loads(out)
    assert found["baseline"] == "gpt4_turbo"
    assert found["results"]["mine"]["en"]["win_rate"] == pytest.approx(2.5 / 3)
    judgments = read_judgments(tmp_path / "out/judgments.jsonl")
    assert sorted((j.category, j.model_answer) for j in judgments) == [
        ("koala", "right"),
        ("vicuna", "a"),
        ("vicuna", "right"),
    ]


# --- compare -------------------------------------------------------------------------------------------------------


@pytest.fixture
def world_answers(tmp_path):
    """The sandbox's prompts with answers in the wire format: perfect is always right, half in every second prompt,
    none never."""
    examples = world.prompts("test", 8, 0)
    for name in ("perfect", "half", "none"):
        rows = []
        for number, example in enumerate(examples):
            right = name == "perfect" or (name == "half" and number % 2 == 0)
            candidates = [
                {"id": lang, "lang": lang, "text": world.answer(example, lang) if right else "…", "model": name}
                for lang in LANGUAGES
            ]
            rows.append(
                {**example, "prompts": {lang: example["prompts"][lang] for lang in LANGUAGES}, "candidates": candidates}
            )
        write(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def named(folder, *names):
    return [part for name in names for part in ("--answers", f"{name}={folder / name}.jsonl")]


def test_every_two_meet_where_there_is_no_baseline(evaluate, world_answers, tmp_path):
    """By the oracle perfect beats half in 4 of 8 and ties in 4, half none likewise, perfect beats none in all:
    perfect (0.75 + 1)/2, half (0.25 + 0.75)/2, none (0.25 + 0)/2."""
    arguments = (*named(world_answers, "perfect", "half", "none"), "--judge", "oracle=oracle")
    out, _ = evaluate("compare", *arguments, "--out", tmp_path / "out", "--json")
    told = json.loads(out)
    rates = {model: figures["es"]["win_rate"] for model, figures in told["results"].items()}
    assert rates == {"perfect": 0.875, "half": 0.5, "none": 0.125}
    assert told["baseline"] is None
    figures = json.loads((tmp_path / "out/figures.json").read_text(encoding="utf-8"))
    assert figures["ratings"]["models"] == ["perfect", "half", "none"]


def test_all_are_held_against_the_baseline_by_every_judge(evaluate, world_answers, judge, tmp_path):
    arguments = (*named(world_answers, "perfect", "half", "none"), "--baseline", "half")
    judges = ("--judge", "oracle=oracle", "--judge", "gpt=pair_judge:any", "--url", judge.url)
    out, _ = evaluate("compare", *arguments, *judges, "--out", tmp_path / "out", "--json")
    told = json.loads(out)
    assert {model: figures["es"]["win_rate"] for model, figures in told["results"].items()} == {
        "perfect": 0.75,
        "none": 0.25,
    }
    # The scripted judge finds the word right in no answer: it says A in both orders, or is not asked.
    assert told["results"]["perfect"]["es"]["win_rate_by_gpt"] == 0.5
    figures = json.loads((tmp_path / "out/figures.json").read_text(encoding="utf-8"))
    assert figures["agreement"]["judges"] == ["oracle", "gpt"]


def test_a_published_order_of_prompts_and_its_limit(evaluate, world_answers, tmp_path):
    arguments = (*named(world_answers, "perfect", "none"), "--judge", "oracle=oracle", "--limit", "3")
    out, _ = evaluate("compare", *arguments, "--languages", "es", "--out", tmp_path / "out", "--json")
    assert json.loads(out)["results"]["perfect"]["es"]["win_rate_n"] == 3


# --- mistakes ------------------------------------------------------------------------------------------------------


def test_mistakes_are_told_before_anything_is_written(evaluate, folder, tmp_path):
    mine = ("--answers", f"mine={folder.parent / 'mine'}")
    out = ("--out", tmp_path / "out")
    oracle = ("--judge", "o=oracle")
    for arguments, error, said in (
        ((folder, *oracle), RecipeError, "--answers is missing"),
        ((folder, "--answers", "mine", *oracle), RecipeError, "--answers 'mine' is no NAME=PATH"),
        ((folder, *mine, *mine, *oracle), RecipeError, "--answers names mine twice"),
        ((folder, *mine), RecipeError, "--judge is missing"),
        ((folder, *mine, "--judge", "o=orakle:x"), RecipeError, "'orakle' is no scorer; did you mean oracle"),
        ((folder, *mine, "--judge", "a/b=oracle"), RecipeError, "a judge is called 'a/b'"),
        ((folder, *mine, "--judge", "j=pair_judge"), RecipeError, "--judge j: pair_judge needs a model"),
        ((folder, *mine, "--judge", "j=none.yaml"), RecipeError, "none.yaml does not exist"),
        ((folder, *mine, *oracle, "--set", "p.model.path=x"), RecipeError, "'p' is no judge; did you mean|known: o"),
        ((folder, *mine, *oracle, "--baseline", "gpt4"), RecipeError, "write --baseline gpt4=PATH"),
        ((folder, *mine, *oracle, "--languages", "fr"), InputError, "has no prompts in fr"),
        ((folder / "prompts", *mine, *oracle), InputError, "holds no reference answers"),
        ((folder, "--answers", f"reference={folder.parent / 'mine'}", *oracle), RecipeError, "choose another name"),
    ):
        with pytest.raises(error, match=said):
            evaluate("alpaca", *arguments, *out)
        assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="--answers names one model"):
        evaluate("compare", *mine, *oracle, *out)


def test_a_judge_that_cannot_judge_is_told_and_what_it_was_asked_is_kept(evaluate, folder, tmp_path):
    with (
        ScriptedServer(Reply.texts("What a question!")) as judge,
        pytest.raises(ModelError, match="gpt gave no verdict"),
    ):
        alpaca(evaluate, folder, judge, tmp_path / "out")
    assert all(judgment.error for judgment in read_judgments(tmp_path / "out/judgments.jsonl"))


def test_a_folder_that_holds_something_else_is_refused(evaluate, folder, tmp_path):
    for name in ("results.json", "manifest.json"):
        other = tmp_path / name.partition(".")[0]
        other.mkdir()
        (other / name).write_text('{"results": {}}', encoding="utf-8")
        mine = ("--answers", f"mine={folder.parent / 'mine'}", "--judge", "o=oracle", "--out", other)
        with pytest.raises(UserError, match="holds something else than comparisons"):
            evaluate("alpaca", folder, *mine)
        assert [path.name for path in other.iterdir()] == [name]


def test_real_answers_of_three_models_to_one_table(evaluate, real_data, tmp_path):
    """gpt-4o-mini and gpt-3.5-turbo against gpt-4-turbo, by a judge of length alone: the longer answer is better."""
    spec = tmp_path / "long.yaml"
    spec.write_text("scorer: test_cli_compare:Length", encoding="utf-8")
    answers = real_data / "responses/x_alpacaeval"
    models = {"mini": "gpt-4o-mini", "turbo": "gpt-3.5-turbo-0125"}
    arguments = [part for name, path in models.items() for part in ("--answers", f"{name}={answers / path}")]
    arguments += ["--baseline", f"gpt4={answers / 'gpt-4-turbo-2024-04-09'}", "--judge", f"long={spec}"]
    prompts = real_data / "prompts/x_alpacaeval"
    told, _ = evaluate("alpaca", prompts, *arguments, "--limit", 100, "--out", tmp_path / "out", "--json")
    found = json.loads(told)["results"]
    judgments = read_judgments(tmp_path / "out/judgments.jsonl")
    assert {lang for model in found.values() for lang in model} == {"de", "en", "es", "fr", "ru"}
    assert len(judgments) == 1000
    for model, figures in found.items():
        for lang, of in figures.items():
            rows = [j for j in judgments if (j.model, j.language) == (model, lang)]
            won = [(j.model_length > j.baseline_length) + (j.model_length == j.baseline_length) / 2 for j in rows]
            assert of["win_rate"] == pytest.approx(sum(won) / 100)
            assert of["no_verdict"] == 0


class Length:
    """Prefers the longer answer."""

    fingerprint = "length:1"

    def __init__(self, model=None):
        pass

    def score(self, answers):
        return [float(len(answer.text)) for answer in answers]
