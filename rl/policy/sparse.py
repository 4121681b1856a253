"""Features by id, for policies that learn from features of any kind. Axis names as in `rl.policy.interface`."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Sparse:
    """Features by id of B contexts and of their A candidates each, for policies that learn from features of any kind.

    Id 0 is padding: C and F are the most features that a context and a candidate have. `rl.encoders.json_features`
    gives ids.
    """

    context: IntArray
    """[B, C] feature ids of the context."""
    context_values: FloatArray
    """[B, C]"""
    items: IntArray
    """[B, A, F] feature ids of the candidates; at place 0 that of the item itself."""
    item_values: FloatArray
    """[B, A, F]"""

    def take(self, positions: IntArray) -> "Sparse":
        """Take the candidates at positions [B, K] as rows of their own, one candidate each: B·K rows in all."""
        rows, k = np.arange(len(positions))[:, None], positions.shape[1]
        items, values = self.items[rows, positions], self.item_values[rows, positions]  # [B, K, F]
        return Sparse(
            np.repeat(self.context, k, axis=0),
            np.repeat(self.context_values, k, axis=0),
            items.reshape(-1, 1, items.shape[2]),
            values.reshape(-1, 1, values.shape[2]),
        )

    def rows(self, rows: slice | BoolArray | IntArray) -> "Sparse":
        """Take some of the B."""
        return Sparse(self.context[rows], self.context_values[rows], self.items[rows], self.item_values[rows])

    def rename(self) -> "Sparse":
        """Return features of the same namespaces that nobody has met."""
        context, items = (np.where(ids > 0, ids ^ (1 << 40), 0) for ids in (self.context, self.items))
        return Sparse(context, self.context_values, items, self.item_values)

    def trim(self) -> "Sparse":
        """Return the same without padding that all rows have."""
        c, f = (int(widths(ids).max(initial=0)) for ids in (self.context, self.items))
        if (c, f) == (self.context.shape[1], self.items.shape[2]):
            return self
        return Sparse(self.context[:, :c], self.context_values[:, :c], self.items[..., :f], self.item_values[..., :f])

    @classmethod
    def concatenate(cls, parts: "list[Sparse]") -> "Sparse":
        """Join several in order; all have as many candidates."""
        return cls(*(_concatenate_padded([getattr(part, name) for part in parts]) for name in cls.__slots__))


def widths(ids: IntArray) -> IntArray:
    """Return [...] how long rows of ids [..., F] are without their padding."""
    widths: IntArray = ((ids != 0) * np.arange(1, ids.shape[-1] + 1)).max(axis=-1, initial=0)
    return widths


def _concatenate_padded(arrays: list[Any]) -> Any:
    """Concatenate arrays after padding their last axis with zeros to one length."""
    width = max(array.shape[-1] for array in arrays)
    padded = [np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, width - a.shape[-1])]) for a in arrays]
    return np.concatenate(padded)
