"""An estimate in print: a table of steps, the sums, what is assumed; and the same for a machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from polypref.estimate import FREE, Cost, Estimate, batch, bottleneck, copies, size_of
from polypref.estimate_work import TOLD

HEADINGS = ("step", "requests", "sequences", "tokens in", "tokens out", "GPU h", "CPU h", "disk", "cost", "bound by")


def lines(found: Estimate, name: str, counted: str) -> Iterator[str]:
    """For a person."""
    machine = found.machine
    sizes = [size_of(shape) for shape in (machine.policy, machine.reward) if shape]
    models = f"models of {' and '.join(sizes)}, " if sizes else ""
    yield f"{name}: {models}{machine.gpus} × {machine.gpu.name}. {counted[:1].upper()}{counted[1:]}."
    yield ""
    shown = [cost for cost in found.costs if cost.work.kind != "figures" or cost.gpu_seconds]
    rows = [_row(cost) for cost in shown]
    if others := [cost for cost in found.costs if cost not in shown]:
        rows.append(_sum(others, "prompts and figures"))
    rows.append(_sum(found.costs, "all"))
    widths = [max(len(row[k]) for row in (HEADINGS, *rows)) for k in range(len(HEADINGS))]
    told = [k for k in range(len(HEADINGS)) if any(row[k] not in ("", "–") for row in rows)]
    for row in (HEADINGS, *rows):
        yield "  ".join(
            f"{row[k]:<{widths[k]}}" if k in (0, len(HEADINGS) - 1) else f"{row[k]:>{widths[k]}}" for k in told
        ).rstrip()
    yield ""
    yield f"Bottleneck: {bottleneck(found)}."
    if found.seconds():
        spread = found.seconds() / machine.gpus
        yield f"On {machine.gpus} × {machine.gpu.name}: {time(spread)}, if they are all busy all the time."
    if found.resume:
        yield f"While a training runs, its resume point takes {size(found.resume)} of disk beside."
    for remark in found.remarks:
        yield f"Too small: {remark}."
    yield ""
    yield "Counts are upper bounds: no answer fails, and every prompt and language gives its pairs."
    yield from _assumptions(found)


def _row(cost: Cost) -> tuple[str, ...]:
    work = cost.work
    return (
        work.stage,
        number(work.requests),
        number(work.sequences),
        number(work.tokens_in),
        number(work.tokens_out),
        hours(cost.gpu_seconds),
        hours(cost.cpu_seconds),
        size(cost.disk),
        "–" if cost.money is None else f"{cost.money:,.2f}",
        cost.bound,
    )


def _sum(costs: Sequence[Cost], name: str) -> tuple[str, ...]:
    works, money = [cost.work for cost in costs], [cost.money for cost in costs if cost.money is not None]
    return (
        name,
        number(sum(work.requests for work in works)),
        number(sum(work.sequences for work in works)),
        number(sum(work.tokens_in for work in works)),
        number(sum(work.tokens_out for work in works)),
        hours(sum(cost.gpu_seconds for cost in costs)),
        hours(sum(cost.cpu_seconds for cost in costs)),
        size(sum(cost.disk for cost in costs)),
        f"{sum(money):,.2f}" if money else "–",
        "",
    )


def _assumptions(found: Estimate) -> Iterator[str]:
    gpu = found.machine.gpu
    yield "Assumed; each can be set by --assume NAME=NUMBER:"
    width = max(map(len, TOLD))
    for name, meaning in TOLD.items():
        yield f"  {name:<{width}}  {getattr(found.assumed, name):<7.4g} {meaning}"
    yield f"  {gpu.name}: {gpu.flops / 1e12:.0f} TFLOP/s bf16, {gpu.bandwidth / 1e9:,.0f} GB/s, " + (
        f"{gpu.memory / 1e9:.0f} GB ({gpu.source})"
    )
    for who, shape in (("policy", found.machine.policy), ("reward", found.machine.reward)):
        if shape is not None:
            yield (
                f"  {who}: {size_of(shape)} in the shape of {shape.like}: {shape.layers} layers of {shape.width}, "
                f"{shape.vocabulary:,} tokens, {shape.cache / 1e3:.0f} kB of cache a token, {copies(shape, gpu)} × "
                f"{gpu.name} a copy"
            )
    for kind, rate in found.rates.items():
        what = "sequence" if kind in ("pair", "figures") else "token"
        yield f"  {kind}: {rate.fixed:.2f} s a step and {1e6 * rate.each:.3g} µs a {what}, of {rate.steps} steps"


def answer(found: Estimate, counted: str) -> dict[str, Any]:
    """For a machine: the steps, the sums, the bottleneck, what does not fit and what was assumed."""
    steps = []
    for cost in found.costs:
        work = cost.work
        row: dict[str, Any] = {name: getattr(work, name) for name in ("stage", "kind", "requests", "sequences")}
        row |= {"tokens_in": round(work.tokens_in), "tokens_out": round(work.tokens_out), "passes": work.passes}
        row |= {"gpu_hours": cost.gpu_seconds / 3600, "cpu_hours": cost.cpu_seconds / 3600}
        row |= {"disk_bytes": round(cost.disk), "cost": cost.money, "bound": cost.bound}
        if work.kind in ("generate", "translate") and found.machine.policy:
            row["batch"] = batch(work, found.machine.policy, found.machine.gpu, found.assumed)
        steps.append(row)
    sums = {name: sum(row[name] for row in steps) for name in ("requests", "sequences", "tokens_in", "tokens_out")}
    sums |= {name: sum(row[name] for row in steps) for name in ("gpu_hours", "cpu_hours", "disk_bytes")}
    shapes = {"policy": found.machine.policy, "reward": found.machine.reward}
    return {
        "steps": steps,
        "total": {**sums, "cost": found.money, "resume_bytes": round(found.resume)},
        "bottleneck": bottleneck(found),
        "too_small": list(found.remarks),
        "counted": counted,
        "assumed": found.assumed.model_dump(),
        "gpu": dataclasses.asdict(found.machine.gpu) | {"count": found.machine.gpus, "share_of_memory": FREE},
        "models": {who: dataclasses.asdict(shape) for who, shape in shapes.items() if shape},
        "rates": {kind: dataclasses.asdict(rate) for kind, rate in found.rates.items()},
    }


def number(value: float) -> str:
    """Three digits: 1.5 M."""
    if value < 1000:
        return f"{value:,.0f}" if value else "–"
    step = min(int(math.log10(value) / 3 + 1e-9), 4)
    return f"{value / 1000**step:.3g} {' kMGT'[step]}".replace("G", "B")


def hours(seconds: float) -> str:
    """Hours."""
    told = seconds / 3600
    return "–" if told <= 0 else "<0.01" if told < 0.01 else f"{told:,.2f}" if told < 100 else f"{told:,.0f}"


def size(value: float) -> str:
    """Bytes, by thousands."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= one:
            return f"{value / one:.3g} {unit}"
    return "–"


def time(seconds: float) -> str:
    """Hours, or days."""
    told = seconds / 3600
    return f"{told / 24:,.1f} days" if told > 48 else f"{told:,.1f} hours" if told >= 1 else f"{told * 60:,.1f} minutes"
