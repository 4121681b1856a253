"""The newest impressions, a matrix of a fixed size that can be saved and restored exactly."""

import numpy as np
from numpy.typing import NDArray

from rl.policy.arrays import check_array
from rl.policy.queries import Impressions


class ImpressionWindow:
    """Keeps up to C impressions; each one more takes the place of the oldest.

    A correction is kept as what it is, a row with count 0: sums over the rows are then those of the final rewards.
    """

    def __init__(self, capacity: int, n_features: int) -> None:
        self.n_features = n_features
        self.seen = 0
        """Impressions so far, those no longer kept and corrections included."""
        self._rows = np.zeros((capacity, n_features + 5))  # features, state, item, reward, count, square

    def __len__(self) -> int:
        return min(self.seen, len(self._rows))

    def add(self, impressions: Impressions) -> None:
        """Keep them, the last ones if there are more than fit."""
        o = impressions
        rows = np.column_stack([o.features, o.state, o.items, o.rewards, o.counts, o.squares])[-len(self._rows) :]
        first = self.seen + len(o) - len(rows)
        self._rows[(first + np.arange(len(rows))) % len(self._rows)] = rows
        self.seen += len(o)

    def impressions(self) -> Impressions:
        """Return what is kept, oldest first."""
        rows = np.roll(self._rows, -(self.seen % len(self._rows)), axis=0)[len(self._rows) - len(self) :]
        state, items, rewards, counts, squares = rows[:, self.n_features :].T.copy()
        features = rows[:, : self.n_features]
        return Impressions(features, state.astype(np.int64), items.astype(np.int64), rewards, counts, squares=squares)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the rows [C, F + 5] and how many impressions there were, [1]."""
        return {"memory": self._rows.copy(), "seen": np.array([float(self.seen)])}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        self._rows, self.seen = check_array(state, "memory", self._rows.shape), int(check_array(state, "seen", (1,))[0])
