"""What ``import polypref`` gives: a list that is only ever added to, and a small job done with it."""

import json

import pytest

import polypref
from polypref.errors import RecipeError
from runs import small

PUBLIC = [
    "Candidate",
    "Example",
    "InputError",
    "ModelError",
    "Pair",
    "PolyprefError",
    "RecipeError",
    "UserError",
    "__version__",
    "export_pairs",
    "generate",
    "judge_rewards",
    "pair_best_worst",
    "pair_imbalance",
    "parse_example",
    "read_examples",
    "read_recipe",
    "run_recipe",
    "score_implicit",
    "score_with",
    "to_json",
    "train",
    "train_reward",
    "transfer",
    "winrate",
    "write_examples",
]


def test_the_public_names_are_these_and_are_there():
    assert sorted(polypref.__all__) == PUBLIC
    assert set(dir(polypref)) == set(PUBLIC)
    assert all(getattr(polypref, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'scoer'"):
        polypref.scoer  # noqa: B018


def test_a_small_job(tmp_path):
    source = tmp_path / "prompts.jsonl"
    rows = [{"id": str(i), "prompts": {"en": f"Say {i}.", "es": f"Di {i}."}} for i in range(4)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy = {"path": "fake?version=2", "backend": "fake"}
    reference = {"path": "fake", "backend": "fake"}
    prompts = list(polypref.read_examples(source))
    answered = polypref.generate(prompts, policy, n=3, temperature=0.8, max_tokens=30, seed=1)
    assert all(e.candidates == [] for e in prompts)  # nothing is changed in place
    assert [len(e.candidates) for e in answered] == [6] * 4
    assert polypref.generate(answered, policy, n=3, temperature=0.8, max_tokens=30, seed=1) == answered
    scored = polypref.score_implicit(answered, policy, reference, view="cross_lingual", beta=0.5)
    one = scored[0].candidates[0].scores
    assert one["implicit"] == 0.5 * (one["policy_logprob"] - one["reference_logprob"])
    paired = polypref.pair_best_worst(scored, "implicit", language_check=False, length_control="auto")
    pair = next(p for e in paired for p in e.pairs)
    assert (pair.score, pair.rule) == ("implicit", "best_worst")
    summary = polypref.train(paired, policy, tmp_path / "model", method="fake")
    assert summary["rows"] == sum(len(e.pairs) for e in paired)
    again = polypref.generate(prompts, {"path": str(tmp_path / "model"), "backend": "fake"}, n=1)
    assert [c.text for e in again for c in e.candidates] != [c.text for e in answered for c in e.candidates[::3]]
    exported = polypref.export_pairs(paired, tmp_path / "export")
    assert sum(exported.pairs.values()) == summary["rows"]
    polypref.write_examples(tmp_path / "out.parquet", paired)
    assert list(polypref.read_examples(tmp_path / "out.parquet")) == paired


def test_a_recipe_is_run_from_a_file_with_overrides(tmp_path):
    data = polypref.run_recipe(small(tmp_path), tmp_path / "run", "rounds=1", "prompts.limit=4")
    assert [r["model"] for r in data.rounds] == ["small-round-1"]
    with pytest.raises(RecipeError, match="did you mean smoke"):
        polypref.run_recipe("smok", tmp_path / "other")


def test_wrong_options_are_errors_of_ours():
    with pytest.raises(RecipeError, match="beta: must be greater than 0, not 0"):
        polypref.score_implicit([], "a", "b", beta=0)
    with pytest.raises(RecipeError, match=r"length_contrl: unknown key; did you mean length_control\?"):
        polypref.pair_best_worst([], "implicit", length_contrl="auto")
    with pytest.raises(RecipeError, match=r"sampling\.top_p: must be less than or equal to 1, not 2"):
        polypref.generate([], "a", top_p=2)
    with pytest.raises(RecipeError, match="format: must be 'trl'"):
        polypref.export_pairs([], "x", "tlr")


def test_a_folder_of_something_else_is_not_replaced_by_a_checkpoint(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(polypref.InputError, match=r"holds files that are no checkpoint of polypref; name a new folder"):
        polypref.train([], {"path": "fake", "backend": "fake"}, tmp_path, method="fake")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
