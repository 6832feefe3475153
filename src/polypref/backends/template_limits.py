"""Limits on a chat template, which is a program of whoever made the model: its arithmetic, and how long it may run.

transformers renders in Jinja's sandbox, so a template reaches no file and no private attribute. The sandbox bounds
neither time nor memory. Here a rendering is ended at a deadline, and what a deadline cannot end is refused before: one
operation that makes a number or a text of any size (``10 ** 10 ** 10``, ``'a' * n``).
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator

import jinja2

SECONDS = 20.0
"""Of one rendering; a usual one takes less than a millisecond."""
LARGEST = 1000
"""The largest number that may stand beside ``*``."""
_LONG_TEXTS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "format", "wordwrap"})
_WIDEST = 4
"""Digits of a number in a template that pads texts: a width of 10 000 is none."""


class OutOfTime(Exception):
    """A rendering took longer than ``SECONDS``."""


def unbounded(template: str) -> str | None:
    """What in a template's text could make a value of any size in one step; None where nothing does.

    ``*`` is let through beside a plain number of at most ``LARGEST``, or between a text of the template's own and a
    name (an indentation).
    """
    try:
        tokens = [(kind, value) for _, kind, value in jinja2.Environment().lex(template) if kind != "whitespace"]
    except jinja2.TemplateSyntaxError:
        return None  # its rendering says so
    pads = any(kind == "name" and value in _LONG_TEXTS for kind, value in tokens)
    for place, (kind, value) in enumerate(tokens):
        if kind == "operator" and value == "**":
            return "a power (**)"
        if kind == "operator" and value == "*":
            sides = [tokens[place - 1], tokens[min(place + 1, len(tokens) - 1)]]
            numbers = [int(text.replace("_", ""), 0) for side, text in sides if side == "integer"]
            if not (numbers and max(numbers) <= LARGEST) and not (not numbers and any(s == "string" for s, _ in sides)):
                return "a product (*) of any size"
        if pads and kind == "integer" and len(value) > _WIDEST:
            return f"a padding of {value[:20]}"
    return None


class _Watch:
    """One thread that raises ``OutOfTime`` in those that render too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, float] = {}
        self._late: set[int] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        me = threading.get_ident()
        if me in self._ends:  # inside another rendering, which has the deadline
            yield
            return
        with self._lock:
            self._ends[me] = time.monotonic() + SECONDS
            if self._thread is None or not self._thread.is_alive():  # the first, or after a fork
                self._thread = threading.Thread(target=self._look, name="polypref-templates", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._ends.pop(me, None)
                if me in self._late:  # not yet raised, or this block is left by it
                    self._late.discard(me)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(me), None)

    def _look(self) -> None:
        """Until nothing was rendered for a while."""
        idle = 0
        while idle < 60:
            time.sleep(min(1.0, SECONDS / 2))
            with self._lock:
                idle = 0 if self._ends else idle + 1
                for thread, end in list(self._ends.items()):
                    if time.monotonic() > end:
                        del self._ends[thread]
                        self._late.add(thread)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(OutOfTime))
                if idle >= 60:
                    self._thread = None


within_limits = _Watch()
"""A block that is ended by ``OutOfTime`` after ``SECONDS``; one long call of C within it is not."""
