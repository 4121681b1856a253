"""One fold in service: it follows the log until it fails, and has what replicas do not have yet."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import perf_counter, time_ns
from typing import Protocol

from data.log.errors import StoreError
from data.log.loops import Ends
from data.log.unreadable import describe_error
from rl.online.fold import Place, Publication, Update
from rl.online.learner import OnlineLearner
from rl.online.state import FoldState
from rl.online.steps import OutcomeChange
from serve.learning.plan import Plan
from serve.metrics.learner import LearnerMetrics

_MAX_UPDATES = 200
"""Updates kept for followers; one that has missed more gets a snapshot."""

log = logging.getLogger("ray.serve")


class Watch(Protocol):
    """Is told what folds learn."""

    def __call__(self, place: Place, version: str, began_ns: int, decision_ids: Sequence[str]) -> None:
        """Note a step: of which fold and which it was, when it began, and whose outcomes it has learned."""
        ...


@dataclass
class Loop:
    """One fold in service."""

    plan: Plan
    learner: OnlineLearner
    updates: list[Update] = field(default_factory=list)
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why policies of the plan could not be loaded, by name."""
    failed: str | None = None
    """Why it does not follow the log any more."""
    metrics: LearnerMetrics | None = None
    watch: Watch | None = None
    _began_ns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.watch is not None:
            self.learner.watch = self._tell
        elif self.metrics is not None:
            self.learner.watch = partial(self.metrics.learned, self.plan.place)

    def _tell(self, learned: Sequence[OutcomeChange]) -> None:
        assert self.watch is not None, "or it is not called"
        if self.metrics is not None:
            self.metrics.learned(self.plan.place, learned)
        ids = [one.outcome.decision.decision_id for one in learned]
        self.watch(self.plan.place, f"{self.learner.fold_id}.{self.learner.number}", self._began_ns, ids)

    @property
    def published(self) -> int:
        """The number of the last step that followers may have."""
        return self.updates[-1].number if self.updates else 0

    def poll(self, ends: Ends) -> bool:
        """Learn what is new, given where the log of the loop ends; returns whether there was anything.

        Raises:
            StoreError: the log did not answer; the next call goes on.
        """
        began, self._began_ns = perf_counter(), time_ns()
        try:
            update = self.learner.poll(ends)
        except StoreError:
            raise
        except Exception as error:
            # Followers have only what was published, so that half a step is not served; the fold is begun anew.
            self.failed = describe_error(error)
            log.exception("loop %s, objective %s has failed and is not followed any more", *self.plan.place)
            return False
        if update:
            self.updates = [*self.updates[-_MAX_UPDATES:], update]
            if self.metrics:
                self.metrics.stepped(self.plan.place, perf_counter() - began)
        return update is not None

    def state(self, now: datetime) -> FoldState:
        """Return the state of the fold."""
        set_aside, (decisions, feedback) = self.learner.set_aside, self.learner.positions
        missing = "; ".join(f"policy {name} is not served: {reason}" for name, reason in self.missing.items())
        return FoldState(
            loop=self.plan.spec.loop,
            objective=self.plan.spec.objective,
            fold_id=self.learner.fold_id,
            state="failed" if self.failed is not None else "set_aside" if set_aside.count else "following",
            reason=self.failed or missing or None,
            policies=tuple(name for name in self.plan.policies if name not in self.missing),
            not_served=dict(self.missing),
            forced=dict(self.plan.forced),
            rolled_back=dict(self.plan.rolled_back),
            decisions_through=decisions,
            feedback_through=feedback,
            waiting=self.learner.waiting,
            rows_set_aside=set_aside.count,
            set_aside=set_aside.list_last(),
            reports=dict(self.learner.reports),
            answering_windows=self.learner.answering_windows,
            as_of=now,
        )

    def news(self, fold_id: str, number: int) -> Publication | list[Update]:
        """Return what came after a step, or everything to a follower of another fold or one that has missed a step."""
        updates = [update for update in self.updates if update.number > number]
        missed = number + 1 < (updates[0].number if updates else number + 1)
        return self.learner.publication() if fold_id != self.learner.fold_id or missed else updates
