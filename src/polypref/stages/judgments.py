"""What judges said of models, a comparison a row: the wire format of judgments, read and written.

A row has id, language, preference and two lengths; all else may be absent:

    {"id": "ae-17", "language": "es", "judge": "gpt", "model": "icr-1", "baseline": "gpt4_turbo", "preference": 0.75,
     "orders": [1.0, 0.5], "flipped": false, "model_length": 812, "baseline_length": 1020, "difficulty": null,
     "error": null, "failed": null, "prompt": "Nombra tres ríos.", "model_answer": "…", "baseline_answer": "…",
     "said": ["…", "…"]}
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from polypref import languages
from polypref.errors import InputError
from polypref.records import dumps
from polypref.store.atomic import replacing
from polypref.store.jsonl import read_lines

FILE: Final = "judgments.jsonl"
"""What a folder of comparisons, or a run's, calls its judgments."""
Failed: TypeAlias = Literal["model", "baseline", "both"]
"""Whose answer failed."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """One comparison of a model (``preference`` 1) with a baseline (0); lengths in characters (code points).

    ``preference`` is None where no verdict could be had, and ``error`` says why. ``orders`` is the preference for the
    model with the answers in place and swapped, None for an order that could not be read; ``flipped`` says that the
    orders contradicted each other, None where not both were read. ``id`` is the prompt's and the cluster of every
    standard error, and ``sample`` tells several comparisons of two models on it apart. An answer that is None was not
    kept, or has failed, as ``failed`` says; a failed answer's length is not looked at.
    """

    id: str
    language: str
    preference: float | None
    model_length: float
    baseline_length: float
    difficulty: float | None = None
    model: str = "model"
    baseline: str = "baseline"
    judge: str = "judge"
    orders: tuple[float | None, float | None] | None = None
    flipped: bool | None = None
    error: str | None = None
    category: str | None = None
    prompt: str | None = None
    model_answer: str | None = None
    baseline_answer: str | None = None
    said: tuple[str, ...] = ()
    sample: int = 0
    failed: Failed | None = None

    def row(self) -> dict[str, Any]:
        """The row of a file, without what is absent."""
        told = dataclasses.asdict(self)
        kept = {name: value for name, value in told.items() if value is not None and value != ()}
        if not self.sample:
            del kept["sample"]
        return {"id": self.id, "language": self.language, "preference": self.preference} | kept

    @property
    def model_failed(self) -> bool:
        """Whether there is no answer of the model."""
        return self.failed in ("model", "both")

    @property
    def baseline_failed(self) -> bool:
        """Whether there is no answer of the baseline."""
        return self.failed in ("baseline", "both")


def failed_of(model: bool, baseline: bool) -> Failed | None:
    """``Judgment.failed`` of whether each of the two answers failed."""
    if model:
        return "both" if baseline else "model"
    return "baseline" if baseline else None


def parse_judgment(value: Any, where: str) -> Judgment:
    """A judgment of one row; ``where`` (``file:line``) begins every complaint. Keys that are not known are passed over.

    Raises:
        InputError: a field is missing, of the wrong kind or out of its range.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: the row is no object; write {{…}} with id, language, preference and two lengths")
    fields = ("id", "language", "preference", "model_length", "baseline_length")
    unsaid = value.get("error") is None
    if unsaid and "preference" in value and value["preference"] is None:
        raise InputError(f"{where}: preference is null and error is missing; say in error why there is no verdict")
    for field in fields:
        if value.get(field) is None and (unsaid or field != "preference"):
            raise InputError(f"{where}: {field} is missing; a judgment has {', '.join(fields)}")
    if not isinstance(value["id"], str) or not value["id"]:
        raise InputError(f"{where}: id is {value['id']!r}; it must be a non-empty string")
    if not isinstance(value["language"], str):
        raise InputError(f"{where}: language is {value['language']!r}; it must be a code such as es")
    try:
        language = languages.normalise(value["language"])
    except InputError as error:
        raise InputError(f"{where}: language: {error}") from None
    return Judgment(
        value["id"],
        language,
        None if value.get("preference") is None else _preference(value, "preference", where),
        _length(value, "model_length", where),
        _length(value, "baseline_length", where),
        None if value.get("difficulty") is None else _number(value, "difficulty", where),
        orders=_orders(value, where),
        flipped=_flipped(value, where),
        said=_said(value, where),
        sample=_sample(value, where),
        failed=_failed(value, where),
        **{name: _text(value, name, where) for name in _NAMES if value.get(name) is not None},
        **{name: _text(value, name, where) for name in _TEXTS},
    )


