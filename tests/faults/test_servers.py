"""A server that fails: what it failed is recorded, and that alone is asked again."""

import json

import pytest

from backends.scripted_server import Reply, ScriptedServer
from polypref.errors import ModelError
from polypref.recipe_file import read_recipe
from polypref.reporting import last_pairs
from polypref.run import run
from runs import done, outcome, small, stamps, written


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
