"""Best-of-n as served by a process, a tiny model and a tiny reward model, against the stages in this process."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import tiny
import tiny_rewards

from polypref import registry
from polypref.backends.base import Sampling
from polypref.backends.openai_wire import sample_seed
from polypref.backends.serving_wire import Asked
from polypref.cli import main
from polypref.stages.best_of_n import BestOfNOptions, best_of_n
from polypref.stages.generate import GenerateOptions, generate
from polypref.stages.score import ScorerOptions, by_scorer
from polypref.stages.serve_best_of_n import example_of
from servers import serving

pytest.importorskip("starlette", reason="serving needs the extra serve")
pytest.importorskip("uvicorn", reason="serving needs the extra serve")
pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("_closed")]


def test_our_own_client_gets_the_best_of_n_of_the_same_samples(tmp_path: Path) -> None:
    """``polypref generate`` through the server, against generate, score and best-of-n in this process."""
    model, reward = tiny.save(tmp_path / "model", "Llama"), tiny_rewards.save(tmp_path / "reward", "Llama")
    prompts = {"a": "Name three rivers.", "b": "Nombra tres ríos.", "c": "Nenne drei Flüsse."}
    lines = [json.dumps({"id": name, "prompts": {"es": text}}) + "\n" for name, text in prompts.items()]
    (tmp_path / "in.jsonl").write_text("".join(lines), encoding="utf-8")
    arguments = ["--model", str(model), "--scorer", "reward_model", "--scorer-model", str(reward), "--n", "5"]
    with serving(*arguments, "--language", "es", "--drop-truncated", "off", "--batch-window", "0.2") as (url, process):
        generating = ["--backend", "openai", "--url", url, "--n", "2", "--max-tokens", "8", "--seed", "11"]
        files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
        with pytest.raises(SystemExit) as stop:
            main(["generate", "--model", "best-of-n", *generating, *files])
        assert stop.value.code == 0
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    served = {example["id"]: [c["text"] for c in example["candidates"]] for example in written}

    context, opener = registry.context(("es",), "es")
    sampling = Sampling(temperature=1.0, max_tokens=8)
    for name, text in prompts.items():
        seed = sample_seed(11, f"0/policy/{name}/es", 0)
        asked = Asked([{"role": "user", "content": text}], sampling, 2, 5, seed)
        drawing = GenerateOptions(sources=[{"role": "policy", "model": str(model), "n": 10}], sampling=sampling)
        scoring = ScorerOptions(scorer="reward_model", model=str(reward), name="rm")
        [drawn] = by_scorer(generate([example_of(asked, "es")], drawing, context), scoring, context)
        own = {c.text for c in drawn.candidates}
        assert len(own) == 10  # so that a pick tells which sample it was
        halves = (drawn.candidates[:5], drawn.candidates[5:])
        for text, half in zip(served[name], halves, strict=True):
            drawn.candidates = half
            picking = BestOfNOptions(score="rm", n=(5,), keep="picked", drop_truncated=False)
            [picked] = best_of_n([drawn], picking, context)
            assert text == picked.candidates[0].text
    opener.close()
