"""What a planned run costs: GPU hours, processor hours, disk and money by step. The arithmetic is here, and open.

    forward   2 FLOPs a parameter and token, 4·width·context a token and layer of attention; the product with the
              vocabulary only where log-probabilities are wanted, the input embedding never
    decoding  one step gives a token to each of B answers; a copy's step takes
              max(B·forward/peak, (weights + B·cache·context)/bandwidth), of hf at least layers·layer_seconds
    training  forward 1, backward 2, activations again 1, reference 1: 5·forward a token for DPO

(Kaplan et al. 2020, arXiv 2001.08361, §2.1; Korthikanti et al. 2022, arXiv 2205.05198; Pope et al. 2022, arXiv
2211.05102.) GPU hours do not depend on how many GPUs there are: the work is independent, and what is lost by spreading
it is within the shares of the peak that are assumed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from polypref.estimate_hardware import Hardware, Shape
from polypref.estimate_work import Assumed, Kind, Who, Work

ANSWER_SECONDS: Final[Mapping[Kind, float]] = {
    "generate": 170e-6,
    "translate": 170e-6,
    "score": 200e-6,
    "judge": 200e-6,
    "pair": 200e-6,
    "figures": 100e-6,
    "train": 0.0,
}
"""Seconds of one processor core a sequence: the store and the executor, without the language identifier. Measured by
benchmarks/scale.py on four short answers an example."""

SHARD_BYTES: Final = 13_500
"""Of a Parquet file that holds next to nothing: its schema."""

FULL_TRAINING: Final = 16
"""Bytes a parameter: float32 weights, gradients, and AdamW's two moments."""
RESUME: Final = 12
"""Bytes a parameter of a resume point: float32 weights and the two moments. One is kept while a training runs."""
FREE: Final = 0.9
"""Share of a GPU's memory that weights and caches may take."""
SERVED, HF_POSITIONS = 256, 65_536
"""Answers at once of vllm and of servers (its default max_num_seqs); positions of hf's cache at once."""


@dataclass(frozen=True)
class Machine:
    """What the run gets: accelerators, the sizes of its models, and the prices."""

    gpu: Hardware
    gpus: int = 1
    policy: Shape | None = None
    reward: Shape | None = None
    price: float | None = None
    paid: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cost:
    """One step, costed. ``bound``: what its GPU time waits for. Money is None where there is no price."""

    work: Work
    gpu_seconds: float
    cpu_seconds: float
    disk: float
    money: float | None
    bound: str


@dataclass(frozen=True)
class Rate:
    """Seconds of a kind of work as they were measured: ``fixed`` a step, and ``each`` unit of ``amount``."""

    fixed: float
    each: float
    steps: int


@dataclass(frozen=True)
class Estimate:
    """All steps, costed, and what does not fit."""

    costs: tuple[Cost, ...]
    machine: Machine
    assumed: Assumed
    remarks: tuple[str, ...] = ()
    rates: Mapping[Kind, Rate] = field(default_factory=dict)

    def seconds(self, kinds: Iterable[str] | None = None) -> float:
        """GPU seconds of all steps, or of those kinds."""
        wanted = None if kinds is None else set(kinds)
        return sum(cost.gpu_seconds for cost in self.costs if wanted is None or cost.work.kind in wanted)

    @property
    def money(self) -> float | None:
        """The sum; None where nothing has a price."""
        known = [cost.money for cost in self.costs if cost.money is not None]
        return sum(known) if known else None

    @property
    def disk(self) -> float:
        """Bytes that stay."""
        return sum(cost.disk for cost in self.costs)

    @property
    def resume(self) -> float:
        """Bytes that the largest training has on disk beside, while it runs."""
        sizes = [self.machine.policy, self.machine.reward]
        known = [shape.parameters for shape in sizes if shape]
        trained = any(cost.work.kind == "train" and cost.work.full for cost in self.costs)
        return RESUME * max(known) if known and trained else 0.0


def amount(work: Work) -> float:
    """What a step's time is measured by: tokens, read or made; sequences where no model is asked."""
    if work.kind in ("pair", "figures"):
        return float(work.sequences)
    return work.tokens_in * work.passes + work.tokens_out


