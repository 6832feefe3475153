"""Recipes: every mistake at once with its place, and the tree that comes of a file."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from polypref import recipes
from polypref.errors import RecipeError
from polypref.recipe import Recipe, as_tree
from polypref.recipe_file import read_recipe
from polypref.recipe_paths import check_paths

SMALL = {
    "models": {"policy": "aligned", "reference": "sft"},
    "prompts": {"path": "prompts.jsonl"},
}


def written(folder, tree=None, text=None, name="recipe.yaml"):
    path = folder / name
    path.write_text(text if text is not None else yaml.safe_dump(tree or SMALL, sort_keys=False), encoding="utf-8")
    return path


def told(folder, *overrides, **written_as):
    with pytest.raises(RecipeError) as found:
        read_recipe(written(folder, **written_as), overrides)
    return str(found.value).splitlines()


def test_every_mistake_is_told_at_once_with_its_line_and_path(tmp_path):
    text = """\
models:
  reference: {path: sft, backend: hff, nam: z}
  policy: aligned
prompts:
  path: ???
  limit: 2.5
roundz: 3
train:
  lora:
    rr: 4
  epochs: many
languages: [en, xx-klingon]
"""
    assert told(tmp_path, text=text) == [
        "recipe.yaml:5: prompts.path: is to be given; add --set prompts.path=…",
        "recipe.yaml:12: languages.1: 'xx-klingon' is no language; write a BCP-47 code such as es or zh-Hans, "
        "or an English name such as Spanish",
        "recipe.yaml:2: models.reference.backend: must be 'hf', 'vllm', 'openai' or 'fake', not 'hff'",
        "recipe.yaml:2: models.reference.nam: unknown key; did you mean name?",
        "recipe.yaml:6: prompts.limit: must be an integer, not 2.5",
        "recipe.yaml:11: train.epochs: must be a number, not 'many'",
        "recipe.yaml:10: train.lora.rr: unknown key; did you mean r?",
        "recipe.yaml:7: roundz: unknown key; did you mean rounds?",
    ]


def test_a_key_that_is_like_no_other_is_told_which_there_are(tmp_path):
    (line,) = told(tmp_path, tree=SMALL | {"reward": {"qqq": 1}})
    assert line == (
        "recipe.yaml:7: reward.qqq: unknown key; known: by, views, policy, reference, beta, normalise, prefix, model"
    )


def test_the_branches_of_a_union_are_one_sentence(tmp_path):
    (line,) = told(tmp_path, tree=SMALL | {"pair": {"length_control": "maybe"}})
    assert line == "recipe.yaml:7: pair.length_control: must be 'off' or 'auto' or a number, not 'maybe'"


def test_what_is_missing_is_named(tmp_path):
    assert told(tmp_path, text="rounds: 1\n") == [
        "recipe.yaml: the recipe: models and prompts must be given, or rounds: 0 to align nothing"
    ]


def test_a_wrong_seed_is_told_once_though_every_section_has_it(tmp_path):
    assert told(tmp_path, tree=SMALL | {"seed": "x"}) == ["recipe.yaml:6: seed: must be an integer, not 'x'"]


def test_more_than_twenty_mistakes_are_counted(tmp_path):
    lines = told(tmp_path, tree=SMALL | {f"zz{i}": 1 for i in range(25)})
    assert len(lines) == 21
    assert lines[-1] == "and 5 more"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nprompts:\n  path: x\n  path: y\n", "recipe.yaml:4: prompts.path stands twice; keep one"),
        ("name: [x\n", "recipe.yaml:2: not YAML"),
        ("", "holds no key: value pairs"),
        ("- a\n- b\n", "holds no key: value pairs"),
        ("just words\n", "holds no key: value pairs"),
        ("a: !!python/object/apply:os.getcwd []\n", "recipe.yaml:1: not YAML"),
        ("a: 2026-13-45\n", "not a recipe"),
        ("? [a, b]\n: 1\n", "recipe.yaml:1: not YAML"),
        ("1: 2\n", "recipe.yaml:1: 1: "),
        ("models: [policy, reference]\n", "recipe.yaml:1: models: must be a mapping, not ['policy', 'reference']"),
        ("extends: [a]\n", "recipe.yaml:1: extends must name another recipe's file"),
        ("extends: none.yaml\n", "none.yaml does not exist"),
    ],
)
def test_a_file_that_is_no_recipe_is_told(tmp_path, text, said):
    assert any(said in line for line in told(tmp_path, text=text)), told(tmp_path, text=text)


def test_a_file_that_is_no_text_or_not_there_is_told(tmp_path):
    binary = tmp_path / "model.safetensors"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(RecipeError, match=r"model\.safetensors: not UTF-8"):
        read_recipe(binary)
    with pytest.raises(RecipeError, match="does not exist"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path)


def test_extends_lays_one_recipe_over_another(tmp_path):
    written(tmp_path, SMALL | {"rounds": 3, "pair": {"min_margin": 1.0, "length_control": "auto"}}, name="base.yaml")
    over = written(tmp_path, {"extends": "base.yaml", "pair": {"length_control": 0.5}, "prompts": {"limit": 7}})
    read = read_recipe(over)
    assert (read.rounds, read.pair.min_margin, read.pair.length_control) == (3, 1.0, 0.5)
    assert (read.prompts.path, read.prompts.limit) == ("prompts.jsonl", 7)
    written(tmp_path, {"extends": "recipe.yaml"}, name="third.yaml")
    with pytest.raises(RecipeError, match="extends another recipe itself"):
        read_recipe(tmp_path / "third.yaml")


def test_a_mistake_of_the_file_below_is_told_with_its_own_line(tmp_path):
    written(tmp_path, SMALL | {"rounds": "many"}, name="base.yaml")
    assert told(tmp_path, tree={"extends": "base.yaml"}) == ["base.yaml:6: rounds: must be an integer, not 'many'"]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("models.policy=other", "models.policy.path", "other"),
        ("models.policy.backend=fake", "models.policy.backend", "fake"),
        ("models.policy.name=mine", "models.policy.path", "aligned"),
        ("models.reference={path: a/b, dtype: float32}", "models.reference.dtype", "float32"),
        ("pair.length_control=off", "pair.length_control", "off"),
        ("pair.length_control=1e-3", "pair.length_control", 0.001),
        ("pair.length_control=-2", "pair.length_control", -2.0),
        ("train.learning_rate=5e-7", "train.learning_rate", 5e-7),
        ("languages=[en, Spanish, deu_Latn]", "languages", ("en", "es", "de")),
        ("train.lora.r=8", "train.lora.r", 8),
        ("evaluate.quality=oracle", "evaluate.quality", "oracle"),
        ("generate.temperature=null", "generate.temperature", None),
        ("prompts.path=a=b", "prompts.path", "a=b"),
        (" rounds = 1", "rounds", 1),
    ],
)
def test_set_lays_a_value_over_the_tree(tmp_path, override, path, value):
    found = read_recipe(written(tmp_path), [override])
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


def test_set_replaces_a_mapping_and_fills_a_null(tmp_path):
    tree = SMALL | {"models": {"policy": {"path": "a", "backend": "fake"}, "reference": None}}
    read = read_recipe(written(tmp_path, tree), ["models.policy=b", "models.reference.path=c"])
    assert (read.models.policy.path, read.models.policy.backend, read.models.reference.path) == ("b", "hf", "c")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rounds", "is no a.b=value"),
        ("=3", "is no a.b=value"),
        ("a..b=3", "is no a.b=value"),
        ("rounds=[", "is not YAML"),
        ("rounds.x=3", "rounds holds 2, so nothing can be set inside it"),
        ("rounds=many", "--set: rounds: must be an integer, not 'many'"),
        ("models.policy.nam=x", "--set: models.policy.nam: unknown key; did you mean name?"),
    ],
)
def test_a_wrong_set_is_told(tmp_path, override, said):
    assert said in told(tmp_path, override, tree=SMALL | {"rounds": 2})[0]


def test_the_resolved_recipe_reads_as_the_same_recipe(tmp_path):
    full = SMALL | {
        "seed": 7,
        "pair": {"length_control": "off", "min_margin": 0.25},
        "generate": {
            "n": 4,
            "source": {"policy": 1, "reference": 3},
            "stop": ["\n\n"],
            "system": {"Spanish": "Sé breve."},
        },
        "train": {"learning_rate": 5e-7, "lora": {"target_modules": ["q_proj"]}},
        "evaluate": {"prompts": {"path": "held-out"}, "labelled": None},
    }
    first = read_recipe(written(tmp_path, full))
    again = read_recipe(written(tmp_path, as_tree(first), name="resolved.yaml"))
    assert again == first
    assert as_tree(again) == as_tree(first)
    assert first.generate.system == {"es": "Sé breve."}


def test_sections_without_a_seed_have_the_recipes(tmp_path):
    tree = {
        "seed": 5,
        "models": {"reference": "sft"},
        "prompts": {"path": "a", "seed": 9},
        "alignment": {"prompts": {"path": "b"}},
        "evaluate": {"prompts": {"path": "c"}},
    }
    read = read_recipe(written(tmp_path, tree))
    assert (read.prompts.seed, read.generate.seed, read.train.seed) == (9, 5, 5)
    assert [read.alignment.prompts.seed, read.alignment.generate.seed, read.alignment.train.seed] == [5, 5, 5]
    assert [read.evaluate.prompts.seed, read.evaluate.sampling.seed] == [5, 5]
    assert (read.alignment.generate.source, read.evaluate.sampling.temperature) == ("reference", 0.6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": {"reference": "sft"}}, "give models.policy, or alignment"),
        ({"alignment": {"prompts": {"path": "x"}}}, "give models.policy, or alignment"),
        ({"models": {"policy": {"path": "a", "name": "m"}, "reference": {"path": "b", "name": "m"}}}, "must differ"),
        ({"name": "m", "models": {"policy": {"path": "a", "name": "m-round-2"}, "reference": "b"}}, "must differ"),
        ({"models": {"policy": {"path": "a", "name": "../up"}, "reference": "b"}}, "names a folder"),
        ({"models": {"policy": {"path": "a", "backend": "openai"}, "reference": "b"}}, "models.policy is on a server"),
        ({"name": "a/b"}, "name: must match"),
        ({"train": {"method": "kto", "reference": "fixed"}}, "kto is held to the model it starts from"),
        ({"pair": {"score": "cross_lingal"}}, "pair.score is 'cross_lingal'; did you mean cross_lingual?"),
        ({"pair": {"score": "multilingual"}}, "pair.score is 'multilingual'"),
        ({"reward": {"prefix": "In {lang}: "}}, "reward.prefix: may hold {language} and no other braces"),
        ({"generate": {"n": 3, "source": {"policy": 2, "reference": 2}}}, "add up to n = 3"),
        ({"generate": {"system": {"Klingonish": "x"}}}, "is no language"),
        ({"pivot": "xx-nope"}, "pivot: 'xx-nope' is no language"),
        ({"train": {"micro_batch_size": 3}}, "micro_batch_size 3 does not divide batch_size 32"),
    ],
)
def test_sections_must_fit_together(tmp_path, change, said):
    assert any(said in line for line in told(tmp_path, tree=SMALL | change)), told(tmp_path, tree=SMALL | change)


def test_the_view_that_pairs_is_that_of_the_score(tmp_path):
    views = {"reward": {"views": ["cross_lingual", "multilingual"]}}
    by_default = read_recipe(written(tmp_path, SMALL | views))
    assert (by_default.pair_score, by_default.pair_layer) == ("cross_lingual", "cross_lingual")
    named = read_recipe(written(tmp_path, SMALL | views | {"pair": {"score": "multilingual_policy_logprob"}}))
    assert named.pair_layer == "multilingual"


LIDR = ["models.policy=/a", "prompts.path=/c"]
REWARDS = ["reward_models.data.path=/a", "judge.data.path=/b"]
SFT = ["sft.start=/a", "sft.data.path=/b", "reward_models.data.path=/g"]
GIVEN = {
    "quickstart-reward-transfer": ["models.policy.path=/a"],
    "reward-transfer": ["models.policy=/c", *REWARDS, "prompts.path=/d"],
    "reward-transfer-off-the-shelf": ["models.policy=/c", "judge.data.path=/b", "prompts.path=/d"],
    "lidr": LIDR,
    "lidr-en-ja-ko-it-th": LIDR,
    "lidr-en-th-bn-sw": LIDR,
    "lidr-translated-prompts": LIDR,
    "lidr-reasoning": [*LIDR, "evaluate.prompts.path=/d"],
    "icr": ["models.policy=/a", "models.reference=/b", "prompts.path=/c"],
    "quickstart": ["models.reference.path=/a"],
    "quickstart-lidr": ["models.policy.path=/a"],
    "smoke": [],
    "quickstart-reuse-rewards": ["models.policy.path=/a"],
    "quickstart-reuse-summaries": ["models.policy.path=/a"],
    "reuse-rewards-bon": [*SFT, "reward_models.data.articles=/f", "evaluate.prompts.path=/d"],
    "reuse-rewards-rl": [*SFT, "diagnose.prompts.path=/e", "prompts.path=/c", "evaluate.prompts.path=/d"],
    "reuse-rewards-dpo": [
        *("models.policy=/a", "rewards.rm-en.model=/b", "prompts.path=/c", "evaluate.prompts.path=/d"),
        *("evaluate.judges.judge.model.path=j", "evaluate.judges.judge.model.url=http://localhost:1/v1"),
    ],
}


@pytest.mark.parametrize("path", sorted(recipes.folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_comes_with_polypref_is_valid(path):
    given = GIVEN.get(path.stem)
    assert given is not None, f"say in GIVEN what {path.name} leaves open"
    assert isinstance(read_recipe(path, given), Recipe)
    for left_out in range(len(given)):
        with pytest.raises(RecipeError, match="is to be given"):
            read_recipe(path, given[:left_out] + given[left_out + 1 :])


def test_paths_that_plainly_are_not_there_are_told_together(tmp_path):
    tree = SMALL | {
        "models": {"policy": str(tmp_path / "no"), "reference": "org/hub-name"},
        "prompts": {"path": str(tmp_path / "none.jsonl")},
        "evaluate": {"prompts": {"path": "./nothing"}},
    }
    with pytest.raises(RecipeError) as found:
        check_paths(read_recipe(written(tmp_path, tree)), "recipe.yaml")
    lines = str(found.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["models.policy", "prompts.path", "evaluate.prompts.path"]


def test_find_takes_a_file_before_a_name_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.find("smoke") == recipes.folder() / "smoke.yaml"
    assert recipes.find("smoke.yaml") == recipes.folder() / "smoke.yaml"
    written(tmp_path, name="smoke.yaml")
    assert recipes.find("smoke.yaml") == Path("smoke.yaml")
    with pytest.raises(RecipeError, match="did you mean smoke"):
        recipes.find("smoek")


def test_reading_a_recipe_opens_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom polypref.recipe_file import read_recipe\n"
        f"read_recipe({str(recipes.folder() / 'smoke.yaml')!r})\n"
        "print([m for m in ('torch', 'transformers', 'trl', 'datasets', 'altair', 'vllm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
