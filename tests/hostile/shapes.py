"""Values that are nearly right: whole inputs with something in them cut, flipped, nested or of another kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

RLO, RLM, CSI = "\u202e", "\u200f", "\x9b"
TEXTS = (
    "",
    " ",
    "../../../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows\\x",
    ".",
    "..",
    "a\0b",
    "a\nb",
    "a\r\nb",
    f"{RLO}txt.exe",
    f"{RLM}es",
    "\x1b[2J\x1b[31m",
    "\x1b]8;;http://example.org\x1b\\here\x1b]8;;\x1b\\",
    f"{CSI}31m",
    "\u2028\u2029\x85",
    "\ufeff",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "[link=file:///etc/passwd]x[/link]",
    "[/]",
    "{{ ''.__class__ }}",
    "{0.__class__}",
    "%s%n",
    "${HOME}",
    "x" * 100_000,
    "💥" * 3,
    "nan",
    "1e999",
    "id",
    "es",
    "null",
)
"""What stands where an id, a name or a text should."""
NUMBERS = (0, -1, 1, 0.5, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 1e308, -0.0, float("nan"), float("inf"))


def texts() -> st.SearchStrategy[str]:
    return st.sampled_from(TEXTS) | st.text(max_size=12)


def scalars() -> st.SearchStrategy[Any]:
    return st.none() | st.booleans() | st.sampled_from(NUMBERS) | texts()


def json_values() -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3), max_leaves=6
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a tree but the tree itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*path, key)
        yield from places(below, (*path, key))


@st.composite
def spoiled(draw: Any, whole: Any, most: int = 3) -> Any:
    """A tree like one of ``whole`` (one or several), with up to ``most`` changes."""
    tree = copy.deepcopy(draw(st.sampled_from(whole)) if isinstance(whole, tuple) else whole)
    for _ in range(draw(st.integers(0, most))):
        found = list(places(tree))
        if not found:
            return draw(json_values())
        *way, last = draw(st.sampled_from(found))
        at = tree
        for key in way:
            at = at[key]
        how = draw(st.sampled_from(("put", "put", "take", "add", "repeat")))
        if how == "put":
            at[last] = draw(json_values())
        elif how == "take":
            del at[last]
        elif how == "add" and isinstance(at, dict):
            at[draw(texts())] = draw(json_values())
        elif isinstance(at, list):
            at.append(copy.deepcopy(at[last]))
        else:
            at[last] = [at[last]]
    return tree


@st.composite
def mangled(draw: Any, contents: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that are cut, flipped, or hold something else in their middle; now and then left whole, or all random."""
    content = draw(contents)
    how = draw(st.sampled_from(("whole", "whole", "cut", "flip", "insert", "random")))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if how == "cut":
        return content[:at]
    if how == "flip" and content:
        return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
    if how == "insert":
        return (
            content[:at]
            + draw(st.binary(max_size=8) | st.sampled_from((b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n")))
            + content[at:]
        )
    return draw(st.binary(max_size=200)) if how == "random" else content


def dumped(value: Any) -> str:
    """JSON as a careless writer writes it: NaN, and surrogates escaped."""
    return json.dumps(value)


def lines(rows: Sequence[Any], wrap: Callable[[Any], Any] = lambda row: row) -> st.SearchStrategy[bytes]:
    """JSON Lines of a few rows, each spoiled in its own way, and then as bytes."""
    row = spoiled(tuple(rows)).map(wrap)
    whole = st.lists(row, min_size=1, max_size=3).map(lambda found: "\n".join(map(dumped, found)).encode())
    return mangled(whole | deep())


def array(rows: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """One JSON list of the rows."""
    return mangled(st.lists(spoiled(tuple(rows)), min_size=1, max_size=3).map(lambda found: dumped(found).encode()))


def document(*whole: Any) -> st.SearchStrategy[bytes]:
    """One JSON object."""
    return mangled(spoiled(whole).map(lambda found: dumped(found).encode()) | deep())


def deep() -> st.SearchStrategy[bytes]:
    """What a parser that calls itself falls over."""
    return st.sampled_from(
        (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000, b'{"id":' * 2000 + b"1" + b"}" * 2000)
    )


@st.composite
def table(draw: Any, header: Sequence[str], *rows: Sequence[str]) -> bytes:
    """A CSV whose cells, rows or bytes are spoiled."""
    cells = [list(header), *(list(row) for row in rows)]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(cells))
        if row and draw(st.booleans()):
            row[draw(st.integers(0, len(row) - 1))] = draw(texts())
        elif row and draw(st.booleans()):
            row.pop()
        else:
            row.append(draw(texts()))
    quote = draw(st.booleans())
    text = "\r\n".join(",".join(f'"{cell}"' if quote else cell for cell in row) for row in cells)
    return draw(mangled(st.just(text.encode())))
