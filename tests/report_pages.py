"""A report as a reader has it: its elements and words, what a terminal prints of it, and what a browser makes of it."""

import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=https://evil.example/x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><style>body{display:none}</style>",
    "</title></textarea><iframe src=//evil.example>",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x1b[0m \x00 \x9b31m",
    "\u202ereversed\u2066 \ud800",
    "<!-- ]]> &lt;b&gt;",
)


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "".join(self.words)


def printed(found):
    """What a terminal shows of the tables."""
    console = Console(width=160, record=True, file=io.StringIO())
    for table in found:
        console.print(table)
    return console.export_text()


def assert_inert(html):
    """No element that runs or fetches, no handler, no address outside the page."""
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "img", "link", "object", "embed", "form", "base", "textarea", "a", "video"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"), (tag, name, value)
    assert len(page.named("style")) == 1
    assert not re.search(r"@import|url\s*\(", html)
    return page


def dumped(html: str, folder: Path) -> str:
    """The document as chromium holds it after loading the page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --dump-dom"
    command = [browser, *flags.split(), f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode("utf-8")
