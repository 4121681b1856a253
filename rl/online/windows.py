"""The open wait windows of decisions: position and deadline of each, 17 bytes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.attribution.join import deadlines
from rl.policy.arrays import BoolArray, IntArray

_BLOCK = 4_096
_FARTHEST = 1 << 60  # microseconds: 36,000 years
MAX_WAIT_S = _FARTHEST / 1e6
"""A window that is longer is as long as this."""


@dataclass(slots=True)
class _Block:
    """Some decisions, in log order."""

    seqs: IntArray
    deadlines: IntArray
    learned: BoolArray
    first: int
    """The earliest deadline."""
    last: int
    """The latest."""


class Windows:
    """Open wait windows, in the order of the log. Times are microseconds since 1970 UTC.

    A window closes when its deadline has passed, whatever stands before it in the log; `deadlines` of
    `data.attribution.join` says when that is, also where clocks jump.

    Args:
        wait_us: length of a window.
    """

    def __init__(self, wait_us: int) -> None:
        self._wait = wait_us
        self._blocks: list[_Block] = []

    def __len__(self) -> int:
        return sum(len(block.seqs) for block in self._blocks)

    def add(self, seqs: Sequence[int], times_us: Sequence[int]) -> None:
        """Open the windows of decisions that follow those before in the log, in their order."""
        if not len(seqs):
            return
        ends = deadlines(times_us, self._wait)
        self._bound(max(min(times_us), -_FARTHEST) + 2 * self._wait)
        for start in range(0, len(seqs), _BLOCK):
            part = slice(start, start + _BLOCK)
            self._append(np.array(seqs[part], dtype=np.int64), ends[part])

    def close(self, now_us: int, limit: int) -> tuple[IntArray, IntArray]:
        """Close windows whose deadlines have passed, the first `limit` in log order.

        Returns:
            Positions of those that were closed, and of those of them that were not marked as learned.
        """
        return self._close(self._find_due(now_us, limit))

    def find_due(self, now_us: int, limit: int) -> IntArray:
        """Return the positions of those that `close` would close."""
        found = [block.seqs[due] for block, due in self._find_due(now_us, limit)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *found])

    def close_at(self, seqs: IntArray) -> tuple[IntArray, IntArray]:
        """Close the windows of decisions at some positions, as far as they are open; returns what `close` does."""
        found = [(block, np.flatnonzero(np.isin(block.seqs, seqs))) for block in self._blocks]
        return self._close([(block, due) for block, due in found if len(due)])

    def _find_due(self, now_us: int, limit: int) -> list[tuple[_Block, IntArray]]:
        found = list[tuple[_Block, IntArray]]()
        for block in self._blocks:
            if block.first < now_us and limit > 0:
                due = np.flatnonzero(block.deadlines < now_us)[:limit]
                limit -= len(due)
                found.append((block, due))
        return found

    def _close(self, found: Sequence[tuple[_Block, IntArray]]) -> tuple[IntArray, IntArray]:
        closed, silent = list[IntArray](), list[IntArray]()
        for block, due in found:
            closed.append(block.seqs[due])
            silent.append(block.seqs[due[~block.learned[due]]])
            self._drop(block, due)
        self._blocks = [block for block in self._blocks if len(block.seqs)]
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *closed]), np.concatenate([none, *silent])

    def mark_learned(self, seq: int) -> None:
        """Mark a decision as learned, so that nothing remains to be learned of it when its window closes."""
        if (found := self._find(seq)) is not None:
            block, at = found
            block.learned[at] = True

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return position, deadline and whether it is learned [N] of each decision whose window is open."""
        blocks = self._blocks
        none = np.zeros(0, dtype=np.int64)
        return {
            "seqs": np.concatenate([none, *(block.seqs for block in blocks)]),
            "deadlines": np.concatenate([none, *(block.deadlines for block in blocks)]),
            "learned": np.concatenate([none.astype(np.bool_), *(block.learned for block in blocks)]),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take the place of what is open by what `state_dict` gave."""
        seqs, ends, learned = state["seqs"], state["deadlines"], state["learned"]
        self._blocks = []
        for start in range(0, len(seqs), _BLOCK):
            part = slice(start, start + _BLOCK)
            first, last = int(ends[part].min()), int(ends[part].max())
            self._blocks.append(_Block(seqs[part].copy(), ends[part].copy(), learned[part].copy(), first, last))

    def without(self, seqs: Collection[int]) -> "Windows":
        """Return a copy without the windows of the decisions at some positions."""
        copy, state = Windows(self._wait), self.state_dict()
        others = ~np.isin(state["seqs"], list(seqs))
        copy.load_state_dict({name: array[others] for name, array in state.items()})
        return copy

    def __contains__(self, seq: int) -> bool:
        """Return whether the window of the decision at a log position is open."""
        return self._find(seq) is not None

    def _find(self, seq: int) -> tuple[_Block, int] | None:
        low, high = 0, len(self._blocks)
        while low < high:
            middle = (low + high) // 2
            if self._blocks[middle].seqs[-1] < seq:
                low = middle + 1
            else:
                high = middle
        if low == len(self._blocks):
            return None
        block = self._blocks[low]
        at = int(block.seqs.searchsorted(seq))
        return (block, at) if block.seqs[at] == seq else None

    def _bound(self, latest: int) -> None:
        for block in self._blocks:
            if block.last > latest:
                np.minimum(block.deadlines, latest, out=block.deadlines)
                block.first, block.last = min(block.first, latest), latest

    def _append(self, seqs: IntArray, ends: IntArray) -> None:
        learned: NDArray[np.bool_] = np.zeros(len(seqs), dtype=np.bool_)
        last = self._blocks[-1] if self._blocks else None
        if last is not None and len(last.seqs) + len(seqs) <= _BLOCK:  # polls bring few at a time
            last.seqs, last.deadlines = np.append(last.seqs, seqs), np.append(last.deadlines, ends)
            last.learned = np.append(last.learned, learned)
            last.first, last.last = min(last.first, int(ends.min())), max(last.last, int(ends.max()))
        else:
            self._blocks.append(_Block(seqs, ends, learned, int(ends.min()), int(ends.max())))

    @staticmethod
    def _drop(block: _Block, due: IntArray) -> None:
        keep = np.ones(len(block.seqs), dtype=np.bool_)
        keep[due] = False
        block.seqs, block.deadlines, block.learned = block.seqs[keep], block.deadlines[keep], block.learned[keep]
        if len(block.seqs):
            block.first, block.last = int(block.deadlines.min()), int(block.deadlines.max())
