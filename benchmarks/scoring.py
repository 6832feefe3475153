"""Scoring answers by their log-probability: polypref's scorer beside a plain loop, TRL's reference pass and the ideal.

    python benchmarks/scoring.py [--shapes short long] [--vocabularies 32000 151936] [--dtypes float32 bfloat16]
                                 [--prompts 1] [--repeat 5] [--threads 2] [--device cpu] [--no-trl] [--no-others]
                                 [--json FILE]

The model is Qwen3's architecture with random weights (8 layers of 512, 8 heads: 25 million parameters below the head),
since throughput does not depend on the weights. Shapes: ``short`` is 48 prompt tokens and 285 answer tokens on average
(114 to 456), ``long`` 1000 and 100 (40 to 160); ten answers a prompt, in an order that a seed shuffles.

- plain: three sequences a batch in that order, right-padded, whole logits, log softmax in the model's type, each
  sequence with its prompt.
- TRL: ``DPOTrainer``'s reference log-probabilities of the same sequences, five pairs a prompt, three pairs a batch.
- ideal: the model's matrix products alone, 512 rows at a time, for as many tokens as must be run once: each prompt's
  and all answers' below the head, the answers' at the head. Attention, norms and the softmax are left out.

Everything is timed in turns within one process, every repeat one of each; ratios are of medians. Peak memory is the
resident set's growth over what stood before, sampled every 5 ms, of the call before them. The error of bfloat16 is the
difference to the same weights in float32, for each answer divided by its tokens: the mean of its absolute value.

The second table is of other work through the same engine, in float32 at the first vocabulary and shape: a reward model
and last hidden states beside loops of three, and policy and reference as two adapters of one base beside two loops.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from scoring_cases import SHAPES, Case, answers, in_turns, largest, peak, save
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

from polypref.backends.base import Judged, ModelSpec, Text
from polypref.backends.hf_hidden import HFHiddenStates
from polypref.backends.hf_logprobs import HFLogprobs
from polypref.backends.hf_models import close_models
from polypref.backends.hf_reward_models import open_reward_model
from polypref.backends.hf_rewards import HFRewardModel
from polypref.backends.judging import RewardModelSettings

COLUMNS = (
    *("vocabulary", "dtype", "shape", "answer tokens", "ours, s", "plain, s", "plain ÷ ours", "TRL ÷ ours"),
    *("of the ideal", "ours, MiB", "plain, MiB", "largest difference, nats", "to float32, nats a token: ours", "plain"),
)
OTHERS = ("work", "ours, s", "plain, s", "plain ÷ ours", "ours, MiB", "plain, MiB", "largest difference")


def measure(folder: Path, vocabulary: int, dtype: str, shape: str, asked: argparse.Namespace) -> dict[str, Any]:
    """What a line of the table says."""
    case = Case.of(folder, answers(vocabulary, SHAPES[shape], asked.prompts), dtype, asked.device)
    works: dict[str, Callable[[], Any]] = {"ideal": case.ideal, "ours": case.ours, "plain": case.plain}
    if not asked.no_trl:
        works["trl"] = case.trl(folder, dtype)
    memory, found = {}, {}
    for name in ("ours", "plain"):
        memory[name], found[name] = peak(works[name])
    line: dict[str, Any] = {
        "vocabulary": vocabulary,
        "dtype": dtype,
        "shape": shape,
        "answer_tokens": sum(map(len, case.texts)),
        "mib": memory,
        "difference": largest(found["ours"], found["plain"]),
        "seconds": in_turns(works, asked.repeat),
    }
    if dtype != "float32":
        exact = Case.of(folder, case.rows, "float32", asked.device).ours()
        line["to_float32"] = {
            name: statistics.mean(
                abs(a - b) / len(text) for a, b, text in zip(found[name], exact, case.texts, strict=True)
            )
            for name in found
        }
        close_models()
    return line


def shown(line: dict[str, Any]) -> list[Any]:
    """The cells of a line of the first table."""
    median = {name: statistics.median(found) for name, found in line["seconds"].items()}
    errors = line.get("to_float32", {})
    return [
        *(line[name] for name in ("vocabulary", "dtype", "shape", "answer_tokens")),
        *(f"{median[name]:.2f}" for name in ("ours", "plain")),
        f"{median['plain'] / median['ours']:.2f}",
        f"{median['trl'] / median['ours']:.2f}" if "trl" in median else "not measured",
        f"{median['ideal'] / median['ours']:.0%}",
        *(f"{line['mib'][name]:.0f}" for name in ("ours", "plain")),
        f"{line['difference']:.1e}",
        *(f"{errors[name]:.1e}" if name in errors else "" for name in ("ours", "plain")),
    ]


# --- other work through the same engine ------------------------------------------------------------------------------


def reward_model(case: Case, folder: Path, device: str) -> dict[str, Callable[[], list[float]]]:
    """A classifier on the same layers, its scores at the last token."""
    torch.manual_seed(0)
    config = Qwen3Config.from_pretrained(folder, num_labels=1, architectures=["Qwen3ForSequenceClassification"])
    place = folder / "reward"
    Qwen3ForSequenceClassification(config).save_pretrained(place)
    case.scorer.loaded.tokenizer.save_pretrained(place)
    loaded = open_reward_model(ModelSpec(path=str(place), dtype="float32", device=device))
    scorer = HFRewardModel(loaded, RewardModelSettings(input="turns"))
    judged = [Judged(row.id, "en", row.messages, row.text) for row in case.rows]
    ended = Case(case.scorer, case.rows, case.prompts, [[*text, 1] for text in case.texts])

    def plain() -> list[float]:
        return [float(value) for _, _, logits in ended.loop(loaded.model) for value in logits[:, 0]]

    return {"ours": lambda: scorer.score(judged), "plain": plain}


def hidden_states(case: Case, folder: Path, device: str) -> dict[str, Callable[[], list[float]]]:
    """The last layer's state of each last token; the loop runs the model without its head, too."""
    model = HFHiddenStates(ModelSpec(path=str(folder), dtype="float32", device=device))
    texts = [Text(row.id, row.messages, row.text) for row in case.rows]
    ended = Case(case.scorer, case.rows, case.prompts, [[*text, 1] for text in case.texts])

    def ours() -> list[float]:
        (found,) = model.hidden(texts, [-1], "last")
        return [float(value) for value in found.ravel()]

    def plain() -> list[float]:
        out: list[float] = []
        for batch, _, states in ended.loop(case.scorer.loaded.model.model):
            out += [
                v for k, (prompt, text) in enumerate(batch) for v in states[k, len(prompt) + len(text) - 1].tolist()
            ]
        return out

    return {"ours": ours, "plain": plain}


