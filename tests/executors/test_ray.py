"""The Ray executor: the same files as the loop's, whoever begins, whatever dies."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

import runs
from executors import ray_layers
from executors.ray_layers import drawing, files, scoring, track, work
from faults.table import survived
from polypref.backends.base import silent
from polypref.errors import MissingExtraError, ModelError, RecipeError, UserError
from polypref.executors import LOCAL, chosen, ray_cluster, told
from polypref.executors.ray_cluster import Shares, misfit, shares, workers_ended
from polypref.executors.ray_options import RayOptions
from polypref.executors.ray_work import Home
from polypref.executors.units import Task
from polypref.mistakes import checked
from polypref.records import parse_example
from polypref.store.shards import Track, write_prompts

ROOT = Path(__file__).parents[2]


# --- options, without Ray ---------------------------------------------------------------------------------------------


def test_options_are_read_from_a_command_line():
    """``1,4`` is a range, ``2`` a range of one number; --ray-address is ``address``."""
    options = checked(RayOptions, told(["actors=1,4", "gpus=0.5", "batch=16", "verbose=true"], "auto"))
    assert (options.address, options.actors, options.gpus, options.batch) == ("auto", (1, 4), 0.5, 16)
    assert (options.cpus, options.verbose) == (None, True)
    assert RayOptions(actors="2").actors == RayOptions(actors=2).actors == (2, 2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("actor=2", "unknown key; did you mean actors"),
        ("actors=3,1", "the least and the most"),
        ("actors=some", "actors"),
        ("gpus=1.5", "a whole number beyond 1"),
        ("batch=0", "batch"),
        ("actors", "is no NAME=VALUE"),
    ],
)
def test_options_that_cannot_be_are_refused(setting, message):
    pytest.importorskip("ray")
    with pytest.raises(RecipeError, match=message):
        chosen("ray", told([setting]))


def test_executors_that_are_not_there_are_refused(monkeypatch):
    with pytest.raises(RecipeError, match="did you mean local"):
        chosen("loca")
    with pytest.raises(RecipeError, match="the local executor has no actors"):
        chosen("local", {"actors": "2"})
    assert chosen("local") is LOCAL
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'polypref\[ray\]'"):
        chosen("ray")


def node(cpus, gpus=0):
    return {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        # One actor a node, half of the smallest node's CPUs; whole numbers beyond 1.
        ([node(2)], {}, Shares(1, 1, 1.0, 0.0, 1)),
        ([node(1)], {}, Shares(1, 1, 0.5, 0.0, 1)),
        ([node(16), node(7)], {}, Shares(1, 2, 3.0, 0.0, 8)),
        # Two actors on a node of two cores take half of one core each.
        ([node(2)], {"actors": 2}, Shares(2, 2, 0.5, 0.0, 1)),
        # One actor a GPU, or as many as fractions allow; a CPU each where there are enough.
        ([node(32, 8)], {}, Shares(1, 8, 1.0, 1.0, 8)),
        ([node(4, 1)], {"gpus": 0.25}, Shares(1, 4, 0.5, 0.25, 2)),
        # The driver's node has no CPU to give (KubeRay's head).
        ([node(0), node(8, 2)], {}, Shares(1, 2, 1.0, 1.0, 4)),
    ],
)
def test_actors_leave_half_of_a_node_to_others(nodes, options, expected):
    assert shares(RayOptions(**options), nodes) == expected


def test_actors_that_can_never_stand_are_counted():
    """Four of 1 CPU on two nodes of 1.5: one each. Half a GPU each: two on a node of one GPU."""
    assert misfit(Shares(4, 4, 1.0, 0.0, 1), [node(1.5)] * 2) == (
        "4 actors of 1 CPU do not fit on the cluster's 2 nodes (3 CPU, 0 GPU)"
    )
    assert misfit(Shares(2, 4, 0.5, 0.5, 1), [node(2, 1)]) is None
    assert misfit(Shares(3, 4, 0.5, 0.5, 1), [node(2, 1)]) is not None


def test_an_actor_stands_where_the_driver_stands_and_finds_its_models(tmp_path, monkeypatch):
    """A relative path means the same; one that is not there is told with the node's name."""
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "model").mkdir()
    Home(str(tmp_path), ("scorers-of-mine",), ("model",)).enter()
    assert Path.cwd() == tmp_path
    assert sys.path[-1] == "scorers-of-mine"
    with pytest.raises(ModelError, match="does not find other, which this machine has; put the run and its models on"):
        Home(str(tmp_path / "elsewhere"), (), ("model", "other")).enter()


def test_every_option_has_its_line_in_the_docs():
    page = (ROOT / "docs/ray.md").read_text(encoding="utf-8")
    assert set(RayOptions.model_fields) == {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}


