"""What a sweep varies: values as YAML, keys inside lists, the order of its points, folders of any value."""

import pytest
import yaml

import runs
from polypref import recipes, sweep_plan
from polypref.errors import RecipeError
from polypref.sweep_plan import Sweep, Vary


def plan(vary="generate.n=2,3", *overrides, **changes):
    """A sweep of the smoke recipe."""
    return Sweep(recipes.find("smoke"), Vary.of(vary), overrides=overrides, **changes)


def test_without_seeds_the_recipe_s_own_is_taken():
    points = plan("generate.n=2,3", "seed=7").points()
    assert [str(point) for point in points] == ["2, seed 7", "3, seed 7"]


def test_every_value_has_its_first_seed_before_any_has_its_second():
    points = plan(seeds=(1, 0)).points()
    assert [str(point) for point in points] == ["2, seed 1", "3, seed 1", "2, seed 0", "3, seed 0"]


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("reward_models.data.limit=100, 400,null", "reward_models.data.limit", (100, 400, None)),
        ("train.learning_rate=1.0e-4,0.5", "train.learning_rate", (1e-4, 0.5)),
        ("languages=[en, es],[en]", "languages", (["en", "es"], ["en"])),
        ("models.policy.path=fake?version=2,fake", "models.policy.path", ("fake?version=2", "fake")),
        ('name="a, b",it\'s', "name", ("a, b", "it's")),
        ("pair={rule: imbalance},{length_control: auto}", "pair", ({"rule": "imbalance"}, {"length_control": "auto"})),
    ],
)
def test_values_are_yaml_between_commas(text, key, values):
    assert Vary.of(text) == Vary(key, values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("generate.n", "is no KEY=v1,v2"),
        ("=1,2", "is no KEY=v1,v2"),
        ("generate.n=2", "fewer than two values"),
        ("languages=[en,es]", "fewer than two values"),
        ("generate.n=2,3,2", "has 2 twice"),
        ("generate.n=2,[3", "'[3' is not YAML"),
        ("generate.n=2,,3", "an empty value in '2,,3'; write null"),
        ("seed=0,1", "name the seeds with --seeds"),
    ],
)
def test_other_texts_are_refused(text, said):
    with pytest.raises(RecipeError, match=said.replace("[", r"\[")):
        Vary.of(text)


def test_a_key_inside_a_list_is_varied_in_that_entry_alone(tmp_path):
    recipe = runs.imbalance(tmp_path, baselines=[{"name": n, "train": {"method": "fake"}} for n in ("sft", "kto")])
    asked = Sweep(recipe, Vary.of("baselines.1.train.beta=0.2,0.3"), seeds=(5,))
    for point, beta in zip(asked.points(), (0.2, 0.3), strict=True):
        found = asked.at(point)
        assert [b.train.beta for b in found.baselines] == [0.1, beta]
        assert {b.train.seed for b in found.baselines} == {5}
    with pytest.raises(RecipeError, match=r"baselines\.2\.round: 2 is no entry of a list of 2"):
        Sweep(recipe, Vary.of("baselines.2.round=1,2")).points()


def test_a_key_that_the_recipe_leaves_open_can_be_varied(tmp_path):
    recipe = runs.small(tmp_path, prompts={"path": "???", "limit": 4})
    asked = Sweep(recipe, Vary.of("prompts.path=sandbox:train,sandbox:test"))
    assert [asked.at(point).prompts.path for point in asked.points()] == ["sandbox:train", "sandbox:test"]


def test_seeds_are_named_once():
    with pytest.raises(RecipeError, match="both name seeds"):
        plan("generate.n=2,3", "seed=1", seeds=(0, 1)).points()


def test_values_that_are_no_names_have_folders_all_the_same():
    names = [
        sweep_plan.folder(v) for v in (2, 0.25, None, "rm-en", ["en", "es"], ["en, es"], "../up", "-1", ".", "é" * 99)
    ]
    assert names[:4] == ["2", "0.25", "null", "rm-en"]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "/" in name or name.startswith((".", "-")) or len(name) > 60]


def test_values_are_written_as_they_are_read():
    for value in (2, 0.1, 1e-5, None, True, "yes", "a: b", "fake?x=1", ["en", "es"], {"a": [1, None]}, "ё\n"):
        assert yaml.safe_load(sweep_plan.as_yaml(value)) == value


def test_the_value_can_be_part_of_the_step_s_name():
    asked = plan("reward.model=rm-en,rm-es", step="best-of-64-{value}", seeds=(0,))
    point = sweep_plan.Point(1, "rm-es", 0, "rm-es/seed-0")
    assert asked.step_of(point) == "best-of-64-rm-es"
