"""What one step of a fold has read, and which decisions are to be learned in it, from the log alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from data.attribution import Outcome, attribute
from data.log.following import SeenDecision, SeenFeedback
from data.schema import Decision, Feedback, RewardSpec
from rl.online.observe import PASSING
from rl.online.set_aside import SetAsideRows
from rl.online.windows import Windows


@dataclass(frozen=True, slots=True)
class Step:
    """What has been read of the log, and is yet to be learned."""

    as_of: datetime
    after: tuple[int, int]
    """Log positions of decisions and feedback that had been read before."""
    until: tuple[int, int]
    touched: frozenset[int]
    """Positions of decisions that there is new feedback about, or that are new and had some already."""
    closed: Collection[int]
    """Positions of decisions whose windows have closed."""
    silent: Collection[int]
    """Those of them of which nothing was learned."""
    decisions: Sequence[SeenDecision] = ()
    feedback: Sequence[SeenFeedback] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision that is to be learned now."""

    seq: int
    outcome: Outcome
    before: tuple[float, ...] | None
    """The rewards that the policies have learned; None: it is new to them."""


def judge(
    step: Step,
    whole: Sequence[tuple[int, Decision]],
    heard: Mapping[str, Sequence[tuple[int, Feedback]]],
    windows: Windows,
    spec: RewardSpec,
    aside: SetAsideRows,
) -> list[Judged]:
    """Return what is to be learned now, in a fixed order, so that sums come out the same.

    Args:
        step: what was read.
        whole: the decisions that are touched or silent, with their positions.
        heard: all feedback that was read about them.
        windows: as they are after the step; they are told what is learned.
        spec: what feedback is worth.
        aside: takes the rows that cannot be judged.
    """
    closed, judged = frozenset(step.closed), list[Judged]()
    for seq, decision in sorted(whole, key=lambda row: row[1].decision_id):
        is_open = seq in windows
        had_closed = not is_open and seq not in closed and seq <= step.after[0]
        try:
            found = _judge(step, seq, decision, heard.get(decision.decision_id, ()), spec, is_open, had_closed)
        except PASSING:
            raise
        except Exception as error:  # whatever it is, it is this row's, and said
            aside.add("decisions", seq, error, None)
            continue
        if found.outcome.due:
            windows.learn(seq)
            if found.before != found.outcome.rewards:
                judged.append(found)
    return judged


def _judge(
    step: Step,
    seq: int,
    decision: Decision,
    heard: Sequence[tuple[int, Feedback]],
    spec: RewardSpec,
    is_open: bool,
    had_closed: bool,
) -> Judged:
    reports = [report for _, report in heard]
    outcome = attribute(decision, reports, spec, step.as_of)
    if outcome.closed == is_open:  # its deadline is not its own
        outcome = replace(outcome, closed=not is_open)
    known = [report for at, report in heard if at <= step.after[1]]
    if outcome.due and seq <= step.after[0] and (known or had_closed):
        before = replace(attribute(decision, known, spec, step.as_of), closed=had_closed)
        return Judged(seq, outcome, before.rewards if before.due else None)
    return Judged(seq, outcome, None)
