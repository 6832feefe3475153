"""What the commands show a person: progress and words on stderr, silent where nobody looks."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

LONGEST = 1000
"""Characters of a line: a name of somebody's data may have a million."""
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """The text with what a terminal would obey (escape codes, marks of direction) spelled out, its lines cut."""
    seen = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
    return "\n".join(line if len(line) <= LONGEST else line[: LONGEST - 1] + "…" for line in seen.split("\n"))


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def say(text: str) -> None:
    """A line for a person, on stderr."""
    if sys.stderr.isatty():
        _console().print(plain(text), highlight=False, markup=False)


def _cut(what: Callable[[Any], str]) -> Any:
    """A column of words about a task, whose ends are cut where the line is full: of the longest words first."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Cut(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(plain(what(task)), no_wrap=True, overflow="ellipsis")

    return Cut()


class Terminal:
    """A bar for what is being done, a line for what is done, warnings among them; off a terminal warnings alone."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._prints = contextlib.ExitStack()
        self._open: dict[str, tuple[Any, bool, float]] = {}

    def __enter__(self) -> Terminal:
        # Stdout is the command's answer alone: what a library prints on its way goes to stderr.
        self._prints.enter_context(contextlib.redirect_stdout(sys.stderr))
        self._prints.enter_context(warnings.catch_warnings())
        warnings.showwarning = self._warning(warnings.showwarning)
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
            from rich.table import Column

            def whole() -> Column:
                """One that gives no room away to words."""
                return Column(no_wrap=True)

            self._progress = Progress(
                _cut(lambda task: task.description),
                BarColumn(bar_width=30, table_column=whole()),
                MofNCompleteColumn(table_column=whole()),
                TimeElapsedColumn(table_column=whole()),
                _cut(lambda task: task.fields["beside"]),
                console=_console(),
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._prints.close()
        if self._progress is not None:
            self._progress.stop()

    def _warning(self, otherwise: Callable[..., None]) -> Callable[..., None]:
        """A warning of ours is a sentence for the user, without the line of source that it comes from."""

        def show(message: Warning, category: type[Warning], filename: str, *place: Any, **rest: Any) -> None:
            if category is UserWarning and filename.startswith(f"{Path(__file__).parent}{os.sep}"):
                self.warn(str(message))
            else:
                otherwise(message, category, filename, *place, **rest)

        return show

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Move the bar of a step; at its end the bar gives way to a line with its time."""
        if self._progress is None:
            return
        if what not in self._open:
            self._close_inner()
            self._open[what] = self._progress.add_task(what, total=total, beside=""), total is None, time.monotonic()
        task, _, begun = self._open[what]
        self._progress.update(task, completed=done, total=total)
        if total is not None and done >= total:
            took = time.monotonic() - begun
            self._progress.console.print(f"{plain(what):<64} {total:>6} {took:8.1f} s", highlight=False, markup=False)
            self._close_inner()
            self._close(what)

    def beside(self, what: str, text: str) -> None:
        """Show a few words beside the bar of a step."""
        if self._progress is not None and what in self._open:
            self._progress.update(self._open[what][0], beside=text)

    def _close(self, what: str) -> None:
        self._progress.remove_task(self._open.pop(what)[0])

    def _close_inner(self) -> None:
        """Take away the bars of work inside a step, whose end is not known beforehand."""
        for what in [what for what, (_, inner, _) in self._open.items() if inner]:
            self._close(what)

    def warn(self, message: str) -> None:
        """Say what the user should know, once, above the bars."""
        if self._progress is not None:
            self._progress.console.print(plain(message), markup=False, highlight=False)
        else:
            print(f"polypref: {plain(message)}", file=sys.stderr)


def show(data: Any, page: Path) -> None:
    """A run's figures as tables, and where the page is: the command's answer to a person, on stdout."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from polypref.stages.report import findings_of, headline_of, terminal_tables
    from polypref.stages.report_signatures import raised_lines

    console = Console()
    for table in terminal_tables(data):
        console.print(table)
    for text, depth in raised_lines(data):
        line = Text(plain(text), style="yellow" if depth > 1 else "bold yellow")
        console.print(Padding(line, (0, 0, 0, 2 * depth)))
    for finding in findings_of(data):
        console.print(
            plain(finding.text), style="yellow" if finding.kind == "watch" else None, highlight=False, markup=False
        )
    console.print(plain(headline_of(data).text), style="bold", highlight=False, markup=False)
    console.print(f"{page}  the same, to read and to pass on", highlight=False, markup=False, soft_wrap=True)


def catalogue(what: Sequence[str]) -> dict[str, dict[str, str]]:
    """Heading → name → one line about it."""
    from polypref import recipes, registry
    from polypref.backends import released

    makers: dict[str, Any] = {
        "recipes": recipes.catalogue,
        "models": released.catalogue,
        "scorers": lambda: {
            name: registry.first_line(target) for name, target in {**registry.SCORERS, **registry.COMPARERS}.items()
        },
        "backends": lambda: {
            f"{role}: {name}": registry.first_line(target) for (role, name), target in registry.BACKENDS.items()
        },
        "metrics": registry.metrics,
    }
    return {name: makers[name]() for name in what}


def environment() -> dict[str, str]:
    """Versions and hardware; no key, no user's name."""
    import platform

    from polypref.store.manifest import versions

    found = {**versions(), "platform": platform.platform(), "processors": str(os.cpu_count())}
    try:
        import torch

        found["threads"] = str(torch.get_num_threads())
        found["cuda"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    except ImportError:
        found["cuda"] = "torch is not installed"
    return found
