"""One engine behind three readers: compiled or not, shared or whole, the same numbers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from polypref.backends.base import Answer, ModelSpec, Text
from polypref.backends.hf_hidden import HFHiddenStates
from polypref.backends.hf_logprobs import HFLogprobs

Tiny = Callable[[str], Path]

pytestmark = pytest.mark.usefixtures("_closed")


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def answers() -> list[Answer]:
    """Some that share a long prompt, some alone."""
    long = " ".join(tiny.TEXTS)
    shared = [Answer(f"s{k}", asked(long), tiny.TEXTS[k % 3][: 5 + 4 * k]) for k in range(4)]
    return [*shared, *(Answer(f"a{k}", asked("x" * (k + 1)), tiny.TEXTS[k % 3][: 9 * k]) for k in range(4))]


def spec(folder: Path, **fields: Any) -> ModelSpec:
    return ModelSpec(path=str(folder), device="cpu", dtype="float32", **fields)


def sums(folder: Path, **fields: Any) -> list[float]:
    return [found.sum for found in HFLogprobs(spec(folder, **fields)).logprobs(answers())]


def test_compiled_layers_score_the_same(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and guarded as ever, but run by torch's own kernels, so that no C++ compiler is needed here."""
    compiled: list[Any] = []

    def traced(run: Any, **options: Any) -> Any:
        compiled.append(functools.partial(torch._dynamo.optimize("eager", **options))(run))
        return compiled[-1]

    want = sums(tiny_model("Qwen3"))
    monkeypatch.setattr(torch, "compile", traced)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert sums(tiny_model("Qwen3"), compile=True) == pytest.approx(want, abs=1e-4)
    assert len(compiled) == 1


def test_without_a_compiler_it_is_said_once_and_scored_all_the_same(
    tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(run: Any, **options: Any) -> Any:
        def fails(**inputs: Any) -> Any:
            raise RuntimeError("No working C++ compiler found")

        return fails

    want = sums(tiny_model("Qwen3"))
    monkeypatch.setattr(torch, "compile", missing)
    with pytest.warns(UserWarning, match="torch.compile") as said:
        assert sums(tiny_model("Qwen3"), compile=True) == want
    told = [str(one.message) for one in said if "torch.compile" in str(one.message)]
    assert len(told) == 1
    assert told[0].endswith("torch.compile cannot be used here (No working C++ compiler found); it is run uncompiled")


def test_a_compiler_that_makes_other_numbers_is_not_used(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    want = sums(tiny_model("Qwen3"))
    monkeypatch.setattr(torch, "compile", lambda run, **options: lambda **inputs: (run(**inputs)[0] + 1,))
    with pytest.warns(UserWarning, match="what it makes gives other numbers"):
        assert sums(tiny_model("Qwen3"), compile=True) == want


def test_compiling_is_no_part_of_what_a_shard_depends_on(tiny_model: Tiny) -> None:
    one, two = (spec(tiny_model("Qwen3"), compile=on) for on in (False, True))
    assert one.identity(lambda _: "model") == two.identity(lambda _: "model")


def test_hidden_states_behind_a_shared_prompt_are_those_of_whole_texts(
    tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [Text(row.id, row.messages, row.text) for row in answers()]
    model = HFHiddenStates(spec(tiny_model("Qwen3")))
    tokens: list[int] = []
    model.loaded.model.model.register_forward_pre_hook(
        lambda _, args, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    (shared,) = model.hidden(texts, [-1], "last")
    together, alone = sum(tokens), []
    tokens.clear()
    for text in texts:
        alone.append(model.hidden([text], [-1], "last")[0][0])
    assert together < sum(tokens)
    for one, two in zip(shared, alone, strict=True):
        assert one == pytest.approx(two, abs=1e-4)
