"""Bad inputs tried on a reader: each is refused in a clean sentence or read, and nothing else may happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from faults.table import record
from polypref.errors import UserError

Value = TypeVar("Value")
LONGEST = 6
"""Lines of a refusal; a recipe tells every mistake, one a line, up to ``recipe_file.SHOWN`` and a last one."""

FEW = settings(database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
"""Of every test here, beside what ``conftest.py`` says: large values and slow readers are meant."""

# The same few cases in every run; make faults tries many more.
depths = pytest.mark.parametrize("examples", [12, pytest.param(600, marks=pytest.mark.faults)], ids=["few", "many"])


def check_refusal(error: BaseException, lines: int = LONGEST) -> None:
    """A refusal is words for a person: some, not many lines, and no traceback of Python."""
    said = str(error)
    assert said.strip(), f"{type(error).__name__} says nothing"
    assert len(said.splitlines()) <= lines, said
    assert "Traceback" not in said
    assert "object at 0x" not in said


def attempt(read: Callable[[], Any], refusals: tuple[type[BaseException], ...] = (), lines: int = LONGEST) -> str:
    """``accepted`` or ``refused``; whatever else the reader raises goes through."""
    try:
        read()
    except (UserError, *refusals) as error:
        check_refusal(error, lines)
        return "refused"
    return "accepted"


def fuzz(
    what: str,
    values: st.SearchStrategy[Value],
    read: Callable[[Value], Any],
    examples: int,
    *,
    refusals: tuple[type[BaseException], ...] = (),
    lines: int = LONGEST,
) -> Counter[str]:
    """Try a reader on drawn values and record the row of the table.

    Args:
        refusals: what else than the tree of errors is a clean refusal there (a server's answer is ``Failed``).
    """
    counts: Counter[str] = Counter()

    @settings(FEW, max_examples=examples)
    @given(values)
    def tried(value: Value) -> None:
        counts[attempt(lambda: read(value), refusals, lines)] += 1

    tried()
    tell(what, counts)
    return counts


def tell(what: str, counts: Counter[str]) -> None:
    """Record a row: all tried were refused or accepted, since anything else has failed the test."""
    refused, accepted = counts["refused"], counts["accepted"]
    record(kind="input", what=what, tried=refused + accepted, refused=refused, accepted=accepted, crashed=0)
