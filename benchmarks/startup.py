"""How long the command line takes to start, and a run that has nothing left to do.

    python benchmarks/startup.py [--repeat 5]

- help: ``polypref --help``.
- finished: ``polypref run`` on recipes/smoke.yaml once more, when it is finished; all its stages are looked at.
- finished, real models: likewise on recipes/quickstart.yaml, made small, whose models are transformers checkpoints.

Bytecode is cached, as in an installed package. Seconds are of the whole process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from measuring import POLYPREF, Used, child, median, table

MADE = """
from pathlib import Path
from polypref.sandbox.model import sft_checkpoint
from polypref.sandbox.settings import SftSettings
print(sft_checkpoint(Path({folder!r}), 0, settings=SftSettings(width=32, layers=1, heads=2, steps=20)))
"""
SMALL = (
    *("alignment.prompts.limit=64", "prompts.limit=24", "evaluate.prompts.limit=12", "rounds=1"),
    # A model that has learned nothing gives no answer that these would leave in.
    *("alignment.scorer=fake", "alignment.pair.language_check=false", "alignment.pair.drop_truncated=false"),
    *("pair.language_check=false", "pair.drop_truncated=false", "evaluate.reward_accuracy=[cross_lingual]"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = f"{name}/bytecode"

        def measure(*command: object) -> tuple[Used, Used]:
            """What the first time used, and the median of the others."""
            first = child([POLYPREF, *command], env)
            return first, median(lambda: child([POLYPREF, *command], env), asked.repeat)

        model = child([sys.executable, "-c", MADE.format(folder=f"{name}/models")]).out.strip()
        small = [part for change in (f"models.reference.path={model}", *SMALL) for part in ("--set", change)]
        works: dict[str, tuple[tuple[object, ...], float]] = {
            "`polypref --help`": (("--help",), 0.3),
            "finished run": (("run", "smoke", "--out", f"{name}/run-1"), 2.0),
            "finished run, real models": (("run", "quickstart", *small, "--out", f"{name}/run-2"), 2.0),
        }
        for what, (command, aim) in works.items():
            first, used = measure(*command)
            begun = "" if command == ("--help",) else f"{first.seconds:.1f}"
            rows.append((what, begun, f"{used.seconds:.2f}", aim, f"{used.processor:.2f}", f"{used.mib:.0f}"))
    print(table(("what", "first time, s", "again, s", "aim, s", "processor, s", "peak, MiB"), rows))


if __name__ == "__main__":
    main()
