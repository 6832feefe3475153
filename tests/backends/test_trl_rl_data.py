"""The order of a training's prompts, and which prompts can be trained on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from polypref.backends.rl_training import RLOptions
from polypref.backends.templates import PromptTemplate
from polypref.backends.trl_rl_data import order_of, steps_of, tokenise, tokenise_all
from polypref.errors import InputError
from tiny_rl import PROMPTS
from tiny_training import save_tiny_model


@given(
    prompts=st.integers(1, 20),
    batch=st.integers(1, 12),
    updates=st.integers(1, 9),
    iterations=st.integers(1, 3),
    seed=st.integers(0, 3),
)
def test_every_pass_answers_every_prompt_once_and_updates_run_on(
    prompts: int, batch: int, updates: int, iterations: int, seed: int
) -> None:
    options = RLOptions(batch_size=batch, max_steps=updates * iterations, iterations=iterations, seed=seed)
    order = order_of(prompts, options)
    assert len(order) == updates * batch
    for first in range(0, len(order), prompts):
        some = order[first : first + prompts]
        assert len(set(some)) == len(some)
    # A longer training begins in the same way.
    longer = options.model_copy(update={"max_steps": (updates + 2) * iterations})
    assert order_of(prompts, longer)[: len(order)] == order


def test_passes_differ_and_so_do_seeds() -> None:
    options = RLOptions(batch_size=20, max_steps=2)
    order = order_of(20, options)
    assert order[:20] != order[20:]
    assert order != order_of(20, options.model_copy(update={"seed": 1}))


def test_epochs_are_passes_over_the_prompts_in_whole_updates() -> None:
    """Two passes over 10 prompts in updates of 8: 2.5, so 3 updates, of 2 steps each."""
    assert steps_of(RLOptions(epochs=2, batch_size=8, iterations=2), 10) == 6
    assert steps_of(RLOptions(epochs=2, batch_size=8, max_steps=4), 10) == 4


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> PromptTemplate:
    folder = save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return PromptTemplate(AutoTokenizer.from_pretrained(folder))


def test_a_prompt_is_never_cut(template: PromptTemplate) -> None:
    """A prompt is <s> <|user|> say WORD <|assistant|>: five tokens. A window of 48 leaves room for 43."""
    assert [len(row.ids) for row in tokenise(PROMPTS, template, RLOptions(max_prompt_length=5), None).rows] == [5] * 12
    for options, window in ((RLOptions(max_prompt_length=4), None), (RLOptions(max_tokens=44), 48)):
        found = tokenise(PROMPTS, template, options, window)
        assert (found.rows, dict(found.dropped)) == ([], {"prompt_too_long": 12})
    assert dict(tokenise(PROMPTS, template, RLOptions(max_tokens=43), 48).languages) == {"en": 6, "es": 6}


def test_without_a_prompt_that_fits_the_fix_is_said(template: PromptTemplate) -> None:
    with pytest.raises(InputError, match=r"12 prompt_too_long; raise train.max_prompt_length \(4\)"):
        tokenise_all(PROMPTS, [], template, RLOptions(max_prompt_length=4), 48)
    with pytest.raises(InputError, match="none was given"):
        tokenise_all([], [], template, RLOptions(), 48)
