"""What decisions earned and how well that was expected, policy by policy: over all that was learned, and lately.

The mean over all has a confidence sequence: bounds that hold however often one looks. So recent rewards whose own
interval lies below it are a drop, not chance. It takes decisions as independent (see
`rl.evaluation.abtests.estimates.sequences`, also for the sources), and says nothing before `FEW` of them.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from rl.evaluation.abtests.estimates.sequences import fixed_radius, radius, tightest
from rl.online.steps import OutcomeChange

FEW: Final = 100
RECENT: Final = 1_000
"""Decisions that are recent."""
_ALPHA: Final = 0.01
_HORIZON: Final = 10_000
"""Decisions after which the sequence is the tightest."""


class Bounds(NamedTuple):
    """A mean between its bounds; of too few decisions they are no numbers."""

    mean: float
    low: float
    high: float


class _Earned(NamedTuple):
    reward: float
    error: float
    """Sum over the slots of squared differences from what was expected."""
    slots: int


class Earned:
    """Of one policy."""

    def __init__(self) -> None:
        """Nothing was earned yet."""
        self._n, self._sum, self._squares, self._error, self._slots = 0, 0.0, 0.0, 0.0, 0
        self._recent = OrderedDict[str, _Earned]()

    def add(self, change: OutcomeChange) -> tuple[bool, bool]:
        """Take an outcome, or a correction of one; returns whether it is new, and whether it is accepted by this."""
        decision, before = change.outcome.decision, change.previous
        now = _measure(change.outcome.rewards, decision.scores)
        old = _Earned(0.0, 0.0, 0) if before is None else _measure(before, decision.scores)
        self._n += before is None
        self._sum += now.reward - old.reward
        self._squares += now.reward**2 - old.reward**2
        self._error += now.error - old.error
        self._slots += now.slots - old.slots
        if before is None or decision.decision_id in self._recent:
            self._recent[decision.decision_id] = now
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        return before is None, now.reward > 0 and old.reward <= 0

    @property
    def all(self) -> Bounds:
        """Over all, with a confidence sequence."""
        time = tightest(_ALPHA) * self._n / _HORIZON
        return _bounds(self._n, self._sum, self._squares, radius(time, _ALPHA) if self._n else math.inf)

    @property
    def recent(self) -> Bounds:
        """Of the last `RECENT` decisions, with an interval for one look."""
        rewards = [one.reward for one in list(self._recent.values())]  # a copy: another thread adds
        return _bounds(len(rewards), sum(rewards), sum(r * r for r in rewards), fixed_radius(_ALPHA))

    @property
    def loss(self) -> tuple[float, float]:
        """Mean squared error of a slot, over all and of the last decisions."""
        recent = list(self._recent.values())
        slots = sum(one.slots for one in recent)
        last = sum(one.error for one in recent) / slots if slots else math.nan
        return (self._error / self._slots if self._slots else math.nan), last


def _measure(rewards: Sequence[float], scores: Sequence[float]) -> _Earned:
    pairs = list(zip(rewards, scores, strict=False))  # of slots that nobody saw there is no reward
    return _Earned(sum(rewards), sum((reward - score) ** 2 for reward, score in pairs), len(pairs))


def _bounds(n: int, total: float, squares: float, errors: float) -> Bounds:
    if n < FEW:
        return Bounds(total / n if n else math.nan, math.nan, math.nan)
    mean = total / n
    half = errors * math.sqrt(max(squares / n - mean * mean, 0.0) / n)
    return Bounds(mean, mean - half, mean + half)
