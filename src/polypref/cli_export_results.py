"""``polypref export`` of what was found, not of data: judgments as AlpacaEval has them, results as lm-eval has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from polypref.errors import InputError, UserError, did_you_mean

FORMATS = ("alpaca-eval", "lm-eval")


def check_format(name: str) -> None:
    """
    Raises:
        UserError: no export is called so.
    """
    from polypref.stages.export import Format

    known = (*get_args(Format), *FORMATS)
    if name not in known:
        raise UserError(f"--format {name!r} is no format; {did_you_mean(name, known)}")


def export_results(source: Path, output: Path, format_: str) -> dict[str, Any]:
    """Write ``source`` (a folder with judgments.jsonl or results.json, or such a file) in another tool's layout.

    Gives ``{"format", "files"}``, the files under ``output``.

    Raises:
        InputError: what the format is made of is not there, or is wrong.
    """
    from polypref.stages.export_alpaca_eval import write_alpaca_eval
    from polypref.stages.export_lm_eval import write_lm_eval
    from polypref.stages.judgments import read_judgments

    if format_ == "alpaca-eval":
        written = write_alpaca_eval(output, read_judgments(_file(source, "judgments.jsonl")))
    else:
        written = write_lm_eval(output, _results(_file(source, "results.json")))
    return {"format": format_, "files": [path.relative_to(output).as_posix() for path in written]}


def _file(source: Path, name: str) -> Path:
    path = source / name if source.is_dir() else source
    if not path.is_file():
        raise InputError(f"{path} does not exist; name a folder with {name}, or such a file")
    return path


def _results(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON; name a results.json") from None
    if not isinstance(found, dict) or not isinstance(found.get("results"), dict):
        raise InputError(f"{path} holds no results; name the results.json of a run or a comparison")
    macro = found.get("macro_average") or {}
    means = {model: {name: of[name] for name in of if name != "languages"} for model, of in macro.items()}
    return {**found, "macro_average": means}
