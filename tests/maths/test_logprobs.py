"""Positions of answer tokens, and log-probabilities from hidden states in chunks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polypref.maths.logprobs import answer_positions, chunked_logprobs, tiled_logprobs, token_logprobs

lengths = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=6)


def test_the_first_answer_token_is_scored_and_padding_is_not() -> None:
    """Prompt a b, answer c d: the states of b and c predict c and d, positions 1 and 2. Prompt a, answer b, padded to
    four: the state of a predicts b, position 0, and the states of b and of the padding predict nothing."""
    rows, positions = answer_positions([2, 1], [2, 1])
    assert rows.tolist() == [0, 0, 1]
    assert positions.tolist() == [1, 2, 0]


@given(lengths)
def test_the_tokens_after_the_positions_are_the_answers(lengths: list[tuple[int, int]]) -> None:
    longest = max(p + a for p, a in lengths)
    padding, batch, answers = -1, [], []
    for i, (p, a) in enumerate(lengths):
        answer = [1000 * i + 500 + k for k in range(a)]
        batch.append([1000 * i + k for k in range(p)] + answer + [padding] * (longest - p - a))
        answers += answer
    rows, positions = answer_positions([p for p, _ in lengths], [a for _, a in lengths])
    assert torch.tensor(batch)[rows, positions + 1].tolist() == answers if answers else not len(rows)


def test_an_answer_without_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        answer_positions([0], [1])


def test_token_logprobs_by_hand() -> None:
    """Logits 0, ln 2, ln 5: probabilities 1/8, 2/8, 5/8."""
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]]).repeat(3, 1)
    got = token_logprobs(logits, torch.tensor([0, 1, 2]))
    assert got.tolist() == pytest.approx([math.log(1 / 8), math.log(2 / 8), math.log(5 / 8)], abs=1e-6)


def test_the_softmax_of_half_precision_is_float32() -> None:
    """65 536 equal bfloat16 logits: −ln 65 536 = −11.0904, which bfloat16 would round to −11.0625 or −11.125."""
    got = token_logprobs(torch.zeros(1, 65536, dtype=torch.bfloat16), torch.tensor([7]))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(-16 * math.log(2), abs=1e-5)


def test_large_logits_do_not_overflow() -> None:
    got = token_logprobs(torch.tensor([[1e4, 0.0]]), torch.tensor([1]))
    assert got.item() == -1e4


@given(n=st.integers(0, 9), elements=st.integers(1, 200), seed=st.integers(0, 99))
def test_chunks_give_what_the_whole_gives_and_hold_no_more(n: int, elements: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(n, 4, generator=generator), torch.randn(11, 4, generator=generator)
    targets = torch.randint(11, (n,), generator=generator)
    seen: list[int] = []

    def head(chunk: torch.Tensor) -> torch.Tensor:
        seen.append(chunk.shape[0])
        return chunk @ weight.T

    got = chunked_logprobs(hidden, targets, head, 11, elements)
    assert got.shape == (n,)
    assert all(rows == 1 or rows * 11 <= elements for rows in seen)
    assert sum(seen) == n
    want = torch.log_softmax(hidden.double() @ weight.T.double(), -1).gather(1, targets[:, None])[:, 0]
    assert torch.allclose(got.double(), want, atol=1e-5)


# --- tiles of the vocabulary -----------------------------------------------------------------------------------------


def test_a_tile_that_holds_the_target_and_others_that_do_not() -> None:
    """W h = (0, log 2, log 3, log 4) in tiles of one: log 3/10 for token 2, log 1/10 for token 0."""
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0]).log().unsqueeze(1)
    for elements in (1, 2, 4, 8, 100):
        found = tiled_logprobs(torch.ones(2, 1), torch.tensor([2, 0]), weight, elements=elements)
        assert found.tolist() == pytest.approx([math.log(0.3), math.log(0.1)], abs=1e-6)


@given(
    st.integers(1, 9), st.integers(1, 7), st.integers(1, 30), st.integers(1, 200), st.booleans(), st.integers(0, 2**16)
)
def test_tiles_of_any_size_give_the_whole_softmax(
    n: int, d: int, v: int, elements: int, biased: bool, seed: int
) -> None:
    noise = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(n, d, generator=noise), 10 * torch.randn(v, d, generator=noise)
    bias = torch.randn(v, generator=noise) if biased else None
    targets = torch.randint(v, (n,), generator=noise)
    want = torch.nn.functional.linear(hidden, weight, bias).div(3).tanh().log_softmax(-1)[torch.arange(n), targets]
    found = tiled_logprobs(hidden, targets, weight, bias, lambda logits: torch.tanh(logits / 3), elements)
    assert torch.allclose(found, want, atol=1e-4)


def test_tokens_without_any_probability_leave_the_sum_as_it_is() -> None:
    """A tile of −∞ alone, as a padded vocabulary may have: log 1/2 for either of the two that are left."""
    bias = torch.tensor([0.0, 0.0, -torch.inf, -torch.inf])
    found = tiled_logprobs(torch.ones(2, 1), torch.tensor([0, 2]), torch.zeros(4, 1), bias, elements=2)
    assert found.tolist() == [pytest.approx(-math.log(2)), -math.inf]


def test_no_rows_are_no_values() -> None:
    assert tiled_logprobs(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), torch.ones(4, 3)).tolist() == []


def test_float32_sums_are_exact_to_a_hundred_thousandth() -> None:
    """Against float64, at a vocabulary of 20,000 and logits of ± 20."""
    noise = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(40, 64, generator=noise), torch.randn(20_000, 64, generator=noise) * 0.6
    targets = torch.randint(20_000, (40,), generator=noise)
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[torch.arange(40), targets]
    assert (tiled_logprobs(hidden, targets, weight, elements=2**16) - exact).abs().max() < 1e-4


def test_bfloat16_loses_what_rounding_the_logits_loses() -> None:
    """A logit z is off by at most |z| / 256, and their sum is made in float32: at |z| < 4 no value by more than 1/32
    (the target's own error and the sum's, each at most 1/64)."""
    noise = torch.Generator().manual_seed(2)
    hidden = torch.randn(40, 64, generator=noise).bfloat16()
    weight = (torch.randn(5000, 64, generator=noise) / 12).bfloat16()
    targets = torch.randint(5000, (40,), generator=noise)
    logits = hidden.float() @ weight.float().T
    assert logits.abs().max() < 4
    want = logits.log_softmax(-1)[torch.arange(40), targets]
    found = tiled_logprobs(hidden, targets, weight, elements=2**14)
    assert found.dtype == torch.float32
    assert (found - want).abs().max() < 1 / 32


def test_the_matrix_is_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oneDNN is not there the product is torch's own; both see slices of the one matrix, and agree."""
    hidden, weight, targets = torch.randn(5, 8), torch.randn(50, 8), torch.tensor([0, 9, 10, 49, 30])
    seen: list[int] = []
    whole = torch.mm

    def counted(one: torch.Tensor, two: torch.Tensor, **out: torch.Tensor) -> torch.Tensor:
        seen.append(two.untyped_storage().data_ptr())
        return whole(one, two, **out)

    first = tiled_logprobs(hidden, targets, weight, elements=50)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    monkeypatch.setattr(torch, "mm", counted)
    second = tiled_logprobs(hidden, targets, weight, elements=50)
    assert set(seen) == {weight.untyped_storage().data_ptr()}
    assert torch.allclose(first, second, atol=1e-5)
