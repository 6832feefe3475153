"""Results for other tools: what a folder of comparisons is exported as, and what is refused."""

import json

import pytest

from polypref.cli_export_results import check_format, export_results
from polypref.errors import InputError, UserError
from polypref.stages.judgments import Judgment, write_judgments


@pytest.fixture
def folder(tmp_path):
    answers = {"prompt": "Di no.", "model_answer": "No.", "baseline_answer": "¡No!"}
    write_judgments(tmp_path / "judgments.jsonl", [Judgment("1", "es", 1.0, 3, 4, model="m", judge="j", **answers)])
    figures = {"win_rate": 1.0, "win_rate_stderr": None, "win_rate_n": 1}
    results = {"results": {"m": {"es": figures}}, "config": {"name": "alpaca"}, "date": "2026-11-21 09:00 UTC"}
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("format_", "name", "files"),
    [
        ("alpaca-eval", "judgments.jsonl", ["es/j/m/annotations.json", "es/j/leaderboard.csv"]),
        ("lm-eval", "results.json", ["m/results_2026-11-21T09-00-00.000000.json"]),
    ],
)
def test_a_folder_or_its_file_is_exported(folder, format_, name, files):
    for source in (folder, folder / name):
        told = export_results(source, folder / "out", format_)
        assert told == {"format": format_, "files": files}
        assert all((folder / "out" / file).is_file() for file in files)


def test_what_is_not_there_or_is_something_else_is_told(tmp_path):
    for format_, name in (("alpaca-eval", "judgments.jsonl"), ("lm-eval", "results.json")):
        with pytest.raises(InputError, match=f"{name} does not exist; name a folder with {name}"):
            export_results(tmp_path, tmp_path / "out", format_)
    for text, said in (("{", "is not JSON"), ("[]", "holds no results")):
        (tmp_path / "results.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            export_results(tmp_path, tmp_path / "out", "lm-eval")
    assert not (tmp_path / "out").exists()


def test_a_format_that_is_nearly_right_is_told():
    for near, right in (("alpaca_eval", "alpaca-eval"), ("lm_eval", "lm-eval"), ("tlr", "trl")):
        with pytest.raises(UserError, match=f"'{near}' is no format; did you mean {right}"):
            check_format(near)
    check_format("trl-unpaired")


def test_the_languages_of_a_mean_are_no_metric(tmp_path):
    figures = {"win_rate": 0.5, "win_rate_stderr": None, "win_rate_n": 2}
    macro = {"m": {**figures, "languages": ["de", "es"]}}
    told = {"results": {"m": {"de": figures, "es": figures}}, "macro_average": macro, "date": "2026-11-21 09:00 UTC"}
    (tmp_path / "results.json").write_text(json.dumps({**told, "config": {"name": "alpaca"}}), encoding="utf-8")
    [file] = export_results(tmp_path, tmp_path / "out", "lm-eval")["files"]
    groups = json.loads((tmp_path / "out" / file).read_text(encoding="utf-8"))["groups"]
    assert set(groups["alpaca"]) == {"alias", "win_rate,none", "win_rate_stderr,none"}