def test_a_worker_that_hangs_when_ray_has_ended_is_killed_and_nobody_else(monkeypatch):
    monkeypatch.setattr(ray_cluster, "PATIENCE", 0.1)
    hang = ["-c", "import time; time.sleep(600)"]
    worker, other = (subprocess.Popen([name, *hang], executable=sys.executable) for name in ("ray::hangs", "python"))
    try:
        with workers_ended():
            assert worker.poll() is None
        assert worker.wait(60) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (worker, other):
            process.kill()
            process.wait()


# --- one small cluster ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _token():
    """The first Ray of a user writes a token into the home; of two that start at once one would read the other's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@contextlib.contextmanager
def short_folder():
    """Ray's sockets lie in its folder, and the path of one may have 107 bytes."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def patiently(start):
    """Ray gives itself half a minute to start, which may be short where many tests run at once; hence the timeouts of
    the tests that use it."""
    import ray

    for _ in range(4):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    return start()


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    with short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL, "include_dashboard": False}
        patiently(lambda: ray.init("local", num_cpus=2, object_store_memory=100 * 2**20, _temp_dir=folder, **quiet))
        yield ray
        with workers_ended():
            ray.shutdown()


def counted(said):
    return lambda what, done, total: said.append((what, done, total))


@pytest.mark.timeout(900)
def test_what_one_executor_began_the_other_finishes_with_the_same_files(cluster, tmp_path):
    """Answers that failed are drawn again by Ray, and of the scores what is missing; batches of 3 cut units of 4."""
    ill, well, scores = drawing("fake?errors=0.3"), drawing(), scoring("Slow", tmp_path)
    alone, both = track(tmp_path / "alone"), track(tmp_path / "both")
    failed = work(LOCAL, alone, ill, well)[1]
    assert failed > 1
    assert work(LOCAL, alone.over("generate"), scores) == [6]
    said = []
    with chosen("ray", {"actors": "2", "batch": "3"}) as executor:
        assert work(LOCAL, both, ill) == [6]
        assert executor.map_units(both, well, counted(said)) == failed
        assert work(LOCAL, both.over("generate"), scores) == [6]
        (both.root / "score/es/part-00001.parquet").unlink()
        assert work(executor, both.over("generate"), scores) == [1]
        assert work(executor, both.over("generate"), scores) == [0]
    assert files(both) == files(alone)
    assert [done for _, done, total in said if total == 6] == list(range(6 - failed, 7))
    assert max(done for _, done, total in said if total is None) == 4 * failed


@pytest.mark.timeout(900)
def test_a_mistake_in_an_actor_is_the_same_sentence_in_the_driver(cluster, tmp_path, capfd):
    on = track(tmp_path)
    with chosen("ray") as executor:
        with pytest.raises(ModelError) as raised:
            work(executor, on, scoring("Spoiled", tmp_path))
        assert str(raised.value) == "the model is spoiled; take another"
        shard = on.root / "prompts/part-00001.parquet"
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-9])
        with pytest.raises(UserError):
            work(executor, on, drawing())
        shard.write_bytes(whole)
    assert not files(on)
    assert "Traceback" not in capfd.readouterr().err


# --- what dies (minutes) ----------------------------------------------------------------------------------------------


@pytest.fixture
def slowly(tmp_path):
    """A track, the layer of the slow scorer, and what its files are by the loop."""
    pids = tmp_path / "pids"
    pids.mkdir()
    alone, on = track(tmp_path / "alone", 24), track(tmp_path / "on", 24)
    layer = scoring("Slow", pids)
    work(LOCAL, alone, layer)
    for name in pids.iterdir():
        name.unlink()
    return on, layer, files(alone), pids


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_killed_actor_costs_its_batches(cluster, slowly):
    on, layer, expected, pids = slowly
    killed = []

    def killing(what, done, total):
        if total and done >= 2 and len(killed) < 2:
            alive = [int(p.name) for p in pids.iterdir() if int(p.name) not in killed]
            if alive:
                os.kill(alive[0], signal.SIGKILL)
                killed.append(alive[0])

    with survived("SIGKILL of two Ray actors", lost="their batches"):
        with chosen("ray", {"actors": "2", "batch": "1"}) as executor:
            assert executor.map_units(on, layer, killing) == 12
        assert len(killed) == 2
        assert files(on) == expected


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_batch_that_kills_whoever_works_on_it_ends_the_run(cluster, tmp_path):
    on = track(tmp_path)
    with (
        chosen("ray", {"batch": "1", "retries": "1"}) as executor,
        pytest.raises(UserError, match=r"score: whoever works on .., shard 1, from example 1 on dies of it, 2 times"),
    ):
        work(executor, on, scoring("Deadly", tmp_path))


DRIVER_KILLED = "SIGKILL of a driver; Ray goes on after the loop, the loop after Ray, Ray after Ray"


