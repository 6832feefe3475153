"""What the documentation says is so: examples parse and run, links and names exist, tables are current."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

import pages
import recipe_table
from pages import PAGES, ROOT, Block, blocks
from polypref import cli, recipes, registry
from polypref.backends.base import Context, Logprob
from polypref.recipe_file import read_recipe
from polypref.records import parse_example, to_json
from polypref.run import run
from polypref.stages.score import ImplicitOptions, implicit
from tiny_training import save_tiny_model

DOCS = ROOT / "docs"
CODE = re.compile(r"```.*?^```$|`[^`\n]+`|^    (?:[^\n]*\\\n)*[^\n]*", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# --- the record ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["example.jsonl", "least.jsonl"])
def test_the_examples_of_the_record_are_read_and_written_back(name: str) -> None:
    (block,) = [b for b in blocks(DOCS / "concepts.md") if b.name == name]
    for line in block.text.splitlines():
        example = parse_example(json.loads(line))
        assert parse_example(to_json(example)) == example


def test_every_field_of_the_record_is_told() -> None:
    example = parse_example(json.loads(blocks(DOCS / "concepts.md")[0].text))
    told = set(re.findall(r"`(\w+)`", read(DOCS / "concepts.md").partition("## Languages")[0]))
    records = [example, example.candidates[0], example.pairs[0], example.dropped[0]]
    assert {name for record in records for name in record.__slots__} - {"extra"} <= told


def test_every_reason_of_a_drop_is_told() -> None:
    """Literal reasons, and what the stages' helpers return as one: words in a position where a reason stands."""
    section = read(DOCS / "concepts.md").partition("## Drops")[2].partition("## Views")[0]
    found: set[str] = set()
    for path in (ROOT / "src/polypref/stages").glob("*.py"):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Drop", "_Missing"):
                place = 1 if getattr(node.func, "id", "") == "Drop" else 0
                reason = node.args[place] if len(node.args) > place else None
                if isinstance(reason, ast.Constant):
                    found.add(str(reason.value))
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and path.name.startswith("pair"):
                found |= {node.value.value} if isinstance(node.value.value, str) else set()
    found -= {"undetermined", "right", "wrong", "unchecked", "asks_other_language"}
    assert {"tied", "truncated", "no_target", "too_long"} <= found
    assert {reason for reason in found if f"`{reason}`" not in section} == set()


def test_the_implicit_reward_is_beta_times_the_log_ratio() -> None:
    """log π = −2 and log π_ref = −5 over 4 tokens: β·3 = 0.6 at β = 0.2, and 0.15 a token."""

    class Model:
        def __init__(self, value: float) -> None:
            self.value = value

        def logprobs(self, answers: list[object]) -> list[Logprob]:
            return [Logprob(self.value, 4) for _ in answers]

    context = Context(open=lambda role, spec: Model({"aligned": -2.0, "sft": -5.0}[spec.path]))
    answer = {"id": "a", "lang": "es", "text": "Ebro"}
    example = parse_example({"id": "1", "prompts": {"en": "A river?", "es": "¿Un río?"}, "candidates": [answer]})
    for normalise, value in (("sum", 0.6), ("mean", 0.15)):
        options = ImplicitOptions(policy="aligned", reference="sft", beta=0.2, normalise=normalise)
        (scored,) = implicit([example], options, context)
        assert scored.candidates[0].scores == {
            "implicit": pytest.approx(value),
            "policy_logprob": -2.0,
            "reference_logprob": -5.0,
        }


# --- what is computed again ----------------------------------------------------------------------------------------

RUN = """
name: tiny
languages: [en, es]
models:
  reference: {path: fake, backend: fake, name: sft}
  policy: {path: "fake?version=2", backend: fake, name: dpo-en}
prompts: {path: "sandbox:train", limit: 3}
generate: {n: 4, max_tokens: 64}
pair: {length_control: auto}
train: {method: fake}
rounds: 1
evaluate: {prompts: {path: "sandbox:test", limit: 2}, sampling: {n: 2}, quality: fake, reward_accuracy: [cross_lingual]}
language_identifier: fake
shard_size: 2
"""


def written(folder: Path) -> dict[str, int]:
    """Everything that is made once, with the time when it was."""
    whole = ("manifest.json", "results.json", "report.html", "recipe.yaml")
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in whole]
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and its finished run."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "tiny.yaml").write_text(RUN, encoding="utf-8")
    run(read_recipe(folder / "tiny.yaml"), folder / "run")
    return folder


def test_results_json_is_as_a_run_writes_it(finished: Path) -> None:
    """The keys of the page's example, at every level that has fixed ones, and metrics that ``polypref ls`` knows."""
    (block,) = [b for b in blocks(DOCS / "concepts.md") if b.name == "results.json"]
    shown, found = json.loads(block.text), json.loads(read(finished / "run" / "results.json"))
    assert shown.keys() <= found.keys()
    assert shown["comparisons"][0].keys() == found["comparisons"][0].keys()
    figures = {name for step in found["results"].values() for by in step.values() for name in by}
    assert {"quality", "quality_stderr", "quality_n", "reward_accuracy_cross_lingual_policy_samples"} <= figures
    metrics = {re.sub("(_reference_samples)?(_stderr|_n)?$", "", name) for name in figures}
    metrics = {re.sub("^answered_in_.*", "answered_in_<language>", name) for name in metrics}
    assert metrics <= {name.replace("<view>", "cross_lingual") for name in registry.metrics()}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("models.policy.device=cpu", ()),
        ("models.policy.name=other", ("evaluation/other",)),
        ("evaluate.quality=oracle", ("evaluation/sft", "evaluation/dpo-en", "evaluation/tiny-round-1")),
        ("train.epochs=2", ("round-1/train", "evaluation/tiny-round-1")),
    ],
)
def test_a_change_computes_again_what_the_page_says(
    finished: Path, tmp_path: Path, change: str, again: tuple[str, ...]
) -> None:
    """The rows on evaluation; ``test_run.py`` holds those on the rounds."""
    shutil.copytree(finished / "run", tmp_path / "run")
    before = written(tmp_path / "run")
    run(read_recipe(finished / "tiny.yaml", [change]), tmp_path / "run")
    new = {path for path, time in written(tmp_path / "run").items() if before.get(path) != time}
    assert all(path.startswith(again) for path in new), sorted(new)
    assert all(any(path.startswith(part) for path in new) for part in again), sorted(new)


