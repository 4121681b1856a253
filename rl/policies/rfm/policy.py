"""The RFM bandit: one value for each (state, item), the state being segment, month, half of month and weekday.

A value is the average of the observed rewards, shrunk towards that of a wider context: the state towards the
segment, the segment towards everyone, everyone towards the mean of all rewards. So a state or an item that was
never seen has a value, and it is the best guess that the log allows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.features.rfm import N_STATES, SEGMENTS, STATES_PER_SEGMENT, state_name
from rl.policies.rfm.config import RFMBanditConfig
from rl.policy.arrays import FloatArray, IntArray, check_array
from rl.policy.errors import PolicyError
from rl.policy.explanation.parts import TOP, Contribution, Explanation, ItemExplanation, Names, Row, largest
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query


class RFMBandit(Policy):
    """Sums and counts of rewards by (state, item); all else is derived from them.

    Source: the shrunk average is the posterior mean of a normal with known variances, e.g. Gelman et al.,
    "Bayesian Data Analysis", eq. 2.11, with `shrinkage` the ratio of the two variances.
    """

    def __init__(self, config: RFMBanditConfig, n_states: int, n_items: int) -> None:
        if n_states != N_STATES:
            raise PolicyError(f"the RFM bandit needs the {N_STATES} states of data.features.rfm, got {n_states}")
        self.explorer = config.explorer
        self._shrinkage = config.shrinkage
        self._shape = (n_states, n_items + 1)  # column 0: unknown items, which are never learned
        self._sums, self._counts = np.zeros(self._shape), np.zeros(self._shape)
        self._margins: _Margins | None = None  # of the current table; None after an update

    def _wider(self) -> "_Margins":
        """Return the sums of the wider contexts, added up when they are first needed after an update."""
        if self._margins is None:
            by_segment = (-1, STATES_PER_SEGMENT, self._shape[1])
            sums, counts = (table.reshape(by_segment).sum(axis=1) for table in (self._sums, self._counts))
            self._margins = _Margins(sums, counts, sums.sum(axis=0), counts.sum(axis=0))
        return self._margins

    def expected(self, query: Query) -> FloatArray:
        """Return the value of each candidate in the query's state, [B, A]."""
        return self._values(query.state[:, None], query.items)

    def values(self, state: int) -> FloatArray:
        """Return the value of every item in a state, [N + 1], that of unknown items first."""
        return self._values(np.array([state]), np.arange(self._shape[1]))

    def _values(self, state: IntArray, items: IntArray) -> FloatArray:
        wider = self._wider()
        segment = state // STATES_PER_SEGMENT
        total = wider.item_counts.sum()
        mean = wider.item_sums.sum() / total if total else 0.0
        everyone = self._shrunk(wider.item_sums[items], wider.item_counts[items], mean)
        of_segment = self._shrunk(wider.segment_sums[segment, items], wider.segment_counts[segment, items], everyone)
        return self._shrunk(self._sums[state, items], self._counts[state, items], of_segment)

    def _shrunk(self, sums: FloatArray, counts: FloatArray, towards: FloatArray | float) -> FloatArray:
        value: FloatArray = (sums + self._shrinkage * towards) / (counts + self._shrinkage)
        return value

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain by the table: a value is a weighted mean of what was observed in the state and in wider contexts."""
        state, scores = int(query.state[0]), self.expected(query)[0]
        items = []
        for position in positions:
            rows = self._rows(state, int(query.items[0, position]))
            left, found = 1.0, list[Contribution]()
            for row, total in rows[:-1]:
                added = left * total / (row.count + self._shrinkage)
                found.append(Contribution((f"mean of {row.state}",), row.mean or 0.0, added))
                left *= self._shrinkage / (row.count + self._shrinkage)
            mean = rows[-1][0].value
            found.append(Contribution((f"mean of {rows[-1][0].state}",), mean, left * mean))
            table = tuple(row for row, _ in rows)
            items.append(ItemExplanation(float(scores[position]), 0.0, *largest(found, top), table=table))
        return Explanation("table", tuple(items))

    def _rows(self, state: int, item: int) -> list[tuple[Row, float]]:
        """Return what is known of an item in a state, of its segment, of everyone, and of all items, with the sums."""
        wider, segment = self._wider(), state // STATES_PER_SEGMENT
        sums_and_counts = (
            ("all items", wider.item_sums.sum(), wider.item_counts.sum()),
            ("everyone", wider.item_sums[item], wider.item_counts[item]),
            (f"segment {SEGMENTS[segment]}", wider.segment_sums[segment, item], wider.segment_counts[segment, item]),
            (state_name(state), self._sums[state, item], self._counts[state, item]),
        )
        rows, value = list[tuple[Row, float]](), 0.0
        for name, total, count in sums_and_counts:
            mean = float(total / count) if count else None
            value = float((total + self._shrinkage * value) / (count + self._shrinkage)) if rows else mean or 0.0
            rows.append((Row(name, value, mean, float(count)), float(total)))
        return rows[::-1]

    def update(self, impressions: Impressions) -> None:
        """Add rewards and counts to the table."""
        known = impressions.items > 0
        cells = impressions.state[known], impressions.items[known]
        np.add.at(self._sums, cells, impressions.rewards[known])  # plain += would keep only the last of a repeat
        np.add.at(self._counts, cells, impressions.counts[known])
        self._margins = None

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return sums and counts, [states, N + 1]."""
        return {"sums": self._sums.copy(), "counts": self._counts.copy()}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        self._sums, self._counts = (check_array(state, name, self._shape) for name in ("sums", "counts"))
        self._margins = None


class _Margins(NamedTuple):
    """Sums and counts by segment, [segments, N + 1], and of everyone, [N + 1]."""

    segment_sums: FloatArray
    segment_counts: FloatArray
    item_sums: FloatArray
    item_counts: FloatArray
