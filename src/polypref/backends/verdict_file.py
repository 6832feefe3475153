"""People's verdicts in the place of a judge of pairs: looked up in a file of judgments by the texts that they saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from polypref.backends.base import Comparison, Each, Options, Recall, ScorerSpec, Verdict
from polypref.backends.judging import settings_of
from polypref.errors import InputError

Seen = tuple[str, str, str, str]
"""Language, the last user turn, the two answers: what a person was shown."""


class VerdictSettings(Options):
    """Whose verdicts stand where a judge stands."""

    file: str = Field(min_length=1, description="judgments with their texts, as people-import writes them")
    judges: tuple[str, ...] = Field((), description="only these annotators; all when left out")


class VerdictFile:
    """A ``Comparer`` that asks nobody: the mean preference of those who judged the same two texts."""

    def __init__(self, settings: VerdictSettings) -> None:
        """
        Raises:
            InputError: the file cannot be read, a row is wrong, or none has its texts.
        """
        raw = _read(Path(settings.file))
        self._preferences: dict[Seen, list[float]] = {}
        for seen, preference in _rows(raw, Path(settings.file).name, settings.judges):
            self._preferences.setdefault(seen, []).append(preference)
        if not self._preferences:
            raise InputError(
                f"{settings.file} has no verdict with its prompt and answers"
                + (f" by {', '.join(settings.judges)}" if settings.judges else "")
                + "; give judgments as polypref evaluate people-import writes them"
            )
        told = json.dumps([hashlib.sha256(raw).hexdigest(), settings.judges])
        self.fingerprint: str = f"verdicts:{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    @classmethod
    def opened(cls, spec: ScorerSpec, open: Any) -> VerdictFile:
        """The verdicts that a spec's settings name."""
        return cls(settings_of(VerdictSettings, spec))

    def compare(
        self, comparisons: Sequence[Comparison], recall: Recall | None = None, each: Each | None = None
    ) -> list[Verdict]:
        """One verdict per comparison, in order; one that nobody judged is an error that says so."""
        found = [self._verdict(comparison) for comparison in comparisons]
        if each is not None:
            for index, verdict in enumerate(found):
                each(index, verdict)
        return found

    def _verdict(self, asked: Comparison) -> Verdict:
        about = asked.lang, str(asked.messages[-1]["content"])
        given = [*self._preferences.get((*about, asked.first, asked.second), ())]
        given += [1.0 - p for p in self._preferences.get((*about, asked.second, asked.first), ())]
        if not given:
            return Verdict(None, error="nobody judged this comparison")
        return Verdict(sum(given) / len(given))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a file of judgments") from None


def _rows(raw: bytes, name: str, judges: Sequence[str]) -> Iterator[tuple[Seen, float]]:
    """What was seen and the preference for the model, of every row with a verdict and its texts."""
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{name}:{number}: not JSON; write one judgment a line") from None
        if not isinstance(row, dict):
            raise InputError(f"{name}:{number}: the row is no object; write one judgment a line")
        preference = row.get("preference")
        seen = tuple(row.get(field) for field in ("language", "prompt", "model_answer", "baseline_answer"))
        if preference is None or None in seen or (judges and row.get("judge") not in judges):
            continue
        if isinstance(preference, bool) or not isinstance(preference, int | float) or not 0 <= preference <= 1:
            raise InputError(f"{name}:{number}: preference is {preference!r:.40}; it must lie between 0 and 1")
        yield (str(seen[0]), str(seen[1]), str(seen[2]), str(seen[3])), float(preference)
