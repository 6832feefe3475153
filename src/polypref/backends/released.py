"""Checkpoints that others have released, by short names: LIDR's and ICR's. None of them was run here.

LIDR's ids stand in its authors' repository, ZNLP/Language-Imbalance-Driven-Rewarding. Their M0 and M1 name the model
whose answers were trained on, as we read it: their evaluation sets the base, M0 and M1 side by side. So their M0 is
the paper's M1, the first round's model, and their M1 the paper's M2.
"""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LIDR: Final = "LIDR, arXiv 2410.08964"
ICR: Final = "ICR, arXiv 2503.04647"
LLAMA_3: Final = "meta-llama/Meta-Llama-3-8B-Instruct"
LLAMA_2: Final = "meta-llama/Llama-2-7b-chat-hf"
QWEN_2: Final = "Qwen/Qwen2-7B-Instruct"
FIRST, SECOND = "round 1 (M0)", "round 2 (M1)"
FAMILIES: Final = ("lidr", "icr")
"""How the names begin; a name that begins so and is none of them is a mistake."""


@dataclass(frozen=True, slots=True)
class Released:
    """A checkpoint: its hub id, what it is, the model it was made from (None for a start), languages, paper."""

    hub: str
    what: str
    base: str | None
    languages: tuple[str, ...]
    paper: str

    @property
    def repository(self) -> str:
        """The hub id without its owner."""
        return self.hub.partition("/")[2]

    def __str__(self) -> str:
        made = f" from {self.base}" if self.base else ""
        return (
            f"{self.paper.partition(',')[0]} {self.what}{made}; {' '.join(self.languages)}; {self.hub} (not run here)"
        )


def _lidr(repository: str, what: str, base: str, languages: str) -> Released:
    return Released(f"James-WYang/{repository}", what, base, tuple(languages.split()), LIDR)


def _icr(number: str, what: str) -> Released:
    """The name stands in the authors' evaluation script, its owner is LIDR's; no page of it was found."""
    return Released(
        f"James-WYang/ICR_{number}_Llama-3-Base-8B-SFT-DPO_en_es_ru_de_fr",
        f"{what}, id not confirmed,",
        "princeton-nlp/Llama-3-Base-8B-SFT-DPO",
        ("en", "es", "ru", "de", "fr"),
        ICR,
    )


RELEASED: Final[dict[str, Released]] = {
    "icr-llama-3-8b-sft": Released("princeton-nlp/Llama-3-Base-8B-SFT", "reference", None, ("en",), ICR),
    "icr-llama-3-8b-sft-dpo": Released("princeton-nlp/Llama-3-Base-8B-SFT-DPO", "policy", None, ("en",), ICR),
    "icr-llama-3-8b-sft-kto": Released("princeton-nlp/Llama-3-Base-8B-SFT-KTO", "policy", None, ("en",), ICR),
    "icr-llama-3-8b-m0": _icr("M0", FIRST),
    "icr-llama-3-8b-m1": _icr("M1", SECOND),
    "lidr-llama-3-8b-m0": _lidr("LIDR_M0_Meta-Llama-3-8B-Instruct_en_es_ru_de_fr", FIRST, LLAMA_3, "en es ru de fr"),
    "lidr-llama-3-8b-m1": _lidr("LIDR_M1_Meta-Llama-3-8B-Instruct_en_es_ru_de_fr", SECOND, LLAMA_3, "en es ru de fr"),
    "lidr-llama-3-8b-th-bn-sw-m0": _lidr("LIDR_M0_Meta-Llama-3-8B-Instruct_en_th_bn_sw", FIRST, LLAMA_3, "en th bn sw"),
    "lidr-llama-3-8b-th-bn-sw-m1": _lidr(
        "LIDR_M1_Meta-Llama-3-8B-Instruct_en_th_bn_sw", SECOND, LLAMA_3, "en th bn sw"
    ),
    "lidr-llama-3-8b-th-bn-sw-system-m0": _lidr(
        "LIDR_M0_Meta-Llama-3-8B-Instruct_translate_by_system_en_th_bn_sw",
        f"{FIRST}, translated by a system,",
        LLAMA_3,
        "en th bn sw",
    ),
    "lidr-llama-3-8b-th-bn-sw-system-m1": _lidr(
        "LIDR_M1_Meta-Llama-3-8B-Instruct_translate_by_system_en_th_bn_sw",
        f"{SECOND}, translated by a system,",
        LLAMA_3,
        "en th bn sw",
    ),
    "lidr-qwen2-7b-m0": _lidr("LIDR_M0_Qwen2-7B-Instruct_en_es_ru_de_fr", FIRST, QWEN_2, "en es ru de fr"),
    "lidr-qwen2-7b-m1": _lidr("LIDR_M1_Qwen2-7B-Instruct_en_es_ru_de_fr", SECOND, QWEN_2, "en es ru de fr"),
    "lidr-llama-2-7b-m0": _lidr("LIDR_M0_Llama-2-7b-chat-hf_en_es_ru_de_fr", FIRST, LLAMA_2, "en es ru de fr"),
    "lidr-llama-2-7b-m1": _lidr("LIDR_M1_Llama-2-7b-chat-hf_en_es_ru_de_fr", SECOND, LLAMA_2, "en es ru de fr"),
    "lidr-llama-2-7b-ja-ko-it-th-m0": _lidr(
        "LIDR_M0_Llama-2-7b-chat-hf_en_ja_ko_it_th", FIRST, LLAMA_2, "en ja ko it th"
    ),
    "lidr-llama-2-7b-ja-ko-it-th-m1": _lidr(
        "LIDR_M1_Llama-2-7b-chat-hf_en_ja_ko_it_th", SECOND, LLAMA_2, "en ja ko it th"
    ),
    "lidr-reasoning-llama-3-8b-m0": _lidr(
        "LIDR_Multilingual_Reasoning_M0_Meta-Llama-3-8B-Instruct_en_es_ru_de_fr",
        f"{FIRST} in arithmetic",
        LLAMA_3,
        "en es ru de fr",
    ),
    "lidr-reasoning-llama-3-8b-m1": _lidr(
        "LIDR_Multilingual_Reasoning_M1_Meta-Llama-3-8B-Instruct_en_es_ru_de_fr",
        f"{SECOND} in arithmetic",
        LLAMA_3,
        "en es ru de fr",
    ),
}

_BY_NAME: Final = {**RELEASED, **{found.repository: found for found in RELEASED.values()}}


def hub_id(path: str) -> str:
    """The hub id of a released checkpoint's name, with or without its owner; any other path as it is.

    A folder of that name comes first, which is warned of.

    Raises:
        ValueError: the path is nearly such a name and nothing else.
    """
    found = _BY_NAME.get(path)
    if Path(path).expanduser().is_dir():
        if found:
            warnings.warn(
                f"{path} is a folder here; it is opened, not {found.hub}: write that id to have it", stacklevel=2
            )
        return path
    if found:
        return found.hub
    family = path.casefold().startswith(FAMILIES)
    near = difflib.get_close_matches(path, _BY_NAME, n=1, cutoff=0.6 if family else 0.9)
    if "/" not in path and (near or family):
        hint = f"did you mean {near[0]}?" if near else "see polypref ls models"
        raise ValueError(f"{path!r} is neither a folder nor a released checkpoint; {hint}")
    return path


def catalogue() -> dict[str, str]:
    """Name → what it is, in a line."""
    return {name: str(found) for name, found in RELEASED.items()}
