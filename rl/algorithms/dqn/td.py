"""What Q learning aims at, as functions of tensors."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Literal["mse", "huber"]


def greedy_values(values: Tensor, chooser: Tensor, mask: Tensor) -> Tensor:
    """Return the values [B] of each row's best allowed action, which `chooser` chooses and `values` values.

    With the same tensor for both this is Q learning, with the online network's for `chooser` double Q learning.
    Source: van Hasselt et al., "Deep reinforcement learning with double Q-learning" (2016), eq. 4.

    Args:
        values: [B, A].
        chooser: [B, A].
        mask: [B, A], on in at least one place of each row.
    """
    best = chooser.masked_fill(~mask.bool(), -torch.inf).argmax(1, keepdim=True)
    return values.gather(1, best).squeeze(1)


def targets(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """Return r + γ' v(s') [B]; where the discount γ' is 0 the next value does not matter, whatever it is."""
    return rewards + torch.where(discounts > 0, discounts * next_values, torch.zeros_like(rewards))


def compute_loss(kind: Loss, errors: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of half the squared errors [B], or of their Huber form with threshold 1."""
    if kind == "mse":
        return (weights * 0.5 * errors.square()).mean()
    return (weights * functional.huber_loss(errors, torch.zeros_like(errors), reduction="none")).mean()
