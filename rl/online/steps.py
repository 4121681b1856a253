"""A step of a fold: what it has read, and which decisions are due to be learned in it, from the log alone."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from data.attribution.join import Outcome, attribute
from data.log.following import SeenDecision, SeenFeedback
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from rl.online.observe import TRANSIENT
from rl.online.set_aside import SetAsideRows
from rl.online.windows import Windows
from rl.policy.arrays import IntArray
from rl.policy.queries import Impressions


@dataclass(frozen=True, slots=True)
class Step:
    """What was read of the log and is to be learned."""

    as_of: datetime
    after: tuple[int, int]
    """Log positions of decisions and feedback that had been read before."""
    until: tuple[int, int]
    touched: frozenset[int]
    """Positions of decisions that there is new feedback about, or that are new and had some already."""
    closed: Collection[int]
    """Positions of decisions whose windows have closed."""
    silent: Collection[int]
    """Those of them that nothing was learned of."""
    orphans: int = 0
    """Reports whose decision is not in the log."""
    decisions: Sequence[SeenDecision] = ()
    feedback: Sequence[SeenFeedback] = ()

    @property
    def teaches(self) -> bool:
        """Whether there may be something to learn: some feedback, or a window that has closed."""
        return bool(self.touched or self.closed or self.until[1] > self.after[1])


@dataclass(frozen=True, slots=True)
class OutcomeChange:
    """The outcome of a decision as it is now, beside what was learned of it before."""

    seq: int
    outcome: Outcome
    previous: tuple[float, ...] | None
    """The rewards that the policies have learned of it; None: it is new."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Whose outcomes a policy was given in a step."""

    seqs: frozenset[int]
    """Positions of the decisions."""
    set_aside: frozenset[int]
    """Of those that it could not learn."""
    impressions: Impressions | None
    """What it has learned of the others; None: nothing."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a step has done that was repeated."""

    decisions: Sequence[SeenDecision]
    """Those that it has read, whose windows have opened."""
    closed: Collection[int]
    """Positions of the decisions whose windows have closed."""
    lessons: Mapping[str, Lesson]
    """By policy; those that were given nothing, or for which a remainder stood in, are left out."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What a policy came to in a step, to be repeated without all rows that it has learned from.

    Either what it learned, or the state that it had then, whichever takes less room; neither: it has learned nothing.
    """

    impressions: Impressions | None = None
    state: Mapping[str, NDArray[Any]] | None = None
    rows: int = 0
    """With a state: impressions learned since it was looked at; see `rl.online.guard`."""
    set_aside: frozenset[int] = frozenset()
    """Positions of decisions that it could not learn."""


@dataclass(frozen=True, slots=True)
class Remainder:
    """What stands in a step for rows that are gone from the log."""

    policies: Mapping[str, Taught]
    """Those that have learned from such rows; the others learn what the log gives."""
    closed: IntArray | None = None
    """Positions of the decisions whose windows closed, where it would be others without these rows."""


def find_due(
    step: Step,
    decisions: Sequence[tuple[int, Decision]],
    feedback: Mapping[str, Sequence[tuple[int, Feedback]]],
    windows: Windows,
    spec: RewardSpec,
    set_aside: SetAsideRows,
    cases: Counter[str],
) -> list[OutcomeChange]:
    """Return what is to be learned now, in a fixed order, so that sums come out the same.

    Args:
        step: what was read.
        decisions: those that are touched or silent, with their positions.
        feedback: all that was read about them, with positions, by decision.
        windows: as they are after the step; what is due is marked as learned there.
        spec: what feedback is worth.
        set_aside: gets the rows whose outcome cannot be computed.
        cases: gets what each report was that no step has judged before, and of how many decisions none counts.
    """
    closed, due = frozenset(step.closed), list[OutcomeChange]()
    for seq, decision in sorted(decisions, key=lambda row: row[1].decision_id):
        is_open = seq in windows
        had_closed = not is_open and seq not in closed and seq <= step.after[0]
        try:
            reports = feedback.get(decision.decision_id, ())
            one = _compute_outcome(step, seq, decision, reports, spec, is_open, had_closed)
        except TRANSIENT:
            raise
        except Exception as error:  # whatever it is: the row is at fault, and is reported
            set_aside.add("decisions", seq, error, None, decision)
            continue
        for (at, _), case in zip(reports, one.outcome.cases, strict=True):
            if at > step.after[1] or seq > step.after[0]:
                cases[case] += 1
        if one.outcome.due:
            cases["missing"] += one.outcome.missing and one.previous is None
            windows.mark_learned(seq)
            if one.previous != one.outcome.rewards:
                due.append(one)
    return due


def _compute_outcome(
    step: Step,
    seq: int,
    decision: Decision,
    feedback: Sequence[tuple[int, Feedback]],
    spec: RewardSpec,
    is_open: bool,
    had_closed: bool,
) -> OutcomeChange:
    reports = [report for _, report in feedback]
    outcome = replace(attribute(decision, reports, spec, step.as_of), position=seq)
    if outcome.closed == is_open:  # its deadline is not its own
        outcome = replace(outcome, closed=not is_open)
    earlier = [report for at, report in feedback if at <= step.after[1]]
    if outcome.due and seq <= step.after[0] and (earlier or had_closed):
        previous = replace(attribute(decision, earlier, spec, step.as_of), closed=had_closed)
        return OutcomeChange(seq, outcome, previous.rewards if previous.due else None)
    return OutcomeChange(seq, outcome, None)
