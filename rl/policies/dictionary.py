"""A dictionary of codes that grows as they are met, up to a size; then others share places. Light: numpy."""

import numpy as np
from numpy.typing import NDArray

from rl.policy import FloatArray, IntArray


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

    def __len__(self) -> int:
        return len(self.known)

    def add(self, codes: IntArray) -> None:
        """Give places to those of codes [n] that have none, in their order."""
        unknown: list[int] = codes[self._places[codes] < 0].tolist()
        new = list(dict.fromkeys(unknown))[: self.size - len(self.known)]
        self._places[new] = len(self.known) + np.arange(len(new))
        self.known += new

    def find(self, codes: IntArray) -> tuple[IntArray, FloatArray]:
        """Return places and signs of codes, of their shape; sign 0 where a code has no place yet."""
        places = self._places[codes].astype(np.int64)
        unknown = places < 0
        signs = np.where(unknown, 0.0, 1.0)
        if len(self.known) == self.size:
            signs = np.where(unknown, 1.0 - 2.0 * (codes // self.size % 2), 1.0)
            places = np.where(unknown, codes % self.size, places)
        return np.maximum(places, 0), signs
