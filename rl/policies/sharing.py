"""Two histories in one row, so that a batch holds little padding. Needs torch.

B requests, T entries of a history and S of a row that two share.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rl.policy import AGE

_WORTH = 0.8  # of the entries there were; above that, sharing rows takes longer than it saves


class Shared(NamedTuple):
    """The histories of B requests in B / 2 rows."""

    order: Tensor
    """[B] the requests in the order in which each two share a row."""
    back: Tensor
    """[B] where in that order each request is."""
    history: Tensor
    """[B / 2, S, 3]"""
    owner: Tensor
    """[B / 2, S] whose an entry is: 0 the first's, 1 the second's, 2 nobody's."""


def share(history: Tensor) -> Shared | None:
    """Put the longest history of a batch with the shortest, the next longest with the next shortest, and so on.

    Where lengths vary half of all entries are padding; then the rows that two share are hardly longer than the longest
    history. The network knows entries by their age, so it does not matter which place they have.

    Args:
        history: [B, T, 3] as in `rl.policy.Query`.

    Returns:
        None where there would be hardly fewer entries than before.
    """
    (batch, width, _), device = history.shape, history.device
    if batch % 2 or not batch:
        return None
    backwards = torch.arange(width, 0, -1, dtype=torch.int32, device=device)
    lengths, order = ((history[:, :, AGE] > 0) * backwards).amax(1).sort()
    first, second = lengths[: batch // 2, None], lengths.flip(0)[: batch // 2, None]
    longest = max(1, int((first + second).max()))
    if longest + 2 > _WORTH * 2 * (width + 1):
        return None
    pairs = torch.stack([order[: batch // 2], order.flip(0)[: batch // 2]], dim=1)  # [B / 2, 2]
    place = torch.arange(longest, dtype=torch.int32, device=device)
    of_first, of_second = place < first, place >= longest - second  # [B / 2, S], nowhere both
    owner = 2 - 2 * of_first.to(history.dtype) - of_second.to(history.dtype)
    at = torch.where(of_first, width - first, width - longest) + place  # the first's entries come first
    at = torch.where(of_first, pairs[:, :1], pairs[:, 1:]) * width + at
    entries = history.reshape(-1, 3)[(at * (owner < 2)).flatten()].view(-1, longest, 3)
    order = pairs.flatten()
    return Shared(order, torch.empty_like(order).scatter_(0, order, torch.arange(batch, device=device)), entries, owner)