def left_of(folder):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("first", "second"), [("ray", "local"), ("ray", "ray"), ("local", "ray")])
def test_a_killed_driver_costs_the_units_in_work(slowly, first, second):
    """SIGKILL once a unit stands; nothing of Ray is left, and either executor goes on."""
    on, _, expected, pids = slowly
    with survived(DRIVER_KILLED, lost="the units in work"), short_folder() as folder:
        there = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"RAY_TMPDIR": folder, "PYTHONPATH": there}
        command = [sys.executable, ray_layers.__file__, str(on.root), str(pids)]
        driver = subprocess.Popen([*command, first], env=environment)
        while not files(on) and driver.poll() is None:
            time.sleep(0.05)
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
        begun = files(on)
        assert 0 < len(begun) < len(expected)
        deadline = time.monotonic() + 60
        while left_of(folder) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not left_of(folder)
        subprocess.run([*command, second], env=environment, check=True)
        assert not left_of(folder)
        assert files(on) == expected
        assert {name: files(on)[name] for name in begun} == begun


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_the_smoke_recipe_comes_to_the_same(tmp_path):
    from polypref import recipes
    from polypref.recipe_file import read_recipe
    from polypref.run import run

    pytest.importorskip("ray")
    runs.smoke(tmp_path / "local")
    with short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        with chosen("ray", {"object_store_mb": "100"}) as executor:
            run(read_recipe(recipes.find("smoke"), runs.NO_SLEEP), tmp_path / "ray", executor=executor)
    assert runs.outcome(tmp_path / "ray") == runs.outcome(tmp_path / "local")


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_the_sandbox_is_answered_and_scored_the_same(cluster, tmp_path):
    """Texts are equal, scores to 1e-4: two sandbox models as they are made, sampled and scored."""
    from polypref.sandbox import world
    from polypref.sandbox.model import build_model
    from polypref.sandbox.tokenizer import build_tokenizer
    from polypref.stages.generate import GenerateOptions
    from polypref.stages.prompts import restricted
    from polypref.stages.score import ImplicitOptions

    tokenizer = build_tokenizer(0)
    for name, seed in (("policy", 0), ("reference", 1)):
        build_model(tokenizer, seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    policy, reference = ({"path": str(tmp_path / name)} for name in ("policy", "reference"))
    asked = GenerateOptions(sources=[{"role": "policy", "model": policy, "n": 2}], sampling={"max_tokens": 24})
    scored = ImplicitOptions(policy=policy, reference=reference)
    told_all = ray_layers.LANGUAGES, "en", "fake"
    layers = [
        ray_layers.layer("generate", Task("polypref.stages.generate:generate", asked, *told_all, one_language=True)),
        ray_layers.layer("score", Task("polypref.stages.score:implicit", scored, *told_all)),
    ]
    prompts = [restricted(parse_example(row), ray_layers.LANGUAGES) for row in world.prompts("train", 12, 0)]
    examples = {}
    with chosen("ray", {"batch": "5"}) as ray_executor:
        for name, executor in (("local", LOCAL), ("ray", ray_executor)):
            write_prompts(tmp_path / name / "prompts", prompts, 6)
            on = Track(tmp_path / name, "prompts", ray_layers.LANGUAGES, "en")
            for layer in layers:
                assert executor.map_units(on, layer, silent) == 4
                on = on.over(layer.name)
            examples[name] = list(on.examples())
    pairs = [
        (a, b)
        for one, other in zip(examples["local"], examples["ray"], strict=True)
        for a, b in zip(one.candidates, other.candidates, strict=True)
    ]
    assert len(pairs) == 48
    for a, b in pairs:
        assert (a.id, a.text, a.token_ids) == (b.id, b.text, b.token_ids)
        assert b.scores == pytest.approx(a.scores, abs=1e-4)
    assert len({a.scores["implicit"] for a, _ in pairs}) > 24


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_node_that_goes_costs_what_lay_on_it(slowly):
    """Two nodes of one CPU with an actor each; the one without the driver is removed while it scores."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    on, layer, expected, pids = slowly
    if ray.is_initialized():
        ray.shutdown()
    node_goes = survived("a node of a Ray cluster removed", lost="what lay on it")
    with node_goes, short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        size = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        nodes = patiently(lambda: Cluster(initialize_head=True, head_node_args=size))
        try:
            second = patiently(lambda: nodes.add_node(**size))
            ray.init(nodes.address, log_to_driver=False, logging_level=logging.CRITICAL)
            gone = []

            def removing(what, done, total):
                if total and done >= 2 and len(list(pids.iterdir())) == 2 and not gone:
                    nodes.remove_node(second)
                    gone.append(second)

            with chosen("ray", {"actors": "2", "cpus": "1", "batch": "1"}) as executor:
                assert executor.map_units(on, layer, removing) == 12
            assert gone
        finally:
            ray.shutdown()
            nodes.shutdown()
        assert files(on) == expected
