"""results.json in lm-eval's layout, for what reads lm-eval's results: ``<model>/results_<date>.json``.

A language of our results is a task of theirs, called by the run's name and the language (``icr_es``); where there are
means over languages, they are a group of these tasks. Rates stay shares. What only lm-eval knows (few-shot examples,
chat templates) is as lm-eval writes it where there is none.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from polypref.errors import InputError
from polypref.stages.evaluate import DATE
from polypref.stages.export_names import file_name, file_names
from polypref.store.atomic import write_json

FILTER: Final = "none"
NO_STDERR: Final = "N/A"
"""How lm-eval writes a standard error that is not there."""
BETTER: Final = (
    "quality",
    "accuracy",
    "win_rate",
    "length_controlled_win_rate",
    "reward_accuracy",
    "language_fidelity",
)
WORSE: Final = ("failed", "truncated", "no_verdict", "off_target_language")
"""How metrics begin of which more is better, or worse; of others lm-eval is told neither."""


def write_lm_eval(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """Write the files, one a model, each at once; gives them.

    Args:
        results: the object of a results.json.

    Raises:
        InputError: it holds no results, or no date, or two models would have the same file.
    """
    if not results.get("results"):
        raise InputError("results.json holds no results; finish the run first")
    when = _date(str(results.get("date")))
    stamp = when.strftime("%Y-%m-%dT%H-%M-%S.%f")
    written = []
    for model, name in file_names(results["results"]).items():
        written.append(folder / name / f"results_{stamp}.json")
        write_json(written[-1], lm_eval_results(model, results, when))
    return written


def _date(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(text, DATE).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise InputError(
            f"results.json says {text!r} for its date; it must be one such as 2026-11-21 09:00 UTC"
        ) from None


def lm_eval_results(model: str, results: Mapping[str, Any], when: datetime.datetime) -> dict[str, Any]:
    """One model's results as lm-eval writes them."""
    name = re.sub(r"\W+", "_", str(results.get("config", {}).get("name") or "polypref"))
    tasks = {f"{name}_{lang}": figures for lang, figures in results["results"][model].items()}
    figures = {task: _metrics(task, found) for task, found in tasks.items()}
    groups: dict[str, Any] = {}
    if macro := results.get("macro_average", {}).get(model):
        groups = {name: _metrics(name, macro)}
        figures = groups | figures
    told = tasks | ({name: macro} if macro else {})
    better = {task: {metric: _better(metric) for metric, *_ in _figures(found)} for task, found in told.items()}
    version = str(results.get("versions", {}).get("polypref", ""))
    return {
        "results": figures,
        **({"groups": groups} if groups else {}),
        "group_subtasks": {name: list(tasks)} if groups else {task: [] for task in tasks},
        "configs": {task: {"task": task, "num_fewshot": 0, "metadata": {"version": version}} for task in tasks},
        "versions": dict.fromkeys(figures, version),
        "n-shot": dict.fromkeys(figures, 0),
        "higher_is_better": better,
        "n-samples": {task: _samples(found) for task, found in tasks.items()},
        "config": {
            "model": "polypref",
            "model_args": f"model={model}",
            "random_seed": results.get("seed"),
            "signature": results.get("signature"),
        },
        "git_hash": None,
        "date": when.timestamp(),
        "model_source": "polypref",
        "model_name": model,
        "model_name_sanitized": file_name(model),
    }


def _figures(found: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, Any]]:
    """(metric, value, standard error, n) of a language's figures."""
    for metric, value in found.items():
        base, _, ending = metric.rpartition("_")
        if ending not in ("stderr", "n") or base not in found:
            yield metric, value, found.get(f"{metric}_stderr"), found.get(f"{metric}_n")


def _metrics(task: str, found: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"alias": task}
    for metric, value, stderr, _ in _figures(found):
        out[f"{metric},{FILTER}"] = value
        out[f"{metric}_stderr,{FILTER}"] = NO_STDERR if stderr is None else stderr
    return out


def _samples(found: Mapping[str, Any]) -> dict[str, int]:
    """The prompts of a language: of all that any metric counts."""
    counts = [n for *_, n in _figures(found) if n is not None]
    return {"original": max(counts, default=0), "effective": max(counts, default=0)}


def _better(metric: str) -> bool | None:
    if metric.startswith(WORSE):
        return False
    return True if metric.startswith(BETTER) else None
