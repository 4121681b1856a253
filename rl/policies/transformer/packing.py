"""Two histories in one row, so that a batch holds little padding.

B requests, T entries of a history and S of a row that two share.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rl.policy.queries import AGE

_WORTH = 0.8  # of the entries there were; above that, sharing rows takes longer than it saves
_EVEN = 4  # E is a multiple of it: matrix products and sums over 24 entries take less time than over 22 or 23


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
        history: [B, T, 3] as in `rl.policy.queries.Query`.

    Returns:
        None where there would be hardly fewer entries than before.
    """
    batch, width, _ = history.shape
    if batch % 2 or not batch:
        return None
    ages = history[:, :, AGE].cpu().numpy()  # counted by numpy: on arrays this small torch's calls take longer
    lengths = ((ages > 0) * np.arange(width, 0, -1)).max(axis=1)
    pairs = np.argsort(lengths, kind="stable")
    pairs = np.stack([pairs[: batch // 2], pairs[::-1][: batch // 2]], axis=1)  # [B / 2, 2]
    first, second = lengths[pairs[:, :1]], lengths[pairs[:, 1:]]  # [B / 2, 1]
    longest = int((first + second).max())
    entries = _EVEN * -(-(longest + 2) // _EVEN)  # E, with the two that histories begin with
    if entries > _WORTH * 2 * (width + 1):
        return None
    place = np.arange(entries - 2)
    of_first, of_second = place < first, place >= len(place) - second  # [B / 2, S], nowhere both
    owner = np.where(of_first, 0, np.where(of_second, 1, 2)).astype(np.int32)
    start = np.where(of_first, (pairs[:, :1] + 1) * width - first, (pairs[:, 1:] + 1) * width - len(place))
    at = np.where(owner < 2, start + place, 0)
    order, back = pairs.ravel(), np.empty(batch, dtype=np.int64)
    back[order] = np.arange(batch)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(history.device)

    gathered = history.reshape(batch * width, -1).index_select(0, tensor(at.ravel()))
    return Shared(tensor(order), tensor(back), gathered.view(*owner.shape, -1), tensor(owner))
