"""Released checkpoints: a table that is well formed, and names that become hub ids."""

import json
import re
from pathlib import Path

import pytest

from polypref import cli, languages
from polypref.backends.base import ModelSpec
from polypref.backends.released import ICR, LIDR, RELEASED, hub_id
from polypref.errors import RecipeError
from polypref.mistakes import checked
from polypref.recipe import as_tree
from polypref.recipe_file import read_recipe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
M1 = "James-WYang/LIDR_M1_Meta-Llama-3-8B-Instruct_en_es_ru_de_fr"


def test_the_table_is_well_formed():
    """19 checkpoints, each id once; what a repository's name says of itself is what the table says of it."""
    assert len(RELEASED) == 19
    assert len({found.hub for found in RELEASED.values()}) == 19
    for name, found in RELEASED.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", found.hub)
        assert found.languages == tuple(map(languages.normalise, found.languages))
        assert found.paper == (LIDR if name.startswith("lidr") else ICR)
        if found.base:
            stage, told = re.fullmatch(
                r"(?:LIDR|ICR)_(?:Multilingual_Reasoning_)?(M[01])_(.+)", found.repository
            ).groups()
            assert stage in found.what
            assert name.endswith(stage.lower())
            assert told.startswith(found.base.partition("/")[2])
            assert told.endswith("_" + "_".join(found.languages))


def test_the_page_has_the_table():
    """docs/models.md: each name with its repository, languages and base, where "the same" is that of the row above."""
    rows = [
        line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"
    ]
    cells = [[cell.strip("` ") for cell in row] for row in rows]
    assert {name for name, *_ in cells} == RELEASED.keys()
    base = None
    for name, repository, third, fourth in cells:
        found = RELEASED[name]
        assert repository == (found.repository if found.base else found.hub)
        base = base if third == "the same" else third
        if found.base:
            assert (base, fourth) == (found.base, " ".join(found.languages))


@pytest.mark.parametrize("path", ["lidr-llama-3-8b-m1", M1.partition("/")[2], M1])
def test_a_name_becomes_its_hub_id(path):
    assert ModelSpec.model_validate(path).path == M1
    assert ModelSpec(path=path, backend="vllm").path == M1


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("lidr-llama-3-8b-m2", "did you mean lidr-llama-3-8b-m1?"),
        ("LIDR_M1_Meta-Llama-3-8B-Instruct_en_es_ru_de", f"did you mean {M1.partition('/')[2]}?"),
        ("Lidr-qwen2-7b-m0", "did you mean lidr-qwen2-7b-m0?"),
        ("icr", "see polypref ls models"),
    ],
)
def test_a_name_that_is_nearly_right_is_told(path, hint):
    with pytest.raises(RecipeError) as told:
        checked(ModelSpec, {"path": path})
    assert str(told.value) == f"options: {path!r} is neither a folder nor a released checkpoint; {hint}"


@pytest.mark.parametrize(
    "path", ["gpt2", "org/lidr-llama-3-8b-m1", "Meta-Llama-3-8B-Instruct", "./lidr-mine", "policy"]
)
def test_other_names_stay_as_they_are(path):
    assert ModelSpec(path=path).path == path


def test_a_server_serves_what_it_calls_so():
    assert ModelSpec(path="lidr-llama-3-8b-m1", backend="openai").path == "lidr-llama-3-8b-m1"
    assert ModelSpec(path="lidr-mine", backend="openai").path == "lidr-mine"


def test_a_folder_of_that_name_comes_first_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lidr-llama-3-8b-m1").mkdir()
    (tmp_path / "lidr-mine").mkdir()
    with pytest.warns(UserWarning, match=f"lidr-llama-3-8b-m1 is a folder here; it is opened, not {M1}"):
        assert hub_id("lidr-llama-3-8b-m1") == "lidr-llama-3-8b-m1"
    assert ModelSpec(path="lidr-mine").path == "lidr-mine"


def recipe(folder, policy, reference):
    """A recipe's file; YAML reads JSON."""
    path = folder / "mine.yaml"
    models = {"policy": policy, "reference": reference}
    path.write_text(json.dumps({"models": models, "prompts": {"path": "sandbox:train"}}, indent=1), encoding="utf-8")
    return path


def test_a_recipe_holds_the_hub_id_once_it_is_read(tmp_path):
    reference = {"path": "Llama-3-Base-8B-SFT", "dtype": "bfloat16"}
    read = as_tree(read_recipe(recipe(tmp_path, "icr-llama-3-8b-sft-dpo", reference)))
    assert read["models"]["policy"]["path"] == "princeton-nlp/Llama-3-Base-8B-SFT-DPO"
    assert read["models"]["reference"]["path"] == "princeton-nlp/Llama-3-Base-8B-SFT"
    with pytest.raises(RecipeError, match=r"mine.yaml:3: models.policy: 'lidr-llama-3-8b' is neither"):
        read_recipe(recipe(tmp_path, "lidr-llama-3-8b", reference))


def test_they_are_listed_and_said_not_to_have_been_run(capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as end:
        cli.main(["ls", "models", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (end.value.code, list(found)) == (0, ["models"])
    assert found["models"].keys() == RELEASED.keys()
    assert all(line.endswith(f"{RELEASED[name].hub} (not run here)") for name, line in found["models"].items())
    assert found["models"]["lidr-llama-3-8b-m1"] == (
        f"LIDR round 2 (M1) from meta-llama/Meta-Llama-3-8B-Instruct; en es ru de fr; {M1} (not run here)"
    )