# --- commands and recipes ------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_every_command_prints_what_its_page_shows(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "sft")
    page = DOCS / "commands.md"
    wrong = [(c, shown, got) for c, shown, got in pages.console(page, tmp_path) if not pages.fits(shown, got)]
    assert not wrong, f".venv/bin/python tests/pages.py {named(page)} shows the page as it would be now:\n{wrong}"


def command_lines(text: str) -> Iterator[str]:
    """What follows ``polypref`` in code, up to the end of the line, of the code or of the command."""
    for code in CODE.findall(text):
        joined = re.sub(r"\\\n\s*", " ", code)
        yield from re.findall(r"(?:^|[$`(\s/])polypref (?!import)([a-z][^\n`|;&]*)", joined)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    root = typer.main.get_command(cli.app)
    refused = re.compile(r"^\$ .*\n(?=polypref: )", re.MULTILINE)  # shown to be told what is wrong
    for line in command_lines(refused.sub("", read(page))):
        command, words = root, line.split("#")[0].split()
        while words and hasattr(command, "commands") and re.fullmatch(r"[a-z-]+", words[0]):
            assert words[0] in command.commands, f"polypref {line}"
            command = command.commands[words.pop(0)]
        known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
        assert {word for word in words if word.startswith("--")} <= known, f"polypref {line}"


def test_every_command_has_its_page() -> None:
    told = read(DOCS / "commands.md")

    def names(command: object, path: str = "") -> Iterator[str]:
        below = getattr(command, "commands", None)
        if below is None:
            yield path.strip()
        for name, inner in (below or {}).items():
            yield from names(inner, f"{path} {name}")

    missing = [name for name in names(typer.main.get_command(cli.app)) if f"\n## {name}\n" not in told]
    assert missing == []


def test_the_tables_of_the_recipes_keys_are_current() -> None:
    page = read(recipe_table.PAGE)
    assert recipe_table.with_tables(page) == page, "run .venv/bin/python tests/recipe_table.py"


def test_every_setting_of_icr_says_where_it_is_from() -> None:
    """Each value that the recipe sets stands in the table under its path, its section's or its own name."""
    section = read(DOCS / "methods.md").partition("setting by setting\n")[2].partition("\n###")[0]
    told = set(re.findall(r"`([\w.]+)`", section))
    tree = yaml.safe_load(read(recipes.find("icr")))
    for free in ("name", "seed", "pivot", "models"):
        tree.pop(free)
    for key, value in tree.items():
        for name in value if isinstance(value, dict) else [None]:
            if (key, name) not in (("prompts", "path"), ("evaluate", "prompts")):
                assert told & {key, name, f"{key}.{name}"}, f"{key}.{name}"


def test_every_key_of_a_recipe_has_a_meaning() -> None:
    assert recipe_table.undescribed() == []


@pytest.mark.parametrize("block", [b for p in PAGES for b in blocks(p) if b.language == "yaml" and b.name], ids=str)
def test_the_recipes_of_the_pages_are_valid(block: Block, tmp_path: Path) -> None:
    for path in recipes.folder().glob("*.yaml"):
        shutil.copy(path, tmp_path)
    pages.write_file(block, tmp_path)
    assert read_recipe(tmp_path / block.name).name


# --- code, links and names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "CONTRIBUTING.md",
        *(
            DOCS / f"{name}.md"
            for name in (
                "methods",
                "commands",
                "judging",
                "rewards",
                "diagnoses",
                "best-of-n",
                "sft",
                "rl",
                "serving",
                "win-rates",
                "judge-prompts",
                "standard-tasks",
                "language-fidelity",
            )
        ),
    ],
    ids=named,
)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """Named blocks are modules, the others programs beside them, in one process each."""
    programs = []
    for block in blocks(page):
        if block.language == "python" and block.name:
            pages.write_file(block, tmp_path)
        elif block.language == "python":
            programs.append(block.text)
    assert programs
    for number, program in enumerate(programs):
        (tmp_path / f"program_{number}.py").write_text(program, encoding="utf-8")
        done = subprocess.run([sys.executable, f"program_{number}.py"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{program}\n{done.stderr}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", read(page))):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read(page)):
        assert f"\ndef {name}(" in read(ROOT / path), f"{path}::{name}"


def test_every_file_that_contributing_names_exists() -> None:
    text = re.sub(r"^```.*?^```$", "", read(ROOT / "CONTRIBUTING.md"), flags=re.MULTILINE | re.DOTALL)
    missing = [
        name
        for name in re.findall(r"`([\w/-]+\.(?:py|md|txt|toml)|[\w/]+/)`", text)
        if not any((folder / name).exists() for folder in (ROOT, ROOT / "src/polypref"))
    ]
    assert [name for name in missing if name != "utils.py"] == []
