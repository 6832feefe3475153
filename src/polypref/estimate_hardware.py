"""Accelerators and shapes of models: what the arithmetic of an estimate needs of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from polypref.errors import RecipeError, did_you_mean


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator: dense bf16 FLOP a second, bytes a second from its memory, bytes of memory."""

    name: str
    flops: float
    bandwidth: float
    memory: float
    source: str


HARDWARE: Final = {
    found.name: found
    for found in (
        Hardware("h200", 989e12, 4.8e12, 141e9, "NVIDIA H200 Tensor Core GPU datasheet, SXM"),
        Hardware("h100", 989e12, 3.35e12, 80e9, "NVIDIA H100 Tensor Core GPU datasheet, SXM"),
        Hardware("h100-pcie", 756e12, 2.0e12, 80e9, "NVIDIA H100 Tensor Core GPU datasheet, PCIe"),
        Hardware("a100", 312e12, 2.039e12, 80e9, "NVIDIA A100 Tensor Core GPU datasheet, 80 GB SXM"),
        Hardware("a100-40gb", 312e12, 1.555e12, 40e9, "NVIDIA A100 Tensor Core GPU datasheet, 40 GB SXM"),
        Hardware("l40s", 362e12, 864e9, 48e9, "NVIDIA L40S GPU datasheet"),
        Hardware("l4", 121e12, 300e9, 24e9, "NVIDIA L4 Tensor Core GPU datasheet"),
        Hardware("a10", 125e12, 600e9, 24e9, "NVIDIA A10 Tensor Core GPU datasheet"),
        Hardware("mi300x", 1307e12, 5.3e12, 192e9, "AMD Instinct MI300X accelerator data sheet"),
        Hardware("cpu", 2e12, 100e9, 64e9, "a guess for a server of 32 cores; measure yours by --calibrate"),
    )
}
"""Peaks without sparsity. The vendors print them with sparsity as well, twice as much and of no use here."""


def hardware(name: str) -> Hardware:
    """The accelerator of a name.

    Raises:
        RecipeError: there is none.
    """
    found = HARDWARE.get(name.lower())
    if found is None:
        raise RecipeError(f"--gpu {name!r} is not known; {did_you_mean(name.lower(), HARDWARE)}")
    return found


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's sizes. ``kv_width``: key and value heads times their width. ``like``: the model it is taken from."""

    parameters: float
    layers: int
    width: int
    kv_width: int
    vocabulary: int
    tied: bool
    like: str

    @property
    def head(self) -> float:
        """Parameters of the product with the vocabulary."""
        return float(self.vocabulary * self.width)

    @property
    def body(self) -> float:
        """Parameters that every token is multiplied by, the product with the vocabulary left out. The input embedding
        is looked up."""
        return self.parameters - self.head * (1 if self.tied else 2)

    @property
    def weights(self) -> float:
        """Bytes in bf16."""
        return 2 * self.parameters

    @property
    def cache(self) -> float:
        """Bytes of keys and values of one token, bf16."""
        return 2.0 * 2 * self.layers * self.kv_width

    def forward(self, context: float, *, head: bool) -> float:
        """FLOPs of one token that sees ``context`` tokens before it: 2 a parameter, and 4·width a token and layer of
        attention (scores and their sum)."""
        return 2 * (self.body + (self.head if head else 0)) + 4 * self.layers * self.width * context


_SHAPES: Final = (
    Shape(0.494e9, 24, 896, 128, 151936, True, "Qwen2.5-0.5B"),
    Shape(1.236e9, 16, 2048, 512, 128256, True, "Llama-3.2-1B"),
    Shape(3.213e9, 28, 3072, 1024, 128256, True, "Llama-3.2-3B"),
    Shape(8.03e9, 32, 4096, 1024, 128256, False, "Llama-3.1-8B"),
    Shape(14.77e9, 48, 5120, 1024, 152064, False, "Qwen2.5-14B"),
    Shape(32.76e9, 64, 5120, 1024, 152064, False, "Qwen2.5-32B"),
    Shape(70.55e9, 80, 8192, 1024, 128256, False, "Llama-3.1-70B"),
    Shape(405.9e9, 126, 16384, 1024, 128256, False, "Llama-3.1-405B"),
)
"""From the config.json that each was published with."""

_UNITS: Final = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def parse_parameters(text: str) -> float:
    """``8B`` is 8e9.

    Raises:
        RecipeError: it is no such number.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", text.strip().lower())
    if found is None or not (number := float(found[1]) * _UNITS[found[2]]):
        raise RecipeError(f"{text!r} is no number of parameters; write 8B, 0.5B or 270M")
    return number


def shape(parameters: float) -> Shape:
    """A model of so many parameters, in the shape of the known one that is nearest in size.

    Its embeddings are never more than half of it, as those of a small model with a large vocabulary might be.
    """
    near = min(_SHAPES, key=lambda one: max(one.parameters / parameters, parameters / one.parameters))
    most = int(parameters / 2 / near.width / (1 if near.tied else 2))
    return Shape(parameters, near.layers, near.width, near.kv_width, min(near.vocabulary, most), near.tied, near.like)
