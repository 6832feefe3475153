"""Kills, damage, wrong places and servers that fail: what is lost is made again, and the outcome is the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import runs
from backends.scripted_server import Reply, ScriptedServer
from polypref import reporting
from polypref.errors import InputError, ModelError
from polypref.recipe_file import read_recipe
from polypref.reporting import last_pairs
from polypref.run import run
from polypref.store.atomic import write_json
from runs import done, outcome, small, stamps, written

KILLER = """
import os, sys
from pathlib import Path
from polypref import reporting
from polypref.recipe_file import read_recipe
from polypref.run import run
reporting.render = lambda data: data.name
recipe, out, when, before = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "before"
rename, count = os.replace, 0
def killing(*names):
    global count
    count += 1
    if count == when and before:
        os.kill(os.getpid(), 9)
    rename(*names)
    if count == when:
        os.kill(os.getpid(), 9)
os.replace = killing
run(read_recipe(recipe), Path(out))
"""
"""A run that is killed before or after the n-th file takes its name."""


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch):
    monkeypatch.setattr(reporting, "render", lambda data: data.name)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    recipe = small(folder)
    done(recipe, folder / "run")
    return recipe, folder / "run"


@pytest.fixture
def copy(base, tmp_path):
    shutil.copytree(base[1], tmp_path / "run")
    return base[0], tmp_path / "run"


def cli(*arguments, **kw):
    return subprocess.Popen(
        [sys.executable, "-m", "polypref", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw,
    )  # fmt: skip


# --- killed ----------------------------------------------------------------------------------------------------------


KILLS = ((1, "before"), (2, "after"), (9, "before"), (30, "after"), (4, "before"))
"""Each start gets a little further; the first kill strikes before the folder is known to be a run's."""


def killed_again_and_again(recipe, out, kills=KILLS):
    for when, moment in kills:
        before = (
            {name: stamp for name, stamp in stamps(out).items() if name.endswith(".parquet")} if out.exists() else {}
        )
        killed = subprocess.run([sys.executable, "-c", KILLER, str(recipe), str(out), str(when), moment], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert {name: stamps(out).get(name) for name in before} == before, "a finished shard was made again"
    done(recipe, out)
    assert not runs.left_half_written(out)


def test_a_run_killed_while_it_writes_ends_up_the_same(base, tmp_path):
    killed_again_and_again(base[0], tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(base[1])


def test_a_run_of_pairs_by_imbalance_killed_while_it_writes_ends_up_the_same(tmp_path):
    auto = {"rule": "imbalance", "dominant": "auto", "probe": {"limit": 8}}
    recipe = runs.imbalance(tmp_path, pair=auto, translate_prompts={})
    done(recipe, tmp_path / "whole")
    killed_again_and_again(recipe, tmp_path / "run", (*KILLS, (25, "after"), (20, "before")))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_sigterm_ends_with_130_and_the_same_command_goes_on(base, tmp_path):
    out = tmp_path / "run"
    process = cli("run", base[0], "--out", out, "--set", "models.reference.path=fake?sleep=0.02")
    first = out / "round-1/generate/en/part-00000.parquet"
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "polypref: interrupted; the same command goes on from here\n")
    assert not runs.left_half_written(out)
    before = stamps(out)
    assert "results.json" not in before
    done(base[0], out)
    assert str(first.relative_to(out)) not in written(before, stamps(out))
    assert outcome(out) == outcome(base[1])


# --- damaged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "prompts/part-00001.parquet",
        "round-1/generate/es/part-00001.parquet",
        "round-1/score-cross_lingual/en/part-00000.parquet",
        "round-2/pair/es/part-00002.parquet",
        "round-1/train/checkpoint/config.json",
        "round-1/pair/summary.json",
        "manifest.json",
        "results.json",
    ],
)
def test_a_file_that_was_cut_or_lost_is_made_again(copy, name):
    recipe, out = copy
    whole = outcome(out)
    path = out / name
    path.write_bytes(path.read_bytes()[:-9])
    done(recipe, out)
    assert outcome(out) == whole
    if name != "manifest.json":  # a folder without one is not taken for a run's
        path.unlink()
        done(recipe, out)
        assert outcome(out) == whole


def test_a_run_that_was_finished_elsewhere_goes_on_where_it_is_copied_to(copy):
    """Nothing in a key says where the run stands, so a moved folder is not computed again."""
    recipe, out = copy
    moved = out.parent / "moved"
    shutil.copytree(out, moved, copy_function=shutil.copy2)
    before = stamps(moved)
    done(recipe, moved)
    assert written(before, stamps(moved)) == set()


# --- wrong places ----------------------------------------------------------------------------------------------------


