"""The board: what each item has earned where it was shown, and how often that was, over time."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from rl.evaluation.board.estimates import Means, pointwise
from rl.evaluation.board.tally import COUNT, SQUARES, SUM, Tally
from rl.evaluation.board.timeline import SECOND
from rl.policy.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Board:
    """I items that some policies have shown."""

    items: tuple[str, ...]
    """In no particular order."""
    rewards: Means
    """[I] of a slot that showed it; the interval is pointwise. Whom it was shown to is the policies' choice: it says
    what it earned there, not what it would earn elsewhere."""
    share: FloatArray
    """[I] of all slots that were seen."""
    _shown: FloatArray
    """[I, K]"""
    starts_us: IntArray
    """[K]"""

    def share_over_time(self, items: IntArray) -> FloatArray:
        """Return the shares [len(items), K] of items at positions; not a number where nothing was shown."""
        totals = self._shown.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(totals > 0, self._shown[items] / totals, np.nan)


def read_board(tally: Tally, arms: Collection[int]) -> Board:
    """Return the board of some arms, by their numbers."""
    numbers = [arm for arm in arms if arm < len(tally.items)]
    count = len(tally.item_numbers)
    sums = tally.items[numbers].sum(0)[:count] if numbers else np.zeros((count, 3))
    starts, shown = _over_time(tally, numbers, count)
    there = np.flatnonzero(sums[:, COUNT] > 0.5) if len(sums) else np.zeros(0, dtype=np.int64)
    names, sums = list(tally.item_numbers), sums[there]
    return Board(
        items=tuple(names[at] for at in there.tolist()),
        rewards=pointwise(sums[:, COUNT], sums[:, SUM], sums[:, SQUARES]),
        share=sums[:, COUNT] / max(float(sums[:, COUNT].sum()), 1.0),
        _shown=shown[there],
        starts_us=starts,
    )


def _over_time(tally: Tally, numbers: Collection[int], count: int) -> tuple[IntArray, FloatArray]:
    """Return how many slots have shown each item [I, K], in the widest buckets that one of the arms has."""
    lines = [tally.shares[arm] for arm in numbers if arm in tally.shares]
    if not lines:
        return np.zeros(0, dtype=np.int64), np.zeros((count, 0))
    width = max(line.width for line in lines)
    first = min(line.first * line.width for line in lines) // width
    end = max(int(line.starts[-1]) for line in lines) // width + 1
    shown = np.zeros((count, end - first))
    for line in lines:
        rows = min(len(line.sums), count)
        np.add.at(shown[:rows].T, line.starts // width - first, line.sums[:rows, :, 0].T)
    assert width % SECOND == 0, "buckets are whole seconds"
    return (first + np.arange(end - first)) * width, shown
