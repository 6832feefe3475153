"""Sampling answers in this process: polypref's generator beside transformers' ``generate``, one prompt at a time.

    python benchmarks/generation.py [--prompts 8] [--answers 10] [--tokens 96] [--repeat 5] [--threads 2]

The model is that of the scoring benchmark, with random weights and 32,000 tokens, in float32; prompts have 24 to 96
tokens. Both draw at temperature 0.9 within top-p 0.9, and no answer may end early, so that both make as many tokens.
The other way is the usual loop: ``generate`` with ``num_return_sequences``. Both are timed in turns, each in this
process after one call; peak memory is the resident set's growth of one more call.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import table
from scoring_cases import SPECIAL, in_turns, peak, save

from polypref.backends.base import ModelSpec, Request, Sampling
from polypref.backends.hf_generate import HFGenerator

VOCABULARY = 32_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prompts", 8), ("answers", 10), ("tokens", 96), ("repeat", 5), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")
    noise = random.Random(0)
    widths = [24 + 72 * k // max(1, asked.prompts - 1) for k in range(asked.prompts)]
    said = [" ".join(f"w{noise.randrange(VOCABULARY - len(SPECIAL))}" for _ in range(width)) for width in widths]
    with tempfile.TemporaryDirectory() as name:
        save(Path(name), VOCABULARY, torch.float32)
        generator = HFGenerator(ModelSpec(path=name, dtype="float32", device="cpu"))
    generator.end_ids = frozenset()
    requests = [Request(str(k), [{"role": "user", "content": text}]) for k, text in enumerate(said)]
    sampling = Sampling(n=asked.answers, temperature=0.9, top_p=0.9, max_tokens=asked.tokens)
    model, template = generator.loaded.model, generator.loaded.template
    prompts = [list(template.request_ids(request)) for request in requests]

    def ours() -> int:
        found = [one for made in generator.generate(requests, sampling) for one in made]
        assert all(one.finish_reason == "length" for one in found), "no answer may end early"
        return len(found) * asked.tokens

    @torch.inference_mode()
    def loop() -> int:
        made = 0
        for prompt in prompts:
            ids = torch.tensor([prompt])
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=0.9,
                top_p=0.9,
                top_k=0,
                num_return_sequences=asked.answers,
                min_new_tokens=asked.tokens,
                max_new_tokens=asked.tokens,
                pad_token_id=5,
            )
            made += found[:, len(prompt) :].numel()
        return made

    ways: dict[str, Callable[[], Any]] = {"polypref": ours, "generate, a prompt at a time": loop}
    tokens = {way: work() for way, work in ways.items()}
    times = in_turns(ways, asked.repeat)
    median = {way: statistics.median(found) for way, found in times.items()}
    rate = {way: tokens[way] / median[way] for way in ways}
    rows = []
    for way, work in ways.items():
        cells = f"{median[way]:.2f}", f"{rate[way]:.0f}", f"{rate['polypref'] / rate[way]:.2f}"
        rows.append((way, tokens[way], *cells, f"{peak(work)[0]:.0f}"))
    print(table(("way", "tokens", "seconds", "tokens a second", "polypref is faster by", "peak, MiB more"), rows))


if __name__ == "__main__":
    main()