def test_a_file_in_the_way_is_told(base, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a part of its path is a file; choose another place"):
        done(base[0], tmp_path / "file")
    with pytest.raises(InputError, match="a part of its path is a file; choose another place"):
        done(base[0], tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(base, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match="it may not be written; choose a folder that you own"):
        done(base[0], tmp_path / "closed" / "run")


# --- a server that fails ---------------------------------------------------------------------------------------------


class Server:
    """Answers that follow from the prompt and the seed; while it is ``ill``, it fails wherever a dog comes in."""

    def __init__(self):
        self.ill = True

    def __call__(self, body):
        asked = body["messages"][-1]["content"]
        if self.ill and {"dog", "perro"} & set(asked.split()):
            return Reply(500, {"error": {"message": "out of order"}})
        seed = body["seed"] % 97
        return Reply.texts(*(f"[en] {'word ' * (1 + (seed + k) % 5)}{len(asked)} {k}" for k in range(body.get("n", 1))))


def served(folder, url):
    """A recipe whose policy answers through a server, and is scored in process."""
    changes = {"pair": {"length_control": "auto", "language_check": False}, "rounds": 1}
    return read_recipe(small(folder, server={"url": url, "attempts": 1, "serves": ["policy"]}, **changes))


def test_a_model_that_the_server_does_not_serve_stops_the_run_until_it_does(tmp_path):
    """Round 2 asks for round 1's model under its name; once it is served, the same command goes on."""
    answer = Server()
    answer.ill = False
    known = {"policy"}

    def script(body):
        if body["model"] not in known:
            return Reply(404, {"error": {"message": f"no model {body['model']}"}})
        return answer(body)

    with ScriptedServer(script) as server:
        settings = {"pair": {"language_check": False}, "rounds": 2, "server": {"url": server.url, "attempts": 1}}
        recipe = read_recipe(small(tmp_path, **settings))
        with pytest.raises(ModelError, match="small-round-1"):
            run(recipe, tmp_path / "run")
        asked = len(server.bodies)
        known.add("small-round-1")
        run(recipe, tmp_path / "run")
    assert {body["model"] for body in server.bodies[asked:]} == {"small-round-1"}


def test_what_a_server_failed_is_recorded_and_alone_asked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marker-of-a-secret")
    answer = Server()
    with ScriptedServer(answer) as server:
        recipe, out = served(tmp_path, server.url), tmp_path / "run"
        data = run(recipe, out)
        drawn = list(last_pairs(out, recipe))
        failed = {c.id for e in drawn for c in e.candidates if c.error}
        assert failed
        assert len(failed) < sum(len(e.candidates) for e in drawn)
        assert all("500" in c.error for e in drawn for c in e.candidates if c.error)
        assert {d.candidate for e in drawn for d in e.dropped if d.stage == "generate"} == failed
        assert not failed & {side for e in drawn for p in e.pairs for side in (p.chosen, p.rejected)}
        counts = [sum(by.values()) for by in data.rounds[0]["summaries"]["generate"]["dropped"].values()]
        assert sum(counts) == len(failed)
        assert {h["authorization"] for h in server.headers} == {"Bearer sk-marker-of-a-secret"}

        before, asked = stamps(out), len(server.bodies)
        answer.ill = False
        run(recipe, out)
        again = server.prompts()[asked:]
        assert again
        assert all({"dog", "perro"} & set(prompt.split()) for prompt in again)
        names = written(before, stamps(out))
        whole = {f for f in before if "/generate/" in f} - names
        assert whole, "every shard had a failure, so the test cannot tell"
        assert not [c for e in last_pairs(out, recipe) for c in e.candidates if c.error]

        run(recipe, tmp_path / "never-ill")
        assert outcome(out) == outcome(tmp_path / "never-ill")
        before, asked = stamps(out), len(server.bodies)
        run(recipe, out)
        assert (written(before, stamps(out)), len(server.bodies)) == (set(), asked)
    for path in out.rglob("*"):
        assert path.is_dir() or b"sk-marker" not in path.read_bytes(), path


def test_failures_that_the_user_brings_are_not_asked_again(tmp_path):
    """Labelled answers may have errors of their own; they are no failure of this run's."""
    rows = [
        {
            "id": "1",
            "prompts": {"en": "Say it.", "es": "Dilo."},
            "candidates": [
                {"id": "a", "lang": "en", "text": "good", "label": "right"},
                {"id": "b", "lang": "en", "text": "bad", "label": "wrong"},
                {"id": "c", "lang": "en", "text": "", "error": "no answer"},
            ],
        }
    ]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = small(tmp_path, evaluate={"labelled": {"path": str(tmp_path / "labelled.jsonl")}}, rounds=1)
    data = done(recipe, tmp_path / "run")
    assert data.results["policy"]["en"]["reward_accuracy_cross_lingual_n"] == 1
    before = stamps(tmp_path / "run")
    done(recipe, tmp_path / "run")
    assert written(before, stamps(tmp_path / "run")) == set()


def test_a_manifest_that_is_no_object_is_begun_anew(copy):
    recipe, out = copy
    write_json(out / "manifest.json", ["not", "a", "manifest"])
    done(recipe, out)
    steps = json.loads((out / "manifest.json").read_text())["steps"]
    assert all(step["done"] for step in steps.values())
