"""The command line: exit statuses, words, and what stands on disk afterwards."""

import io
import json
import subprocess
import sys

import pytest

import runs
from polypref import cli, reporting
from runs import done, small

LINE = {
    "id": "1",
    "prompts": {"en": "Hi", "es": "Hola"},
    "candidates": [
        {"id": "a", "lang": "es", "text": "uno", "finish_reason": "stop", "scores": {"s": 1.0}},
        {"id": "b", "lang": "es", "text": "dos", "finish_reason": "stop", "scores": {"s": 0.0}},
    ],
}
FAKES = ["--policy", "fake?version=2", "--reference", "fake", "--backend", "fake"]
SCORE = ["score", "implicit", *FAKES]
PAIR = ["pair", "best-worst", "--score", "s", "--language-check", "off"]
GENERATE = ["generate", "--model", "fake", "--backend", "fake"]


@pytest.fixture
def polypref(capsys, monkeypatch):
    """The command line in this process: ``polypref(…)`` → (exit status, stdout, stderr)."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr(reporting, "render", lambda data: data.name)

    def call(*arguments, stdin=None):
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return call


@pytest.fixture
def answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(LINE) + "\n")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "render", lambda data: data.name)
        done(small(folder), folder / "run")
    return folder / "run"


def test_a_stage_reads_and_writes_files(polypref, answers, tmp_path):
    assert polypref(*SCORE, "--input", answers, "--output", tmp_path / "scored.jsonl") == (0, "", "")
    scored = json.loads((tmp_path / "scored.jsonl").read_text())
    assert set(scored["candidates"][0]["scores"]) == {"s", "implicit", "policy_logprob", "reference_logprob"}
    status, out, err = polypref(*PAIR, "--input", answers, "--output", tmp_path / "p.jsonl", "--json")
    assert (status, err, json.loads(out)["es"]["pairs"]) == (0, "", 1)


def test_the_output_may_be_the_input(polypref, answers):
    for name in ("one", "two"):
        assert polypref(*SCORE, "--as", name, "--input", answers, "--output", answers)[0] == 0
    scores = json.loads(answers.read_text())["candidates"][1]["scores"]
    assert {"s", "one", "two", "one_policy_logprob", "two_reference_logprob"} <= set(scores)


def test_a_dash_is_stdin_and_stdout(polypref, answers, tmp_path):
    text = answers.read_text()
    status, out, err = polypref(*PAIR, "--input", "-", "--output", "-", stdin=text)
    assert (status, err) == (0, "")
    assert [p["chosen"] for p in json.loads(out)["pairs"]] == ["a"]
    status, out, err = polypref(*PAIR, "--input", "-", "--output", "-", "--json", stdin=text)
    assert json.loads(out)["id"] == "1"  # the examples alone: the figures make way
    assert json.loads(err)["es"]["pairs"] == 1
    status, _, err = polypref(*PAIR, "--input", "-", "--output", "-", stdin="{\n")
    assert (status, err[:19]) == (2, "polypref: stdin:1: ")


def test_an_output_is_replaced_only_on_success(polypref, answers, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("what stood here\n")
    status, _, err = polypref("pair", "best-worst", "--score", "missing", "--input", answers, "--output", out)
    assert (status, "has no score 'missing'" in err) == (2, True)
    assert out.read_text() == "what stood here\n"
    new = tmp_path / "new" / "deep" / "out.jsonl"
    polypref("pair", "best-worst", "--score", "missing", "--input", answers, "--output", new)
    assert not new.parent.parent.exists()
    assert polypref(*PAIR, "--input", answers, "--output", new)[0] == 0
    assert new.exists()
    assert not runs.left_half_written(tmp_path)


def test_a_place_that_cannot_be_written_is_told_before_the_work(polypref, answers, tmp_path, monkeypatch):
    def never(*arguments):
        raise AssertionError("a model was opened")

    monkeypatch.setattr("polypref.registry.backend", never)
    (tmp_path / "file").write_text("")
    for target, why in ((tmp_path, "it is a folder"), (tmp_path / "file" / "x.jsonl", "a part of its path is a file")):
        status, _, err = polypref(*SCORE, "--input", answers, "--output", target)
        assert (status, why in err) == (2, True), err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*SCORE, "--beta", "0"], "--beta: must be greater than 0, not 0.0"),
        ([*SCORE, "--beta", "many"], "Invalid value for '--beta'"),
        ([*SCORE, "--view", "cross"], "--view: must be 'cross_lingual', 'multilingual' or 'translated', not 'cross'"),
        ([*SCORE, "--dtype", "int8"], "--dtype: must be 'auto', 'float32', 'bfloat16' or 'float16', not 'int8'"),
        ([*SCORE, "--normalise", "max"], "--normalise: must be 'sum' or 'mean', not 'max'"),
        ([*SCORE, "--prefix", "In {lang}: "], "--prefix: may hold {language} and no other braces"),
        ([*SCORE, "--pivot", "xx-nope"], "'xx-nope' is no language"),
        ([*SCORE, "--as", ""], "--as: "),
        ([*SCORE, "--batch-tokens", "0"], "--batch-tokens: must be greater than 0, not 0"),
        (["score", "implicit", "--policy", "", "--reference", "fake"], "--policy: must name a folder"),
        (["score", "scorer", "--scorer", "oracel"], "'oracel' is no scorer; did you mean oracle?"),
        ([*PAIR, "--length-control", "nan"], "--length-control: must be off, auto or a finite number"),
        ([*PAIR, "--length-control", "atuo"], "--length-control is 'atuo'; say a number, or did you mean auto?"),
        ([*PAIR, "--min-margin", "inf"], "--min-margin: "),
        ([*PAIR, "--length-unit", "words"], "--length-unit: must be 'characters' or 'tokens', not 'words'"),
        ([*PAIR[:-1], "maybe"], "--language-check is 'maybe'; say on or off"),
        ([*GENERATE, "--n", "0"], "--n: must be greater than 0, not 0"),
        ([*GENERATE, "--temperature", "-1"], "--temperature: must be greater than or equal to 0, not -1.0"),
        (["generate", "--model", "fake", "--backend", "fakee"], "--backend: must be 'hf', 'vllm', 'openai' or 'fake'"),
        (["generate", "--model", "m", "--backend", "openai"], "needs url"),
        ([*GENERATE, "--language", "qq-zz-none"], "is no language"),
        (["generate", "--model", "real", "--backend", "fake"], "'real' is no fake model"),
    ],
)  # fmt: skip
def test_wrong_options_are_told_by_their_name(polypref, answers, tmp_path, arguments, said):
    status, out, err = polypref(*arguments, "--input", answers, "--output", tmp_path / "out.jsonl")
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) <= 6
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scoer"], "no such command 'scoer'; did you mean score?"),
        (["pair", "best-wurst"], "no such command 'best-wurst'; did you mean best-worst?"),
        (["score", "implicit", "--polcy", "x"], "No such option"),
        (["score", "implicit"], "Missing option '--"),
        (["run"], "Missing argument"),
        (["run", "smoke", "--sett", "a=b"], "--set"),
        (["run", "smokee"], "smokee does not exist; check the path (did you mean smoke?)"),
        (["run", "smoke", "--set", "roundz=2"], "--set: roundz: unknown key; did you mean rounds?"),
        (["validate", "icr"], ": models.policy: is to be given; add --set models.policy=…"),
        (["report", "--input", "."], "is no run's folder"),
        (["export", "--input", ".", "--output", "x"], "is no run's folder"),
        (["export", "--input", "none.jsonl", "--output", "x"], "none.jsonl does not exist"),
        (["ls", "scorer"], "'scorer' is no list; did you mean scorers?"),
        (["train", "--model", "fake", "--input", "x", "--output", "y", "--set", "epoch=2"], "did you mean epochs?"),
        (["train", "--model", "fake", "--input", "x", "--output", "y", "--set", "epochs=["], "is not YAML"),
        (["train", "--model", "fake", "--input", "x", "--output", "y", "--set", "epochs=no"], "--epochs: "),
        (["evaluate", "winrate", "--judgments", "none.jsonl"], "none.jsonl does not exist"),
    ],
)
def test_mistakes_exit_2_with_a_hint(polypref, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = polypref(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 6
    assert not list(tmp_path.iterdir())


def test_a_fault_of_ours_exits_with_a_traceback():
    code = (
        "import polypref.cli_terminal as t\nt.environment = lambda: 1 / 0\nfrom polypref.cli import main\nmain(['env'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "ZeroDivisionError" in ended.stderr


@pytest.mark.parametrize(
    ("begun", "word"), [("", "quickstart"), ("score", "implicit"), ("pair best-worst --help", "--length-control")]
)
def test_a_command_that_is_only_begun_shows_its_help(polypref, begun, word):
    status, out, err = polypref(*begun.split())
    assert (status, err) == (0, "")
    assert word in out


def test_a_quickstart_of_no_method_is_refused_before_anything_is_made(polypref, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = polypref("quickstart", "--system", "lird")
    assert (status, err) == (2, "polypref: --system is 'lird'; did you mean lidr?\n")
    assert not list(tmp_path.iterdir())


def test_lists(polypref):
    status, out, _ = polypref("ls", "--json")
    found = json.loads(out)
    assert (status, list(found)) == (0, ["recipes", "models", "scorers", "backends", "metrics"])
    assert {"icr", "quickstart", "smoke"} <= found["recipes"].keys()
    assert all(told for entries in found.values() for told in entries.values())
    assert polypref("ls", "scorers")[1].splitlines()[0] == "scorers"


def test_env_tells_versions_and_no_secret(polypref, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marker")
    status, out, _ = polypref("env", "--json")
    assert status == 0
    assert {"python", "polypref", "torch", "platform", "processors"} <= json.loads(out).keys()
    assert "sk-marker" not in out


def test_validate(polypref, tmp_path):
    assert polypref("validate", "smoke") == (0, "", "")
    status, out, _ = polypref("validate", small(tmp_path), "--json", "--set", "rounds=7")
    assert (status, json.loads(out)["rounds"]) == (0, 7)


def test_run_puts_a_run_where_it_is_told_and_goes_on_with_it(polypref, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = small(tmp_path, rounds=1)
    status, out, err = polypref("run", recipe, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads((tmp_path / "runs/small/results.json").read_text())
    before = runs.stamps(tmp_path / "runs/small")
    status, out, _ = polypref("run", "runs/small/recipe.yaml")
    assert status == 0
    assert "runs/small/report.html" in out
    assert runs.written(before, runs.stamps(tmp_path / "runs/small")) == set()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["small"]


def test_run_refuses_a_folder_of_something_else(polypref, tmp_path):
    status, _, err = polypref("run", small(tmp_path), "--out", tmp_path)
    assert (status, "is no run's folder; choose another --out" in err) == (2, True)


def test_report_prints_only_json_on_stdout(polypref, finished):
    status, out, err = polypref("report", "--input", finished, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["config"]["name"] == "small"


def test_what_a_library_prints_stays_off_stdout(polypref, answers, tmp_path, monkeypatch):
    from polypref.backends.fake import FakeLogprobs

    plain = FakeLogprobs.logprobs
    monkeypatch.setattr(FakeLogprobs, "logprobs", lambda self, found: print("loading shards") or plain(self, found))
    status, out, err = polypref(*SCORE, "--input", answers, "--output", "-")
    assert (status, json.loads(out)["id"]) == (0, "1")
    assert "loading shards" in err


@pytest.mark.parametrize("format_", ["trl", "trl-unpaired", "trl-completion", "llamafactory"])
def test_export_of_a_run(polypref, finished, tmp_path, format_):
    target = tmp_path / "export"
    status, out, err = polypref("export", "--input", finished, "--output", target, "--format", format_, "--json")
    assert (status, err) == (0, "")
    assert sum(json.loads(out)["rows"].values()) == len((target / "train.jsonl").read_text().splitlines())


def test_export_refuses_what_it_cannot_write(polypref, finished, tmp_path):
    status, _, err = polypref("export", "--input", finished, "--output", tmp_path / "x", "--format", "tlr")
    assert (status, "--format 'tlr' is no format; did you mean trl?" in err) == (2, True)
    half = tmp_path / "half"
    half.mkdir()
    (half / "recipe.yaml").write_text((finished / "recipe.yaml").read_text())
    status, _, err = polypref("export", "--input", half, "--output", tmp_path / "x")
    assert (status, "holds no pairs yet; finish it with: polypref run" in err) == (2, True)
    assert not (tmp_path / "x").exists()


def test_a_model_that_is_not_there_is_told(polypref, tmp_path, answers):
    target = tmp_path / "model"
    status, _, err = polypref("train", "--model", "./none", "--input", answers, "--output", target)
    assert (status, err) == (2, "polypref: ./none is no folder; give a checkpoint's folder or a hub name\n")
    assert not target.exists()


def test_figures(polypref, answers):
    arguments = ["evaluate", "figures", "--input", answers, "--quality", "s", "--language-fidelity", "off", "--json"]
    status, out, _ = polypref(*arguments)
    assert (status, json.loads(out)["es"]["quality"]) == (0, 0.5)


def test_as_a_module_and_through_a_pipe_that_closes():
    """Whoever reads one line and goes leaves no noise behind."""
    command = f"{sys.executable} -m polypref ls --json | head -1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("{\n", "")
    many = f"{sys.executable} -m polypref {' '.join(PAIR)} --input - --output - | head -c 9"
    lines = "".join(json.dumps({**LINE, "id": str(i), "pad": "x" * 2000}) + "\n" for i in range(200))
    ended = subprocess.run(["bash", "-c", many], input=lines, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ('{"id": "0', "")
