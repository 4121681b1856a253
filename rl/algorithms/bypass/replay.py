"""Columnar replay: transitions as arrays in a ring, drawn uniformly or by priority, kept through a checkpoint."""

from typing import Any

import numpy as np

from rl.experience.checks import Columns
from rl.policy.arrays import FloatArray, IntArray


class Replay:
    """The last `capacity` transitions.

    With alpha > 0 a transition is drawn with probability p^α / Σ p^α, where its priority p is the last absolute TD
    error, and its weight makes up for that; a new one has the largest priority so far. Source: Schaul et al.,
    "Prioritized experience replay" (2016), section 3.3-3.4 (proportional).

    Args:
        capacity: number of transitions kept.
        alpha: how much priorities count; 0 draws uniformly.
        beta: how much weights make up for it, 0 to 1.
    """

    def __init__(self, capacity: int, alpha: float = 0.0, beta: float = 0.4) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity, self.alpha, self.beta = capacity, alpha, beta
        self._columns: Columns = {}
        self._next, self._size = 0, 0
        self._tree = SumTree(capacity) if alpha else None
        self._largest = 1.0

    def __len__(self) -> int:
        return self._size

    def add(self, columns: Columns) -> None:
        """Append rows; all columns have as many, and the names, shapes and types of those added before.

        Raises:
            ValueError: they have not.
        """
        rows = {name: len(column) for name, column in columns.items()}
        if len(set(rows.values())) != 1:
            raise ValueError(f"columns must be equally long, got {rows}")
        n = min(next(iter(rows.values())), self.capacity)
        if not self._columns:
            self._columns = {c: np.empty((self.capacity, *a.shape[1:]), a.dtype) for c, a in columns.items()}
        if columns.keys() != self._columns.keys():
            raise ValueError(f"columns must be {sorted(self._columns)}, got {sorted(columns)}")
        at = (self._next + np.arange(n)) % self.capacity
        for name, column in columns.items():
            self._columns[name][at] = column[-n:] if n else column
        if self._tree:
            self._tree.set(at, np.full(n, self._largest**self.alpha))
        self._next, self._size = (self._next + n) % self.capacity, min(self._size + n, self.capacity)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray, Columns]:
        """Draw n rows with replacement.

        Returns:
            Their places [n] for `set_priorities`, their weights [n] in (0, 1], and the columns [n, ...].

        Raises:
            ValueError: there are none.
        """
        if not self._size:
            raise ValueError("nothing can be drawn from an empty replay")
        if self._tree:
            at = self._tree.sample(n, rng)
            # (1 / (N P(i)))^β over the largest weight there can be, that of the least likely row of the batch
            likelihood = self._tree.get(at)
            weights: FloatArray = (likelihood.min() / likelihood) ** self.beta
        else:
            at, weights = rng.integers(self._size, size=n), np.ones(n)
        return at, weights, {name: column[at] for name, column in self._columns.items()}

    def set_priorities(self, at: IntArray, errors: FloatArray) -> None:
        """Set the priorities of the rows at the given places [n] by their TD errors [n]; without alpha nothing."""
        if self._tree:
            priorities = np.abs(errors) + 1e-6  # a row of no error may be drawn again
            self._largest = max(self._largest, float(priorities.max()))
            self._tree.set(at, priorities**self.alpha)

    def get_state(self) -> dict[str, Any]:
        """Return all that it holds as copies, each row in its place."""
        places = np.arange(self._size)
        return {
            "columns": {name: column[: self._size].copy() for name, column in self._columns.items()},
            "priorities": self._tree.get(places) if self._tree else None,
            "next": self._next,
            "largest": self._largest,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` returned; what is drawn next is what would have been drawn.

        A replay of another capacity keeps the newest rows that it has room for.
        """
        columns, priorities, start = state["columns"], state["priorities"], state["next"]
        size = len(next(iter(columns.values()))) if columns else 0
        kept = (start - size + np.arange(size)) % size if size > self.capacity else np.arange(size)
        kept = kept[-self.capacity :]
        self._columns, self._next, self._size = {}, 0, 0
        if size:
            self.add({name: column[kept] for name, column in columns.items()})
            self._next = start if size == self.capacity else len(kept) % self.capacity
        self._largest = state["largest"]
        if self._tree and priorities is not None:
            self._tree.set(np.arange(len(kept)), priorities[kept])


class SumTree:
    """Numbers at places 0 to capacity - 1, drawn in proportion to their size in logarithmic time."""

    def __init__(self, capacity: int) -> None:
        self._leaves = 1 << max(capacity - 1, 1).bit_length()
        self._sums = np.zeros(2 * self._leaves)  # node i is the sum of nodes 2i and 2i + 1; node 1 is the root

    @property
    def total(self) -> float:
        """Sum of all numbers."""
        return float(self._sums[1])

    def get(self, at: IntArray) -> FloatArray:
        """Return the numbers at the places [n]."""
        return self._sums[at + self._leaves]

    def set(self, at: IntArray, values: FloatArray) -> None:
        """Set the numbers at the places [n]; of a place given twice one value is kept."""
        nodes = at + self._leaves
        self._sums[nodes] = values
        while nodes.size and nodes[0] > 1:
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """Draw n places, one from each of n equal parts of the total."""
        left = (np.arange(n) + rng.random(n)) * (self.total / n)
        nodes = np.ones(n, dtype=np.int64)
        while nodes[0] < self._leaves:
            nodes = 2 * nodes
            left_sums = self._sums[nodes]
            # never into a subtree of nothing, whatever the rounding of the sums
            right = (left >= left_sums) & (self._sums[nodes + 1] > 0)
            left = np.where(right, left - left_sums, left)
            nodes = nodes + right
        return nodes - self._leaves