def estimate(
    works: Iterable[Work], machine: Machine, assumed: Assumed, rates: Mapping[Kind, Rate] | None = None
) -> Estimate:
    """Cost every step; with ``rates`` by what was measured, else by the arithmetic above."""
    given = list(works)
    costs = tuple(_cost(work, machine, assumed, rates or {}) for work in given)
    return Estimate(costs, machine, assumed, tuple(_remarks(given, machine)), rates or {})


def _cost(work: Work, machine: Machine, assumed: Assumed, rates: Mapping[Kind, Rate]) -> Cost:
    rate = rates.get(work.kind)
    shape = _shape(work.who, machine)
    seconds, bound = 0.0, "–"
    if rate is not None and work.kind != "judge":
        seconds, bound = rate.fixed + rate.each * amount(work), "measured"
    elif shape is not None:
        seconds, bound = gpu_seconds(work, shape, machine, assumed)
    cpu = work.sequences * ANSWER_SECONDS[work.kind] + work.identified / 1000 * assumed.identify_seconds
    cpu = cpu if rate is None else 0.0
    money = None if machine.price is None or not seconds else seconds / 3600 * machine.price
    if work.kind == "judge":
        paid = machine.paid or work.paid
        money = None if paid is None else (work.tokens_in * paid[0] + work.tokens_out * paid[1]) / 1e6
    return Cost(work, seconds, cpu, disk(work, shape, assumed), money, bound)


def _shape(who: Who, machine: Machine) -> Shape | None:
    return {"policy": machine.policy, "reward": machine.reward or machine.policy}.get(who)


def disk(work: Work, shape: Shape | None, assumed: Assumed) -> float:
    """Bytes that a step leaves: its texts and rows, the empty form of every file, a checkpoint in bf16."""
    checkpoint = work.checkpoint * shape.weights if shape else 0.0
    return work.text_bytes * assumed.text_ratio + work.row_bytes + work.shards * SHARD_BYTES + checkpoint


def gpu_seconds(work: Work, shape: Shape, machine: Machine, assumed: Assumed) -> tuple[float, str]:
    """Seconds of one GPU, and what they wait for: compute or memory bandwidth; of hf also the start of kernels."""
    gpu = machine.gpu
    if work.kind in ("generate", "translate"):
        reading = work.tokens_in * shape.forward(work.tokens_in / max(work.requests, 1) / 2, head=False)
        prefill = reading / (gpu.flops * assumed.prefill_share)
        each, bound = decode_seconds(work, shape, gpu, assumed)
        return prefill + work.tokens_out * each, bound if work.tokens_out * each >= prefill else "compute"
    share = assumed.train_share if work.kind == "train" else assumed.score_share
    flops = work.tokens_in * work.passes * shape.forward(work.context / 2, head=work.who != "reward")
    return flops / (gpu.flops * share), "compute"


def copies(shape: Shape, gpu: Hardware) -> int:
    """GPUs of one copy that answers: the fewest, a power of two, that leave a third of their memory for caches."""
    return 2 ** max(0, math.ceil(math.log2(shape.weights / (0.6 * gpu.memory))))


def batch(work: Work, shape: Shape, gpu: Hardware, assumed: Assumed) -> int:
    """Answers decoded at once by one copy: what its backend takes, and what the caches have room for."""
    length = max(work.context_of_answer, 1.0)
    room = int((FREE * gpu.memory * copies(shape, gpu) - shape.weights) / (shape.cache * length))
    if assumed.decode_batch:
        wanted = int(assumed.decode_batch)
    elif work.backend == "hf":
        wanted = int(HF_POSITIONS / (work.tokens_in / max(work.requests, 1) + work.max_tokens))
        samples = work.sequences // max(work.requests, 1)
        if wanted > samples > 1:  # a prompt's samples are never parted for the sake of another's
            wanted -= wanted % samples
    else:
        wanted = SERVED
    return max(1, min(wanted, room))


