"""A run that uses rewards again: what an input must change and what it must not, and mistakes told before any work."""

import dataclasses
import json

import pytest

from polypref.errors import InputError
from polypref.reporting import last_pairs
from polypref.run import run
from test_reuse_run import TREE, recipe, results, told

BARE = {"diagnose": ..., "best_of_n": ..., "baselines": [], "evaluate__win_rates": [], "evaluate__judges": {}}


def reinforced_on(folder):
    return json.loads((folder / "round-1/train/checkpoint/polypref.json").read_text(encoding="utf-8"))["summary"]


def test_reinforcement_trains_on_no_language_that_is_left_out(tmp_path, monkeypatch):
    def given_up(reward, figures, curves, options, *, languages, **more):
        verdicts = {lang: {"verdict": "no_go" if lang == "de" else "go"} for lang in languages}
        return {"languages": {lang: {"said": "", "evidence": []} | told for lang, told in verdicts.items()}}

    monkeypatch.setattr("polypref.stages.diagnosis.diagnose", given_up)
    run(recipe(**{**BARE, "diagnose": TREE["diagnose"] | {"no_go": "leave_out"}}), tmp_path)
    assert reinforced_on(tmp_path)["languages"].keys() == {"en", "es"}
    paired = {"train": {"method": "fake"}, "pair": {"rule": "best_of_n"}}
    changed = recipe(**{**BARE, **paired, "diagnose": TREE["diagnose"] | {"no_go": "leave_out"}})
    run(changed, tmp_path)
    assert {pair.lang for example in last_pairs(tmp_path, changed) for pair in example.pairs} == {"en", "es"}


def test_a_reward_of_one_language_leaves_the_languages_of_the_prompts_as_they_are(tmp_path):
    models = {
        "data": {"path": "sandbox:preferences-train", "limit": 12, "languages": ["en"]},
        "train": {"method": "fake"},
    }
    sources = {"reward_models": models | {"sources": {"only": ["en"]}}, "rewards": {}, "judge": ..., "languages": []}
    bare = {**BARE, "best_of_n": TREE["best_of_n"], "prompts": ..., "train": ..., "reward": ..., "generate": ...}
    run(recipe(**{**bare, **sources, "evaluate__win_rates": ["target"]}, rounds=0), tmp_path)
    found = results(tmp_path)
    assert {"en", "es", "de"} <= found["results"]["best-of-4-only"].keys()
    assert "win_rate" not in found["results"]["best-of-4-only"]["es"]
    assert any("The judge target says nothing in" in note and "es" in note for note in found["notes"])
    assert "only has made best-of-4-only and judges it in en: this win rate is no evidence" in found["notes"]


def test_best_of_n_with_settings_of_its_own_draws_other_samples_than_their_opponents():
    from polypref.best_of_n_steps import sampling_of

    for own in ({"temperature": 0.6, "top_p": 0.9, "max_tokens": 64}, {"temperature": 1.0}, {"seed": 7}):
        found = recipe(best_of_n__sampling=own)
        drawn = sampling_of(found.best_of_n.sampling, found.evaluate, 4)
        assert drawn.seed != found.evaluate.sampling.seed
        assert drawn.seed == own.get("seed", drawn.seed)


def test_a_limit_is_of_prompts_a_language_where_they_are_not_parallel(tmp_path):
    from polypref.best_of_n_steps import first
    from polypref.records import parse_example
    from polypref.store.shards import Track, write_prompts

    tags = ["en", "en", "en", "es", "en", "es", "es"]
    examples = [parse_example({"id": str(place), "prompts": {tag: "x"}}) for place, tag in enumerate(tags)]
    write_prompts(tmp_path / "prompts", examples, 4)
    track = Track(tmp_path, "prompts", ("en", "es"), "en")
    assert [example.id for example in first(track, 2)] == ["0", "1", "3", "5"]
    assert [example.id for example in first(dataclasses.replace(track, languages=("es",)), 2)] == ["3", "5"]


class Counted:
    """A judge of pairs that counts what it is asked, and says nothing the first time of one prompt."""

    fingerprint = "counted"

    def __init__(self):
        self.asked = []

    def compare(self, comparisons, recall=None, each=None):
        from polypref.backends.base import Verdict

        silent = None if self.asked else comparisons[0].id
        self.asked += [comparison.id for comparison in comparisons]
        return [Verdict(None if comparison.id == silent else 1.0, False) for comparison in comparisons]


