"""What is known of the events of the apprentice mode: how many there were, and what they earned.

How many of them the model would have answered alike is not logged, so it is not said.
"""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from data.attribution.join import (
    GRACE,
    Outcome,
    attribute,
    deadlines,
)
from data.fields import MICROSECOND, to_us
from data.log.store import Store
from data.log.unreadable import describe_error, log_unreadable
from data.reward import RewardSpec
from serve.api.personalizer.configuration.values import LOOP, Configuration

_ROWS = 5_000
_BATCH = 1_000
"""Events that the last batch is counted of."""
_NOT_READ = ("propensities", "scores", "probabilities", "rules", "candidates", "features", "request")


@dataclass(frozen=True, slots=True)
class _Sums:
    events: int = 0
    rewards: float = 0.0

    def plus(self, outcome: Outcome) -> "_Sums":
        return _Sums(self.events + 1, self.rewards + outcome.reward)

    def shown(self) -> dict[str, Any]:
        return {"numberOfEvents": self.events, "sumOfRewards": self.rewards}


class ApprenticeMetrics:
    """Counts the log of apprentice decisions once, as their windows close. May be used by several threads."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._begin(None, RewardSpec())

    def read(self, now: Configuration) -> dict[str, Any] | None:
        """Return the metrics since the apprentice mode was turned on; None in another mode.

        Raises:
            StoreError: the log cannot be read.
        """
        if now.mode != "Apprentice":
            return None
        with self._lock:
            if (now.mode_since, now.service.reward_spec) != (self._since, self._spec):
                self._begin(now.mode_since, now.service.reward_spec)
            self._count(self._store.now())
            times = {"startTime": self._since or self._first, "lastProcessedEventTime": self._last}
            if times["lastProcessedEventTime"] is None:
                return None
            batches = {"lastBatchMetrics": self._batch.shown()} if self._batch.events else {}
            return {
                **self._sums.shown(),
                **{name: time and time.isoformat() for name, time in times.items()},
                **batches,
            }

    def _begin(self, since: datetime | None, spec: RewardSpec) -> None:
        self._since, self._spec = since, spec
        self._seq = 0
        self._sums, self._batch, self._filling = _Sums(), _Sums(), _Sums()
        self._first: datetime | None = None
        self._last: datetime | None = None

    def _count(self, now: datetime) -> None:
        """Add the decisions whose rewards cannot change any more, up to the first one whose can."""
        while rows := self._store.decisions(self._seq, _ROWS, loop=LOOP, without=_NOT_READ):
            feedback = self._store.feedback_of([d.decision_id for _, d in rows if d.mode == "apprentice"])
            # Not in the order of their times: a clock that has jumped must not hold up all that follow.
            ends = deadlines([to_us(d.time) for _, d in rows], self._wait_us) + GRACE // MICROSECOND
            for (seq, decision), end in zip(rows, ends.tolist(), strict=True):
                if to_us(now) <= end:
                    return
                self._seq = seq
                if decision.mode != "apprentice" or (self._since and decision.time < self._since):
                    continue
                try:
                    outcome = attribute(decision, feedback.get(decision.decision_id, ()), self._spec, now)
                except Exception as error:  # this row's fault: it is not counted, the others are
                    log_unreadable("decisions", seq, describe_error(error))
                    continue
                if outcome.active:
                    self._add(outcome)

    @property
    def _wait_us(self) -> int:
        return int(min(self._spec.wait_s * 1e6, 2**60))

    def _add(self, outcome: Outcome) -> None:
        time = outcome.decision.time
        self._first, self._last = self._first or time, time
        self._sums, self._filling = self._sums.plus(outcome), self._filling.plus(outcome)
        if self._filling.events == _BATCH:
            self._batch, self._filling = self._filling, _Sums()
