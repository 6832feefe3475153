"""The workflow runs what a developer runs, everywhere that polypref says it runs, and may write nothing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def commands(job: str) -> list[str]:
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def test_every_platform_and_version_runs_make_check() -> None:
    matrix = WORKFLOW["jobs"]["check"]["strategy"]["matrix"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    told = [name.rpartition(" ")[2] for name in classifiers if re.search(r":: 3\.\d+$", name)]
    assert matrix["python"] == told == ["3.11", "3.12", "3.13"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    assert commands("check") == ["make check"]


def test_the_audit_runs_every_week() -> None:
    [entry] = WORKFLOW[True]["schedule"]  # YAML 1.1 reads the key "on" as true
    assert len(entry["cron"].split()) == 5
    assert entry["cron"].split()[4] != "*"
    assert commands("audit") == ["make audit", "make sbom"]


def test_its_commands_are_targets_and_it_may_only_read() -> None:
    assert {word for job in WORKFLOW["jobs"] for command in commands(job) for word in command.split()[1:]} <= TARGETS
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in WORKFLOW["jobs"].values())
    used = [step for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in used)
    assert all(not step["with"]["persist-credentials"] for step in used if "checkout" in step["uses"])
