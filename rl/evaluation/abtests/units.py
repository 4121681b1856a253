"""What each user of an A/B test has done, added up as decisions come: all that a reading needs, in memory by user.

A user belongs to the variant of their first exposure. What they do under another (a variant was switched off, or the
assignment is broken) is not counted, and that they did is. What they did before the first exposure is given with it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.policy.arrays import BoolArray, FloatArray, IntArray

GOAL = "reward"
"""The metric that decides: what a decision earned under the test's objective."""
DECISIONS, PAST, PAST_DECISIONS = "decisions", "past", "past_decisions"
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Exposures:
    """Decisions of a test whose rewards are final, in log order; arrays have a row for each."""

    time_us: IntArray
    """[n] when they were made, in microseconds since 1970 UTC."""
    unit: Sequence[str]
    """[n] whom the test has assigned: the user, or the decision of nobody."""
    variant: Sequence[str]
    """[n]"""
    metrics: Mapping[str, FloatArray]
    """[n] by name: what the decision earned as the goal, and for each other metric."""
    past: FloatArray | None = None
    """[n] what the user had earned as the goal in decisions before their first exposure, of whatever policy,"""
    past_decisions: FloatArray | None = None
    """[n] and in how many."""
    segments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """[n] by field, as it is at the first exposure."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.time_us)


class Units:
    """Users with their sums; grows by `add`."""

    def __init__(self, variants: Sequence[str], metrics: Sequence[str] = (GOAL,), segments: Sequence[str] = ()) -> None:
        """Begin with none.

        Args:
            variants: of the test, the control among them.
            metrics: what is added up; the goal among them.
            segments: fields.
        """
        self.variants, self.metrics, self.fields = tuple(variants), tuple(metrics), tuple(segments)
        self._columns = (DECISIONS, *self.metrics, PAST, PAST_DECISIONS)
        self._code = {name: at for at, name in enumerate(self.variants)}
        self._index: dict[str, int] = {}
        self._table = np.zeros((1024, len(self._columns)))
        self._variant = np.zeros(1024, np.int64)
        self._first_us = np.zeros(1024, np.int64)
        self._crossed = np.zeros(1024, np.bool_)
        self._segments: dict[str, list[str]] = {name: [] for name in self.fields}
        self._squares = np.zeros((len(self.variants), len(self.metrics)))
        self.ignored = Counter[str]()
        """Decisions that do not count, by why."""
        self.last_us = 0
        """When the last decision that was added was made."""

    def __len__(self) -> int:
        """Return how many users there are."""
        return len(self._index)

    def add(self, rows: Exposures) -> None:
        """Add decisions.

        Raises:
            EvaluationError: a metric or segment is missing.
        """
        for kind, names, given in (("metric", self.metrics, rows.metrics), ("segment", self.fields, rows.segments)):
            if missing := [name for name in names if name not in given]:
                raise EvaluationError(f"exposures have no {kind} {', '.join(missing)}")
        at = np.empty(len(rows), np.int64)
        keep = np.ones(len(rows), np.bool_)
        for row, (unit, variant) in enumerate(zip(rows.unit, rows.variant, strict=True)):
            code = self._code.get(variant, -1)
            if code < 0:
                keep[row] = False
                self.ignored["of no variant of the test"] += 1
                continue
            index = self._index.get(unit, -1)
            if index < 0:
                index = self._begin(unit, code, rows, row)
            elif self._variant[index] != code:
                self._crossed[index], keep[row] = True, False
                self.ignored["of another variant than the user's first"] += 1
            at[row] = index
        at = at[keep]
        np.add.at(self._table[:, 0], at, 1.0)
        for column, name in enumerate(self.metrics):
            values = np.asarray(rows.metrics[name], np.float64)[keep]
            np.add.at(self._table[:, 1 + column], at, values)
            np.add.at(self._squares[:, column], self._variant[at], values**2)
        if len(rows):
            self.last_us = max(self.last_us, int(np.max(rows.time_us)))

    def _begin(self, unit: str, code: int, rows: Exposures, row: int) -> int:
        index = self._index[unit] = len(self._index)
        if index == len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._variant = np.concatenate([self._variant, np.zeros_like(self._variant)])
            self._first_us = np.concatenate([self._first_us, np.zeros_like(self._first_us)])
            self._crossed = np.concatenate([self._crossed, np.zeros_like(self._crossed)])
        self._variant[index], self._first_us[index] = code, rows.time_us[row]
        if rows.past is not None and rows.past_decisions is not None:
            self._table[index, -2:] = rows.past[row], rows.past_decisions[row]
        for name, values in self._segments.items():
            values.append(rows.segments[name][row])
        return index

    @property
    def first_us(self) -> IntArray:
        """[users] when each was first exposed."""
        return self._first_us[: len(self)]

    def of(self, variant: str) -> BoolArray:
        """Return which users [users] are of a variant."""
        of: BoolArray = self._variant[: len(self)] == self._code[variant]
        return of

    def of_segment(self, name: str) -> NDArray[np.str_]:
        """Return the segments [users] of a field."""
        return np.array(self._segments[name], dtype=np.str_)

    def decisions(self, variant: str) -> int:
        """Return how many decisions of a variant count."""
        return int(self._table[: len(self), 0][self.of(variant)].sum())

    def crossed(self, variant: str) -> int:
        """Return how many users of a variant have also been exposed to another."""
        return int(self._crossed[: len(self)][self.of(variant)].sum())

    def columns(self, names: Sequence[str], where: BoolArray) -> FloatArray:
        """Return sums [users, names] of some users."""
        at = [self._columns.index(name) for name in names]
        return self._table[: len(self)][where][:, at]

    def spread(self, metric: str, variant: str, mean: float) -> float:
        """Return the variance of single decisions of a variant, whose mean is given."""
        decisions = float(self._table[: len(self), 0][self.of(variant)].sum())
        squares = float(self._squares[self._code[variant], self.metrics.index(metric)])
        return max(squares / decisions - mean**2, 0.0) if decisions else 0.0

    def by_day(self) -> dict[str, dict[str, int]]:
        """Return how many users were first exposed on each day of UTC, by variant."""
        if not len(self):
            return {}
        days, k = self.first_us // _DAY_US, len(self.variants)
        first = int(days.min())
        counts = np.bincount((days - first) * k + self._variant[: len(self)]).tolist()
        counts += [0] * (-len(counts) % k)
        return {
            str(np.datetime64(first + at // k, "D")): dict(zip(self.variants, counts[at : at + k], strict=True))
            for at in range(0, len(counts), k)
            if any(counts[at : at + k])
        }
