"""Secrets of the environment stay there: in no file of a run, in no message, though a server tells them back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from attempts import tell

from runs import small

NAMES = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
NAMES += ("GOOGLE_API_KEY", "AZURE_STORAGE_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "MY_PASSWORD")
SECRETS = {name: f"planted-{number}-{name.lower()}-5f1d" for number, name in enumerate(NAMES)}
HERE = Path(__file__).parent


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "polypref", *arguments],
        env=os.environ | plain | SECRETS,
        capture_output=True,
        text=True,
        timeout=240,
    )


def told(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text or secret[8:] in text]


def test_no_secret_is_in_any_file_of_a_run_or_in_any_message(tmp_path: Path) -> None:
    server = subprocess.Popen([sys.executable, str(HERE / "secrets_server.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        recipe = small(tmp_path, server={"url": url, "attempts": 1, "concurrency": 2})
        out = tmp_path / "out"
        finished = command("run", str(recipe), "--out", str(out))
        again = command("report", "--input", str(out), "--json")
    finally:
        server.kill()
        server.communicate()
    everything = [finished.stdout, finished.stderr, again.stdout, again.stderr]
    echoed = False
    for path in (path for path in out.rglob("*") if path.is_file()):
        everything += [path.read_bytes().decode("utf-8", "replace"), str(path)]
        if path.suffix == ".parquet":  # compressed: its text is looked at as it is read
            everything.append(str(pq.read_table(path).to_pylist()))
            echoed |= "bad request with" in everything[-1]
    assert echoed, finished.stderr
    assert not told("\n".join(everything))
    tell("secrets planted in the environment of a run", Counter(refused=len(SECRETS)))


def test_a_server_that_refuses_everything_is_told_of_without_the_key(tmp_path: Path) -> None:
    """The message of the end of a run holds what the server said."""
    source = tmp_path / "p.jsonl"
    source.write_text('{"id": "1", "prompts": {"en": "Hi"}}\n')
    found = command(
        *("generate", "--model", "m", "--backend", "openai", "--url", "http://user:planted-pw@127.0.0.1:9/v1"),
        *("--input", str(source), "--output", str(tmp_path / "o.jsonl")),
    )
    assert found.returncode == 2
    assert "planted" not in found.stderr + found.stdout
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize("arguments", [("env", "--json"), pytest.param(("ls",), marks=pytest.mark.faults)])
def test_what_is_told_for_a_bug_report_holds_no_secret(arguments: tuple[str, ...]) -> None:
    found = command(*arguments)
    assert found.returncode == 0
    assert not told(found.stdout + found.stderr)
