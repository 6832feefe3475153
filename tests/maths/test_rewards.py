"""Losses of reward models and their gradients, against derivations by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from polypref.maths.rewards import agreed, bradley_terry, pointwise, preferred

rewards = st.floats(-20, 20)
shares = st.floats(0, 1)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def scalar(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64, requires_grad=True)


def test_the_bradley_terry_loss_by_hand() -> None:
    """−log σ(d) = log(1 + e^−d): d = 1 − (−1) = 2 gives log(1 + e^−2) = 0.126928; two equal rewards give log 2; with
    the margin ½, d = 1.5 gives log(1 + e^−1.5) = 0.201413."""
    chosen, rejected = torch.tensor([1.0, 0.3, 1.0]), torch.tensor([-1.0, 0.3, -1.0])
    found = bradley_terry(chosen, rejected, torch.tensor([0.0, 0.0, 0.5]))
    assert found.tolist() == pytest.approx([0.126928, math.log(2), 0.201413], abs=1e-6)
    assert torch.equal(bradley_terry(chosen, rejected), bradley_terry(chosen, rejected, torch.zeros(3)))


def test_centring_adds_the_squared_sum() -> None:
    """r_w = 2, r_l = 1: log(1 + e^−1) = 0.313262, and 0.01 · (2 + 1)² = 0.09."""
    found = bradley_terry(torch.tensor([2.0]), torch.tensor([1.0]), centre=0.01)
    assert found.item() == pytest.approx(0.313262 + 0.09, abs=1e-6)


@given(rewards, rewards, st.floats(-3, 3), st.floats(0, 0.5))
def test_the_gradients_of_bradley_terry(w: float, l: float, m: float, c: float) -> None:  # noqa: E741
    """d/dx −log σ(x) = −σ(−x), with x = r_w − r_l − m; so −σ(r_l − r_w + m) + 2c (r_w + r_l) in r_w, and the first
    term with the other sign in r_l."""
    chosen, rejected = scalar(w), scalar(l)
    bradley_terry(chosen, rejected, torch.tensor([m], dtype=torch.float64), c).sum().backward()
    wrong, centring = sigmoid(l - w + m), 2 * c * (w + l)
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-wrong + centring, abs=1e-9)
    assert rejected.grad.item() == pytest.approx(wrong + centring, abs=1e-9)


@given(rewards, shares)
def test_the_pointwise_loss_is_the_cross_entropy_and_its_gradient_is_the_error(r: float, y: float) -> None:
    """d/dr [−y log σ(r) − (1 − y) log σ(−r)] = −y σ(−r) + (1 − y) σ(r) = σ(r) − y."""
    reward, label = scalar(r), torch.tensor([y], dtype=torch.float64)
    loss = pointwise(reward, label)
    loss.sum().backward()
    assert reward.grad is not None
    assert reward.grad.item() == pytest.approx(sigmoid(r) - y, abs=1e-9)
    theirs = binary_cross_entropy_with_logits(reward.detach(), label)
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-6, abs=1e-9)


def test_large_rewards_give_no_infinity() -> None:
    """−log σ(−1000) is 1000 to all digits; σ(−1000) itself would be 0 in float32, its logarithm −∞."""
    far = torch.tensor([-500.0])
    assert bradley_terry(far, -far).item() == 1000
    assert bradley_terry(-far, far).item() == 0
    assert pointwise(far, torch.tensor([1.0])).item() == 500


def test_a_tie_is_half_right() -> None:
    assert preferred(torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])).tolist() == [1, 0.5, 0]


def test_a_labelled_answer_is_right_on_its_side_of_one_half() -> None:
    """σ(r) > ½ where r > 0. The label ½ says neither."""
    found = agreed(torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0, 3.0]), torch.tensor([0.9, 0.4, 0.9, 0.0, 1.0, 0.5]))
    assert found[:5].tolist() == [1, 0, 0, 1, 0.5]
    assert found[5].isnan()
