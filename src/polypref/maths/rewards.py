"""Losses of reward models, one number a row, so that the caller takes the mean over whatever makes a step.

Notation: B rows; r the reward of an answer, r_w of the chosen and r_l of the rejected one; σ the logistic function.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | None = None, centre: float = 0.0) -> Tensor:
    """−log σ(r_w − r_l − m) + c (r_w + r_l)².

    The first term is the negative log-likelihood of a preference (Bradley & Terry 1952), with a margin as in Touvron
    et al. 2023 (arXiv 2307.09288, eq. 2); the second keeps rewards around 0, since the first knows only differences
    (Eisenstein et al. 2023, arXiv 2312.09244, eq. 2). The gradient in r_w is −σ(r_l − r_w + m) + 2c (r_w + r_l).

    Args:
        chosen: r_w, [B].
        rejected: r_l, [B].
        margin: m, [B]; none is 0.
        centre: c.

    Returns:
        [B].
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    loss = -logsigmoid(difference)
    return loss + centre * (chosen + rejected) ** 2 if centre else loss


def pointwise(reward: Tensor, label: Tensor) -> Tensor:
    """−y log σ(r) − (1 − y) log σ(−r): the cross-entropy of a soft label y in [0, 1] with σ(r), [B].

    The gradient in r is σ(r) − y.
    """
    return -(label * logsigmoid(reward) + (1 - label) * logsigmoid(-reward))


def preferred(chosen: Tensor, rejected: Tensor) -> Tensor:
    """1 where the chosen answer has the higher reward, ½ where both have the same, else 0: [B]."""
    return ((chosen > rejected).float() + (chosen >= rejected).float()) / 2


def agreed(reward: Tensor, label: Tensor) -> Tensor:
    """1 where σ(r) and the label are on the same side of ½, ½ where σ(r) = ½, else 0; NaN where the label is ½: [B]."""
    right = preferred(reward * (label - 0.5).sign(), torch.zeros_like(reward))
    return right.where(label != 0.5, torch.full_like(right, torch.nan))
