"""``polypref evaluate languages``: answers in the wire format and in users' files, both kinds of answer, mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from polypref import cli_languages
from polypref.errors import InputError, RecipeError

SPANISH = "El río nace en las montañas y atraviesa tres países antes de llegar al mar."
ENGLISH = "The river rises in the mountains and flows through three countries before it reaches the sea."
RUSSIAN = "Река берёт начало в горах и протекает через три страны, прежде чем впасть в море."
MIXED = "Река берёт начало в горах и basically протекает через три страны, прежде чем впасть в море."


def answer(text: str, lang: str, model: str, **rest: Any) -> dict[str, Any]:
    return {"id": f"{model}-{lang}-{len(text)}", "lang": lang, "text": text, "model": model, **rest}


EXAMPLES = [
    {
        "id": "1",
        "prompts": {"es": "¿Cómo corre el río?", "ru": "Как течёт река?"},
        "candidates": [
            answer(SPANISH, "es", "new"),
            answer(RUSSIAN, "ru", "new"),
            answer(ENGLISH, "es", "old"),
            answer(MIXED, "ru", "old"),
        ],
    },
    {
        "id": "2",
        "prompts": {"en": "How does the river flow? Answer in Spanish."},
        "wanted": "Spanish",
        "candidates": [answer(SPANISH, "en", "new"), answer(f"{SPANISH}\n{ENGLISH}", "en", "old")],
    },
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps(example) + "\n" for example in EXAMPLES)
    Path("answers.jsonl").write_text(lines, encoding="utf-8")
    for lang, text in (("es", SPANISH), ("ru", ENGLISH)):
        for folder, row in (
            ("mine", {"id": 7, "response": text}),
            ("prompts", {"id": 7, "prompt": "Переведи на английский"}),
        ):
            Path(folder).mkdir(exist_ok=True)
            Path(folder, f"{lang}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_languages.add_to(app)
    return lambda *words: CliRunner().invoke(app, ["languages", *words], catch_exceptions=False)


def test_a_machine_gets_figures_means_and_counts_by_model(run: Callable[..., Result]) -> None:
    found = json.loads(run("--input", "answers.jsonl", "--answer-in-key", "wanted", "--json").stdout)
    assert found["matrix"] == {
        "new": {"monolingual": {"es": {"es": 1}, "ru": {"ru": 1}}, "crosslingual": {"es": {"es": 1}}},
        "old": {
            "monolingual": {"es": {"en": 1}, "ru": {"ru": 1}},
            "crosslingual": {"es": found["matrix"]["old"]["crosslingual"]["es"]},
        },
    }
    old, new = found["results"]["old"], found["results"]["new"]
    assert (old["es"]["line_pass_rate"], old["ru"]["line_pass_rate"], old["ru"]["word_pass_rate"]) == (0, 1, 0)
    assert (new["es"]["crosslingual_line_pass_rate"], old["es"]["crosslingual_line_pass_rate"]) == (1, 0)
    assert old["es"]["crosslingual_code_switching"] == 1
    assert found["mean"]["old"]["line_pass_rate"] == 0.5
    assert found["mean"]["old"]["line_pass_rate_n"] == 1  # prompts, not answers
    for setting in ("fewest_words:5", "undetermined:skip", "english:a-z", "identifier:lingua-"):
        assert setting in found["signature"]


def test_a_person_gets_a_table_and_who_left_the_language(run: Callable[..., Result]) -> None:
    lines = run("--input", "answers.jsonl").stdout.splitlines()
    assert lines[0] == "new, monolingual: % of answers ± standard error (prompts)"
    table = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("es ", "ru ", "mean "))}
    assert table["ru"] == ["100.0", "(1)", "0.0", "(1)", "0.0", "(1)", "100.0", "(1)", "0.0", "(1)"]
    assert "es: 1 of 1 answers in another language (en 1), 0 cannot be told" in lines


def test_english_is_what_a_list_says(run: Callable[..., Result]) -> None:
    Path("words").write_text("Aachen\nriver\n", encoding="utf-8")
    found = json.loads(run("--input", "answers.jsonl", "--english-words", "words", "--json").stdout)
    assert found["results"]["old"]["ru"]["word_pass_rate"] == 1
    assert "english:2 words" in found["signature"]


def test_answers_in_files_are_read_and_joined_with_their_prompts(run: Callable[..., Result]) -> None:
    """The Russian prompt asks for English, so the English answer to it says nothing."""
    found = json.loads(run("--answers", "m=mine", "--json").stdout)
    assert found["matrix"]["m"]["monolingual"] == {"es": {"es": 1}, "ru": {"en": 1}}
    assert "asks_other_language" not in found["results"]["m"]["ru"]
    with_prompts = ("--answers", "m=mine/{language}.jsonl", "--prompts", "prompts", "--json")
    left = json.loads(run(*with_prompts).stdout)
    assert left["results"]["m"]["ru"] == {
        "asks_other_language": 1.0,
        "asks_other_language_stderr": None,
        "asks_other_language_n": 1,
    }
    kept = json.loads(run(*with_prompts, "--asking", "keep").stdout)
    assert kept["results"]["m"]["ru"]["line_pass_rate"] == 0
    told = json.loads(run("--answers", "m=mine/ru.jsonl", "--answer-in", "English", "--json").stdout)
    assert told["results"]["m"]["en"]["crosslingual_line_pass_rate"] == 1


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ((), RecipeError, "either with --input FILE or with --answers NAME=PATH"),
        (("--input", "answers.jsonl", "--answers", "m=mine"), RecipeError, "either with --input"),
        (("--input", "answers.jsonl", "--undetermined", "maybe"), RecipeError, "--undetermined"),
        (("--input", "answers.jsonl", "--asking", "maybe"), RecipeError, "neither leave-out nor keep"),
        (("--input", "answers.jsonl", "--answer-in", "Klingonish"), RecipeError, "'Klingonish' is no language"),
        (("--input", "answers.jsonl", "--fewest-words", "0"), RecipeError, "--fewest-words"),
        (("--input", "answers.jsonl", "--english-words", "none"), InputError, "none cannot be read"),
        (("--input", "empty.jsonl"), InputError, "no example has an answer"),
        (("--answers", "mine"), RecipeError, "is no NAME=PATH"),
        (("--answers", "m=untold.jsonl"), InputError, "untold.jsonl:1: nothing tells which language"),
    ],
)
def test_mistakes_are_told(
    run: Callable[..., Result], words: tuple[str, ...], error: type[Exception], says: str
) -> None:
    Path("empty.jsonl").write_text('{"id": "1", "prompts": {"es": "?"}}\n', encoding="utf-8")
    Path("untold.jsonl").write_text('{"id": "1", "response": "?"}\n', encoding="utf-8")
    with pytest.raises(error, match=says):
        run(*words)


def test_answers_that_do_not_tell_their_language_are_told_it(run: Callable[..., Result]) -> None:
    Path("untold.jsonl").write_text(json.dumps({"id": "1", "response": SPANISH}) + "\n", encoding="utf-8")
    found = json.loads(run("--answers", "m=untold.jsonl", "--language", "Spanish", "--json").stdout)
    assert found["results"]["m"]["es"]["line_pass_rate"] == 1
