"""lm-eval's layout, read by lm-eval itself."""

import json

import pytest

from polypref.errors import InputError
from polypref.stages.export_lm_eval import write_lm_eval

RESULTS = {
    "results": {
        "org/mine": {
            "es": {"win_rate": 0.625, "win_rate_stderr": 0.125, "win_rate_n": 4, "no_verdict": 0.2, "no_verdict_n": 5},
            "de": {"win_rate": 0.5, "win_rate_stderr": None, "win_rate_n": 1},
        },
        "other": {"es": {"quality": 0.25, "quality_stderr": 0.5, "quality_n": 3}},
    },
    "macro_average": {"org/mine": {"win_rate": 0.5625, "win_rate_stderr": 0.0625, "win_rate_n": 5}},
    "config": {"name": "alpaca"},
    "versions": {"polypref": "0.1.0"},
    "date": "2026-11-21 09:00 UTC",
    "seed": 3,
    "signature": "polypref:0.1.0|baseline:gpt4",
}


@pytest.fixture
def written(tmp_path):
    return {path.parent.name: path for path in write_lm_eval(tmp_path, RESULTS)}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_model_has_a_file_and_a_language_is_a_task(written):
    assert list(written) == ["org__mine", "other"]
    assert written["org__mine"].name == "results_2026-11-21T09-00-00.000000.json"
    found = read(written["org__mine"])
    assert found["results"]["alpaca_es"] == {
        "alias": "alpaca_es",
        "win_rate,none": 0.625,
        "win_rate_stderr,none": 0.125,
        "no_verdict,none": 0.2,
        "no_verdict_stderr,none": "N/A",
    }
    assert found["n-samples"] == {
        "alpaca_es": {"original": 5, "effective": 5},
        "alpaca_de": {"original": 1, "effective": 1},
    }
    assert found["higher_is_better"]["alpaca_es"] == {"win_rate": True, "no_verdict": False}
    assert found["groups"]["alpaca"]["win_rate,none"] == 0.5625
    assert found["group_subtasks"] == {"alpaca": ["alpaca_es", "alpaca_de"]}
    assert (found["date"], found["model_name"], found["config"]["random_seed"]) == (1795251600, "org/mine", 3)
    assert "groups" not in read(written["other"])


def test_lm_eval_makes_its_tables_of_it(written):
    """A row is task, version, filter, few-shot examples, metric, direction, value, ±, standard error."""
    utils = pytest.importorskip("lm_eval.utils")

    def rows(model, column="results"):
        lines = utils.make_table(read(written[model]), column).splitlines()[2:]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line]

    assert rows("other") == [["alpaca_es", "0.1.0", "none", "0", "quality", "↑", "0.25", "±", "0.5"]]
    assert rows("org__mine", "groups") == [
        ["alpaca", "0.1.0", "none", "0", "win_rate", "↑", "0.5625", "±", "0.0625"],
    ]
    assert rows("org__mine") == [
        ["alpaca", "0.1.0", "none", "0", "win_rate", "↑", "0.5625", "±", "0.0625"],
        ["- alpaca_de", "0.1.0", "none", "0", "win_rate", "↑", "0.5000", "±", "N/A"],
        ["- alpaca_es", "0.1.0", "none", "0", "no_verdict", "↓", "0.2000", "±", "N/A"],
        ["", "", "none", "0", "win_rate", "↑", "0.6250", "±", "0.1250"],
    ]


def test_lm_eval_finds_the_file_by_its_name(written):
    utils = pytest.importorskip("lm_eval.utils")
    names = [str(path) for path in written.values()]
    assert utils.get_results_filenames(names) == names
    assert utils.sanitize_model_name("org/mine") == "org__mine"


def test_results_without_figures_or_date_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        write_lm_eval(tmp_path, {**RESULTS, "results": {}})
    with pytest.raises(InputError, match="says 'today' for its date"):
        write_lm_eval(tmp_path, {**RESULTS, "date": "today"})


def test_two_models_that_would_share_a_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="a/b and a:b would both be written to a__b; rename one of them"):
        write_lm_eval(tmp_path, {**RESULTS, "results": {"a/b": {}, "a:b": {}}})
    assert not list(tmp_path.iterdir())
