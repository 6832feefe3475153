"""Bad input through the real command: status 2, a few lines on stderr, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from attempts import LONGEST, tell

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
ITSELF = "name: &n [*n]\n"

CASES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "aliases that explode": ("r.yaml", LAUGHS.encode(), ("validate", "r.yaml")),
    "an alias of itself": ("r.yaml", ITSELF.encode(), ("validate", "r.yaml")),
    "deep YAML": ("r.yaml", b"name: " + b"[" * 100_000, ("validate", "r.yaml")),
    "deep YAML in blocks": ("r.yaml", b"".join(b" " * n + b"a:\n" for n in range(1500)), ("validate", "r.yaml")),
    "tags of Python": ("r.yaml", b"name: !!python/object/apply:os.system ['touch ran']\n", ("validate", "r.yaml")),
    "an unknown key of escape codes": ("r.yaml", b'"\\e[2J\\e]8;;x\\e\\\\": 1\nname: n\n', ("validate", "r.yaml")),
    "deep JSON": ("x.jsonl", b"[" * 200_000, ("pair", "best-worst", "--input", "x.jsonl", "--output", "o.jsonl")),
    "an id of 10^5 characters, twice": (
        "x.jsonl",
        (b'{"id": "' + b"\xe2\x80\xae" * 100_000 + b'", "prompts": {"en": "Hi"}}\n') * 2,
        ("pair", "best-worst", "--input", "x.jsonl", "--output", "o.jsonl"),
    ),
    "a Parquet file of nothing": (
        "x.parquet",
        b"PAR1" + b"\0" * 64 + b"PAR1",
        ("pair", "best-worst", "--input", "x.parquet", "--output", "o.jsonl"),
    ),
    "random bytes as prompts": (
        "x.json",
        bytes(range(256)) * 8,
        ("evaluate", "figures", "--input", "x.json"),
    ),
    "a number that is none": (
        "x.jsonl",
        b'{"id": "1", "prompts": {"en": "Hi"}, '
        b'"candidates": [{"id": "a", "lang": "en", "text": "t", "scores": {"s": 1e999}}]}',
        ("pair", "best-worst", "--input", "x.jsonl", "--output", "o.jsonl"),
    ),
    "judgments that are none": (
        "j.jsonl",
        b'{"id": "\\u202e", "language": "x\\u001b[2J"}',
        ("evaluate", "winrate", "--input", "j.jsonl"),
    ),
    "results that are none": ("results.json", b"[" * 100_000, ("report", "--input", ".")),
    "results of other kinds": (
        "results.json",
        b'{"results": [], "config": 1, "samples": [{"x": 1}]}',
        ("report", "--input", "."),
    ),
}


def run(folder: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polypref", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


# The readers of the others are tried in one process; make faults starts the command for each.
SELECTED = ("aliases that explode", "an unknown key of escape codes", "deep JSON", "an id of 10^5 characters, twice")
SELECTED += ("a Parquet file of nothing", "results of other kinds")


@pytest.mark.parametrize("what", [w if w in SELECTED else pytest.param(w, marks=pytest.mark.faults) for w in CASES])
def test_a_command_refuses_in_a_few_lines_and_writes_nothing(what: str, tmp_path: Path) -> None:
    name, content, arguments = CASES[what]
    (tmp_path / name).write_bytes(content)
    found = run(tmp_path, arguments)
    assert found.returncode == 2, found.stderr[-2000:]
    assert 0 < len(found.stderr.splitlines()) <= LONGEST
    assert len(found.stderr) < 8000
    assert "Traceback" not in found.stderr
    assert not set(found.stderr) & set("\x1b\x9b\u202e\0")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    tell("bad files given to the command", Counter(refused=1))
