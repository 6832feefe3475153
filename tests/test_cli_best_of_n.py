"""``polypref best-of-n``: the curve that is told, the pairs or picks that are written, and what is refused."""

import io
import json

import pytest
import typer

from polypref import cli_best_of_n
from polypref.errors import InputError, RecipeError
from polypref.maths.best_of_n import kl_bound


def line(name: str, scores: list[float], judged: list[float] | None = None) -> str:
    """One prompt in Spanish with a sample a score."""
    candidates = [
        {"id": f"{name}/es/{i}", "lang": "es", "text": f"sí {i}", "origin": "sampled", "scores": {"rm": score}}
        | ({"scores": {"rm": score, "judge": judged[i], "own": -50.0}} if judged else {})
        for i, score in enumerate(scores)
    ]
    return json.dumps({"id": name, "prompts": {"es": "Di sí."}, "candidates": candidates}) + "\n"


TWO = line("p", [1, 2, 3], [0, 6, 3]) + line("q", [0, 0, 0], [3, 3, 9])
"""The curve is worked out in tests/stages/test_best_of_n_picks.py."""


@pytest.fixture
def best_of_n(capsys, monkeypatch, tmp_path):
    """``best_of_n(lines, …)`` → (stdout, stderr, the examples that were written)."""
    app = typer.Typer(pretty_exceptions_enable=False)
    cli_best_of_n.add_to(app)
    app.callback()(lambda: None)

    def call(text, *arguments, output=str(tmp_path / "out.jsonl")):
        source = tmp_path / "in.jsonl"
        source.write_text(text, encoding="utf-8")
        where = ["--input", str(source), "--output", output]
        app(["best-of-n", "--score", "rm", *where, *arguments], standalone_mode=False)
        told = capsys.readouterr()
        written = told.out if output == "-" else (tmp_path / "out.jsonl").read_text(encoding="utf-8")
        return told.out, told.err, [json.loads(found) for found in written.splitlines()]

    return call


def test_the_curve_and_the_counts_are_told(best_of_n):
    arguments = ("--n", "1", "--n", "2", "--n", "3", "--quality", "judge", "--policy-logprob", "own", "--json")
    out, err, written = best_of_n(TWO, *arguments)
    told = json.loads(out)
    assert [row["n"] for row in told["curve"]["es"]] == [1, 2, 3]
    assert [row["score"] for row in told["curve"]["es"]] == pytest.approx([1, 4 / 3, 1.5])
    assert [row["quality"] for row in told["curve"]["es"]] == pytest.approx([4, 4.5, 4])
    assert [row["kl"] for row in told["curve"]["es"]] == pytest.approx([kl_bound(n) for n in (1, 2, 3)])
    assert [row["score"] for row in told["mean"]] == pytest.approx([1, 4 / 3, 1.5])
    assert (told["pairs"], told["picked"], told["dropped"], err) == ({"es": 1}, {}, {"es": {"tied": 1}}, "")
    pair = {"lang": "es", "chosen": "p/es/2", "rejected": "p/es/0", "score": "rm", "margin": 2, "rule": "best_of_n"}
    assert [example["pairs"] for example in written] == [[pair], []]


def test_without_json_the_curve_is_told_in_words(best_of_n):
    out, _, _ = best_of_n(TWO, "--n", "2")
    assert out == "es n=2: score 1.333 ± 1.3, length_characters 4 ± 0, KL ≤ 0.1931 (2 prompts)\n"
    out, _, _ = best_of_n(line("p", [1, 2]), "--n", "1")
    assert out == "es n=1: score 1.5, length_characters 4, KL ≤ 0 (1 prompt)\n"


def test_the_picked_ones_alone(best_of_n):
    out, _, written = best_of_n(TWO, "--n", "2", "--keep", "picked", "--json")
    assert json.loads(out)["picked"] == {"es": 2}
    assert [[c["id"] for c in example["candidates"]] for example in written] == [["p/es/1"], ["q/es/0"]]
    assert (written[0]["candidates"][0]["best_of"], written[0]["pairs"]) == (2, [])


def test_soft_picks_follow_the_seed(best_of_n):
    many = "".join(line(str(i), [0, 0.1, 0.2]) for i in range(30))
    soft = ("--n", "3", "--keep", "picked", "--temperature", "1")
    once, again, other = (best_of_n(many, *soft, "--seed", seed)[2] for seed in "001")
    assert once == again != other


def test_with_the_examples_on_stdout_the_figures_go_to_stderr(best_of_n):
    _, err, written = best_of_n(line("p", [1, 2]), "--n", "2", "--json", output="-")
    assert (written[0]["pairs"][0]["chosen"], json.loads(err)["pairs"]) == ("p/es/1", {"es": 1})
    assert best_of_n(line("p", [1, 2]), "--n", "2", output="-")[1] == ""


def test_standard_input_is_read(best_of_n, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line("p", [1, 2]).encode())))
    _, _, written = best_of_n("", "--n", "2", "--input", "-")
    assert written[0]["pairs"][0]["chosen"] == "p/es/1"


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ((), RecipeError, "--n is missing; say how many samples"),
        (
            ("--n", "64"),
            InputError,
            "example 'p' has 3 samples in es, so there is no best of 64; draw 64 with",
        ),
        (("--n", "0"), RecipeError, "--n: holds 0; every n must be at least 1"),
        (("--n", "2", "--keep", "best"), RecipeError, "--keep"),
        (("--n", "2", "--temperature", "0"), RecipeError, "--temperature"),
        (("--n", "2", "--language-check", "perhaps"), RecipeError, "--language-check is 'perhaps'; say on or off"),
        (("--n", "2", "--quality", "juge"), InputError, "no score 'juge'; score it first .did you mean judge"),
        (("--n", "2", "--reference-logprob", "own"), RecipeError, "reference_logprob needs policy_logprob"),
    ],
)
def test_a_mistake_is_told_and_leaves_no_output(best_of_n, tmp_path, arguments, kind, told):
    with pytest.raises(kind, match=told) as error:
        best_of_n(TWO, *arguments)
    assert error.value.exit_status == 2
    assert not (tmp_path / "out.jsonl").exists()