def decode_seconds(work: Work, shape: Shape, gpu: Hardware, assumed: Assumed) -> tuple[float, str]:
    """GPU seconds of one token of one answer, and what bounds them."""
    answers, spread = batch(work, shape, gpu, assumed), copies(shape, gpu)
    waits = work.backend == "hf"  # for the longest of a batch: nothing takes the place of an answer that ended
    seen = work.tokens_in / max(work.requests, 1) + work.tokens_out / max(work.sequences, 1) / 2
    bounds = {
        "compute": answers * shape.forward(seen, head=True) / (gpu.flops * assumed.decode_share),
        "bandwidth": (shape.weights + answers * shape.cache * seen) / (gpu.bandwidth * assumed.bandwidth_share),
        "kernels": shape.layers * assumed.layer_seconds * spread * assumed.longest_answer if waits else 0.0,
    }
    slowest = max(bounds, key=lambda name: bounds[name])
    return bounds[slowest] / answers, slowest


def _remarks(works: Iterable[Work], machine: Machine) -> Iterable[str]:
    """What does not fit into the GPUs' memory, and what would."""
    gpu, there = machine.gpu, machine.gpus * FREE * machine.gpu.memory
    wants: dict[str, tuple[float, str]] = {}
    for work in works:
        shape = _shape(work.who, machine)
        if shape is None:
            continue
        size = size_of(shape)
        if work.kind != "train":
            wants[f"a {size} model"] = (shape.weights / 0.85, "its weights and room for a pass")
        elif work.full:
            reference = 4 * shape.parameters if work.who == "policy" and work.passes >= 4 else 0.0
            need = FULL_TRAINING * shape.parameters + reference
            wants[f"training all weights of a {size} model"] = (need, "weights, gradients, AdamW's moments, reference")
        else:
            wants[f"training an adapter of a {size} model"] = (1.2 * shape.weights, "frozen weights and activations")
    for what, (need, parts) in wants.items():
        if need > there:
            least = math.ceil(need / (FREE * gpu.memory))
            yield (
                f"{what} does not fit on {machine.gpus} × {gpu.name}: {parts} are {need / 1e9:,.0f} GB of "
                f"{there / 1e9:,.0f}; {least} × {gpu.name} would do, sharded"
            )


def size_of(shape: Shape) -> str:
    """``8B``."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if shape.parameters >= size:
            return f"{shape.parameters / size:.3g}{unit}"
    return f"{shape.parameters:.0f}"


def fitted(points: Iterable[tuple[float, float]]) -> Rate:
    """Fixed seconds and seconds a unit of (amount, seconds): least squares with neither below 0; through 0 of one
    point, or of equal amounts."""
    known = [(x, y) for x, y in points if x > 0]
    n, sx, sy = len(known), sum(x for x, _ in known), sum(y for _, y in known)
    spread = n * sum(x * x for x, _ in known) - sx * sx
    if n > 1 and spread > 1e-9 * sx * sx:
        slope = (n * sum(x * y for x, y in known) - sx * sy) / spread
        fixed = (sy - slope * sx) / n
        if slope >= 0 and fixed >= 0:
            return Rate(fixed, slope, n)
    return Rate(0.0, sy / sx if sx else 0.0, n)


def bottleneck(found: Estimate) -> str:
    """The kind of work that takes the most GPU time, and what bounds it."""
    kinds: dict[tuple[str, str], float] = {}
    for cost in found.costs:
        key = (cost.work.kind, cost.bound)
        kinds[key] = kinds.get(key, 0.0) + cost.gpu_seconds
    total = sum(kinds.values())
    if not total:
        return "nothing asks a GPU"
    (kind, bound), seconds = max(kinds.items(), key=lambda item: item[1])
    named: dict[str, Any] = {"generate": "decoding answers", "translate": "decoding translations"}
    told = named.get(kind, {"score": "scoring", "train": "training"}.get(kind, kind))
    words = {"kernels": "the start of kernels", "bandwidth": "the memory's bandwidth", "compute": "arithmetic"}
    return f"{told}, {100 * seconds / total:.0f}% of the GPU time, bound by {words.get(bound, 'what was measured')}"
