"""The bar of a step on a terminal of eighty columns."""

import io

from rich.console import Console

from polypref import cli_terminal
from polypref.cli_terminal import Terminal


def test_the_words_beside_a_bar_are_cut_before_the_bar_and_its_count(monkeypatch):
    """Neither a step with a long name nor one with much to say loses its bar of 30 cells, its count or its time."""
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(cli_terminal, "_console", lambda: console)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Terminal() as terminal:
        terminal.progress("judged by gpt", 600, 1200)
        terminal.beside("judged by gpt", "1,200 requests, 123,456 + 4,567 tokens, cost 0.12, 12 without a verdict")
        terminal.progress("a step whose name is longer than a terminal has room for", 3, 10)
        page = Console(width=80, file=io.StringIO())
        page.print(terminal._progress.get_renderable())
    first, second = page.file.getvalue().splitlines()
    for line, count in ((first, " 600/1200"), (second, "    3/10")):
        assert (count in line, "0:00:00" in line, "…" in line) == (True, True, True)
    assert "judged by gpt" in first
    assert "1,200" in first
