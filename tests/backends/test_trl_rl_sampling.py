"""Answers of a policy in training: the generator's own, with the token that ended each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polypref.backends.base import ModelSpec, Request, Sampling
from polypref.backends.hf_batches import Batches
from polypref.backends.hf_generate import HFGenerator
from polypref.backends.trl_rl_sampling import Question, answers
from polypref.errors import ModelError
from tiny_rl import PROMPTS, opened
from tiny_training import save_tiny_model

END, BEGIN, PAD = 1, 0, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def drawn(folder: Path, sampling: Sampling, tokens: int = 4096, ends: tuple[int, ...] = (END,)) -> list[list[int]]:
    model, template = opened(folder)
    asked = [(row.id, template.prompt_ids(row.messages)) for row in PROMPTS]
    questions = [Question(name, ids, sampling.n, sampling.max_tokens) for name, ids in asked]
    return answers(model, questions, sampling, ends, PAD, Batches(tokens))


def test_they_are_what_the_generator_draws_for_the_same_seed(folder: Path) -> None:
    sampling = Sampling(n=3, max_tokens=8, seed=7, temperature=0.8, top_p=0.95)
    requests = [Request(row.id, row.messages) for row in PROMPTS]
    expected = [
        list(found.token_ids or ()) + ([END] if found.finish_reason == "stop" else [])
        for completions in HFGenerator(ModelSpec(path=str(folder), device="cpu")).generate(requests, sampling)
        for found in completions
    ]
    assert drawn(folder, sampling) == expected
    assert {len(ids) for ids in expected} > {8}  # some were cut, some ended


def test_their_batch_does_not_matter(folder: Path) -> None:
    sampling = Sampling(n=3, max_tokens=8, seed=7)
    assert drawn(folder, sampling, tokens=40) == drawn(folder, sampling)


def test_the_token_that_ended_an_answer_is_the_one_that_was_drawn(folder: Path) -> None:
    """Two tokens may end an answer; every answer ends with one of them, or at its limit, and holds no other."""
    found = drawn(folder, Sampling(n=8, max_tokens=6), ends=(END, BEGIN))
    assert {ids[-1] for ids in found if len(ids) < 6} == {END, BEGIN}
    assert not any({END, BEGIN} & set(ids[:-1]) for ids in found)


def test_a_model_without_finite_logits_is_told(folder: Path) -> None:
    model, template = opened(folder)
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    questions = [Question("p", template.prompt_ids(PROMPTS[0].messages), 2, 4)]
    with pytest.raises(ModelError, match="logits are NaN or infinite; lower"):
        answers(model, questions, Sampling(max_tokens=4), [END], PAD, Batches(4096))
