"""A dictionary of codes that grows as they are met, up to a size; then others share places."""

import numpy as np
from numpy.typing import NDArray

from rl.policy.arrays import IntArray

_AT_ONCE = 1 << 14


class Dictionary:
    """Gives each code a place of its own, in the order in which they came, while there are places left.

    A code that comes when all are taken has the place that it hashes to, with a sign of its own: products of two rows
    of features stay right on average.

    Source: Weinberger et al., "Feature hashing for large scale multitask learning" (2009), eq. 3.
    """

    def __init__(self, size: int, codes: int) -> None:
        self.size = size
        self.known: list[int] = []
        """The codes, by place."""
        self._places: NDArray[np.int16] = np.full(codes, -1, dtype=np.int16)
        self._signs: NDArray[np.int8] = np.zeros(codes, dtype=np.int8)

    def __len__(self) -> int:
        return len(self.known)

    def add(self, codes: IntArray) -> None:
        """Give places to those of codes [n] that have none, in their order."""
        unknown, found, room = codes[self._places[codes] < 0], dict[int, None](), self.size - len(self.known)
        for start in range(0, len(unknown), _AT_ONCE):
            if len(found) >= room:  # of millions the first are enough
                break
            found |= dict.fromkeys(unknown[start : start + _AT_ONCE].tolist())
        new = list(found)[:room]
        self._places[new] = len(self.known) + np.arange(len(new))
        self._signs[new] = 1
        self.known += new
        if new and len(self.known) == self.size:
            shared = np.flatnonzero(self._places < 0)
            self._places[shared], self._signs[shared] = shared % self.size, 1 - 2 * (shared // self.size % 2)

    def find(self, codes: IntArray) -> tuple[IntArray, NDArray[np.int8]]:
        """Return places and signs of codes, of their shape; sign 0, whatever the place, of a code that has none yet."""
        return np.maximum(self._places[codes], 0).astype(np.int64), self._signs[codes]