def test_a_judge_of_pairs_is_asked_again_only_about_what_it_left_open(tmp_path, monkeypatch):
    from polypref import registry

    judge = Counted()
    monkeypatch.setattr(registry.Opener, "_comparer", lambda self, spec: judge)
    judges = {"pairs": {"scorer": "pair_judge", "model": {"path": "fake-judge", "backend": "fake"}}}
    asked = {**BARE, "evaluate__win_rates": ["pairs"], "evaluate__judges": judges}
    run(recipe(**asked), tmp_path)
    first = list(judge.asked)
    assert results(tmp_path)["results"]["reuse-round-1"]["en"]["no_verdict_win_rate"] > 0
    run(recipe(**asked), tmp_path)
    again = judge.asked[len(first) :]
    prompt = first[0].rpartition("/")[0]
    assert again
    assert {comparison.rpartition("/")[0] for comparison in again} == {prompt}
    assert results(tmp_path)["results"]["reuse-round-1"]["en"]["no_verdict_win_rate"] == 0
    done = len(judge.asked)
    run(recipe(**asked, evaluate__quality=None), tmp_path)  # another judge's scores are nothing to it
    assert len(judge.asked) == done


def test_a_run_shows_what_its_judges_take_beside_the_bar(tmp_path):
    """Two languages of one shard: the account of the second goes on from that of the first."""
    judges = {"pairs": {"scorer": "pair_judge", "model": {"path": "fake?judges=1", "backend": "fake"}}}
    told: list[tuple[str, str]] = []
    asked = recipe(**{**BARE, "evaluate__win_rates": ["pairs"], "evaluate__judges": judges})
    run(asked, tmp_path, beside=lambda what, words: told.append((what, words)))
    steps = dict(told)
    assert set(steps) == {"win-rates/pairs/reuse-round-1"}
    counts = [int(words.split(" requests")[0].replace(",", "")) for _, words in told]
    assert counts == sorted(counts)
    rows = (tmp_path / "judgments.jsonl").read_text(encoding="utf-8").splitlines()
    assert counts[-1] == 2 * sum("orders" in json.loads(row) for row in rows)


def test_a_diagnosis_that_a_server_left_open_is_made_again(tmp_path, monkeypatch):
    from polypref import registry

    judge = Counted()
    monkeypatch.setattr(registry.Opener, "_comparer", lambda self, spec: judge)
    model = {"path": "judge", "backend": "openai", "url": "http://localhost:1/v1"}
    judges = {"pairs": {"scorer": "pair_judge", "model": model}}
    diagnosed = TREE["diagnose"] | {"judge": "pairs"}
    asked = recipe(**{**BARE, "diagnose": diagnosed, "evaluate__judges": judges})
    counts = []
    for _ in range(3):
        run(asked, tmp_path)
        counts.append(len(judge.asked))
    assert counts[0] < counts[1] == counts[2]


def test_held_out_prompts_are_none_that_a_brought_reward_was_trained_on(tmp_path):
    judged = {"data": {"path": "sandbox:preferences-train", "limit": 8}}
    same = {"path": "sandbox:preferences-test", "limit": 8}
    with pytest.raises(InputError, match="8 training prompts are also evaluated on"):
        run(recipe(**{**BARE, "judge": judged | {"training": same}, "evaluate__prompts": same}), tmp_path)


def test_signs_are_looked_for_in_every_pick_where_nothing_tells_which_reward_leads(tmp_path):
    changed = {**BARE, "best_of_n": TREE["best_of_n"], "judge": ..., "prompts": ..., "train": ..., "reward": ...}
    run(recipe(**changed, generate=..., rounds=0), tmp_path)
    from polypref.stages import signatures

    found = results(tmp_path)
    assert [about["after"] for about in signatures.all_subjects(found)] == ["best-of-4-rm-en", "best-of-4-rm-es"]
    assert found["signatures"]["examined"]["length_growth"] == TREE["languages"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rewards": TREE["rewards"] | {"target": {"scorer": "fake"}}}, "a reward is called target"),
        ({"evaluate__sampling": {"temperature": 0}}, "evaluate.sampling has temperature 0"),
        ({"best_of_n__sampling": {"temperature": 0}}, "best_of_n.sampling has temperature 0"),
        ({"diagnose__sampling": {"temperature": 0}}, "diagnose.sampling has temperature 0"),
        ({"evaluate__judges": {"second": {"scorer": "orcale"}}}, "evaluate.judges.second.scorer is 'orcale'"),
        ({"evaluate__judges": TREE["evaluate"]["judges"] | {"idle": {"scorer": "fake"}}}, "judges.idle judges nothing"),
        ({"evaluate__quality": "reward_model"}, "evaluate.quality with evaluate.quality_model: reward_model needs"),
        ({"diagnose__rewards": ["rm-es"], "diagnose__no_go": "leave_out"}, "the reward of the rounds"),
        ({"diagnose__judge": "second", "evaluate__judges": {"second": TREE["rewards"]["rm-en"]}}, "rm-en itself"),
    ],
)  # fmt: skip
def test_what_would_say_nothing_is_told_before_any_work(changed, sentence):
    assert sentence in told(**changed)
