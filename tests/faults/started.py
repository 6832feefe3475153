"""Processes that a test starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent


def program(name: str, *arguments: Any) -> dict[str, Any]:
    """What one of this folder's programs prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-m", f"faults.{name}", *map(str, arguments)]
    found = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout)


def command(*arguments: Any, **kw: Any) -> subprocess.Popen[str]:
    """The command-line program, begun."""
    words = [sys.executable, "-m", "polypref", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