def two_adapters(case: Case, folder: Path, device: str) -> dict[str, Callable[[], list[float]]]:
    """Policy and reference as LoRA adapters of rank 16 on one base; the loops run one after the other."""
    from peft import LoraConfig, get_peft_model

    scorers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        base = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
        lora = LoraConfig(r=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(base, lora).save_pretrained(str(folder / f"adapter-{seed}"))
        spec = ModelSpec(path=str(folder), adapter=str(folder / f"adapter-{seed}"), dtype="float32", device=device)
        scorers.append(HFLogprobs(spec))
    assert len({id(scorer.loaded.weights.base) for scorer in scorers}) == 1
    cases = [Case(scorer, case.rows, case.prompts, case.texts) for scorer in scorers]
    return {
        "ours": lambda: [value for one in cases for value in one.ours()],
        "plain": lambda: [value for one in cases for value in one.plain()],
    }


def others(folder: Path, vocabulary: int, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of the second table."""
    case = Case.of(folder, answers(vocabulary, SHAPES[asked.shapes[0]], asked.prompts), "float32", asked.device)
    lines = []
    for make in (reward_model, hidden_states, two_adapters):
        works = make(case, folder, asked.device)
        memory, found = {}, {}
        for name in ("ours", "plain"):
            memory[name], found[name] = peak(works[name])
        lines.append(
            {
                "work": make.__name__.replace("_", " "),
                "mib": memory,
                "difference": largest(found["ours"], found["plain"]),
                "seconds": in_turns(works, asked.repeat),
            }
        )
    return lines


def shown_other(line: dict[str, Any]) -> list[Any]:
    """The cells of a line of the second table."""
    ours, plain = (statistics.median(line["seconds"][name]) for name in ("ours", "plain"))
    return [
        *(line["work"], f"{ours:.2f}", f"{plain:.2f}", f"{plain / ours:.2f}"),
        *(f"{line['mib'][name]:.0f}" for name in ("ours", "plain")),
        f"{line['difference']:.1e}",
    ]


def table(columns: Sequence[str], lines: Iterable[list[Any]]) -> None:
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for cells in lines:
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[32_000, 151_936])
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--prompts", type=int, default=1, help="of ten answers each")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-trl", action="store_true")
    parser.add_argument("--no-others", action="store_true")
    parser.add_argument("--json", type=Path, help="where every measured second is written, too")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")
    found: dict[str, list[dict[str, Any]]] = {"scoring": [], "others": []}

    def lines() -> Iterator[list[Any]]:
        for vocabulary in asked.vocabularies:
            for dtype in asked.dtypes:
                with tempfile.TemporaryDirectory() as name:
                    save(Path(name), vocabulary, getattr(torch, dtype))
                    for shape in asked.shapes:
                        found["scoring"].append(measure(Path(name), vocabulary, dtype, shape, asked))
                        yield shown(found["scoring"][-1])
                    close_models()

    table(COLUMNS, lines())
    if not asked.no_others:
        with tempfile.TemporaryDirectory() as name:
            save(Path(name), asked.vocabularies[0], torch.float32)
            found["others"] = others(Path(name), asked.vocabularies[0], asked)
        print()
        table(OTHERS, map(shown_other, found["others"]))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
