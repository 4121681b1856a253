"""Slates by a choice model, as functions of tensors: what a slate is worth, and which is worth most.

A user who sees a slate chooses one of its items or nothing. Axis names as in `rl.policy.interface`; 1 + K are nothing
and the slots. A logit l weighs a candidate against nothing, whose logit is 0; `added` is what choosing it adds to the
value of choosing nothing: a(s, i) = Q̄(s, i) - Q̄(s, nothing).
"""

import torch
from torch import Tensor
from torch.nn import functional

_ROUNDS = 100  # never reached: about four are needed


def choice_logits(logits: Tensor, slates: Tensor) -> Tensor:
    """Return the logits of nothing and of each slot, [B, 1 + K], for logits [B, A] and slates of positions [B, K].

    Their softmax is the multinomial logit model P(i | s, A) = exp(l_i) / (1 + Σ_j exp(l_j)). Source: McFadden,
    "Conditional logit analysis of qualitative choice behavior" (1974); Ie et al., "SlateQ" (2019).
    """
    return functional.pad(logits.gather(1, slates), (1, 0))


def slate_values(nothing: Tensor, added: Tensor, logits: Tensor, slates: Tensor) -> Tensor:
    """Return Q(s, A) = Σ_i P(i | s, A) Q̄(s, i), nothing included, [B]. Source: Ie et al. (2019).

    Args:
        nothing: [B] value of choosing nothing.
        added: [B, A].
        logits: [B, A].
        slates: [B, K] positions.
    """
    p = torch.softmax(choice_logits(logits, slates), dim=1)[:, 1:]
    return nothing + (p * added.gather(1, slates)).sum(1)


def best_slates(added: Tensor, logits: Tensor, mask: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the slates of k that are worth most: they maximise Σ_A w_i a_i / (1 + Σ_A w_i), where w = exp(l).

    A slate is worth more than λ if Σ_A w_i (a_i - λ) > λ; the one with the largest left side is the top k by its terms.
    So λ becomes the worth of that slate, and so on while it rises: few rounds, as each is a Newton step.
    Source: Dinkelbach, "On nonlinear fractional programming" (1967); the linear programme of Ie et al. (2019) has
    the same solution.

    Args:
        added: [B, A].
        logits: [B, A].
        mask: [B, A] which candidates may be shown. Those that are not fill slots only where there are fewer than k, as
            empty ones.
        k: K, at most A.

    Returns:
        The slates as positions [B, K], best slot first, and the scores [B, A] by which they are the top k:
        P(i | s, A*) (a_i - λ*) for an item of the best slate, and as much for another as it would have beside it.
    """
    allowed = mask.bool()
    logits = logits.masked_fill(~allowed, -torch.inf)
    largest = logits.max(1, keepdim=True).values.clamp(min=0)
    weights, of_nothing = (logits - largest).exp(), (-largest).exp()  # of A and of 1: no exponential overflows
    slates = weights.masked_fill(~allowed, -1.0).topk(k, dim=1).indices  # any to begin with whose weights are not all 0
    worth, total = _worth(slates, added, weights, of_nothing)
    for _ in range(_ROUNDS):
        found = (weights * (added - worth)).masked_fill(~allowed, -torch.inf).topk(k, dim=1).indices
        of_found, total_found = _worth(found, added, weights, of_nothing)
        better = of_found > worth
        if not better.any():
            break
        slates, worth = torch.where(better, found, slates), torch.where(better, of_found, worth)
        total = torch.where(better, total_found, total)
    scores = weights * (added - worth) / total
    order = scores.gather(1, slates).argsort(1, descending=True)
    return slates.gather(1, order), scores


def _worth(slates: Tensor, added: Tensor, weights: Tensor, of_nothing: Tensor) -> tuple[Tensor, Tensor]:
    """Return what slates add to the value of choosing nothing, and the sum of the weights, [B, 1] each."""
    of_slots = weights.gather(1, slates)
    total = of_nothing + of_slots.sum(1, keepdim=True)
    return (of_slots * added.gather(1, slates)).sum(1, keepdim=True) / total, total
