"""What a fold reads of the log: the rows after those that it has read, as the next step, and the windows these open.

A new step ends where the log did when it was read; one that is repeated ends where it ended then.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from data.fields import to_us
from data.log.following import (
    SeenDecision,
    SeenFeedback,
    decision_ids,
    last_feedback,
    new_decisions,
    new_feedback,
    to_time,
    whole_decisions,
    whole_feedback,
)
from data.log.store import Store
from data.schema import Decision, Feedback, Version
from rl.online.set_aside import SetAsideRows
from rl.online.steps import Step
from rl.online.windows import Windows
from rl.policy.arrays import IntArray

MAX_ROWS = 5_000
"""Log rows read, and windows closed, at a time; bounds the memory of a fold over a long log."""
_UNREAD = ("propensities", "probabilities", "rules", "request")
"""Fields of a decision that nothing is learned from. Its scores are read to compare them with what was earned."""
_FEATURES = ("candidates", "features", "slots")
"""Those that only policies which learn from features of the request need."""


class StepRows(NamedTuple):
    """What is learned in a step."""

    decisions: list[tuple[int, Decision]]
    """Those that are touched or silent, with their positions."""
    feedback: dict[str, list[tuple[int, Feedback]]]
    """All about them up to the step, by decision, with positions."""
    closed: dict[int, str]
    """Ids of the decisions whose windows have closed, by position. Read only for histories."""


class Reader:
    """Reads the log of a loop, step after step."""

    def __init__(self, store: Store, loop: str, windows: Windows, *, with_content: bool, with_features: bool) -> None:
        """Begin before the first row.

        Args:
            store: the log.
            loop: whose rows.
            windows: opened by the decisions that are read, and closed by the time of a step.
            with_content: read also what histories are made of.
            with_features: read also what only policies which learn from features of the request need.
        """
        self._store, self._loop, self._windows, self._with_content = store, loop, windows, with_content
        self._unread = _UNREAD if with_features else (*_UNREAD, *_FEATURES)
        self.positions = (0, 0)
        """Log positions up to which it has read decisions and feedback."""

    def read(self, now: datetime) -> tuple[Step, bool]:
        """Read the next step, as of a time; returns it, and whether it came to the end of the log.

        Raises:
            StoreUnavailable: the database did not answer; nothing was read.
        """
        feedback, behind = list[SeenFeedback](), False
        # Feedback first: then each decision that it is about is in the log already when the decisions are read.
        if self.positions[0]:
            feedback = self._new_feedback(None, MAX_ROWS)
            through = feedback[-1].seq if feedback else self.positions[1]
            behind = len(feedback) == MAX_ROWS
            if behind:  # there is more, all received later than this: for the fold it is not later yet
                now = min(now, to_time(feedback[-1].received_us))
        else:  # no decision was read yet: feedback is read with its decision
            through = last_feedback(self._store, self._loop)
        decisions = self._new_decisions(None, through, MAX_ROWS)
        until = decisions[-1].seq if decisions else self.positions[0], max(through, self.positions[1])
        step = self._advance(decisions, feedback, until, now)
        return step, not behind and max(len(decisions), len(step.closed)) < MAX_ROWS

    def read_again(self, version: Version, closed: IntArray | None) -> tuple[Step, Sequence[SeenDecision]]:
        """Read a recorded step; returns it, and the decisions that it has read.

        Args:
            version: the step.
            closed: positions of the decisions whose windows closed in it; None: those whose time had come.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        until = version.decision_seq, version.feedback_seq
        decisions = self._new_decisions(*until, None)
        feedback = self._new_feedback(until[1], None) if self.positions[0] else []
        return self._advance(decisions, feedback, until, version.as_of, closed), decisions

    def read_whole(self, step: Step, set_aside: SetAsideRows) -> StepRows:
        """Read what is to be learned in a step.

        Args:
            step: that was read.
            set_aside: gets the rows that cannot be read back.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        decisions, faults = whole_decisions(self._store, {*step.touched, *step.silent}, self._unread)
        set_aside.add_faults(faults)
        positions = {decision.decision_id: seq for seq, decision in decisions}
        feedback, faults = whole_feedback(self._store, self._loop, positions, step.until[1])
        set_aside.add_faults(faults)
        return StepRows(decisions, feedback, decision_ids(self._store, step.closed) if self._with_content else {})

    def _new_decisions(self, until: int | None, heard_until: int, limit: int | None) -> list[SeenDecision]:
        return new_decisions(
            self._store,
            self._loop,
            self.positions[0],
            limit,
            until=until,
            heard_until=heard_until,
            with_slate=self._with_content,
        )

    def _new_feedback(self, until: int | None, limit: int | None) -> list[SeenFeedback]:
        after, content = self.positions[1], self._with_content
        return new_feedback(self._store, self._loop, after, limit, until=until, with_content=content)

    def _advance(
        self,
        decisions: Sequence[SeenDecision],
        feedback: Sequence[SeenFeedback],
        until: tuple[int, int],
        now: datetime,
        close: IntArray | None = None,
    ) -> Step:
        """Move on past what was read. What fails after this is done again from the step that is returned."""
        after = self.positions
        touched = {report.decision_seq for report in feedback if (report.decision_seq or after[0] + 1) <= after[0]}
        touched |= {decision.seq for decision in decisions if decision.heard}
        self._windows.add([decision.seq for decision in decisions], [decision.time_us for decision in decisions])
        if close is None:
            closed, silent = self._windows.close(to_us(now), MAX_ROWS)
        else:
            closed, silent = self._windows.close_at(close)
        self.positions = until
        positions = frozenset(seq for seq in touched if seq is not None)
        rows = (decisions, feedback) if self._with_content else ((), ())
        orphans = sum(report.decision_seq is None for report in feedback)
        return Step(now, after, self.positions, positions, closed.tolist(), silent.tolist(), orphans, *rows)