_NAMES = ("model", "baseline", "judge")
_TEXTS = ("error", "category", "prompt", "model_answer", "baseline_answer")


def _text(row: dict[str, Any], field: str, where: str) -> Any:
    found = row.get(field)
    if found is not None and not isinstance(found, str):
        raise InputError(f"{where}: {field} is {found!r:.40}; it must be a text")
    if field in _NAMES and not found:
        raise InputError(f"{where}: {field} is empty; give it a name or leave it out")
    return found


def _preference(row: dict[str, Any], field: str, where: str) -> float:
    preference = _number(row, field, where)
    if not 0 <= preference <= 1:
        raise InputError(
            f"{where}: {field} is {preference}; it must lie between 0 (the baseline) and 1 (the model), a tie is 0.5"
        )
    return preference


def _orders(row: dict[str, Any], where: str) -> tuple[float | None, float | None] | None:
    found = row.get("orders")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != 2:
        raise InputError(
            f"{where}: orders is {found!r:.40}; it must be two preferences, null for one that is not known"
        )
    first, second = (None if told is None else _preference({"orders": told}, "orders", where) for told in found)
    return first, second


def _flipped(row: dict[str, Any], where: str) -> bool | None:
    found = row.get("flipped")
    if found is not None and not isinstance(found, bool):
        raise InputError(f"{where}: flipped is {found!r:.40}; it must be true, false or null")
    return found


def _sample(row: dict[str, Any], where: str) -> int:
    found = row.get("sample", 0)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise InputError(f"{where}: sample is {found!r:.40}; it must be 0, 1, 2, …")
    return found


def _failed(row: dict[str, Any], where: str) -> Failed | None:
    found: Any = row.get("failed")
    if found is not None and found not in get_args(Failed):
        raise InputError(f"{where}: failed is {found!r:.40}; it must be model, baseline, both or null")
    return found  # type: ignore[no-any-return]  # one of them


def _said(row: dict[str, Any], where: str) -> tuple[str, ...]:
    found = row.get("said") or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InputError(f"{where}: said is {found!r:.40}; it must be a list of texts")
    return tuple(found)


def _length(row: dict[str, Any], field: str, where: str) -> float:
    length = _number(row, field, where)
    if length < 0:
        raise InputError(f"{where}: {field} is {length:g}; a length in characters is not negative")
    return length


def _number(row: dict[str, Any], field: str, where: str) -> float:
    found = row[field]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InputError(f"{where}: {field} is {found!r:.40}; it must be a number")
    try:
        number = float(found)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where}: {field} is {number}; it must be a finite number")
    return number


def read_judgments(path: Path | str) -> list[Judgment]:
    """The judgments of a JSON Lines file (``-`` is stdin), or of a folder that holds ``FILE``; blank lines are skipped.

    Raises:
        InputError: a row is wrong (``file:line``), or there is none.
    """
    if Path(path).is_dir():
        if not (Path(path) / FILE).exists():
            raise InputError(f"{path} is a folder without {FILE}; name a folder that has it, or a file of judgments")
        path = Path(path) / FILE
    judgments = [parse_judgment(value, where) for where, value in read_lines(path)]
    if not judgments:
        raise InputError(f"{Path(path).name} is empty: it holds no judgment")
    return judgments


def repeated(judgments: Iterable[Judgment]) -> list[Judgment]:
    """Those whose comparison the same judge has judged before in the list, by id, language, models and sample."""
    seen: set[tuple[object, ...]] = set()
    out = []
    for j in judgments:
        place = j.judge, j.id, j.language, j.model, j.baseline, j.sample
        if place in seen:
            out.append(j)
        seen.add(place)
    return out


def write_judgments(path: Path, judgments: Iterable[Judgment]) -> int:
    """Write a JSON Lines file at once; gives the count. What stood there stays when something fails."""
    with replacing(path) as temporary:
        count = 0
        with temporary.open("w", encoding="utf-8") as file:
            for judgment in judgments:
                file.write(dumps(judgment.row()) + "\n")
                count += 1
        return count


def by_judge(judgments: Sequence[Judgment]) -> Iterator[tuple[str, list[Judgment]]]:
    """(judge, its judgments), judges in the order in which they come first."""
    for judge in dict.fromkeys(judgment.judge for judgment in judgments):
        yield judge, [judgment for judgment in judgments if judgment.judge == judge]
