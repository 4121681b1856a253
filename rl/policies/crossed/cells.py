"""What is kept by whole categorical context and item: sums of each such cell, and how often things were seen. Numpy.

With the linear model's weights w, an observation of cell c earns φᵀw + u_c + noise, the cell's own part u_c being
N(0, σ²/κ). Given w the cells are independent, so they can be summed out: the linear model needs of each cell only the
number of observations n, the sum of their rewards b, and the sum of their features s. Axis names: D features.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rl.policy.arrays import FloatArray, IntArray, check_array
from rl.policy.errors import PolicyError

_AGAIN = 2.0  # observations from which on a cell is one that was seen again


@dataclass(slots=True, eq=False)
class Cell:
    """The sums of one cell."""

    n: float = 0.0
    b: float = 0.0
    at: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Where s is not zero."""
    s: FloatArray = field(default_factory=lambda: np.zeros(0))
    """What it is there."""


class Cells:
    """Cells by key. Those seen once give way, oldest first, where there are too many; those seen again stay.

    Keys that never come again, of contexts with a number of their own say, so cannot push out those that do.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._once: dict[int, Cell] = {}
        self._often: dict[int, Cell] = {}

    def __len__(self) -> int:
        return len(self._once) + len(self._often)

    def get(self, key: int) -> Cell | None:
        """Return the cell of a key, if there is one."""
        return self._often.get(key) or self._once.get(key)

    def observe(self, key: int, count: float) -> Cell:
        """Return the cell that an observation belongs to, and count it there as often as it says.

        The sums of b and s are the caller's to add. A cell that there is no more room for is not kept.
        """
        cell = self._often.get(key)
        if cell is None:
            cell = self._once.pop(key, None) or Cell()
            if cell.n + count < _AGAIN:
                self._once[key] = cell
                if len(self._once) > self._limit:
                    del self._once[next(iter(self._once))]
            elif len(self._often) < self._limit:
                self._often[key] = cell
        cell.n += count
        return cell

    def retract(self, key: int, count: float) -> Cell | None:
        """Return the cell of a key, if there is one, with so many observations less; without any left it is not kept.

        As in `observe`, the sums of b and s are the caller's.
        """
        if (cell := self.get(key)) is None:
            return None
        of = self._often if key in self._often else self._once
        cell.n -= count
        if cell.n < 1 or (cell.n < _AGAIN and of is self._often):
            del of[key]
        if 1 <= cell.n < _AGAIN:
            self._once[key] = cell
        return cell

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return keys, n and b [C], the number of entries of each cell's s [C], and all entries with their places."""
        both = [*self._once.items(), *self._often.items()]
        cells = [cell for _, cell in both]
        return {
            "cells": np.array([key for key, _ in both], dtype=np.float64),
            "cell_n": np.array([cell.n for cell in cells]),
            "cell_b": np.array([cell.b for cell in cells]),
            "cell_entries": np.array([len(cell.at) for cell in cells], dtype=np.float64),
            "cell_at": np.concatenate([np.zeros(0), *(cell.at.astype(np.float64) for cell in cells)]),
            "cell_s": np.concatenate([np.zeros(0), *(cell.s for cell in cells)]),
        }

    def restore(self, state: dict[str, NDArray[np.float64]], size: int) -> "Cells":
        """Return the cells of a saved state over D = `size` features.

        Raises:
            PolicyError: the arrays do not fit each other.
        """
        keys = check_vector(state, "cells")
        n, b, entries = (check_array(state, name, keys.shape) for name in ("cell_n", "cell_b", "cell_entries"))
        s = check_vector(state, "cell_s")
        at = check_array(state, "cell_at", s.shape).astype(np.int64)
        if (entries < 0).any() or entries.sum() != len(s) or (at < 0).any() or (at >= size).any() or (n < 1).any():
            raise PolicyError("the arrays of the saved policy's cells do not fit each other")
        loaded, ends = Cells(self._limit), np.cumsum(entries).astype(np.int64)
        for key, end, count, own_n, own_b in zip(keys, ends, entries, n, b, strict=True):
            own = slice(end - int(count), end)
            there = loaded._once if own_n < _AGAIN else loaded._often
            there[int(key)] = Cell(float(own_n), float(own_b), at[own], s[own])
        if max(len(loaded._once), len(loaded._often)) > self._limit:
            raise PolicyError(f"the saved policy has more than the {self._limit} cells that this one can have")
        return loaded


class Sightings:
    """How often each of many keys was seen, by their codes below a power of 2: few share one."""

    def __init__(self, size: int) -> None:
        self._counts = np.zeros(size, dtype=np.int32)

    def add(self, codes: IntArray, times: int = 1) -> None:
        """Count each code so often; -1 takes it back."""
        np.add.at(self._counts, codes, times)

    def of(self, codes: IntArray) -> IntArray:
        """Return how often each was seen."""
        counts: IntArray = self._counts[codes].astype(np.int64)
        return counts

    def recurrence(self) -> float:
        """Estimate the probability that what was never seen comes again: the share of what was seen that did."""
        again, seen = np.count_nonzero(self._counts > 1), np.count_nonzero(self._counts)
        return (again + 1) / (seen + 1)

    def state(self) -> NDArray[np.float64]:
        """Return codes and counts of what was seen, [n, 2]."""
        codes = np.flatnonzero(self._counts)
        return np.stack([codes, self._counts[codes]], axis=1).astype(np.float64)

    def restore(self, state: dict[str, NDArray[np.float64]], name: str) -> "Sightings":
        """Return those of a saved state.

        Raises:
            PolicyError: a code is not one of this size.
        """
        array = state.get(name, np.zeros((0, 0)))
        codes, counts = check_array(state, name, (len(array), 2)).T.astype(np.int64)
        if (codes < 0).any() or (codes >= len(self._counts)).any():
            raise PolicyError(f"array {name!r} of the saved policy has codes outside 0 to {len(self._counts) - 1}")
        loaded = Sightings(len(self._counts))
        loaded._counts[codes] = counts
        return loaded


def check_vector(state: dict[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    """Return an array of one axis, of any length, after checking it as `rl.policy.arrays.check_array` does."""
    return check_array(state, name, (np.asarray(state.get(name, ())).size,))
